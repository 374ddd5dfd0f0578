/* smtpd status: what the server counts, on one screen. */
#include "fake_server.h"

static const char answer[] =
    "{\"version\":\"1.2.3\",\"hostname\":\"relay.test\",\"started_ms\":1700000000000,"
    "\"now_ms\":1700000300000,\"is_draining\":false,"
    "\"loop_lag\":{\"p50_us\":11,\"p99_us\":22,\"max_us\":33},"
    "\"queue\":{\"groups_waiting\":41,\"groups_held\":3,\"groups_leased\":42,\"domain_"
    "queues\":43,"
    "\"oldest_ms\":1699992800000,\"is_rebuilding\":false,\"has_room\":true,"
    "\"free_bytes\":2048,\"file_bytes\":3072,\"commits\":44,\"commits_failed\":45,"
    "\"messages_committed\":46,\"commit_us_last\":47,\"commit_us_max\":48},"
    "\"receive\":{\"connections\":51,\"connections_open\":52,\"connections_refused\":53,"
    "\"messages_accepted\":54,\"recipients_accepted\":55,\"bytes_accepted\":5120,"
    "\"messages_rejected\":56,\"auth_ok\":57,\"auth_failed\":58},"
    "\"deliver\":{\"recipients_delivered\":61,\"recipients_deferred\":62,"
    "\"recipients_failed\":63,\"recipients_expired\":64,\"connections_open\":65,"
    "\"connections\":66,\"connections_failed\":67,\"destinations\":68,"
    "\"destinations_backing_off\":69}}";

TEST(status, every_number_has_its_place)
{
    static const char page[] =
        "relay.test  smtpd 1.2.3, up 5m\n"
        "queue\n"
        "  waiting      41 groups in 43 domain queues, the oldest 2h; 3 held, 42 active\n"
        "  disk         2.0K free, file 3.0K\n"
        "  commits      44 (45 failed), 46 messages; last 47 us, most 48 us in a minute\n"
        "receive\n"
        "  connections  52 open, 51 since the start, 53 refused\n"
        "  messages     54 accepted for 55 recipients (5.0K), 56 rejected\n"
        "  log-ins      57 good, 58 failed\n"
        "deliver\n"
        "  recipients   61 delivered, 62 deferred, 63 failed, 64 expired\n"
        "  connections  65 open, 66 since the start, 67 failed\n"
        "  destinations 68 known, 69 backing off\n"
        "loop\n"
        "  lag          p50 11 us, p99 22 us, most 33 us in a minute\n";
    struct fake *fake = *state;

    fake_answers(fake, 200, answer);
    fake_start(fake);
    assert_int_equal(fake_run(fake, cli_status, false, WORDS("--short")), CLI_DONE);
    assert_string_equal(fake->out, page);
    assert_string_equal(fake->err, "");
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/status HTTP/1.0");
}

TEST(status, what_an_operator_must_notice_is_said)
{
    struct fake *fake = *state;

    fake_answers(fake, 200,
                 "{\"is_draining\":true,\"queue\":{\"is_rebuilding\":true,"
                 "\"has_room\":false,\"free_bytes\":0}}");
    fake_start(fake);
    assert_int_equal(fake_run(fake, cli_status, false, WORDS("--short")), CLI_DONE);
    assert_has(fake->out, ", leaving\n");
    assert_has(fake->out, "(index is being rebuilt)");
    assert_has(fake->out, "0 free: new mail gets 452");
    assert_has(fake->out, "the oldest -;");
}

TEST(status, json_is_what_the_server_answered)
{
    struct fake *fake = *state;
    size_t length = 0;

    fake_answers(fake, 200, "{\"b\":[1,\"\xc3\xbc\"],\"a\":null}");
    fake_start(fake);
    assert_int_equal(fake_run(fake, cli_status, true, WORDS("--short")), CLI_DONE);
    for (const char *at = fake->out; *at; at++)
        if (*at != ' ' && *at != '\n')
            fake->out[length++] = *at;
    fake->out[length] = '\0';
    assert_string_equal(fake->out, "{\"b\":[1,\"\\u00FC\"],\"a\":null}");
}

