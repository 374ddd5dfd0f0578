/* Each due domain queue finds its destination, or rests with the reason written on it. */
#include "deliver_world.h"
#include "known_hosts.h"
#include "sts.h"

static struct lane *lane_named(const struct world *w, const char *name)
{
    struct domain_queue *domain_queue = queue_find_domain_queue(w->queue, name);

    assert_non_null(domain_queue);
    return domain_queue_attachment(domain_queue);
}

static void expect_failed(struct world *w, const char *recipient, const char *status)
{
    w->envelope.sender = "";
    (void)world_send(w, recipient);
    WORLD_UNTIL(w, world_is_empty(w) && world_counts(w).recipients_failed == 1);
    assert_int_equal(world_logged(w, "deliver.report_failed", status), 1);
    assert_int_equal(world_counts(w).connections, 0);
}

TEST(lane, a_domain_that_does_not_exist_fails_at_once)
{
    expect_failed(*state, "x@nx.test", "5.1.2");
}

TEST(lane, a_domain_without_any_address_fails_at_once)
{
    expect_failed(*state, "x@empty.test", "5.4.4");
}

TEST(lane, dns_that_cannot_say_makes_the_lane_wait_longer_each_time)
{
    static const int64_t waits[] = {60000, 300000, 900000, 900000};
    struct world *w = *state;
    uint64_t commits;
    struct why why;

    (void)world_send(w, "x@servfail.test");
    commits = world_numbers(w).commits;
    for (unsigned i = 0; i < 4; i++) {
        WORLD_UNTIL(w, queue_find_domain_queue(w->queue, "servfail.test") &&
                           lane_named(w, "servfail.test") &&
                           lane_named(w, "servfail.test")->dns_failures == i + 1);
        why = world_why(w, "servfail.test");
        assert_int_equal(why.kind, WHY_DNS);
        assert_true(why.until_ms - deliver_now(w->deliver) <= waits[i]);
        assert_true(why.until_ms - deliver_now(w->deliver) > waits[i] - 20000);
        deliver_wake(w->deliver, "servfail.test");
    }
    assert_int_equal(world_numbers(w).commits, commits); /* nothing was written */
    assert_int_equal(world_group(w)->attempts, 0);
}

TEST(lane, a_plan_is_kept_until_it_expires)
{
    struct world *w = *state;
    unsigned asked;

    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    asked = fake_dns_udp_count(w->dns);
    assert_true(lane_named(w, "a.test")->plan.expires_ms >
                deliver_now(w->deliver) + 200000); /* the TTL of 300 s */
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(fake_dns_udp_count(w->dns), asked);
}

/* ---- routes ---- */

static const char *const match[] = {"*.routed.test", "routed.test"};
static struct route route = {.name = "r",
                             .match = match,
                             .match_count = 2,
                             .settings = {.connections = 5,
                                          .messages_per_connection = 100,
                                          .recipients_per_transaction = 100,
                                          .pipeline_window = 32}};

static void with_route(struct world *w, const char *host)
{
    route.host = host;
    route.port = w->settings.port;
    w->settings.routes = &route;
    w->settings.route_count = 1;
    world_apply(w);
}

TEST(lane, a_route_with_an_address_asks_no_dns)
{
    struct world *w = *state;

    with_route(w, "127.0.0.1");
    w->settings.allow_private_networks = false; /* the operator wrote it: exempt */
    world_apply(w);
    w->peers[0].serves = true;
    (void)world_send(w, "x@routed.test y@sub.routed.test"); /* one lane */
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
    assert_int_equal(world_counts(w).recipients_delivered, 2);
    assert_int_equal(fake_dns_udp_count(w->dns), 0);
}

