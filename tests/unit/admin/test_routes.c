/* The table of paths, as data and through the socket. */
#include "admin_world.h"

TEST(routes, each_path_and_method_is_there_once)
{
    for (size_t i = 0; i < request_route_count; i++) {
        const struct request_route *row = &request_routes[i];

        assert_int_equal(row->path[0], '/');
        assert_non_null(row->handler);
        assert_true(strcmp(row->method, "GET") == 0 || strcmp(row->method, "POST") == 0);
        for (size_t k = 0; k < i; k++)
            assert_false(strcmp(row->path, request_routes[k].path) == 0 &&
                         strcmp(row->method, request_routes[k].method) == 0);
    }
}

TEST(routes, each_row_leads_to_its_handler)
{
    static const struct {
        const char *method, *path;
        request_fn *handler;
    } rows[] = {
        {"GET", "/v1/status", status_handle},
        {"GET", "/v1/queue", queue_handle_list},
        {"GET", "/v1/queue/", queue_handle_show},
        {"GET", "/v1/summary", queue_handle_summary},
        {"POST", "/v1/queue/change", queue_handle_change},
        {"POST", "/v1/queue/export", queue_handle_export},
        {"GET", "/v1/message/", message_handle},
        {"GET", "/v1/explain", explain_handle},
        {"GET", "/v1/suppression", suppression_handle_list},
        {"POST", "/v1/suppression/change", suppression_handle_change},
        {"GET", "/v1/destinations", destinations_handle_list},
        {"POST", "/v1/destinations/change", destinations_handle_change},
        {"GET", "/v1/tls-report", tls_report_handle_list},
        {"GET", "/v1/tls-report/", tls_report_handle_show},
        {"POST", "/v1/tls-report/send", tls_report_handle_send},
        {"POST", "/v1/config/compare", config_handle_compare},
        {"GET", "/livez", probe_handle_live},
        {"GET", "/readyz", probe_handle_ready},
        {"GET", "/startupz", probe_handle_startup},
        {"GET", "/metrics", metrics_handle},
    };

    assert_int_equal(request_route_count, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_found = false;

        for (size_t k = 0; k < request_route_count; k++)
            is_found |= strcmp(request_routes[k].path, rows[i].path) == 0 &&
                        strcmp(request_routes[k].method, rows[i].method) == 0 &&
                        request_routes[k].handler == rows[i].handler;
        assert_true(is_found);
    }
}

TEST(routes, paths_are_taken_whole)
{
    static const struct {
        const char *method, *path;
        unsigned status;
    } rows[] = {
        {"GET", "/v1/status", 200},
        {"GET", "/v1/status?x=y", 200},
        {"GET", "/v1/summary", 200},
        {"GET", "/v1/queue", 200},
        {"GET", "/", 404},
        {"GET", "/v1", 404},
        {"GET", "/v1/statu", 404},
        {"GET", "/v1/status/", 404},
        {"GET", "/v1/statuses", 404},
        {"GET", "/V1/STATUS", 404},
        {"GET", "/v2/status", 404},
        {"GET", "/v1/queue/", 404}, /* what would follow is missing */
        {"GET", "/v1/queue/a/b", 404},
        {"GET", "/v1/message/", 404},
        {"GET", "/v1/message/../status", 404},
        {"GET", "/v1/queue/change", 400}, /* to be shown: no id */
        {"POST", "/v1/status", 405},
        {"DELETE", "/v1/queue", 405},
        {"PUT", "/v1/queue/change", 405},
        {"PUT", "/v1/queue/export", 405},
        {"HEAD", "/v1/status", 200},
        {"HEAD", "/v1/queue/change", 400},
        {"POST", "/v1/message/aaaaaaaaaaaaa", 405},
        {"POST", "/v1/queue/aaaaaaaaaaaaa", 405},
        {"PROPFINDEVERYTHING", "/v1/status", 405},
        {"POST", "/nowhere", 404},
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int fd = world_start(world, rows[i].method, rows[i].path, NULL);
        unsigned status = world_finish(world, fd);

        if (status != rows[i].status)
            fail_msg("%s %s: %u", rows[i].method, rows[i].path, status);
    }
}

TEST(routes, an_over_long_path_is_no_short_one)
{
    struct world *world = *state;
    char path[400];

    (void)snprintf(path, sizeof path, "/v1/queue/aaaaaaaaaaaaa%0200d", 0);
    assert_int_equal(world_get(world, path), 400); /* as any argument that is no id */
    (void)snprintf(path, sizeof path, "/v1/%0300d", 0);
    assert_int_equal(world_get(world, path), 404);
    (void)snprintf(path, sizeof path, "/v1/queue/%0230d/status", 0);
    assert_int_equal(world_get(world, path), 404);
    (void)snprintf(path, sizeof path, "/v1/queue/%0260d/status", 0); /* not its beginning */
    assert_int_equal(world_get(world, path), 404);
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(routes_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(routes, each_path_and_method_is_there_once),
        RUN(routes, each_row_leads_to_its_handler),
        WITH_WORLD(paths_are_taken_whole),
        WITH_WORLD(an_over_long_path_is_no_short_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
