/* One lease to its next hop: hosts in turn, until each recipient has an outcome.
 *
 * Whose fault: before MAIL was answered it is the host's, and nothing is
 * written; what is said about this message writes its group. */
#include "attempt_inner.h"
#include "flight.h"

#include "pool.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "sts_policy.h"

#include <stdio.h>
#include <string.h>

enum { ARENA_MAX = 4 << 20, STALE_MAX = 5, NO_ROOM_MS = 1000 };

static void connect_next(struct attempt *attempt);

static void connect_again(void *owner)
{
    connect_next(owner);
}

struct link *attempt_link(struct attempt *attempt)
{
    return &attempt->link;
}

struct attempt *attempt_of_link(struct link *link)
{
    return CONTAINER_OF(link, struct attempt, link);
}

/* ---- ends ---- */

static void end_judging(struct attempt *attempt)
{
    if (attempt->judged)
        host_end(attempt->destination, attempt->judged);
    attempt->judged = NULL;
}

static void attempt_free(struct attempt *attempt)
{
    end_judging(attempt);
    host_await_cancel(&attempt->wait);
    payload_close(attempt);
    deferred_cancel(attempt->deliver->rooms.loop, &attempt->again);
    list_remove(&attempt->deliver->attempts, &attempt->link);
    list_remove(&attempt->destination->attempts, &attempt->of_destination);
    pacing_end(attempt);
    attempt->deliver->statistics.attempts_running--;
    settings_unref(attempt->settings);
    sts_policy_unref(attempt->policy.sts);
    arena_clear(&attempt->arena);
    memory_free(attempt);
}

static void drop_connection(struct attempt *attempt)
{
    if (attempt->connection)
        flight_abandon(attempt);
    timer_cancel(&attempt->pause);
    end_judging(attempt);
}

/* The bit of a host in the sets of them. */
static uint32_t host_bit(const struct plan *plan, const char *name)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < plan->host_count; i++)
        if (strcmp(plan->hosts[i].name, name) == 0)
            bits |= UINT32_C(1) << i;
    return bits;
}

void attempt_host_works(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    const char *name = connection_host(attempt->connection);

    end_judging(attempt);
    destination_works(destination);
    destination->passed &= ~host_bit(&destination->plan, name);
    host_works(destination, name);
}

/* Nothing was learned about the message: the lease goes back as it was. */
static void give_up(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;

    drop_connection(attempt);
    work_release(attempt->work);
    attempt_free(attempt);
    destination_ended(destination);
}

void attempt_set_open(struct attempt *attempt, enum verdict verdict,
                      const struct said *said)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++) {
        if (attempt->outcomes[i].verdict != VERDICT_OPEN)
            continue;
        attempt->outcomes[i].verdict = verdict;
        attempt->outcomes[i].said = said;
    }
}

bool attempt_has_open(const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (attempt->outcomes[i].verdict == VERDICT_OPEN)
            return true;
    return false;
}

bool attempt_has_outcome(const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (attempt->outcomes[i].verdict != VERDICT_OPEN &&
            !attempt->outcomes[i].is_suppressed)
            return true;
    return false;
}

/* Every recipient has an outcome: the connection is free for the next, the rest is paper.
 */
void attempt_finish(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct loop *loop = attempt->deliver->rooms.loop;
    struct tls_facts tls = {0};
    char peer[360] = "";
    struct settle_facts facts = {.started_ms = attempt->started_ms,
                                 .source = destination->source ? destination->source->name
                                                               : NULL};

    attempt_set_open(attempt, VERDICT_DEFERRED,
                     said_words(&attempt->arena, attempt->fault_class, 451, "4.4.2",
                                attempt->fault.text[0] ? attempt->fault.text : "no answer",
                                NULL));
    if (attempt->connection) {
        (void)snprintf(peer, sizeof peer, "%s", connection_peer(attempt->connection));
        tls = *connection_tls(attempt->connection);
        facts.tls_policy = connection_tls_policy(attempt->connection, &attempt->policy);
        facts.connect_ms =
            attempt->is_reused ? 0 : connection_connect_ms(attempt->connection);
        payload_close(attempt);
        flight_leave(attempt);
    }
    facts.peer = peer[0] ? peer : NULL;
    facts.tls = tls.is_secure ? &tls : NULL;
    facts.transfer_ms =
        attempt->transfer_from_ms ? loop_now_ms(loop) - attempt->transfer_from_ms : 0;
    settle_start(attempt->work, attempt->outcomes, &facts);
    attempt_free(attempt);
    destination_ended(destination);
}

