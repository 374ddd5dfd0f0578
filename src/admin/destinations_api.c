/* Destinations over HTTP: the ones with the most mail, what is suspended, and three changes. A change
 * goes on when the client goes away. */
#include "destination_json.h"
#include "smtpd/base/memory.h"

#include <string.h>

static const int64_t SUSPENSION_MOST_MS = 366 * INT64_C(86400000);

/* False: it is answered. */
static bool read_reach(struct request *request, const char *name, const char *as,
                       struct reached *reached)
{
    enum reach reach = REACH_COUNT;
    struct fault fault;

    if (as) {
        reach = 0;
        while (reach < REACH_COUNT && strcmp(reach_names[reach], as) != 0)
            reach++;
    }
    if (as && reach == REACH_COUNT) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "as is one of domain, destination, scope");
        return false;
    }
    if (deliver_reach(request->rooms->deliver, name, reach, reached, &fault) == RESULT_OK)
        return true;
    request_answer_error(request, MHD_HTTP_BAD_REQUEST, fault.text);
    return false;
}

static json_t *reached_json(const struct deliver *deliver, const struct reached *reached)
{
    struct suspension_view view;
    bool is_suspended = deliver_suspension_of(deliver, reached, &view);

    return json_pack("{s:s,s:o,s:o}", "reach", reach_names[reached->reach], "name",
                     request_text(reached->name), "suspension",
                     suspension_json(is_suspended ? &view : NULL));
}

/* ---- list and show ---- */

struct listing { /* of a request */
    struct destinations_ask *ask;
    struct reached reached;
    bool has_name;
};

static json_t *view_json(const struct destination_view *view)
{
    return json_pack(
        "{s:o,s:o,s:o,s:I,s:I,s:i,s:i,s:i,s:I,s:o,s:o,s:I,s:o,s:o,s:o,s:o}", "name",
        request_text(view->name), "scope", text_or_null(view->scope), "rule",
        text_or_null(view->rule), "waiting", (json_int_t)view->waiting, "lanes",
        (json_int_t)view->lanes, "ready", (int)view->ready, "attempts", (int)view->running,
        "connections", (int)view->connections, "backs_off_until_ms",
        (json_int_t)view->backs_off_until_ms, "fault", text_or_null(view->fault),
        "fault_class",
        text_or_null(view->backs_off_until_ms ? deliver_class_name(view->fault_class) : ""),
        "failed_ms", (json_int_t)view->failed_ms, "failed_class",
        text_or_null(view->failed_ms ? deliver_class_name(view->failed_class) : ""),
        "failed_text", text_or_null(view->failed_text), "paces",
        paces_json(view->paces, view->pace_count), "suspension",
        suspension_json(view->suspension));
}

static void add_suspension(void *owner, const struct suspension_view *view)
{
    (void)json_array_append_new(owner, suspension_json(view));
}

static void on_listed(void *owner, const struct destinations_answer *answer)
{
    struct request *request = owner;
    struct listing *listing = request->work;
    const struct deliver *deliver = request->rooms->deliver;
    json_t *views = json_array();
    json_t *suspensions = json_array();
    json_t *name =
        listing->has_name ? reached_json(deliver, &listing->reached) : json_null();

    for (size_t i = 0; i < answer->count; i++)
        (void)json_array_append_new(views, view_json(&answer->views[i]));
    deliver_suspensions(deliver, add_suspension, suspensions);
    request->on_gone = NULL;
    request->work = NULL;
    memory_free(listing);
    request_answer(request, MHD_HTTP_OK,
                   json_pack("{s:o,s:I,s:I,s:o,s:o}", "destinations", views, "matched",
                             (json_int_t)answer->matched, "known",
                             (json_int_t)answer->known, "suspensions", suspensions, "name",
                             name));
}

static void listing_gone(struct request *request)
{
    struct listing *listing = request->work;

    request->work = NULL;
    destinations_ask_cancel(listing->ask);
    memory_free(listing);
}

static bool read_state(struct request *request, enum destinations_state *state)
{
    static const char *const names[] = {[DESTINATIONS_ALL] = "all",
                                        [DESTINATIONS_SUSPENDED] = "suspended",
                                        [DESTINATIONS_BACKING_OFF] = "backing_off"};
    const char *given = request_query(request, "state");

    for (size_t i = 0; given && i < sizeof names / sizeof *names; i++) {
        if (strcmp(given, names[i]) == 0) {
            *state = (enum destinations_state)i;
            return true;
        }
    }
    if (given)
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "state is one of all, suspended, backing_off");
    return !given;
}

static bool read_limit(struct request *request, size_t *limit)
{
    const char *given = request_query(request, "limit");
    uint64_t number = DESTINATIONS_LISTED;

    if (given &&
        (slice_to_u64(slice_of(given), DESTINATIONS_LISTED, &number) != RESULT_OK ||
         number == 0)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, "limit is 1 to 1000");
        return false;
    }
    *limit = (size_t)number;
    return true;
}

