/* The control socket itself: who may command, what a connection may do, how it opens and closes. */
#include "admin_world.h"

static unsigned status_as(struct world *world, uid_t uid)
{
    world_peer_is_told = true;
    world_peer_uid = uid;
    return world_get(world, "/v1/status");
}

TEST(admin, the_socket_is_its_owners_alone_and_goes_with_it)
{
    struct world *world = *state;
    struct stat facts;

    assert_int_equal(stat(world->path, &facts), 0);
    assert_true(S_ISSOCK(facts.st_mode));
    assert_int_equal(facts.st_mode & 0777, 0600);
    admin_close(world->admin);
    world->admin = NULL;
    assert_int_equal(stat(world->path, &facts), -1);
}

TEST(admin, a_socket_that_a_dead_process_left_is_replaced)
{
    struct world *world = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct fault fault;
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);

    admin_close(world->admin);
    world->admin = NULL;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.107s", world->path);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    (void)close(dead);
    assert_int_equal(world_open_admin(world, world->path, &fault), RESULT_OK);
    assert_int_equal(world_get(world, "/v1/status"), 200);
}

TEST(admin, a_path_that_no_socket_can_have_says_what_to_change)
{
    struct world *world = *state;
    struct admin *first = world->admin;
    struct fault fault = {0};
    char path[160];

    (void)snprintf(path, sizeof path, "/tmp/%0120d", 0);
    assert_int_equal(world_open_admin(world, path, &fault), RESULT_TOO_LARGE);
    assert_non_null(strstr(fault.text, "server.data_dir"));
    assert_int_equal(world_open_admin(world, "/nowhere/control.sock", &fault), RESULT_IO);
    assert_non_null(strstr(fault.text, "/nowhere/control.sock"));
    assert_ptr_equal(world->admin, first);
}

TEST(admin, root_and_the_servers_user_are_answered_and_nobody_else)
{
    struct world *world = *state;

    assert_int_equal(status_as(world, geteuid()), 200);
    assert_int_equal(status_as(world, 0), 200);
    assert_int_equal(status_as(world, geteuid() + 1), 403);
    assert_non_null(strstr(world_error(world), "only root"));
    world_peer_error = EINVAL; /* when nobody can tell, nobody may */
    assert_int_equal(status_as(world, geteuid()), 403);
}

TEST(admin, a_stranger_changes_nothing)
{
    struct world *world = *state;
    char id[ID_TEXT];
    char body[160];

    id_print(world_send_to(world, "b@to.test"), id);
    (void)snprintf(body, sizeof body,
                   "{\"change\":\"remove\",\"targets\":[{\"id\":\"%s\",\"group\":0}]}", id);
    world_peer_is_told = true;
    world_peer_uid = geteuid() + 1;
    assert_int_equal(world_post(world, "/v1/queue/change", body), 403);
    world_peer_is_told = false;
    assert_int_equal(world_get(world, "/v1/queue"), 200);
    assert_int_equal(world_count(world), 1);
}

TEST(admin, one_connection_carries_several_requests)
{
    static const char request[] = "GET /v1/summary HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char final[] =
        "GET /v1/summary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct world *world = *state;
    int fd = world_dial(world);
    size_t answers = 0;

    world_write(world, fd, slice_of(request));
    world_write(world, fd, slice_of(request));
    world_write(world, fd, slice_of(final));
    assert_int_equal(world_finish(world, fd), 200);
    for (const char *at = world->answer.data;
         (at = memmem(at, (size_t)(world->answer.data + world->answer.length - at),
                      "HTTP/1.1 200", 12));
         at++)
        answers++;
    assert_int_equal(answers, 3);
}

TEST(admin, what_is_no_http_is_refused_and_the_next_is_served)
{
    static const char *const texts[] = {"EHLO client.test\r\n\r\n",
                                        "\x16\x03\x01\x02\r\n\r\n", "GET\r\n\r\n",
                                        "POST /v1/queue/change HTTP/1.1\r\nHost: x\r\n"
                                        "Content-Length: many\r\n\r\n"};
    struct world *world = *state;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = world_dial(world);
        unsigned status;

        world_write(world, fd, slice_of(texts[i]));
        (void)shutdown(fd, SHUT_WR);
        status = world_finish(world, fd);
        assert_true(status == 0 || status >= 400);
    }
    assert_int_equal(world_get(world, "/v1/status"), 200);
}

TEST(admin, a_body_above_the_ceiling_is_refused)
{
    struct world *world = *state;
    size_t length = REQUEST_BODY_MAX + 1;
    char *body = memory_new(length + 1);

    memset(body, ' ', length);
    assert_int_equal(world_post(world, "/v1/queue/change", body), 413);
    assert_non_null(strstr(world_error(world), "1048576"));
    body[length - 1] = '\0'; /* the largest that is read: it is no JSON */
    assert_int_equal(world_post(world, "/v1/queue/change", body), 400);
    memory_free(body);
    assert_int_equal(world_get(world, "/v1/status"), 200);
}

