/* The queue over the socket: pages, one message, changes. */
#include "admin_world.h"

/* ---- list ---- */

TEST(queue_api, an_item_says_what_is_known_of_a_group)
{
    struct world *world = *state;
    uint64_t id =
        world_send(world, &(struct world_mail){.sender = "ann@from.test",
                                               .user = "ann",
                                               .tenant = "red",
                                               .recipients = {"a@to.test", "b@to.test"},
                                               .body = SLICE("12345\r\n")});
    const json_t *item;
    const json_t *last;
    char text[ID_TEXT];

    id_print(id, text);
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 1);
    assert_true(json_is_null(json_object_get(world->json, "next")));
    assert_true(json_is_false(json_object_get(world->json, "is_rebuilding")));
    item = world_item(world, 0);
    assert_string_equal(world_text(item, "id"), text);
    assert_int_equal(world_number(item, "group"), 0);
    assert_string_equal(world_text(item, "lane"), "to.test");
    assert_string_equal(world_text(item, "sender"), "ann@from.test");
    assert_string_equal(world_text(item, "user"), "ann");
    assert_string_equal(world_text(item, "tenant"), "red");
    assert_string_equal(world_text(item, "state"), "waiting");
    assert_int_equal(world_number(item, "size"), (int64_t)WORLD_HEADER.length + 7);
    assert_int_equal(world_number(item, "attempts"), 0);
    assert_int_equal(json_array_size(json_object_get(item, "recipients")), 2);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(item, "recipients"), 1)),
        "b@to.test");
    last = json_object_get(item, "last");
    assert_true(json_is_null(json_object_get(last, "text")));
    assert_int_equal(world_number(last, "time_ms"), 0);
}

TEST(queue_api, an_answer_shows_in_the_item)
{
    struct world *world = *state;
    const json_t *item;
    const json_t *last;

    (void)world_send_to(world, "a@to.test");
    world_defer(world, world_take(world, "to.test"), 3600000);
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    item = world_item(world, 0);
    last = json_object_get(item, "last");
    assert_int_equal(world_number(item, "attempts"), 1);
    assert_true(world_number(item, "next_attempt_ms") > loop_wall_ms(world->loop));
    assert_int_equal(world_number(last, "code"), 451);
    assert_string_equal(world_text(last, "status"), "4.2.2");
    assert_string_equal(world_text(last, "text"), "mailbox is full");
    assert_string_equal(world_text(last, "host"), "mx.to.test");
    assert_true(world_number(last, "time_ms") > 0);
}

/* Follows "next" to the end, and checks the order. The number of groups. */
static size_t walk(struct world *world, const char *query, size_t page)
{
    char path[200];
    char before[32] = "";
    size_t count = 0;

    (void)snprintf(path, sizeof path, "/v1/queue?limit=%zu%s", page, query);
    for (int pages = 0; pages < 100; pages++) {
        assert_int_equal(world_get(world, path), 200);
        assert_true(world_count(world) <= page);
        for (size_t i = 0; i < world_count(world); i++, count++) {
            char at[32];

            (void)snprintf(at, sizeof at, "%s/%lld", world_text(world_item(world, i), "id"),
                           (long long)world_number(world_item(world, i), "group"));
            assert_true(strcmp(before, at) < 0);
            memcpy(before, at, sizeof at);
        }
        if (json_is_null(json_object_get(world->json, "next")))
            return count;
        assert_int_equal(world_count(world), page); /* only the last page is short */
        (void)snprintf(path, sizeof path, "/v1/queue?limit=%zu&first=%s&group=%lld%s", page,
                       world_text(world->json, "next"),
                       (long long)world_number(world->json, "next_group"), query);
    }
    fail_msg("the pages do not end");
    return 0;
}

