/* The object in a moved message's file: what its records say, in words. */
#include "transfer.h"

#include "facts.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"
#include "store_inner.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char zeros[] =
    "\"digest\":\"00000000000000000000000000000000000000000000000000"
    "00000000000000\"";
static const char *const wishes[] = {[TLS_WISH_NONE] = "none",
                                     [TLS_WISH_REQUIRED] = "required",
                                     [TLS_WISH_WAIVED] = "waived"};
static const char *const returns[] = {
    [RETURN_UNSPECIFIED] = "", [RETURN_FULL] = "FULL", [RETURN_HEADERS] = "HDRS"};
static const struct {
    const char *name;
    uint8_t bit;
} notifies[] = {{"NEVER", NOTIFY_NEVER},
                {"SUCCESS", NOTIFY_SUCCESS},
                {"FAILURE", NOTIFY_FAILURE},
                {"DELAY", NOTIFY_DELAY}};
enum { NOTIFIES = sizeof notifies / sizeof *notifies };

/* ---- writing ---- */

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

/* What another host said, for people: bytes that are no UTF-8 are not worth a message. */
static json_t *any_text(const char *text)
{
    json_t *json = json_string(text);
    char *plain;

    if (json)
        return json;
    plain = memory_text(text);
    for (char *at = plain; *at; at++)
        if ((unsigned char)*at & 0x80)
            *at = '?';
    json = json_string(plain);
    memory_free(plain);
    return json;
}

static json_t *moment(int64_t ms)
{
    char text[MOMENT_TEXT];

    if (ms <= 0)
        return json_null();
    moment_rfc3339(ms * 1000, text);
    return json_string(text);
}

void transfer_begin(struct transfer_writer *writer)
{
    *writer = (struct transfer_writer){.groups = json_array()};
}

void transfer_set_envelope(struct transfer_writer *writer, uint64_t queue_id,
                           const struct envelope *envelope)
{
    char origin[ORIGIN_TEXT];
    char id[ID_TEXT];

    id_print(envelope->id, id);
    record_print_origin(queue_id, envelope->id, origin);
    writer->root = json_pack(
        "{s:s,s:s,s:o,s:o,s:o,s:o,s:s,s:b,s:o,s:o,s:o,s:o,s:i,s:o}", "id", id, "origin",
        origin, "imported_from", text_or_null(envelope->origin), "sender",
        json_string(envelope->sender), "envid", text_or_null(envelope->envid), "ret",
        text_or_null(envelope->dsn_return ? returns[envelope->dsn_return] : NULL), "body",
        envelope->body_type == BODY_8BITMIME ? "8BITMIME" : "7BIT", "smtputf8",
        (int)envelope->smtputf8, "user", text_or_null(envelope->user), "tenant",
        text_or_null(envelope->tenant), "pool", text_or_null(envelope->pool), "session",
        text_or_null(envelope->session), "priority", (int)envelope->priority, "arrival",
        moment(envelope->arrival_ms));
    if (!writer->root ||
        json_object_update_new(
            writer->root,
            json_pack("{s:s,s:I,s:I,s:b,s:b,s:I,s:s}", "tls", wishes[envelope->tls_wish],
                      "header_bytes", (json_int_t)envelope->header_bytes, "body_bytes",
                      (json_int_t)envelope->body_bytes, "has_8bit", (int)envelope->has_8bit,
                      "has_dot_line", (int)envelope->has_dot_line, "longest_line",
                      (json_int_t)envelope->longest_line, "digest", "")) != 0)
        writer->is_wrong = true;
}

static json_t *notify_json(uint8_t notify)
{
    json_t *list = json_array();

    for (size_t i = 0; i < NOTIFIES; i++)
        if (notify & notifies[i].bit)
            (void)json_array_append_new(list, json_string(notifies[i].name));
    return list;
}

