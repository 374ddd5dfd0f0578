/* The examples of RFC 6376, and bodies cut in every way. */
#include "canon.h"

#include "test.h"

#include <string.h>

static void hash_text(struct slice text, uint8_t hash[DIGEST_BYTES])
{
    struct digest *digest = digest_new();

    digest_add(digest, text);
    digest_finish(digest, hash);
}

/* Fed in pieces of `cut` bytes. */
static void hash_body(enum canon canon, struct slice text, size_t cut,
                      uint8_t hash[DIGEST_BYTES])
{
    struct canon_body body;

    canon_body_init(&body, canon);
    while (text.length > 0) {
        size_t length = cut < text.length ? cut : text.length;

        canon_body_add(&body, slice_part(text, 0, length));
        text = slice_from(text, length);
    }
    canon_body_finish(&body, hash);
}

static void expect_body(enum canon canon, struct slice text, struct slice canonical)
{
    static const size_t cuts[] = {1, 2, 3, 5, 7, 64, 1000, 1 << 20};
    uint8_t expected[DIGEST_BYTES];
    uint8_t hash[DIGEST_BYTES];

    hash_text(canonical, expected);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        hash_body(canon, text, cuts[i], hash);
        if (memcmp(hash, expected, DIGEST_BYTES) != 0)
            fail_msg("%s, pieces of %zu bytes: %.*s", canon_name(canon), cuts[i],
                     (int)text.length, text.data);
    }
}

static void expect_field(enum canon canon, const char *field, const char *canonical)
{
    struct bytes into;

    bytes_init(&into, 1000);
    assert_int_equal(canon_field(canon, slice_of(field), &into), RESULT_OK);
    if (!slice_equal_text(bytes_view(&into), canonical))
        fail_msg("\"%s\" became \"%.*s\"", field, (int)into.length, into.data);
    bytes_fini(&into);
}

/* RFC 6376 3.4.5 */
TEST(canon, the_examples_of_the_rfc)
{
    struct slice body = SLICE(" C \r\nD \t E\r\n\r\n\r\n");

    expect_body(CANON_RELAXED, body, SLICE(" C\r\nD E\r\n"));
    expect_body(CANON_SIMPLE, body, SLICE(" C \r\nD \t E\r\n"));
    expect_field(CANON_RELAXED, "A: X\r\n", "a:X\r\n");
    expect_field(CANON_RELAXED, "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n");
    expect_field(CANON_SIMPLE, "B : Y\t\r\n\tZ  \r\n", "B : Y\t\r\n\tZ  \r\n");
}

/* RFC 6376 3.4.3, 3.4.4 give these hashes. */
TEST(canon, the_hashes_of_an_empty_body)
{
    static const char *const known[] = {
        [CANON_SIMPLE] = "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=",
        [CANON_RELAXED] = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    };

    for (int canon = CANON_SIMPLE; canon <= CANON_RELAXED; canon++) {
        uint8_t hash[DIGEST_BYTES];
        struct bytes text;

        bytes_init(&text, 100);
        hash_body((enum canon)canon, SLICE_NONE, 1, hash);
        assert_int_equal(
            bytes_add_base64(&text, (struct slice){(const char *)hash, sizeof hash}),
            RESULT_OK);
        assert_true(slice_equal_text(bytes_view(&text), known[canon]));
        bytes_fini(&text);
    }
}

TEST(canon, line_ends_at_the_end_are_left_out)
{
    expect_body(CANON_SIMPLE, SLICE("a\r\n\r\n\r\n"), SLICE("a\r\n"));
    expect_body(CANON_SIMPLE, SLICE("a"), SLICE("a\r\n"));
    expect_body(CANON_SIMPLE, SLICE("\r\n\r\n"), SLICE("\r\n"));
    expect_body(CANON_SIMPLE, SLICE(" \r\n"), SLICE(" \r\n"));
    expect_body(CANON_SIMPLE, SLICE("\r\n\r\na\r\n\r\nb\r\n"),
                SLICE("\r\n\r\na\r\n\r\nb\r\n"));
    expect_body(CANON_RELAXED, SLICE("a \r\n \t\r\n\r\n"), SLICE("a\r\n"));
    expect_body(CANON_RELAXED, SLICE("a  "), SLICE("a\r\n"));
    expect_body(CANON_RELAXED, SLICE("\r\n \r\n\r\n"), SLICE(""));
    expect_body(CANON_RELAXED, SLICE(" \r\n\t\r\na\r\n"), SLICE("\r\n\r\na\r\n"));
    expect_body(CANON_RELAXED, SLICE("\t a \t b\tc"), SLICE(" a b c\r\n"));
}

TEST(canon, a_lone_cr_or_lf_is_text)
{
    expect_body(CANON_SIMPLE, SLICE("a\rb\nc\r\r\n"), SLICE("a\rb\nc\r\r\n"));
    expect_body(CANON_RELAXED, SLICE("a\rb \nc\r\r\n"), SLICE("a\rb \nc\r\r\n"));
    expect_body(CANON_SIMPLE, SLICE("a\r"), SLICE("a\r\r\n"));
    expect_body(CANON_RELAXED, SLICE("a\r"), SLICE("a\r\r\n"));
}

/* More than are held back: at the end all are left out, before text none. */
TEST(canon, any_number_of_line_ends)
{
    static char text[2 * 5000 + 8];

    for (size_t count = 60; count < 5000; count = count * 9 / 8 + 1) {
        size_t length = 1;

        text[0] = 'x';
        for (size_t i = 0; i < count; i++) {
            text[length++] = '\r';
            text[length++] = '\n';
        }
        for (int canon = CANON_SIMPLE; canon <= CANON_RELAXED; canon++) {
            expect_body((enum canon)canon, (struct slice){text, length}, SLICE("x\r\n"));
            memcpy(text + length, "y\r\n", 3);
            expect_body((enum canon)canon, (struct slice){text, length + 3},
                        (struct slice){text, length + 3});
            expect_body((enum canon)canon, (struct slice){text + 1, length + 2},
                        (struct slice){text + 1, length + 2});
        }
    }
}

TEST(canon, a_hash_that_is_not_wanted_any_more_is_given_back)
{
    struct canon_body body;
    char ends[1000];

    for (size_t i = 0; i < sizeof ends; i++)
        ends[i] = i % 2 ? '\n' : '\r';
    canon_body_init(&body, CANON_RELAXED);
    canon_body_add(&body, SLICE("a"));
    canon_body_add(&body, (struct slice){ends, sizeof ends});
    canon_body_fini(&body);
}

TEST(canon, a_relaxed_field_is_one_line_without_blanks_around)
{
    expect_field(CANON_RELAXED, "SUBJect:AbC\r\n", "subject:AbC\r\n");
    expect_field(CANON_RELAXED, "Subject: \t \r\n", "subject:\r\n");
    expect_field(CANON_RELAXED, "Subject:\r\n a\r\n\t b \r\n", "subject:a b\r\n");
    expect_field(CANON_RELAXED, "X: a:b:c", "x:a:b:c\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(canon, the_examples_of_the_rfc),
        RUN(canon, the_hashes_of_an_empty_body),
        RUN(canon, line_ends_at_the_end_are_left_out),
        RUN(canon, a_lone_cr_or_lf_is_text),
        RUN(canon, any_number_of_line_ends),
        RUN(canon, a_hash_that_is_not_wanted_any_more_is_given_back),
        RUN(canon, a_relaxed_field_is_one_line_without_blanks_around),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
