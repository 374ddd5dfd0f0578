/* One message: its records decode, its groups keep the limits, its chunks are whole and in
 * order, and the flags of its envelope agree with its bytes. What is broken is told once: what
 * only follows from it is left out. */
#include "verify.h"

#include "facts.h"
#include "heap.h"

#include <stdio.h>
#include <string.h>

/* 2000-01-01, and two years from now: an operator may hold for one, a clock may be wrong. */
static const int64_t TIME_FIRST_MS = 946684800000;
static const int64_t TIME_AHEAD_MS = INT64_C(732) * 86400000;

struct message {
    struct verify *verify;
    uint64_t id;
    bool has_envelope;
    bool is_decoded;
    bool is_draft;
    struct envelope envelope;
    uint32_t group_count;
    uint64_t groups;
    uint64_t recipients;
    /* chunks */
    struct facts facts;
    uint64_t chunks;
    uint64_t bytes;      /* of the run from chunk 0 */
    uint64_t body_bytes; /* of the run from STORE_BODY_CHUNK */
    uint64_t next_chunk;
    uint64_t last_bytes;
    bool is_broken; /* told: what the chunks sum up to is of no use */
};

static void tell(struct message *message, const char *rule, enum raw_table table,
                 const char *text)
{
    verify_tell_at(message->verify, rule, &(struct verify_place){table, message->id, 0, 0},
                   text);
}

static bool is_sane(const struct message *message, int64_t ms)
{
    return ms >= TIME_FIRST_MS && ms <= message->verify->wanted->now_ms + TIME_AHEAD_MS;
}

/* ---- envelope ---- */

static void look_at_envelope(struct message *message, struct slice record)
{
    struct verify *verify = message->verify;

    message->has_envelope = true;
    verify->numbers->messages++;
    if (record_decode_envelope(record, message->id, &message->envelope,
                               &message->group_count) != RESULT_OK) {
        tell(message, "record", RAW_ENVELOPE, "the record does not decode");
        return;
    }
    message->is_decoded = true;
    facts_init(&message->facts, message->envelope.header_bytes);
    if (message->group_count == 0 || message->group_count > LIMIT_RECIPIENTS)
        tell(message, "group-count", RAW_ENVELOPE, "it came in with no group, or too many");
    if (!is_sane(message, message->envelope.arrival_ms))
        tell(message, "time", RAW_ENVELOPE, "the time of its arrival cannot be");
    if (message->envelope.origin && !record_is_origin(slice_of(message->envelope.origin)))
        tell(message, "origin", RAW_ENVELOPE, "the origin has no proper form");
}

/* ---- groups ---- */

static bool is_printable(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == 0x7f)
            return false;
    return true;
}

/* A route, or the domain of all of its recipients. */
static bool fits_lane(const struct group *group)
{
    if (!is_printable(group->lane) || !group->lane[0])
        return false;
    if (strncmp(group->lane, "route:", 6) == 0)
        return group->lane[6] != '\0';
    for (uint32_t i = 0; i < group->recipient_count; i++) {
        const char *at = strrchr(group->recipients[i].address, '@');
        char domain[DOMAIN_TEXT];

        if (at && domain_normalise(slice_of(at + 1), domain) == RESULT_OK &&
            strcmp(domain, group->lane) != 0)
            return false;
    }
    return true;
}

static bool keeps_limits(const struct group *group)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < group->recipient_count; i++)
        bytes += record_recipient_bytes(&group->recipients[i]);
    return group->recipient_count == 1 || bytes <= LIMIT_GROUP_BYTES;
}

/* The broken rule; NULL: none. */
static const char *judge_group(const struct message *message, const struct group *group,
                               const char **text)
{
    if (!keeps_limits(group)) {
        *text = "its recipients are larger than a group may be";
        return "group-limits";
    }
    if (!fits_lane(group)) {
        *text = "the lane is none, or not that of its recipients";
        return "lane";
    }
    *text = "a time of the group cannot be";
    return is_sane(message, group->next_attempt_ms) &&
                   (!group->is_held || is_sane(message, group->not_before_ms)) &&
                   (!group->last_attempt_ms || is_sane(message, group->last_attempt_ms))
               ? NULL
               : "time";
}

static void look_at_group(struct message *message, uint32_t number, struct slice record)
{
    struct verify *verify = message->verify;
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group;
    const char *rule;
    const char *text;

    verify->numbers->groups++;
    message->groups++;
    if (record_decode_group(record, number, &group, recipients) != RESULT_OK) {
        verify_tell_at(verify, "record",
                       &(struct verify_place){RAW_GROUP, message->id, '/', number},
                       "the record does not decode");
        return;
    }
    message->recipients += group.recipient_count;
    verify->numbers->recipients += group.recipient_count;
    rule = judge_group(message, &group, &text);
    if (rule)
        verify_tell_at(verify, rule,
                       &(struct verify_place){RAW_GROUP, message->id, '/', number}, text);
}