TEST(queue_api, pages_of_any_size_hold_every_group_once)
{
    struct world *world = *state;

    for (int i = 0; i < 5; i++)
        (void)world_send(world,
                         &(struct world_mail){
                             .recipients = {"a@one.test", "a@two.test", "a@three.test"}});
    for (size_t page = 1; page <= 16; page++)
        assert_int_equal(walk(world, "", page), 15);
    assert_int_equal(walk(world, "&domain=two.test", 2), 5);
    assert_int_equal(walk(world, "&domain=none.test", 1), 0);
}

TEST(queue_api, a_page_that_cannot_be_is_refused)
{
    static const char *const rows[] = {"limit=0",
                                       "limit=1001",
                                       "limit=-1",
                                       "limit=1x",
                                       "limit=",
                                       "limit",
                                       "limit=99999999999999999999",
                                       "first=",
                                       "first=aaaaaaaaaaaa",
                                       "first=aaaaaaaaaaaa1",
                                       "first",
                                       "group=-1",
                                       "group=x",
                                       "group=4294967296",
                                       "group"};
    struct world *world = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[80];

        (void)snprintf(path, sizeof path, "/v1/queue?%s", rows[i]);
        if (world_get(world, path) != 400)
            fail_msg("%s is taken", rows[i]);
        assert_non_null(world_error(world));
    }
    assert_int_equal(world_get(world, "/v1/queue?limit=1000&group=4294967295"), 200);
}

/* ---- show ---- */

static unsigned show(struct world *world, uint64_t id)
{
    char path[64];
    char text[ID_TEXT];

    id_print(id, text);
    (void)snprintf(path, sizeof path, "/v1/queue/%s", text);
    return world_get(world, path);
}

TEST(queue_api, one_message_shows_its_groups_and_no_neighbours)
{
    struct world *world = *state;
    uint64_t first = world_send_to(world, "a@one.test");
    uint64_t id =
        world_send(world, &(struct world_mail){.recipients = {"a@one.test", "b@two.test"}});

    (void)world_send_to(world, "a@one.test");
    assert_int_equal(show(world, id), 200);
    assert_int_equal(world_count(world), 2);
    assert_string_equal(world_text(world_item(world, 0), "id"),
                        world_text(world_item(world, 1), "id"));
    assert_int_equal(show(world, first), 200);
    assert_int_equal(world_count(world), 1);
    assert_int_equal(show(world, first - 1), 404);
    assert_non_null(strstr(world_error(world), "no such message"));
    assert_int_equal(world_get(world, "/v1/queue/aaaaaaaaaaaa"), 400);
    assert_int_equal(world_get(world, "/v1/queue/aaaaaaaaaaaa1"), 400);
    assert_int_equal(world_get(world, "/v1/queue/%00"), 404);
}

static const json_t *why_of(struct world *world, uint64_t id)
{
    assert_int_equal(show(world, id), 200);
    return json_object_get(world_item(world, 0), "why");
}

TEST(queue_api, each_reason_to_wait_has_its_word)
{
    static const struct {
        enum why_kind kind;
        const char *word;
    } rows[] = {{WHY_DNS, "dns"},
                {WHY_DESTINATION, "destination"},
                {WHY_CONNECTIONS, "connections"},
                {WHY_READY_FULL, "ready_full"},
                {WHY_DRAINING, "draining"},
                {WHY_NO_ROOM, "no_room"},
                {WHY_SCHEDULED, "scheduled"}};
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *why;

        world_why = (struct why){rows[i].kind, "mx.to.test", "it is so", 12345};
        why = why_of(world, id);
        assert_string_equal(world_text(why, "kind"), rows[i].word);
        assert_string_equal(world_text(why, "text"), "it is so");
        assert_string_equal(world_text(why, "destination"), "mx.to.test");
        assert_int_equal(world_number(why, "until_ms"), 12345);
    }
}

