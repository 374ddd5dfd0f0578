/* What a command reaches: names, lanes that rest, lanes that are ready. */
#include "smtpd/deliver/destinations.h"

#include "deliver_world.h"
#include "destinations_act.h"
#include "held_files.h"
#include "known_hosts.h"
#include "scope.h"
#include "suspensions.h"

#include <sys/stat.h>

static const char *const hosts[] = {"*.test"};
static const struct destination_rule rule = {
    .name = "all",
    .match = hosts,
    .match_count = 1,
    .settings = {.connections = 1,
                 .messages_per_connection = 100,
                 .recipients_per_transaction = 100}};

static void set_rule(struct world *w)
{
    w->settings.rules = &rule;
    w->settings.rule_count = 1;
    world_apply(w);
}

static void expect_name(const struct world *w, const char *text, enum reach as,
                        enum reach wanted, const char *name)
{
    struct reached reached;
    struct fault fault;

    assert_int_equal(deliver_reach(w->deliver, text, as, &reached, &fault), RESULT_OK);
    assert_int_equal(reached.reach, wanted);
    assert_string_equal(reached.name, name);
}

TEST(destinations_act, names_are_told_apart)
{
    struct world *w = *state;
    struct reached reached;
    struct fault fault;

    set_rule(w);
    expect_name(w, "all", REACH_COUNT, REACH_SCOPE, "rule:all");
    expect_name(w, "rule:all", REACH_COUNT, REACH_SCOPE, "rule:all");
    expect_name(w, "A.test", REACH_COUNT, REACH_DOMAIN, "a.test");
    expect_name(w, "mx1.test", REACH_COUNT, REACH_DOMAIN, "mx1.test");
    expect_name(w, "mx1.test", REACH_DESTINATION, REACH_DESTINATION, "mx1.test");
    expect_name(w, "mx1.test>mx2.test", REACH_COUNT, REACH_DESTINATION,
                "mx1.test>mx2.test");
    expect_name(w, "route:hop", REACH_COUNT, REACH_DESTINATION, "route:hop");
    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    expect_name(w, "mx1.test", REACH_COUNT, REACH_DESTINATION, "mx1.test"); /* now known */
    expect_name(w, "mx1.test", REACH_DOMAIN, REACH_DOMAIN, "mx1.test");
    assert_int_equal(deliver_reach(w->deliver, "", REACH_COUNT, &reached, &fault),
                     RESULT_INVALID);
    assert_int_equal(deliver_reach(w->deliver, "a b", REACH_COUNT, &reached, &fault),
                     RESULT_INVALID);
    assert_int_equal(deliver_reach(w->deliver, "b", REACH_SCOPE, &reached, &fault),
                     RESULT_NOT_FOUND);
}

struct ends {
    size_t count;
    struct destinations_done done;
};

static void on_done(void *owner, const struct destinations_done *done)
{
    struct ends *ends = owner;

    ends->count++;
    ends->done = *done;
}

/* `for_ms`: of a suspension. */
static void start(struct world *w, enum destinations_change change, const char *name,
                  int64_t for_ms, struct ends *ends)
{
    struct reached reached;
    struct destinations_wish wish = {change, &reached, NULL, 0, on_done, ends};
    struct destinations_act *act;
    struct fault fault;

    assert_int_equal(deliver_reach(w->deliver, name, REACH_COUNT, &reached, &fault),
                     RESULT_OK);
    wish.until_ms = change == DESTINATIONS_SUSPEND ? deliver_now(w->deliver) + for_ms : 0;
    assert_int_equal(destinations_act_start(w->deliver, &wish, &act, &fault), RESULT_OK);
}

static struct destinations_done change_for(struct world *w, enum destinations_change change,
                                           const char *name, int64_t for_ms)
{
    struct ends ends = {.count = 0};

    start(w, change, name, for_ms, &ends);
    assert_int_equal(ends.count, 0);
    WORLD_UNTIL(w, ends.count == 1);
    return ends.done;
}

