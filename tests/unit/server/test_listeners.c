/* Listening sockets over reloads. */
#include "server_world.h"

#include "certificates.h"

enum { PORT = 2525 };

/* A configuration with one listener for each address. */
struct wanted {
    struct config config;
    struct config_listen listen[4];
    struct endpoint addresses[4];
};

static struct config *want(struct wanted *wanted, const struct world *world,
                           const unsigned *ports, enum receive_mode mode)
{
    size_t count = 0;

    memset(wanted, 0, sizeof *wanted);
    for (; ports[count]; count++) {
        wanted->addresses[count] = world_endpoint(world, ports[count]);
        wanted->listen[count].address = (struct value_list){&wanted->addresses[count], 1};
        wanted->listen[count].mode = (int)mode;
        wanted->listen[count].tls = RECEIVE_TLS_NONE;
    }
    wanted->config.listen = (struct value_list){wanted->listen, count};
    return &wanted->config;
}

#define PORTS(...) ((const unsigned[]){__VA_ARGS__, 0})

static void apply(struct world *world, struct config *config)
{
    struct fault fault;

    assert_int_equal(listeners_open(&world->server, config, &fault), RESULT_OK);
    world->server.config = config;
    listeners_apply(&world->server);
    world->server.config = NULL; /* it is not from the heap */
}

TEST(listeners, nobody_is_served_before_the_settings_are_there)
{
    struct world *world = *state;
    struct wanted wanted;
    struct config *config = want(&wanted, world, PORTS(PORT), MODE_RELAY);
    struct fault fault;
    char name[40];

    assert_int_equal(listeners_open(&world->server, config, &fault), RESULT_OK);
    assert_true(world_is_open(world, PORT)); /* the kernel lets them wait */
    assert_false(world_is_served(world, PORT));
    world->server.config = config;
    listeners_apply(&world->server);
    world->server.config = NULL;
    assert_true(world_is_served(world, PORT));
    assert_int_equal(world->settings.mode, MODE_RELAY);
    assert_int_equal(world->settings.tls_mode, RECEIVE_TLS_NONE);
    assert_null(world->settings.tls);
    (void)snprintf(name, sizeof name, "%s:%d", world->ip, PORT);
    assert_string_equal(world->name, name);
}

TEST(listeners, a_kept_one_keeps_its_socket_and_takes_the_new_settings)
{
    struct world *world = *state;
    struct wanted wanted;
    struct listener *before;

    apply(world, want(&wanted, world, PORTS(PORT), MODE_RELAY));
    before = world_listener(world, PORT)->listener;
    apply(world, want(&wanted, world, PORTS(PORT + 1, PORT), MODE_SUBMISSION));
    assert_ptr_equal(world_listener(world, PORT)->listener, before);
    assert_true(world_is_served(world, PORT));
    assert_int_equal(world->settings.mode, MODE_SUBMISSION);
    assert_true(world_is_served(world, PORT + 1));
    assert_int_equal(world->server.listeners.count, 2);
}

TEST(listeners, what_is_not_wanted_any_more_closes)
{
    struct world *world = *state;
    struct wanted wanted;

    apply(world, want(&wanted, world, PORTS(PORT, PORT + 1), MODE_RELAY));
    apply(world, want(&wanted, world, PORTS(PORT + 1), MODE_RELAY));
    assert_false(world_is_open(world, PORT));
    assert_true(world_is_served(world, PORT + 1));
    listeners_close(&world->server);
    assert_false(world_is_open(world, PORT + 1));
    assert_int_equal(world->server.listeners.count, 0);
}

TEST(listeners, one_that_cannot_open_leaves_the_others_as_they_were)
{
    struct world *world = *state;
    struct endpoint taken = world_endpoint(world, PORT + 2);
    struct listener *foreign = NULL;
    struct wanted wanted;
    struct fault fault = {0};

    apply(world, want(&wanted, world, PORTS(PORT), MODE_RELAY));
    assert_int_equal(listener_open(world->server.net, &taken, &foreign, &fault), RESULT_OK);
    assert_int_equal(
        listeners_open(&world->server,
                       want(&wanted, world, PORTS(PORT + 1, PORT + 2, PORT), MODE_RELAY),
                       &fault),
        RESULT_IO);
    assert_non_null(strstr(fault.text, ":2527"));
    assert_int_equal(world->server.listeners.count, 1);
    assert_false(world_is_open(world, PORT + 1)); /* had been opened already */
    assert_true(world_is_served(world, PORT));
    listener_close(foreign);
}

/* ---- sockets of the service manager ---- */

static struct endpoint inherit(struct world *world, struct endpoint endpoint)
{
    struct systemd *systemd = &world->server.systemd;
    struct endpoint bound;
    struct fault fault;
    int fd = -1;

    assert_int_equal(listener_open_socket(&endpoint, &fd, &bound, &fault), RESULT_OK);
    assert_int_equal(listener_adopt(world->server.net, fd,
                                    &systemd->inherited[systemd->inherited_count++],
                                    &fault),
                     RESULT_OK);
    return bound;
}