TEST(queue_api, the_later_of_lane_and_next_attempt_is_the_reason)
{
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");
    int64_t next_ms;
    const json_t *why;

    world_defer(world, world_take(world, "to.test"), 3600000);
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    next_ms = world_number(world_item(world, 0), "next_attempt_ms");
    world_why = (struct why){.kind = WHY_DESTINATION, .until_ms = next_ms};
    why = why_of(world, id);
    assert_string_equal(world_text(why, "kind"), "scheduled");
    assert_true(world_number(why, "until_ms") == next_ms);
    assert_non_null(strstr(world_text(why, "text"), "mailbox is full"));
    world_why.until_ms = next_ms + 1;
    assert_string_equal(world_text(why_of(world, id), "kind"), "destination");
}

TEST(queue_api, what_is_being_tried_is_active_whatever_its_lane_waits_for)
{
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");
    struct lease *lease = world_take(world, "to.test");
    const json_t *why;

    world_why = (struct why){.kind = WHY_DESTINATION, .until_ms = INT64_MAX};
    why = why_of(world, id);
    assert_string_equal(world_text(why, "kind"), "active");
    assert_int_equal(world_number(why, "until_ms"), 0);
    lease_release(lease);
    assert_string_equal(world_text(why_of(world, id), "kind"), "destination");
}

TEST(queue_api, a_held_group_says_until_when)
{
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@to.test");
    int64_t until_ms = loop_wall_ms(world->loop) + 3600000;
    char *body;
    char text[ID_TEXT];
    const json_t *why;

    id_print(id, text);
    body = memory_format("{\"change\":\"hold\",\"until_ms\":%lld,\"targets\":[{\"id\":"
                         "\"%s\",\"group\":0}]}",
                         (long long)until_ms, text);
    assert_int_equal(world_post(world, "/v1/queue/change", body), 200);
    assert_int_equal(world_number(world->json, "changed"), 1);
    assert_true(world_number(world->json, "until_ms") == until_ms);
    memory_free(body);
    assert_int_equal(world_get(world, "/v1/queue?state=held"), 200);
    assert_string_equal(world_text(world_item(world, 0), "state"), "held");
    assert_true(world_number(world_item(world, 0), "held_until_ms") == until_ms);
    why = why_of(world, id);
    assert_string_equal(world_text(why, "kind"), "held");
    assert_true(world_number(why, "until_ms") == until_ms);
    /* The expiry ends it too. */
    world->settings.expire_ms = 1800000;
    queue_apply(world->queue, &world->settings);
    why = why_of(world, id);
    assert_true(world_number(why, "until_ms") < until_ms);
    assert_non_null(strstr(world_text(why, "text"), "it will not be tried"));
}

/* ---- change ---- */

static void add_target(struct bytes *targets, uint64_t id, int64_t group, const char *lane)
{
    char text[ID_TEXT];

    id_print(id, text);
    assert_int_equal(bytes_format(targets,
                                  "%s{\"id\":\"%s\",\"group\":%lld,\"lane\":\"%s\"}",
                                  targets->length ? "," : "", text, (long long)group, lane),
                     RESULT_OK);
}

static unsigned change(struct world *world, const char *kind, const struct bytes *targets)
{
    char *body = memory_format("{\"change\":\"%s\",\"targets\":[%.*s]}", kind,
                               (int)targets->length, targets->data ? targets->data : "");
    unsigned status = world_post(world, "/v1/queue/change", body);

    memory_free(body);
    return status;
}

static void expect_counts(const struct world *world, int64_t changed, int64_t busy,
                          int64_t gone)
{
    assert_int_equal(world_number(world->json, "changed"), changed);
    assert_int_equal(world_number(world->json, "busy"), busy);
    assert_int_equal(world_number(world->json, "gone"), gone);
}

