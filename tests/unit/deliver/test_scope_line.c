/* Who is next in front of the pace of a scope. */
#include "pool.h"
#include "scope.h"

#include "deliver_world.h"
#include "known_hosts.h"

static struct scope *only_scope(const struct world *w)
{
    const struct destination *destination =
        CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination, link);

    assert_int_equal(scopes_count(w->deliver->scopes), 1);
    return destination->scope;
}

/* ---- a connection that rests passes those that wait for a new one ---- */

static const char *const all_hosts[] = {"*.test"};
static struct destination_rule one_scope = {
    .name = "all",
    .match = all_hosts,
    .match_count = 1,
    .settings = {.connections = 5,
                 .messages_per_connection = 100,
                 .recipients_per_transaction = 100}};

static void set_rule(struct world *w)
{
    w->settings.rules = &one_scope;
    w->settings.rule_count = 1;
    world_apply(w);
}

static void fill(struct world *w, struct bucket *bucket)
{
    bucket->at_ms = loop_now_ms(w->loop) - HOUR_MS;
    scope_serve(only_scope(w));
}

static const struct destination *to(const struct world *w, const char *host)
{
    const struct list *all = &w->deliver->all_destinations;

    for (struct link *link = list_first(all); link; link = list_next(all, link))
        if (strncmp(CONTAINER_OF(link, struct destination, link)->key, host,
                    strlen(host)) == 0)
            return CONTAINER_OF(link, struct destination, link);
    return NULL;
}

/* mx1 has a connection that rests, and mx3 waits for an hour for one. */
static void wait_for_connection(struct world *w, struct quota messages)
{
    one_scope.settings.connections = 5;
    one_scope.settings.connection_rate = (struct quota){1, HOUR_MS};
    one_scope.settings.message_rate = messages;
    set_rule(w);
    w->peers[0].serves = w->peers[2].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, to(w, "mx1") && to(w, "mx1")->scope);
    fill(w, &only_scope(w)->pace.new_connections);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(to(w, "mx1")->idle.count, 1);
    (void)world_send(w, "y@c.test");
    WORLD_UNTIL(w, to(w, "mx3") && to(w, "mx3")->standing > 0);
}

TEST(scope_line, who_has_a_connection_does_not_wait_behind_who_lacks_one)
{
    struct world *w = *state;

    wait_for_connection(w, (struct quota){0});
    for (int i = 0; i < 5; i++)
        (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].messages == 6);
    assert_int_equal(w->peers[0].accepted, 1);
    assert_int_equal(w->peers[2].accepted, 0);
    assert_true(to(w, "mx3")->standing > 0);
    fill(w, &only_scope(w)->pace.new_connections); /* which is theirs */
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[2].messages, 1);
}

/* It stands for the rate of messages, and the clock wakes it, whoever is first in line. */
TEST(scope_line, who_stands_with_a_connection_is_woken_for_its_message)
{
    struct world *w = *state;

    wait_for_connection(w, (struct quota){20, 1000});
    for (int i = 0; i < 8; i++)
        (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].messages == 9);
    assert_int_equal(w->peers[0].accepted, 1);
    assert_true(to(w, "mx3")->standing > 0);
}

TEST(scope_line, the_pause_behind_an_objection_holds_new_connections_only)
{
    struct world *w = *state;

    wait_for_connection(w, (struct quota){0});
    only_scope(w)->pace.shrunk_ms = loop_now_ms(w->loop) + HOUR_MS;
    only_scope(w)->pace.new_connections.at_ms = loop_now_ms(w->loop) - HOUR_MS;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].messages == 2);
    assert_int_equal(w->peers[2].accepted, 0);
    only_scope(w)->pace.shrunk_ms = loop_now_ms(w->loop) - HOUR_MS;
    scope_serve(only_scope(w));
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[2].messages, 1);
}

/* The connection that rested was closed before: the next one is made in place of another's. */
TEST(scope_line, who_passed_and_took_a_connection_owes_it)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET TAKE "C: MAIL *\nS: <hold>\nS: <close>\n");
    wait_for_connection(w, (struct quota){0});
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    only_scope(w)->pace.new_connections.at_ms = loop_now_ms(w->loop) - HOUR_MS;
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, only_scope(w)->owes_connection);
    WORLD_UNTIL(w, w->peers[0].messages == 1 && to(w, "mx1")->idle.count == 1);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, to(w, "mx1")->standing > 0);
    fill(w, &only_scope(w)->pace.new_connections);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[2].messages, 1);
    assert_int_equal(w->peers[0].messages, 2);
    assert_false(only_scope(w)->owes_connection);
}

