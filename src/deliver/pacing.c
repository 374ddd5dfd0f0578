/* An attempt asks its pace: before it connects, and before each MAIL. It starts when both can be
 * had; what is left to wait here is short (a connection was quicker than its forerunners), or comes
 * of further connections and transactions that nobody could foresee. */
#include "attempt_inner.h"
#include "pool.h"
#include "reaction.h"
#include "smtpd/base/check.h"

#include <string.h>

enum { PAUSE_MOST_MS = 10000 }; /* a next hop grows tired of silence */
enum { DISK_MS = 50 };          /* a block of a warm-up is on its way */

void pacing_start(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct pace_time time;

    if (destination->source) {
        source_promise(destination->source);
        attempt->has_promise = true;
    }
    if (!scope_of(destination))
        return;
    time = scope_time(destination->scope);
    attempt->scope = scope_ref(destination->scope);
    pace_start(&attempt->scope->pace,
               attempt->work->is_rider || destination->idle.count > 0, &attempt->claim,
               &time);
    pacing_rides(attempt, attempt->work->is_rider);
}

void pacing_rides(struct attempt *attempt, bool rides)
{
    if (attempt->scope)
        pace_rides(&attempt->scope->pace, &attempt->claim, rides);
}

void pacing_end(struct attempt *attempt)
{
    struct scope *scope = attempt->scope;

    timer_cancel(&attempt->pause);
    if (attempt->has_promise)
        source_break(attempt->destination->source);
    attempt->has_promise = false;
    if (!scope)
        return;
    attempt->scope = NULL;
    pace_end(&scope->pace, &attempt->claim);
    scope_serve(scope);
    scope_unref(scope);
}

/* Other sources may go on where this one waits, now or earlier than it. */
static int64_t lane_wait_ms(const struct attempt *attempt, int64_t wait_ms)
{
    struct destination *head = attempt->work->lane->destination;

    if (!head || !head->pool)
        return wait_ms;
    if (pool_goes_elsewhere(head, attempt->destination))
        return 0;
    return pool_rest_ms(head, attempt->destination, wait_ms);
}

/* False: it comes again, or has ended. */
static bool goes_on(struct attempt *attempt, int64_t wait_ms, loop_fn *again)
{
    if (wait_ms == 0)
        return true;
    if (wait_ms > PAUSE_MOST_MS) {
        attempt_postpone(attempt, lane_wait_ms(attempt, wait_ms),
                         "the destination takes no more for now: its limit");
        return false;
    }
    timer_init(&attempt->pause, attempt->deliver->rooms.loop, again, attempt);
    timer_start(&attempt->pause, wait_ms);
    return false;
}

bool pacing_may_connect(struct attempt *attempt, loop_fn *again)
{
    struct pace_time time;
    bool was_foreseen = attempt->claim.has_connection;
    int64_t wait_ms;

    if (!attempt->scope)
        return true;
    time = scope_time(attempt->scope);
    wait_ms = pace_take_connection(&attempt->scope->pace, &attempt->claim, &time);
    if (attempt->claim.has_token && !was_foreseen)
        scope_owes_connection(attempt->scope);
    return goes_on(attempt, wait_ms, again);
}

void pacing_gives_back(struct attempt *attempt)
{
    struct pace_time time;

    if (!attempt->scope)
        return;
    time = scope_time(attempt->scope);
    pace_return_connection(&attempt->scope->pace, &attempt->claim, &time);
}

static void begin_again(void *owner)
{
    transaction_begin(owner);
}

/* Its first message was promised; a further one may be too many for today. */
static bool source_allows(struct attempt *attempt)
{
    struct source *source = attempt->destination->source;
    int64_t until_ms;

    if (!source || source_may_take(source, attempt->has_promise))
        return true;
    if (source_look(source, &until_ms) == SOURCE_IS_FULL)
        attempt_postpone(attempt, 0, "its source has sent what its warm-up allows today");
    else
        (void)goes_on(attempt, DISK_MS, begin_again);
    return false;
}

static int64_t take_message(struct attempt *attempt)
{
    struct pace_time time;

    if (!attempt->scope)
        return 0;
    time = scope_time(attempt->scope);
    return pace_take_message(&attempt->scope->pace, &attempt->claim, &time);
}

/* Of both or of none: who waits for the one must not use up the other. */
bool pacing_may_send(struct attempt *attempt)
{
    struct source *source = attempt->destination->source;

    if (!source_allows(attempt) || !goes_on(attempt, take_message(attempt), begin_again))
        return false;
    if (source)
        CHECK(source_take(source, attempt->has_promise)); /* it is the same moment */
    attempt->has_promise = false;
    return true;
}

bool pacing_may_probe(struct attempt *attempt)
{
    struct pace_time time;

    if (!attempt->scope)
        return true;
    time = scope_time(attempt->scope);
    return pace_take_spare(&attempt->scope->pace, &time);
}

void pacing_opened(struct attempt *attempt)
{
    if (attempt->scope)
        pace_opened(&attempt->scope->pace, connection_connect_ms(attempt->connection));
}

void pacing_works(struct attempt *attempt)
{
    struct pace_time time;

    if (!attempt->scope)
        return;
    time = scope_time(attempt->scope);
    pace_works(&attempt->scope->pace, &time);
}

void pacing_objects(struct attempt *attempt, const char *kind, const char *text)
{
    struct pace_time time;

    if (!attempt->scope)
        return;
    time = scope_time(attempt->scope);
    pace_objects(&attempt->scope->pace, &(struct pace_cause){kind, text}, &time);
}

static void react(struct attempt *attempt, const struct reaction *reaction,
                  const char *said)
{
    struct scope *scope = attempt->scope;
    struct pace_time time = scope_time(scope);
    struct pace_cause cause = {"reaction", said};
    bool was_suspended = scope->pace.suspended_until_ms > time.wall_ms;

    switch (reaction->action) {
    case REACTION_SLOW:
        pace_slow(&scope->pace, 10 * reaction->percent, reaction->for_ms, &cause, &time);
        break;
    case REACTION_BACK_OFF:
        pace_back_off(&scope->pace, reaction->for_ms, &cause, &time);
        break;
    case REACTION_SUSPEND:
        pace_suspend(&scope->pace, time.wall_ms + reaction->for_ms, &cause, &time);
        break;
    case REACTION_BOUNCE:
        pace_bounce(&scope->pace, reaction->for_ms, reaction->limit, &cause, &time);
        break;
    case REACTION_NONE:
    default:
        break;
    }
    if (!was_suspended && scope->pace.suspended_until_ms > 0)
        scope_wake(scope); /* what is ready there goes back */
}

void pacing_reacts(struct attempt *attempt, const struct reply *reply)
{
    const struct reaction *reaction =
        attempt->scope
            ? reaction_find(attempt->deliver->settings, reply,
                            connection_host(attempt->connection), attempt->policy.domain)
            : NULL;
    char said[PACE_TEXT];

    if (!reaction)
        return;
    reply_print(reply, said, sizeof said);
    react(attempt, reaction, said);
}

bool pacing_has_others(const struct attempt *attempt, const char *host)
{
    const struct list *attempts = &attempt->destination->attempts;

    for (struct link *link = list_first(attempts); link; link = list_next(attempts, link)) {
        const struct attempt *other = CONTAINER_OF(link, struct attempt, of_destination);

        if (other != attempt && other->is_ready && other->connection &&
            strcmp(connection_host(other->connection), host) == 0)
            return true;
    }
    return false;
}
