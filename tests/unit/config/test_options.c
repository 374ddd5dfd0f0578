/* The table of options as data: whatever stands in it can be documented, defaulted and checked. */
#include "texts.h"

static void check_rows(const struct option *rows, size_t count, const char *table)
{
    for (size_t i = 0; i < count; i++) {
        const struct option *row = &rows[i];

        assert_non_null(row->type);
        if (option_find(rows, count, row->key) != row)
            fail_msg("%s.%s stands twice", table, row->key);
        /* A sentence begins with a capital or a quoted value and ends with a dot. */
        if (row->sentence[strlen(row->sentence) - 1] != '.')
            fail_msg("%s.%s: its sentence has no end", table, row->key);
        /* It can be changed live, or says that it needs a restart. */
        if (!(row->flags & (OPTION_RELOADABLE | OPTION_RESTART)) && table[0] == '\0')
            fail_msg("%s: neither live nor restart", row->key);
    }
}

TEST(options, rows_are_unique_and_documented)
{
    check_rows(config_options, config_option_count, "");
    for (size_t i = 0; i < config_table_count; i++)
        check_rows(config_tables[i].rows, config_tables[i].row_count,
                   config_tables[i].name);
}

TEST(options, every_row_belongs_to_a_section)
{
    for (size_t i = 0; i < config_option_count; i++) {
        char section[64];

        (void)snprintf(section, sizeof section, "%.*s",
                       (int)strcspn(config_options[i].key, "."), config_options[i].key);
        if (!option_section_is_known(section))
            fail_msg("%s: there is no section of that name", config_options[i].key);
    }
    assert_false(option_section_is_known("nothing"));
}

TEST(options, defaults_are_in_the_language_of_the_file_and_in_range)
{
    /* A file without any option that has a default gets all of them through the same checks. */
    struct config *config = load_good(GOOD);

    assert_int_equal(config->message_size_bytes, 50 << 20);
    assert_int_equal(config->recipients_per_message, 1000);
    assert_int_equal(config->received_hops, 100);
    assert_int_equal(config->connections, 10000);
    assert_int_equal(config->connections_per_address, 1000);
    assert_int_equal(config->idle_timeout_ms, 300000);
    assert_int_equal(config->expire_ms, 4 * 86400000LL);
    assert_int_equal(config->retry.count, 7);
    assert_int_equal(((const int64_t *)config->retry.items)[0], 60000);
    assert_int_equal(config->min_free_space_bytes, 256 << 20);
    assert_int_equal(config->grace_period_ms, 25000);
    assert_int_equal(config->delivery.connections, 20);
    assert_int_equal(config->delivery.messages_per_connection, 1000);
    assert_int_equal(config->delivery.times.final_dot_ms, 600000);
    config_free(config);
}

TEST(options, secrets_are_masked_wherever_they_are_printed)
{
    struct config *config =
        load_good(GOOD "[[route]]\nmatch = \"*\"\nhost = \"127.0.0.1\"\nuser = \"u\"\n"
                       "password = \"hunter2\"\ntls = \"required\"\n");
    struct bytes into;

    bytes_init(&into, 1 << 20);
    assert_int_equal(config_print_effective(config, "test.toml", &into), RESULT_OK);
    assert_int_equal(bytes_add(&into, (struct slice){"", 1}), RESULT_OK);
    assert_null(strstr(into.data, "hunter2"));
    assert_non_null(strstr(into.data, "password = "));
    bytes_fini(&into);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(options, rows_are_unique_and_documented),
        RUN(options, every_row_belongs_to_a_section),
        RUN(options, defaults_are_in_the_language_of_the_file_and_in_range),
        RUN(options, secrets_are_masked_wherever_they_are_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
