/* Whose turn it is: shares, order, debts. */
#include "turns.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

struct waiter {
    struct turn turn;
    const char *name;
    char memory[16];
};

static struct waiter waiter(const char *name)
{
    return (struct waiter){.name = name};
}

static void join(struct turns *turns, struct waiter *who, const char *tenant,
                 unsigned weight, int rank)
{
    turns_join(turns, &who->turn, &(struct turns_key){tenant, weight, rank});
}

/* The names of the next ones, one letter each. */
static const char *go(struct turns *turns, size_t count)
{
    static char names[4096];
    size_t at = 0;

    while (at < count) {
        struct turn *turn = turns_next(turns);

        names[at++] = turn ? CONTAINER_OF(turn, struct waiter, turn)->name[0] : '-';
        if (!turn)
            break;
        turns_pay(turns, turn);
    }
    names[at] = '\0';
    return names;
}

static unsigned count(const char *names, char name)
{
    unsigned found = 0;

    for (; *names; names++)
        found += *names == name;
    return found;
}

TEST(turns, equal_tenants_alternate_however_much_the_others_have)
{
    struct turns turns;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");
    struct waiter more[10];

    (void)state;
    turns_init(&turns);
    join(&turns, &a, "A", 1, 0);
    for (size_t i = 0; i < 10; i++) {
        more[i] = waiter("a");
        join(&turns, &more[i], "A", 1, 0);
    }
    join(&turns, &b, "B", 1, 0);
    assert_string_equal(go(&turns, 6), "ababab");
    turns_fini(&turns);
    assert_null(a.turn.level);
}

TEST(turns, shares_follow_the_weights_and_interleave)
{
    struct turns turns;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");
    const char *names;

    (void)state;
    turns_init(&turns);
    join(&turns, &a, "A", 3, 0);
    join(&turns, &b, "B", 1, 0);
    names = go(&turns, 4000);
    assert_int_equal(count(names, 'a'), 3000);
    for (size_t at = 0; at + 8 <= 4000; at++) /* never more than a share late */
        assert_non_null(memchr(names + at, 'b', 8));
    turns_fini(&turns);
}

/* By quanta of its weight it would send 1,000 in one go. */
TEST(turns, great_weights_make_no_long_runs)
{
    struct turns turns;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");

    (void)state;
    turns_init(&turns);
    join(&turns, &a, "A", 1000, 0);
    join(&turns, &b, "B", 1000, 0);
    assert_string_equal(go(&turns, 8), "abababab");
    turns_fini(&turns);
}

TEST(turns, who_comes_anew_is_next)
{
    struct turns turns;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");

    (void)state;
    turns_init(&turns);
    join(&turns, &a, "A", 1000, 0);
    (void)go(&turns, 3000);
    join(&turns, &b, "B", 1, 0);
    assert_non_null(strchr(go(&turns, 2), 'b'));
    assert_int_equal(count(go(&turns, 2002), 'b'), 2); /* and then its share */
    turns_fini(&turns);
}

TEST(turns, nobody_gains_by_leaving_and_coming_back)
{
    struct turns turns;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");
    unsigned got = 0;

    (void)state;
    turns_init(&turns);
    join(&turns, &a, "A", 1, 0);
    for (int i = 0; i < 1000; i++) { /* one at a time, again and again */
        join(&turns, &b, "B", 1, 0);
        got += count(go(&turns, 1), 'b');
        turns_leave(&turns, &b.turn);
    }
    assert_in_range(got, 499, 501);
    turns_fini(&turns);
}

TEST(turns, the_higher_rank_goes_first_within_its_tenant_only)
{
    struct turns turns;
    struct waiter low = waiter("l");
    struct waiter high = waiter("h");
    struct waiter other = waiter("o");

    (void)state;
    turns_init(&turns);
    join(&turns, &low, "A", 1, -9);
    join(&turns, &other, "B", 1, -5);
    join(&turns, &high, "A", 1, 9);
    assert_string_equal(go(&turns, 4), "hoho");
    turns_leave(&turns, &high.turn);
    assert_string_equal(go(&turns, 4), "lolo");
    turns_fini(&turns);
}

TEST(turns, those_of_one_rank_take_turns)
{
    struct turns turns;
    struct waiter one = waiter("1");
    struct waiter two = waiter("2");
    struct waiter three = waiter("3");

    (void)state;
    turns_init(&turns);
    join(&turns, &one, "A", 1, 0);
    join(&turns, &two, "A", 1, 0);
    join(&turns, &three, "A", 1, 0);
    assert_string_equal(go(&turns, 4), "1231");
    turns_leave(&turns, &two.turn);
    turns_leave(&turns, &two.turn); /* once more is fine */
    assert_string_equal(go(&turns, 3), "313");
    turns_fini(&turns);
}

