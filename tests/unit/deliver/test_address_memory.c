/* Addresses that failed come last for a while; the memory is bounded. */
#include "address_memory.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/secure.h"
#include "test.h"

enum { NOW_MS = 1000000 };

static struct endpoint numbered(uint32_t number)
{
    uint8_t v4[4] = {10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};

    return (struct endpoint){ip_from_v4(v4), 25};
}

TEST(address_memory, one_that_failed_is_dead_for_a_while)
{
    struct address_memory *memory = address_memory_new();
    struct endpoint address = numbered(1);
    struct endpoint other_port = address;
    int64_t wait_ms;

    other_port.port = 587;
    assert_false(address_is_dead(memory, &address, NOW_MS));
    wait_ms = address_failed(memory, &address, NOW_MS);
    assert_in_range(wait_ms, 27000, 33000);
    assert_int_equal(address_failed(memory, &address, NOW_MS), 0); /* the same round */
    assert_true(address_is_dead(memory, &address, NOW_MS + wait_ms - 1));
    assert_false(address_is_dead(memory, &other_port, NOW_MS));
    address_works(memory, &address);
    assert_false(address_is_dead(memory, &address, NOW_MS));
    assert_int_equal(address_memory_count(memory), 0);
    address_memory_free(memory);
}

TEST(address_memory, one_probe_finds_out_and_the_wait_doubles)
{
    struct address_memory *memory = address_memory_new();
    struct endpoint address = numbered(1);
    int64_t now_ms = NOW_MS;
    int64_t wait_ms = address_failed(memory, &address, now_ms);

    for (int round = 0; round < 8; round++) {
        int64_t next_ms;

        now_ms += wait_ms;
        assert_false(address_is_dead(memory, &address, now_ms));
        assert_true(address_is_dead(memory, &address, now_ms)); /* for the others */
        next_ms = address_failed(memory, &address, now_ms);
        assert_true(next_ms > wait_ms || next_ms > 800000);
        assert_true(next_ms <= 990000);
        wait_ms = next_ms;
    }
    address_memory_free(memory);
}

TEST(address_memory, a_probe_that_never_ended_is_made_again)
{
    struct address_memory *memory = address_memory_new();
    struct endpoint address = numbered(1);
    int64_t now_ms = NOW_MS + address_failed(memory, &address, NOW_MS);

    assert_false(address_is_dead(memory, &address, now_ms));
    assert_false(address_is_dead(memory, &address, now_ms + 30000));
    address_memory_free(memory);
}

TEST(address_memory, when_it_is_full_another_gives_way)
{
    struct address_memory *memory = address_memory_new();
    struct endpoint address;

    for (uint32_t i = 0; i < LIMIT_DEAD_ADDRESSES + 1000; i++) {
        address = numbered(i);
        assert_true(address_failed(memory, &address, NOW_MS) > 0);
        assert_true(address_is_dead(memory, &address, NOW_MS));
    }
    assert_int_equal(address_memory_count(memory), LIMIT_DEAD_ADDRESSES);
    address_memory_free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(address_memory, one_that_failed_is_dead_for_a_while),
        RUN(address_memory, one_probe_finds_out_and_the_wait_doubles),
        RUN(address_memory, a_probe_that_never_ended_is_made_again),
        RUN(address_memory, when_it_is_full_another_gives_way),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
