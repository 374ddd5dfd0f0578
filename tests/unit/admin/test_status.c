/* What the rooms count, each number under its own name. */
#include "admin_world.h"

struct row {
    const char *section;
    const char *name;
    int64_t value;
};

static void expect(const struct world *world, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t value =
            world_number(json_object_get(world->json, rows[i].section), rows[i].name);

        if (value != rows[i].value)
            fail_msg("%s.%s is %lld", rows[i].section, rows[i].name, (long long)value);
    }
}

TEST(status, every_counter_stands_under_its_name)
{
    static const struct row rows[] = {
        {"deliver", "recipients_delivered", 101},
        {"deliver", "recipients_deferred", 102},
        {"deliver", "recipients_failed", 103},
        {"deliver", "recipients_expired", 104},
        {"deliver", "reports_queued", 105},
        {"deliver", "connections", 106},
        {"deliver", "connections_failed", 107},
        {"deliver", "connections_open", 108},
        {"deliver", "attempts_running", 109},
        {"deliver", "destinations", 110},
        {"deliver", "destinations_backing_off", 111},
        {"deliver", "messages_reused_connection", 112},
        {"receive", "connections", 201},
        {"receive", "connections_open", 202},
        {"receive", "connections_refused", 203},
        {"receive", "messages_accepted", 204},
        {"receive", "recipients_accepted", 205},
        {"receive", "bytes_accepted", 206},
        {"receive", "messages_rejected", 207},
        {"receive", "auth_ok", 208},
        {"receive", "auth_failed", 209},
        {"receive", "replies_2xx", 210},
        {"receive", "replies_4xx", 211},
        {"receive", "replies_5xx", 212},
        {"net", "streams", 301},
        {"net", "handshakes_running", 302},
        {"net", "handshakes_done", 303},
        {"net", "handshakes_failed", 304},
        {"net", "handshakes_refused", 305},
        {"net", "dns_queries", 401},
        {"net", "dns_ok", 402},
        {"net", "dns_negative", 403},
        {"net", "dns_failed", 404},
        {"net", "dns_cache_hits", 405},
        {"net", "dns_cache_entries", 406},
        {"net", "dns_waiting", 408},
    };
    struct world *world = *state;

    assert_int_equal(world_get(world, "/v1/status"), 200);
    expect(world, rows, sizeof rows / sizeof *rows);
}

TEST(status, the_facts_of_the_process_come_from_its_owner)
{
    struct world *world = *state;
    int64_t now;

    world->facts = (struct admin_facts){.version = "9.8.7",
                                        .hostname = "mx.test",
                                        .started_ms = INT64_C(1700000000123),
                                        .is_draining = true,
                                        .listeners = 3,
                                        .reloads = 5,
                                        .reloads_failed = 7};
    assert_int_equal(world_get(world, "/v1/status"), 200);
    assert_string_equal(world_text(world->json, "version"), "9.8.7");
    assert_string_equal(world_text(world->json, "hostname"), "mx.test");
    assert_true(world_number(world->json, "started_ms") == INT64_C(1700000000123));
    assert_int_equal(world_number(world->json, "listeners"), 3);
    assert_int_equal(world_number(world->json, "reloads"), 5);
    assert_int_equal(world_number(world->json, "reloads_failed"), 7);
    assert_true(json_is_true(json_object_get(world->json, "is_draining")));
    now = world_number(world->json, "now_ms");
    assert_true(now <= loop_wall_us() / 1000 && now > INT64_C(1700000000123));
    world->facts.is_draining = false;
    assert_int_equal(world_get(world, "/v1/status"), 200);
    assert_true(json_is_false(json_object_get(world->json, "is_draining")));
    assert_true(json_is_integer(json_object_get(world->json, "log_dropped")));
    assert_true(json_is_integer(json_object_get(world->json, "log_final_lost")));
}

TEST(status, the_queue_counts_what_waits_and_what_is_active)
{
    struct world *world = *state;
    const json_t *queue;
    struct queue_statistics statistics;

    (void)world_send(world, &(struct world_mail){.recipients = {"a@one.test", "b@two.test"},
                                                 .age_ms = 60000});
    (void)world_send_to(world, "c@one.test");
    (void)world_take(world, "two.test");
    assert_int_equal(world_get(world, "/v1/status"), 200);
    queue = json_object_get(world->json, "queue");
    queue_statistics(world->queue, &statistics);
    assert_int_equal(world_number(queue, "groups_waiting"), 2);
    assert_int_equal(world_number(queue, "groups_leased"), 1);
    assert_int_equal(world_number(queue, "domain_queues"), statistics.domain_queues);
    assert_int_equal(world_number(queue, "messages_committed"), 2);
    assert_true(world_number(queue, "oldest_ms") == statistics.oldest_ms);
    assert_true(world_number(queue, "free_bytes") > 0);
    assert_true(world_number(queue, "file_bytes") > 0);
    assert_true(json_is_true(json_object_get(queue, "has_room")));
    assert_true(json_is_false(json_object_get(queue, "is_rebuilding")));
}

TEST(status, a_full_disk_shows)
{
    struct world *world = *state;

    world->settings.min_free_space_bytes = UINT64_MAX / 2;
    queue_apply(world->queue, &world->settings);
    assert_int_equal(world_get(world, "/v1/status"), 200);
    assert_true(
        json_is_false(json_object_get(json_object_get(world->json, "queue"), "has_room")));
}

struct jobs {
    uint64_t done;
    uint64_t started;
};

static struct jobs jobs_of(const struct world *world)
{
    struct pool_statistics statistics;
    struct jobs jobs = {0};

    for (int pool = 0; pool < POOL_COUNT; pool++) {
        offload_statistics(world->offload, (enum pool_name)pool, &statistics);
        jobs.done += statistics.done;
        jobs.started += statistics.done + statistics.waiting + statistics.running;
    }
    return jobs;
}

TEST(status, each_pool_has_its_threads)
{
    static const struct {
        enum pool_name pool;
        const char *name;
    } rows[] = {{POOL_CRYPTO, "crypto"}, {POOL_PASSWORD, "password"}, {POOL_FILE, "file"}};
    struct world *world = *state;
    uint64_t done;

    (void)world_send_to(world, "c@one.test");
    (void)world_take(world, "one.test"); /* read by the file pool */
    do {                                 /* the queue looks at its disk meanwhile */
        loop_run_for(world->loop, 1);
        done = jobs_of(world).done;
        assert_int_equal(world_get(world, "/v1/status"), 200);
    } while (jobs_of(world).started != done);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *pool =
            json_object_get(json_object_get(world->json, "pools"), rows[i].name);
        struct pool_statistics statistics;

        offload_statistics(world->offload, rows[i].pool, &statistics);
        assert_int_equal(world_number(pool, "threads"), statistics.threads);
        assert_int_equal(world_number(pool, "done"), statistics.done);
        assert_int_equal(world_number(pool, "waiting"), 0);
        assert_int_equal(world_number(pool, "running"), 0);
        assert_int_equal(world_number(pool, "refused"), 0);
    }
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(status_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(every_counter_stands_under_its_name),
        WITH_WORLD(the_facts_of_the_process_come_from_its_owner),
        WITH_WORLD(the_queue_counts_what_waits_and_what_is_active),
        WITH_WORLD(a_full_disk_shows),
        WITH_WORLD(each_pool_has_its_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
