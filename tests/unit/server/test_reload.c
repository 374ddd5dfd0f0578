/* SIGHUP: the whole file, or nothing of it. */
#include "server_world.h"

#include <signal.h>

enum { PORT = 2525 };

/* A good file; `server` and `more` are added to it. */
static char *file_text(const struct world *world, unsigned port, const char *server,
                       const char *more)
{
    return memory_format("[server]\nhostname = \"relay.test\"\ndata_dir = \"%s\"\n%s\n"
                         "[auth]\nusers_file = \"%s/users\"\n"
                         "allow_clear_on_loopback = true\n"
                         "[log]\noutput = \"%s\"\nlevel = \"debug\"\n%s\n"
                         "[[listen]]\naddress = \"%s:%u\"\ntls = \"none\"\n",
                         world->folder, server, world->folder, world->log_path, more,
                         world->ip, port);
}

static void write_file(struct world *world, unsigned port, const char *server,
                       const char *more)
{
    char *text = file_text(world, port, server, more);

    world_write(world, text);
    memory_free(text);
}

static int set_up_running(void **state)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct world *world;
    struct fault fault;
    char path[160];
    int fd;

    (void)set_up(state);
    world = *state;
    (void)snprintf(path, sizeof path, "%s/users", world->folder);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    write_file(world, PORT, "", "");
    world->server.config = config_load(world->config_path, problems);
    if (!world->server.config)
        fail_msg("%s", problems->items[0].text);
    memory_free(problems);
    assert_int_equal(listeners_open(&world->server, world->server.config, &fault),
                     RESULT_OK);
    listeners_apply(&world->server);
    return 0;
}

static void reload(struct world *world)
{
    reload_on_signal(&world->server, SIGHUP);
    assert_int_equal(world->applied, 0); /* never inside the call */
    WORLD_UNTIL(world, !world->server.reload);
}

/* Nothing is other than before. */
static void expect_refused(struct world *world, const char *words)
{
    const struct config *before = world->server.config;

    reload(world);
    assert_ptr_equal(world->server.config, before);
    assert_int_equal(world->server.reloads, 0);
    assert_int_equal(world->server.reloads_failed, 1);
    assert_int_equal(world->applied, 0);
    assert_int_equal(world->server.listeners.count, 1);
    assert_true(world_is_served(world, PORT));
    WORLD_UNTIL(world, world_log_has(world, "server.reload_failed"));
    if (!world_log_has(world, words))
        fail_msg("the log does not say %s", words);
}

TEST(reload, a_good_file_is_applied_to_every_room)
{
    struct world *world = *state;

    write_file(world, PORT, "", "[limits]\nreceived_hops = 77\n");
    reload(world);
    assert_int_equal(world->applied, 1);
    assert_int_equal(world->server.reloads, 1);
    assert_int_equal(world->server.reloads_failed, 0);
    assert_int_equal(world->server.config->received_hops, 77);
    assert_true(world_is_served(world, PORT));
    WORLD_UNTIL(world, world_log_has(world, "server.reloaded"));
    assert_true(world_log_has(world, "limits.received_hops"));
}

TEST(reload, listeners_follow_the_file)
{
    struct world *world = *state;

    write_file(world, PORT + 1, "", "");
    reload(world);
    assert_true(world_is_served(world, PORT + 1));
    assert_false(world_is_open(world, PORT));
}

TEST(reload, a_file_with_an_error_changes_nothing_and_its_place_is_logged)
{
    struct world *world = *state;

    write_file(world, PORT + 1, "", "[limits]\nreceived_hops = \"many\"\n");
    expect_refused(world, "smtpd.toml:12:");
}

TEST(reload, a_file_that_is_gone_changes_nothing)
{
    struct world *world = *state;

    assert_int_equal(unlink(world->config_path), 0);
    expect_refused(world, "cannot read the file");
}

TEST(reload, a_users_file_that_cannot_be_read_changes_nothing)
{
    struct world *world = *state;
    char path[160];

    (void)snprintf(path, sizeof path, "%s/users", world->folder);
    assert_int_equal(unlink(path), 0);
    expect_refused(world, "/users");
}

