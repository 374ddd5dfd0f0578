/* Where values go, what comes out of them, and the tables of bounds as data. */
#include "smtpd/base/histogram.h"

#include "test.h"

TEST(bounds, rise_and_fit)
{
    static const struct histogram_bounds *const all[] = {&histogram_short, &histogram_long,
                                                         &histogram_items};

    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        assert_in_range(all[k]->count, 1, HISTOGRAM_BUCKETS);
        assert_true(all[k]->per_unit > 0 && all[k]->upper[0] > 0);
        for (size_t i = 1; i < all[k]->count; i++)
            assert_true(all[k]->upper[i] > all[k]->upper[i - 1]);
    }
    assert_int_equal(histogram_long.upper[0], 1000);
    assert_int_equal(histogram_long.upper[histogram_long.count - 1],
                     INT64_C(7) * 24 * 3600 * 1000000);
}

TEST(histogram, a_value_on_a_bound_belongs_below_it_and_one_more_above)
{
    struct histogram h;

    for (size_t i = 0; i < histogram_long.count; i++) {
        histogram_init(&h, &histogram_long);
        histogram_add(&h, histogram_long.upper[i]);
        assert_int_equal(h.buckets[i], 1);
        histogram_add(&h, histogram_long.upper[i] + 1);
        assert_int_equal(h.buckets[i], 1);
        assert_int_equal(h.buckets[i + 1], 1);
    }
}

TEST(histogram, sums_and_counts_and_takes_what_is_below_nothing_as_nothing)
{
    struct histogram h;

    histogram_init(&h, &histogram_short);
    histogram_add(&h, 70);
    histogram_add(&h, -5);
    histogram_add(&h, INT64_C(3600) * 1000000);
    assert_int_equal(h.count, 3);
    assert_int_equal(h.sum, INT64_C(3600) * 1000000 + 70);
    assert_int_equal(h.buckets[0], 1);
    assert_int_equal(h.buckets[1], 1);
    assert_int_equal(h.buckets[histogram_short.count], 1);
}

TEST(histogram, a_quantile_is_the_bound_that_covers_it)
{
    struct histogram h;

    histogram_init(&h, &histogram_items);
    assert_int_equal(histogram_quantile(&h, 500), 0);
    for (int i = 0; i < 98; i++)
        histogram_add(&h, 4);
    histogram_add(&h, 900);
    assert_int_equal(histogram_quantile(&h, 500), 5);
    assert_int_equal(histogram_quantile(&h, 980), 5);
    assert_int_equal(histogram_quantile(&h, 999), 1000);
    histogram_add(&h, 20000);
    assert_int_equal(histogram_quantile(&h, 990), 1000);
    assert_int_equal(histogram_quantile(&h, 991), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(bounds, rise_and_fit),
        RUN(histogram, a_value_on_a_bound_belongs_below_it_and_one_more_above),
        RUN(histogram, sums_and_counts_and_takes_what_is_below_nothing_as_nothing),
        RUN(histogram, a_quantile_is_the_bound_that_covers_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
