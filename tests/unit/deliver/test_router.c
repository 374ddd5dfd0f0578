/* What answers of the DNS mean for a domain (RFC 5321 5.1, RFC 7505): pure decisions; the asking
 * is covered end to end by tests/e2e/test_deliver.py against a real name server. */
#include "busiest.h"
#include "destinations_ask.h"
#include "inner.h"
#include "suspensions.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static struct plan judge(const struct dns_answer *answer, bool is_over)
{
    struct plan plan = {.rule = -1};

    assert_int_equal(router_judge_mx(answer, "a.test", &plan), is_over);
    return plan;
}

static void check_verdict(enum result result, enum plan_kind kind, const char *status)
{
    struct dns_answer answer = {.result = result, .text = "why"};
    struct plan plan = judge(&answer, true);

    assert_int_equal(plan.kind, kind);
    assert_string_equal(plan.status, status);
    assert_true(plan.text[0]);
    plan_fini(&plan);
}

TEST(router, answers_without_records)
{
    struct dns_answer none = {.result = RESULT_DNS_NODATA};
    struct plan plan = judge(&none, false);

    assert_int_equal(plan.host_count, 1); /* the implicit MX */
    assert_string_equal(plan.hosts[0].name, "a.test");
    plan_fini(&plan);
    check_verdict(RESULT_DNS_NXDOMAIN, PLAN_FAIL, "5.1.2");
    check_verdict(RESULT_DNS_FAILURE, PLAN_DEFER, "4.4.3");
}

static struct dns_mx mx_of(uint16_t preference, const char *host)
{
    struct dns_mx mx = {.preference = preference};

    (void)strcpy(mx.host, host);
    return mx;
}

TEST(router, a_null_mx_takes_no_mail)
{
    struct dns_mx mx = mx_of(0, "");
    struct dns_answer answer = {.result = RESULT_OK, .mx = &mx, .mx_count = 1};
    struct plan plan = judge(&answer, true);

    assert_int_equal(plan.kind, PLAN_FAIL);
    assert_string_equal(plan.status, "5.1.10");
    plan_fini(&plan);
}

TEST(router, exchangers_are_sorted_by_preference_and_a_null_beside_others_is_nothing)
{
    struct dns_mx mx[] = {mx_of(20, "c.test"), mx_of(0, ""), mx_of(10, "b.test"),
                          mx_of(10, "a.test")};
    struct dns_answer answer = {.result = RESULT_OK, .mx = mx, .mx_count = 4};
    struct plan plan = judge(&answer, false);
    struct bytes key;

    assert_int_equal(plan.host_count, 3);
    assert_string_equal(plan.hosts[0].name, "a.test");
    assert_string_equal(plan.hosts[2].name, "c.test");
    bytes_init(&key, 4096);
    plan_key(&plan, "x.test", &key);
    assert_true(slice_equal_text(bytes_view(&key), "a.test=b.test>c.test"));
    bytes_fini(&key);
    plan_fini(&plan);
}

TEST(router, more_exchangers_than_are_tried_are_cut_at_the_best)
{
    struct dns_mx mx[LIMIT_DNS_ANSWER_MX];
    struct dns_answer answer = {
        .result = RESULT_OK, .mx = mx, .mx_count = LIMIT_DNS_ANSWER_MX};
    struct plan plan;

    for (int i = 0; i < LIMIT_DNS_ANSWER_MX; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "h%d.test", i);
        mx[i] = mx_of((uint16_t)(LIMIT_DNS_ANSWER_MX - i), name);
    }
    plan = judge(&answer, false);
    assert_true(plan.host_count <= LIMIT_MX_HOSTS);
    assert_int_equal(plan.hosts[0].preference, 1);
    plan_fini(&plan);
}

TEST(router, equal_preferences_take_turns_and_others_keep_their_place)
{
    struct dns_mx mx[] = {mx_of(10, "a.test"), mx_of(10, "b.test"), mx_of(20, "c.test")};
    struct dns_answer answer = {.result = RESULT_OK, .mx = mx, .mx_count = 3};
    struct plan plan = judge(&answer, false);
    unsigned first[3] = {0};

    for (int i = 0; i < 200; i++) {
        uint8_t order[LIMIT_MX_HOSTS];

        plan_order(&plan, order);
        assert_int_equal(order[2], 2);
        assert_int_equal(order[0] + order[1], 1);
        first[order[0]]++;
    }
    assert_true(first[0] > 20 && first[1] > 20);
    plan_fini(&plan);
}