static struct destinations_done change(struct world *w, enum destinations_change change,
                                       const char *name)
{
    return change_for(w, change, name, HOUR_MS);
}

TEST(destinations_act, what_is_ready_goes_back_and_what_is_on_its_way_ends)
{
    struct world *w = *state;

    set_rule(w);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    for (int i = 0; i < 5; i++)
        (void)world_send(w, "x@a.test");
    (void)world_send(w, "x@b.test"); /* the same host */
    WORLD_UNTIL(w, w->peers[0].held == 1);
    assert_false(change(w, DESTINATIONS_SUSPEND, "a.test").was_there);
    assert_int_equal(world_why(w, "a.test").kind, WHY_SUSPENDED);
    w->peers[0].serves = true;
    smtp_peer_go(&w->peers[0]);
    /* The one that had begun, and the other domain's. */
    WORLD_UNTIL(w, w->peers[0].messages == 2);
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 0);
    assert_int_equal(world_numbers(w).groups_waiting, 4);
    assert_true(change(w, DESTINATIONS_SUSPEND, "a.test").was_there);
    assert_true(change(w, DESTINATIONS_RESUME, "a.test").was_there);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 6);
}

/* Those of the world are in no file. */
static void keep_suspensions(struct world *w, char path[128])
{
    (void)snprintf(path, 128, "%s/suspensions", w->folder);
    suspensions_free(w->deliver->suspensions);
    w->deliver->suspensions =
        suspensions_new(w->loop, w->offload, path, act_on_suspension_ended, w->deliver);
}

TEST(destinations_act, a_command_is_over_when_it_is_on_the_disk_and_not_before)
{
    static const enum destinations_change changes[] = {DESTINATIONS_SUSPEND,
                                                       DESTINATIONS_RESUME};
    struct world *w = *state;
    char path[128];

    keep_suspensions(w, path);
    for (size_t i = 0; i < 2; i++) {
        struct ends ends = {.count = 0};
        size_t ended;

        hold_files(w->offload);
        start(w, changes[i], "mx1.test>mx2.test", HOUR_MS, &ends);
        for (int k = 0; k < 50; k++)
            loop_run_for(w->loop, 1);
        ended = ends.count;
        release_files();
        assert_int_equal(ended, 0);
        /* In force meanwhile. */
        assert_int_equal(world_counts(w).suspensions[REACH_DESTINATION],
                         changes[i] == DESTINATIONS_SUSPEND);
        WORLD_UNTIL(w, ends.count == 1);
        assert_true(ends.done.is_kept);
    }
    assert_int_equal(unlink(path), 0);
}

TEST(destinations_act, a_command_that_the_disk_refuses_says_so)
{
    struct world *w = *state;
    char path[128];
    char beside[160];

    keep_suspensions(w, path);
    (void)snprintf(beside, sizeof beside, "%s.new", path);
    assert_int_equal(mkdir(beside, 0700), 0);
    assert_false(change(w, DESTINATIONS_SUSPEND, "mx1.test>mx2.test").is_kept);
    assert_int_equal(world_counts(w).suspensions[REACH_DESTINATION], 1);
    assert_int_equal(rmdir(beside), 0);
    assert_true(change(w, DESTINATIONS_RESUME, "mx1.test>mx2.test").is_kept);
    assert_int_equal(unlink(path), 0);
}

TEST(destinations_act, a_scope_rests_and_wakes_with_all_its_hosts)
{
    struct world *w = *state;

    set_rule(w);
    w->peers[0].serves = w->peers[2].serves = true;
    (void)change(w, DESTINATIONS_SUSPEND, "all");
    (void)world_send(w, "x@a.test");
    (void)world_send(w, "x@c.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SUSPENDED &&
                       world_why(w, "c.test").kind == WHY_SUSPENDED);
    assert_int_equal(world_counts(w).suspensions[REACH_SCOPE], 1);
    assert_int_equal(change(w, DESTINATIONS_RESUME, "all").lanes, 2);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).suspensions[REACH_SCOPE], 0);
}