void transfer_add_group(struct transfer_writer *writer, const struct group *group)
{
    json_t *recipients = json_array();
    json_t *json;

    for (uint32_t i = 0; i < group->recipient_count; i++) {
        const struct recipient *recipient = &group->recipients[i];

        if (json_array_append_new(recipients,
                                  json_pack("{s:o,s:o,s:o}", "address",
                                            json_string(recipient->address), "orcpt",
                                            text_or_null(recipient->orcpt), "notify",
                                            notify_json(recipient->notify))) != 0)
            writer->is_wrong = true;
    }
    json =
        json_pack("{s:i,s:o,s:o,s:I,s:o,s:b,s:{s:i,s:o,s:o,s:o,s:o},s:o}", "number",
                  (int)group->number, "lane", json_string(group->lane), "next_attempt",
                  moment(group->next_attempt_ms), "attempts", (json_int_t)group->attempts,
                  "held_until", group->is_held ? moment(group->not_before_ms) : json_null(),
                  "delay_notified", (int)group->delay_notified, "last", "code",
                  (int)group->last_code, "status", any_text(group->last_status), "text",
                  any_text(group->last_text), "host", any_text(group->last_host), "time",
                  moment(group->last_attempt_ms), "recipients", recipients);
    if (json_array_append_new(writer->groups, json) != 0)
        writer->is_wrong = true;
}

