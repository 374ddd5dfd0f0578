/* What is written can be read again, for thousands of random values. The seed is fixed, or
 * SMTPD_SEED; a failure prints the value. */
#include "smtpd/base/bytes.h"
#include "smtpd/base/moment.h"
#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 20000, LONGEST = 300 };

static uint64_t seed = 20261124;

/* xorshift64*: the same numbers everywhere. */
static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* Of every magnitude, and often round. */
static uint64_t any_number(uint64_t most)
{
    static const uint64_t round[] = {1,       1000,     1024,    60000,
                                     3600000, 86400000, 1 << 20, 1 << 30};
    uint64_t number = any() >> (any() % 64);

    return number % (most / 86400000) * round[any() % (sizeof round / sizeof *round)] %
           most;
}

TEST(property, base64_of_anything_decodes_to_it)
{
    char plain[LONGEST];
    struct bytes encoded;
    struct bytes decoded;

    bytes_init(&encoded, 2 * LONGEST);
    bytes_init(&decoded, LONGEST);
    for (int round = 0; round < ROUNDS; round++) {
        size_t length = any() % LONGEST;

        for (size_t i = 0; i < length; i++)
            plain[i] = (char)any();
        bytes_clear(&encoded);
        bytes_clear(&decoded);
        assert_int_equal(bytes_add_base64(&encoded, (struct slice){plain, length}),
                         RESULT_OK);
        assert_int_equal(encoded.length, (length + 2) / 3 * 4);
        assert_int_equal(bytes_add_base64_decoded(&decoded, bytes_view(&encoded)),
                         RESULT_OK);
        assert_true(slice_equal(bytes_view(&decoded), (struct slice){plain, length}));
    }
    bytes_fini(&encoded);
    bytes_fini(&decoded);
}

/* Strict: of all the texts one alone stands for given bytes. */
TEST(property, what_base64_decodes_encodes_to_the_same_text)
{
    static const char letters[] = "ABab01+/=gwQ";
    struct bytes decoded;
    struct bytes again;
    int accepted = 0;

    bytes_init(&decoded, 100);
    bytes_init(&again, 100);
    for (int round = 0; round < 10 * ROUNDS; round++) {
        char text[8];
        struct slice slice = {text, 4 * (1 + any() % 2)};

        for (size_t i = 0; i < slice.length; i++)
            text[i] = letters[any() % (sizeof letters - 1)];
        bytes_clear(&decoded);
        bytes_clear(&again);
        if (bytes_add_base64_decoded(&decoded, slice) != RESULT_OK)
            continue;
        accepted++;
        assert_int_equal(bytes_add_base64(&again, bytes_view(&decoded)), RESULT_OK);
        assert_true(slice_equal(bytes_view(&again), slice));
    }
    assert_true(accepted > ROUNDS);
    bytes_fini(&decoded);
    bytes_fini(&again);
}

TEST(property, a_printed_duration_parses_to_itself)
{
    char text[MOMENT_TEXT];

    for (int round = 0; round < ROUNDS; round++) {
        int64_t ms = (int64_t)any_number(INT64_MAX);
        int64_t again = -1;

        duration_print(ms, text);
        if (duration_parse(slice_of(text), &again) != RESULT_OK || again != ms)
            fail_msg("%" PRId64 " -> %s -> %" PRId64, ms, text, again);
    }
}

TEST(property, a_printed_size_parses_to_itself)
{
    char text[MOMENT_TEXT];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t bytes = any_number(INT64_MAX);
        uint64_t again = UINT64_MAX;
        char plain[MOMENT_TEXT];

        size_print(bytes, text);
        if (size_parse(slice_of(text), &again) != RESULT_OK || again != bytes)
            fail_msg("%" PRIu64 " -> %s -> %" PRIu64, bytes, text, again);
        (void)snprintf(plain, sizeof plain, "%" PRIu64, bytes);
        assert_true(strlen(text) <= strlen(plain));
    }
}

static int set_up(void **state)
{
    const char *wanted = getenv("SMTPD_SEED");

    (void)state;
    if (wanted)
        seed = strtoull(wanted, NULL, 10) | 1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(property, base64_of_anything_decodes_to_it),
        RUN(property, what_base64_decodes_encodes_to_the_same_text),
        RUN(property, a_printed_duration_parses_to_itself),
        RUN(property, a_printed_size_parses_to_itself),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
