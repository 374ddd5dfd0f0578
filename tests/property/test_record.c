/* Stored records, for thousands of random ones: what is written is read again; a cut record
 * is refused; one with changed bytes is refused or has exactly one meaning, inside of it.
 * The seed is fixed, or SMTPD_SEED. */
#include "queue/record.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 3000, TEXTS = 16384, LONGEST = 60 };

static uint64_t seed = 20261124;

/* xorshift64*: the same numbers everywhere. */
static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* Of every magnitude up to `bits`. */
static uint64_t any_number(unsigned bits)
{
    return any() >> (64 - bits + any() % bits);
}

static char texts[TEXTS];
static size_t texts_used;

/* Any bytes but NUL. */
static const char *any_text(size_t least, size_t most)
{
    size_t length = least + any() % (most - least + 1);
    char *text = texts + texts_used;

    assert_true(texts_used + length + 1 <= sizeof texts);
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(1 + any() % 255);
    text[length] = 0;
    texts_used += length + 1;
    return text;
}

static const char *any_optional_text(void)
{
    return any() % 3 == 0 ? NULL : any_text(0, LONGEST);
}

static struct envelope any_envelope(void)
{
    texts_used = 0;
    return (struct envelope){
        .id = any(),
        .sender = any_text(0, LIMIT_ADDRESS),
        .envid = any_optional_text(),
        .user = any_optional_text(),
        .tenant = any_optional_text(),
        .session = any_optional_text(),
        .origin = any_optional_text(),
        .dsn_return = (enum dsn_return)(any() % 3),
        .body_type = (enum body_type)(any() % 2),
        .smtputf8 = any() % 2,
        .priority = (int8_t)any(),
        .arrival_ms = (int64_t)any_number(53),
        .header_bytes = any_number(48),
        .body_bytes = any_number(48),
        .has_8bit = any() % 2,
        .has_dot_line = any() % 2,
        .longest_line = (uint32_t)any_number(32),
        .is_streamed = any() % 2,
    };
}

static struct group any_group(struct recipient *recipients)
{
    /* Few recipients with long texts, or many with short ones. */
    uint32_t count = (uint32_t)(1 + any() % (any() % 2 ? 3 : LIMIT_GROUP_RECIPIENTS));
    size_t longest = count > 3 ? 10 : LONGEST;

    texts_used = 0;
    for (uint32_t i = 0; i < count; i++)
        recipients[i] = (struct recipient){.address = any_text(1, longest),
                                           .orcpt = any() % 2 ? any_text(0, longest) : NULL,
                                           .notify = (uint8_t)any()};
    return (struct group){
        .number = (uint32_t)any(),
        .lane = any_text(0, LANE_TEXT - 1),
        .next_attempt_ms = (int64_t)any_number(53),
        .not_before_ms = (int64_t)any_number(53),
        .attempts = (uint32_t)any_number(32),
        .is_held = any() % 2,
        .delay_notified = any() % 2,
        .recipient_count = count,
        .recipients = recipients,
        .last_code = (uint16_t)any(),
        .last_status = any_text(0, 8),
        .last_text = any_text(0, GROUP_REPLY_TEXT - 1),
        .last_host = any_text(0, LONGEST),
        .last_attempt_ms = (int64_t)any_number(53),
    };
}

/* A block of exactly that size: a sanitizer sees the first byte read beyond it. */
static struct slice exact_copy(struct slice record)
{
    char *copy = memory_new(record.length ? record.length : 1);

    memcpy(copy, record.data, record.length);
    return (struct slice){copy, record.length};
}

static void slice_free(struct slice copy)
{
    memory_free((void *)(uintptr_t)copy.data);
}

static void same_text(const char *a, const char *b)
{
    assert_true(!a == !b);
    if (a)
        assert_string_equal(a, b);
}

static void same_envelope(const struct envelope *a, const struct envelope *b)
{
    assert_true(a->id == b->id);
    same_text(a->sender, b->sender);
    same_text(a->envid, b->envid);
    same_text(a->user, b->user);
    same_text(a->tenant, b->tenant);
    same_text(a->session, b->session);
    same_text(a->origin, b->origin);
    assert_int_equal(a->dsn_return, b->dsn_return);
    assert_int_equal(a->body_type, b->body_type);
    assert_int_equal(a->smtputf8, b->smtputf8);
    assert_int_equal(a->priority, b->priority);
    assert_true(a->arrival_ms == b->arrival_ms);
    assert_true(a->header_bytes == b->header_bytes);
    assert_true(a->body_bytes == b->body_bytes);
    assert_int_equal(a->has_8bit, b->has_8bit);
    assert_int_equal(a->has_dot_line, b->has_dot_line);
    assert_int_equal(a->longest_line, b->longest_line);
    assert_int_equal(a->is_streamed, b->is_streamed);
}