TEST(turns, no_tenant_is_one_more_and_no_empty_name)
{
    struct turns turns;
    struct waiter none = waiter("n");
    struct waiter empty = waiter("e");

    (void)state;
    turns_init(&turns);
    join(&turns, &none, NULL, 1, 0);
    join(&turns, &empty, "", 1, 0);
    assert_int_equal(turns.tenant_count, 2);
    assert_string_equal(go(&turns, 4), "nene");
    turns_fini(&turns);
}

static unsigned ten_for_b(const void *owner, const char *tenant)
{
    (void)owner;
    return tenant && strcmp(tenant, "B") == 0 ? 10 : 1;
}

TEST(turns, new_weights_hold_at_once)
{
    struct turns turns;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");

    (void)state;
    turns_init(&turns);
    join(&turns, &a, "A", 1, 0);
    join(&turns, &b, "B", 1, 0);
    (void)go(&turns, 100);
    turns_reweigh(&turns, ten_for_b, NULL);
    assert_in_range(count(go(&turns, 110), 'b'), 98, 101);
    turns_fini(&turns);
}

/* Many tenants: found by a map, and forgotten when they have nothing and owe nothing. */
TEST(turns, a_thousand_tenants_come_and_go)
{
    enum { MANY = 1000 };
    struct turns turns;
    struct waiter *who = NEW_ARRAY(struct waiter, MANY);

    (void)state;
    turns_init(&turns);
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(who[i].memory, sizeof who[i].memory, "t%zu", i);
        who[i].name = "x";
        join(&turns, &who[i], who[i].memory, 1, 0);
    }
    for (size_t i = 0; i < MANY; i++) {
        struct turn *turn = turns_next(&turns);

        assert_ptr_equal(turn, &who[i].turn); /* each once, as they came */
        turns_pay(&turns, turn);
    }
    for (size_t i = 0; i < MANY; i += 2)
        turns_leave(&turns, &who[i].turn);
    for (size_t i = 1; i < MANY; i += 2) {
        assert_ptr_equal(turns_next(&turns), &who[i].turn);
        turns_pay(&turns, &who[i].turn);
        turns_leave(&turns, &who[i].turn);
    }
    assert_int_equal(turns.count, 0);
    assert_null(turns_next(&turns));
    assert_int_equal(turns.tenant_count, 0);
    assert_null(turns.tenants); /* an idle destination holds no memory */
    memory_free(who);
    turns_fini(&turns);
}

/* ---- turns in turns ---- */

struct below {
    struct turns turns;
    struct turns_place place;
    const char *name;
};

static struct below *stand(struct below *below, const char *name, struct turns *above)
{
    *below = (struct below){.name = name};
    turns_init(&below->turns);
    turns_stand(&below->place, &below->turns, above);
    return below;
}

static void fall(struct below *below)
{
    turns_stand_no_more(&below->place);
    turns_fini(&below->turns);
}

/* Of each turn the place and the one that goes there: "1a2b". */
static const char *go_below(struct turns *above, size_t count)
{
    static char names[4096];
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        struct turn *turn = turns_next(above);
        struct turns_node *node;
        struct turn *low;

        if (!turn)
            break;
        node = CONTAINER_OF(turn, struct turns_node, turn);
        low = turns_next_of(node->tenant);
        names[at++] = CONTAINER_OF(node->place, struct below, place)->name[0];
        names[at++] = CONTAINER_OF(low, struct waiter, turn)->name[0];
        turns_pay(above, turn);
        turns_went(low);
    }
    names[at] = '\0';
    return names;
}

TEST(turns, a_tenant_stands_above_as_long_as_it_has_something_below)
{
    struct turns above;
    struct below one;
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");
    struct waiter more = waiter("m");

    (void)state;
    turns_init(&above);
    join(&stand(&one, "1", &above)->turns, &a, "A", 1, 0);
    assert_string_equal(go_below(&above, 2), "1a1a");
    join(&one.turns, &b, "B", 1, 0); /* it comes while the place stands */
    assert_string_equal(go_below(&above, 4), "1b1a1b1a");
    join(&one.turns, &more, "A", 1, 0);
    assert_string_equal(go_below(&above, 4), "1b1a1b1m");
    turns_leave(&one.turns, &b.turn);
    one.place.granted = CONTAINER_OF(turns_next(&above), struct turns_node, turn);
    turns_leave(&one.turns, &a.turn);
    assert_non_null(one.place.granted); /* the tenant has something still */
    turns_leave(&one.turns, &more.turn);
    assert_null(one.place.granted);
    assert_int_equal(above.count, 0);
    assert_null(turns_next(&above));
    fall(&one);
    turns_fini(&above);
}

