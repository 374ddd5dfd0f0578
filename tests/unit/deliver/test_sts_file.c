/* Records on disk: what was written is read again, and what is none goes. */
#include "sts_file.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/smtpd-sts-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static struct sts_record record_of(const char *domain)
{
    struct sts_record record = {.fetched_ms = 1234, .used_ms = 5678};
    char why[160];

    (void)snprintf(record.domain, sizeof record.domain, "%s", domain);
    (void)snprintf(record.id, sizeof record.id, "2026Z");
    record.policy = sts_policy_parse(
        SLICE("version: STSv1\nmode: enforce\nmx: *.a.test\nmx: b.test\nmax_age: 86400\n"),
        why);
    assert_non_null(record.policy);
    return record;
}

static void put(const char *name, const char *text)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static bool is_there(const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

TEST(sts_file, what_is_written_is_read_again)
{
    struct sts_record record = record_of("example.test");
    struct sts_record *found;
    struct bytes text;
    struct fault fault;
    char nested[96];

    (void)state;
    (void)snprintf(nested, sizeof nested, "%s/mta-sts", folder);
    bytes_init(&text, STS_BODY_MAX);
    assert_int_equal(sts_record_print(&record, &text), RESULT_OK);
    assert_int_equal(sts_file_read_all(nested, 10, &found), 0); /* no folder yet */
    assert_null(found);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sts_file_write(nested, record.domain, bytes_view(&text), &fault),
                         RESULT_OK);
    assert_int_equal(sts_file_read_all(nested, 10, &found), 1);
    assert_string_equal(found[0].domain, "example.test");
    assert_string_equal(found[0].id, "2026Z");
    assert_int_equal(found[0].fetched_ms, 1234);
    assert_int_equal(found[0].used_ms, 5678);
    assert_int_equal(sts_policy_mode(found[0].policy), STS_ENFORCE);
    assert_int_equal(sts_policy_max_age_ms(found[0].policy), 86400000);
    assert_true(sts_policy_matches(found[0].policy, "x.a.test"));
    assert_true(sts_policy_matches(found[0].policy, "b.test"));
    sts_policy_unref(found[0].policy);
    memory_free(found);
    sts_file_remove(nested, record.domain);
    assert_int_equal(sts_file_read_all(nested, 10, &found), 0);
    memory_free(found);
    assert_int_equal(rmdir(nested), 0);
    sts_policy_unref(record.policy);
    bytes_fini(&text);
}

TEST(sts_file, what_is_no_record_goes)
{
    struct sts_record record = record_of("good.test");
    struct sts_record *found;
    struct bytes text;
    struct fault fault;

    (void)state;
    bytes_init(&text, STS_BODY_MAX);
    assert_int_equal(sts_record_print(&record, &text), RESULT_OK);
    assert_int_equal(sts_file_write(folder, "good.test", bytes_view(&text), &fault),
                     RESULT_OK);
    /* Under another name, cut off, of another time, left by a crash. */
    assert_int_equal(sts_file_write(folder, "other.test", bytes_view(&text), &fault),
                     RESULT_OK);
    text.length -= 10;
    assert_int_equal(sts_file_write(folder, "short.test", bytes_view(&text), &fault),
                     RESULT_OK);
    put("old.test", "smtpd-mta-sts: 0\n");
    put(".x.test.new", "smtpd-mta-sts: 1\ndomain: x.test\n");
    assert_int_equal(sts_file_read_all(folder, 10, &found), 1);
    assert_string_equal(found[0].domain, "good.test");
    assert_false(is_there("other.test") || is_there("short.test") || is_there("old.test") ||
                 is_there(".x.test.new"));
    sts_policy_unref(found[0].policy);
    memory_free(found);
    sts_file_remove(folder, "good.test");
    sts_policy_unref(record.policy);
    bytes_fini(&text);
}

TEST(sts_file, no_more_than_asked_for)
{
    struct sts_record record = record_of("a.test");
    struct sts_record *found;
    struct bytes text;
    struct fault fault;

    (void)state;
    bytes_init(&text, STS_BODY_MAX);
    for (char c = 'a'; c <= 'd'; c++) {
        record.domain[0] = c;
        bytes_clear(&text);
        assert_int_equal(sts_record_print(&record, &text), RESULT_OK);
        assert_int_equal(sts_file_write(folder, record.domain, bytes_view(&text), &fault),
                         RESULT_OK);
    }
    assert_int_equal(sts_file_read_all(folder, 3, &found), 3);
    for (int i = 0; i < 3; i++)
        sts_policy_unref(found[i].policy);
    memory_free(found);
    for (char c = 'a'; c <= 'd'; c++) {
        record.domain[0] = c;
        sts_file_remove(folder, record.domain);
    }
    sts_policy_unref(record.policy);
    bytes_fini(&text);
}

TEST(sts_file, which_names_are_domains)
{
    static const char *const bad[] = {
        "",        "localhost", "[127.0.0.1]", "../../etc/passwd",
        ".a.test", "a/b.test",  "A.test",      "a\nb.test"};
    char longest[STS_DOMAIN_TEXT + 1];

    (void)state;
    assert_true(sts_is_domain("a.test"));
    assert_true(sts_is_domain("xn--bcher-kva.a_b.test"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sts_is_domain(bad[i]));
    memset(longest, 'a', sizeof longest);
    memcpy(longest + 100, ".", 1);
    longest[STS_DOMAIN_TEXT] = '\0';
    assert_false(sts_is_domain(longest));
    longest[STS_DOMAIN_TEXT - 1] = '\0';
    assert_true(sts_is_domain(longest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(sts_file, what_is_written_is_read_again),
        RUN(sts_file, what_is_no_record_goes),
        RUN(sts_file, no_more_than_asked_for),
        RUN(sts_file, which_names_are_domains),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
