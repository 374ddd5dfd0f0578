/* What is in memory never decides whose turn it is. The names of the recipients say whose mail it
 * is; "u" comes first, over the only connection, which waits for the test. */
#include "deliver_world.h"

enum { MANY = LIMIT_READY_GROUPS + 50 };

static void send_as(struct world *w, const char *tenant, int8_t priority,
                    const char *address, unsigned count)
{
    w->envelope.tenant = tenant;
    w->envelope.priority = priority;
    for (unsigned i = 0; i < count; i++)
        (void)world_send(w, address);
}

static struct destination *only_destination(const struct world *w)
{
    assert_int_equal(w->deliver->all_destinations.count, 1);
    return CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination,
                        link);
}

static void start(struct world *w)
{
    w->settings.defaults.connections = 1;
    w->settings.defaults.messages_per_connection = 10000;
    w->peers[0].serves = true; /* after a reload there is another connection */
    world_apply(w);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    send_as(w, "U", 0, "u@a.test", 1);
    WORLD_UNTIL(w, w->peers[0].held == 1);
}

static void wait_full(struct world *w)
{
    const struct ready *ready = &only_destination(w)->ready;

    WORLD_UNTIL(w, ready->works.count == LIMIT_READY_GROUPS && ready->loading == 0);
}

/* One letter for each message, in the order in which they went. */
static const char *finish(struct world *w)
{
    static char letters[8192];
    const char *at;
    char *order;
    size_t count = 0;

    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    order = slice_to_text(bytes_view(&w->peers[0].recipients));
    for (at = order; *at && count + 1 < sizeof letters; at = strchr(at, ';') + 1)
        letters[count++] = *at;
    letters[count] = '\0';
    memory_free(order);
    return letters;
}

static unsigned count_of(const char *letters, size_t length, char letter)
{
    unsigned count = 0;

    for (size_t i = 0; i < length; i++)
        count += letters[i] == letter;
    return count;
}

TEST(ready, one_of_another_tenant_passes_a_queue_that_is_full)
{
    struct world *w = *state;
    const char *b;
    const char *letters;

    start(w);
    send_as(w, "A", 0, "a@a.test", MANY);
    wait_full(w); /* the rest is on disk */
    send_as(w, "B", 0, "b@a.test", 1);
    WORLD_UNTIL(w, only_destination(w)->ready.lanes.count == 2);
    letters = finish(w);
    b = strchr(letters, 'b');
    assert_non_null(b);
    assert_in_range(b - letters, 1, 3);
}

TEST(ready, shares_follow_the_weights)
{
    static const struct deliver_tenant tenants[] = {{"A", 3}, {"*", 1}};
    struct world *w = *state;
    const char *letters;

    w->settings.tenants = tenants;
    w->settings.tenant_count = 2;
    start(w);
    send_as(w, "A", 0, "a@a.test", MANY);
    send_as(w, "B", 0, "b@a.test", MANY);
    wait_full(w);
    letters = finish(w);
    assert_in_range(count_of(letters + 1, 300, 'a'), 223, 227);
}

TEST(ready, a_reload_changes_the_weights_of_what_waits)
{
    static const struct deliver_tenant tenants[] = {{"A", 9}};
    struct world *w = *state;
    const char *letters;

    start(w);
    send_as(w, "A", 0, "a@a.test", MANY);
    send_as(w, "B", 0, "b@a.test", MANY);
    wait_full(w);
    w->settings.tenants = tenants;
    w->settings.tenant_count = 1;
    world_apply(w);
    letters = finish(w);
    assert_in_range(count_of(letters + 1, 200, 'a'), 177, 183);
}

TEST(ready, a_higher_priority_on_disk_passes_what_is_in_memory)
{
    struct world *w = *state;
    const char *letters;

    start(w);
    send_as(w, "A", -5, "l@a.test", MANY);
    wait_full(w);
    send_as(w, "A", 5, "h@a.test", 30);
    WORLD_UNTIL(w, only_destination(w)->ready.lanes.count == 2);
    letters = finish(w);
    assert_in_range(strchr(letters, 'h') - letters, 1, 2);
    assert_in_range(strrchr(letters, 'h') - letters, 30, 32);
}

TEST(ready, priority_counts_within_its_tenant_only)
{
    struct world *w = *state;
    const char *letters;

    start(w);
    send_as(w, "A", 9, "a@a.test", MANY);
    send_as(w, "B", -9, "b@a.test", 100);
    wait_full(w);
    letters = finish(w);
    assert_in_range(count_of(letters + 1, 100, 'b'), 48, 52);
}

/* Of one tenant: domains that share their hosts. */
TEST(ready, lanes_take_turns_whatever_of_them_is_in_memory)
{
    struct world *w = *state;
    const char *letters;

    start(w);
    send_as(w, "A", 0, "a@a.test", MANY);
    wait_full(w);
    send_as(w, "A", 0, "b@b.test", 20);
    WORLD_UNTIL(w, only_destination(w)->ready.lanes.count == 2);
    letters = finish(w);
    assert_in_range(count_of(letters + 1, 40, 'b'), 18, 20);
}

TEST(ready, what_is_in_memory_is_bounded_with_many_tenants_too)
{
    enum { TENANTS = 20, EACH = 15 };
    struct world *w = *state;
    const struct ready *ready;
    char tenant[16];

    start(w);
    for (unsigned i = 0; i < TENANTS; i++) {
        (void)snprintf(tenant, sizeof tenant, "T%u", i);
        send_as(w, tenant, 0, "t@a.test", EACH);
    }
    wait_full(w);
    ready = &only_destination(w)->ready;
    smtp_peer_go(&w->peers[0]);
    while (!world_is_empty(w)) {
        loop_run_for(w->loop, 1);
        world_check_peers(w);
        assert_true(ready->works.count + ready->chosen.count + ready->loading <=
                    LIMIT_READY_GROUPS + LIMIT_READY_TURNS);
    }
    assert_int_equal(w->peers[0].messages, TENANTS * EACH + 1);
    assert_true(ready_is_empty(ready));
    assert_int_equal(ready->starting.tenant_count + ready->ahead.tenant_count, 0);
}

/* Others share its hosts, and are left where they are. */
TEST(ready, a_lane_that_goes_takes_its_own_with_it)
{
    struct world *w = *state;
    struct ready *ready;
    struct lane *lane;

    start(w);
    send_as(w, "A", 0, "a@b.test", 5);
    send_as(w, "A", 0, "b@a.test", 5);
    ready = &only_destination(w)->ready;
    WORLD_UNTIL(w, ready->works.count == 10 && ready->lanes.count == 0);
    lane = domain_queue_attachment(queue_find_domain_queue(w->queue, "b.test"));
    lane_attach(lane, NULL);
    assert_int_equal(ready->works.count, 5);
    assert_int_equal(ready->starting.count, 1);
    assert_int_equal(lane->loaded.count, 0);
    assert_int_equal(strlen(finish(w)), 11); /* they come back by themselves */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(ready, name)
        T(one_of_another_tenant_passes_a_queue_that_is_full),
        T(shares_follow_the_weights),
        T(a_reload_changes_the_weights_of_what_waits),
        T(a_higher_priority_on_disk_passes_what_is_in_memory),
        T(priority_counts_within_its_tenant_only),
        T(lanes_take_turns_whatever_of_them_is_in_memory),
        T(what_is_in_memory_is_bounded_with_many_tenants_too),
        T(a_lane_that_goes_takes_its_own_with_it),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
