/* The queue over HTTP: list in pages, one message with the reasons why it waits. */
#include "request.h"
#include "selection.h"
#include "why.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

struct listing {
    struct request *request;
    struct selection selection;
    struct queue_visit *visit;
    json_t *items;
    size_t limit;
    uint64_t first_id;
    uint32_t first_group;
    bool is_one_message; /* show: only first_id, with reasons */
    char next[ID_TEXT];
    uint32_t next_group;
    int64_t now_ms;
};

static json_t *recipients_json(const struct group *group)
{
    json_t *recipients = json_array();

    for (uint32_t i = 0; i < group->recipient_count; i++)
        (void)json_array_append_new(recipients, request_text(group->recipients[i].address));
    return recipients;
}

static const char *state_name(const struct listing *listing,
                              const struct envelope *envelope, const struct group *group)
{
    if (queue_is_leased(listing->request->rooms->queue, envelope->id, group->number))
        return "active";
    return group_is_held(group, listing->now_ms) ? "held" : "waiting";
}

static json_t *text_or_null(const char *text)
{
    return text && text[0] ? request_text(text) : json_null();
}

/* 0: it is not held. */
static json_int_t held_until(const struct listing *listing, const struct envelope *envelope,
                             const struct group *group)
{
    return group_is_held(group, listing->now_ms)
               ? (json_int_t)why_held_until(listing->request->rooms, envelope, group)
               : 0;
}

static json_t *group_json(const struct listing *listing, const struct envelope *envelope,
                          const struct group *group)
{
    char id[ID_TEXT];
    json_int_t size;

    id_print(envelope->id, id);
    size = (json_int_t)envelope->header_bytes + (json_int_t)envelope->body_bytes;
    return json_pack(
        "{s:s,s:i,s:o,s:o,s:o,s:I,s:I,s:i,s:s,s:I,s:I,s:o,s:o,s:o,s:{s:i,s:o,s:o,s:o,s:I}}",
        "id", id, "group", (int)group->number, "lane", request_text(group->lane), "sender",
        request_text(envelope->sender), "recipients", recipients_json(group), "arrival_ms",
        (json_int_t)envelope->arrival_ms, "next_attempt_ms",
        (json_int_t)group->next_attempt_ms, "attempts", (int)group->attempts, "state",
        state_name(listing, envelope, group), "held_until_ms",
        held_until(listing, envelope, group), "size", size, "user",
        text_or_null(envelope->user), "tenant", text_or_null(envelope->tenant), "pool",
        text_or_null(envelope->pool), "last", "code", (int)group->last_code, "status",
        text_or_null(group->last_status), "text", text_or_null(group->last_text), "host",
        text_or_null(group->last_host), "time_ms", (json_int_t)group->last_attempt_ms);
}

/* What the last answer tells, by the rules of today. Words of our own have no host. */
static void add_class(const struct listing *listing, json_t *item,
                      const struct group *group)
{
    struct class_reply reply = {group->last_code, group->last_status, group->last_text,
                                group->last_host};
    const struct deliver *deliver = listing->request->rooms->deliver;

    if (group->last_host[0])
        (void)json_object_set_new(
            json_object_get(item, "last"), "class",
            json_string(deliver_class_name(deliver_classify(deliver, &reply))));
}

/* ---- list and show ---- */

static bool source_fits(const struct listing *listing, const struct envelope *envelope,
                        const struct group *group)
{
    const char *source = listing->selection.source;

    return !source[0] || deliver_may_leave_by(listing->request->rooms->deliver, source,
                                              group->lane, envelope);
}

