/* Names are told apart by what is known; who wants it otherwise says what is meant. */
#include "reach.h"

#include "pool.h"
#include "scope.h"
#include "smtpd/base/memory.h"
#include "smtpd/mail/address.h"

#include <stdio.h>
#include <string.h>

static const char rule_prefix[] = "rule:";
static const char route_prefix[] = "route:";

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* ---- of a destination ---- */

struct slice reach_hosts(const struct plan *plan, struct slice key)
{
    return plan->is_route ? key : slice_part(key, 0, slice_find(key, '#'));
}

struct slice reach_name_of(const struct destination *destination)
{
    return reach_hosts(&destination->plan, slice_of(destination->key));
}

static const struct suspension_view *later(const struct suspension_view *a,
                                           const struct suspension_view *b)
{
    if (!a || !b)
        return a ? a : b;
    return b->until_ms > a->until_ms ? b : a;
}

/* All of the sources of a pool have one of that name. */
const char *reach_scope_of(const struct destination *destination)
{
    if (destination->scope)
        return destination->scope->key;
    for (size_t i = 0; i < destination->member_count; i++) {
        const struct destination *path = destination->members[i].path;

        if (path && path->scope)
            return path->scope->key;
    }
    return "";
}

/* Before the first mail of a pool went there its scope has a name, too. */
static struct slice scope_name(const struct destination *destination, struct bytes *key)
{
    if (!destination->pool)
        return slice_of(reach_scope_of(destination));
    scope_key(destination->deliver->settings, &destination->plan, destination->key, key);
    return bytes_view(key);
}

/* "rule:NAME" of its block, also where that matched the domain and is no scope; NULL: none. */
static char *rule_name(const struct destination *destination)
{
    const struct deliver_settings *values = &destination->deliver->settings->values;
    int rule = destination->plan.rule;

    return destination->plan.is_route || rule < 0 || (size_t)rule >= values->rule_count
               ? NULL
               : memory_format("%s%s", rule_prefix, values->rules[rule].name);
}

static bool is_in_scope(const struct destination *destination, const char *name)
{
    char *rule = rule_name(destination);
    struct bytes key;
    bool is_it;

    bytes_init(&key, SCOPE_KEY_MAX);
    is_it = slice_equal_text(scope_name(destination, &key), name) ||
            (rule && strcmp(rule, name) == 0);
    bytes_fini(&key);
    memory_free(rule);
    return is_it;
}

static const struct suspension_view *find_in_scope(const struct destination *destination)
{
    const struct suspensions *all = destination->deliver->suspensions;
    const struct suspension_view *found;
    struct bytes key;
    char *rule;

    if (suspensions_count(all, REACH_SCOPE) == 0)
        return NULL;
    rule = rule_name(destination);
    bytes_init(&key, SCOPE_KEY_MAX);
    found = suspensions_find(all, REACH_SCOPE, scope_name(destination, &key));
    bytes_fini(&key);
    if (rule)
        found = later(found, suspensions_find(all, REACH_SCOPE, slice_of(rule)));
    memory_free(rule);
    return found;
}

bool reach_has(const struct reached *reached, const struct destination *destination)
{
    switch (reached->reach) {
    case REACH_DESTINATION:
        return slice_equal_text(reach_name_of(destination), reached->name);
    case REACH_SCOPE:
        return is_in_scope(destination, reached->name);
    case REACH_DOMAIN:
    case REACH_COUNT:
        break;
    }
    return false;
}

const struct suspension_view *reach_suspension_of(const struct deliver *deliver,
                                                  const char *lane, struct slice hosts,
                                                  const char *scope)
{
    const struct suspensions *all = deliver->suspensions;

    return later(later(suspensions_find(all, REACH_DOMAIN, slice_of(lane)),
                       suspensions_find(all, REACH_DESTINATION, hosts)),
                 suspensions_find(all, REACH_SCOPE, slice_of(scope)));
}

const struct suspension_view *reach_suspension(const struct destination *destination,
                                               const struct lane *lane)
{
    bool is_by_smtp = destination->kind == PLAN_HOSTS;
    const struct suspension_view *found = reach_suspension_of(
        destination->deliver, lane ? domain_queue_lane(lane->domain_queue) : "",
        is_by_smtp ? reach_name_of(destination) : SLICE_NONE, "");

    return is_by_smtp ? later(found, find_in_scope(destination)) : found;
}

bool reach_rests(struct destination *destination, const struct lane *lane,
                 struct rest *rest)
{
    int64_t pace_ms = scope_suspended_until(destination); /* finds the scope too */
    const struct suspension_view *view = reach_suspension(destination, lane);

    if (view && view->until_ms >= pace_ms) {
        rest->until_ms = view->until_ms;
        (void)snprintf(rest->text, sizeof rest->text, "by an operator%s%.200s",
                       view->reason[0] ? ": " : "", view->reason);
        return true;
    }
    rest->until_ms = pace_ms;
    (void)snprintf(rest->text, sizeof rest->text, "%s",
                   pace_ms > 0 ? destination->scope->pace.suspension : "");
    return pace_ms > 0;
}

