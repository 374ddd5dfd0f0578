/* The queue over HTTP: list in pages, one message with the reasons why it waits, changes by
 * the thousand, and the summary by domain that needs no disk. */
#include "request.h"
#include "selection.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
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

static const char *state_name(struct queue *queue, const struct envelope *envelope,
                              const struct group *group)
{
    if (queue_is_leased(queue, envelope->id, group->number))
        return "active";
    return group->is_held ? "held" : "waiting";
}

static json_t *text_or_null(const char *text)
{
    return text && text[0] ? request_text(text) : json_null();
}

static json_t *group_json(struct queue *queue, const struct envelope *envelope,
                          const struct group *group)
{
    char id[ID_TEXT];
    json_int_t size;

    id_print(envelope->id, id);
    size = (json_int_t)envelope->header_bytes + (json_int_t)envelope->body_bytes;
    return json_pack(
        "{s:s,s:i,s:o,s:o,s:o,s:I,s:I,s:i,s:s,s:I,s:o,s:o,s:{s:i,s:o,s:o,s:o,s:I}}", "id",
        id, "group", (int)group->number, "lane", request_text(group->lane), "sender",
        request_text(envelope->sender), "recipients", recipients_json(group), "arrival_ms",
        (json_int_t)envelope->arrival_ms, "next_attempt_ms",
        (json_int_t)group->next_attempt_ms, "attempts", (int)group->attempts, "state",
        state_name(queue, envelope, group), "size", size, "user",
        text_or_null(envelope->user), "tenant", text_or_null(envelope->tenant), "last",
        "code", (int)group->last_code, "status", text_or_null(group->last_status), "text",
        text_or_null(group->last_text), "host", text_or_null(group->last_host), "time_ms",
        (json_int_t)group->last_attempt_ms);
}

/* ---- why ---- */

static const char *why_name(enum why_kind kind)
{
    static const char *const names[] = {[WHY_SCHEDULED] = "scheduled",
                                        [WHY_LEASED] = "active",
                                        [WHY_DNS] = "dns",
                                        [WHY_DESTINATION] = "destination",
                                        [WHY_CONNECTIONS] = "connections",
                                        [WHY_READY_FULL] = "ready_full",
                                        [WHY_DRAINING] = "draining",
                                        [WHY_NO_ROOM] = "no_room"};

    return names[kind];
}

/* What holds a group is the later of its own next attempt and what holds its lane. */
static json_t *why_json(const struct listing *listing, const struct envelope *envelope,
                        const struct group *group)
{
    const struct admin_rooms *rooms = listing->request->rooms;
    struct why why = {0};

    deliver_why(rooms->deliver, group->lane, &why);
    if (queue_is_leased(rooms->queue, envelope->id, group->number)) {
        why.kind = WHY_LEASED;
        why.until_ms = 0;
        (void)snprintf(why.text, sizeof why.text,
                       "an attempt is running or about to start");
    } else if (group->is_held) {
        return json_pack("{s:s,s:s,s:I}", "kind", "held", "text", "held by an operator",
                         "until_ms", (json_int_t)0);
    } else if (group->next_attempt_ms > listing->now_ms &&
               why.until_ms <= group->next_attempt_ms) {
        why.kind = WHY_SCHEDULED;
        why.until_ms = group->next_attempt_ms;
        (void)snprintf(why.text, sizeof why.text, "waits for its next attempt%s%s",
                       group->last_text[0] ? "; the last answer was: " : "",
                       group->last_text);
    }
    return json_pack("{s:s,s:o,s:o,s:I}", "kind", why_name(why.kind), "text",
                     request_text(why.text), "destination", text_or_null(why.destination),
                     "until_ms", (json_int_t)why.until_ms);
}

/* ---- list and show ---- */

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
    if (!selection_fits(&listing->selection, queue, listing->now_ms, envelope, group))
        return true;
    if (json_array_size(listing->items) >= listing->limit) {
        id_print(envelope->id, listing->next);
        listing->next_group = group->number;
        return false;
    }
    item = group_json(queue, envelope, group);
    if (item && listing->is_one_message)
        (void)json_object_set_new(item, "why", why_json(listing, envelope, group));
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

/* ---- change ---- */

struct changing {
    struct request *request; /* NULL: the client went away; the change goes on */
    char (*lanes)[LANE_TEXT];
    size_t lane_count;
};

static void changing_free(struct changing *changing)
{
    memory_free(changing->lanes);
    memory_free(changing);
}

static void changing_gone(struct request *request)
{
    struct changing *changing = request->work;

    changing->request = NULL;
}

static void on_changed(void *owner, enum result result, size_t changed, size_t busy,
                       size_t gone)
{
    struct changing *changing = owner;
    struct request *request = changing->request;

    if (request) {
        request->on_gone = NULL;
        request->work = NULL;
        if (result == RESULT_OK)
            request_answer(request, MHD_HTTP_OK,
                           json_pack("{s:I,s:I,s:I}", "changed", (json_int_t)changed,
                                     "busy", (json_int_t)busy, "gone", (json_int_t)gone));
        else
            request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                                 result_text(result));
        for (size_t i = 0; i < changing->lane_count; i++)
            deliver_wake(request->rooms->deliver, changing->lanes[i]);
    }
    changing_free(changing);
}