static void same_group(const struct group *a, const struct group *b)
{
    assert_int_equal(a->number, b->number);
    same_text(a->lane, b->lane);
    assert_true(a->next_attempt_ms == b->next_attempt_ms);
    assert_true(a->not_before_ms == b->not_before_ms);
    assert_true(a->last_attempt_ms == b->last_attempt_ms);
    assert_int_equal(a->attempts, b->attempts);
    assert_int_equal(a->is_held, b->is_held);
    assert_int_equal(a->delay_notified, b->delay_notified);
    assert_int_equal(a->last_code, b->last_code);
    same_text(a->last_status, b->last_status);
    same_text(a->last_text, b->last_text);
    same_text(a->last_host, b->last_host);
    assert_int_equal(a->recipient_count, b->recipient_count);
    for (uint32_t i = 0; i < a->recipient_count; i++) {
        same_text(a->recipients[i].address, b->recipients[i].address);
        same_text(a->recipients[i].orcpt, b->recipients[i].orcpt);
        assert_int_equal(a->recipients[i].notify, b->recipients[i].notify);
    }
}

/* A random record of either kind, appended. */
static void any_record(struct bytes *record)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];

    bytes_clear(record);
    if (any() % 2) {
        struct envelope envelope = any_envelope();

        assert_int_equal(record_encode_envelope(&envelope, (uint32_t)any(), record),
                         RESULT_OK);
    } else {
        struct group group = any_group(recipients);

        assert_int_equal(record_encode_group(&group, record), RESULT_OK);
    }
}

/* Whether either decoder takes it; then it must be the one form of what was read. */
static bool is_taken(struct slice record)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct envelope envelope;
    struct group group;
    struct bytes again;
    uint32_t group_count;
    bool is_envelope =
        record_decode_envelope(record, 1, &envelope, &group_count) == RESULT_OK;
    bool is_group = record_decode_group(record, 1, &group, recipients) == RESULT_OK;

    assert_false(is_envelope && is_group);
    if (!is_envelope && !is_group)
        return false;
    bytes_init(&again, RECORD_MAX);
    assert_int_equal(is_envelope ? record_encode_envelope(&envelope, group_count, &again)
                                 : record_encode_group(&group, &again),
                     RESULT_OK);
    assert_true(slice_equal(bytes_view(&again), record));
    bytes_fini(&again);
    return true;
}

TEST(property, an_envelope_is_read_as_it_was_written)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        struct envelope written = any_envelope();
        uint32_t count = (uint32_t)any();
        struct envelope read;
        uint32_t read_count;
        struct slice copy;

        bytes_clear(&record);
        assert_int_equal(record_encode_envelope(&written, count, &record), RESULT_OK);
        copy = exact_copy(bytes_view(&record));
        assert_int_equal(record_decode_envelope(copy, written.id, &read, &read_count),
                         RESULT_OK);
        assert_int_equal(read_count, count);
        same_envelope(&written, &read);
        slice_free(copy);
    }
    bytes_fini(&record);
}

TEST(property, a_group_is_read_as_it_was_written)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct recipient read_recipients[LIMIT_GROUP_RECIPIENTS];
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        struct group written = any_group(recipients);
        struct group read;
        struct slice copy;

        bytes_clear(&record);
        assert_int_equal(record_encode_group(&written, &record), RESULT_OK);
        copy = exact_copy(bytes_view(&record));
        assert_int_equal(record_decode_group(copy, written.number, &read, read_recipients),
                         RESULT_OK);
        same_group(&written, &read);
        slice_free(copy);
    }
    bytes_fini(&record);
}

TEST(property, a_cut_record_is_refused)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        struct slice copy;

        any_record(&record);
        assert_true(is_taken(bytes_view(&record)));
        copy = exact_copy(slice_part(bytes_view(&record), 0, any() % record.length));
        assert_false(is_taken(copy));
        slice_free(copy);
    }
    bytes_fini(&record);
}