TEST(queue_api, a_change_counts_what_it_did_what_is_busy_and_what_is_gone)
{
    struct world *world = *state;
    struct bytes targets;
    uint64_t id =
        world_send(world, &(struct world_mail){.recipients = {"a@one.test", "b@two.test"}});
    struct lease *lease = world_take(world, "two.test");

    bytes_init(&targets, 1 << 20);
    add_target(&targets, id, 0, "one.test");
    add_target(&targets, id, 1, "two.test");
    add_target(&targets, id, 2, "three.test");
    add_target(&targets, id + 1, 0, "one.test");
    assert_int_equal(change(world, "remove", &targets), 200);
    expect_counts(world, 1, 1, 2);
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 1);
    assert_string_equal(world_text(world_item(world, 0), "lane"), "two.test");
    assert_int_equal(world_woken_count, 0); /* removing wakes nobody */
    lease_release(lease);
    bytes_fini(&targets);
}

TEST(queue_api, a_hold_without_an_end_lasts_four_weeks)
{
    struct world *world = *state;
    struct bytes targets;
    int64_t now_ms = loop_wall_ms(world->loop);

    bytes_init(&targets, 1000);
    add_target(&targets, world_send_to(world, "a@to.test"), 0, "to.test");
    assert_int_equal(change(world, "hold", &targets), 200);
    assert_true(world_number(world->json, "until_ms") >= now_ms + INT64_C(28) * 86400000);
    assert_true(world_number(world->json, "until_ms") < now_ms + INT64_C(29) * 86400000);
    assert_int_equal(change(world, "release", &targets), 200);
    expect_counts(world, 1, 0, 0);
    assert_null(json_object_get(world->json, "until_ms"));
    assert_int_equal(change(world, "release", &targets), 200);
    expect_counts(world, 0, 0, 0);
    assert_int_equal(world_number(world->json, "skipped"), 1);
    bytes_fini(&targets);
}

TEST(queue_api, a_bounce_is_deliverys_work_and_carries_its_reason)
{
    struct world *world = *state;

    assert_int_equal(world_post(world, "/v1/queue/change",
                                "{\"change\":\"bounce\",\"reason\":\"spam\",\"targets\":["
                                "{\"id\":\"aaaaaaaaaaaab\",\"group\":7}]}"),
                     200);
    expect_counts(world, 1, 0, 0);
    assert_int_equal(world_bounce.count, 1);
    assert_string_equal(world_bounced_reason, "spam");
    assert_int_equal(world_bounced.group, 7);
}

TEST(queue_api, a_retry_is_due_now_and_wakes_each_lane_once)
{
    struct world *world = *state;
    struct bytes targets;
    uint64_t ids[3];

    bytes_init(&targets, 1 << 20);
    for (size_t i = 0; i < 3; i++) {
        ids[i] = world_send_to(world, i < 2 ? "a@one.test" : "a@two.test");
        world_defer(world, world_take(world, i < 2 ? "one.test" : "two.test"), 3600000);
        add_target(&targets, ids[i], 0, i < 2 ? "one.test" : "two.test");
    }
    add_target(&targets, ids[0], 7, "two.test"); /* which has no such group */
    assert_int_equal(change(world, "retry", &targets), 200);
    expect_counts(world, 3, 0, 1);
    assert_int_equal(world_woken_count, 2);
    assert_string_equal(world_woken[0], "one.test");
    assert_string_equal(world_woken[1], "two.test");
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    for (size_t i = 0; i < 3; i++)
        assert_true(world_number(world_item(world, i), "next_attempt_ms") <=
                    loop_wall_us() / 1000);
    bytes_fini(&targets);
}

TEST(queue_api, a_thousand_targets_are_one_batch_and_one_more_is_refused)
{
    struct world *world = *state;
    struct queue_statistics before;
    struct queue_statistics after;
    struct bytes targets;

    bytes_init(&targets, 1 << 20);
    for (int64_t i = 0; i < REQUEST_PAGE_MAX - 1; i++)
        add_target(&targets, UINT64_C(1) << 40, i, "one.test");
    add_target(&targets, world_send_to(world, "a@one.test"), 0, "one.test");
    queue_statistics(world->queue, &before);
    assert_int_equal(change(world, "remove", &targets), 200);
    expect_counts(world, 1, 0, REQUEST_PAGE_MAX - 1);
    queue_statistics(world->queue, &after);
    assert_int_equal(after.commits - before.commits, 1);
    add_target(&targets, UINT64_C(1) << 40, 0, "one.test");
    assert_int_equal(change(world, "remove", &targets), 400);
    assert_non_null(strstr(world_error(world), "1000"));
    bytes_fini(&targets);
}

