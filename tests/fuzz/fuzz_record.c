/* Stored records from bytes of anyone: what the decoders accept lies inside of the record,
 * keeps the limits that the queue counts on, and is the one form of its values: encoding
 * gives the same bytes again. */
#include "queue/record.h"

#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sums of two of these never overflow. */
static const int64_t TIME_MOST = INT64_C(1) << 53;
static const uint64_t SIZE_MOST = UINT64_C(1) << 48;

/* The text and its NUL. */
static void check_inside(struct slice record, const char *text)
{
    const char *end = record.data + record.length;

    if (!text)
        return;
    CHECK(text >= record.data && text < end);
    CHECK(memchr(text, 0, (size_t)(end - text)));
}

static void check_again(struct slice record, struct bytes *again, enum result result)
{
    CHECK(result == (record.length > RECORD_MAX ? RESULT_TOO_LARGE : RESULT_OK));
    CHECK(result != RESULT_OK || slice_equal(bytes_view(again), record));
    bytes_fini(again);
}

static void check_envelope(struct slice record)
{
    struct envelope envelope;
    struct bytes again;
    uint32_t group_count;

    if (record_decode_envelope(record, 7, &envelope, &group_count) != RESULT_OK)
        return;
    CHECK(envelope.id == 7 && envelope.sender);
    check_inside(record, envelope.sender);
    check_inside(record, envelope.envid);
    check_inside(record, envelope.user);
    check_inside(record, envelope.tenant);
    check_inside(record, envelope.session);
    check_inside(record, envelope.origin);
    check_inside(record, envelope.pool);
    CHECK(envelope.dsn_return <= RETURN_HEADERS && envelope.body_type <= BODY_8BITMIME);
    CHECK(envelope.arrival_ms >= 0 && envelope.arrival_ms < TIME_MOST);
    CHECK(envelope.header_bytes < SIZE_MOST && envelope.body_bytes < SIZE_MOST);
    bytes_init(&again, RECORD_MAX);
    if (record.data[0] < 3) { /* no pool, no origin: written anew as version 3 */
        CHECK(!envelope.pool && (record.data[0] == 2 || !envelope.origin));
        CHECK(record_encode_envelope(&envelope, group_count, &again) ==
              (record.length + (size_t)(6 - 2 * record.data[0]) > RECORD_MAX
                   ? RESULT_TOO_LARGE
                   : RESULT_OK));
        bytes_fini(&again);
        return;
    }
    check_again(record, &again, record_encode_envelope(&envelope, group_count, &again));
}

static void check_group(struct slice record)
{
    static struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group;
    struct bytes again;

    if (record_decode_group(record, 3, &group, recipients) != RESULT_OK)
        return;
    CHECK(group.number == 3 && group.recipients == recipients);
    CHECK(group.recipient_count > 0 && group.recipient_count <= LIMIT_GROUP_RECIPIENTS);
    check_inside(record, group.lane);
    check_inside(record, group.last_status);
    check_inside(record, group.last_text);
    check_inside(record, group.last_host);
    CHECK(group.lane && group.last_status && group.last_text && group.last_host);
    CHECK(strlen(group.lane) < LANE_TEXT);
    CHECK(group.next_attempt_ms >= 0 && group.next_attempt_ms < TIME_MOST);
    CHECK(group.not_before_ms >= 0 && group.not_before_ms < TIME_MOST);
    CHECK(group.last_attempt_ms >= 0 && group.last_attempt_ms < TIME_MOST);
    for (uint32_t i = 0; i < group.recipient_count; i++) {
        check_inside(record, recipients[i].address);
        check_inside(record, recipients[i].orcpt);
        CHECK(recipients[i].address && recipients[i].address[0]);
    }
    bytes_init(&again, RECORD_MAX);
    check_again(record, &again, record_encode_group(&group, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice record = {(const char *)data, size};

    check_envelope(record);
    check_group(record);
    return 0;
}
