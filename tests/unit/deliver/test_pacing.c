/* How one attempt waits for its pace. */
#include "attempt_inner.h"
#include "deliver_world.h"
#include "known_hosts.h"
#include "scope.h"
#include "source.h"

static const struct pace *pace_of(const struct world *w)
{
    return &CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination,
                         link)
                ->scope->pace;
}

TEST(pacing, each_transaction_of_an_attempt_is_a_message)
{
    struct world *w = *state;
    int64_t begun_ms;

    w->settings.defaults.recipients_per_transaction = 1;
    w->settings.defaults.message_rate = (struct quota){10, 1000};
    world_apply(w);
    w->peers[0].serves = true;
    begun_ms = loop_now_ms(w->loop);
    for (int i = 0; i < 5; i++)
        (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_true(loop_now_ms(w->loop) - begun_ms >= 400);
    assert_int_equal(w->peers[0].messages, 5);
    assert_int_equal(pace_of(w)->promised_messages, 0);
}

TEST(pacing, where_others_are_let_in_421_is_no_fault_of_the_host)
{
    struct world *w = *state;

    smtp_peer_play(
        &w->peers[0],
        "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: MAIL *\nS: <hold>\nS: 250 ok\nS: <serve>\n");
    smtp_peer_play(&w->peers[0], "S: 421 4.7.0 too many of you\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, world_logged(w, "deliver.pace_changed", "too many of you") == 1);
    assert_int_equal(pace_of(w)->window, 2);
    assert_int_equal(world_logged(w, "deliver.destination_backoff", ""), 0);
    assert_true(!host_find(CONTAINER_OF(list_first(&w->deliver->all_destinations),
                                        struct destination, link),
                           "mx1.test") ||
                world_host(w, "mx1.test")->until_ms == 0);
    w->peers[0].serves = true;
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 2);
    assert_int_equal(pace_of(w)->running, 0);
}

TEST(pacing, alone_421_backs_off_the_destination_as_ever)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 4.7.0 go away\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    assert_int_equal(pace_of(w)->window, 2);
    assert_int_equal(world_logged(w, "deliver.pace_changed", "go away"), 1);
    assert_int_equal(pace_of(w)->running, 0);
    assert_int_equal(pace_of(w)->promised_messages, 0);
    assert_int_equal(pace_of(w)->promised_connections, 0);
}

TEST(pacing, an_attempt_that_waits_can_be_dropped)
{
    struct world *w = *state;

    w->settings.defaults.recipients_per_transaction = 1;
    w->settings.defaults.message_rate = (struct quota){1, 3000};
    world_apply(w);
    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    loop_run_for(w->loop, 1);
    deliver_drain(w->deliver, world_on_empty, w);
    WORLD_UNTIL(w, w->empties == 1);
    assert_int_equal(w->peers[0].messages, 0);
}

static const struct reaction suspends[] = {
    {.text = "go away", .action = REACTION_SUSPEND, .for_ms = HOUR_MS}};
static const char *const hosts[] = {"*.test"};
static const struct destination_rule rule = {
    .name = "all",
    .match = hosts,
    .match_count = 1,
    .settings = {.connections = 1,
                 .messages_per_connection = 100,
                 .recipients_per_transaction = 100}};

/* One that ended, and was not looked at since: it is a new one that begins. */
TEST(pacing, a_suspension_behind_one_that_ended_holds_what_is_ready)
{
    struct world *w = *state;
    struct pace *pace;

    w->settings.rules = &rule;
    w->settings.rule_count = 1;
    w->settings.reactions = suspends;
    w->settings.reaction_count = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: MAIL *\nS: <hold>\n"
                                 "S: 450 4.7.1 go away\nS: <serve>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "x@c.test"); /* another host: it stands in the queue of the scope */
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 2);
    pace = (struct pace *)(uintptr_t)pace_of(w);
    pace->suspended_until_ms = deliver_now(w->deliver) - 1;
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_why(w, "c.test").kind == WHY_SUSPENDED);
    assert_int_equal(world_logged(w, "deliver.pace_changed", "\"old\":\"no\""), 1);
}