TEST(lane, a_route_with_a_name_asks_for_its_address_and_not_for_mx)
{
    struct world *w = *state;

    with_route(w, "mx2.test");
    w->peers[1].serves = true;
    (void)world_send(w, "x@routed.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[1].messages, 1);
    assert_int_equal(fake_dns_udp_count(w->dns), 2); /* A and AAAA */
}

TEST(lane, a_route_whose_host_has_no_address_waits_longer_each_time)
{
    static const int64_t waits[] = {60000, 300000, 900000};
    struct world *w = *state;

    with_route(w, "nx.test");
    (void)world_send(w, "x@routed.test");
    for (unsigned i = 0; i < 3; i++) {
        struct why why;

        WORLD_UNTIL(w, queue_find_domain_queue(w->queue, "route:r") &&
                           lane_named(w, "route:r") &&
                           lane_named(w, "route:r")->dns_failures == i + 1);
        why = world_why(w, "route:r");
        assert_int_equal(why.kind, WHY_DNS);
        assert_non_null(strstr(why.text, "nx.test"));
        assert_true(why.until_ms - deliver_now(w->deliver) <= waits[i]);
        assert_true(why.until_ms - deliver_now(w->deliver) > waits[i] - 20000);
        deliver_wake(w->deliver, "route:r");
    }
    assert_int_equal(world_counts(w).recipients_failed, 0);
}

TEST(lane, mail_of_a_route_that_is_gone_goes_the_way_of_its_domain)
{
    struct world *w = *state;

    with_route(w, "127.0.0.9"); /* nobody listens */
    (void)world_send(w, "x@routed.test");
    WORLD_UNTIL(w, world_why(w, "route:r").kind == WHY_DESTINATION);
    w->settings.route_count = 0;
    world_apply(w);
    deliver_wake(w->deliver, NULL);
    /* routed.test has no MX and no address. */
    w->envelope.sender = "";
    WORLD_UNTIL(w, world_counts(w).recipients_failed == 1);
    assert_int_equal(world_logged(w, "deliver.bounced", "5.4.4"), 1);
}

/* ---- hosts that work, but not as the domain asks ---- */

static void with_dane(struct world *w)
{
    w->settings.defaults.tls = TLS_OPPORTUNISTIC;
    w->settings.defaults.dane = true;
    world_make_tls(w, "mx2.test");
    (void)strcpy(world_tlsa, "TLSA 3 1 1 0001020304050607"
                             "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
}

TEST(lane, a_policy_that_no_host_meets_holds_its_own_domain_only)
{
    struct world *w = *state;
    struct destination *destination;
    struct why why;

    with_dane(w);
    smtp_peer_play(&w->peers[1], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n");
    (void)world_send(w, "x@sure.test");
    WORLD_UNTIL(w, world_why(w, "sure.test").kind == WHY_DESTINATION && world_is_quiet(w));
    why = world_why(w, "sure.test");
    assert_non_null(strstr(why.text, "TLSA"));
    assert_true(why.until_ms > deliver_now(w->deliver));
    assert_int_equal(world_group(w)->attempts, 0);
    assert_int_equal(world_logged(w, "deliver.policy_backoff", "sure.test"), 1);
    /* The host and the destination are not at fault. */
    destination = lane_named(w, "sure.test")->destination;
    assert_int_equal(destination->failures, 0);
    assert_int_equal(world_host(w, "mx2.test")->failures, 0);

    w->peers[1].serves = true;
    (void)world_send(w, "x@unsure.test");
    WORLD_UNTIL(w, w->peers[1].messages == 1);
    assert_ptr_equal(lane_named(w, "unsure.test")->destination, destination);
    /* What comes for it meanwhile waits too, and goes nowhere by the way that the other opened. */
    (void)world_send(w, "y@sure.test");
    WORLD_UNTIL(w, world_is_quiet(w));
    loop_run_for(w->loop, 50);
    assert_int_equal(w->peers[1].messages, 1);
    assert_int_equal(world_numbers(w).groups_waiting, 2);
}

static void sweep(struct world *w)
{
    timer_start(&w->deliver->sweep, 0);
    loop_run_for(w->loop, 5);
}

static void send_old(struct world *w, const char *recipient)
{
    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 25 * (int64_t)HOUR_MS;
    (void)world_send(w, recipient);
}

static void on_no_answer(void *owner, enum sts_answer answer,
                         const struct sts_policy *policy)
{
    (void)owner;
    (void)answer;
    (void)policy;
}

/* Servers of others that are silent must not be able to make a policy none. */
TEST(lane, without_a_place_to_fetch_its_policy_mail_waits_and_is_not_sent_without)
{
    struct world *w = *state;
    struct sts_ask *others[LIMIT_STS_FETCHES];
    char domain[32];

    w->settings.defaults.tls = TLS_OPPORTUNISTIC;
    w->settings.defaults.mta_sts = true;
    world_apply(w);
    for (size_t i = 0; i < LIMIT_STS_FETCHES; i++) {
        (void)snprintf(domain, sizeof domain, "other%zu.full.test", i);
        others[i] = sts_ask_start(w->deliver->sts, domain, NULL, on_no_answer, NULL);
    }
    /* Each has its record, and asks for both kinds of addresses of its server. */
    WORLD_UNTIL(w, fake_dns_udp_count(w->dns) >= (unsigned)3 * LIMIT_STS_FETCHES);
    sts_set_patience(w->deliver->sts, 20);
    (void)world_send(w, "x@new.full.test");
    WORLD_UNTIL(w, world_why(w, "new.full.test").kind == WHY_NO_ROOM);
    assert_non_null(strstr(world_why(w, "new.full.test").text, "MTA-STS"));
    assert_true(world_why(w, "new.full.test").until_ms > deliver_now(w->deliver));
    assert_int_equal(world_group(w)->attempts, 0);
    assert_int_equal(w->peers[0].accepted, 0);
    send_old(w, "old@new.full.test"); /* and it expires as other mail that waits */
    WORLD_UNTIL(w, world_is_quiet(w));
    sweep(w);
    WORLD_UNTIL(w, world_counts(w).recipients_expired == 1);
    for (size_t i = 0; i < LIMIT_STS_FETCHES; i++)
        sts_ask_cancel(others[i]);
}

static void count_answer(void *owner, enum sts_answer answer,
                         const struct sts_policy *policy)
{
    (void)answer;
    (void)policy;
    ++*(unsigned *)owner;
}

/* Else a slow answer behind a long line would be taken for a policy that cannot be had. */
TEST(lane, who_waited_for_a_place_has_all_of_the_time_to_fetch_its_policy)
{
    struct world *w = *state;
    unsigned ended = 0;
    int64_t began_ms;
    char domain[32];

    w->settings.defaults.tls = TLS_OPPORTUNISTIC;
    w->settings.defaults.mta_sts = true;
    world_apply(w);
    sts_set_patience(w->deliver->sts, 1500);
    for (size_t i = 0; i < LIMIT_STS_FETCHES; i++) {
        (void)snprintf(domain, sizeof domain, "other%zu.full.test", i);
        assert_non_null(sts_ask_start(w->deliver->sts, domain, NULL, count_answer, &ended));
    }
    WORLD_UNTIL(w, fake_dns_udp_count(w->dns) >= (unsigned)3 * LIMIT_STS_FETCHES);
    sts_set_patience(w->deliver->sts, 4000);
    w->peers[0].serves = true;
    (void)world_send(w, "x@new.full.test");
    WORLD_UNTIL(w, ended > 0); /* so there is a place */
    began_ms = loop_now_ms(w->loop);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_true(loop_now_ms(w->loop) - began_ms >= 3900);
    assert_int_equal(ended, LIMIT_STS_FETCHES);
}

TEST(lane, waking_ends_the_back_off_of_a_policy_and_a_host_that_meets_it_forgets_it)
{
    struct world *w = *state;

    with_dane(w);
    for (unsigned i = 1; i <= 3; i++) {
        smtp_peer_play(&w->peers[1], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n");
        if (i == 1)
            (void)world_send(w, "x@sure.test");
        else
            deliver_wake(w->deliver, "sure.test");
        WORLD_UNTIL(w, queue_find_domain_queue(w->queue, "sure.test") &&
                           lane_named(w, "sure.test") &&
                           lane_named(w, "sure.test")->policy_failures == i &&
                           world_is_quiet(w));
    }
    /* The records were mended; what is cached of them is not waited for here. */
    w->settings.defaults.dane = false;
    world_apply(w);
    w->peers[1].serves = true;
    deliver_wake(w->deliver, "sure.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[1].messages, 1);
    assert_int_equal(lane_named(w, "sure.test")->policy_failures, 0);
}

TEST(lane, a_reload_asks_again_whoever_waits_for_a_policy)
{
    struct world *w = *state;

    with_dane(w);
    smtp_peer_play(&w->peers[1], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n");
    (void)world_send(w, "x@sure.test");
    WORLD_UNTIL(w, world_why(w, "sure.test").kind == WHY_DESTINATION && world_is_quiet(w));
    w->settings.defaults.dane = false;
    w->peers[1].serves = true;
    world_apply(w);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[1].messages, 1);
}

/* ---- resting and waking ---- */

TEST(lane, waking_forgets_the_back_off_of_its_destination_and_hosts)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    assert_true(world_host(w, "mx1.test")->until_ms > deliver_now(w->deliver));
    w->peers[0].serves = true;
    deliver_wake(w->deliver, "a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
}

TEST(lane, waking_a_lane_wakes_it_for_every_tenant)
{
    static const char *const tenants[] = {NULL, "red", "blue"};
    struct world *w = *state;
    struct domain_queue *next;
    size_t position = 0;
    size_t resting = 0;

    smtp_peer_play(&w->peers[0], "S: 421 4.3.2 busy\nC: <closed>\n");
    for (size_t i = 0; i < 3; i++) {
        w->envelope.tenant = tenants[i];
        (void)world_send(w, "x@a.test");
        WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION && world_is_quiet(w));
    }
    w->peers[0].serves = true;
    deliver_wake(w->deliver, "a.test");
    WORLD_UNTIL(w, w->deliver->wakes.waiting.count == 0);
    while ((next = queue_next_domain_queue(w->queue, &position)))
        resting += ((struct lane *)domain_queue_attachment(next))->until_ms > 0;
    assert_int_equal(resting, 0);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 3);
}

TEST(lane, waking_all_wakes_each)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    smtp_peer_play(&w->peers[2], "S: 421 busy\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    (void)world_send(w, "x@c.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION &&
                       world_why(w, "c.test").kind == WHY_DESTINATION);
    w->peers[0].serves = w->peers[2].serves = true;
    deliver_wake(w->deliver, NULL);
    WORLD_UNTIL(w, world_is_empty(w));
}

TEST(lane, it_says_what_it_waits_for)
{
    struct world *w = *state;
    struct why why = world_why(w, "a.test");

    assert_int_equal(why.kind, WHY_SCHEDULED); /* it is not even there */
    w->settings.defaults.connections = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], "S: <hold>\nS: 220 mx\nS: <serve>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 2);
    why = world_why(w, "a.test");
    assert_string_equal(why.destination, "mx1.test");
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_why(w, "a.test").kind, WHY_SCHEDULED);
}

