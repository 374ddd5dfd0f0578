/* smtpd queue: what is asked of the server for each command line, and what is shown of its
 * answers. */
#include "fake_server.h"

#include <jansson.h>
#include <time.h>

#define ID_A "aaaaaaaaaaaab"
#define ID_B "aaaaaaaaaaaac"
#define NONE "{\"items\":[],\"next\":null,\"next_group\":0,\"is_rebuilding\":false}"

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int run(struct fake *fake, const char *const *words)
{
    return fake_run(fake, cli_queue, false, words);
}

static int run_json(struct fake *fake, const char *const *words)
{
    return fake_run(fake, cli_queue, true, words);
}

/* A page of `count` groups that leads to `next` (NULL: the last). */
static void answer_page(struct fake *fake, size_t count, const char *next)
{
    struct bytes body;

    bytes_init(&body, TEXT_MOST);
    assert_int_equal(bytes_add_text(&body, "{\"items\":["), RESULT_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(
            bytes_format(&body,
                         "%s{\"id\":\"" ID_A "\",\"group\":%zu,"
                         "\"lane\":\"to.test\",\"recipients\":[\"x@to.test\"]}",
                         i ? "," : "", i),
            RESULT_OK);
    assert_int_equal(bytes_format(&body,
                                  "],\"next\":%s%s%s,\"next_group\":7,"
                                  "\"is_rebuilding\":false}",
                                  next ? "\"" : "", next ? next : "null", next ? "\"" : ""),
                     RESULT_OK);
    assert_int_equal(bytes_add(&body, (struct slice){"", 1}), RESULT_OK);
    fake_answers(fake, 200, body.data);
    bytes_fini(&body);
}

static size_t count_lines(const char *text)
{
    size_t lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* ---- usage ---- */

TEST(queue, what_is_not_understood_is_usage_and_asks_nobody)
{
    static const char *const rows[][5] = {
        {"frob"},
        {"list", "--frob"},
        {"list", "--domain"},
        {"list", "--limit"},
        {"list", "--limit", "x"},
        {"list", "--limit", "-1"},
        {"list", "--limit", "4294967296"},
        {"list", ID_A},
        {"show"},
        {"show", ID_A, ID_B},
        {"show", "AAAA"},
        {"show", "aaaaaaaaaaaa1"},
        {"show", ID_A, "--body"},
        {"why"},
        {"why", "--all"},
        {"retry"},
        {"remove"},
        {"remove", "--dry-run"},
        {"remove", ID_A, "--all"},
        {"remove", ID_A, "--state", "held"},
        {"retry", "--domain", "x.test", ID_A},
        {"hold"},
        {"hold", "--all", "--until"},
        {"hold", "--all", "--until", "soon"},
        {"hold", "--all", "--until", "0s"},
        {"release", "--all", "--until", "2h"},
        {"remove", "--all", "--reason", "x"},
        {"bounce", "--all", "--reason", ""},
    };
    struct fake *fake = *state;

    fake_start(fake);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (run(fake, rows[i]) != CLI_USAGE)
            fail_msg("%s %s is taken", rows[i][0], rows[i][1] ? rows[i][1] : "");
        assert_string_equal(fake->out, "");
        assert_has(fake->err, "usage: smtpd queue");
    }
    assert_int_equal(fake_run(fake, cli_queue, false, WORDS(NULL)), CLI_USAGE);
    assert_has(fake->err, "usage: smtpd queue");
    fake_stop(fake);
    assert_int_equal(fake->request_count, 0);
}

TEST(queue, a_selection_that_no_request_can_hold_is_usage)
{
    struct fake *fake = *state;
    char *long_name = memory_format("%05000d", 0);

    assert_int_equal(run(fake, WORDS("remove", "--user", long_name)), CLI_USAGE);
    memory_free(long_name);
}

TEST(queue, help_goes_to_stdout)
{
    struct fake *fake = *state;

    assert_int_equal(run(fake, WORDS("help")), CLI_DONE);
    assert_has(fake->out, "usage: smtpd queue");
    assert_string_equal(fake->err, "");
    assert_int_equal(run(fake, WORDS("--help")), CLI_DONE);
}

TEST(queue, without_a_server_every_command_says_so)
{
    static const char *const rows[][4] = {{"list"},           {"list", "--summary"},
                                          {"show", ID_A},     {"show", ID_A, "--headers"},
                                          {"why", ID_A},      {"retry", ID_A},
                                          {"remove", "--all"}};
    struct fake *fake = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(run(fake, rows[i]), CLI_NOT_RUNNING);
        assert_has(fake->err, "no server answers");
        assert_string_equal(fake->out, "");
        assert_int_equal(run_json(fake, rows[i]), CLI_NOT_RUNNING);
        assert_string_equal(fake->out, "");
    }
}

