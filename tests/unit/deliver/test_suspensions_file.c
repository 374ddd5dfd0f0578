/* What operators suspended, as text. */
#include "suspensions_file.h"

#include "test.h"

#include <string.h>

struct seen {
    struct suspension_view view;
    char name[64];
    char reason[DELIVER_REASON_MAX + 1];
    size_t count;
};

static void on_view(void *owner, const struct suspension_view *view)
{
    struct seen *seen = owner;

    seen->view = *view;
    (void)strcpy(seen->name, view->name);
    (void)strcpy(seen->reason, view->reason);
    seen->count++;
}

static void print(struct bytes *text, const struct suspension_view *view)
{
    struct sealed sealed;

    bytes_clear(text);
    assert_int_equal(suspensions_file_begin(text, &sealed), RESULT_OK);
    assert_int_equal(suspensions_file_add(text, &sealed, view), RESULT_OK);
    assert_int_equal(suspensions_file_end(text, &sealed), RESULT_OK);
}

TEST(suspensions_file, each_kind_comes_back)
{
    struct bytes text;
    struct fault fault;

    (void)state;
    bytes_init(&text, 65536);
    for (int reach = 0; reach < REACH_COUNT; reach++) {
        const struct suspension_view view = {(enum reach)reach, "mx1.test>mx2.test#a b",
                                             reach ? "their wish" : "", 5, 7000000000000};
        struct seen seen = {.count = 0};

        print(&text, &view);
        assert_int_equal(suspensions_file_parse(bytes_view(&text), on_view, &seen, &fault),
                         RESULT_OK);
        assert_int_equal(seen.count, 1);
        assert_int_equal(seen.view.reach, reach);
        assert_string_equal(seen.name, view.name);
        assert_string_equal(seen.reason, view.reason);
        assert_true(seen.view.since_ms == 5 && seen.view.until_ms == 7000000000000);
    }
    bytes_fini(&text);
}

TEST(suspensions_file, what_is_none_is_refused_and_nothing_is_taken)
{
    static const char *const lines[] = {"host a.test 1 2 -",
                                        "domain - 1 2 -",
                                        "domain a.test 1 2",
                                        "domain a.test x 2 -",
                                        "domain a.test 1 9999999999999999999 -",
                                        "domain a.test 1 2 - more"};
    struct fault fault;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct seen seen = {.count = 0};
        struct sealed sealed;
        struct bytes text;
        size_t start;

        bytes_init(&text, 65536);
        assert_int_equal(suspensions_file_begin(&text, &sealed), RESULT_OK);
        start = text.length;
        assert_int_equal(bytes_format(&text, "%s\n", lines[i]), RESULT_OK);
        sealed_note(&sealed, slice_from(bytes_view(&text), start));
        assert_int_equal(suspensions_file_end(&text, &sealed), RESULT_OK);
        assert_int_equal(suspensions_file_parse(bytes_view(&text), on_view, &seen, &fault),
                         RESULT_CORRUPT);
        assert_int_equal(seen.count, 0);
        bytes_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suspensions_file_each_kind_comes_back),
        cmocka_unit_test(suspensions_file_what_is_none_is_refused_and_nothing_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
