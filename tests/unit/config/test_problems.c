/* The list of complaints about a file. */
#include "texts.h"

#include "problems.h"

static struct loader loader = {.problems = &problems};

static void forget_problems(void)
{
    memset(&problems, 0, sizeof problems);
}

TEST(problems, above_the_maximum_they_are_only_counted)
{
    forget_problems();
    for (unsigned i = 0; i < CONFIG_PROBLEMS_MAX + 3; i++)
        complain(&loader, (struct toml_place){i + 1, 2}, "number %u", i);
    assert_int_equal(problems.count, CONFIG_PROBLEMS_MAX);
    assert_int_equal(problems.left_out, 3);
    assert_int_equal(problems.items[99].line, 100);
    assert_string_equal(problems.items[99].text, "number 99");
}

TEST(problems, a_long_one_is_cut)
{
    forget_problems();
    complain(&loader, (struct toml_place){1, 1}, "%01000d", 0);
    assert_int_equal(strlen(problems.items[0].text), sizeof problems.items[0].text - 1);
}

TEST(problems, they_are_sorted_by_place)
{
    static const struct toml_place places[] = {{3, 1}, {1, 9}, {3, 0}, {0, 0}, {1, 10}};
    static const struct toml_place sorted[] = {{1, 9}, {1, 10}, {3, 0}, {3, 1}, {0, 0}};

    forget_problems();
    for (size_t i = 0; i < 5; i++)
        complain(&loader, places[i], "x");
    problems_sort(&problems);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(problems.items[i].line, sorted[i].line);
        assert_int_equal(problems.items[i].column, sorted[i].column);
    }
}

TEST(problems, a_place_is_printed_where_there_is_one)
{
    struct bytes text;

    forget_problems();
    bytes_init(&text, 1000);
    complain(&loader, (struct toml_place){7, 3}, "wrong");
    complain(&loader, (struct toml_place){0, 0}, "missing");
    problems.left_out = 4;
    config_problems_print(&problems, "f.toml", &text);
    assert_true(slice_equal_text(
        bytes_view(&text), "f.toml:7:3: wrong\nf.toml: missing\nf.toml: and 4 more\n"));
    bytes_fini(&text);
}

TEST(problems, the_nearest_name_is_meant)
{
    static const struct {
        const char *wanted;
        const char *nearest;
    } rows[] = {{"hostnam", "hostname"},  {"hostnames", "hostname"},
                {"hsotname", "hostname"}, {"data", "data_dir"},
                {"usr", "user"},          {"", "user"}};
    static const char *const names[] = {"hostname", "data_dir", "user"};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct nearest nearest = {.wanted = rows[i].wanted};

        for (size_t k = 0; k < 3; k++)
            nearest_offer(&nearest, names[k]);
        assert_string_equal(nearest.name, rows[i].nearest);
    }
}

TEST(problems, an_over_long_name_is_near_to_none_but_gets_an_offer)
{
    char name[200];
    struct nearest nearest = {.wanted = name};

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    nearest_offer(&nearest, "hostname");
    nearest_offer(&nearest, "user");
    assert_string_equal(nearest.name, "hostname");
}

TEST(problems, an_unknown_key_is_named_with_its_section)
{
    struct nearest nearest = {.wanted = "x", .name = "user"};

    forget_problems();
    complain_unknown(&loader, (struct toml_place){1, 1}, "server", "usr", &nearest);
    complain_unknown(&loader, (struct toml_place){2, 1}, NULL, "usr", &nearest);
    assert_string_equal(problems.items[0].text,
                        "unknown key \"server.usr\"; did you mean \"user\"?");
    assert_string_equal(problems.items[1].text,
                        "unknown key \"usr\"; did you mean \"user\"?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(problems, above_the_maximum_they_are_only_counted),
        RUN(problems, a_long_one_is_cut),
        RUN(problems, they_are_sorted_by_place),
        RUN(problems, a_place_is_printed_where_there_is_one),
        RUN(problems, the_nearest_name_is_meant),
        RUN(problems, an_over_long_name_is_near_to_none_but_gets_an_offer),
        RUN(problems, an_unknown_key_is_named_with_its_section),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
