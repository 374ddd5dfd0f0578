/* The form, all numbers little-endian:
 *
 *   envelope    version u8, kind u8, flags u8, priority u8, longest_line u32,
 *               group_count u32, arrival u64, header_bytes u64, body_bytes u64,
 *               texts: sender, envid, user, tenant, session, from version 2 on: origin,
 *               from version 3 on: pool, tls_wish u8
 *   group       version u8, kind u8, flags u8, 0 u8, attempts u32, next u64,
 *               not_before u64, last_attempt u64, last_code u16, recipient_count u16,
 *               texts: lane, last_status, last_text, last_host,
 *               recipients: notify u8, texts: address, orcpt
 *   text        length u16 (0xffff: NULL), bytes, NUL
 *
 * Texts carry a NUL so that a decoded record needs no copies: structs point into it. A form
 * with field numbers was rejected: a record is rewritten at every deferral and read by one
 * version of this file; the version byte is for those to come. Records of older versions are
 * read as they are. */
#include "record.h"

#include <stdio.h>
#include <string.h>

enum { KIND_ENVELOPE = 'e', KIND_GROUP = 'g', TEXT_NONE = 0xffff };
enum {
    ENVELOPE_VERSION = 3,
    ENVELOPE_WITHOUT_ORIGIN = 1,
    ENVELOPE_WITHOUT_POOL = 2, /* and without a wish */
    GROUP_VERSION = 1
};

enum {
    FLAG_SMTPUTF8 = 1,
    FLAG_8BIT = 2,
    FLAG_DOT_LINE = 4,
    FLAG_STREAMED = 8,
    FLAG_BODY_8BIT = 16
};
enum { RETURN_SHIFT = 5, FLAG_RETURN = 3 << RETURN_SHIFT };
enum { TIME_BITS = 53, SIZE_BITS = 48 };
enum { FLAG_HELD = 1, FLAG_DELAY_NOTIFIED = 2 };

/* ---- writing ---- */

struct writer {
    char data[RECORD_MAX];
    size_t length;
    bool is_full;
    bool is_wrong; /* reading would refuse it */
};

static void put(struct writer *writer, const void *data, size_t length)
{
    if (writer->is_full || length > sizeof writer->data - writer->length) {
        writer->is_full = true;
        return;
    }
    if (length)
        memcpy(writer->data + writer->length, data, length);
    writer->length += length;
}

static void put_number(struct writer *writer, uint64_t value, size_t bytes)
{
    unsigned char text[8];

    for (size_t i = 0; i < bytes; i++)
        text[i] = (unsigned char)(value >> (8 * i));
    put(writer, text, bytes);
}

static void put_text(struct writer *writer, const char *text)
{
    size_t length = text ? strlen(text) : 0;

    if (!text) {
        put_number(writer, TEXT_NONE, 2);
        return;
    }
    if (length >= TEXT_NONE) {
        writer->is_full = true;
        return;
    }
    put_number(writer, length, 2);
    put(writer, text, length + 1);
}

/* One that may not be NULL. */
static void put_needed_text(struct writer *writer, const char *text)
{
    if (!text)
        writer->is_wrong = true;
    put_text(writer, text);
}

static void put_bounded(struct writer *writer, uint64_t value, unsigned bits)
{
    if (value >> bits)
        writer->is_wrong = true;
    put_number(writer, value, 8);
}

static enum result writer_end(const struct writer *writer, struct bytes *into)
{
    if (writer->is_wrong)
        return RESULT_INVALID;
    if (writer->is_full)
        return RESULT_TOO_LARGE;
    return bytes_add(into, (struct slice){writer->data, writer->length});
}

enum result record_encode_envelope(const struct envelope *envelope, uint32_t group_count,
                                   struct bytes *into)
{
    struct writer writer;
    unsigned flags = (unsigned)envelope->dsn_return << RETURN_SHIFT;

    writer.length = 0;
    writer.is_full = false;
    writer.is_wrong =
        envelope->dsn_return > RETURN_HEADERS || envelope->tls_wish >= TLS_WISH_COUNT;
    flags |= envelope->smtputf8 ? FLAG_SMTPUTF8 : 0;
    flags |= envelope->has_8bit ? FLAG_8BIT : 0;
    flags |= envelope->has_dot_line ? FLAG_DOT_LINE : 0;
    flags |= envelope->is_streamed ? FLAG_STREAMED : 0;
    flags |= envelope->body_type == BODY_8BITMIME ? FLAG_BODY_8BIT : 0;
    put_number(&writer, ENVELOPE_VERSION, 1);
    put_number(&writer, KIND_ENVELOPE, 1);
    put_number(&writer, flags, 1);
    put_number(&writer, (uint8_t)envelope->priority, 1);
    put_number(&writer, envelope->longest_line, 4);
    put_number(&writer, group_count, 4);
    put_bounded(&writer, (uint64_t)envelope->arrival_ms, TIME_BITS);
    put_bounded(&writer, envelope->header_bytes, SIZE_BITS);
    put_bounded(&writer, envelope->body_bytes, SIZE_BITS);
    put_needed_text(&writer, envelope->sender);
    put_text(&writer, envelope->envid);
    put_text(&writer, envelope->user);
    put_text(&writer, envelope->tenant);
    put_text(&writer, envelope->session);
    put_text(&writer, envelope->origin);
    put_text(&writer, envelope->pool);
    put_number(&writer, (uint64_t)envelope->tls_wish, 1);
    return writer_end(&writer, into);
}