/* ---- what waits behind a fault expires too ---- */

TEST(lane, old_mail_behind_a_back_off_expires_with_the_fault_as_its_reason)
{
    struct world *w = *state;

    w->envelope.sender = "";
    smtp_peer_play(&w->peers[0], "S: 421 4.3.2 busy\nC: <closed>\n");
    send_old(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    sweep(w);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_expired, 1);
    assert_int_equal(world_logged(w, "deliver.report_failed", "421 4.3.2 busy"), 1);
    assert_int_equal(w->peers[0].accepted, 1);
}

TEST(lane, nothing_expires_untried_after_a_start)
{
    struct world *w = *state;
    struct plan_host host = {.name = "mx1.test", .preference = 10};
    struct plan plan = {.kind = PLAN_HOSTS, .hosts = &host, .host_count = 1, .rule = -1};
    struct fault fault = {RESULT_REFUSED, "refused"};

    w->deliver->is_draining = true; /* no attempt before the start */
    send_old(w, "x@a.test");
    world_restart(w);
    destination_fault(destination_get(w->deliver, &plan, "b.test"), &fault,
                      CLASS_CONNECTION);
    WORLD_UNTIL(w, queue_find_domain_queue(w->queue, "a.test") &&
                       world_why(w, "a.test").kind == WHY_DESTINATION);
    sweep(w);
    WORLD_UNTIL(w, world_is_quiet(w));
    assert_int_equal(world_look(w), 1); /* the fault of others does not count yet */
    w->peers[0].serves = true;
    deliver_wake(w->deliver, NULL);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 1);
}