/* ---- tenants ---- */

/* All hosts are one provider, which takes a message an hour. */
static void start_provider(struct world *w)
{
    one_scope.settings.connections = 5;
    one_scope.settings.connection_rate = (struct quota){0};
    one_scope.settings.message_rate = (struct quota){1, HOUR_MS};
    set_rule(w);
    for (size_t i = 0; i < PEERS; i++)
        w->peers[i].serves = true;
}

static void send_as(struct world *w, const char *tenant, int8_t priority,
                    const char *address, unsigned count)
{
    w->envelope.tenant = tenant;
    w->envelope.priority = priority;
    for (unsigned i = 0; i < count; i++)
        (void)world_send(w, address);
}

/* Tenant A has mail at three destinations. */
static void send_newsletter(struct world *w, unsigned count)
{
    send_as(w, "A", 0, "a@a.test", count);   /* mx1 */
    send_as(w, "A", 0, "a@c.test", count);   /* mx3 */
    send_as(w, "A", 0, "a@two.test", count); /* mx1>mx2 */
    WORLD_UNTIL(w, w->deliver->all_destinations.count == 3 && only_scope(w) &&
                       only_scope(w)->line.count == 3);
}

/* So many messages are let go, one by one: the first letters of their recipients. */
static const char *go(struct world *w, unsigned count)
{
    static char letters[64];
    unsigned sent[PEERS];
    unsigned before;

    for (unsigned at = 0; at < count; at++) {
        before = 0;
        for (size_t i = 0; i < PEERS; i++)
            before += sent[i] = w->peers[i].messages;
        fill(w, &only_scope(w)->pace.messages);
        WORLD_UNTIL(w, w->peers[0].messages + w->peers[1].messages + w->peers[2].messages >
                           before);
        for (size_t i = 0; i < PEERS; i++)
            if (w->peers[i].messages > sent[i]) {
                const struct bytes *all = &w->peers[i].recipients;
                const char *end = all->data + all->length - 1;

                while (end > all->data && end[-1] != ';')
                    end--;
                letters[at] = *end;
            }
        letters[at + 1] = '\0';
        WORLD_UNTIL(w, w->deliver->attempts.count == 0);
    }
    return letters;
}

static unsigned count_of(const char *letters, char letter)
{
    unsigned count = 0;

    for (; *letters; letters++)
        count += *letters == letter;
    return count;
}

static void lift(struct world *w)
{
    one_scope.settings.message_rate = (struct quota){0};
    world_apply(w);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(only_scope(w)->line.count, 0);
    assert_int_equal(only_scope(w)->able.count, 0);
}

TEST(scope_line, a_tenant_of_many_destinations_does_not_delay_another_one)
{
    struct world *w = *state;

    start_provider(w);
    send_newsletter(w, 4);
    assert_string_equal(go(w, 2), "aa");
    send_as(w, "B", 0, "b@sure.test", 1); /* mx2 */
    WORLD_UNTIL(w, only_scope(w)->line.count == 4);
    assert_non_null(strchr(go(w, 2), 'b'));
    lift(w);
}

/* Where both have mail the turn is his whose it is, not his whom the destination would choose. */
TEST(scope_line, a_turn_at_a_shared_destination_is_of_its_tenant)
{
    struct world *w = *state;

    start_provider(w);
    send_newsletter(w, 4);
    send_as(w, "B", 0, "b@b.test", 3); /* mx1 */
    WORLD_UNTIL(w, only_scope(w)->line.count == 4);
    assert_int_equal(count_of(go(w, 6), 'b'), 3);
    lift(w);
}

/* Its group is on disk: it is read, and goes all the same. */
TEST(scope_line, a_turn_finds_what_is_not_in_memory)
{
    struct world *w = *state;

    start_provider(w);
    send_as(w, "A", 0, "a@a.test", LIMIT_READY_GROUPS + 5);
    send_as(w, "A", 0, "a@c.test", 2);
    WORLD_UNTIL(w, to(w, "mx1")->ready.works.count == LIMIT_READY_GROUPS);
    send_as(w, "B", 0, "b@b.test", 2);
    WORLD_UNTIL(w, only_scope(w)->line.count == 3);
    assert_int_equal(count_of(go(w, 6), 'b'), 2); /* while it is read another one goes */
    lift(w);
}

