/* POST /v1/queue/change: what an operator does to at most a thousand groups at once. It goes
 * on when the client goes away. */
#include "request.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

/* A hold always ends. */
static const int64_t HOLD_DEFAULT_MS = 28 * INT64_C(86400000);
static const int64_t HOLD_MOST_MS = 366 * INT64_C(86400000);

struct changing {
    struct request *request; /* NULL: the client went away; the change goes on */
    char (*lanes)[LANE_TEXT];
    size_t lane_count;
    struct deliver_wake *wake; /* of a retry that is done: its lanes */
    struct queue_counts counts;
    int64_t until_ms; /* of a hold */
};

static void changing_free(struct changing *changing)
{
    memory_free(changing->lanes);
    memory_free(changing);
}

/* The process ends with the change at the store. */
static void changing_drop(void *owner)
{
    changing_free(owner);
}

static void changing_gone(struct request *request)
{
    struct changing *changing = request->work;

    changing->request = NULL;
    if (!changing->wake)
        return;
    deliver_wake_cancel(changing->wake);
    changing_free(changing);
}

static void answer(struct changing *changing, enum result result,
                   const struct queue_counts *counts)
{
    struct request *request = changing->request;
    json_t *json;

    request->on_gone = NULL;
    request->work = NULL;
    if (result != RESULT_OK) {
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, result_text(result));
        return;
    }
    json = json_pack("{s:I,s:I,s:I,s:I}", "changed", (json_int_t)counts->changed, "busy",
                     (json_int_t)counts->busy, "gone", (json_int_t)counts->gone, "skipped",
                     (json_int_t)counts->skipped);
    if (changing->until_ms > 0)
        (void)json_object_set_new(json, "until_ms", json_integer(changing->until_ms));
    request_answer(request, MHD_HTTP_OK, json);
}

static void on_woken(void *owner)
{
    struct changing *changing = owner;

    answer(changing, RESULT_OK, &changing->counts);
    changing_free(changing);
}