TEST(reload, certificates_that_cannot_be_read_change_nothing)
{
    struct world *world = *state;

    write_file(world, PORT + 1, "",
               "[tls]\ncertificate = \"/nowhere/a.crt\"\nkey = \"/nowhere/a.key\"\n");
    expect_refused(world, "/nowhere/a.crt");
}

TEST(reload, an_address_that_is_taken_changes_nothing)
{
    struct world *world = *state;
    struct endpoint taken = world_endpoint(world, PORT + 1);
    struct listener *foreign = NULL;
    struct fault fault;

    assert_int_equal(listener_open(world->server.net, &taken, &foreign, &fault), RESULT_OK);
    write_file(world, PORT + 1, "", "[dns]\nservers = [\"127.0.0.1:9\"]\n");
    expect_refused(world, ":2526");
    assert_int_equal(world->resolvers, 0);
    listener_close(foreign);
}

TEST(reload, what_needs_a_restart_stays_and_is_said)
{
    struct world *world = *state;
    char *text = file_text(world, PORT, "", "");
    char *other = strstr(text, "data_dir = \"");

    assert_non_null(other);
    other[12 + strlen(world->folder)] = '"';
    memcpy(other + 12, "/x", 2); /* another folder, of the same length */
    world_write(world, text);
    memory_free(text);
    reload(world);
    assert_int_equal(world->server.reloads, 1);
    assert_string_equal(world->server.config->data_dir, world->folder);
    WORLD_UNTIL(world, world_log_has(world, "server.option_changed"));
    assert_true(world_log_has(world, "server.data_dir"));
    assert_true(world_log_has(world, "\"needs_restart\":true"));
}

TEST(reload, a_new_resolver_is_made_only_for_other_name_servers)
{
    struct world *world = *state;

    write_file(world, PORT, "", "[dns]\nservers = [\"127.0.0.1:9\"]\n");
    reload(world);
    assert_int_equal(world->resolvers, 1);
    reload_on_signal(&world->server, SIGHUP);
    WORLD_UNTIL(world, !world->server.reload);
    assert_int_equal(world->applied, 2);
    assert_int_equal(world->resolvers, 1);
}

TEST(reload, signals_during_a_reload_are_one_more_reload)
{
    struct world *world = *state;

    for (int i = 0; i < 5; i++)
        reload_on_signal(&world->server, SIGHUP);
    write_file(world, PORT, "", "[limits]\nreceived_hops = 78\n");
    WORLD_UNTIL(world, world->applied == 2);
    WORLD_UNTIL(world, !world->server.reload);
    assert_int_equal(world->server.reloads, 2);
    assert_int_equal(world->server.config->received_hops, 78); /* the latest file */
    assert_false(world->server.reload_again);
}

TEST(reload, who_is_leaving_takes_no_new_file)
{
    struct world *world = *state;
    const struct config *before = world->server.config;

    reload_on_signal(&world->server, SIGHUP);
    world->server.is_draining = true; /* while the file is read */
    WORLD_UNTIL(world, !world->server.reload);
    reload_on_signal(&world->server, SIGHUP);
    assert_null(world->server.reload);
    assert_ptr_equal(world->server.config, before);
    assert_int_equal(world->applied, 0);
    assert_int_equal(world->server.reloads + world->server.reloads_failed, 0);
}

#define WITH_RUNNING(name)                                                                 \
    cmocka_unit_test_setup_teardown(reload_##name, set_up_running, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNING(a_good_file_is_applied_to_every_room),
        WITH_RUNNING(listeners_follow_the_file),
        WITH_RUNNING(a_file_with_an_error_changes_nothing_and_its_place_is_logged),
        WITH_RUNNING(a_file_that_is_gone_changes_nothing),
        WITH_RUNNING(a_users_file_that_cannot_be_read_changes_nothing),
        WITH_RUNNING(certificates_that_cannot_be_read_change_nothing),
        WITH_RUNNING(an_address_that_is_taken_changes_nothing),
        WITH_RUNNING(what_needs_a_restart_stays_and_is_said),
        WITH_RUNNING(a_new_resolver_is_made_only_for_other_name_servers),
        WITH_RUNNING(signals_during_a_reload_are_one_more_reload),
        WITH_RUNNING(who_is_leaving_takes_no_new_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