TEST(queue, what_the_server_refuses_fails)
{
    static const char *const rows[][4] = {{"list"},           {"list", "--summary"},
                                          {"show", ID_A},     {"show", ID_A, "--message"},
                                          {"why", ID_A},      {"retry", ID_A},
                                          {"remove", "--all"}};
    struct fake *fake = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        fake_answers(fake, 400, "{\"error\":\"it is so\"}");
    fake_start(fake);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(run(fake, rows[i]), CLI_FAILED);
        assert_string_equal(fake->err, "smtpd: it is so\n");
        assert_string_equal(fake->out, "");
    }
}

/* ---- list ---- */

TEST(queue, a_selection_becomes_a_query)
{
    struct fake *fake = *state;

    fake_answers(fake, 200, NONE);
    fake_answers(fake, 200, NONE);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("list", "--domain", "*.x.test", "--sender", "<>",
                                     "--recipient", "a&b@c.test", "--user", "ann lee",
                                     "--tenant", "red", "--pool", "news", "--source",
                                     "mail-a", "--state", "held", "--older-than", "2h")),
                     CLI_DONE);
    assert_string_equal(fake->out, "0 groups\n");
    assert_int_equal(run(fake, WORDS("list", "--all")), CLI_DONE);
    fake_stop(fake);
    fake_expect(fake, 0,
                "GET /v1/queue?limit=1000&group=0&domain=%2A.x.test&sender=%3C%3E"
                "&recipient=a%26b%40c.test&user=ann%20lee&tenant=red&pool=news&source=mail-"
                "a&state=held"
                "&older_than=2h HTTP/1.0");
    fake_expect(fake, 1, "GET /v1/queue?limit=1000&group=0 HTTP/1.0");
}

TEST(queue, a_list_has_columns)
{
    static const char rows[] =
        "ID              AGE    SIZE STATE   NEXT    TRIES  SENDER                       "
        "TO                       LAST ANSWER\n"
        "aaaaaaaaaaaab    2h    2.0K waiting in 5m       3  ann@from.test                "
        "bob@to.test              mailbox is full\n"
        "aaaaaaaaaaaac    0s       5 active  now         0  <>                           "
        "2 at to.test             \n"
        "2 groups\n";
    struct fake *fake = *state;
    int64_t now = now_ms();
    /* Half a minute of room around the hour and the minutes. */
    char *body = memory_format(
        "{\"items\":[{\"id\":\"" ID_A "\",\"group\":0,\"lane\":\"to.test\","
        "\"sender\":\"ann@from.test\",\"recipients\":[\"bob@to.test\"],\"arrival_ms\":%lld,"
        "\"next_attempt_ms\":%lld,\"attempts\":3,\"state\":\"waiting\",\"size\":2048,"
        "\"last\":{\"text\":\"mailbox is full\"}},"
        "{\"id\":\"" ID_B "\",\"group\":1,\"lane\":\"to.test\",\"sender\":\"\","
        "\"recipients\":[\"a@to.test\",\"b@to.test\"],\"arrival_ms\":%lld,"
        "\"next_attempt_ms\":1,\"attempts\":0,\"state\":\"active\",\"size\":5,"
        "\"last\":{\"text\":null}}],\"next\":null,\"next_group\":0,"
        "\"is_rebuilding\":false}",
        (long long)(now - 7230000), (long long)(now + 330000), (long long)(now + 60000));

    fake_answers(fake, 200, body);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("list")), CLI_DONE);
    assert_string_equal(fake->out, rows);
    memory_free(body);
}