static bool read_target(const json_t *json, struct queue_target *target)
{
    const char *id = json_string_value(json_object_get(json, "id"));
    const json_t *group = json_object_get(json, "group");
    json_int_t number = json_integer_value(group);

    if (!id || !json_is_integer(group) || !id_parse(id, strlen(id), &target->id) ||
        number < 0 || number > UINT32_MAX)
        return false;
    target->group = (uint32_t)number;
    return true;
}

/* A retry also forgets the back-off of the lanes concerned, or nothing would move. */
static void remember_lane(struct changing *changing, const json_t *json)
{
    const char *lane = json_string_value(json_object_get(json, "lane"));

    if (!lane)
        return;
    for (size_t i = 0; i < changing->lane_count; i++)
        if (strcmp(changing->lanes[i], lane) == 0)
            return;
    if (slice_copy_text(slice_of(lane), changing->lanes[changing->lane_count], LANE_TEXT))
        changing->lane_count++;
}

static bool read_targets(const json_t *targets, struct queue_target *list)
{
    for (size_t i = 0; i < json_array_size(targets); i++)
        if (!read_target(json_array_get(targets, i), &list[i]))
            return false;
    return true;
}

static void change_start(struct request *request, enum queue_change_kind kind,
                         const json_t *targets)
{
    size_t count = json_array_size(targets);
    struct queue_target list[REQUEST_PAGE_MAX];
    struct changing *changing;

    if (count < 1 || count > REQUEST_PAGE_MAX || !read_targets(targets, list)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "targets is a list of 1 to 1000 objects with id and group");
        return;
    }
    changing = NEW(struct changing);
    changing->request = request;
    changing->lanes = memory_new_array(count, LANE_TEXT);
    for (size_t i = 0; kind == QUEUE_RETRY && i < count; i++)
        remember_lane(changing, json_array_get(targets, i));
    request->work = changing;
    request->on_gone = changing_gone;
    queue_change_start(request->rooms->queue,
                       &(struct queue_change){kind, list, count, on_changed, changing});
}

void queue_handle_change(struct request *request)
{
    json_error_t error;
    json_t *json = json_loadb(request->body.data ? request->body.data : "",
                              request->body.length, 0, &error);
    const char *change = json_string_value(json_object_get(json, "change"));
    const json_t *targets = json_object_get(json, "targets");

    if (change && strcmp(change, "retry") == 0)
        change_start(request, QUEUE_RETRY, targets);
    else if (change && strcmp(change, "remove") == 0)
        change_start(request, QUEUE_REMOVE, targets);
    else
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "change is \"retry\" or \"remove\"");
    json_decref(json);
}

/* ---- summary ---- */

enum { SUMMARY_MAX = 1000 };

static int by_count(const void *a, const void *b)
{
    size_t left = domain_queue_count(*(struct domain_queue *const *)a);
    size_t right = domain_queue_count(*(struct domain_queue *const *)b);

    return (left < right) - (left > right);
}

void queue_handle_summary(struct request *request)
{
    struct queue *queue = request->rooms->queue;
    json_t *lanes = json_array();
    struct queue_statistics statistics;
    struct domain_queue **all;
    struct domain_queue *next;
    size_t position = 0;
    size_t count = 0;

    queue_statistics(queue, &statistics);
    all = NEW_ARRAY(struct domain_queue *, statistics.domain_queues + 1);
    while (count < statistics.domain_queues &&
           (next = queue_next_domain_queue(queue, &position)))
        all[count++] = next;
    qsort(all, count, sizeof(struct domain_queue *),
          by_count); /* NOLINT: pointers on purpose */
    for (size_t i = 0; i < count && i < SUMMARY_MAX; i++) {
        struct why why = {0};

        if (domain_queue_count(all[i]) == 0)
            break;
        deliver_why(request->rooms->deliver, domain_queue_lane(all[i]), &why);
        (void)json_array_append_new(
            lanes, json_pack("{s:o,s:I,s:I,s:s,s:o,s:I}", "lane",
                             request_text(domain_queue_lane(all[i])), "groups",
                             (json_int_t)domain_queue_count(all[i]), "oldest_ms",
                             (json_int_t)domain_queue_oldest_ms(all[i]), "why",
                             why_name(why.kind), "text", request_text(why.text), "until_ms",
                             (json_int_t)why.until_ms));
    }
    memory_free(all);
    request_answer(request, MHD_HTTP_OK,
                   json_pack("{s:o,s:I,s:b}", "lanes", lanes, "lane_count",
                             (json_int_t)statistics.domain_queues, "is_rebuilding",
                             (int)statistics.is_rebuilding));
}
