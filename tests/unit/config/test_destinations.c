/* The shipped blocks: all of them sound, and what the file makes of them. */
#include "destinations.h"

#include "options.h"
#include "smtpd/base/memory.h"
#include "texts.h"

static struct deliver_settings settings_of(struct config *config)
{
    struct deliver_settings settings;

    config_deliver(config, &settings);
    return settings;
}

static const struct destination_rule *find(const struct deliver_settings *settings,
                                           const char *name)
{
    for (size_t i = 0; i < settings->rule_count; i++)
        if (settings->rules[i].name && strcmp(settings->rules[i].name, name) == 0)
            return &settings->rules[i];
    return NULL;
}

static bool matches(const struct destination_rule *rule, const char *host)
{
    for (size_t i = 0; i < rule->match_count; i++)
        if (domain_matches(rule->match[i], host))
            return true;
    return false;
}

/* A host is one provider's, the first of the table is nobody's catch-all, and each is for hosts. */
TEST(destinations, each_provider_has_its_hosts_alone)
{
    static const char *const hosts[][2] = {
        {"google", "aspmx.l.google.com"},
        {"google", "gmail-smtp-in.l.google.com"},
        {"google", "aspmx2.googlemail.com"},
        {"outlook", "hotmail-com.olc.protection.outlook.com"},
        {"exchange-online", "example-com.mail.protection.outlook.com"},
        {"exchange-online", "example-com.a-v1.mx.microsoft"},
        {"yahoo", "mta5.am0.yahoodns.net"},
        {"att", "al-ip4-mx-vip1.prodigy.net"},
        {"apple", "mx01.mail.icloud.com"},
        {"comcast", "mx1a1.comcast.net"},
        {"gmx", "mx00.emig.gmx.net"},
        {"gmx", "mx-ha02.web.de"},
        {"ionos", "mx00.kundenserver.de"},
        {"t-online", "mx00.t-online.de"},
        {"orange", "smtp-in.orange.fr"},
        {"free", "mx1.free.fr"},
        {"sfr", "smtp-in.sfr.fr"},
        {"laposte", "smtp4.laposte.net"},
        {"mail-ru", "mxs.mail.ru"},
        {"yandex", "mx.yandex.ru"},
        {"qq", "mx3.qq.com"},
        {"netease", "163mx01.mxmail.netease.com"},
        {"zoho", "mx.zoho.eu"},
        {"proofpoint", "mxa-00000001.gslb.pphosted.com"},
        {"mimecast", "eu-smtp-inbound-1.mimecast.com"},
        {"proton", "mailsec.protonmail.ch"},
    };
    struct config *config = load_good(GOOD);
    struct deliver_settings settings = settings_of(config);

    (void)state;
    assert_true(settings.rule_count >= 30);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t count = 0;

        assert_non_null(find(&settings, hosts[i][0]));
        assert_true(matches(find(&settings, hosts[i][0]), hosts[i][1]));
        for (size_t k = 0; k < settings.rule_count; k++)
            count += matches(&settings.rules[k], hosts[i][1]);
        assert_int_equal(count, 1);
    }
    config_free(config);
}

TEST(destinations, what_is_published_is_there_and_the_rest_is_as_in_delivery)
{
    struct config *config = load_good(GOOD "[delivery]\ntls = \"required\"\n");
    struct deliver_settings settings = settings_of(config);
    const struct destination_rule *yahoo = find(&settings, "yahoo");

    (void)state;
    assert_int_equal(yahoo->settings.messages_per_connection, 20);
    assert_int_equal(yahoo->settings.tls, TLS_REQUIRED);
    assert_int_equal(find(&settings, "orange")->settings.connection_rate.count, 1000);
    assert_int_equal(find(&settings, "google")->settings.connections, 20);
    config_free(config);
}

TEST(destinations, none_goes_beyond_delivery)
{
    struct config *config =
        load_good(GOOD "[delivery]\nconnections = 4\nmessages_per_connection = 10\n"
                       "connection_rate = \"10/m\"\nmessage_rate = \"5/s\"\n");
    struct deliver_settings settings = settings_of(config);

    (void)state;
    for (size_t i = 0; i < settings.rule_count; i++) {
        const struct destination_settings *one = &settings.rules[i].settings;

        assert_true(one->connections <= 4 && one->messages_per_connection <= 10);
        assert_true(one->message_rate.count > 0);
        assert_int_equal(one->connection_rate.count, 10); /* 1000/h is more */
    }
    config_free(config);
    config = load_good(GOOD "[delivery]\nconnection_rate = \"100/m\"\n");
    settings = settings_of(config);
    assert_int_equal(find(&settings, "orange")->settings.connection_rate.count, 1000);
    assert_int_equal(find(&settings, "google")->settings.connection_rate.count, 100);
    config_free(config);
}

