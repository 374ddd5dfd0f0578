/* Types of options: what people write becomes a value and back; what cannot be is refused with
 * what would be right. */
#include "texts.h"

static const struct option *option_of(const char *key)
{
    const struct option *option = option_find(config_options, config_option_count, key);

    assert_non_null(option);
    return option;
}

/* Sets an option of an empty config from text and prints it again. */
static void check_round(const char *key, const char *text, const char *printed)
{
    const struct option *option = option_of(key);
    struct config config = {0};
    struct type_context context = {.option = option};
    struct bytes into;

    arena_init(&config.arena, 1 << 20);
    context.arena = &config.arena;
    bytes_init(&into, 4096);
    if (option_set_default(option, text, &config, &context) != RESULT_OK)
        fail_msg("%s = %s: %s", key, text, context.wrong);
    option_print(option, &config, &into);
    assert_int_equal(into.length, strlen(printed));
    assert_memory_equal(into.data, printed, into.length);
    bytes_fini(&into);
    arena_clear(&config.arena);
}

static void check_wrong(const char *key, const char *text, const char *words)
{
    const struct option *option = option_of(key);
    struct config config = {0};
    struct type_context context = {.option = option};

    arena_init(&config.arena, 1 << 20);
    context.arena = &config.arena;
    assert_int_equal(option_set_default(option, text, &config, &context), RESULT_INVALID);
    if (!strstr(context.wrong, words))
        fail_msg("%s = %s: \"%s\" does not say: %s", key, text, context.wrong, words);
    arena_clear(&config.arena);
}

TEST(type, values_survive_being_read_and_printed)
{
    check_round("limits.message_size", "25MiB", "\"25MiB\"");
    check_round("limits.message_size", "1048576", "\"1MiB\"");
    check_round("limits.idle_timeout", "90s", "\"1m30s\"");
    check_round("limits.idle_timeout", "1m30s", "\"1m30s\"");
    check_round("limits.idle_timeout", "120s", "\"2m\"");
    check_round("queue.expire", "4d", "\"4d\"");
    check_round("limits.connections", "17", "17");
    check_round("submission.remove_bcc", "false", "false");
    check_round("tls.min_version", "1.3", "\"1.3\"");
    check_round("server.hostname", "relay.test", "\"relay.test\"");
    check_round("queue.retry", "1m, 5m, 1h", "[\"1m\", \"5m\", \"1h\"]");
    check_round("relay.trusted_networks", "10.0.0.0/8, 2001:db8::/32",
                "[\"10.0.0.0/8\", \"2001:db8::/32\"]");
    check_round("dns.servers", "127.0.0.1:5353", "[\"127.0.0.1:5353\"]");
}

TEST(type, what_cannot_be_is_refused_with_what_would_be_right)
{
    check_wrong("limits.message_size", "25 apples", "\"25MiB\"");
    check_wrong("limits.message_size", "-1", "is not a size");
    check_wrong("limits.message_size", "99999999999GiB", "is not a size");
    check_wrong("limits.idle_timeout", "5 minutes or so", "\"5m\"");
    check_wrong("limits.idle_timeout", "5", "is not a duration");
    check_wrong("limits.connections", "many", "is not a whole number");
    check_wrong("limits.connections", "4294967296", "is not a whole number");
    check_wrong("submission.remove_bcc", "yes", "true or false");
    check_wrong("tls.min_version", "1.1", "1.2");
    check_wrong("relay.trusted_networks", "10.0.0.0/33", "10.0.0.0/33");
    check_wrong("relay.trusted_networks", "10.0.0.1/8", "10.0.0");
    check_wrong("dns.servers", "ns.example.com", "ns.example.com");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(type, values_survive_being_read_and_printed),
        RUN(type, what_cannot_be_is_refused_with_what_would_be_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