static struct destination *first_destination(const struct world *w)
{
    return CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination,
                        link);
}

/* There are too many, or it did nothing for an hour; the suspension is there all the same. */
static void forget_destinations(struct world *w)
{
    while (w->deliver->all_destinations.count > 0)
        destination_free(first_destination(w));
}

TEST(destinations_act, what_waits_is_resumed_when_its_destination_was_forgotten)
{
    static const char *const names[] = {"mx1.test", "all"};
    struct world *w = *state;

    set_rule(w);
    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    for (size_t i = 0; i < 2; i++) {
        (void)change(w, DESTINATIONS_SUSPEND, names[i]);
        (void)world_send(w, "x@a.test");
        WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SUSPENDED);
        forget_destinations(w);
        assert_int_equal(world_why(w, "a.test").kind, WHY_SUSPENDED);
        assert_true(change(w, DESTINATIONS_RESUME, names[i]).was_there);
        WORLD_UNTIL(w, world_is_empty(w));
    }
}

/* The suspension was cut short while nobody knew whose mail it held. */
TEST(destinations_act, a_shorter_suspension_takes_the_place_for_what_was_forgotten_too)
{
    struct world *w = *state;

    set_rule(w);
    w->peers[0].serves = true;
    (void)change(w, DESTINATIONS_SUSPEND, "all");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SUSPENDED);
    forget_destinations(w);
    (void)change_for(w, DESTINATIONS_SUSPEND, "all", 50);
    WORLD_UNTIL(w, world_is_empty(w));
}

/* The time of day was set: the suspension is over, and the wait, which had its length, is not. */
TEST(destinations_act, mail_does_not_wait_for_a_suspension_that_is_over)
{
    static const struct suspension_view ended[] = {
        {.reach = REACH_DOMAIN, .name = "a.test", .reason = ""},
        {.reach = REACH_DESTINATION, .name = "mx1.test", .reason = ""},
        {.reach = REACH_SCOPE, .name = "rule:all", .reason = ""}};
    struct world *w = *state;

    set_rule(w);
    w->peers[0].serves = true;
    for (size_t i = 0; i < sizeof ended / sizeof *ended; i++) {
        const struct suspension_view *view = &ended[i];

        (void)change(w, DESTINATIONS_SUSPEND, view->name);
        (void)world_send(w, "x@a.test");
        WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SUSPENDED);
        assert_true(suspensions_remove(w->deliver->suspensions, view->reach, view->name));
        act_on_suspension_ended(w->deliver, view);
        WORLD_UNTIL(w, world_is_empty(w));
    }
}

/* Ours are many at once when providers suspend. */
TEST(destinations_act, walks_of_our_own_take_no_place_from_commands)
{
    struct world *w = *state;
    char key[32];

    for (int i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "scope%d", i);
        act_wake_scope(w->deliver, key);
    }
    assert_int_equal(w->deliver->acts.count, 4); /* each is a part of every turn */
    (void)change(w, DESTINATIONS_SUSPEND, "a.test");
    WORLD_UNTIL(w, w->deliver->acts.count == 0);
}

static struct scope *scope_at(const struct world *w)
{
    return first_destination(w)->scope;
}

/* What a reaction suspended, an operator ends for all lanes, by whichever of them. */
TEST(destinations_act, a_retry_of_one_lane_wakes_the_whole_scope)
{
    struct world *w = *state;
    struct pace_time time;

    set_rule(w);
    w->peers[0].serves = w->peers[2].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    time = scope_time(scope_at(w));
    pace_suspend(&scope_at(w)->pace, time.wall_ms + HOUR_MS,
                 &(struct pace_cause){"reaction", "go away"}, &time);
    (void)world_send(w, "x@a.test");
    (void)world_send(w, "x@c.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SUSPENDED &&
                       world_why(w, "c.test").kind == WHY_SUSPENDED);
    deliver_wake(w->deliver, "a.test");
    WORLD_UNTIL(w, world_is_empty(w));
}