TEST(queue_api, a_commit_that_fails_is_told_and_nothing_is_gone)
{
    struct world *world = *state;
    struct bytes targets;

    bytes_init(&targets, 1 << 20);
    add_target(&targets, world_send_to(world, "a@one.test"), 0, "one.test");
    world_fail_code = ENOSPC;
    assert_int_equal(change(world, "remove", &targets), 503);
    assert_non_null(world_error(world));
    world_fail_code = 0;
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 1);
    bytes_fini(&targets);
}

TEST(queue_api, what_is_no_change_changes_nothing)
{
    static const char *const bodies[] = {
        "",
        "{",
        "[]",
        "null",
        "\"remove\"",
        "{}",
        "{\"change\":\"remove\"}",
        "{\"change\":\"remove\",\"targets\":[]}",
        "{\"change\":\"remove\",\"targets\":{}}",
        "{\"change\":\"remove\",\"targets\":\"*\"}",
        "{\"change\":\"remove\",\"targets\":[%s]} x",
        "{\"change\":\"remove\",\"targets\":[%s,]}",
        "{\"change\":\"REMOVE\",\"targets\":[%s]}",
        "{\"change\":\"suspend\",\"targets\":[%s]}",
        "{\"change\":\"hold\",\"until_ms\":1,\"targets\":[%s]}",
        "{\"change\":\"hold\",\"until_ms\":\"tomorrow\",\"targets\":[%s]}",
        "{\"change\":\"hold\",\"until_ms\":9000000000000000,\"targets\":[%s]}",
        "{\"change\":\"hold\",\"reason\":\"spam\",\"targets\":[%s]}",
        "{\"change\":\"release\",\"until_ms\":9000000000000,\"targets\":[%s]}",
        "{\"change\":\"bounce\",\"reason\":5,\"targets\":[%s]}",
        "{\"change\":\"bounce\",\"reason\":\"two\\nlines\",\"targets\":[%s]}",
        "{\"change\":\"reroute\",\"targets\":[%s]}",
        "{\"change\":\"reroute\",\"route\":5,\"targets\":[%s]}",
        "{\"change\":\"reroute\",\"route\":\"unknown\",\"targets\":[%s]}",
        "{\"change\":\"retry\",\"route\":\"known\",\"targets\":[%s]}",
        "{\"change\":1,\"targets\":[%s]}",
        "{\"change\":null,\"targets\":[%s]}",
        "{\"targets\":[%s]}",
        "{\"change\":\"remove\",\"targets\":[%s,null]}",
        "{\"change\":\"remove\",\"targets\":[%s,[]]}",
        "{\"change\":\"remove\",\"targets\":[%s,{}]}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"id\":\"aaaaaaaaaaaab\"}]}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"group\":0}]}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"id\":\"short\",\"group\":0}]}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"id\":5,\"group\":0}]}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"id\":\"aaaaaaaaaaaab\",\"group\":\"0\"}]"
        "}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"id\":\"aaaaaaaaaaaab\",\"group\":0.5}]}",
        "{\"change\":\"remove\",\"targets\":[%s,{\"id\":\"aaaaaaaaaaaab\",\"group\":-1}]}",
        "{\"change\":\"remove\",\"targets\":[%s],\"change\":\xff}",
    };
    struct world *world = *state;
    struct bytes target;

    bytes_init(&target, 1000);
    add_target(&target, world_send_to(world, "a@one.test"), 0, "one.test");
    assert_int_equal(bytes_add(&target, (struct slice){"", 1}), RESULT_OK);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        const char *gap = strstr(bodies[i], "%s");
        char *body = gap ? memory_format("%.*s%s%s", (int)(gap - bodies[i]), bodies[i],
                                         target.data, gap + 2)
                         : memory_text(bodies[i]);

        if (world_post(world, "/v1/queue/change", body) != 400)
            fail_msg("%s is taken", body);
        assert_non_null(world_error(world));
        memory_free(body);
    }
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 1);
    bytes_fini(&target);
}