void transfer_hex(const uint8_t digest[32], char text[2 * 32 + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 32; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[64] = '\0';
}

static char *dump(struct transfer_writer *writer, size_t *length, size_t *digest_at)
{
    struct slice value = slice_part((struct slice){zeros, sizeof zeros - 1}, 10, 64);
    char *text;
    char *copy;
    const char *found;

    if (writer->is_wrong || !writer->root ||
        json_object_set_new(writer->root, "digest", json_stringn(value.data, value.length)))
        return NULL;
    text = json_dumps(writer->root, JSON_COMPACT);
    if (!text)
        return NULL;
    copy = memory_text(text);
    free(text); /* jansson's, from malloc */
    /* A quote inside of a text is escaped: this is the member. */
    found = strstr(copy, zeros);
    *digest_at = found ? (size_t)(found - copy) + 10 : 0;
    *length = strlen(copy);
    return copy;
}

char *transfer_end(struct transfer_writer *writer, size_t *length, size_t *digest_at)
{
    char *text;

    if (writer->root)
        (void)json_object_set(writer->root, "groups", writer->groups);
    text = dump(writer, length, digest_at);
    json_decref(writer->root);
    json_decref(writer->groups);
    return text;
}

/* ---- reading ---- */

struct reader {
    const char *wrong; /* the first member that is; NULL: none so far */
};

/* One line of text without a NUL, or NULL where that may be. */
static const char *take_text(struct reader *reader, const json_t *object, const char *name,
                             size_t most)
{
    const json_t *json = json_object_get(object, name);
    const char *text = json_string_value(json);

    if (!text || json_string_length(json) > most ||
        strlen(text) != json_string_length(json)) {
        reader->wrong = reader->wrong ? reader->wrong : name;
        return "";
    }
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            reader->wrong = reader->wrong ? reader->wrong : name;
    return text;
}

static const char *take_optional_text(struct reader *reader, const json_t *object,
                                      const char *name, size_t most)
{
    return json_is_null(json_object_get(object, name))
               ? NULL
               : take_text(reader, object, name, most);
}

static int64_t take_number(struct reader *reader, const json_t *object, const char *name,
                           int64_t most)
{
    const json_t *json = json_object_get(object, name);
    int64_t number = json_integer_value(json);

    if (json_is_integer(json) && number >= 0 && number <= most)
        return number;
    reader->wrong = reader->wrong ? reader->wrong : name;
    return 0;
}

static int8_t take_priority(struct reader *reader, const json_t *object)
{
    const json_t *json = json_object_get(object, "priority");
    int64_t number = json_integer_value(json);

    if (json_is_integer(json) && number >= INT8_MIN && number <= INT8_MAX)
        return (int8_t)number;
    reader->wrong = reader->wrong ? reader->wrong : "priority";
    return 0;
}

static bool take_bool(struct reader *reader, const json_t *object, const char *name)
{
    const json_t *json = json_object_get(object, name);

    if (!json_is_boolean(json))
        reader->wrong = reader->wrong ? reader->wrong : name;
    return json_is_true(json);
}

static int64_t take_moment(struct reader *reader, const json_t *object, const char *name)
{
    const char *text = take_optional_text(reader, object, name, MOMENT_TEXT);
    int64_t ms = 0;

    if (text && moment_parse(slice_of(text), &ms) != RESULT_OK)
        reader->wrong = reader->wrong ? reader->wrong : name;
    return ms;
}

/* Which of the names it is; 0 where it is null. */
static unsigned take_word(struct reader *reader, const json_t *object, const char *name,
                          const char *const *words, unsigned count)
{
    const char *text = take_optional_text(reader, object, name, 16);

    for (unsigned i = 0; text && i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    if (text)
        reader->wrong = reader->wrong ? reader->wrong : name;
    return 0;
}

static void take_envelope(struct reader *reader, const json_t *root,
                          struct transfer *transfer)
{
    static const char *const bodies[] = {
        [BODY_7BIT] = "7BIT", [BODY_8BITMIME] = "8BITMIME"};
    struct envelope *envelope = &transfer->envelope;
    const char *id = take_text(reader, root, "id", ID_TEXT - 1);
    const char *origin = take_text(reader, root, "origin", ORIGIN_TEXT - 1);

    if (!id_parse(id, strlen(id), &envelope->id))
        reader->wrong = "id";
    if (!record_is_origin(slice_of(origin)) || strcmp(origin + 17, id) != 0)
        reader->wrong = "origin";
    (void)slice_copy_text(slice_of(origin), transfer->origin, ORIGIN_TEXT);
    envelope->origin = transfer->origin;
    envelope->sender = take_text(reader, root, "sender", LIMIT_ADDRESS);
    envelope->envid = take_optional_text(reader, root, "envid", LIMIT_ENVID);
    envelope->dsn_return = (enum dsn_return)take_word(reader, root, "ret", returns, 3);
    envelope->body_type = (enum body_type)take_word(reader, root, "body", bodies, 2);
    envelope->smtputf8 = take_bool(reader, root, "smtputf8");
    if (json_object_get(root, "tls")) /* files of earlier versions have none */
        envelope->tls_wish =
            (enum tls_wish)take_word(reader, root, "tls", wishes, TLS_WISH_COUNT);
    envelope->user = take_optional_text(reader, root, "user", LIMIT_USER_NAME);
    envelope->tenant = take_optional_text(reader, root, "tenant", LIMIT_USER_NAME);
    if (json_object_get(root, "pool")) /* files of older versions have none */
        envelope->pool = take_optional_text(reader, root, "pool", LIMIT_POOL_NAME);
    envelope->session = take_optional_text(reader, root, "session", 64);
    envelope->priority = take_priority(reader, root);
    envelope->arrival_ms = take_moment(reader, root, "arrival");
    envelope->header_bytes = (uint64_t)take_number(reader, root, "header_bytes", 1 << 30);
    envelope->body_bytes =
        (uint64_t)take_number(reader, root, "body_bytes", INT64_C(1) << 40);
    envelope->has_8bit = take_bool(reader, root, "has_8bit");
    envelope->has_dot_line = take_bool(reader, root, "has_dot_line");
    envelope->longest_line =
        (uint32_t)take_number(reader, root, "longest_line", UINT32_MAX);
    if (!slice_copy_text(slice_of(take_text(reader, root, "digest", 64)), transfer->digest,
                         sizeof transfer->digest) ||
        envelope->arrival_ms <= 0)
        reader->wrong = reader->wrong ? reader->wrong : "arrival";
}

static void take_recipient(struct reader *reader, const json_t *json,
                           struct recipient *recipient)
{
    const json_t *notify = json_object_get(json, "notify");

    recipient->address = take_text(reader, json, "address", LIMIT_ADDRESS);
    recipient->orcpt = take_optional_text(reader, json, "orcpt", LIMIT_ORCPT);
    if (!recipient->address[0])
        reader->wrong = reader->wrong ? reader->wrong : "address";
    for (size_t i = 0; i < json_array_size(notify); i++) {
        const char *word = json_string_value(json_array_get(notify, i));
        uint8_t bit = 0;

        for (size_t k = 0; word && k < NOTIFIES; k++)
            if (strcmp(word, notifies[k].name) == 0)
                bit = notifies[k].bit;
        if (!bit)
            reader->wrong = reader->wrong ? reader->wrong : "notify";
        recipient->notify |= bit;
    }
    if (!json_is_array(notify))
        reader->wrong = reader->wrong ? reader->wrong : "notify";
}

static void take_group(struct reader *reader, const json_t *json,
                       struct transfer_group *into)
{
    const json_t *recipients = json_object_get(json, "recipients");
    const json_t *last = json_object_get(json, "last");
    struct group *group = &into->group;
    size_t count = json_array_size(recipients);

    if (count < 1 || count > LIMIT_GROUP_RECIPIENTS) {
        reader->wrong = reader->wrong ? reader->wrong : "recipients";
        return;
    }
    into->recipients = NEW_ARRAY(struct recipient, count);
    group->recipients = into->recipients;
    group->recipient_count = (uint32_t)count;
    group->lane = take_text(reader, json, "lane", LANE_TEXT - 1);
    group->next_attempt_ms = take_moment(reader, json, "next_attempt");
    group->attempts = (uint32_t)take_number(reader, json, "attempts", UINT32_MAX);
    group->not_before_ms = take_moment(reader, json, "held_until");
    group->is_held = group->not_before_ms > 0;
    group->delay_notified = take_bool(reader, json, "delay_notified");
    group->last_code = (uint16_t)take_number(reader, last, "code", 999);
    group->last_status = take_text(reader, last, "status", 32);
    group->last_text = take_text(reader, last, "text", GROUP_REPLY_TEXT);
    group->last_host = take_text(reader, last, "host", LIMIT_DOMAIN);
    group->last_attempt_ms = take_moment(reader, last, "time");
    for (size_t i = 0; i < count; i++)
        take_recipient(reader, json_array_get(recipients, i), &into->recipients[i]);
}

enum result transfer_decode(struct slice text, struct transfer *transfer,
                            struct fault *fault)
{
    struct reader reader = {NULL};
    json_error_t error;
    json_t *root = json_loadb(text.data, text.length, 0, &error);
    const json_t *groups = json_object_get(root, "groups");
    size_t count = json_array_size(groups);

    memset(transfer, 0, sizeof *transfer);
    transfer->json = root;
    if (!json_is_object(root))
        return fault_set(fault, RESULT_INVALID, "the head is no JSON: %s", error.text);
    take_envelope(&reader, root, transfer);
    if (count < 1 || count > LIMIT_RECIPIENTS)
        return fault_set(fault, RESULT_INVALID, "it has no groups, or too many");
    transfer->groups = NEW_ARRAY(struct transfer_group, count);
    transfer->group_count = count;
    for (size_t i = 0; i < count; i++) {
        transfer->groups[i].group.number = (uint32_t)i;
        take_group(&reader, json_array_get(groups, i), &transfer->groups[i]);
    }
    return reader.wrong ? fault_set(fault, RESULT_INVALID,
                                    "\"%s\" is missing in its head, or wrong", reader.wrong)
                        : RESULT_OK;
}

void transfer_fini(struct transfer *transfer)
{
    for (size_t i = 0; i < transfer->group_count; i++)
        memory_free(transfer->groups[i].recipients);
    memory_free(transfer->groups);
    json_decref(transfer->json);
}