TEST(queue, pages_are_followed_to_the_end)
{
    struct fake *fake = *state;

    answer_page(fake, 1000, ID_B);
    answer_page(fake, 3, NULL);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("list", "--user", "ann")), CLI_DONE);
    assert_int_equal(count_lines(fake->out), 1005);
    assert_has(fake->out, "\n1003 groups\n");
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/queue?limit=1000&group=0&user=ann HTTP/1.0");
    fake_expect(fake, 1,
                "GET /v1/queue?limit=1000&first=" ID_B "&group=7&user=ann HTTP/1.0");
}

TEST(queue, a_limit_counts_the_rest)
{
    struct fake *fake = *state;

    answer_page(fake, 5, NULL);
    answer_page(fake, 1, NULL);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("list", "--limit", "2")), CLI_DONE);
    assert_int_equal(count_lines(fake->out), 4);
    assert_has(fake->out, "\n3 more; --limit N");
    assert_int_equal(run(fake, WORDS("list", "--limit", "2")), CLI_DONE);
    assert_has(fake->out, "\n1 group\n");
}

TEST(queue, an_index_that_is_being_rebuilt_is_said)
{
    struct fake *fake = *state;

    fake_answers(fake, 200, "{\"items\":[],\"next\":null,\"is_rebuilding\":true}");
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("list")), CLI_DONE);
    assert_has(fake->out, "being rebuilt");
}

TEST(queue, json_is_one_group_a_line_in_pages_that_fit_the_limit)
{
    struct fake *fake = *state;
    json_t *item;

    answer_page(fake, 1000, ID_B);
    answer_page(fake, 200, ID_B);
    answer_page(fake, 2, NULL);
    fake_start(fake);
    assert_int_equal(run_json(fake, WORDS("list", "--limit", "1200")), CLI_DONE);
    assert_int_equal(count_lines(fake->out), 1200);
    *strchr(fake->out, '\n') = '\0';
    item = json_loads(fake->out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(item, "id")), ID_A);
    json_decref(item);
    assert_int_equal(run_json(fake, WORDS("list")), CLI_DONE);
    assert_int_equal(count_lines(fake->out), 2);
    fake_stop(fake);
    assert_int_equal(fake->request_count, 3);
    fake_expect(fake, 1, "GET /v1/queue?limit=200&first=" ID_B "&group=7 HTTP/1.0");
}

TEST(queue, the_summary_has_columns)
{
    static const char page[] =
        "DOMAIN OR ROUTE                            GROUPS     HELD  OLDEST  WAITS FOR    "
        "UNTIL   \n"
        "to.test                                        41        7      2h  dns          "
        "in 5m   "
        "no answer\n";
    struct fake *fake = *state;
    int64_t now = now_ms();
    char *body = memory_format("{\"lanes\":[{\"lane\":\"to.test\",\"groups\":41,\"held\":7,"
                               "\"oldest_ms\":%lld,\"why\":\"dns\",\"text\":\"no answer\","
                               "\"until_ms\":%lld}],\"lane_count\":1}",
                               (long long)(now - 7230000), (long long)(now + 330000));

    fake_answers(fake, 200, body);
    fake_answers(fake, 200, body);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("list", "--summary")), CLI_DONE);
    assert_string_equal(fake->out, page);
    assert_int_equal(run_json(fake, WORDS("list", "--summary")), CLI_DONE);
    assert_has(fake->out, "\"lane_count\": 1");
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/summary HTTP/1.0");
    memory_free(body);
}

/* ---- show and why ---- */

static char *one_message(void)
{
    int64_t now = now_ms();

    return memory_format(
        "{\"items\":[{\"id\":\"" ID_A "\",\"group\":0,\"lane\":\"to.test\","
        "\"sender\":\"ann@from.test\",\"user\":\"ann\",\"recipients\":[\"a@to.test\","
        "\"b@to.test\"],\"arrival_ms\":%lld,\"attempts\":1,\"size\":2048,"
        "\"last\":{\"text\":\"mailbox is full\",\"host\":\"mx.to.test\"},"
        "\"why\":{\"kind\":\"destination\",\"text\":\"refused\","
        "\"destination\":\"mx.to.test\",\"until_ms\":%lld}},"
        "{\"id\":\"" ID_A "\",\"group\":1,\"lane\":\"route:hub\",\"recipients\":"
        "[\"c@hub.test\"],\"attempts\":0,\"why\":{\"kind\":\"held\",\"text\":\"\","
        "\"destination\":null,\"until_ms\":0}}]}",
        (long long)(now - 7230000), (long long)(now + 330000));
}