/* Nothing is read ahead any more: others have their turns while what a turn came for is read. */
static void read_nothing_ahead(struct world *w)
{
    one_scope.settings.connections = 1;
    w->deliver->read_ahead_most = 0;
    world_apply(w);
}

/* Of the messages that mx1 had first. */
static unsigned count_at_mx1(const struct world *w, unsigned most, const char *recipient)
{
    char *all = slice_to_text(bytes_view(&w->peers[0].recipients));
    unsigned count = 0;
    char *rest = all;

    for (const char *one; most > 0 && (one = strsep(&rest, ";")); most--)
        count += strcmp(one, recipient) == 0;
    memory_free(all);
    return count;
}

TEST(scope_line, a_turn_is_not_lost_while_another_tenants_group_is_read_there)
{
    struct world *w = *state;

    start_provider(w);
    read_nothing_ahead(w);
    send_as(w, "A", 0, "a@a.test", 30); /* mx1 */
    send_as(w, "B", 0, "b@b.test", 30); /* mx1 */
    send_as(w, "C", 0, "c@c.test", 60); /* mx3 */
    WORLD_UNTIL(w,
                w->deliver->all_destinations.count == 2 && only_scope(w)->line.count == 3);
    lift(w);
    assert_in_range(count_at_mx1(w, 30, "b@b.test"), 10, 20);
}

/* Each found nobody in the line, and was alone. */
TEST(scope_line, what_was_read_without_a_turn_has_none_before_others)
{
    struct world *w = *state;
    struct pace_time time;

    start_provider(w);
    send_as(w, "A", 0, "a@a.test", 1);
    WORLD_UNTIL(w, to(w, "mx1") && to(w, "mx1")->scope);
    fill(w, &only_scope(w)->pace.messages);
    WORLD_UNTIL(w, world_is_empty(w));
    read_nothing_ahead(w);
    time = scope_time(only_scope(w));
    pace_suspend(&only_scope(w)->pace, time.wall_ms + HOUR_MS,
                 &(struct pace_cause){"reaction", "slowly"}, &time);
    send_as(w, "A", 0, "a@a.test", 1);
    send_as(w, "A", 0, "a@c.test", 1);
    send_as(w, "A", 0, "a@two.test", 1);
    send_as(w, "A", 0, "a@halfdown.test", 1);
    send_as(w, "A", 0, "a@down.test", 1);
    WORLD_UNTIL(w, w->deliver->all_destinations.count == 5 &&
                       world_numbers(w).groups_leased == 0);
    only_scope(w)->pace.messages.at_ms = loop_now_ms(w->loop) - HOUR_MS; /* for one */
    scope_resume(only_scope(w), &(struct pace_cause){"operator", NULL});
    WORLD_UNTIL(w, only_scope(w)->line.count >= 3 && w->deliver->loading.count == 0 &&
                       w->deliver->attempts.count == 0);
    send_as(w, "B", 0, "b@sure.test", 6);
    WORLD_UNTIL(w, to(w, "mx2") && to(w, "mx2")->standing > 0);
    assert_in_range(count_of(go(w, 2), 'b'), 1, 1);
    w->deliver->is_draining = true; /* nobody listens at down.test */
}

TEST(scope_line, what_had_its_turn_before_it_was_read_is_the_first_of_its_tenants)
{
    struct world *w = *state;

    start_provider(w);
    send_as(w, "B", 0, "b@sure.test", 10); /* in memory */
    WORLD_UNTIL(w, to(w, "mx2") && to(w, "mx2")->ready.works.count == 10);
    read_nothing_ahead(w);
    send_as(w, "A", 0, "a@a.test", 3);
    send_as(w, "A", 0, "a@c.test", 3);
    send_as(w, "A", 0, "a@two.test", 3);
    send_as(w, "A", 0, "a@halfdown.test", 3);
    WORLD_UNTIL(w, only_scope(w)->line.count == 5);
    assert_in_range(count_of(go(w, 8), 'a'), 3, 5);
    lift(w);
}