void destinations_handle_list(struct request *request)
{
    const char *name = request_query(request, "name");
    struct destinations_filter filter = {.text = request_query(request, "match")};
    struct listing *listing;

    if (!read_state(request, &filter.state) || !read_limit(request, &filter.limit))
        return;
    listing = NEW(struct listing);
    listing->has_name = name;
    if (name &&
        !read_reach(request, name, request_query(request, "as"), &listing->reached)) {
        memory_free(listing);
        return;
    }
    filter.reached = name ? &listing->reached : NULL;
    request->work = listing;
    request->on_gone = listing_gone;
    listing->ask =
        destinations_ask_start(request->rooms->deliver, &filter, on_listed, request);
}

/* ---- change ---- */

struct changing {
    struct request *request;
    struct destinations_act *act;
    struct reached reached;
    int64_t until_ms; /* of a suspension; 0: of none */
};

static void changing_gone(struct request *request)
{
    struct changing *changing = request->work;

    request->work = NULL;
    destinations_act_cancel(changing->act);
    memory_free(changing);
}

static void on_changed(void *owner, const struct destinations_done *done)
{
    struct changing *changing = owner;
    struct request *request = changing->request;
    json_t *name = reached_json(request->rooms->deliver, &changing->reached);

    request->on_gone = NULL;
    request->work = NULL;
    request_answer(request, MHD_HTTP_OK,
                   json_pack("{s:o,s:I,s:b,s:b,s:I,s:I}", "name", name, "until_ms",
                             (json_int_t)changing->until_ms, "was_suspended",
                             (int)done->was_there, "is_kept", (int)done->is_kept, "lanes",
                             (json_int_t)done->lanes, "groups", (json_int_t)done->groups));
    memory_free(changing);
}

static const char *const changes[] = {[DESTINATIONS_SUSPEND] = "suspend",
                                      [DESTINATIONS_RESUME] = "resume",
                                      [DESTINATIONS_FLUSH] = "flush"};

/* NULL: it can be done; else what is wrong. */
static const char *read_reason(const json_t *json, struct destinations_wish *wish)
{
    const json_t *reason = json_object_get(json, "reason");

    wish->reason = json_string_value(reason);
    if (!reason || json_is_null(reason))
        return NULL;
    if (wish->change != DESTINATIONS_SUSPEND)
        return "reason goes with a suspend";
    if (!wish->reason || strlen(wish->reason) > DELIVER_REASON_MAX)
        return "reason is a text of at most 200 bytes";
    for (const char *at = wish->reason; *at; at++)
        if ((unsigned char)*at < ' ')
            return "reason is one line";
    return NULL;
}

static const char *read_wish(const struct request *request, const json_t *json,
                             struct destinations_wish *wish)
{
    const char *change = json_string_value(json_object_get(json, "change"));
    const json_t *until = json_object_get(json, "until_ms");
    int64_t now_ms = loop_wall_ms(request->rooms->loop);
    size_t at = 0;

    while (at < sizeof changes / sizeof *changes &&
           (!change || strcmp(change, changes[at]) != 0))
        at++;
    if (at == sizeof changes / sizeof *changes)
        return "change is one of suspend, resume, flush";
    wish->change = (enum destinations_change)at;
    wish->until_ms = json_integer_value(until);
    if (wish->change != DESTINATIONS_SUSPEND && until)
        return "until_ms goes with a suspend";
    if (wish->change == DESTINATIONS_SUSPEND &&
        (wish->until_ms <= now_ms || wish->until_ms > now_ms + SUSPENSION_MOST_MS))
        return "until_ms is a time from now on, within a year";
    return read_reason(json, wish);
}

static void start(struct request *request, struct destinations_wish *wish,
                  const json_t *json)
{
    const json_t *as = json_object_get(json, "as");
    const char *name = json_string_value(json_object_get(json, "name"));
    struct changing *changing = NEW(struct changing);
    struct fault fault;

    if (!read_reach(request, name ? name : "", json_string_value(as), &changing->reached)) {
        memory_free(changing);
        return;
    }
    changing->request = request;
    changing->until_ms = wish->until_ms;
    wish->reached = &changing->reached;
    wish->on_end = on_changed;
    wish->owner = changing;
    if (destinations_act_start(request->rooms->deliver, wish, &changing->act, &fault) !=
        RESULT_OK) {
        memory_free(changing);
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, fault.text);
        return;
    }
    request->work = changing;
    request->on_gone = changing_gone;
}

void destinations_handle_change(struct request *request)
{
    json_error_t error;
    json_t *json = json_loadb(request->body.data ? request->body.data : "",
                              request->body.length, 0, &error);
    struct destinations_wish wish = {0};
    const char *wrong = read_wish(request, json, &wish);

    if (wrong)
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, wrong);
    else
        start(request, &wish, json);
    json_decref(json);
}