TEST(property, a_record_with_changed_bytes_is_refused_or_has_one_meaning)
{
    struct bytes record;
    int taken = 0;
    int refused = 0;

    bytes_init(&record, RECORD_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        any_record(&record);
        for (int change = 0; change < 10; change++) {
            struct slice copy = exact_copy(bytes_view(&record));
            char *at = (char *)(uintptr_t)copy.data + any() % copy.length;

            *at = (char)(any() % 4 ? *at ^ (1 << any() % 8) : (int)any());
            *(is_taken(copy) ? &taken : &refused) += 1;
            slice_free(copy);
        }
    }
    assert_true(taken > ROUNDS && refused > ROUNDS); /* both happen */
    bytes_fini(&record);
}

TEST(property, bytes_behind_a_record_are_refused)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX + 8);
    for (int round = 0; round < ROUNDS; round++) {
        char more[8];
        size_t length = 1 + any() % sizeof more;
        struct slice copy;

        for (size_t i = 0; i < length; i++)
            more[i] = (char)any();
        any_record(&record);
        assert_int_equal(bytes_add(&record, (struct slice){more, length}), RESULT_OK);
        copy = exact_copy(bytes_view(&record));
        assert_false(is_taken(copy));
        slice_free(copy);
    }
    bytes_fini(&record);
}

/* Whatever is written can be read: else it is refused before anything is promised. */
static void check_group(const struct group *group, bool is_fine)
{
    struct recipient read[LIMIT_GROUP_RECIPIENTS];
    struct group again;
    struct bytes record;
    enum result result;

    bytes_init(&record, RECORD_MAX);
    result = record_encode_group(group, &record);
    assert_int_equal(result, is_fine ? RESULT_OK : RESULT_INVALID);
    if (is_fine)
        assert_int_equal(record_decode_group(bytes_view(&record), 0, &again, read),
                         RESULT_OK);
    bytes_fini(&record);
}

static void check_envelope(const struct envelope *envelope, bool is_fine)
{
    struct envelope again;
    struct bytes record;
    uint32_t count;
    enum result result;

    bytes_init(&record, RECORD_MAX);
    result = record_encode_envelope(envelope, 1, &record);
    assert_int_equal(result, is_fine ? RESULT_OK : RESULT_INVALID);
    if (is_fine)
        assert_int_equal(record_decode_envelope(bytes_view(&record), 0, &again, &count),
                         RESULT_OK);
    bytes_fini(&record);
}

TEST(property, what_reading_would_refuse_is_not_written)
{
    const int64_t latest = (INT64_C(1) << 53) - 1;
    const uint64_t largest = (UINT64_C(1) << 48) - 1;
    char lane[LANE_TEXT + 1];
    struct recipient one = {.address = "a@b.test"};
    struct recipient none = {.address = ""};
    struct group group = {.lane = "b.test",
                          .last_status = "",
                          .last_text = "",
                          .last_host = "",
                          .recipients = &one,
                          .recipient_count = 1};
    struct group wrong;
    struct envelope envelope = {.sender = "a@b.test"};
    struct envelope odd;

    (void)state;
    memset(lane, 'x', sizeof lane);
    lane[LANE_TEXT - 1] = '\0';
    check_group(&group, true);
    wrong = group, wrong.lane = lane, check_group(&wrong, true);
    lane[LANE_TEXT - 1] = 'x', lane[LANE_TEXT] = '\0', check_group(&wrong, false);
    wrong = group, wrong.lane = NULL, check_group(&wrong, false);
    wrong = group, wrong.last_host = NULL, check_group(&wrong, false);
    wrong = group, wrong.recipients = &none, check_group(&wrong, false);
    wrong = group, wrong.next_attempt_ms = latest, check_group(&wrong, true);
    wrong = group, wrong.next_attempt_ms = latest + 1, check_group(&wrong, false);
    wrong = group, wrong.not_before_ms = -1, check_group(&wrong, false);
    wrong = group, wrong.last_attempt_ms = -1, check_group(&wrong, false);
    check_envelope(&envelope, true);
    odd = envelope, odd.sender = NULL, check_envelope(&odd, false);
    odd = envelope, odd.arrival_ms = -1, check_envelope(&odd, false);
    odd = envelope, odd.header_bytes = largest, check_envelope(&odd, true);
    odd = envelope, odd.header_bytes = largest + 1, check_envelope(&odd, false);
    odd = envelope, odd.body_bytes = largest + 1, check_envelope(&odd, false);
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
        RUN(property, an_envelope_is_read_as_it_was_written),
        RUN(property, a_group_is_read_as_it_was_written),
        RUN(property, a_cut_record_is_refused),
        RUN(property, a_record_with_changed_bytes_is_refused_or_has_one_meaning),
        RUN(property, bytes_behind_a_record_are_refused),
        RUN(property, what_reading_would_refuse_is_not_written),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
