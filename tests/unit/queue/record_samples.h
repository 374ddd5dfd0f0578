/* Records for test_record.c: the least that is valid, and what a changed byte makes of it. */
#ifndef SMTPD_TESTS_QUEUE_RECORD_SAMPLES_H
#define SMTPD_TESTS_QUEUE_RECORD_SAMPLES_H

#include "record.h"
#include "test.h"

#include <string.h>

enum { ENVELOPE_FIXED = 36, GROUP_FIXED = 36, LONG_TEXT = RECORD_MAX + 1 };

static struct recipient recipients[LIMIT_GROUP_RECIPIENTS + 1];

static struct envelope plain_envelope(void)
{
    return (struct envelope){.sender = "a@b.test", .arrival_ms = 1760000000000};
}

static struct group plain_group(void)
{
    recipients[0] = (struct recipient){.address = "c@d.test"};
    return (struct group){.lane = "d.test",
                          .recipient_count = 1,
                          .recipients = recipients,
                          .last_status = "",
                          .last_text = "",
                          .last_host = ""};
}

static struct bytes envelope_record(const struct envelope *envelope)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    assert_int_equal(record_encode_envelope(envelope, 2, &record), RESULT_OK);
    return record;
}

static struct bytes group_record(const struct group *group)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    assert_int_equal(record_encode_group(group, &record), RESULT_OK);
    return record;
}

static enum result decode_envelope(struct slice record)
{
    struct envelope envelope;
    uint32_t group_count;

    return record_decode_envelope(record, 1, &envelope, &group_count);
}

static enum result decode_group(struct slice record)
{
    struct recipient read[LIMIT_GROUP_RECIPIENTS];
    struct group group;

    return record_decode_group(record, 0, &group, read);
}

/* Another text in the place of the one at `at`. */
static void remake_text(struct bytes *record, size_t at, const char *text)
{
    size_t before = (size_t)(unsigned char)record->data[at] |
                    (size_t)(unsigned char)record->data[at + 1] << 8;
    size_t length = text ? strlen(text) : 0xffff;
    char number[2] = {(char)length, (char)(length >> 8)};
    struct bytes made;

    bytes_init(&made, RECORD_MAX);
    assert_int_equal(bytes_add(&made, slice_part(bytes_view(record), 0, at)), RESULT_OK);
    assert_int_equal(bytes_add(&made, (struct slice){number, 2}), RESULT_OK);
    if (text)
        assert_int_equal(bytes_add(&made, (struct slice){text, length + 1}), RESULT_OK);
    assert_int_equal(bytes_add(&made, slice_from(bytes_view(record), at + 2 + before + 1)),
                     RESULT_OK);
    bytes_fini(record);
    *record = made;
}

/* A record with one byte replaced is refused. */
static void refuses(struct bytes *record, size_t at, int byte)
{
    char before = record->data[at];
    enum result (*decode)(struct slice) =
        record->data[1] == 'e' ? decode_envelope : decode_group;

    assert_int_equal(decode(bytes_view(record)), RESULT_OK);
    assert_true(before != (char)byte);
    record->data[at] = (char)byte;
    assert_int_equal(decode(bytes_view(record)), RESULT_CORRUPT);
    record->data[at] = before;
}

#endif