/* ---- names ---- */

static enum result set_name(struct reached *reached, enum reach reach, const char *prefix,
                            const char *text, struct fault *fault)
{
    int length = snprintf(reached->name, sizeof reached->name, "%s%s", prefix, text);

    reached->reach = reach;
    if (length >= 0 && (size_t)length < sizeof reached->name)
        return RESULT_OK;
    return fault_set(fault, RESULT_INVALID, "the name is too long");
}

static bool is_rule(const struct deliver *deliver, const char *name)
{
    const struct deliver_settings *values =
        deliver->settings ? &deliver->settings->values : NULL;

    for (size_t i = 0; values && i < values->rule_count; i++)
        if (strcmp(values->rules[i].name, name) == 0)
            return true;
    return false;
}

static enum result take_scope(const struct deliver *deliver, const char *text,
                              struct reached *reached, struct fault *fault)
{
    const char *name = starts_with(text, rule_prefix) ? text + strlen(rule_prefix) : text;

    if (set_name(reached, REACH_SCOPE, rule_prefix, name, fault) != RESULT_OK)
        return RESULT_INVALID;
    /* What is suspended can be resumed when its block is gone. */
    if (!is_rule(deliver, name) &&
        !suspensions_find(deliver->suspensions, REACH_SCOPE, slice_of(reached->name)))
        return fault_set(fault, RESULT_NOT_FOUND, "no [[destination]] block has this name");
    return RESULT_OK;
}

static enum result take_hosts(const char *text, struct reached *reached,
                              struct fault *fault)
{
    for (const char *at = text; *at; at++)
        if (*at <= ' ' || *at > '~')
            return fault_set(
                fault, RESULT_INVALID,
                "a destination is its hosts, as \"mx1.example.net>mx2.example.net\", "
                "or route:NAME");
    return set_name(reached, REACH_DESTINATION, "", text, fault);
}

static enum result take_domain(const struct deliver *deliver, const char *text,
                               struct reached *reached, struct fault *fault)
{
    char address[DOMAIN_TEXT + 2] = "@";
    char lane[LANE_TEXT];

    if (domain_normalise(slice_of(text), address + 1) != RESULT_OK)
        return fault_set(
            fault, RESULT_INVALID,
            "it is no name of a [[destination]] block, of a destination that is "
            "known, or of a domain");
    deliver_lane_of((struct deliver *)(uintptr_t)deliver, address,
                    lane); /* changes nothing */
    if (starts_with(lane, route_prefix))
        return fault_set(fault, RESULT_INVALID, "mail for it goes by a [[route]]: say %s",
                         lane);
    return set_name(reached, REACH_DOMAIN, "", lane, fault);
}

/* What is suspended is known by that, whatever else was forgotten. */
static bool is_known(const struct deliver *deliver, const char *text)
{
    if (suspensions_find(deliver->suspensions, REACH_DESTINATION, slice_of(text)))
        return true;
    for (struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link))
        if (slice_equal_text(reach_name_of(CONTAINER_OF(link, struct destination, link)),
                             text))
            return true;
    return false;
}

/* What can be nothing else: several hosts, a route. */
static bool looks_like_hosts(const char *text)
{
    return strchr(text, '>') || strchr(text, '=') || starts_with(text, route_prefix);
}

enum result deliver_reach(const struct deliver *deliver, const char *text, enum reach as,
                          struct reached *reached, struct fault *fault)
{
    if (!text[0])
        return fault_set(fault, RESULT_INVALID, "a name is needed");
    switch (as) {
    case REACH_DOMAIN:
        return take_domain(deliver, text, reached, fault);
    case REACH_DESTINATION:
        return take_hosts(text, reached, fault);
    case REACH_SCOPE:
        return take_scope(deliver, text, reached, fault);
    case REACH_COUNT:
        break;
    }
    if (starts_with(text, rule_prefix) || is_rule(deliver, text))
        return take_scope(deliver, text, reached, fault);
    if (looks_like_hosts(text) || is_known(deliver, text))
        return take_hosts(text, reached, fault);
    return take_domain(deliver, text, reached, fault);
}

/* ---- the door ---- */

void deliver_suspensions(const struct deliver *deliver, suspension_view_fn *each,
                         void *owner)
{
    suspensions_each(deliver->suspensions, each, owner);
}

bool deliver_suspension_of(const struct deliver *deliver, const struct reached *reached,
                           struct suspension_view *view)
{
    const struct lane *lane =
        reached->reach == REACH_DOMAIN ? lane_find(deliver, reached->name, NULL) : NULL;
    const struct suspension_view *found =
        suspensions_find(deliver->suspensions, reached->reach, slice_of(reached->name));

    if (lane && lane->destination)
        found = reach_suspension(lane->destination, lane);
    if (found)
        *view = *found;
    return found;
}