void attempt_hand_back(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct work *work = attempt->work;

    if (attempt_has_outcome(attempt)) {
        attempt_finish(attempt);
        return;
    }
    attempt_free(attempt);
    destination_take_back(work);
    destination_ended(destination);
}

void attempt_postpone(struct attempt *attempt, int64_t wait_ms, const char *text)
{
    struct lane *lane = attempt->work->lane;
    int64_t until_ms = deliver_now(attempt->deliver) + wait_ms;
    enum why_kind why = attempt->fault.code == RESULT_BUSY ? WHY_NO_ROOM : WHY_RATE;
    char words[sizeof attempt->fault.text];

    (void)snprintf(words, sizeof words, "%s", text); /* it may be the fault's own */
    if (attempt->is_ready)
        flight_leave(attempt);
    else
        drop_connection(attempt);
    end_judging(attempt);
    (void)fault_set(&attempt->fault, RESULT_AGAIN, "%s", words);
    if (attempt_has_outcome(attempt)) {
        attempt_finish(attempt);
        return;
    }
    give_up(attempt);
    if (wait_ms > 0) /* or it would be taken again at once, and go round */
        lane_wait(lane, until_ms, why, words);
}

/* ---- hosts ---- */

static const struct plan_host *current_host(const struct attempt *attempt)
{
    return &attempt->destination->plan.hosts[attempt->order[attempt->host_at]];
}

/* For good only when every host lacks it: one that could not be asked may have it. */
static void judge_lack(struct attempt *attempt)
{
    const struct said *lack = attempt->lack;
    char status[sizeof lack->status];
    char text[sizeof lack->text + 64];

    if (!attempt->missed_host) {
        attempt_set_open(attempt, VERDICT_FAILED, lack);
        return;
    }
    (void)snprintf(status, sizeof status, "4%s", lack->status + 1);
    (void)snprintf(text, sizeof text, "%s, and others could not be asked", lack->text);
    attempt_set_open(
        attempt, VERDICT_DEFERRED,
        said_words(&attempt->arena, lack->class, 451, status, text, lack->host));
}

/* No host is left. What was said about the message stands; else the destination is at
 * fault. */
static void hosts_exhausted(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct lane *lane = attempt->work->lane;
    struct fault fault = attempt->fault;
    enum deliver_class attempt_class = attempt->fault_class;
    bool fails_policy = attempt->policy_fault != NULL;

    if (fails_policy)
        (void)fault_set(&fault, RESULT_UNTRUSTED, "%s", attempt->policy_fault);

    if (attempt->lack || attempt->drops > 0) {
        if (attempt->lack)
            judge_lack(attempt);
        attempt_finish(attempt);
        return;
    }
    /* Behind a first transaction its answers must not be lost: nobody gets it twice. */
    if (attempt_has_outcome(attempt))
        attempt_finish(attempt);
    else
        give_up(attempt);
    if (fails_policy)
        lane_policy_fault(lane, fault.text);
    else if (fault.text[0])
        destination_fault(destination, &fault, attempt_class);
    else
        destination_wait_for_hosts(destination); /* none was tried: no new fault */
}

static void next_host(struct attempt *attempt)
{
    attempt->host_at++;
    attempt->goes_in_clear = attempt->goes_again = false;
    attempt->missed_host = true;
    connect_next(attempt);
}

/* RFC 8461 5: a policy that is only tested stops nothing, and says what it would stop. */
static void note_testing(const struct attempt *attempt)
{
    const struct tls_policy *policy = &attempt->policy;
    const char *failure;
    struct log_line line;

    if (connection_tls_policy(attempt->connection, policy) != DELIVER_TLS_STS_TESTING)
        return;
    failure = connection_sts_failure(attempt->connection, policy->sts);
    if (!failure)
        return;
    attempt->deliver->statistics.sts_testing_failures++;
    log_start(&line, LOG_WARNING, "deliver.sts_testing_failure");
    log_text(&line, "domain", policy->domain);
    log_text(&line, "host", connection_host(attempt->connection));
    log_text(&line, "message",
             attempt->goes_in_clear && attempt->fault.text[0] ? attempt->fault.text
                                                              : failure);
    log_end(&line);
}

void attempt_on_reused(struct attempt *attempt)
{
    attempt->is_ready = attempt->is_reused = true;
    note_testing(attempt);
}

