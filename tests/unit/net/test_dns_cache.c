/* Packing, ages and eviction. */
#include "dns_cache.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static struct dns_space space;

static const struct dns_answer *some_mx(int64_t ttl_ms)
{
    dns_space_reset(&space, RESULT_OK, NULL);
    space.mx[0] = (struct dns_mx){10, "mx1.test"};
    space.mx[1] = (struct dns_mx){65535, ""};
    space.answer.mx_count = 2;
    space.answer.is_authentic = true;
    space.answer.ttl_ms = ttl_ms;
    return &space.answer;
}

TEST(dns_cache, an_answer_survives_packing)
{
    static struct dns_space out;
    struct dns_packed *packed;
    struct dns_packed *copy;

    (void)some_mx(0);
    space.addresses[0] = ip_from_v4((const uint8_t *)"\xc0\0\2\1");
    space.answer.address_count = 1;
    memcpy(space.name, "host.test", sizeof "host.test");
    space.answer.name = space.name;
    space.txt[0] = SLICE("first");
    space.txt[1] = SLICE("");
    space.txt[2] = SLICE("third");
    space.answer.txt_count = 3;
    memcpy(space.canonical, "real.test", sizeof "real.test");
    space.answer.canonical = space.canonical;
    space.tlsa[0] = (struct tlsa){3, 1, 1, SLICE("\0key")};
    space.tlsa[1] = (struct tlsa){255, 9, 0, SLICE_NONE};
    space.answer.tlsa_count = 2;
    packed = dns_pack(&space.answer, 5000);
    copy = dns_packed_copy(packed);
    dns_packed_free(packed);
    dns_unpack(copy, 2000, &out);
    dns_packed_free(copy);

    assert_int_equal(out.answer.result, RESULT_OK);
    assert_int_equal(out.answer.ttl_ms, 3000);
    assert_true(out.answer.is_authentic);
    assert_int_equal(out.answer.mx_count, 2);
    assert_int_equal(out.answer.mx[0].preference, 10);
    assert_string_equal(out.answer.mx[0].host, "mx1.test");
    assert_int_equal(out.answer.mx[1].preference, 65535);
    assert_string_equal(out.answer.mx[1].host, "");
    assert_int_equal(out.answer.address_count, 1);
    assert_true(ip_equal(&out.answer.addresses[0], &space.addresses[0]));
    assert_string_equal(out.answer.name, "host.test");
    assert_int_equal(out.answer.txt_count, 3);
    assert_true(slice_equal_text(out.answer.txt[0], "first"));
    assert_int_equal(out.answer.txt[1].length, 0);
    assert_true(slice_equal_text(out.answer.txt[2], "third"));
    assert_string_equal(out.answer.canonical, "real.test");
    assert_int_equal(out.answer.tlsa_count, 2);
    assert_int_equal(out.answer.tlsa[0].usage, 3);
    assert_int_equal(out.answer.tlsa[0].selector, 1);
    assert_int_equal(out.answer.tlsa[0].matching, 1);
    assert_true(slice_equal(out.answer.tlsa[0].data, SLICE("\0key")));
    assert_int_equal(out.answer.tlsa[1].usage, 255);
    assert_int_equal(out.answer.tlsa[1].data.length, 0);
}

TEST(dns_cache, ages_have_bounds)
{
    assert_int_equal(dns_cache_ttl_ms(RESULT_OK, 0), 30000);
    assert_int_equal(dns_cache_ttl_ms(RESULT_OK, 60000), 60000);
    assert_int_equal(dns_cache_ttl_ms(RESULT_OK, INT64_C(999999999)), 3600000);
    assert_int_equal(dns_cache_ttl_ms(RESULT_DNS_NXDOMAIN, 0), 300000);
    assert_int_equal(dns_cache_ttl_ms(RESULT_DNS_NODATA, 1), 300000);
    assert_int_equal(dns_cache_ttl_ms(RESULT_DNS_FAILURE, 1000), 0);
}

TEST(dns_cache, an_answer_is_given_out_until_its_time_is_over)
{
    struct dns_cache *cache = dns_cache_new(10);

    dns_cache_put(cache, SLICE("Mtest"), some_mx(1000), 50);
    assert_non_null(dns_cache_get(cache, SLICE("Mtest"), 50));
    assert_non_null(dns_cache_get(cache, SLICE("Mtest"), 1049));
    assert_null(dns_cache_get(cache, SLICE("Atest"), 50));
    assert_null(dns_cache_get(cache, SLICE("Mtest"), 1050));
    assert_int_equal(dns_cache_count(cache), 0);
    dns_cache_free(cache);
}

TEST(dns_cache, failures_are_not_kept_and_remove_what_was_there)
{
    struct dns_cache *cache = dns_cache_new(10);

    dns_cache_put(cache, SLICE("Mtest"), some_mx(1000), 0);
    dns_cache_put(cache, SLICE("Mtest"), some_mx(0), 0);
    assert_int_equal(dns_cache_count(cache), 0);
    dns_cache_free(cache);
}

TEST(dns_cache, the_least_recently_used_goes_first)
{
    struct dns_cache *cache = dns_cache_new(3);

    dns_cache_put(cache, SLICE("a"), some_mx(1000), 0);
    dns_cache_put(cache, SLICE("b"), some_mx(1000), 0);
    dns_cache_put(cache, SLICE("c"), some_mx(1000), 0);
    assert_non_null(dns_cache_get(cache, SLICE("a"), 0));
    dns_cache_put(cache, SLICE("d"), some_mx(1000), 0);
    assert_int_equal(dns_cache_count(cache), 3);
    assert_null(dns_cache_get(cache, SLICE("b"), 0));
    assert_non_null(dns_cache_get(cache, SLICE("a"), 0));
    assert_non_null(dns_cache_get(cache, SLICE("c"), 0));
    dns_cache_put(cache, SLICE("c"), some_mx(2000), 0); /* again: replaced, not added */
    assert_int_equal(dns_cache_count(cache), 3);
    dns_cache_free(cache);
}

TEST(dns_cache, many_more_than_fit_pass_through)
{
    struct dns_cache *cache = dns_cache_new(100);

    for (unsigned i = 0; i < 10000; i++) {
        char key[16];

        (void)snprintf(key, sizeof key, "M%u.test", i);
        dns_cache_put(cache, slice_of(key), some_mx(1000), 0);
    }
    assert_int_equal(dns_cache_count(cache), 100);
    assert_non_null(dns_cache_get(cache, SLICE("M9900.test"), 0));
    assert_null(dns_cache_get(cache, SLICE("M9899.test"), 0));
    dns_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dns_cache, an_answer_survives_packing),
        RUN(dns_cache, ages_have_bounds),
        RUN(dns_cache, an_answer_is_given_out_until_its_time_is_over),
        RUN(dns_cache, failures_are_not_kept_and_remove_what_was_there),
        RUN(dns_cache, the_least_recently_used_goes_first),
        RUN(dns_cache, many_more_than_fit_pass_through),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