/* No destination can be made for it: all that are known have something to wait for. */
TEST(lane, mail_that_no_destination_can_be_made_for_expires_too_and_the_log_says_so)
{
    struct world *w = *state;
    struct plan plan = {.kind = PLAN_FAIL, .rule = -1};
    char name[32];

    w->envelope.sender = "";
    for (unsigned i = 0; i < LIMIT_DESTINATIONS; i++) {
        (void)snprintf(name, sizeof name, "d%u.test", i);
        destination_get(w->deliver, &plan, name)->until_ms =
            deliver_now(w->deliver) + HOUR_MS;
    }
    send_old(w, "x@a.test");
    send_old(w, "x@b.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_READY_FULL &&
                       world_why(w, "b.test").kind == WHY_READY_FULL);
    assert_int_equal(world_logged(w, "deliver.destinations_full", "100000"), 1);
    sweep(w);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_expired, 2);
}

/* What a look leaves of a lane is taken in the next step, and not five seconds later. */
TEST(lane, one_sweep_is_enough_for_all_that_has_expired)
{
    struct world *w = *state;

    w->envelope.sender = "";
    smtp_peer_play(&w->peers[0], "S: 421 4.3.2 busy\nC: <closed>\n");
    for (int i = 0; i < 120; i++) {
        send_old(w, "x@a.test");
        WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION && world_is_quiet(w));
    }
    timer_start(&w->deliver->sweep, 0);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_expired, 120);
    assert_int_equal(w->deliver->sweeps, 1);
    assert_int_equal(w->deliver->expiry_left + w->deliver->expiring.count, 0);
}

