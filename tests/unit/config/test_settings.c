/* From the file to each room's settings: every number arrives where it is used. */
#include "texts.h"

static const char all[] =
    GOOD "[limits]\nmessage_size = \"1MiB\"\nrecipients_per_message = 500\n"
         "received_hops = 19\nconnections = 11\nconnections_per_address = 7\n"
         "connections_per_network = 8\nconnection_rate = [\"5/m\", \"90/h\"]\n"
         "connection_rate_per_network = [\"50/m\"]\n"
         "memory = \"77MiB\"\nidle_timeout = \"7s\"\nhandshakes = "
         "13\nhandshakes_per_address = 3\n"
         "[policy]\ngreeting_delay = \"4s\"\nreject_weight = 6\nreverse_dns = \"require\"\n"
         "helo_checks = \"log\"\nunknown_recipients = 14\nerrors = 12\ntarpit = \"2s\"\n"
         "offenders = \"3m\"\n"
         "[[dnsbl]]\nzone = \"bl.test\"\nweight = -7\nanswers = [\"127.0.0.2\"]\n"
         "[[dnsbl]]\nzone = \"wl.test\"\n"
         "[relay]\ntrusted_networks = [\"10.0.0.0/8\"]\n"
         "[queue]\nretry = [\"1m\", \"9m\"]\nexpire = \"2d\"\nmin_free_space = \"5MiB\"\n"
         "[tls]\nmin_version = \"1.3\"\ncertificate = \"c\"\nkey = \"k\"\n"
         "[dns]\nservers = [\"127.0.0.1:53\"]\ntimeout = \"9s\"\ntrust_ad = true\n"
         "[delivery]\nconnections = 4\nmessages_per_connection = 6\ntls = \"required\"\n"
         "connect_timeout = \"3s\"\ndane = false\ntenant_header = \"X-T\"\n"
         "tenant_users = [\"a\", \"b\"]\npriority_header = \"X-P\"\n"
         "[[tenant]]\nname = \"shop\"\nweight = 5\n[[tenant]]\nname = \"bank\"\n"
         "[log]\noutput = \"stderr\"\nlevel = \"debug\"\nformat = \"text\"\n"
         "[[local]]\ndomain = \"l.test\"\nmaildir = \"/m/{user}\"\nusers = [\"bob\"]\n"
         "[[route]]\nname = \"r\"\nmatch = \"x.test\"\nhost = \"h.test\"\nport = 26\n"
         "[[destination]]\nmatch = \"d.test\"\nconnections = 2\ndane = true\n";

TEST(settings, what_clients_see)
{
    struct config *config = load_good(all);
    struct receive_settings receive;
    struct rate_settings rate;
    struct access_settings access;
    struct pressure_settings pressure;
    struct screen_settings screen;

    config_receive(config, &receive);
    assert_string_equal(receive.hostname, "relay.test");
    assert_int_equal(receive.message_size_bytes, 1 << 20);
    assert_int_equal(receive.recipients_per_message, 500);
    assert_int_equal(receive.received_hops, 19);
    assert_int_equal(receive.idle_timeout_ms, 7000);
    assert_true(receive.has_users);
    assert_string_equal(receive.tenancy.tenant_header, "X-T");
    assert_int_equal(receive.tenancy.tenant_user_count, 2);
    assert_string_equal(receive.tenancy.tenant_users[1], "b");
    assert_string_equal(receive.tenancy.priority_header, "X-P");
    assert_int_equal(receive.strangers.greeting_delay_ms, 4000);
    assert_int_equal(receive.strangers.reverse_dns, STRANGERS_REJECT);
    assert_int_equal(receive.strangers.helo_checks, STRANGERS_LOG);
    assert_int_equal(receive.strangers.unknown_recipients, 14);
    assert_int_equal(receive.strangers.errors, 12);
    assert_int_equal(receive.strangers.tarpit_ms, 2000);
    assert_int_equal(receive.strangers.offenders_ms, 180000);
    config_screen(config, &screen);
    assert_int_equal(screen.reject_weight, 6);
    assert_true(screen.wants_name);
    assert_int_equal(screen.list_count, 2);
    assert_string_equal(screen.lists[0].zone, "bl.test");
    assert_int_equal(screen.lists[0].weight, -7);
    assert_int_equal(screen.lists[0].answers[0].prefix, 128);
    assert_int_equal(screen.lists[1].weight, 1);
    assert_int_equal(screen.lists[1].answers[0].prefix, 104);
    config_rate(config, &rate);
    assert_int_equal(rate.connections, 11);
    assert_int_equal(rate.connections_per_address, 7);
    assert_int_equal(rate.connections_per_network, 8);
    assert_int_equal(rate.network_rate.count, 1);
    assert_int_equal(rate.network_rate.items[0].count, 50);
    assert_int_equal(rate.connection_rate.count, 2);
    assert_int_equal(rate.connection_rate.items[1].count, 90);
    assert_int_equal(rate.connection_rate.items[1].window_ms, 3600000);
    config_pressure(config, &pressure);
    assert_int_equal(pressure.memory_bytes, 77 << 20);
    config_access(config, &access);
    assert_int_equal(access.trusted_count, 1);
    assert_int_equal(access.local_count, 1);
    assert_string_equal(access.local_domains[0].domain, "l.test");
    assert_string_equal(access.postmaster, "ops@relay.test");
    config_free(config);
}