TEST(turns, tenants_share_above_however_many_places_one_has)
{
    enum { PLACES = 100 };
    static struct below places[PLACES];
    static struct waiter waiters[PLACES];
    struct turns above;
    struct waiter b = waiter("b");

    (void)state;
    turns_init(&above);
    for (size_t i = 0; i < PLACES; i++) {
        waiters[i] = waiter("a");
        join(&stand(&places[i], "1", &above)->turns, &waiters[i], "A", 1, 0);
    }
    (void)go_below(&above, 3 * PLACES);
    join(&places[7].turns, &b, "B", 1, 0);
    assert_non_null(strchr(go_below(&above, 2), 'b'));
    assert_int_equal(count(go_below(&above, 40), 'b'), 20);
    for (size_t i = 0; i < PLACES; i++)
        fall(&places[i]);
    assert_int_equal(above.count, 0);
    turns_fini(&above);
}

TEST(turns, the_highest_rank_of_a_tenant_is_its_rank_above)
{
    struct turns above;
    struct below one;
    struct below two;
    struct waiter low = waiter("l");
    struct waiter other = waiter("o");
    struct waiter high = waiter("h");

    (void)state;
    turns_init(&above);
    join(&stand(&one, "1", &above)->turns, &low, "A", 1, 0);
    join(&stand(&two, "2", &above)->turns, &other, "A", 1, 0);
    join(&two.turns, &high, "A", 1, 5);
    assert_string_equal(go_below(&above, 2), "2h2h");
    turns_leave(&two.turns, &high.turn);
    assert_string_equal(go_below(&above, 4), "1l2o1l2o");
    fall(&one);
    fall(&two);
    turns_fini(&above);
}

/* A head with a pool: by each of its paths. */
TEST(turns, one_may_stand_in_several)
{
    struct turns above[2];
    struct below one;
    struct turns_place second = {.above = NULL};
    struct waiter a = waiter("a");
    struct waiter b = waiter("b");

    (void)state;
    turns_init(&above[0]);
    turns_init(&above[1]);
    join(&stand(&one, "1", &above[0])->turns, &a, "A", 1, 0);
    turns_stand(&second, &one.turns, &above[1]);
    join(&one.turns, &b, "B", 1, 0);
    assert_int_equal(above[0].count, 2);
    assert_int_equal(above[1].count, 2);
    turns_leave(&one.turns, &a.turn);
    assert_int_equal(above[0].count, 1);
    assert_int_equal(above[1].count, 1);
    turns_fini(&one.turns); /* whatever is below is let go, and stands no more */
    assert_int_equal(above[0].count + above[1].count, 0);
    assert_null(second.above);
    turns_fini(&above[0]);
    turns_fini(&above[1]);
}

TEST(turns, what_is_given_back_is_the_next_again)
{
    struct turns turns;
    struct waiter one = waiter("1");
    struct waiter two = waiter("2");
    struct waiter b = waiter("b");
    struct turn *turn;

    (void)state;
    turns_init(&turns);
    join(&turns, &one, "A", 1, 0);
    join(&turns, &two, "A", 1, 0);
    join(&turns, &b, "B", 1, 0);
    turn = turns_next(&turns);
    turns_pay(&turns, turn);
    turns_give_back(&turns, turn);
    assert_ptr_equal(turns_next(&turns), turn);
    assert_int_equal(count(go(&turns, 6), 'b'), 3);
    turns_fini(&turns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(turns, equal_tenants_alternate_however_much_the_others_have),
        RUN(turns, shares_follow_the_weights_and_interleave),
        RUN(turns, great_weights_make_no_long_runs),
        RUN(turns, who_comes_anew_is_next),
        RUN(turns, nobody_gains_by_leaving_and_coming_back),
        RUN(turns, the_higher_rank_goes_first_within_its_tenant_only),
        RUN(turns, those_of_one_rank_take_turns),
        RUN(turns, no_tenant_is_one_more_and_no_empty_name),
        RUN(turns, new_weights_hold_at_once),
        RUN(turns, a_thousand_tenants_come_and_go),
        RUN(turns, a_tenant_stands_above_as_long_as_it_has_something_below),
        RUN(turns, tenants_share_above_however_many_places_one_has),
        RUN(turns, the_highest_rank_of_a_tenant_is_its_rank_above),
        RUN(turns, one_may_stand_in_several),
        RUN(turns, what_is_given_back_is_the_next_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