static const uint32_t schedule[] = {2, 10};
static const struct deliver_pool_member members[] = {{"one", 0}};
static const struct deliver_pool pool = {"main", members, 1};
static struct deliver_source one;

static struct source *start_pool(struct world *w, size_t days)
{
    one = (struct deliver_source){
        .name = "one", .weight = 1, .warm_up = schedule, .warm_up_count = days};
    assert_int_equal(ip_parse(slice_of("127.0.0.2"), &one.ip), RESULT_OK);
    w->settings.sources = &one;
    w->settings.source_count = 1;
    w->settings.pools = &pool;
    w->settings.pool_count = 1;
    w->settings.defaults.pool = "main";
    world_apply(w);
    return source_find(w->deliver->sources, "one");
}

/* The way of the only source: the head was there before it. */
static struct scope *scope_of_path(const struct world *w)
{
    struct link *link = list_first(&w->deliver->all_destinations);

    link = list_next(&w->deliver->all_destinations, link);
    return CONTAINER_OF(link, struct destination, link)->scope;
}

static bool has_token(struct world *w, struct bucket *bucket)
{
    return bucket_wait_ms(bucket, 0, loop_now_ms(w->loop)) == 0;
}

/* As if nothing had been sent for so long. */
static void fill(struct world *w, struct bucket *bucket)
{
    bucket->at_ms = loop_now_ms(w->loop) - HOUR_MS;
    scope_serve(scope_of_path(w));
}

TEST(pacing, who_waits_for_a_warm_up_uses_up_no_token_of_the_rate)
{
    struct world *w = *state;
    struct source *source;
    struct attempt *attempt;
    struct bucket *bucket;

    w->settings.defaults.recipients_per_transaction = 1;
    w->settings.defaults.message_rate = (struct quota){1, HOUR_MS};
    source = start_pool(w, 2);
    smtp_peer_play(&w->peers[0], GREET_PIPELINING
                   "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
                   "C: <data>\nS: <hold>\nS: 250 taken\nS: <serve>\n");
    (void)world_send(w, "x@a.test y@a.test");
    WORLD_UNTIL(w, w->deliver->all_destinations.count == 2 && scope_of_path(w));
    bucket = &scope_of_path(w)->pace.messages;
    fill(w, bucket);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    source_promise(source); /* the last of today is another's */
    fill(w, bucket);
    attempt = attempt_of_link(list_first(&w->deliver->attempts));
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, timer_is_waiting(&attempt->pause));
    assert_true(has_token(w, bucket));
    source_break(source);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
    assert_false(has_token(w, bucket));
    assert_int_equal(source->warm.used, 2);
}

TEST(pacing, a_dial_that_our_address_fails_gives_its_token_back)
{
    struct world *w = *state;
    struct source *source;
    struct bucket *bucket;

    w->settings.defaults.connection_rate = (struct quota){1, HOUR_MS};
    source = start_pool(w, 0);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->deliver->all_destinations.count == 2 && scope_of_path(w));
    bucket = &scope_of_path(w)->pace.new_connections;
    assert_int_equal(ip_parse(slice_of("192.0.2.1"), &source->ip), RESULT_OK);
    fill(w, bucket);
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SOURCE);
    assert_int_equal(world_logged(w, "deliver.source_set_aside", "one"), 1);
    assert_true(has_token(w, bucket));
    assert_int_equal(w->peers[0].accepted, 0);
}

static void fill_new_connections(struct world *w)
{
    struct scope *scope =
        CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination, link)
            ->scope;

    scope->pace.new_connections.at_ms = loop_now_ms(w->loop) - HOUR_MS;
    scope_serve(scope);
}

static struct destination *destination_of_two(struct world *w)
{
    const struct list *all = &w->deliver->all_destinations;
    struct destination *two;

    w->settings.defaults.connection_rate = (struct quota){1, HOUR_MS};
    world_apply(w);
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, all->count == 1);
    two = CONTAINER_OF(list_first(all), struct destination, link);
    WORLD_UNTIL(w, two->scope && two->standing > 0);
    return two;
}