TEST(listeners, one_of_the_service_manager_survives_that_it_is_not_wanted)
{
    struct world *world = *state;
    struct wanted wanted;
    struct listener *given;

    (void)inherit(world, world_endpoint(world, PORT));
    given = world->server.systemd.inherited[0];
    for (int i = 0; i < 3; i++) {
        apply(world, want(&wanted, world, PORTS(PORT, PORT + 1), MODE_RELAY));
        assert_ptr_equal(world_listener(world, PORT)->listener, given);
        assert_true(world_is_served(world, PORT));
        assert_int_equal(world->server.systemd.inherited_count, 0);
        apply(world, want(&wanted, world, PORTS(PORT + 1), MODE_RELAY));
        assert_true(world_is_open(world, PORT)); /* the manager's clients wait */
        assert_false(world_is_served(world, PORT));
        assert_true(world_is_served(world, PORT + 1));
        assert_int_equal(world->server.systemd.inherited_count, 1);
    }
    apply(world, want(&wanted, world, PORTS(PORT), MODE_RELAY));
    listeners_close(&world->server);
    assert_false(world_is_open(world, PORT));
    assert_int_equal(world->server.systemd.inherited_count, 0);
}

TEST(listeners, one_of_the_service_manager_goes_back_when_a_reload_fails)
{
    struct world *world = *state;
    struct endpoint taken = world_endpoint(world, PORT + 2);
    struct listener *foreign = NULL;
    struct wanted wanted;
    struct fault fault = {0};

    (void)inherit(world, world_endpoint(world, PORT));
    assert_int_equal(listener_open(world->server.net, &taken, &foreign, &fault), RESULT_OK);
    assert_int_equal(listeners_open(&world->server,
                                    want(&wanted, world, PORTS(PORT, PORT + 2), MODE_RELAY),
                                    &fault),
                     RESULT_IO);
    assert_int_equal(world->server.systemd.inherited_count, 1);
    apply(world, want(&wanted, world, PORTS(PORT), MODE_RELAY));
    assert_true(world_is_served(world, PORT));
    listener_close(foreign);
}

/* ---- what stands in the way ---- */

TEST(listeners, a_port_that_our_own_socket_holds_is_said_to_need_a_restart)
{
    struct world *world = *state;
    struct config in_effect = {0};
    struct endpoint everywhere;
    struct endpoint bound;
    struct wanted wanted;
    struct fault fault = {0};

    /* The kernel chooses the port: others run beside this test. */
    assert_int_equal(endpoint_parse(SLICE("0.0.0.0:0"), &everywhere), RESULT_OK);
    bound = inherit(world, everywhere);
    want(&wanted, world, PORTS(PORT), MODE_RELAY);
    wanted.addresses[0] = bound;
    apply(world, &wanted.config);
    world->server.is_listening = true;
    world->server.config = &in_effect;
    want(&wanted, world, PORTS(bound.port), MODE_RELAY);
    assert_int_equal(listeners_open(&world->server, &wanted.config, &fault), RESULT_IO);
    assert_non_null(strstr(fault.text, "the service manager's socket for 0.0.0.0:"));
    CONTAINER_OF(list_first(&world->server.listeners), struct server_listener, link)
        ->is_inherited = false;
    assert_int_equal(listeners_open(&world->server, &wanted.config, &fault), RESULT_IO);
    assert_non_null(strstr(fault.text, "our own socket for 0.0.0.0:"));
    assert_non_null(strstr(fault.text, "needs a restart"));
    assert_int_equal(world->server.listeners.count, 1);
    /* At the start nobody but the file is to blame. */
    world->server.is_listening = false;
    assert_int_equal(listeners_open(&world->server, &wanted.config, &fault), RESULT_IO);
    assert_null(strstr(fault.text, "restart"));
    world->server.config = NULL;
}

TEST(listeners, each_holds_the_certificates_it_hands_out)
{
    struct world *world = *state;
    struct certificates certificates;
    const char *certificate_files[1];
    const char *key_files[1];
    struct tls_server_settings settings = {certificate_files, key_files, 1, false};
    struct wanted wanted;
    struct config *config = want(&wanted, world, PORTS(PORT), MODE_SUBMISSION);
    struct tls_server *first;
    struct fault fault;

    certificates_make(&certificates, "relay.test");
    certificate_files[0] = certificates.certificate;
    key_files[0] = certificates.key;
    wanted.listen[0].tls = RECEIVE_TLS_STARTTLS;
    assert_int_equal(tls_server_new(&settings, &first, &fault), RESULT_OK);
    world->server.tls_server = first;
    apply(world, config);
    assert_true(world_is_served(world, PORT));
    assert_ptr_equal(world->settings.tls, first);
    assert_int_equal(world->settings.tls_mode, RECEIVE_TLS_STARTTLS);
    /* The server lets go of it: the listener still has it. */
    tls_server_unref(first);
    assert_true(tls_server_expires_ms(world_listener(world, PORT)->settings.tls) > 0);
    assert_int_equal(tls_server_new(&settings, &world->server.tls_server, &fault),
                     RESULT_OK);
    apply(world, config);
    assert_true(world_is_served(world, PORT));
    assert_ptr_equal(world->settings.tls, world->server.tls_server);
    certificates_remove(&certificates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(listeners, nobody_is_served_before_the_settings_are_there),
        WITH_WORLD(listeners, a_kept_one_keeps_its_socket_and_takes_the_new_settings),
        WITH_WORLD(listeners, what_is_not_wanted_any_more_closes),
        WITH_WORLD(listeners, one_that_cannot_open_leaves_the_others_as_they_were),
        WITH_WORLD(listeners, one_of_the_service_manager_survives_that_it_is_not_wanted),
        WITH_WORLD(listeners, one_of_the_service_manager_goes_back_when_a_reload_fails),
        WITH_WORLD(listeners, a_port_that_our_own_socket_holds_is_said_to_need_a_restart),
        WITH_WORLD(listeners, each_holds_the_certificates_it_hands_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