void attempt_on_ready(struct attempt *attempt)
{
    attempt->is_ready = true;
    pacing_opened(attempt);
    lane_policy_works(attempt->work->lane);
    note_testing(attempt);
}

static void connect_host(struct attempt *attempt)
{
    attempt->judged = host_begin(attempt->destination, current_host(attempt)->name);
    flight_open(attempt, current_host(attempt));
}

/* What a connection is asked for goes by the settings in force, and a plan by those that it was made
 * by: the lane asks for its way again. */
static bool is_outdated(struct attempt *attempt)
{
    if (attempt->settings == attempt->deliver->settings)
        return false;
    attempt_postpone(attempt, 0, "the settings have changed");
    return true;
}

/* As host_choose(). Where a rate is slower than back-offs the first host is free again for each token, and
 * those behind it would never be asked: they come first then. */
static bool choose_host(struct attempt *attempt, struct host_choice *choice)
{
    struct host_choice others = *choice;
    bool is_found;

    if (attempt->hosts_tried == 0)
        attempt->passed = attempt->destination->passed;
    others.lacking |= attempt->passed;
    others.missed |= attempt->passed != 0;
    is_found = host_choose(attempt->destination, &others);
    if (is_found || others.awaited || attempt->hosts_tried > 0) {
        *choice = others;
        return is_found;
    }
    attempt->passed = attempt->destination->passed = 0; /* the others cannot be asked */
    choice->at = 0;
    return host_choose(attempt->destination, choice);
}

/* It is about to wait for a further connection, maybe in vain. */
static void note_passed(struct attempt *attempt)
{
    uint32_t passed = attempt->passed;

    for (size_t i = 0; i < attempt->host_at; i++)
        passed |= UINT32_C(1) << attempt->order[i];
    if (attempt->hosts_tried > 0)
        attempt->destination->passed = passed;
}

/* The next host that may be tried, when it may. */
static void connect_chosen(struct attempt *attempt)
{
    struct host_choice choice = {.order = attempt->order,
                                 .lacking = attempt->lacking,
                                 .at = attempt->host_at,
                                 .missed = attempt->missed_host};

    if (is_outdated(attempt))
        return;
    if (!choose_host(attempt, &choice) && choice.awaited) {
        attempt->wait.turn = &attempt->again;
        attempt->wait.on_turn = connect_again;
        attempt->wait.owner = attempt;
        host_await(choice.awaited, &attempt->wait);
        return;
    }
    attempt->host_at = choice.at;
    attempt->missed_host = choice.missed;
    if (attempt->host_at >= attempt->destination->plan.host_count) {
        hosts_exhausted(attempt);
        return;
    }
    note_passed(attempt);
    if (!pacing_may_connect(attempt, connect_again))
        return;
    attempt->destination->passed = 0;
    attempt->hosts_tried++;
    connect_host(attempt);
}

static void connect_next(struct attempt *attempt)
{
    attempt->is_ready = false;
    attempt->is_reused = attempt->has_transacted = false;
    if (attempt->hosts_tried > 0 || attempt->stale >= STALE_MAX ||
        !flight_take_idle(attempt))
        connect_chosen(attempt);
}

static void on_lack(void *owner)
{
    struct attempt *attempt = owner;

    attempt->goes_in_clear = attempt->goes_again = false;
    connect_next(attempt);
}

void attempt_lacks(struct attempt *attempt, const struct said *lack)
{
    attempt->lack = lack;
    attempt->lacking |=
        host_bit(&attempt->destination->plan, connection_host(attempt->connection));
    flight_leave(attempt);
    end_judging(attempt);
    if (attempt->is_reused)
        attempt->hosts_tried = 1; /* no further idle one: it may be the same host */
    loop_defer(attempt->deliver->rooms.loop, &attempt->again, on_lack, attempt);
}

/* ---- a connection that ends ---- */

/* Our own address is gone: nobody else's fault. */
static bool is_by_source(const struct attempt *attempt)
{
    struct source *source = attempt->destination->source;

    return source && !connection_was_dialed(attempt->connection) && source_blame(source);
}