TEST(destinations, a_block_of_the_file_takes_its_place_and_what_it_does_not_set)
{
    struct config *config = load_good(
        GOOD "[[destination]]\nmatch = \"mta5.am0.yahoodns.net\"\nconnections = 2\n"
             "[[destination]]\nname = \"yahoo\"\nconnections = 40\n"
             "[[destination]]\nname = \"orange\"\nmatch = \"smtp-in.orange.fr\"\n");
    struct deliver_settings settings = settings_of(config);
    const struct destination_rule *yahoo = find(&settings, "yahoo");
    size_t count = 0;

    (void)state;
    assert_int_equal(settings.rules[0].settings.connections,
                     2); /* those of the file first */
    assert_ptr_equal(yahoo, &settings.rules[1]);
    assert_true(matches(yahoo, "mta6.am0.yahoodns.net"));
    assert_int_equal(yahoo->settings.connections, 40); /* who says it means it */
    assert_int_equal(yahoo->settings.messages_per_connection, 20);
    assert_int_equal(find(&settings, "orange")->match_count, 1);
    assert_false(matches(find(&settings, "orange"), "mx.wanadoo.fr"));
    for (size_t i = 0; i < settings.rule_count; i++)
        count += settings.rules[i].name && strcmp(settings.rules[i].name, "yahoo") == 0;
    assert_int_equal(count, 1);
    config_free(config);
}

TEST(destinations, they_can_be_left_out)
{
    struct config *config = load_good(GOOD "[delivery]\nshipped_destinations = false\n");
    struct deliver_settings settings = settings_of(config);

    (void)state;
    assert_int_equal(settings.rule_count, 0);
    config_free(config);
    refused(GOOD "[delivery]\nshipped_destinations = false\n[[destination]]\n"
                 "name = \"yahoo\"\nconnections = 3\n",
            13, 1, "needs recipient domains");
    refused(GOOD "[[destination]]\nname = \"own\"\nconnections = 3\n", 11, 1,
            "needs recipient domains");
}

static char *effective(const struct config *config)
{
    struct bytes text;
    char *copy;

    bytes_init(&text, 1 << 20);
    assert_int_equal(config_print_effective(config, "test.toml", &text), RESULT_OK);
    copy = slice_to_text(bytes_view(&text));
    bytes_fini(&text);
    return copy;
}

static void expect_line(const char *text, const char *start, const char *origin)
{
    const char *at = strstr(text, start);
    const char *end = at ? strchr(at, '\n') : NULL;
    const char *from = at ? strstr(at, origin) : NULL;

    assert_non_null(at);
    assert_true(from && from < end);
}

TEST(destinations, what_holds_is_told_with_its_origin_and_can_be_read_again)
{
    struct config *config =
        load_good(GOOD "[[destination]]\nname = \"yahoo\"\nconnections = 40\n");
    char *text = effective(config);
    struct config *again;
    char *text_again;

    (void)state;
    expect_line(text, "connections = 40", "test.toml:13");
    expect_line(text, "match = [\"*.yahoodns.net\"]", "destinations.toml:");
    expect_line(text, "name = \"google\"", "destinations.toml:");
    again = load_good(text);
    text_again = effective(again);
    assert_null(strstr(text_again, "# shipped")); /* all of them are the file's now */
    assert_non_null(strstr(text_again, "name = \"orange\""));
    memory_free(text);
    memory_free(text_again);
    config_free(config);
    config_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destinations_each_provider_has_its_hosts_alone),
        cmocka_unit_test(
            destinations_what_is_published_is_there_and_the_rest_is_as_in_delivery),
        cmocka_unit_test(destinations_none_goes_beyond_delivery),
        cmocka_unit_test(
            destinations_a_block_of_the_file_takes_its_place_and_what_it_does_not_set),
        cmocka_unit_test(destinations_they_can_be_left_out),
        cmocka_unit_test(
            destinations_what_holds_is_told_with_its_origin_and_can_be_read_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
