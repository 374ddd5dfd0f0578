/* What is written is read again; anything else is refused. */
#include "tally_file.h"

#include "test.h"

#include <string.h>

static void count(struct tally *tally, const char *domain, enum tally_result result)
{
    struct tally_session session = {
        .domain = domain,
        .type = TALLY_STS,
        .policy = "mode: enforce|mx: *.a.test",
        .result = result,
        .texts = {[TALLY_MX] = "mx.a.test", [TALLY_REASON] = "it has \"another\" name"}};

    assert_true(tally_count(tally, &session, 86400000));
}

static void print(struct tally *tally, struct bytes *text)
{
    bytes_init(text, TALLY_FILE_MAX);
    assert_int_equal(tally_file_print(tally, text), RESULT_OK);
}

TEST(tally_file, what_is_written_is_read_again)
{
    struct tally *tally = tally_new();
    struct tally *again = tally_new();
    struct fault fault;
    struct bytes first;
    struct bytes second;

    count(tally, "a.test", TALLY_SUCCESS);
    count(tally, "a.test", TALLY_NAME_MISMATCH);
    count(tally, "a.test", TALLY_NAME_MISMATCH);
    assert_non_null(tally_close(tally, "a.test", 90000000));
    count(tally, "b.test", TALLY_NO_STARTTLS);
    print(tally, &first);
    assert_int_equal(tally_file_parse(bytes_view(&first), again, &fault), RESULT_OK);
    print(again, &second);
    assert_true(slice_equal(bytes_view(&first), bytes_view(&second)));
    assert_int_equal(tally_closed(again)->count, 1);
    assert_int_equal(tally_open(again)->count, 2);
    assert_int_equal(tally_sessions(tally_find(again, "b.test")), 1);
    bytes_fini(&first);
    bytes_fini(&second);
    tally_free(tally);
    tally_free(again);
}

static void refuses(const char *text)
{
    struct tally *tally = tally_new();
    struct fault fault;

    assert_int_equal(tally_file_parse(slice_of(text), tally, &fault), RESULT_CORRUPT);
    tally_free(tally);
}

#define HEAD "smtpd-tls-report 1\n"
#define DOMAIN_LINE "domain\ta.test\t86400000\t0\n"

TEST(tally_file, what_is_none_is_refused)
{
    struct tally *tally = tally_new();
    struct fault fault;

    assert_int_equal(
        tally_file_parse(SLICE(HEAD DOMAIN_LINE
                               "policy\tsts\t1\t2\t0\t\n"
                               "failure\ttlsa-invalid\t2\tmx\t\t\t\twhy\nend\t3\n"),
                         tally, &fault),
        RESULT_OK);
    tally_free(tally);
    refuses("");
    refuses("smtpd-tls-report 2\nend\t0\n");
    refuses(HEAD);
    refuses(HEAD DOMAIN_LINE);
    refuses(HEAD DOMAIN_LINE "end\t0\n");
    refuses(HEAD DOMAIN_LINE "end\t1\nx");
    refuses(HEAD DOMAIN_LINE DOMAIN_LINE "end\t2\n");
    refuses(HEAD "domain\t\t1\t0\nend\t1\n");
    refuses(HEAD "domain\ta.test\t2\t1\nend\t1\n");
    refuses(HEAD "domain\ta.test\t-1\t0\nend\t1\n");
    refuses(HEAD "policy\tsts\t1\t0\t0\t\nend\t1\n");
    refuses(HEAD DOMAIN_LINE "policy\tother\t1\t0\t0\t\nend\t2\n");
    refuses(HEAD DOMAIN_LINE "policy\tsts\t1\t0\t1\t\nend\t2\n");
    refuses(HEAD DOMAIN_LINE "failure\ttlsa-invalid\t2\tmx\t\t\t\twhy\nend\t2\n");
    refuses(HEAD DOMAIN_LINE "policy\tsts\t1\t2\t0\t\n"
                             "failure\tsuccess\t2\tmx\t\t\t\twhy\nend\t3\n");
    refuses(HEAD DOMAIN_LINE "policy\tsts\t1\t2\t0\t\tmore\nend\t2\n");
    refuses(HEAD "other\nend\t1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tally_file, what_is_written_is_read_again),
        RUN(tally_file, what_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