TEST(queue, a_message_is_shown_with_its_groups)
{
    static const char page[] =
        "aaaaaaaaaaaab  from ann@from.test, 2.0K, 2h old, logged in as ann\n"
        "aaaaaaaaaaaab/0  to.test                          destination, in 5m: refused\n"
        "    destination mx.to.test\n"
        "    to a@to.test\n"
        "    to b@to.test\n"
        "    1 attempt; last answer of mx.to.test: mailbox is full\n"
        "aaaaaaaaaaaab/1  route:hub                        held, no set time\n"
        "    to c@hub.test\n";
    struct fake *fake = *state;
    char *body = one_message();

    fake_answers(fake, 200, body);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("show", ID_A)), CLI_DONE);
    assert_string_equal(fake->out, page);
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/queue/" ID_A " HTTP/1.0");
    memory_free(body);
}

TEST(queue, why_says_only_why)
{
    static const char page[] =
        "aaaaaaaaaaaab/0  to.test                          destination, in 5m: refused\n"
        "    destination mx.to.test\n"
        "aaaaaaaaaaaab/1  route:hub                        held, no set time\n";
    struct fake *fake = *state;
    char *body = one_message();
    json_t *items;

    fake_answers(fake, 200, body);
    fake_answers(fake, 200, body);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("why", ID_A)), CLI_DONE);
    assert_string_equal(fake->out, page);
    assert_int_equal(run_json(fake, WORDS("why", ID_A)), CLI_DONE);
    items = json_loads(fake->out, 0, NULL);
    assert_int_equal(json_array_size(items), 2);
    json_decref(items);
    memory_free(body);
}

TEST(queue, the_parts_of_a_message_are_copied)
{
    struct fake *fake = *state;

    fake_answers_raw(fake, SLICE("HTTP/1.1 200 OK\r\n\r\nSubject: s\r\n\r\n"));
    fake_answers_raw(fake, SLICE("HTTP/1.1 200 OK\r\n\r\nSubject: s\r\n\r\nbody\r\n"));
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("show", ID_A, "--headers")), CLI_DONE);
    assert_string_equal(fake->out, "Subject: s\r\n\r\n");
    assert_int_equal(run(fake, WORDS("show", "--message", ID_A)), CLI_DONE);
    assert_string_equal(fake->out, "Subject: s\r\n\r\nbody\r\n");
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/message/" ID_A "?part=headers HTTP/1.0");
    fake_expect(fake, 1, "GET /v1/message/" ID_A "?part=message HTTP/1.0");
}

/* ---- retry and remove ---- */

/* A change that was posted: its kind and how many targets. */
static size_t expect_change(const struct fake *fake, size_t at, const char *kind)
{
    json_t *body = json_loads(fake_body(fake, at), 0, NULL);
    const json_t *targets = json_object_get(body, "targets");
    const json_t *first = json_array_get(targets, 0);
    size_t count = json_array_size(targets);

    fake_expect(fake, at, "POST /v1/queue/change HTTP/1.0");
    assert_string_equal(json_string_value(json_object_get(body, "change")), kind);
    assert_string_equal(json_string_value(json_object_get(first, "id")), ID_A);
    assert_string_equal(json_string_value(json_object_get(first, "lane")), "to.test");
    assert_true(json_is_integer(json_object_get(first, "group")));
    json_decref(body);
    return count;
}

TEST(queue, a_dry_run_counts_and_changes_nothing)
{
    struct fake *fake = *state;

    answer_page(fake, 1000, ID_B);
    answer_page(fake, 2, NULL);
    answer_page(fake, 1, NULL);
    answer_page(fake, 4, NULL);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("remove", "--all", "--dry-run")), CLI_DONE);
    assert_string_equal(fake->out, "1002 groups to remove (dry run: nothing is changed)\n");
    assert_int_equal(run(fake, WORDS("retry", "--dry-run", "--user", "ann")), CLI_DONE);
    assert_string_equal(fake->out, "1 group to retry (dry run: nothing is changed)\n");
    assert_int_equal(run_json(fake, WORDS("remove", "--dry-run", ID_A)), CLI_DONE);
    assert_string_equal(
        fake->out, "{\"matched\":4,\"changed\":0,\"busy\":0,\"gone\":0,\"skipped\":0}\n");
    fake_stop(fake);
    for (size_t i = 0; i < fake->request_count; i++)
        assert_int_equal(strncmp(fake->requests[i], "GET ", 4), 0);
}

