/* The signatures of RFC 8463 A.3, byte for byte; what is listed and how lines are folded. */
#include "signature.h"

#include "key_samples.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/header.h"
#include "test.h"

#include <string.h>

/* ---- the vectors: canonical forms, hashes and both kinds of key ---- */

static const char rfc_section[] =
    "From: Joe SixPack <joe@football.example.com>\r\n"
    "To: Suzie Q <suzie@shopping.example.net>\r\n"
    "Subject: Is dinner ready?\r\n"
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n";
static const char rfc_body[] =
    "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

static const char rfc_ed25519_field[] =
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    " d=football.example.com; i=@football.example.com;\r\n"
    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    " subject : date : message-id : from : subject : date;\r\n"
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
static const char rfc_ed25519_b[] =
    "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus"
    "Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";
static const char rfc_rsa_field[] =
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    " d=football.example.com; i=@football.example.com;\r\n"
    " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    " date : message-id : from : subject : date;\r\n"
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
static const char rfc_rsa_b[] =
    "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3"
    "DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz"
    "dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=";

static void expect_base64(const uint8_t *plain, size_t length, const char *expected)
{
    struct bytes text;

    bytes_init(&text, 1000);
    assert_int_equal(bytes_add_base64(&text, (struct slice){(const char *)plain, length}),
                     RESULT_OK);
    if (!slice_equal_text(bytes_view(&text), expected))
        fail_msg("%.*s is not %s", (int)text.length, text.data, expected);
    bytes_fini(&text);
}

static void add_canonical(struct digest *digest, struct slice field, size_t cut)
{
    struct bytes text;

    bytes_init(&text, 1000);
    assert_int_equal(canon_field(CANON_RELAXED, field, &text), RESULT_OK);
    digest_add(digest, slice_part(bytes_view(&text), 0, text.length - cut));
    bytes_fini(&text);
}

/* h= lists each of the five fields once, in the order of the section; the second mention of
 * three of them adds nothing. */
static void expect_vector(const char *pem, const char *field, const char *expected)
{
    struct slice rest = slice_of(rfc_section);
    struct digest *digest = digest_new();
    struct private_key *key = NULL;
    uint8_t hash[DIGEST_BYTES];
    uint8_t signature[SIGNATURE_BYTES_MAX];
    struct slice name;
    struct slice each;
    struct fault fault;
    size_t length;

    while (header_next_field(&rest, &name, &each))
        add_canonical(digest, each, 0);
    add_canonical(digest, slice_of(field), 2);
    digest_finish(digest, hash);
    assert_int_equal(private_key_parse(pem, "pem", &key, &fault), RESULT_OK);
    assert_int_equal(private_key_sign(key, hash, signature, &length), RESULT_OK);
    expect_base64(signature, length, expected);
    private_key_free(key);
}

