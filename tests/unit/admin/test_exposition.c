/* The text of an exposition, byte by byte. */
#include "exposition.h"

#include "test.h"

#include <string.h>

static void expect(struct exposition *to, const char *text)
{
    assert_false(to->is_full);
    assert_int_equal(to->text.length, strlen(text));
    assert_memory_equal(to->text.data, text, strlen(text));
    exposition_fini(to);
}

TEST(exposition, a_counter_in_both_texts)
{
    struct exposition to;

    for (int is_openmetrics = 0; is_openmetrics < 2; is_openmetrics++) {
        exposition_init(&to, is_openmetrics == 1);
        exposition_family(&to, "received_bytes", METRIC_COUNTER, "bytes", "Say \"x\"\n.");
        exposition_start(&to, "");
        exposition_label(&to, "of", "a\"b\\c\nd");
        exposition_labels(&to, "is=\"it\"");
        exposition_value(&to, 1234, 1);
        exposition_end(&to);
        expect(&to, is_openmetrics ? "# TYPE smtpd_received_bytes counter\n"
                                     "# UNIT smtpd_received_bytes bytes\n"
                                     "# HELP smtpd_received_bytes Say \\\"x\\\"\\n.\n"
                                     "smtpd_received_bytes_total{of=\"a\\\"b\\\\c\\nd\","
                                     "is=\"it\"} 1234\n"
                                     "# EOF\n"
                                   : "# TYPE smtpd_received_bytes_total counter\n"
                                     "# HELP smtpd_received_bytes_total Say \"x\"\\n.\n"
                                     "smtpd_received_bytes_total{of=\"a\\\"b\\\\c\\nd\","
                                     "is=\"it\"} 1234\n");
    }
}

TEST(exposition, info_has_a_type_in_openmetrics_only)
{
    struct exposition to;

    exposition_init(&to, true);
    exposition_family(&to, "build", METRIC_INFO, NULL, "V.");
    exposition_start(&to, "");
    exposition_value(&to, 1, 1);
    expect(&to, "# TYPE smtpd_build info\n# HELP smtpd_build V.\nsmtpd_build_info 1\n");
    exposition_init(&to, false);
    exposition_family(&to, "build", METRIC_INFO, NULL, "V.");
    expect(&to, "# TYPE smtpd_build_info gauge\n# HELP smtpd_build_info V.\n");
}

TEST(exposition, values_in_units_without_a_digit_lost)
{
    static const struct {
        int64_t value;
        int64_t per_unit;
        const char *text;
    } cases[] = {
        {0, 1, "smtpd_x 0\n"},
        {0, 1000000, "smtpd_x 0\n"},
        {1, 1000000, "smtpd_x 0.000001\n"},
        {1500000, 1000000, "smtpd_x 1.5\n"},
        {2000000, 1000000, "smtpd_x 2\n"},
        {1050, 1000, "smtpd_x 1.05\n"},
        {-1050, 1000, "smtpd_x -1.05\n"},
        {-7, 1, "smtpd_x -7\n"},
        {INT64_MAX, 1, "smtpd_x 9223372036854775807\n"},
        {INT64_MIN, 1, "smtpd_x -9223372036854775808\n"},
        {INT64_MAX, 1000000, "smtpd_x 9223372036854.775807\n"},
    };
    struct exposition to;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exposition_init(&to, true);
        to.name = "x";
        to.type = METRIC_GAUGE;
        exposition_start(&to, "");
        exposition_value(&to, cases[i].value, cases[i].per_unit);
        expect(&to, cases[i].text);
    }
}

TEST(exposition, a_histogram_counts_upwards_and_ends_with_infinity)
{
    static const struct histogram_bounds bounds = {1000000, 2, {250, 2000000}};
    struct histogram histogram;
    struct exposition to;

    histogram_init(&histogram, &bounds);
    histogram_add(&histogram, 250);
    histogram_add(&histogram, 251);
    histogram_add(&histogram, 3000000);
    exposition_init(&to, true);
    to.name = "t_seconds";
    to.type = METRIC_HISTOGRAM;
    exposition_histogram(&to, "a=\"b\"", &histogram);
    exposition_histogram(&to, NULL, &histogram);
    expect(&to, "smtpd_t_seconds_bucket{a=\"b\",le=\"0.00025\"} 1\n"
                "smtpd_t_seconds_bucket{a=\"b\",le=\"2.0\"} 2\n"
                "smtpd_t_seconds_bucket{a=\"b\",le=\"+Inf\"} 3\n"
                "smtpd_t_seconds_sum{a=\"b\"} 3.000501\n"
                "smtpd_t_seconds_count{a=\"b\"} 3\n"
                "smtpd_t_seconds_bucket{le=\"0.00025\"} 1\n"
                "smtpd_t_seconds_bucket{le=\"2.0\"} 2\n"
                "smtpd_t_seconds_bucket{le=\"+Inf\"} 3\n"
                "smtpd_t_seconds_sum 3.000501\n"
                "smtpd_t_seconds_count 3\n");
}

TEST(exposition, at_its_ceiling_it_says_so_and_grows_no_more)
{
    static char label[65536];
    struct exposition to;

    memset(label, 'x', sizeof label - 1);
    exposition_init(&to, true);
    to.name = "x";
    for (int i = 0; i < 1000; i++)
        exposition_label(&to, "n", label);
    assert_true(to.is_full);
    assert_true(to.text.length <= EXPOSITION_BYTES_MAX);
    exposition_fini(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(exposition, a_counter_in_both_texts),
        RUN(exposition, info_has_a_type_in_openmetrics_only),
        RUN(exposition, values_in_units_without_a_digit_lost),
        RUN(exposition, a_histogram_counts_upwards_and_ends_with_infinity),
        RUN(exposition, at_its_ceiling_it_says_so_and_grows_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