static void broken_before_mail(struct attempt *attempt, bool wants_clear)
{
    /* Closed while it was idle, or because the host takes no more on one connection: nobody's
     * fault. Each connection that has transacted settled somebody: this ends. */
    if (attempt->is_reused || attempt->has_transacted) {
        attempt->stale += attempt->is_reused;
        drop_connection(attempt);
        connect_next(attempt);
        return;
    }
    if ((wants_clear && !attempt->goes_in_clear) ||
        (connection_wants_again(attempt->connection) && !attempt->goes_again)) {
        attempt->goes_in_clear |= wants_clear;
        attempt->goes_again |= !wants_clear;
        drop_connection(attempt);
        if (!is_outdated(attempt) && pacing_may_connect(attempt, connect_again))
            connect_host(attempt);
        return;
    }
    /* It is we who have no room, for a handshake or a descriptor: that says nothing of the host. */
    if (attempt->fault.code == RESULT_BUSY) {
        drop_connection(attempt);
        connection_close_longest_idle(attempt->deliver);
        attempt_postpone(attempt, NO_ROOM_MS, attempt->fault.text);
        return;
    }
    /* It takes us, only not so many at once: no fault of the host. */
    if (connection_objects(attempt->connection) &&
        pacing_has_others(attempt, connection_host(attempt->connection))) {
        drop_connection(attempt); /* it has more to say, or is closing */
        attempt_postpone(attempt, 0, attempt->fault.text);
        return;
    }
    if (is_by_source(attempt)) {
        pacing_gives_back(attempt);
        drop_connection(attempt);
        attempt_postpone(attempt, 0, attempt->fault.text); /* it goes by another one */
        return;
    }
    if (connection_fails_policy(attempt->connection)) {
        attempt->policy_fault = arena_text(&attempt->arena, slice_of(attempt->fault.text));
    } else {
        host_fault(attempt->destination, current_host(attempt)->name);
        connection_blame_address(attempt->connection);
    }
    drop_connection(attempt);
    next_host(attempt);
}

static void broken_inside(struct attempt *attempt)
{
    bool has_next = attempt->host_at + 1 < attempt->destination->plan.host_count &&
                    attempt->hosts_tried > 0;

    attempt->drops++;
    drop_connection(attempt);
    payload_close(attempt);
    if (attempt->drops == 1 && has_next && !attempt->dot_was_sent) {
        next_host(attempt);
        return;
    }
    attempt_finish(attempt);
}

void attempt_note_fault(struct attempt *attempt, const struct fault *fault)
{
    attempt->fault = *fault;
    attempt->fault_class = connection_fault_class(attempt->connection);
    if (connection_refusal(attempt->connection))
        pacing_reacts(attempt, connection_refusal(attempt->connection));
    if (connection_objects(attempt->connection))
        pacing_objects(attempt, fault->code == RESULT_TIMEOUT ? "silence" : "reply",
                       fault->text);
}

void attempt_broken(struct attempt *attempt, const struct fault *fault)
{
    attempt_note_fault(attempt, fault);
    if (transaction_is_under_way(attempt))
        broken_inside(attempt);
    else
        broken_before_mail(attempt, connection_wants_clear(attempt->connection));
}

/* ---- start ---- */

void attempt_learn_policy(const struct work *work, struct tls_policy *policy)
{
    const struct destination_settings *settings = destination_settings(work->destination);
    const struct plan *plan = &work->destination->plan;
    bool may_raise = settings->tls == TLS_OPPORTUNISTIC || settings->tls == TLS_REQUIRED;

    policy->domain = domain_queue_lane(work->lane->domain_queue);
    if (plan->is_route && plan->host_count > 0)
        policy->domain = plan->hosts[0].name;
    policy->wish = work->lease->envelope.tls_wish;
    if (policy->wish == TLS_WISH_WAIVED)
        may_raise = false; /* RFC 8689 4: whatever the domain asks for; not the operator */
    policy->is_authentic = work->is_authentic;
    policy->wants_dane = settings->dane && work->is_authentic && may_raise;
    policy->wants_sts =
        settings->mta_sts && plan->kind == PLAN_HOSTS && !plan->is_route && may_raise;
    policy->has_sts = work->lane->has_sts;
    policy->sts = policy->wants_sts ? work->lane->sts : NULL;
}

/* Hosts without an address of its source's family may do for another source. */
static void pass_over_hosts(struct attempt *attempt)
{
    const struct plan *plan = &attempt->destination->plan;

    for (size_t i = 0; i < plan->host_count; i++) {
        if (pool_can_reach(attempt->destination->source, &plan->hosts[i]))
            continue;
        attempt->lacking |= UINT32_C(1) << i;
        attempt->missed_host = true;
    }
}