size_t record_recipient_bytes(const struct recipient *recipient)
{
    return 7 + strlen(recipient->address) +
           (recipient->orcpt ? strlen(recipient->orcpt) : 0);
}

enum result record_encode_group(const struct group *group, struct bytes *into)
{
    struct writer writer;

    if (group->recipient_count == 0 || group->recipient_count > LIMIT_GROUP_RECIPIENTS)
        return RESULT_TOO_LARGE;
    writer.length = 0;
    writer.is_full = writer.is_wrong = false;
    put_number(&writer, GROUP_VERSION, 1);
    put_number(&writer, KIND_GROUP, 1);
    put_number(&writer,
               (group->is_held ? FLAG_HELD : 0U) |
                   (group->delay_notified ? FLAG_DELAY_NOTIFIED : 0U),
               1);
    put_number(&writer, 0, 1);
    put_number(&writer, group->attempts, 4);
    put_bounded(&writer, (uint64_t)group->next_attempt_ms, TIME_BITS);
    put_bounded(&writer, (uint64_t)group->not_before_ms, TIME_BITS);
    put_bounded(&writer, (uint64_t)group->last_attempt_ms, TIME_BITS);
    put_number(&writer, group->last_code, 2);
    put_number(&writer, group->recipient_count, 2);
    put_needed_text(&writer, group->lane);
    put_needed_text(&writer, group->last_status);
    put_needed_text(&writer, group->last_text);
    put_needed_text(&writer, group->last_host);
    if (group->lane && strlen(group->lane) >= LANE_TEXT)
        writer.is_wrong = true;
    for (uint32_t i = 0; i < group->recipient_count; i++) {
        if (group->recipients[i].address && !group->recipients[i].address[0])
            writer.is_wrong = true;
        put_number(&writer, group->recipients[i].notify, 1);
        put_needed_text(&writer, group->recipients[i].address);
        put_text(&writer, group->recipients[i].orcpt);
    }
    return writer_end(&writer, into);
}

/* ---- reading ---- */

/* Sticky: after the first thing that is wrong every call gives nothing. */
struct reader {
    struct slice rest;
    bool is_corrupt;
};

static uint64_t take_number(struct reader *reader, size_t bytes)
{
    uint64_t value = 0;

    if (reader->is_corrupt || reader->rest.length < bytes) {
        reader->is_corrupt = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)(unsigned char)reader->rest.data[i] << (8 * i);
    reader->rest = slice_from(reader->rest, bytes);
    return value;
}

/* Sums and differences of times are computed everywhere: keep them far from an overflow. */
static int64_t take_time(struct reader *reader)
{
    uint64_t value = take_number(reader, 8);

    if (value >> TIME_BITS)
        reader->is_corrupt = true;
    return reader->is_corrupt ? 0 : (int64_t)value;
}

static const char *take_optional_text(struct reader *reader)
{
    size_t length = (size_t)take_number(reader, 2);
    const char *text = reader->rest.data;

    if (reader->is_corrupt || length == TEXT_NONE)
        return NULL;
    if (reader->rest.length < length + 1 || memchr(text, 0, length + 1) != text + length) {
        reader->is_corrupt = true;
        return NULL;
    }
    reader->rest = slice_from(reader->rest, length + 1);
    return text;
}

static const char *take_text(struct reader *reader)
{
    const char *text = take_optional_text(reader);

    if (text)
        return text;
    reader->is_corrupt = true;
    return "";
}

static struct reader reader_start(struct slice record, uint64_t kind, uint64_t newest,
                                  uint64_t *version)
{
    struct reader reader = {.rest = record};

    *version = take_number(&reader, 1);
    if (*version < 1 || *version > newest)
        reader.is_corrupt = true;
    if (take_number(&reader, 1) != kind)
        reader.is_corrupt = true;
    return reader;
}

static enum result reader_end(const struct reader *reader)
{
    return reader->is_corrupt || reader->rest.length > 0 ? RESULT_CORRUPT : RESULT_OK;
}

static enum tls_wish take_wish(struct reader *reader)
{
    uint64_t wish = take_number(reader, 1);

    if (wish >= TLS_WISH_COUNT)
        reader->is_corrupt = true;
    return reader->is_corrupt ? TLS_WISH_NONE : (enum tls_wish)wish;
}

enum result record_decode_envelope(struct slice record, uint64_t id,
                                   struct envelope *envelope, uint32_t *group_count)
{
    uint64_t version;
    struct reader reader = reader_start(record, KIND_ENVELOPE, ENVELOPE_VERSION, &version);
    unsigned flags = (unsigned)take_number(&reader, 1);
    unsigned dsn_return = (flags & FLAG_RETURN) >> RETURN_SHIFT;