/* Lanes are woken before the answer: who asks for more of them waits until then. */
static void on_changed(void *owner, enum result result, const struct queue_counts *counts)
{
    struct changing *changing = owner;
    struct request *request = changing->request;

    changing->counts = *counts;
    if (request && result == RESULT_OK && changing->lane_count > 0) {
        changing->wake = deliver_wake_start(request->rooms->deliver,
                                            (const char(*)[LANE_TEXT])changing->lanes,
                                            changing->lane_count, on_woken, changing);
        return;
    }
    if (request)
        answer(changing, result, counts);
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
static void remember_lanes(struct changing *changing, const json_t *targets)
{
    struct map *known = map_new(REQUEST_PAGE_MAX);

    for (size_t i = 0; i < json_array_size(targets); i++) {
        const char *lane =
            json_string_value(json_object_get(json_array_get(targets, i), "lane"));

        if (!lane || map_get(known, slice_of(lane)) ||
            !slice_copy_text(slice_of(lane), changing->lanes[changing->lane_count],
                             LANE_TEXT))
            continue;
        if (map_set(known, slice_of(lane), changing) == RESULT_OK)
            changing->lane_count++;
    }
    map_free(known);
}

static bool read_targets(const json_t *targets, struct queue_target *list)
{
    for (size_t i = 0; i < json_array_size(targets); i++)
        if (!read_target(json_array_get(targets, i), &list[i]))
            return false;
    return true;
}

enum kind {
    KIND_RETRY,
    KIND_REMOVE,
    KIND_HOLD,
    KIND_RELEASE,
    KIND_BOUNCE,
    KIND_REROUTE,
    KIND_COUNT
};
static const struct {
    const char *name;
    enum queue_change_kind change;
} kinds[KIND_COUNT] = {
    [KIND_RETRY] = {"retry", QUEUE_RETRY},    [KIND_REMOVE] = {"remove", QUEUE_REMOVE},
    [KIND_HOLD] = {"hold", QUEUE_HOLD},       [KIND_RELEASE] = {"release", QUEUE_RELEASE},
    [KIND_BOUNCE] = {"bounce", QUEUE_REMOVE}, [KIND_REROUTE] = {"reroute", QUEUE_REROUTE}};

struct wish {
    enum kind kind;
    int64_t until_ms;
    const char *reason;
    char lane[LANE_TEXT]; /* KIND_REROUTE */
};

/* NULL: it can be done; else what is wrong. */
static const char *read_until(const json_t *json, int64_t now_ms, struct wish *wish)
{
    const json_t *until = json_object_get(json, "until_ms");

    if (wish->kind != KIND_HOLD)
        return until ? "until_ms goes with a hold" : NULL;
    wish->until_ms = until ? json_integer_value(until) : now_ms + HOLD_DEFAULT_MS;
    if (wish->until_ms <= now_ms || wish->until_ms > now_ms + HOLD_MOST_MS)
        return "until_ms is a time from now on, within a year";
    return NULL;
}

/* Goes into a report and a log line: one line of text. */
static const char *read_reason(const json_t *json, struct wish *wish)
{
    const json_t *reason = json_object_get(json, "reason");

    wish->reason = json_string_value(reason);
    if (!reason)
        return NULL;
    if (wish->kind != KIND_BOUNCE)
        return "reason goes with a bounce";
    if (!wish->reason || strlen(wish->reason) > DELIVER_REASON_MAX)
        return "reason is a text of at most 200 characters";
    for (const char *at = wish->reason; *at; at++)
        if (*at < ' ' || *at > '~')
            return "reason is one line of printable ASCII";
    return NULL;
}

/* "route" is the name of a [[route]]; null: each recipient finds its own way again. */
static const char *read_route(const struct deliver *deliver, const json_t *json,
                              struct wish *wish)
{
    const json_t *route = json_object_get(json, "route");

    if (wish->kind != KIND_REROUTE)
        return route ? "route goes with a reroute" : NULL;
    (void)snprintf(wish->lane, sizeof wish->lane, "%s", QUEUE_OWN_WAY);
    if (json_is_null(route))
        return NULL;
    if (!json_is_string(route) ||
        !deliver_lane_of_route(deliver, json_string_value(route), wish->lane))
        return "route is the name of a [[route]], or null";
    return NULL;
}

static const char *read_wish(const struct request *request, const json_t *json,
                             struct wish *wish)
{
    int64_t now_ms = loop_wall_ms(request->rooms->loop);
    const char *name = json_string_value(json_object_get(json, "change"));
    const char *wrong;

    wish->kind = KIND_RETRY;
    while (wish->kind < KIND_COUNT && (!name || strcmp(name, kinds[wish->kind].name) != 0))
        wish->kind++;
    if (wish->kind == KIND_COUNT)
        return "change is one of retry, remove, hold, release, bounce, reroute";
    wrong = read_until(json, now_ms, wish);
    if (!wrong)
        wrong = read_reason(json, wish);
    return wrong ? wrong : read_route(request->rooms->deliver, json, wish);
}

static void change_start(struct request *request, const struct wish *wish,
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
    changing->until_ms = wish->until_ms;
    changing->lanes = memory_new_array(count, LANE_TEXT);
    if (wish->kind == KIND_RETRY)
        remember_lanes(changing, targets);
    request->work = changing;
    request->on_gone = changing_gone;
    if (wish->kind == KIND_BOUNCE)
        deliver_bounce(
            request->rooms->deliver,
            &(struct deliver_bounce){list, count, wish->reason, on_changed, changing});
    else
        queue_change_start(request->rooms->queue,
                           &(struct queue_change){kinds[wish->kind].change, list, count,
                                                  on_changed, changing, wish->until_ms,
                                                  changing_drop, wish->lane});
}

void queue_handle_change(struct request *request)
{
    json_error_t error;
    json_t *json = json_loadb(request->body.data ? request->body.data : "",
                              request->body.length, 0, &error);
    struct wish wish = {0};
    const char *wrong = read_wish(request, json, &wish);

    if (wrong)
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, wrong);
    else
        change_start(request, &wish, json_object_get(json, "targets"));
    json_decref(json);
}
