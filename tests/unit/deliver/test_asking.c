/* Which lanes ask the DNS for their way: so many at once, the others in turn. */
#include "deliver_world.h"

enum { MORE = 20 };

static struct lane *lane_named(const struct world *w, const char *name)
{
    struct domain_queue *domain_queue = queue_find_domain_queue(w->queue, name);

    return domain_queue ? domain_queue_attachment(domain_queue) : NULL;
}

/* More than may ask, of domains that nobody answers for. */
static void send_silent(struct world *w)
{
    char recipient[64];

    for (int i = 0; i < LIMIT_DNS_ASKING_NEW + MORE; i++) {
        (void)snprintf(recipient, sizeof recipient, "x@d%d.silent.test", i);
        (void)world_send(w, recipient);
    }
    WORLD_UNTIL(w, w->deliver->asking.running == LIMIT_DNS_ASKING_NEW &&
                       w->deliver->asking.waiting[ASKING_NEW].count == MORE);
}

static struct lane *first_waiting(const struct world *w, enum asking_rank rank)
{
    return CONTAINER_OF(list_first(&w->deliver->asking.waiting[rank]), struct lane,
                        asking.link);
}

TEST(asking, so_many_ask_at_once_and_who_waits_says_so)
{
    struct world *w = *state;
    struct lane *lane;
    struct why why;

    send_silent(w);
    lane = first_waiting(w, ASKING_NEW);
    why = world_why(w, domain_queue_lane(lane->domain_queue));
    assert_int_equal(why.kind, WHY_DNS);
    assert_string_equal(why.text, "its turn to ask the DNS comes behind that of others");
    assert_null(lane->search);
}

TEST(asking, an_answer_in_the_cache_does_not_wait)
{
    struct world *w = *state;

    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].messages == 1);
    send_silent(w);
    lane_named(w, "a.test")->has_plan = false;
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, w->peers[0].messages == 2);
    assert_int_equal(w->deliver->asking.waiting[ASKING_NEW].count, MORE);
}

TEST(asking, whose_way_was_known_has_places_of_its_own_and_who_failed_has_the_fewest)
{
    struct world *w = *state;
    struct asking *asking = &w->deliver->asking;
    struct lane one = {.deliver = w->deliver};
    struct lane two = {.deliver = w->deliver};

    asking->running = LIMIT_DNS_ASKING_FAILED;
    assert_false(asking_start(&one, ASKING_FAILED));
    assert_true(asking_start(&two, ASKING_NEW));
    asking_end(&one);
    asking_end(&two);
    asking->running = LIMIT_DNS_ASKING_NEW;
    assert_false(asking_start(&one, ASKING_NEW));
    assert_true(asking_start(&two, ASKING_KNOWN));
    assert_true(asking_start(&two, ASKING_FAILED)); /* it has one */
    asking_end(&one);
    asking_end(&two);
    asking->running = LIMIT_DNS_ASKING_KNOWN;
    assert_false(asking_start(&one, ASKING_KNOWN));
    asking_end(&one);
    asking->running = 0;
    loop_run_for(w->loop, 1);
}

TEST(asking, a_place_that_is_free_goes_to_the_next_and_who_is_gone_waits_no_more)
{
    struct world *w = *state;
    struct asking *asking = &w->deliver->asking;
    struct lane *next;

    send_silent(w);
    lane_on_gone(w->deliver, first_waiting(w, ASKING_NEW)->domain_queue);
    assert_int_equal(asking->waiting[ASKING_NEW].count, MORE - 1);
    assert_int_equal(asking->running, LIMIT_DNS_ASKING_NEW);
    next = first_waiting(w, ASKING_NEW);
    lane_on_gone(w->deliver, lane_named(w, "d0.silent.test")->domain_queue);
    WORLD_UNTIL(w, asking->waiting[ASKING_NEW].count == MORE - 2);
    assert_int_equal(asking->running, LIMIT_DNS_ASKING_NEW);
    assert_non_null(next->search);
    assert_string_equal(lane_fault(next), "");
}

/* A new resolver: who asks begins again, in turn, and nobody is lost. */
TEST(asking, a_new_resolver_is_asked_by_all_of_them)
{
    struct world *w = *state;
    struct asking *asking = &w->deliver->asking;

    send_silent(w);
    deliver_set_resolver(w->deliver, w->resolver);
    WORLD_UNTIL(w, asking->running == LIMIT_DNS_ASKING_NEW &&
                       asking->waiting[ASKING_NEW].count == MORE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(asking, name)
        T(so_many_ask_at_once_and_who_waits_says_so),
        T(an_answer_in_the_cache_does_not_wait),
        T(whose_way_was_known_has_places_of_its_own_and_who_failed_has_the_fewest),
        T(a_place_that_is_free_goes_to_the_next_and_who_is_gone_waits_no_more),
        T(a_new_resolver_is_asked_by_all_of_them),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