static bool listing_visit(void *owner, const struct envelope *envelope,
                          const struct group *group)
{
    struct listing *listing = owner;
    struct queue *queue = listing->request->rooms->queue;
    json_t *item;

    if (listing->is_one_message && envelope->id != listing->first_id)
        return false;
    if (envelope->id == listing->first_id && group->number < listing->first_group)
        return true;
    if (!selection_fits(&listing->selection, queue, listing->now_ms, envelope, group) ||
        !source_fits(listing, envelope, group))
        return true;
    if (json_array_size(listing->items) >= listing->limit) {
        id_print(envelope->id, listing->next);
        listing->next_group = group->number;
        return false;
    }
    item = group_json(listing, envelope, group);
    if (item && listing->is_one_message) {
        add_class(listing, item, group);
        (void)json_object_set_new(item, "why",
                                  why_json(listing->request->rooms, envelope, group));
    }
    (void)json_array_append_new(listing->items, item);
    return true;
}

static void listing_forget(struct request *request)
{
    struct listing *listing = request->work;

    request->on_gone = NULL;
    request->work = NULL;
    if (listing->visit)
        queue_visit_cancel(listing->visit);
    if (listing->items)
        json_decref(listing->items);
    memory_free(listing);
}

static void listing_end(void *owner, enum result result)
{
    struct listing *listing = owner;
    struct request *request = listing->request;
    struct queue_statistics statistics;
    json_t *items = listing->items;

    listing->visit = NULL;
    listing->items = NULL;
    if (result != RESULT_OK) {
        json_decref(items);
        request_answer_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR, result_text(result));
    } else if (listing->is_one_message && json_array_size(items) == 0) {
        json_decref(items);
        request_answer_error(request, MHD_HTTP_NOT_FOUND, "no such message in the queue");
    } else {
        queue_statistics(request->rooms->queue, &statistics);
        request_answer(request, MHD_HTTP_OK,
                       json_pack("{s:o,s:o,s:i,s:b}", "items", items, "next",
                                 text_or_null(listing->next), "next_group",
                                 (int)listing->next_group, "is_rebuilding",
                                 (int)statistics.is_rebuilding));
    }
    listing_forget(request);
}

static struct listing *listing_new(struct request *request)
{
    struct listing *listing = NEW(struct listing);

    listing->request = request;
    listing->items = json_array();
    listing->limit = REQUEST_PAGE_MAX;
    listing->now_ms = loop_wall_ms(request->rooms->loop);
    request->work = listing;
    request->on_gone = listing_forget;
    return listing;
}

static void listing_start(struct listing *listing)
{
    listing->visit = queue_visit_start(listing->request->rooms->queue, listing->first_id,
                                       listing_visit, listing_end, listing);
}

void queue_handle_list(struct request *request)
{
    struct listing *listing = listing_new(request);
    const char *first = request_query(request, "first");
    const char *group = request_query(request, "group");
    const char *limit = request_query(request, "limit");
    uint64_t number = 0;

    if (!selection_read(request, &listing->selection)) {
        listing_forget(request);
        return;
    }
    if ((first && !id_parse(first, strlen(first), &listing->first_id)) ||
        (group && slice_to_u64(slice_of(group), UINT32_MAX, &number) != RESULT_OK)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "first and group are those of \"next\"");
        listing_forget(request);
        return;
    }
    listing->first_group = (uint32_t)number;
    number = REQUEST_PAGE_MAX;
    if (limit && (slice_to_u64(slice_of(limit), REQUEST_PAGE_MAX, &number) != RESULT_OK ||
                  !number)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "limit is a number from 1 to 1000");
        listing_forget(request);
        return;
    }
    listing->limit = (size_t)number;
    listing_start(listing);
}

static bool read_id(struct request *request, uint64_t *id)
{
    const char *text = request_argument(request);

    if (id_parse(text, strlen(text), id))
        return true;
    request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                         "an id has 13 characters, as the log and the 250 show it");
    return false;
}

void queue_handle_show(struct request *request)
{
    struct listing *listing;
    uint64_t id;

    if (!read_id(request, &id))
        return;
    listing = listing_new(request);
    listing->first_id = id;
    listing->is_one_message = true;
    listing->limit = SIZE_MAX; /* the groups of one message: bounded by its recipients */
    listing_start(listing);
}