TEST(signature, the_vectors_of_rfc_8463)
{
    struct canon_body body;
    uint8_t hash[DIGEST_BYTES];

    canon_body_init(&body, CANON_RELAXED);
    canon_body_add(&body, slice_of(rfc_body));
    canon_body_finish(&body, hash);
    expect_base64(hash, sizeof hash, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
    expect_vector(ed25519_pem, rfc_ed25519_field, rfc_ed25519_b);
    expect_vector(rsa_pem, rfc_rsa_field, rfc_rsa_b);
}

/* ---- our own field ---- */

static struct sign_key key;

static void sign(const char *section, const char *pem, struct bytes *field)
{
    struct signature_input input = {.section = slice_of(section),
                                    .header = CANON_RELAXED,
                                    .body = CANON_SIMPLE,
                                    .now_s = 1700000000,
                                    .expires_s = 1700604800};
    struct signature_base base;
    struct fault fault;

    key.domain = "example.test";
    key.selector = "s1";
    assert_int_equal(private_key_parse(pem, "pem", &key.private_key, &fault), RESULT_OK);
    bytes_init(field, SIGNATURE_FIELD_MAX);
    assert_int_equal(signature_prepare(&base, &input), RESULT_OK);
    assert_int_equal(signature_add(&base, &key, field), RESULT_OK);
    signature_fini(&base);
    private_key_free(key.private_key);
    assert_int_equal(bytes_add(field, (struct slice){"", 1}), RESULT_OK);
}

TEST(signature, the_field_has_its_tags_in_order)
{
    static const char begin[] =
        "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/simple; d=example.test;\r\n"
        "\ts=s1; t=1700000000; x=1700604800;\r\n"
        "\th=from:from:to:cc:subject:subject:subject:date:message-id:reply-to:\r\n"
        "\tsender:mime-version:content-type:content-transfer-encoding:\r\n"
        "\treferences;\r\n"
        "\tbh=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=;\r\n"
        "\tb=";
    struct bytes field;

    sign("Subject: a\r\nFrom: a@example.test\r\nsubject: b\r\nReferences: <a@b>\r\n",
         ed25519_pem, &field);
    if (strncmp(field.data, begin, sizeof begin - 1) != 0)
        fail_msg("%s", field.data);
    bytes_fini(&field);
}

TEST(signature, lines_stay_below_78_columns)
{
    static const char *const pems[] = {ed25519_pem, rsa_pem};

    for (int i = 0; i < 2; i++) {
        struct bytes field;
        size_t lines = 0;

        sign("From: a@b\r\nList-Unsubscribe: <x>\r\nList-Unsubscribe-Post: y\r\n", pems[i],
             &field);
        for (const char *line = field.data; *line; lines++) {
            const char *end = strstr(line, "\r\n");

            assert_non_null(end);
            assert_true(end - line < 78);
            line = end + 2;
        }
        assert_true(lines >= 5);
        bytes_fini(&field);
    }
}

/* Ten thousand instances of a field do not make ten thousand names. */
TEST(signature, the_list_of_names_has_an_end)
{
    struct bytes section;
    struct bytes field;
    size_t names = 0;

    bytes_init(&section, 1 << 20);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(bytes_add_text(&section, "To: a\r\nCc: b\r\nFrom: c\r\n"),
                         RESULT_OK);
    assert_int_equal(bytes_add(&section, (struct slice){"", 1}), RESULT_OK);
    sign(section.data, ed25519_pem, &field);
    for (const char *at = strstr(field.data, "h="); *at && *at != ';'; at++)
        names += *at == ':';
    assert_true(names > 40 && names < 80);
    bytes_fini(&section);
    bytes_fini(&field);
}

/* The lowest instances are the ones that h= speaks of (RFC 6376 5.4.2). */
TEST(signature, of_many_instances_the_lowest_count)
{
    static char section[2][2000];
    struct bytes fields[3];

    for (int k = 0; k < 2; k++) {
        size_t length = 0;

        for (int i = 0; i < 20; i++) {
            memcpy(section[k] + length, "To: a\r\n", 7);
            section[k][length + 4] = (char)('a' + (k == 1 && i == 0));
            length += 7;
        }
    }
    sign(section[0], ed25519_pem, &fields[0]);
    sign(section[1], ed25519_pem, &fields[1]); /* the first of twenty differs */
    assert_string_equal(fields[0].data, fields[1].data);
    section[1][19 * 7 + 4] = 'z'; /* the last one differs */
    sign(section[1], ed25519_pem, &fields[2]);
    assert_string_not_equal(fields[0].data, fields[2].data);
    for (int i = 0; i < 3; i++)
        bytes_fini(&fields[i]);
}

/* RFC 6376 5.4.2: each name takes the next instance from below. One name more than instances that are
 * hashed would take one that a verifier hashes and we did not. */
TEST(signature, as_many_names_as_instances_when_not_all_are_signed)
{
    static const unsigned counts[] = {15, 16, 17, 20};
    static const unsigned names[] = {16, 17, 16, 16};

    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        char section[2000] = "";
        struct bytes field;
        const char *at;
        unsigned found = 0;

        for (unsigned i = 0; i < counts[k]; i++)
            (void)strcat(section, "To: a\r\n");
        sign(section, ed25519_pem, &field);
        at = strstr(field.data, "h=");
        assert_non_null(at);
        for (at++; *at != ';'; at++)
            found += (at[-1] == '=' || at[-1] == ':' || at[-1] == ' ' || at[-1] == '\t') &&
                     strncasecmp(at, "to", 2) == 0 && strchr(":; \r\t", at[2]);
        assert_int_equal(found, names[k]);
        bytes_fini(&field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(signature, the_vectors_of_rfc_8463),
        RUN(signature, the_field_has_its_tags_in_order),
        RUN(signature, lines_stay_below_78_columns),
        RUN(signature, the_list_of_names_has_an_end),
        RUN(signature, of_many_instances_the_lowest_count),
        RUN(signature, as_many_names_as_instances_when_not_all_are_signed),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