/* ---- destinations that are forgotten ---- */

enum { MANY = LIMIT_DESTINATIONS / 2, TWO_HOURS_MS = 7200000 };

static struct destination *get(struct deliver *deliver, unsigned number)
{
    struct plan plan = {.kind = PLAN_FAIL, .rule = -1};
    char name[32];

    (void)snprintf(name, sizeof name, "d%u.test", number);
    return destination_get(deliver, &plan, name);
}

TEST(router, destinations_are_forgotten_a_few_at_a_time_and_by_their_lanes_too)
{
    struct deliver deliver = {.rooms.loop = loop_new(),
                              .busiest = busiest_new(),
                              .destinations = map_new(LIMIT_DESTINATIONS)};
    struct lane lane = {.deliver = &deliver}; /* waits for hours: no due work */
    size_t before;

    (void)state;
    list_init(&deliver.all_destinations);
    list_init(&deliver.stalled);
    list_init(&deliver.asks);
    deliver.census = census_new(&deliver);
    for (unsigned i = 0; i < MANY; i++)
        assert_non_null(get(&deliver, i));
    lane_attach(&lane, get(&deliver, 0));
    for (struct link *link = list_first(&deliver.all_destinations); link;
         link = list_next(&deliver.all_destinations, link))
        CONTAINER_OF(link, struct destination, link)->used_ms -= TWO_HOURS_MS;
    before = deliver.all_destinations.count;
    assert_non_null(get(&deliver, MANY));
    assert_true(deliver.all_destinations.count < before);
    assert_true(deliver.all_destinations.count > before - 100);
    assert_null(lane.destination);
    assert_false(link_is_in_list(&lane.attached));
    while (deliver.all_destinations.count > 0)
        destination_free(
            CONTAINER_OF(list_first(&deliver.all_destinations), struct destination, link));
    census_free(deliver.census);
    map_free(deliver.destinations);
    busiest_free(deliver.busiest);
    loop_free(deliver.rooms.loop);
}

/* Nothing is started while the outcomes of others fill the way to the disk, and nobody needs
 * to come by for it to go on. */
TEST(router, a_destination_with_work_goes_on_by_itself_when_there_is_room)
{
    struct deliver deliver = {
        .rooms.loop = loop_new(), .busiest = busiest_new(), .destinations = map_new(8)};
    static struct link settling[LIMIT_SETTLING_GROUPS];
    struct work work = {.entry = {0}};
    struct destination *destination;

    (void)state;
    deliver.suspensions =
        suspensions_new(deliver.rooms.loop, NULL, NULL, NULL, NULL); /* none */
    list_init(&deliver.all_destinations);
    list_init(&deliver.settling);
    list_init(&deliver.stalled);
    list_init(&deliver.asks);
    deliver.census = census_new(&deliver);
    timer_init(&deliver.room, deliver.rooms.loop, destination_on_room, &deliver);
    for (size_t i = 0; i < LIMIT_SETTLING_GROUPS; i++)
        list_push_back(&deliver.settling, &settling[i]);
    destination = get(&deliver, 0);
    list_push_back(&destination->ready.chosen, &work.link);
    destination_run_later(destination);
    loop_run_for(deliver.rooms.loop, 5);
    assert_int_equal(destination->ready.chosen.count, 1);
    assert_int_equal(destination->running, 0);
    assert_true(link_is_in_list(&destination->stalled));
    (void)list_pop_front(&deliver.settling);
    (void)list_pop_front(&destination->ready.chosen);
    for (int ms = 0; ms < 10000 && link_is_in_list(&destination->stalled); ms++)
        loop_run_for(deliver.rooms.loop, 1);
    assert_false(link_is_in_list(&destination->stalled)); /* it was run again */
    destination_free(destination);
    census_free(deliver.census);
    map_free(deliver.destinations);
    busiest_free(deliver.busiest);
    suspensions_free(deliver.suspensions);
    loop_free(deliver.rooms.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(router, answers_without_records),
        RUN(router, a_null_mx_takes_no_mail),
        RUN(router,
            exchangers_are_sorted_by_preference_and_a_null_beside_others_is_nothing),
        RUN(router, more_exchangers_than_are_tried_are_cut_at_the_best),
        RUN(router, equal_preferences_take_turns_and_others_keep_their_place),
        RUN(router, a_destination_with_work_goes_on_by_itself_when_there_is_room),
        RUN(router, destinations_are_forgotten_a_few_at_a_time_and_by_their_lanes_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