/* It would leave and come back with each group that is read, for each of its tenants. */
TEST(scope_line, who_is_alone_stays_in_the_line_while_it_reads)
{
    struct world *w = *state;
    const struct destination *mx1;
    const struct link *node;

    w->settings.defaults.connections = 1;
    w->settings.defaults.messages_per_connection = 10000;
    w->settings.defaults.pipeline_window = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    send_as(w, "A", 0, "f@a.test", 1);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    send_as(w, "A", 0, "l@a.test", LIMIT_READY_GROUPS + 20);
    mx1 = to(w, "mx1");
    WORLD_UNTIL(w, mx1->ready.works.count == LIMIT_READY_GROUPS);
    send_as(w, "A", 5, "h@a.test", 30); /* they pass what is in memory, and are on disk */
    WORLD_UNTIL(w, mx1->ready.lanes.count == 2 && mx1->standing == 1);
    node = list_first(&mx1->place.in_line.nodes);
    smtp_peer_go(&w->peers[0]);
    while (w->peers[0].messages < 60) {
        loop_run_for(w->loop, 1);
        world_check_peers(w);
        assert_ptr_equal(list_first(&mx1->place.in_line.nodes), node);
    }
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(mx1->standing, 0);
}

/* A connection that was closed under it, say: there is nothing else of its tenant, and no lane. */
TEST(scope_line, what_was_chosen_and_came_back_stands_for_its_tenant)
{
    struct world *w = *state;
    struct destination *mx2;
    struct work *work;

    start_provider(w);
    send_newsletter(w, 4);
    send_as(w, "B", 0, "b@sure.test", 1);
    WORLD_UNTIL(w, only_scope(w)->line.count == 4);
    mx2 = (struct destination *)(uintptr_t)to(w, "mx2");
    WORLD_UNTIL(w, mx2->ready.works.count == 1 && mx2->ready.lanes.count == 0);
    work = ready_take(mx2, 1);
    assert_int_equal(only_scope(w)->line.count, 3);
    destination_take_back(work);
    WORLD_UNTIL(w, only_scope(w)->line.count == 4);
    assert_non_null(strchr(go(w, 3), 'b'));
    lift(w);
}

/* One connection: what would ride on it would keep it from the other tenant. */
TEST(scope_line, nobody_rides_past_who_stands)
{
    struct world *w = *state;

    one_scope.settings.connections = 1;
    one_scope.settings.pipeline_window = 32;
    one_scope.settings.message_rate = one_scope.settings.connection_rate =
        (struct quota){0};
    set_rule(w);
    w->peers[0].serves = w->peers[2].serves = true;
    smtp_peer_play(&w->peers[0], GREET_PIPELINING
                   "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
                   "C: <data>\nS: 250 taken\nC: MAIL *\nC: RCPT *\nC: DATA\n"
                   "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n"
                   "C: <nothing>\nS: 250 taken\nS: <serve>\n");
    send_as(w, "A", 0, "first@a.test", 1);
    WORLD_UNTIL(w, world_is_empty(w));
    send_as(w, "A", 0, "second@a.test", 1);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    send_as(w, "B", 0, "b@c.test", 1);
    WORLD_UNTIL(w, to(w, "mx3") && to(w, "mx3")->standing > 0);
    send_as(w, "A", 0, "third@a.test", 1);
    WORLD_UNTIL(w, to(w, "mx1.")->standing > 0);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[2].messages, 1);
    assert_int_equal(world_counts(w).messages_in_flight, 0);
}

TEST(scope_line, tenants_share_by_their_weights)
{
    static const struct deliver_tenant tenants[] = {{"A", 3}};
    struct world *w = *state;

    start_provider(w);
    send_newsletter(w, 6);
    send_as(w, "B", 0, "b@sure.test", 6);
    send_as(w, "B", 0, "b@b.test", 6);
    WORLD_UNTIL(w, only_scope(w)->line.count == 5);
    assert_int_equal(count_of(go(w, 6), 'b'), 3);
    w->settings.tenants = tenants;
    w->settings.tenant_count = 1;
    world_apply(w);
    WORLD_UNTIL(w, only_scope(w)->line.count == 5);
    (void)go(w, 2);
    assert_int_equal(count_of(go(w, 8), 'b'), 2);
    lift(w);
}

TEST(scope_line, the_higher_rank_goes_first_within_its_tenant_at_any_destination)
{
    struct world *w = *state;

    start_provider(w);
    send_newsletter(w, 3);
    send_as(w, "A", 5, "h@sure.test", 2);
    send_as(w, "A", 5, "h@two.test", 1); /* its other mail there is of no rank */
    WORLD_UNTIL(w, only_scope(w)->line.count == 4);
    assert_int_equal(count_of(go(w, 3), 'h'), 3);
    lift(w);
}

