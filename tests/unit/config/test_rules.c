/* Rules between options: each refuses what it is there for, at the option that it names. */
#include "texts.h"

#define SERVER "[server]\nhostname = \"relay.test\"\n"
#define USERS "[auth]\nusers_file = \"/nowhere/users\"\n"
#define CLEAR "[[listen]]\naddress = \"127.0.0.1:2587\"\ntls = \"none\"\n"
#define LOCAL                                                                              \
    "[[local]]\ndomain = \"local.test\"\nmaildir = \"/m/{user}\"\nusers = [\"bob\"]\n"
#define TO "[[route]]\nmatch = \"*\"\nhost = \"h.test\"\n"

TEST(rules, a_relay_needs_a_name_and_a_listener)
{
    refused("[server]\nhostname = \"relay\"\n", 2, 1, "fully qualified");
    refused(SERVER, 0, 0, "nothing listens");
}

TEST(rules, submission_needs_users_and_protection)
{
    refused(SERVER "[[listen]]\naddress = \"127.0.0.1:2587\"\ntls = \"none\"\n", 3, 1,
            "users_file");
    refused(SERVER USERS CLEAR, 7, 1, "allow_clear_on_loopback");
    refused(SERVER USERS "[[listen]]\naddress = \"127.0.0.1:2587\"\n", 5, 1,
            "tls.certificate");
}

TEST(rules, an_address_is_listened_on_once)
{
    refused(GOOD "[[listen]]\naddress = [\"127.0.0.1:2588\", \"127.0.0.1:2587\"]\n"
                 "tls = \"none\"\n",
            12, 1, "twice");
    refused(GOOD "[[listen]]\naddress = [\"[::1]:2588\", \"[::1]:2588\"]\ntls = \"none\"\n",
            12, 1, "twice");
}

TEST(rules, rates_of_connections_have_different_times)
{
    refused(GOOD "[limits]\nconnection_rate = [\"10/m\", \"20/m\"]\n", 12, 1,
            "another time");
    refused(GOOD "[limits]\nconnection_rate = [\"1/s\", \"2/m\", \"3/h\", \"4/d\", "
                 "\"5/2d\"]\n",
            12, 1, "at most 4");
}

TEST(rules, a_limit_of_memory_leaves_room_to_work)
{
    refused(GOOD "[limits]\nmemory = \"1MiB\"\n", 12, 1, "16MiB");
    config_free(load_good(GOOD "[limits]\nmemory = \"auto\"\n"));
}

TEST(rules, each_certificate_has_its_key)
{
    refused(GOOD "[tls]\ncertificate = [\"a\", \"b\"]\nkey = \"a\"\n", 13, 1,
            "same number");
}

TEST(rules, relay_mode_and_local_domains_need_a_postmaster)
{
    refused(SERVER
            "[[listen]]\naddress = \"127.0.0.1:25\"\nmode = \"relay\"\ntls = \"none\"\n",
            5, 1, "postmaster");
    refused(
        SERVER
        "[[listen]]\naddress = \"127.0.0.1:25\"\nmode = \"relay\"\ntls = \"none\"\n" LOCAL,
        8, 1, "postmaster");
}

TEST(rules, a_local_domain_stands_once_and_its_users_are_names)
{
    refused(GOOD LOCAL LOCAL, 16, 1, "already");
    refused(GOOD "[[local]]\ndomain = \"a.test\"\nmaildir = \"/m\"\nusers = [\"bob\"]\n",
            13, 1, "{user}");
    refused(GOOD
            "[[local]]\ndomain = \"a.test\"\nmaildir = \"/m/{user}\"\nusers = [\"../x\"]\n",
            14, 1, "local part");
    refused(
        GOOD
        "[[local]]\ndomain = \"relay.test\"\nmaildir = \"/m/{user}\"\nusers = [\"bob\"]\n",
        14, 1, "postmaster");
}

TEST(rules, a_route_keeps_its_password_safe)
{
    refused(GOOD TO "user = \"u\"\ntls = \"required\"\n", 14, 1, "exactly one");
    refused(GOOD TO
            "user = \"u\"\npassword = \"p\"\npassword_env = \"HOME\"\ntls = \"required\"\n",
            14, 1, "exactly one");
    refused(GOOD TO "user = \"u\"\npassword = \"p\"\ntls = \"opportunistic\"\n", 16, 1,
            "in clear");
    config_free(load_good(GOOD TO "user = \"u\"\npassword = \"p\"\nimplicit_tls = true\n"
                                  "tls = \"required\"\n"));
    refused(GOOD TO "name = \"x\"\n" TO "name = \"x\"\n", 18, 1, "own name");
}

TEST(rules, tenants_have_names_of_their_own_and_a_field_has_its_users)
{
    refused(GOOD "[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n", 14, 1,
            "has this name");
    refused(GOOD "[[tenant]]\nname = \"\"\n", 12, 1, "1 to 128");
    refused(GOOD "[delivery]\ntenant_header = \"X-Tenant\"\n", 12, 1, "who may name");
    refused(GOOD "[delivery]\ntenant_users = \"a\"\n", 12, 1, "field that names");
    refused(GOOD "[delivery]\ntenant_header = \"X-T\"\ntenant_users = \"*\"\n"
                 "priority_header = \"x-t\"\n",
            14, 1, "another field");
    config_free(load_good(GOOD "[delivery]\ntenant_header = \"X-T\"\ntenant_users = \"*\"\n"
                               "priority_header = \"X-P\"\n[[tenant]]\nname = \"*\"\n"));
}

TEST(rules, every_rule_names_a_known_option)
{
    for (size_t i = 0; i < config_rule_count; i++) {
        const struct option_rule *rule = &config_rules[i];
        const struct option *rows = config_options;
        size_t count = config_option_count;

        for (size_t t = 0; rule->table && t < config_table_count; t++)
            if (strcmp(config_tables[t].name, rule->table) == 0) {
                rows = config_tables[t].rows;
                count = config_tables[t].row_count;
            }
        if (strcmp(rule->key, "listen") != 0 && !option_find(rows, count, rule->key))
            fail_msg("%s.%s is no option", rule->table ? rule->table : "", rule->key);
        if (rule->also && !option_find(config_options, config_option_count, rule->also))
            fail_msg("%s is no option", rule->also);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(rules, a_relay_needs_a_name_and_a_listener),
        RUN(rules, submission_needs_users_and_protection),
        RUN(rules, an_address_is_listened_on_once),
        RUN(rules, rates_of_connections_have_different_times),
        RUN(rules, a_limit_of_memory_leaves_room_to_work),
        RUN(rules, each_certificate_has_its_key),
        RUN(rules, relay_mode_and_local_domains_need_a_postmaster),
        RUN(rules, a_local_domain_stands_once_and_its_users_are_names),
        RUN(rules, a_route_keeps_its_password_safe),
        RUN(rules, tenants_have_names_of_their_own_and_a_field_has_its_users),
        RUN(rules, every_rule_names_a_known_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
