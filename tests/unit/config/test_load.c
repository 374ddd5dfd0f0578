/* Loading: every problem of the file at once, each with its line and column, and nothing of a file
 * with a problem. */
#include "texts.h"

#include <unistd.h>

TEST(load, values_are_taken_with_the_line_they_stand_on)
{
    struct config *config = load_good(GOOD "[limits]\nmessage_size = \"10MiB\"\n");
    const struct option *option =
        option_find(config_options, config_option_count, "limits.message_size");

    assert_int_equal(config->message_size_bytes, 10 << 20);
    assert_int_equal(config->lines[option - config_options], 12);
    assert_int_equal(config->lines[option_find(config_options, config_option_count,
                                               "limits.connections") -
                                   config_options],
                     0); /* the default */
    config_free(config);
}

TEST(load, a_wrong_value_is_pointed_at)
{
    refused(GOOD "[limits]\nmessage_size = \"2KiB\"\n", 12, 16, "too small");
    refused(GOOD "[limits]\nconnections = 99999999\n", 12, 15, "too large");
    refused(GOOD "[limits]\nidle_timeout = \"soon\"\n", 12, 16, "\"5m\"");
    refused(GOOD "[limits]\nidle_timeout = 5\n", 12, 16, "\"5m\"");
    refused(GOOD "[limits]\nconnections = \"five\"\n", 12, 15, "number");
    refused(GOOD "[queue]\nretry = [\"1m\", \"x\"]\n", 12, 16, "x");
    refused(GOOD "[log]\nlevel = \"loud\"\n", 12, 9, "info");
    refused(GOOD "[server2]\n", 11, 2, "\"server\"");
}

TEST(load, an_unknown_key_names_the_nearest)
{
    refused(GOOD "[limits]\nmesage_size = \"10MiB\"\n", 12, 1, "\"message_size\"");
    refused(GOOD "[[listen]]\nadress = \"127.0.0.1:25\"\n", 12, 1, "\"address\"");
}

TEST(load, a_file_that_is_not_toml_is_refused_with_its_place)
{
    assert_null(load("[server\n"));
    assert_int_equal(problems.count, 1);
    assert_int_equal(problems.items[0].line, 1);
    assert_non_null(strstr(problems.items[0].text, "TOML"));
    assert_null(load("[server]\nhostname = \"a.test\"\nhostname = \"b.test\"\n"));
    assert_int_equal(problems.items[0].line, 3);
}

TEST(load, all_problems_come_at_once_and_the_rest_is_counted)
{
    struct bytes text;

    /* A bad value, a wrong kind, an unknown key, and what a rule says. */
    assert_null(load("[server]\nhostname = \"a.test\"\ngrace_period = true\n"
                     "[limits]\nmessage_size = []\nfoo = 1\n"));
    assert_int_equal(problems.count, 4);
    assert_int_equal(problems.items[0].line, 3);
    assert_int_equal(problems.items[3].line, 0); /* what has no place comes last */
    assert_non_null(strstr(problems.items[3].text, "nothing listens"));
    bytes_init(&text, 1 << 20);
    assert_int_equal(bytes_add_text(&text, "[limits]\n"), RESULT_OK);
    for (int i = 0; i < 150; i++)
        assert_int_equal(bytes_format(&text, "unknown%d = 1\n", i), RESULT_OK);
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    assert_null(load(text.data));
    assert_int_equal(problems.count, CONFIG_PROBLEMS_MAX);
    assert_true(problems.left_out >= 50);
    bytes_fini(&text);
}

TEST(load, a_rule_is_silent_about_what_was_complained_about_already)
{
    static const char bad_users[] =
        "[server]\nhostname = \"relay.test\"\n[auth]\nusers_file = true\n"
        "allow_clear_on_loopback = true\n"
        "[[listen]]\naddress = \"127.0.0.1:2587\"\ntls = \"none\"\n";

    assert_null(load(bad_users));
    assert_int_equal(problems.count, 1);
    /* The second listener needs a certificate, whatever is wrong with the first one; local
     * domains and routes that lack what they need are not looked into. */
    refused(GOOD "[[listen]]\nadress = 1\n[[listen]]\naddress = \"127.0.0.1:465\"\n", 13, 1,
            "tls.certificate");
    refused(GOOD "[[local]]\n[[local]]\nmaildir = \"/x\"\n[[route]]\nuser = \"u\"\n", 14, 1,
            "needs \"host\"");
    refused(GOOD "[[local]]\n[[local]]\ndomain = \"a.test\"\nmaildir = \"/x\"\n"
                 "users = \"*\"\n",
            14, 1, "{user}");
}