static void look_at_groups(struct message *message)
{
    struct verify *verify = message->verify;
    struct walk *walk = &verify->walks[RAW_GROUP];

    for (; !walk->is_over && walk->id == message->id; verify_next(verify, RAW_GROUP)) {
        uint32_t number = store_key_number(&walk->key);

        if (number > ENTRY_GROUP_MAX)
            verify_tell_at(verify, "group-number",
                           &(struct verify_place){RAW_GROUP, message->id, '/', number},
                           "the number is larger than any");
        if (!message->has_envelope)
            verify_tell_at(verify, "no-envelope",
                           &(struct verify_place){RAW_GROUP, message->id, '/', number},
                           "the group has no envelope");
        look_at_group(message, number,
                      (struct slice){walk->data.mv_data, walk->data.mv_size});
    }
    if (message->has_envelope && message->groups == 0)
        tell(message, "no-group", RAW_ENVELOPE, "no group is left of the message");
    if (message->recipients > LIMIT_RECIPIENTS)
        tell(message, "group-limits", RAW_ENVELOPE, "it has more recipients than may be");
}

/* ---- chunks ---- */

static void break_chunks(struct message *message, const char *rule, uint32_t number,
                         const char *text)
{
    message->is_broken = true;
    verify_tell_at(message->verify, rule,
                   &(struct verify_place){RAW_BODY, message->id, '+', number}, text);
}

static void look_at_chunk(struct message *message, uint32_t number, struct slice chunk)
{
    uint64_t full = message->verify->chunk_bytes;
    bool has_two_runs = message->is_draft || message->envelope.is_streamed;
    bool begins_body = has_two_runs && number == STORE_BODY_CHUNK &&
                       message->next_chunk <= STORE_BODY_CHUNK;

    message->verify->numbers->chunks++;
    message->verify->numbers->body_bytes += chunk.length;
    if (message->is_broken)
        return;
    if (!begins_body && number != message->next_chunk)
        break_chunks(message, "chunk-order", number, "a chunk before it is missing");
    else if (chunk.length == 0 || (full > 0 && chunk.length > full))
        break_chunks(message, "chunk-size", number, "it is empty, or too long");
    else if (!begins_body && message->chunks > 0 && full > 0 && message->last_bytes != full)
        break_chunks(message, "chunk-size", number - 1, "it is short, and not the last");
    message->chunks++;
    message->last_bytes = chunk.length;
    message->next_chunk = (uint64_t)number + 1;
    *(number >= STORE_BODY_CHUNK && has_two_runs ? &message->body_bytes
                                                 : &message->bytes) += chunk.length;
    if (message->is_decoded && !message->is_broken)
        facts_add(&message->facts, chunk);
}

static bool has_its_bytes(const struct message *message)
{
    const struct envelope *envelope = &message->envelope;

    if (envelope->is_streamed)
        return message->bytes == envelope->header_bytes &&
               message->body_bytes == envelope->body_bytes;
    return message->bytes == envelope->header_bytes + envelope->body_bytes;
}

static void look_at_bytes(struct message *message)
{
    struct facts_quarrel quarrels[FACTS_QUARRELS];
    size_t count;

    if (!message->is_decoded || message->is_broken)
        return;
    if (!has_its_bytes(message)) {
        tell(message, "length", RAW_BODY,
             "its chunks are not as long as its envelope says");
        return;
    }
    count = facts_compare(&message->facts, &message->envelope, quarrels);
    for (size_t i = 0; i < count; i++)
        tell(message, quarrels[i].rule, RAW_ENVELOPE, quarrels[i].text);
}

static void look_at_body(struct message *message)
{
    struct verify *verify = message->verify;
    struct walk *walk = &verify->walks[RAW_BODY];
    bool has_chunks = false;

    if (message->is_draft)
        message->next_chunk = STORE_BODY_CHUNK;
    else if (!message->is_decoded)
        message->is_broken = true; /* how they should lie is not known */
    for (; !walk->is_over && walk->id == message->id; verify_next(verify, RAW_BODY)) {
        has_chunks = true;
        look_at_chunk(message, store_key_number(&walk->key),
                      (struct slice){walk->data.mv_data, walk->data.mv_size});
    }
    if (has_chunks && !message->has_envelope && !message->is_draft && message->groups == 0)
        tell(message, "no-message", RAW_BODY, "its chunks belong to nothing");
    look_at_bytes(message);
}

static enum raw_table table_of(const struct message *message)
{
    if (message->has_envelope)
        return RAW_ENVELOPE;
    if (message->is_draft)
        return RAW_DRAFT;
    return message->groups > 0 ? RAW_GROUP : RAW_BODY;
}

void verify_message(struct verify *verify, uint64_t id)
{
    struct message message = {.verify = verify, .id = id};
    struct walk *envelope = &verify->walks[RAW_ENVELOPE];
    struct walk *draft = &verify->walks[RAW_DRAFT];
    bool has_envelope = !envelope->is_over && envelope->id == id;

    if (!draft->is_over && draft->id == id) {
        verify->numbers->drafts++;
        verify_next(verify, RAW_DRAFT);
        if (has_envelope)
            tell(&message, "draft", RAW_DRAFT, "it is accepted, and still a draft");
        else
            message.is_draft = true;
    }
    if (has_envelope) {
        look_at_envelope(&message,
                         (struct slice){envelope->data.mv_data, envelope->data.mv_size});
        verify_next(verify, RAW_ENVELOPE);
    }
    look_at_groups(&message);
    look_at_body(&message);
    if (id == 0 || id >= verify->id_limit)
        tell(&message, "id-limit", table_of(&message), "its id was never given");
}
