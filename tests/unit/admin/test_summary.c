/* The summary over the socket: the longest domain queues, what holds them, and only those. */
#include "admin_world.h"

enum { LANES = 1100 };

TEST(summary, the_summary_has_the_fullest_lanes_first_with_what_holds_them)
{
    struct world *world = *state;
    const json_t *lanes;
    const json_t *one;

    (void)world_send(world,
                     &(struct world_mail){.recipients = {"a@one.test"}, .age_ms = 3600000});
    for (int i = 0; i < 3; i++)
        (void)world_send_to(world, "a@two.test");
    (void)world_send_to(world, "a@one.test");
    (void)world_send_to(world, "a@three.test");
    world_why_lane = "one.test";
    world_why = (struct why){WHY_DNS, "", "no answer", 777};
    assert_int_equal(world_get(world, "/v1/summary"), 200);
    lanes = json_object_get(world->json, "lanes");
    assert_int_equal(json_array_size(lanes), 3);
    assert_int_equal(world_number(world->json, "lane_count"), 3);
    assert_string_equal(world_text(json_array_get(lanes, 0), "lane"), "two.test");
    assert_int_equal(world_number(json_array_get(lanes, 0), "groups"), 3);
    assert_string_equal(world_text(json_array_get(lanes, 0), "why"), "scheduled");
    one = json_array_get(lanes, 1);
    assert_string_equal(world_text(one, "lane"), "one.test");
    assert_int_equal(world_number(one, "groups"), 2);
    assert_string_equal(world_text(one, "why"), "dns");
    assert_string_equal(world_text(one, "text"), "no answer");
    assert_int_equal(world_number(one, "until_ms"), 777);
    assert_true(loop_wall_ms(world->loop) - world_number(one, "oldest_ms") >= 3590000);
}

TEST(summary, an_empty_queue_has_an_empty_summary)
{
    struct world *world = *state;

    assert_int_equal(world_get(world, "/v1/summary"), 200);
    assert_int_equal(json_array_size(json_object_get(world->json, "lanes")), 0);
}

/* Lanes d0 to d1099: one group each, every seventh has two. */
static void fill(struct world *world)
{
    for (int i = 0; i < LANES; i++) {
        char address[32];

        (void)snprintf(address, sizeof address, "a@d%d.test", i);
        (void)world_send_to(world, address);
        if (i % 7 == 0)
            (void)world_send_to(world, address);
    }
}

/* A client that goes away meanwhile leaves nothing behind. */
TEST(summary, the_thousand_longest_of_many_are_shown)
{
    static const char request[] = "GET /v1/summary HTTP/1.1\r\nHost: x\r\n\r\n";
    struct world *world = *state;
    const json_t *lanes;
    int fd;

    queue_watch(world->queue, NULL, NULL, NULL);
    fill(world);
    fd = world_dial(world);
    assert_int_equal(write(fd, request, sizeof request - 1), sizeof request - 1);
    (void)close(fd);
    loop_run_for(world->loop, 20);
    assert_int_equal(world_get(world, "/v1/summary"), 200);
    lanes = json_object_get(world->json, "lanes");
    assert_int_equal(world_number(world->json, "lane_count"), LANES);
    assert_int_equal(json_array_size(lanes), 1000);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(world_number(json_array_get(lanes, i), "groups"),
                         i < (LANES + 6) / 7 ? 2 : 1);
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(summary_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(the_summary_has_the_fullest_lanes_first_with_what_holds_them),
        WITH_WORLD(an_empty_queue_has_an_empty_summary),
        WITH_WORLD(the_thousand_longest_of_many_are_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