TEST(admin, a_client_that_leaves_in_the_middle_is_forgotten)
{
    struct world *world = *state;

    for (int i = 0; i < 2 * REQUEST_CONNECTIONS; i++) {
        int fd = world_dial(world);

        world_write(world, fd, SLICE("POST /v1/queue/change HTTP/1.1\r\nContent-Le"));
        (void)close(fd);
        loop_run_for(world->loop, 1);
    }
    assert_int_equal(world_get(world, "/v1/status"), 200);
}

TEST(admin, a_change_whose_client_left_is_still_made)
{
    struct world *world = *state;
    char id[ID_TEXT];
    char body[160];
    unsigned held;
    int fd;

    id_print(world_send_to(world, "b@to.test"), id);
    (void)snprintf(body, sizeof body,
                   "{\"change\":\"remove\",\"targets\":[{\"id\":\"%s\",\"group\":0}]}", id);
    held = world_held;
    world_holds_commits = true;
    fd = world_start(world, "POST", "/v1/queue/change", body);
    WORLD_UNTIL(world, world_held > held);
    (void)close(fd);
    loop_run_for(world->loop, 5);
    world_holds_commits = false;
    WORLD_UNTIL(world, world_get(world, "/v1/queue") == 200 && world_count(world) == 0);
}

TEST(admin, who_waits_when_it_closes_is_told_that_the_server_leaves)
{
    struct world *world = *state;
    char id[ID_TEXT];
    char body[160];
    unsigned held;
    int fd;

    id_print(world_send_to(world, "b@to.test"), id);
    (void)snprintf(body, sizeof body,
                   "{\"change\":\"retry\",\"targets\":[{\"id\":\"%s\",\"group\":0,"
                   "\"lane\":\"to.test\"}]}",
                   id);
    held = world_held;
    world_holds_commits = true;
    fd = world_start(world, "POST", "/v1/queue/change", body);
    WORLD_UNTIL(world, world_held > held);
    admin_close(world->admin);
    world->admin = NULL;
    assert_int_equal(world_finish(world, fd), 503);
    assert_non_null(strstr(world_error(world), "leaving"));
    world_holds_commits = false;
    /* The change ends on the loop and finds nobody to tell, in no room that is gone. */
    for (int turns = 0; turns < 50; turns++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world_woken_count, 0);
}

/* The change is made; its lanes are woken on. */
TEST(admin, who_waits_for_lanes_is_told_so_too)
{
    struct world *world = *state;
    char body[128];
    char id[ID_TEXT];
    int fd;

    world_waking.is_held = true;
    id_print(world_send_to(world, "a@one.test"), id);
    (void)snprintf(body, sizeof body,
                   "{\"change\":\"retry\",\"targets\":[{\"id\":\"%s\",\"group\":0,"
                   "\"lane\":\"one.test\"}]}",
                   id);
    fd = world_start(world, "POST", "/v1/queue/change", body);
    WORLD_UNTIL(world, world_woken_count == 1);
    admin_close(world->admin);
    world->admin = NULL;
    assert_int_equal(world_finish(world, fd), 503);
    assert_null(world_waking.on_end); /* nobody is told */
}

TEST(admin, a_new_resolver_is_asked_from_then_on)
{
    static char after;
    struct world *world = *state;

    admin_set_resolver(world->admin, (struct resolver *)(void *)&after);
    assert_int_equal(world_get(world, "/v1/status"), 200);
    assert_ptr_equal(world_resolver_asked, &after);
}

TEST(admin, closing_nothing_is_fine)
{
    admin_close(NULL);
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(admin_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(the_socket_is_its_owners_alone_and_goes_with_it),
        WITH_WORLD(a_socket_that_a_dead_process_left_is_replaced),
        WITH_WORLD(a_path_that_no_socket_can_have_says_what_to_change),
        WITH_WORLD(root_and_the_servers_user_are_answered_and_nobody_else),
        WITH_WORLD(a_stranger_changes_nothing),
        WITH_WORLD(one_connection_carries_several_requests),
        WITH_WORLD(what_is_no_http_is_refused_and_the_next_is_served),
        WITH_WORLD(a_body_above_the_ceiling_is_refused),
        WITH_WORLD(a_client_that_leaves_in_the_middle_is_forgotten),
        WITH_WORLD(a_change_whose_client_left_is_still_made),
        WITH_WORLD(who_waits_when_it_closes_is_told_that_the_server_leaves),
        WITH_WORLD(who_waits_for_lanes_is_told_so_too),
        WITH_WORLD(a_new_resolver_is_asked_from_then_on),
        RUN(admin, closing_nothing_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