    *envelope = (struct envelope){.id = id};
    if (dsn_return > RETURN_HEADERS || flags >> 7)
        reader.is_corrupt = true;
    else
        envelope->dsn_return = (enum dsn_return)dsn_return;
    envelope->smtputf8 = flags & FLAG_SMTPUTF8;
    envelope->has_8bit = flags & FLAG_8BIT;
    envelope->has_dot_line = flags & FLAG_DOT_LINE;
    envelope->is_streamed = flags & FLAG_STREAMED;
    envelope->body_type = flags & FLAG_BODY_8BIT ? BODY_8BITMIME : BODY_7BIT;
    envelope->priority = (int8_t)take_number(&reader, 1);
    envelope->longest_line = (uint32_t)take_number(&reader, 4);
    *group_count = (uint32_t)take_number(&reader, 4);
    envelope->arrival_ms = take_time(&reader);
    envelope->header_bytes = take_number(&reader, 8);
    envelope->body_bytes = take_number(&reader, 8);
    envelope->sender = take_text(&reader);
    envelope->envid = take_optional_text(&reader);
    envelope->user = take_optional_text(&reader);
    envelope->tenant = take_optional_text(&reader);
    envelope->session = take_optional_text(&reader);
    if (version > ENVELOPE_WITHOUT_ORIGIN)
        envelope->origin = take_optional_text(&reader);
    if (version > ENVELOPE_WITHOUT_POOL) {
        envelope->pool = take_optional_text(&reader);
        envelope->tls_wish = take_wish(&reader);
    }
    if (envelope->pool && strlen(envelope->pool) > LIMIT_POOL_NAME)
        reader.is_corrupt = true; /* or it would wait as another one */
    if (envelope->header_bytes >> SIZE_BITS || envelope->body_bytes >> SIZE_BITS)
        reader.is_corrupt = true;
    return reader_end(&reader);
}

enum result record_decode_group(struct slice record, uint32_t number, struct group *group,
                                struct recipient *recipients)
{
    uint64_t version;
    struct reader reader = reader_start(record, KIND_GROUP, GROUP_VERSION, &version);
    unsigned flags = (unsigned)take_number(&reader, 1);

    *group = (struct group){.number = number, .recipients = recipients};
    if (flags & ~(unsigned)(FLAG_HELD | FLAG_DELAY_NOTIFIED) ||
        take_number(&reader, 1) != 0)
        reader.is_corrupt = true;
    group->is_held = flags & FLAG_HELD;
    group->delay_notified = flags & FLAG_DELAY_NOTIFIED;
    group->attempts = (uint32_t)take_number(&reader, 4);
    group->next_attempt_ms = take_time(&reader);
    group->not_before_ms = take_time(&reader);
    group->last_attempt_ms = take_time(&reader);
    group->last_code = (uint16_t)take_number(&reader, 2);
    group->recipient_count = (uint32_t)take_number(&reader, 2);
    if (group->recipient_count == 0 || group->recipient_count > LIMIT_GROUP_RECIPIENTS)
        reader.is_corrupt = true;
    group->lane = take_text(&reader);
    group->last_status = take_text(&reader);
    group->last_text = take_text(&reader);
    group->last_host = take_text(&reader);
    if (!reader.is_corrupt && strlen(group->lane) >= LANE_TEXT)
        reader.is_corrupt = true;
    for (uint32_t i = 0; i < group->recipient_count && !reader.is_corrupt; i++) {
        recipients[i].notify = (uint8_t)take_number(&reader, 1);
        recipients[i].address = take_text(&reader);
        recipients[i].orcpt = take_optional_text(&reader);
        if (!*recipients[i].address)
            reader.is_corrupt = true;
    }
    return reader_end(&reader);
}

/* ---- holds ---- */

bool group_is_held(const struct group *group, int64_t now_ms)
{
    return group->is_held && group->not_before_ms > now_ms;
}

int64_t record_due_ms(const struct group *group, int64_t expiry_ms)
{
    int64_t until_ms = group->not_before_ms < expiry_ms ? group->not_before_ms : expiry_ms;

    return group->is_held && until_ms > group->next_attempt_ms ? until_ms
                                                               : group->next_attempt_ms;
}

/* ---- origins ---- */

void record_print_origin(uint64_t queue_id, uint64_t id, char text[ORIGIN_TEXT])
{
    char name[ID_TEXT];

    id_print(id, name);
    (void)snprintf(text, ORIGIN_TEXT, "%016llx/%s", (unsigned long long)queue_id, name);
}

bool record_is_origin(struct slice text)
{
    uint64_t id;

    if (text.length != ORIGIN_TEXT - 1 || text.data[16] != '/')
        return false;
    for (int i = 0; i < 16; i++)
        if (!strchr("0123456789abcdef", text.data[i]) || !text.data[i])
            return false;
    return id_parse(text.data + 17, ID_TEXT - 1, &id);
}
