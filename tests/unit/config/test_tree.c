/* The shapes that a file may have, and may not have. */
#include "texts.h"

TEST(tree, a_shape_that_does_not_fit_is_pointed_at)
{
    refused(GOOD "limits = 5\n", 11, 1, "\"listen.limits\""); /* within the last table */
    refused("limits = 5\n" GOOD, 1, 1, "write [limits]");
    refused("[listen]\naddress = \"127.0.0.1:25\"\n", 1, 2, "two brackets");
    refused("listen = [5]\n[server]\nhostname = \"a.test\"\n", 1, 11, "must be a table");
    refused(GOOD "[limits]\nreceived_hops = [1]\n", 12, 17, "not a list");
    refused(GOOD "[limits]\nreceived_hops = 1.5\n", 12, 17, "expected a");
    refused(GOOD "[limits]\nreceived_hops = 1979-05-27\n", 12, 17, "expected a");
    refused(GOOD "[limits]\nreceived_hops = {a = 1}\n", 12, 17, "expected a");
    refused(GOOD "[queue]\nretry = [\"1m\", [\"2m\"]]\n", 12, 16, "expected a");
    refused(GOOD "[server.more]\nx = 1\n", 11, 9, "unknown key \"server.more\"");
    refused(GOOD "[tsl]\n", 11, 2, "did you mean \"tls\"");
}

TEST(tree, a_text_with_a_nul_is_none)
{
    refused(GOOD "[dns]\ntimeout = \"5s\\u0000\"\n", 12, 11, "expected a");
}

TEST(tree, a_bound_is_named)
{
    refused(GOOD "[limits]\nreceived_hops = 0\n", 12, 17, "too small; the least is");
    refused(GOOD "[limits]\nreceived_hops = 4000000000\n", 12, 17,
            "too large; the most is");
}

TEST(tree, one_value_is_a_list_of_one)
{
    struct config *config = load_good(GOOD "[queue]\nretry = \"7m\"\n");

    assert_int_equal(config->retry.count, 1);
    assert_int_equal(((const int64_t *)config->retry.items)[0], 420000);
    config_free(config);
}

TEST(tree, every_bad_item_of_a_list_is_told)
{
    assert_null(load(GOOD "[queue]\nretry = [\"x\", \"1m\", \"y\"]\n"));
    assert_int_equal(problems.count, 2);
    assert_int_equal(problems.items[0].column, 10);
    assert_int_equal(problems.items[1].column, 21);
}

TEST(tree, what_an_element_needs_is_asked_for_at_its_head)
{
    refused(GOOD "[[route]]\nname = \"r\"\nmatch = \"x.test\"\n", 11, 1,
            "[[route]] needs \"host\"");
}

TEST(tree, elements_take_delivery_wherever_it_stands)
{
    struct config *config =
        load_good(GOOD "[[destination]]\nmatch = \"d.test\"\n"
                       "[[destination]]\nmatch = \"e.test\"\nconnections = 2\n"
                       "[delivery]\nconnections = 9\n");
    const struct config_destination *destinations = config->destination.items;

    assert_int_equal(config->destination.count, 2);
    assert_int_equal(destinations[0].transfer.connections, 9);
    assert_int_equal(destinations[1].transfer.connections, 2);
    assert_int_equal(destinations[0].element.line, 11);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tree, a_shape_that_does_not_fit_is_pointed_at),
        RUN(tree, a_text_with_a_nul_is_none),
        RUN(tree, a_bound_is_named),
        RUN(tree, one_value_is_a_list_of_one),
        RUN(tree, every_bad_item_of_a_list_is_told),
        RUN(tree, what_an_element_needs_is_asked_for_at_its_head),
        RUN(tree, elements_take_delivery_wherever_it_stands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