/* And a bounce: what waits is kept, whatever is refused after it. */
TEST(destinations_act, a_resume_ends_what_a_reaction_bounces)
{
    struct world *w = *state;
    struct pace_time time;

    smtp_peer_play(&w->peers[0], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: MAIL *\nS: 250 ok\n"
                                 "C: RCPT *\nS: 451 4.3.0 later\nS: <serve>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_logged(w, "deliver.deferred", "later") == 1);
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 0);
    time = scope_time(scope_at(w));
    time.wall_ms++; /* later than the message */
    pace_bounce(&scope_at(w)->pace, HOUR_MS, 10, &(struct pace_cause){"reaction", "no"},
                &time);
    (void)change(w, DESTINATIONS_RESUME, "mx1.test");
    assert_int_equal(scope_at(w)->pace.bounce.left, 0);
    w->peers[0].serves = true;
    (void)change(w, DESTINATIONS_FLUSH, "mx1.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_logged(w, "deliver.bounced", ""), 0);
    assert_int_equal(w->peers[0].messages, 1);
}

/* Nobody has gone there since the start: there is no destination. */
TEST(destinations_act, a_resume_ends_a_bounce_that_only_the_file_knows)
{
    struct world *w = *state;
    struct pace_time time;
    struct scope *scope;

    set_rule(w);
    w->peers[0].serves = w->peers[2].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    scope = scope_ref(scope_at(w));
    while (w->deliver->all_destinations.count > 0)
        destination_free(CONTAINER_OF(list_first(&w->deliver->all_destinations),
                                      struct destination, link));
    time = scope_time(scope);
    pace_bounce(&scope->pace, HOUR_MS, 10, &(struct pace_cause){"reaction", "no"}, &time);
    assert_int_equal(scope->pace.bounce.left, 10);
    assert_true(change(w, DESTINATIONS_RESUME, scope->key).was_there);
    assert_int_equal(scope->pace.bounce.left, 0);
    assert_false(change(w, DESTINATIONS_RESUME, scope->key).was_there);
    scope_unref(scope);
}

TEST(destinations_act, a_flush_tries_what_waits_for_its_next_attempt)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: MAIL *\nS: 250 ok\n"
                                 "C: RCPT *\nS: 451 4.3.0 later\nS: <serve>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_logged(w, "deliver.deferred", "later") == 1);
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 0);
    w->peers[0].serves = true;
    assert_int_equal(change(w, DESTINATIONS_FLUSH, "mx1.test").groups, 1);
    WORLD_UNTIL(w, world_is_empty(w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(destinations_act, names_are_told_apart),
        WITH_WORLD(destinations_act, what_is_ready_goes_back_and_what_is_on_its_way_ends),
        WITH_WORLD(destinations_act,
                   a_command_is_over_when_it_is_on_the_disk_and_not_before),
        WITH_WORLD(destinations_act, a_command_that_the_disk_refuses_says_so),
        WITH_WORLD(destinations_act, a_scope_rests_and_wakes_with_all_its_hosts),
        WITH_WORLD(destinations_act,
                   what_waits_is_resumed_when_its_destination_was_forgotten),
        WITH_WORLD(destinations_act,
                   a_shorter_suspension_takes_the_place_for_what_was_forgotten_too),
        WITH_WORLD(destinations_act, mail_does_not_wait_for_a_suspension_that_is_over),
        WITH_WORLD(destinations_act, walks_of_our_own_take_no_place_from_commands),
        WITH_WORLD(destinations_act, a_retry_of_one_lane_wakes_the_whole_scope),
        WITH_WORLD(destinations_act, a_resume_ends_what_a_reaction_bounces),
        WITH_WORLD(destinations_act, a_resume_ends_a_bounce_that_only_the_file_knows),
        WITH_WORLD(destinations_act, a_flush_tries_what_waits_for_its_next_attempt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