TEST(settings, what_is_kept_and_looked_up)
{
    struct config *config = load_good(all);
    struct queue_settings queue;
    struct tls_settings tls;
    struct tls_server_settings server;
    struct resolver_settings resolver;
    struct log_settings log;

    config_queue(config, &queue);
    assert_int_equal(queue.retry_count, 2);
    assert_int_equal(queue.retry_ms[1], 540000);
    assert_int_equal(queue.expire_ms, 2 * 86400000LL);
    assert_int_equal(queue.min_free_space_bytes, 5 << 20);
    config_tls(config, &tls);
    assert_int_equal(tls.handshakes_max, 13);
    assert_int_equal(tls.handshakes_per_address_max, 3);
    config_tls_server(config, &server);
    assert_true(server.min_version_is_13);
    assert_int_equal(server.pair_count, 1);
    assert_string_equal(server.key_files[0], "k");
    config_resolver(config, &resolver);
    assert_int_equal(resolver.server_count, 1);
    assert_int_equal(resolver.servers[0].port, 53);
    assert_true(resolver.trusts_ad);
    assert_true(resolver.wants_authentic);
    config_log(config, &log);
    assert_string_equal(log.output, "stderr");
    assert_int_equal(log.level, LOG_DEBUG);
    config_free(config);
}

TEST(settings, where_mail_goes)
{
    struct config *config = load_good(all);
    struct deliver_settings deliver;
    struct local_settings local;

    config_deliver(config, &deliver);
    assert_int_equal(deliver.defaults.connections, 4);
    assert_int_equal(deliver.defaults.messages_per_connection, 6);
    assert_false(deliver.defaults.dane);
    assert_false(deliver.routes[0].settings.dane);
    assert_true(deliver.rules[0].settings.dane);
    assert_int_equal(deliver.route_count, 1);
    assert_string_equal(deliver.routes[0].name, "r");
    assert_string_equal(deliver.routes[0].host, "h.test");
    assert_int_equal(deliver.routes[0].port, 26);
    assert_true(deliver.rule_count > 30); /* the shipped ones are behind */
    assert_int_equal(deliver.tenant_count, 2);
    assert_string_equal(deliver.tenants[0].name, "shop");
    assert_int_equal(deliver.tenants[0].weight, 5);
    assert_int_equal(deliver.tenants[1].weight, 1);
    assert_int_equal(deliver.rules[0].settings.connections, 2);
    assert_int_equal(deliver.rules[0].settings.messages_per_connection, 6);
    config_local(config, &local);
    assert_int_equal(local.mailbox_count, 1);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(settings, what_clients_see),
        RUN(settings, what_is_kept_and_looked_up),
        RUN(settings, where_mail_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