TEST(queue, a_change_goes_in_batches_of_a_thousand_and_adds_up)
{
    struct fake *fake = *state;

    answer_page(fake, 1000, ID_B);
    answer_page(fake, 1000, ID_B);
    answer_page(fake, 5, NULL);
    fake_answers(fake, 200, "{\"changed\":900,\"busy\":60,\"gone\":40}");
    fake_answers(fake, 200, "{\"changed\":1000,\"busy\":0,\"gone\":0}");
    fake_answers(fake, 200, "{\"changed\":3,\"busy\":2,\"gone\":0}");
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("remove", "--domain", "to.test")), CLI_DONE);
    assert_string_equal(fake->out,
                        "2005 groups to remove\n"
                        "1903 done, 62 busy (an attempt is running), 40 gone meanwhile\n");
    fake_stop(fake);
    assert_int_equal(fake->request_count, 6);
    assert_int_equal(expect_change(fake, 3, "remove"), 1000);
    assert_int_equal(expect_change(fake, 4, "remove"), 1000);
    assert_int_equal(expect_change(fake, 5, "remove"), 5);
}

static json_t *body_of(const struct fake *fake, size_t at)
{
    const char *body = strstr(fake->requests[at], "\r\n\r\n");

    assert_non_null(body);
    return json_loads(body + 4, 0, NULL);
}

TEST(queue, a_hold_says_until_when_and_a_bounce_why)
{
    struct fake *fake = *state;
    int64_t before = now_ms();
    json_t *hold;
    json_t *day;
    json_t *bounce;
    int64_t until;

    for (int i = 0; i < 3; i++) {
        answer_page(fake, 1, NULL);
        fake_answers(fake, 200,
                     "{\"changed\":1,\"busy\":0,\"gone\":0,\"skipped\":0,"
                     "\"until_ms\":1798135200000}");
    }
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("hold", ID_A, "--until", "2h")), CLI_DONE);
    assert_has(fake->out, "held until 2026-12-24T18:00Z, and never beyond their expiry\n");
    assert_int_equal(run_json(fake, WORDS("hold", ID_A, "--until", "2026-12-24T18:00Z")),
                     CLI_DONE);
    assert_has(fake->out, ",\"until_ms\":1798135200000}\n");
    assert_int_equal(run(fake, WORDS("bounce", ID_A, "--reason", "too much")), CLI_DONE);
    fake_stop(fake);
    hold = body_of(fake, 1);
    day = body_of(fake, 3);
    bounce = body_of(fake, 5);
    until = json_integer_value(json_object_get(hold, "until_ms"));
    assert_true(until >= before + 7200000 && until <= now_ms() + 7200000);
    assert_true(json_integer_value(json_object_get(day, "until_ms")) == 1798135200000);
    assert_string_equal(json_string_value(json_object_get(bounce, "reason")), "too much");
    assert_null(json_object_get(bounce, "until_ms"));
    json_decref(hold);
    json_decref(day);
    json_decref(bounce);
}

TEST(queue, a_release_looks_at_held_ones_and_says_what_was_left)
{
    struct fake *fake = *state;

    answer_page(fake, 3, NULL);
    fake_answers(fake, 200, "{\"changed\":1,\"busy\":0,\"gone\":0,\"skipped\":2}");
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("release", "--domain", "x.test")), CLI_DONE);
    assert_string_equal(fake->out,
                        "3 groups to release\n"
                        "1 done, 0 busy (an attempt is running), 0 gone meanwhile\n"
                        "2 left as they were: not held\n");
    fake_stop(fake);
    assert_has(fake->requests[0], "&domain=x.test&state=held ");
}

