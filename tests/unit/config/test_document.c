/* What is generated from the tables: the example is a good file that changes nothing, the manual
 * names every option, and the effective values load again to the same. */
#include "texts.h"

static char *text_of(struct bytes *bytes)
{
    assert_int_equal(bytes_add(bytes, (struct slice){"", 1}), RESULT_OK);
    return bytes->data;
}

TEST(document, the_example_with_its_comments_opened_is_understood)
{
    struct bytes text;
    struct bytes open;

    bytes_init(&text, 1 << 20);
    bytes_init(&open, 1 << 20);
    assert_int_equal(config_document_example(&text), RESULT_OK);
    for (char *line = strtok(text_of(&text), "\n"); line; line = strtok(NULL, "\n")) {
        bool is_default = strncmp(line, "# ", 2) == 0 && strstr(line, " = ") &&
                          strspn(line + 2, "abcdefghijklmnopqrstuvwxyz_") ==
                              (size_t)(strstr(line, " = ") - line - 2);

        if (is_default && !strstr(line, "= \"\"") && !strstr(line, "= []"))
            assert_int_equal(bytes_format(&open, "%s\n", line + 2), RESULT_OK);
        else if (line[0] == '[' && line[1] != '[')
            assert_int_equal(bytes_format(&open, "%s\n", line), RESULT_OK);
        if (strncmp(line, "# A group of listening", 22) == 0)
            break; /* the repeated tables show uses, not defaults */
    }
    assert_null(load(text_of(&open)));
    for (size_t i = 0; i < problems.count; i++) /* only what no default can give */
        if (!strstr(problems.items[i].text, "nothing listens") &&
            !strstr(problems.items[i].text, "fully qualified"))
            fail_msg("%u: %s", problems.items[i].line, problems.items[i].text);
    bytes_fini(&text);
    bytes_fini(&open);
}

TEST(document, the_manual_names_every_option)
{
    struct bytes text;

    bytes_init(&text, 1 << 20);
    assert_int_equal(config_document_manual(&text), RESULT_OK);
    (void)text_of(&text);
    for (size_t i = 0; i < config_option_count; i++) {
        const char *key = strchr(config_options[i].key, '.');

        if (!strstr(text.data, key ? key + 1 : config_options[i].key))
            fail_msg("%s is not in the manual", config_options[i].key);
    }
    for (size_t t = 0; t < config_table_count; t++)
        for (size_t i = 0; i < config_tables[t].row_count; i++)
            assert_non_null(strstr(text.data, config_tables[t].rows[i].key));
    bytes_fini(&text);
}

TEST(document, effective_values_are_a_file_that_says_the_same)
{
    struct config *first = load_good(GOOD "[limits]\nmessage_size = \"10MiB\"\n[queue]\n"
                                          "retry = [\"1m\", \"2m\"]\n");
    struct config *second;
    struct bytes text;

    bytes_init(&text, 1 << 20);
    assert_int_equal(config_print_effective(first, "test.toml", &text), RESULT_OK);
    second = load_good(text_of(&text));
    assert_int_equal(second->message_size_bytes, 10 << 20);
    assert_int_equal(second->retry.count, 2);
    assert_non_null(strstr(text.data, "test.toml:12"));
    assert_non_null(strstr(text.data, "default"));
    bytes_fini(&text);
    config_free(first);
    config_free(second);
}

struct changes {
    size_t count;
    char last[256];
    bool needs_restart;
};

static void on_change(void *owner, const char *key, const char *before, const char *after,
                      bool needs_restart)
{
    struct changes *changes = owner;

    changes->count++;
    changes->needs_restart = needs_restart;
    (void)snprintf(changes->last, sizeof changes->last, "%s: %s -> %s", key, before, after);
}

TEST(document, differences_are_told_option_by_option)
{
    struct config *first = load_good(GOOD);
    struct config *second = load_good(GOOD "[limits]\nconnections = 5\n");
    struct config *third = load_good(GOOD);
    struct changes changes = {0};

    config_compare(first, third, on_change, &changes);
    assert_int_equal(changes.count, 0);
    config_compare(first, second, on_change, &changes);
    assert_int_equal(changes.count, 1);
    assert_string_equal(changes.last, "limits.connections: 10000 -> 5");
    assert_false(changes.needs_restart);
    config_free(first);
    config_free(second);
    config_free(third);
}

static bool needs_restart(const char *before, const char *after)
{
    struct config *first = load_good(before);
    struct config *second = load_good(after);
    struct changes changes = {0};

    config_compare(first, second, on_change, &changes);
    assert_int_equal(changes.count, 1);
    config_free(first);
    config_free(second);
    return changes.needs_restart;
}

TEST(document, a_listener_whose_port_is_held_by_an_old_one_needs_a_restart)
{
#define LISTEN(address) "[[listen]]\naddress = " address "\ntls = \"none\"\n"
#define ADMIN(address) "[admin]\nlisten = [" address "]\n"
    static const char *const one = GOOD LISTEN("\"127.0.0.1:2600\"");

    assert_false(needs_restart(GOOD, one));
    assert_false(needs_restart(one, GOOD LISTEN("\"127.0.0.2:2600\"")));
    assert_false(needs_restart(one, GOOD LISTEN("[\"127.0.0.1:2600\", \"[::1]:2600\"]")));
    assert_false(
        needs_restart(GOOD ADMIN("\"127.0.0.1:2601\""), GOOD ADMIN("\"127.0.0.1:2602\"")));
    assert_true(needs_restart(one, GOOD LISTEN("\"0.0.0.0:2600\"")));
    assert_true(needs_restart(GOOD LISTEN("\"0.0.0.0:2600\""), one));
    assert_true(
        needs_restart(GOOD ADMIN("\"127.0.0.1:2601\""), GOOD ADMIN("\"0.0.0.0:2601\"")));
    /* From one kind to the other. */
    assert_true(needs_restart(GOOD, GOOD ADMIN("\"127.0.0.1:2587\"")));
    assert_true(needs_restart(GOOD ADMIN("\"127.0.0.1:2600\""),
                              GOOD ADMIN("\"127.0.0.1:2600\"")
                                  LISTEN("\"127.0.0.1:2600\"")));
}

TEST(document, another_secret_is_told_and_not_shown)
{
#define ROUTE(password)                                                                    \
    "[[route]]\nmatch = [\"x.test\"]\nhost = \"127.0.0.1\"\nuser = \"u\"\n"                \
    "password = \"" password "\"\n"
    struct config *first = load_good(GOOD ROUTE("first-word"));
    struct config *second = load_good(GOOD ROUTE("second-word"));
    struct changes changes = {0};

    config_compare(first, second, on_change, &changes);
    assert_int_equal(changes.count, 1);
    assert_memory_equal(changes.last, "route: ", 7);
    assert_null(strstr(changes.last, "-word"));
    config_free(first);
    config_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(document, the_example_with_its_comments_opened_is_understood),
        RUN(document, the_manual_names_every_option),
        RUN(document, effective_values_are_a_file_that_says_the_same),
        RUN(document, differences_are_told_option_by_option),
        RUN(document, a_listener_whose_port_is_held_by_an_old_one_needs_a_restart),
        RUN(document, another_secret_is_told_and_not_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