TEST(load, a_value_of_another_kind_is_refused)
{
    refused(GOOD "[log]\noutput = true\n", 12, 10, "expected a path");
    refused(GOOD "[log]\noutput = 5\n", 12, 10, "expected a path");
    refused(GOOD "[submission]\nremove_bcc = 1\n", 12, 14, "true or false");
    refused(GOOD "[tls]\nmin_version = 1.2\n", 12, 15, "in quotes, one of 1.2|1.3");
}

TEST(load, problems_are_printed_as_an_editor_wants_them)
{
    struct bytes text;

    assert_null(load(GOOD "[limits]\nconnections = \"five\"\n"));
    bytes_init(&text, 1 << 16);
    config_problems_print(&problems, "smtpd.toml", &text);
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    assert_ptr_equal(strstr(text.data, "smtpd.toml:12:15: "), text.data);
    assert_true(text.data[text.length - 2] == '\n');
    bytes_fini(&text);
}

TEST(load, a_missing_file_is_a_problem_of_the_file)
{
    memset(&problems, 0, sizeof problems);
    assert_null(config_load("/nowhere/smtpd.toml", &problems));
    assert_int_equal(problems.count, 1);
    assert_int_equal(problems.items[0].line, 0);
    assert_non_null(strstr(problems.items[0].text, "No such file"));
}

static const char *secret_of(struct config *config)
{
    return ((const struct config_route *)config->route.items)[0].secret;
}

#define ROUTE                                                                              \
    GOOD "[[route]]\nmatch = \"*\"\nhost = \"127.0.0.1\"\nuser = \"u\"\ntls = "            \
         "\"required\"\n"

TEST(load, a_secret_comes_from_a_file_or_the_environment)
{
    char path[] = "/tmp/smtpd-secret-XXXXXX";
    int fd = mkstemp(path);
    char text[1024];
    struct config *config;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "from file\n", 10), 10);
    (void)close(fd);
    (void)snprintf(text, sizeof text, ROUTE "password_file = \"%s\"\n", path);
    config = load_good(text);
    assert_string_equal(secret_of(config), "from file"); /* without the end of line */
    config_free(config);
    (void)unlink(path);
    refused(text, 16, 1, "No such file");
    assert_int_equal(setenv("SMTPD_TEST_SECRET", "from env", 1), 0);
    config = load_good(ROUTE "password_env = \"SMTPD_TEST_SECRET\"\n");
    assert_string_equal(secret_of(config), "from env");
    config_free(config);
    (void)unsetenv("SMTPD_TEST_SECRET");
    refused(ROUTE "password_env = \"SMTPD_TEST_SECRET\"\n", 16, 1, "SMTPD_TEST_SECRET");
}

TEST(load, elements_of_repeated_tables_take_what_delivery_says)
{
    struct config *config = load_good(
        GOOD "[delivery]\nconnections = 7\ntls = \"required\"\n"
             "[[destination]]\nmatch = [\"a.test\", \"*.b.test\"]\nconnections = 3\n");
    const struct config_destination *destination = config->destination.items;

    assert_int_equal(config->destination.count, 1);
    assert_int_equal(destination->match.count, 2);
    assert_int_equal(destination->transfer.connections, 3);
    assert_int_equal(destination->transfer.tls, config->delivery.tls);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(load, values_are_taken_with_the_line_they_stand_on),
        RUN(load, a_wrong_value_is_pointed_at),
        RUN(load, an_unknown_key_names_the_nearest),
        RUN(load, a_file_that_is_not_toml_is_refused_with_its_place),
        RUN(load, all_problems_come_at_once_and_the_rest_is_counted),
        RUN(load, a_rule_is_silent_about_what_was_complained_about_already),
        RUN(load, a_value_of_another_kind_is_refused),
        RUN(load, problems_are_printed_as_an_editor_wants_them),
        RUN(load, a_missing_file_is_a_problem_of_the_file),
        RUN(load, a_secret_comes_from_a_file_or_the_environment),
        RUN(load, elements_of_repeated_tables_take_what_delivery_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
