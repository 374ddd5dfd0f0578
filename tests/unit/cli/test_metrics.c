/* The text of /metrics read back. */
#include "metrics.h"

#include "smtpd/base/bytes.h"
#include "test.h"

#include <string.h>

static const json_t *field(const json_t *family, size_t sample, const char *name)
{
    return json_object_get(json_array_get(json_object_get(family, "samples"), sample),
                           name);
}

TEST(metrics, families_with_their_group_help_and_labelled_values)
{
    json_t *families =
        metrics_parse(SLICE("# GROUP One\n"
                            "# TYPE smtpd_a_total counter\n"
                            "# HELP smtpd_a_total Say \\\\ and\\n.\n"
                            "smtpd_a_total{x=\"1,}\",y=\"q\\\"\\\\z\"} 5000000000\n"
                            "smtpd_a_total{x=\"2\",y=\"\"} 0.5\n"
                            "# TYPE smtpd_b gauge\n"
                            "# HELP smtpd_b B.\n"
                            "smtpd_b -7\n"));
    const json_t *a = json_array_get(families, 0);
    const json_t *b = json_array_get(families, 1);

    assert_int_equal(json_array_size(families), 2);
    assert_string_equal(json_string_value(json_object_get(a, "group")), "One");
    assert_string_equal(json_string_value(json_object_get(b, "group")), "One");
    assert_string_equal(json_string_value(json_object_get(a, "name")), "smtpd_a_total");
    assert_string_equal(json_string_value(json_object_get(a, "type")), "counter");
    assert_int_equal(json_array_size(json_object_get(a, "samples")), 2);
    assert_string_equal(json_string_value(json_object_get(field(a, 0, "labels"), "x")),
                        "1,}");
    assert_string_equal(json_string_value(json_object_get(field(a, 0, "labels"), "y")),
                        "q\"\\z");
    assert_int_equal(json_integer_value(field(a, 0, "value")), 5000000000);
    assert_true(json_real_value(field(a, 1, "value")) == 0.5);
    assert_int_equal(json_object_size(field(b, 0, "labels")), 0);
    assert_int_equal(json_integer_value(field(b, 0, "value")), -7);
    json_decref(families);
}

TEST(metrics, a_histogram_is_one_sample_for_each_set_of_labels)
{
    json_t *families = metrics_parse(SLICE("# TYPE smtpd_h_seconds histogram\n"
                                           "smtpd_h_seconds_bucket{s=\"a\",le=\"0.5\"} 1\n"
                                           "smtpd_h_seconds_bucket{s=\"a\",le=\"2.0\"} 3\n"
                                           "smtpd_h_seconds_bucket{s=\"a\",le=\"+Inf\"} 4\n"
                                           "smtpd_h_seconds_sum{s=\"a\"} 9.25\n"
                                           "smtpd_h_seconds_count{s=\"a\"} 4\n"
                                           "smtpd_h_seconds_bucket{s=\"b\",le=\"0.5\"} 0\n"
                                           "smtpd_h_seconds_bucket{s=\"b\",le=\"+Inf\"} 0\n"
                                           "smtpd_h_seconds_sum{s=\"b\"} 0\n"
                                           "smtpd_h_seconds_count{s=\"b\"} 0\n"));
    const json_t *h = json_array_get(families, 0);
    const json_t *buckets = field(h, 0, "buckets");

    assert_int_equal(json_array_size(json_object_get(h, "samples")), 2);
    assert_int_equal(json_integer_value(field(h, 0, "count")), 4);
    assert_true(json_real_value(field(h, 0, "sum")) == 9.25);
    assert_int_equal(json_array_size(buckets), 2);
    assert_true(json_real_value(json_array_get(json_array_get(buckets, 1), 0)) == 2.0);
    assert_int_equal(json_integer_value(json_array_get(json_array_get(buckets, 1), 1)), 3);
    assert_string_equal(json_string_value(json_object_get(field(h, 1, "labels"), "s")),
                        "b");
    assert_int_equal(json_array_size(field(h, 1, "buckets")), 1);
    json_decref(families);
}

TEST(metrics, what_is_no_exposition_of_ours_is_refused)
{
    static const char *const texts[] = {
        "",
        "nonsense\n",
        "smtpd_a 1\n",                               /* no family */
        "# TYPE smtpd_a gauge\nsmtpd_b 1\n",         /* another's sample */
        "# TYPE smtpd_a gauge\nsmtpd_a{x=\"1\" 1\n", /* the brace is open */
        "# TYPE smtpd_a gauge\nsmtpd_a{x=\"1} 1\n",  /* the quote is open */
        "# TYPE smtpd_a gauge\nsmtpd_a{x} 1\n",
        "# TYPE smtpd_a gauge\nsmtpd_a\n",
        "# TYPE smtpd_a\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_null(metrics_parse(slice_of(texts[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(metrics, families_with_their_group_help_and_labelled_values),
        RUN(metrics, a_histogram_is_one_sample_for_each_set_of_labels),
        RUN(metrics, what_is_no_exposition_of_ours_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