static const char exposition[] = "# GROUP Store\n"
                                 "# TYPE smtpd_store_file_bytes gauge\n"
                                 "# HELP smtpd_store_file_bytes Size.\n"
                                 "smtpd_store_file_bytes 3072\n"
                                 "# GROUP Two\n"
                                 "# TYPE smtpd_x_seconds histogram\n"
                                 "# HELP smtpd_x_seconds X.\n"
                                 "smtpd_x_seconds_bucket{s=\"a\",le=\"0.005\"} 98\n"
                                 "smtpd_x_seconds_bucket{s=\"a\",le=\"1.0\"} 99\n"
                                 "smtpd_x_seconds_bucket{s=\"a\",le=\"+Inf\"} 100\n"
                                 "smtpd_x_seconds_sum{s=\"a\"} 0.5\n"
                                 "smtpd_x_seconds_count{s=\"a\"} 100\n"
                                 "# TYPE smtpd_y_total counter\n"
                                 "# HELP smtpd_y_total Y.\n"
                                 "smtpd_y_total{k=\"ok\"} 7\n"
                                 "smtpd_y_total{k=\"bad\"} 0\n";

TEST(status, behind_the_summary_stands_every_metric_by_group)
{
    struct fake *fake = *state;

    fake_answers(fake, 200, answer);
    fake_answers(fake, 200, exposition);
    fake_start(fake);
    assert_int_equal(fake_run(fake, cli_status, false, WORDS(NULL)), CLI_DONE);
    assert_has(fake->out,
               "33 us in a minute\n"
               "\nStore\n"
               "  store file                     3.0K\n"
               "\nTwo\n"
               "  x                              a          100, mean 5 ms, half "
               "within 5 ms, 99% within 1 s\n"
               "  y                              ok 7\n");
    fake_stop(fake);
    fake_expect(fake, 1, "GET /metrics?groups=1 HTTP/1.0");
}

TEST(status, metrics_that_are_none_are_a_failure)
{
    struct fake *fake = *state;

    fake_answers(fake, 200, answer);
    fake_answers(fake, 200, "nonsense\n");
    fake_start(fake);
    assert_int_equal(fake_run(fake, cli_status, true, WORDS(NULL)), CLI_FAILED);
    assert_has(fake->err, "not understood");
    assert_string_equal(fake->out, "");
}

TEST(status, exit_codes_tell_usage_failure_and_no_server_apart)
{
    struct fake *fake = *state;

    assert_int_equal(fake_run(fake, cli_status, false, WORDS("now")), CLI_USAGE);
    assert_has(fake->err, "\"now\"");
    assert_int_equal(fake_run(fake, cli_status, false, WORDS(NULL)), CLI_NOT_RUNNING);
    fake_answers(fake, 403, "{\"error\":\"only root\"}");
    fake_start(fake);
    assert_int_equal(fake_run(fake, cli_status, false, WORDS(NULL)), CLI_FAILED);
    assert_string_equal(fake->out, "");
    assert_string_equal(fake->err, "smtpd: only root\n");
    fake_stop(fake);
    assert_int_equal(fake->request_count, 1); /* bad usage asks nobody */
}

#define WITH_FAKE(name) cmocka_unit_test_setup_teardown(status_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(every_number_has_its_place),
        WITH_FAKE(what_an_operator_must_notice_is_said),
        WITH_FAKE(json_is_what_the_server_answered),
        WITH_FAKE(behind_the_summary_stands_every_metric_by_group),
        WITH_FAKE(metrics_that_are_none_are_a_failure),
        WITH_FAKE(exit_codes_tell_usage_failure_and_no_server_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