TEST(lane, a_lane_without_a_fault_is_not_swept)
{
    struct world *w = *state;

    (void)world_send(w, "x@servfail.test");
    WORLD_UNTIL(w, world_why(w, "servfail.test").kind == WHY_DNS);
    assert_int_equal(w->deliver->faulty.count, 1);
    lane_rest(lane_named(w, "servfail.test"), 0, WHY_SCHEDULED, "");
    assert_int_equal(w->deliver->faulty.count, 0);
}

/* ---- the sender of what waits behind a fault is told ---- */

/* It cannot be looked up: a report to it stays in the queue. */
#define UNKNOWN_SENDER "sender@servfail.test"

static void set_notice(struct world *w, int64_t hours)
{
    w->settings.delay_notice_ms = hours * HOUR_MS;
    world_apply(w);
}

/* Five hours old, behind a back-off. */
static uint64_t send_late(struct world *w, const char *recipient)
{
    uint64_t id;

    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 5 * (int64_t)HOUR_MS;
    id = world_send(w, recipient);
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION && world_is_quiet(w));
    return id;
}

static void fail_once(struct world *w)
{
    smtp_peer_play(&w->peers[0], "S: 421 4.3.2 busy\nC: <closed>\n");
}

static void sweep_over(struct world *w)
{
    sweep(w);
    WORLD_UNTIL(w, world_is_quiet(w));
}

/* How many no sweep has looked at yet. */
static size_t count_unjudged(struct world *w)
{
    struct domain_queue *domain_queue = queue_find_domain_queue(w->queue, "a.test");
    struct queue_entry entry;
    size_t count = 0;

    while (domain_queue_take_late(domain_queue, loop_wall_ms(w->loop), &entry)) {
        domain_queue_give_back(domain_queue, &entry);
        count++;
    }
    return count;
}

static size_t count_notified(struct world *w, size_t *reports)
{
    size_t count = 0;

    *reports = 0;
    (void)world_look(w);
    for (size_t i = 0; i < w->seen_count; i++) {
        count += w->seen[i].delay_notified;
        *reports += w->seen[i].sender[0] == '\0';
    }
    return count;
}

