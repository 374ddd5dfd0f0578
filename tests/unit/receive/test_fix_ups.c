/* What is mended, and that nothing else is. */
#include "world.h"

#define AS_IT_CAME                                                                         \
    "C: from : a@b.test\nC: X-Odd:   two  blanks \nC:  folded\\t\nC: to: x@y.test\n"
#define AS_IT_STAYS                                                                        \
    "from : a@b.test\r\nX-Odd:   two  blanks \r\n folded\t\r\nto: x@y.test\r\n"

static const char *section_of(const struct world *w)
{
    const char *at = strstr(last(w)->message, "from : a@b.test");

    assert_non_null(at);
    return at;
}

static void send(struct world *w, const char *fields)
{
    char script[2000];

    (void)snprintf(script, sizeof script, "%s%sC:\nC: body\nC: .\nS: 250 2.0.0 *\n", DATA,
                   fields);
    world_play(w, script);
}

TEST(fix_ups, touch_only_what_is_missing)
{
    struct world w;

    start_submission(&w);
    send(&w, AS_IT_CAME "C: Date: x\nC: Message-ID: <y>\n");
    assert_string_equal(section_of(&w),
                        AS_IT_STAYS "Date: x\r\nMessage-ID: <y>\r\n\r\nbody\r\n");
    send(&w, AS_IT_CAME "C: Date: x\n");
    assert_non_null(strstr(section_of(&w), AS_IT_STAYS "Date: x\r\nMessage-ID: <"));
    world_end(&w);
}

TEST(fix_ups, remove_bcc_and_return_path_with_their_folds)
{
    struct world w;

    start_submission(&w);
    send(&w, "C: Bcc: one@b.test,\nC:  two@b.test\nC: Return-Path: <z@b.test>\n" AS_IT_CAME
             "C: RESENT-BCC: three@b.test\nC: Date: x\nC: Message-ID: <y>\n");
    assert_string_equal(section_of(&w),
                        AS_IT_STAYS "Date: x\r\nMessage-ID: <y>\r\n\r\nbody\r\n");
    assert_null(strstr(last(&w)->message, "@b.test,"));
    assert_null(strstr(last(&w)->message, "Return-Path"));
    world_end(&w);
}

TEST(fix_ups, give_the_operators_rules_the_last_word)
{
    static const char *const remove[] = {"date", "X-Odd"};
    static const char *const add[] = {"X-Odd: ours", "X-Tag: new"};
    static const struct header_rule rule = {NULL, 0, NULL, 0, remove, 2, add, 2};
    struct world w;

    world_prepare(&w);
    w.settings.header_rules = &rule;
    w.settings.header_rule_count = 1;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_log_in(&w);
    send(&w, AS_IT_CAME "C: Date: long ago\nC: Message-ID: <y>\n");
    assert_null(strstr(section_of(&w), "long ago"));
    assert_null(strstr(section_of(&w), "two  blanks"));
    /* A Date that a rule took away is missing, and added. */
    assert_non_null(strstr(section_of(&w),
                           "from : a@b.test\r\nto: x@y.test\r\nMessage-ID: <y>\r\nDate: "));
    assert_non_null(
        strstr(section_of(&w), "\r\nX-Odd: ours\r\nX-Tag: new\r\n\r\nbody\r\n"));
    world_end(&w);
}

TEST(fix_ups, hide_a_client_that_logged_in)
{
    struct world w;

    world_prepare(&w);
    w.settings.hide_client = true;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_log_in(&w);
    send(&w, AS_IT_CAME);
    assert_int_equal(strncmp(last(&w)->message, "Received: by relay.test (TLSv1.3", 32), 0);
    assert_null(strstr(last(&w)->message, "192.0.2.9"));
    assert_null(strstr(last(&w)->message, "client.test"));
    world_end(&w);
}

TEST(fix_ups, hide_nobody_who_relays)
{
    struct world w;

    world_prepare(&w);
    w.settings.hide_client = true;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(&w, START);
    send(&w, AS_IT_CAME);
    assert_non_null(strstr(last(&w)->message, "[10.1.1.1]"));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(fix_ups, touch_only_what_is_missing),
        RUN(fix_ups, remove_bcc_and_return_path_with_their_folds),
        RUN(fix_ups, give_the_operators_rules_the_last_word),
        RUN(fix_ups, hide_a_client_that_logged_in),
        RUN(fix_ups, hide_nobody_who_relays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
