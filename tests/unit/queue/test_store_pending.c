/* What waits at the store: for whom the thread comes at once, and for whom it waits a little. */
#include "store_inner.h"

#include "store_world.h"

/* What an attempt came to waits a little for new mail; what somebody waits for does not. */
static void a_settlement_shares_the_commit_of_the_mail_behind_it(void **state)
{
    struct world *world = *state;
    struct world_op *settlement;
    struct world_op *message;
    uint64_t before;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    atomic_store(&world->store->patience_us, INT64_C(600000000)); /* for ever */
    before = world_numbers(world).commits;
    settlement = world_settlement(world, 1, 0, SLICE_NONE);
    message = world_message(world, 2, 1, SLICE("body"));
    world_submit(world, settlement);
    loop_run_for(world->loop, 20); /* the thread has seen it */
    assert_false(settlement->is_ended);
    world_submit(world, message);
    world_wait(world, message);
    world_wait(world, settlement);
    assert_int_equal(world_numbers(world).commits, before + 1);
    assert_false(world_has_group(world, 1, 0, "g0"));
}

static void without_company_a_settlement_goes_all_the_same(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    assert_int_equal(world_settle(world, 1, 0), RESULT_OK);
    assert_false(world_has_group(world, 1, 0, "g0"));
}

/* Closing commits what waits for company. */
static void closing_waits_for_no_company(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    atomic_store(&world->store->patience_us, INT64_C(600000000));
    world_submit(world, world_settlement(world, 1, 0, SLICE_NONE));
    world_reopen(world);
    assert_false(world_has_group(world, 1, 0, "g0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_STORE(a_settlement_shares_the_commit_of_the_mail_behind_it),
        RUN_STORE(without_company_a_settlement_goes_all_the_same),
        RUN_STORE(closing_waits_for_no_company),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