TEST(lane, of_late_mail_behind_a_back_off_its_sender_is_told_and_it_waits_as_before)
{
    struct world *w = *state;
    struct seen before;
    uint64_t commits;
    size_t reports;

    w->envelope.sender = UNKNOWN_SENDER;
    set_notice(w, 4);
    fail_once(w);
    (void)send_late(w, "x@a.test");
    before = *world_group(w);
    commits = world_numbers(w).commits;
    for (int i = 0; i < 3; i++)
        sweep_over(w);
    assert_int_equal(world_counts(w).reports_queued, 1);
    assert_int_equal(world_numbers(w).commits, commits + 1); /* G3, and once */
    assert_int_equal(count_notified(w, &reports), 1);
    assert_int_equal(reports, 1);
    for (size_t i = 0; i < w->seen_count; i++)
        if (w->seen[i].delay_notified) {
            before.delay_notified = true;
            assert_memory_equal(&w->seen[i], &before, sizeof before);
        }
    assert_int_equal(world_counts(w).recipients_deferred, 0);
    assert_int_equal(world_logged(w, "\"deliver.deferred\"", ""), 0);
    assert_int_equal(world_logged(w, "\"deliver.report_queued\"", UNKNOWN_SENDER), 1);
    w->peers[0].serves = true;
    deliver_wake(w->deliver, "a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 1 && world_is_quiet(w));
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", "\"attempts\":1"), 1);
}

TEST(lane, of_late_mail_nobody_is_told_again_after_a_start)
{
    struct world *w = *state;
    size_t reports;

    w->envelope.sender = UNKNOWN_SENDER;
    set_notice(w, 4);
    fail_once(w);
    (void)send_late(w, "x@a.test");
    sweep_over(w);
    assert_int_equal(world_counts(w).reports_queued, 1);
    world_restart(w);
    fail_once(w);
    WORLD_UNTIL(w, queue_find_domain_queue(w->queue, "a.test") &&
                       world_why(w, "a.test").kind == WHY_DESTINATION);
    (void)send_late(w, "y@a.test");
    sweep_over(w);
    assert_int_equal(world_counts(w).reports_queued, 1); /* of y */
    assert_int_equal(count_unjudged(w), 0);              /* it looked at x too */
    assert_int_equal(count_notified(w, &reports), 2);
    assert_int_equal(reports, 2);
}

TEST(lane, of_late_mail_behind_a_fault_of_the_dns_its_sender_is_told_too)
{
    struct world *w = *state;
    size_t reports;

    w->envelope.sender = UNKNOWN_SENDER;
    set_notice(w, 4);
    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 5 * (int64_t)HOUR_MS;
    (void)world_send(w, "x@servfail.test");
    WORLD_UNTIL(w, world_why(w, "servfail.test").kind == WHY_DNS);
    sweep_over(w);
    sweep_over(w);
    assert_int_equal(count_notified(w, &reports), 1); /* and of the report nobody */
    assert_int_equal(reports, 1);
}

TEST(lane, of_late_mail_nobody_is_told_who_does_not_want_it_and_nothing_is_written)
{
    static const struct {
        const char *sender;
        uint8_t notify;
        int64_t hours;
    } rows[] = {{UNKNOWN_SENDER, NOTIFY_NEVER, 4},
                {UNKNOWN_SENDER, NOTIFY_FAILURE | NOTIFY_SUCCESS, 4},
                {"", 0, 4},
                {UNKNOWN_SENDER, 0, 6}}; /* not late yet */
    struct world *w = *state;
    uint64_t commits;

    fail_once(w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        set_notice(w, rows[i].hours);
        w->envelope.sender = rows[i].sender;
        w->recipient.notify = rows[i].notify;
        (void)send_late(w, "x@a.test");
        commits = world_numbers(w).commits;
        sweep_over(w);
        assert_int_equal(world_counts(w).reports_queued, 0);
        assert_int_equal(world_numbers(w).commits, commits);
        assert_int_equal(world_numbers(w).groups_waiting, i + 1);
        assert_int_equal(count_unjudged(w), rows[i].hours == 6);
    }
}

TEST(lane, where_no_notice_is_wanted_late_mail_is_not_even_looked_at)
{
    struct world *w = *state;
    uint64_t commits;

    fail_once(w);
    (void)send_late(w, "x@a.test");
    commits = world_numbers(w).commits;
    sweep_over(w);
    assert_int_equal(world_numbers(w).commits, commits);
    assert_int_equal(count_unjudged(w), 1);
}