static struct attempt *attempt_new(struct work *work)
{
    struct attempt *attempt = NEW(struct attempt);
    struct destination *destination = work->destination;

    attempt->deliver = destination->deliver;
    attempt->destination = destination;
    attempt->work = work;
    attempt->lease = work->lease;
    attempt->settings = settings_ref(destination->deliver->settings);
    attempt->started_ms = deliver_now(destination->deliver);
    attempt->fault_class = CLASS_CONNECTION;
    arena_init(&attempt->arena, ARENA_MAX);
    attempt->outcomes = arena_alloc(&attempt->arena, work->lease->group.recipient_count *
                                                         sizeof *attempt->outcomes);
    suppress_recipients(attempt->deliver, work->lease, attempt->outcomes, &attempt->arena);
    attempt_learn_policy(work, &attempt->policy);
    attempt->policy.sts = sts_policy_ref(attempt->policy.sts);
    attempt->policy.domain = arena_text(&attempt->arena, slice_of(attempt->policy.domain));
    plan_order(&destination->plan, attempt->order);
    pass_over_hosts(attempt);
    pacing_start(attempt);
    list_push_back(&attempt->deliver->attempts, &attempt->link);
    list_push_back(&destination->attempts, &attempt->of_destination);
    attempt->deliver->statistics.attempts_running++;
    return attempt;
}

struct regroup {
    struct link link;
    struct destination *destination; /* NULL: we have left, and the room is gone */
    struct work *work;
};

static void on_regrouped(void *owner, enum result result)
{
    struct regroup *regroup = owner;
    struct destination *destination = regroup->destination;
    struct fault fault;

    if (!destination) {
        work_free(regroup->work);
        memory_free(regroup);
        return;
    }
    list_remove(&destination->deliver->regroups, &regroup->link);
    if (result != RESULT_OK)
        lease_release(regroup->work->lease);
    work_free(regroup->work);
    memory_free(regroup);
    if (result == RESULT_OK) {
        destination_works(destination);
    } else { /* it is due again: not at once, or it would go round with a full disk */
        (void)fault_set(&fault, result, "the queue cannot be written: %s",
                        result_text(result));
        destination_fault(destination, &fault, CLASS_OTHER);
    }
    destination_ended(destination);
}

/* What the DNS told (router.c): the domain takes no mail, or leads back to us. */
static enum deliver_class class_of_plan(const struct plan *plan)
{
    return strcmp(plan->status, "5.4.6") == 0 ? CLASS_ROUTING : CLASS_BAD_DOMAIN;
}

void attempt_start(struct work *work)
{
    struct destination *destination = work->destination;
    struct attempt *attempt;
    struct regroup *regroup;

    if (destination->kind == PLAN_REGROUP) {
        regroup = NEW(struct regroup);
        regroup->destination = destination;
        regroup->work = work;
        list_push_back(&destination->deliver->regroups, &regroup->link);
        lease_regroup(work->lease, on_regrouped, regroup);
        return;
    }
    attempt = attempt_new(work);
    if (!attempt_has_open(attempt)) { /* it came on the list while it was ready */
        attempt_finish(attempt);
        return;
    }
    if (destination->kind == PLAN_FAIL) {
        attempt_set_open(attempt, VERDICT_FAILED,
                         said_words(&attempt->arena, class_of_plan(&destination->plan), 550,
                                    destination->plan.status, destination->plan.text,
                                    NULL));
        attempt_finish(attempt);
        return;
    }
    if (work->is_rider)
        flight_join(attempt);
    else
        connect_next(attempt);
}

/* ---- leaving ---- */

void regroups_abort(struct deliver *deliver)
{
    struct link *link;

    /* The last commit takes them, and tells when nobody is left to hear it. */
    while ((link = list_pop_front(&deliver->regroups)))
        CONTAINER_OF(link, struct regroup, link)->destination = NULL;
}

static bool has_delivered(const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (attempt->outcomes[i].verdict == VERDICT_DELIVERED)
            return true;
    return false;
}

void attempt_drain(struct attempt *attempt)
{
    if (!attempt->is_in_body && !attempt->dot_was_sent && !has_delivered(attempt))
        give_up(attempt);
}

bool attempt_abort(struct attempt *attempt)
{
    bool is_doubtful = attempt->dot_was_sent || has_delivered(attempt);

    give_up(attempt);
    return is_doubtful;
}