TEST(scope_line, a_lane_that_leaves_takes_its_tenant_out_of_the_line)
{
    struct world *w = *state;
    struct lane *lane;

    start_provider(w);
    send_newsletter(w, 2);
    send_as(w, "B", 0, "b@b.test", 2);
    send_as(w, "B", 0, "b@sure.test", 2);
    WORLD_UNTIL(w, only_scope(w)->line.count == 5);
    lane = domain_queue_attachment(queue_find_domain_queue(w->queue, "b.test"));
    lane_attach(lane, NULL);
    assert_int_equal(only_scope(w)->line.count, 4);
    lane = domain_queue_attachment(queue_find_domain_queue(w->queue, "sure.test"));
    lane_attach(lane, NULL);
    assert_int_equal(only_scope(w)->line.count, 3);
    lift(w); /* they come back by themselves */
}

/* Called, it has no use for its turn: the next one has. */
TEST(scope_line, who_backs_off_when_it_is_called_holds_nobody)
{
    struct world *w = *state;
    struct destination *mx1;
    struct fault fault = {RESULT_REFUSED, "refused"};

    start_provider(w);
    send_newsletter(w, 2);
    mx1 = (struct destination *)(uintptr_t)to(w, "mx1.");
    fill(w, &only_scope(w)->pace.messages);
    destination_fault(mx1, &fault, CLASS_CONNECTION); /* before it is run */
    WORLD_UNTIL(w, w->peers[2].messages + w->peers[0].messages == 1);
    assert_string_equal(go(w, 3), "aaa");
    mx1->until_ms = 0;
    deliver_wake(w->deliver, "a.test");
    lift(w);
}

TEST(scope_line, who_stands_survives_reloads_and_suspensions)
{
    struct world *w = *state;
    struct pace_time time;

    start_provider(w);
    send_newsletter(w, 3);
    send_as(w, "B", 0, "b@sure.test", 3);
    WORLD_UNTIL(w, only_scope(w)->line.count == 4);
    for (int i = 0; i < 3; i++) {
        fill(w, &only_scope(w)->pace.messages); /* one is called */
        world_apply(w);
        WORLD_UNTIL(w, w->deliver->attempts.count == 0 &&
                           only_scope(w)->line.count + (unsigned)i >= 3);
        (void)go(w, 1);
    }
    time = scope_time(only_scope(w));
    pace_suspend(&only_scope(w)->pace, time.wall_ms + HOUR_MS,
                 &(struct pace_cause){"reaction", "421 4.7.28 too fast"}, &time);
    scope_wake(only_scope(w));
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 0);
    assert_int_equal(only_scope(w)->line.count, 0);
    scope_resume(only_scope(w), &(struct pace_cause){"operator", NULL});
    deliver_wake(w->deliver, NULL);
    lift(w);
    assert_int_equal(w->peers[0].messages + w->peers[1].messages + w->peers[2].messages,
                     12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(scope_line, name)
        T(who_has_a_connection_does_not_wait_behind_who_lacks_one),
        T(who_stands_with_a_connection_is_woken_for_its_message),
        T(the_pause_behind_an_objection_holds_new_connections_only),
        T(who_passed_and_took_a_connection_owes_it),
        T(a_tenant_of_many_destinations_does_not_delay_another_one),
        T(a_turn_at_a_shared_destination_is_of_its_tenant),
        T(a_turn_finds_what_is_not_in_memory),
        T(who_is_alone_stays_in_the_line_while_it_reads),
        T(a_turn_is_not_lost_while_another_tenants_group_is_read_there),
        T(what_was_read_without_a_turn_has_none_before_others),
        T(what_had_its_turn_before_it_was_read_is_the_first_of_its_tenants),
        T(what_was_chosen_and_came_back_stands_for_its_tenant),
        T(nobody_rides_past_who_stands),
        T(tenants_share_by_their_weights),
        T(the_higher_rank_goes_first_within_its_tenant_at_any_destination),
        T(a_lane_that_leaves_takes_its_tenant_out_of_the_line),
        T(who_backs_off_when_it_is_called_holds_nobody),
        T(who_stands_survives_reloads_and_suspensions),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