/* It can still expire only after an attempt of its own (G6): there is no "later" to tell. */
TEST(lane, of_mail_that_will_expire_no_delay_is_told)
{
    struct world *w = *state;

    w->envelope.sender = UNKNOWN_SENDER;
    w->deliver->is_draining = true; /* no attempt before the start */
    send_old(w, "x@a.test");
    set_notice(w, 4);
    world_restart(w);
    fail_once(w);
    WORLD_UNTIL(w, queue_find_domain_queue(w->queue, "a.test") &&
                       world_why(w, "a.test").kind == WHY_DESTINATION);
    sweep_over(w);
    assert_int_equal(count_unjudged(w), 0);
    assert_int_equal(world_counts(w).reports_queued, 0);
    assert_int_equal(world_counts(w).recipients_expired, 0);
}

/* 110 of them; how many are left behind so many sweeps. */
static size_t unjudged_after(struct world *w, int sweeps)
{
    w->envelope.sender = "";
    fail_once(w);
    for (int i = 0; i < 110; i++)
        (void)send_late(w, "x@a.test");
    set_notice(w, 4);
    while (sweeps-- > 0)
        sweep_over(w);
    assert_int_equal(world_numbers(w).groups_waiting, 110);
    return count_unjudged(w);
}

TEST(lane, a_sweep_looks_at_a_part_of_the_late_mail)
{
    assert_int_equal(unjudged_after(*state, 1), 10);
}

TEST(lane, the_next_sweep_looks_at_the_rest_of_the_late_mail)
{
    assert_int_equal(unjudged_after(*state, 2), 0);
}

/* ---- a domain queue that goes ---- */

TEST(lane, it_goes_with_its_domain_queue_in_the_middle_of_a_look_up)
{
    struct world *w = *state;
    struct domain_queue *domain_queue;

    (void)world_send(w, "x@silent.test");
    WORLD_UNTIL(w, fake_dns_udp_count(w->dns) > 0);
    domain_queue = queue_find_domain_queue(w->queue, "silent.test");
    assert_non_null(lane_named(w, "silent.test")->search);
    lane_on_gone(w->deliver, domain_queue);
    assert_null(domain_queue_attachment(domain_queue));
    loop_run_for(w->loop, 5); /* the answer finds nobody */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(lane, name)
        T(a_domain_that_does_not_exist_fails_at_once),
        T(a_domain_without_any_address_fails_at_once),
        T(dns_that_cannot_say_makes_the_lane_wait_longer_each_time),
        T(a_plan_is_kept_until_it_expires),
        T(a_route_with_an_address_asks_no_dns),
        T(a_route_with_a_name_asks_for_its_address_and_not_for_mx),
        T(a_route_whose_host_has_no_address_waits_longer_each_time),
        T(mail_of_a_route_that_is_gone_goes_the_way_of_its_domain),
        T(a_policy_that_no_host_meets_holds_its_own_domain_only),
        T(without_a_place_to_fetch_its_policy_mail_waits_and_is_not_sent_without),
        T(who_waited_for_a_place_has_all_of_the_time_to_fetch_its_policy),
        T(waking_ends_the_back_off_of_a_policy_and_a_host_that_meets_it_forgets_it),
        T(waking_forgets_the_back_off_of_its_destination_and_hosts),
        T(waking_a_lane_wakes_it_for_every_tenant),
        T(waking_all_wakes_each),
        T(it_says_what_it_waits_for),
        T(old_mail_behind_a_back_off_expires_with_the_fault_as_its_reason),
        T(nothing_expires_untried_after_a_start),
        T(one_sweep_is_enough_for_all_that_has_expired),
        T(a_lane_without_a_fault_is_not_swept),
        T(mail_that_no_destination_can_be_made_for_expires_too_and_the_log_says_so),
        T(a_reload_asks_again_whoever_waits_for_a_policy),
        T(of_late_mail_behind_a_back_off_its_sender_is_told_and_it_waits_as_before),
        T(of_late_mail_nobody_is_told_again_after_a_start),
        T(of_late_mail_behind_a_fault_of_the_dns_its_sender_is_told_too),
        T(of_late_mail_nobody_is_told_who_does_not_want_it_and_nothing_is_written),
        T(where_no_notice_is_wanted_late_mail_is_not_even_looked_at),
        T(of_mail_that_will_expire_no_delay_is_told),
        T(a_sweep_looks_at_a_part_of_the_late_mail),
        T(the_next_sweep_looks_at_the_rest_of_the_late_mail),
        T(it_goes_with_its_domain_queue_in_the_middle_of_a_look_up),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