TEST(queue_api, a_number_that_no_group_has_is_not_taken_for_another)
{
    struct world *world = *state;
    uint64_t id = world_send_to(world, "a@one.test");
    static const int64_t numbers[] = {INT64_C(1) << 32, -(INT64_C(1) << 32), INT64_MIN};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct bytes targets;

        bytes_init(&targets, 1000);
        add_target(&targets, id, numbers[i], "one.test");
        assert_int_equal(change(world, "remove", &targets), 400);
        bytes_fini(&targets);
    }
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 1);
}

TEST(queue_api, a_retry_without_a_lane_or_with_an_over_long_one_is_still_made)
{
    struct world *world = *state;
    char lane[LANE_TEXT + 1];
    struct bytes targets;
    uint64_t id = world_send_to(world, "a@one.test");
    char text[ID_TEXT];
    char body[160];

    memset(lane, 'x', LANE_TEXT);
    lane[LANE_TEXT] = '\0';
    bytes_init(&targets, 1000);
    add_target(&targets, id, 0, lane);
    assert_int_equal(change(world, "retry", &targets), 200);
    expect_counts(world, 1, 0, 0);
    bytes_fini(&targets);
    id_print(id, text);
    (void)snprintf(body, sizeof body,
                   "{\"change\":\"retry\",\"targets\":[{\"id\":\"%s\",\"group\":0}]}",
                   text);
    assert_int_equal(world_post(world, "/v1/queue/change", body), 200);
    expect_counts(world, 1, 0, 0);
    assert_int_equal(world_woken_count, 0);
}

TEST(queue_api, an_empty_queue_has_an_empty_list)
{
    struct world *world = *state;

    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 0);
}

#define WITH_WORLD(name)                                                                   \
    cmocka_unit_test_setup_teardown(queue_api_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(an_item_says_what_is_known_of_a_group),
        WITH_WORLD(an_answer_shows_in_the_item),
        WITH_WORLD(pages_of_any_size_hold_every_group_once),
        WITH_WORLD(a_page_that_cannot_be_is_refused),
        WITH_WORLD(one_message_shows_its_groups_and_no_neighbours),
        WITH_WORLD(each_reason_to_wait_has_its_word),
        WITH_WORLD(the_later_of_lane_and_next_attempt_is_the_reason),
        WITH_WORLD(what_is_being_tried_is_active_whatever_its_lane_waits_for),
        WITH_WORLD(a_held_group_says_until_when),
        WITH_WORLD(a_hold_without_an_end_lasts_four_weeks),
        WITH_WORLD(a_bounce_is_deliverys_work_and_carries_its_reason),
        WITH_WORLD(a_change_counts_what_it_did_what_is_busy_and_what_is_gone),
        WITH_WORLD(a_retry_is_due_now_and_wakes_each_lane_once),
        WITH_WORLD(a_thousand_targets_are_one_batch_and_one_more_is_refused),
        WITH_WORLD(a_commit_that_fails_is_told_and_nothing_is_gone),
        WITH_WORLD(what_is_no_change_changes_nothing),
        WITH_WORLD(a_number_that_no_group_has_is_not_taken_for_another),
        WITH_WORLD(a_retry_without_a_lane_or_with_an_over_long_one_is_still_made),
        WITH_WORLD(an_empty_queue_has_an_empty_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