TEST(queue, ids_are_looked_up_one_by_one_and_changed_together)
{
    struct fake *fake = *state;

    answer_page(fake, 2, NULL);
    answer_page(fake, 1, NULL);
    fake_answers(fake, 200, "{\"changed\":3,\"busy\":0,\"gone\":0}");
    fake_start(fake);
    assert_int_equal(run_json(fake, WORDS("retry", ID_A, ID_B)), CLI_DONE);
    assert_string_equal(
        fake->out, "{\"matched\":3,\"changed\":3,\"busy\":0,\"gone\":0,\"skipped\":0}\n");
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/queue/" ID_A " HTTP/1.0");
    fake_expect(fake, 1, "GET /v1/queue/" ID_B " HTTP/1.0");
    assert_int_equal(expect_change(fake, 2, "retry"), 3);
}

TEST(queue, an_id_that_is_gone_changes_none_of_them)
{
    struct fake *fake = *state;

    answer_page(fake, 2, NULL);
    fake_answers(fake, 404, "{\"error\":\"no such message in the queue\"}");
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("remove", ID_A, ID_B)), CLI_FAILED);
    assert_string_equal(fake->out, "");
    assert_has(fake->err, "no such message");
    fake_stop(fake);
    assert_int_equal(fake->request_count, 2);
}

TEST(queue, a_batch_that_fails_ends_the_change)
{
    struct fake *fake = *state;

    answer_page(fake, 1000, ID_B);
    answer_page(fake, 1000, NULL);
    fake_answers(fake, 503, "{\"error\":\"no space\"}");
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("remove", "--all")), CLI_FAILED);
    assert_string_equal(fake->out, "2000 groups to remove\n");
    assert_string_equal(fake->err, "smtpd: no space\n");
    fake_stop(fake);
    assert_int_equal(fake->request_count, 3);
}

TEST(queue, nothing_selected_posts_nothing)
{
    struct fake *fake = *state;

    fake_answers(fake, 200, NONE);
    fake_start(fake);
    assert_int_equal(run(fake, WORDS("remove", "--state", "held")), CLI_DONE);
    assert_has(fake->out, "0 groups to remove\n");
    fake_stop(fake);
    assert_int_equal(fake->request_count, 1);
}

TEST(queue, more_ids_than_a_batch_are_usage)
{
    struct fake *fake = *state;
    const char *words[1003] = {"remove"};

    for (size_t i = 1; i <= 1001; i++)
        words[i] = ID_A;
    assert_int_equal(run(fake, words), CLI_USAGE);
    words[1001] = NULL;
    assert_int_equal(run(fake, words), CLI_NOT_RUNNING); /* a thousand are fine */
}

#define WITH_FAKE(name) cmocka_unit_test_setup_teardown(queue_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(what_is_not_understood_is_usage_and_asks_nobody),
        WITH_FAKE(a_selection_that_no_request_can_hold_is_usage),
        WITH_FAKE(help_goes_to_stdout),
        WITH_FAKE(without_a_server_every_command_says_so),
        WITH_FAKE(what_the_server_refuses_fails),
        WITH_FAKE(a_selection_becomes_a_query),
        WITH_FAKE(a_list_has_columns),
        WITH_FAKE(pages_are_followed_to_the_end),
        WITH_FAKE(a_limit_counts_the_rest),
        WITH_FAKE(an_index_that_is_being_rebuilt_is_said),
        WITH_FAKE(json_is_one_group_a_line_in_pages_that_fit_the_limit),
        WITH_FAKE(the_summary_has_columns),
        WITH_FAKE(a_message_is_shown_with_its_groups),
        WITH_FAKE(why_says_only_why),
        WITH_FAKE(the_parts_of_a_message_are_copied),
        WITH_FAKE(a_dry_run_counts_and_changes_nothing),
        WITH_FAKE(a_change_goes_in_batches_of_a_thousand_and_adds_up),
        WITH_FAKE(a_hold_says_until_when_and_a_bounce_why),
        WITH_FAKE(a_release_looks_at_held_ones_and_says_what_was_left),
        WITH_FAKE(ids_are_looked_up_one_by_one_and_changed_together),
        WITH_FAKE(an_id_that_is_gone_changes_none_of_them),
        WITH_FAKE(a_batch_that_fails_ends_the_change),
        WITH_FAKE(nothing_selected_posts_nothing),
        WITH_FAKE(more_ids_than_a_batch_are_usage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