/* The rate lets one more connection be made, and no back-off of a host has lasted so long. */
static void let_one_more(struct world *w)
{
    const struct destination *destination =
        CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination, link);

    for (size_t i = 0; i < destination->plan.host_count; i++)
        if (host_find(destination, destination->plan.hosts[i].name))
            host_find(destination, destination->plan.hosts[i].name)->until_ms = 1;
    fill_new_connections(w);
    deliver_wake(w->deliver, "two.test");
}

TEST(pacing, behind_a_dead_host_the_next_token_is_the_next_hosts)
{
    struct world *w = *state;
    struct destination *two = destination_of_two(w);

    for (int i = 0; i < 3; i++)
        smtp_peer_play(&w->peers[0], "S: <close>\n");
    w->peers[1].serves = true;
    let_one_more(w);
    WORLD_UNTIL(w, w->peers[0].accepted == 1 && two->passed == 1 && two->running == 0);
    let_one_more(w);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].accepted, 1);
    assert_int_equal(w->peers[1].messages, 1);
    assert_int_equal(two->passed, 0);
    assert_int_equal(two->failures, 0);
}

TEST(pacing, when_every_host_had_its_token_the_destination_backs_off)
{
    struct world *w = *state;
    struct destination *two = destination_of_two(w);

    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++)
            smtp_peer_play(&w->peers[k], "S: <close>\n");
    for (unsigned round = 1; round <= 2; round++) {
        let_one_more(w);
        WORLD_UNTIL(w, w->peers[0].accepted == round && two->passed == 1);
        let_one_more(w);
        WORLD_UNTIL(w, w->peers[1].accepted == round && two->until_ms > 0);
        assert_int_equal(w->peers[0].accepted, round);
        assert_int_equal(two->failures, round);
        assert_int_equal(two->passed, 0);
    }
}

TEST(pacing, the_failed_one_is_asked_again_where_the_next_cannot_be)
{
    struct world *w = *state;
    struct destination *two = destination_of_two(w);

    smtp_peer_play(&w->peers[0], "S: <close>\n");
    let_one_more(w);
    WORLD_UNTIL(w, w->peers[0].accepted == 1 && two->passed == 1);
    w->peers[0].serves = true;
    host_fault(two, "mx2.test"); /* of other mail */
    fill_new_connections(w);
    host_find(two, "mx1.test")->until_ms = 1;
    deliver_wake(w->deliver, "two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
    assert_int_equal(w->peers[1].accepted, 0);
    assert_int_equal(two->passed, 0);
}

TEST(pacing, a_host_that_works_meanwhile_is_the_first_again)
{
    struct world *w = *state;
    struct destination *two = destination_of_two(w);

    smtp_peer_play(&w->peers[0], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: MAIL *\nS: <hold>\n"
                                 "S: 250 ok\nS: <serve>\n");
    let_one_more(w);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    two->passed = 3; /* others failed at both, while this one was under way */
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(two->passed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(pacing, each_transaction_of_an_attempt_is_a_message),
        WITH_WORLD(pacing, where_others_are_let_in_421_is_no_fault_of_the_host),
        WITH_WORLD(pacing, alone_421_backs_off_the_destination_as_ever),
        WITH_WORLD(pacing, an_attempt_that_waits_can_be_dropped),
        WITH_WORLD(pacing, who_waits_for_a_warm_up_uses_up_no_token_of_the_rate),
        WITH_WORLD(pacing, a_dial_that_our_address_fails_gives_its_token_back),
        WITH_WORLD(pacing, behind_a_dead_host_the_next_token_is_the_next_hosts),
        WITH_WORLD(pacing, when_every_host_had_its_token_the_destination_backs_off),
        WITH_WORLD(pacing, the_failed_one_is_asked_again_where_the_next_cannot_be),
        WITH_WORLD(pacing, a_host_that_works_meanwhile_is_the_first_again),
        WITH_WORLD(pacing, a_suspension_behind_one_that_ended_holds_what_is_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
