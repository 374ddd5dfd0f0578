/* One request to the server and its answer, good and bad. */
#include "fake_server.h"

#include "client.h"

/* The client as a command, so that its complaints are caught: argv[0] is the path. */
static json_t *client_answer;
static const json_t *client_body;

static int ask(const struct cli_context *context, int argc, char **argv)
{
    (void)argc;
    return client_ask(context, argv[0], client_body, &client_answer);
}

static int copy(const struct cli_context *context, int argc, char **argv)
{
    (void)argc;
    return client_copy(context, argv[0]);
}

static int run(struct fake *fake, fake_command_fn *command, const char *path)
{
    json_decref(client_answer);
    client_answer = NULL;
    return fake_run(fake, command, false, WORDS(path));
}

TEST(client, a_question_without_a_body_is_a_get)
{
    struct fake *fake = *state;

    fake_answers(fake, 200, "{\"a\":1}");
    fake_start(fake);
    assert_int_equal(run(fake, ask, "/v1/status"), CLI_DONE);
    assert_int_equal(json_integer_value(json_object_get(client_answer, "a")), 1);
    assert_string_equal(fake->err, "");
    fake_stop(fake);
    fake_expect(fake, 0, "GET /v1/status HTTP/1.0");
    assert_has(fake->requests[0], "\r\nHost: localhost\r\n");
    assert_string_equal(fake_body(fake, 0), "");
}

TEST(client, a_body_is_posted_whole)
{
    struct fake *fake = *state;
    char *text = memory_new(300001);
    json_t *body;

    memset(text, 'x', 300000);
    body = json_pack("{s:s}", "text", text);
    fake_answers(fake, 200, "{}");
    fake_start(fake);
    client_body = body;
    assert_int_equal(run(fake, ask, "/v1/queue/change"), CLI_DONE);
    client_body = NULL;
    fake_stop(fake);
    fake_expect(fake, 0, "POST /v1/queue/change HTTP/1.0");
    assert_has(fake->requests[0], "\r\nContent-Length: 300011\r\n");
    assert_int_equal(strlen(fake_body(fake, 0)), 300011);
    json_decref(body);
    memory_free(text);
}

TEST(client, a_large_answer_is_read_to_its_end)
{
    struct fake *fake = *state;
    char *body = memory_format("{\"text\":\"%0500000d\"}", 0);

    fake_answers(fake, 200, body);
    fake_start(fake);
    assert_int_equal(run(fake, ask, "/v1/queue"), CLI_DONE);
    assert_int_equal(json_string_length(json_object_get(client_answer, "text")), 500000);
    memory_free(body);
}

TEST(client, an_error_is_said_in_the_servers_words)
{
    static const unsigned statuses[] = {400, 403, 404, 413, 500, 503};
    struct fake *fake = *state;

    for (size_t i = 0; i < 6; i++)
        fake_answers(fake, statuses[i], "{\"error\":\"it is so\"}");
    fake_start(fake);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(run(fake, ask, "/v1/queue"), CLI_FAILED);
        assert_null(client_answer);
        assert_string_equal(fake->err, "smtpd: it is so\n");
    }
}

TEST(client, an_answer_that_is_none_fails)
{
    static const struct {
        const char *answer;
        const char *says;
    } rows[] = {
        {"", "without an answer"},
        {"HTTP/1.0 200 OK\r\n", "without an answer"},
        {"220 relay.test ESMTP\r\n\r\n", "without an answer"},
        {"HTTP/2.0 200\r\n\r\n{}", "without an answer"},
        {"HTTP/1.1\r\n\r\n", "not understood"},
        {"HTTP/1.0 200 OK\r\n\r\n", "not understood"},
        {"HTTP/1.0 200 OK\r\n\r\n{\"items\":[", "not understood"},
        {"HTTP/1.0 200 OK\r\n\r\n<html>", "not understood"},
        {"HTTP/1.0 500 No\r\n\r\n<html>", "not understood"},
        {"HTTP/1.0 500 No\r\n\r\n{\"error\":5}", "not understood"},
        {"HTTP/1.0 204 Nothing\r\n\r\n{}", "not understood"},
        {"HTTP/1.0 twohundred\r\n\r\n{}", "not understood"},
    };
    struct fake *fake = *state;
    char *head = memory_format("HTTP/1.0 200 OK\r\nX: %040000d\r\n\r\n{}", 0);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        fake_answers_raw(fake, slice_of(rows[i].answer));
    fake_answers_raw(fake, slice_of(head));
    fake_start(fake);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(run(fake, ask, "/v1/queue"), CLI_FAILED);
        assert_null(client_answer);
        assert_has(fake->err, rows[i].says);
    }
    assert_int_equal(run(fake, ask, "/v1/queue"), CLI_FAILED);
    assert_has(fake->err, "without an answer");
    memory_free(head);
}

TEST(client, where_nobody_listens_no_server_runs)
{
    struct fake *fake = *state;
    char path[200];

    assert_int_equal(run(fake, ask, "/v1/status"), CLI_NOT_RUNNING);
    assert_has(fake->err, fake->path);
    assert_int_equal(run(fake, copy, "/v1/message/x"), CLI_NOT_RUNNING);
    /* A socket of a dead server. */
    fake_start(fake);
    (void)snprintf(path, sizeof path, "%s.kept", fake->path);
    assert_int_equal(rename(fake->path, path), 0);
    fake_stop(fake);
    assert_int_equal(rename(path, fake->path), 0);
    assert_int_equal(run(fake, ask, "/v1/status"), CLI_NOT_RUNNING);
    assert_int_equal(unlink(fake->path), 0);
}

static int ask_far_away(const struct cli_context *context, int argc, char **argv)
{
    struct cli_context far_away = *context;
    char path[200];

    (void)argc;
    (void)snprintf(path, sizeof path, "/tmp/%0150d", 0);
    far_away.socket_path = path;
    return client_ask(&far_away, argv[0], NULL, &client_answer);
}

TEST(client, a_path_that_no_socket_can_have_is_said)
{
    struct fake *fake = *state;

    assert_int_equal(run(fake, ask_far_away, "/v1/status"), CLI_NOT_RUNNING);
    assert_has(fake->err, "too long");
}

TEST(client, a_message_is_copied_byte_by_byte)
{
    enum { BYTES = 300000 };
    static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    struct fake *fake = *state;
    struct bytes answer;

    bytes_init(&answer, TEXT_MOST);
    assert_int_equal(bytes_add_text(&answer, head), RESULT_OK);
    for (int i = 0; i < BYTES; i++) {
        char byte = (char)(i % 255 + 1);

        assert_int_equal(bytes_add(&answer, (struct slice){&byte, 1}), RESULT_OK);
    }
    fake_answers_raw(fake, bytes_view(&answer));
    fake_start(fake);
    assert_int_equal(run(fake, copy, "/v1/message/x"), CLI_DONE);
    assert_int_equal(strlen(fake->out), BYTES);
    assert_memory_equal(fake->out, answer.data + sizeof head - 1, BYTES);
    bytes_fini(&answer);
}

TEST(client, a_message_that_is_not_there_leaves_stdout_empty)
{
    struct fake *fake = *state;

    fake_answers(fake, 404, "{\"error\":\"no such message in the queue\"}");
    fake_answers_raw(fake, SLICE_NONE);
    fake_start(fake);
    assert_int_equal(run(fake, copy, "/v1/message/x"), CLI_FAILED);
    assert_string_equal(fake->out, "");
    assert_string_equal(fake->err, "smtpd: no such message in the queue\n");
    assert_int_equal(run(fake, copy, "/v1/message/x"), CLI_FAILED);
    assert_string_equal(fake->out, "");
}

/* The server was told to leave in the middle: what came is no whole message. */
TEST(client, a_message_that_ends_too_early_fails)
{
    static const struct {
        const char *head;
        int code;
    } rows[] = {{"Content-Length: 10", CLI_DONE},
                {"content-length:10", CLI_DONE},
                {"X: y\r\nCONTENT-LENGTH: \t10 \r\nZ: content-length: 9", CLI_DONE},
                {"X-Content-Length: 100", CLI_DONE}, /* none */
                {"Content-Length: 11", CLI_FAILED},
                {"Content-Length: 9", CLI_FAILED},
                {"Content-Length: 18446744073709551615", CLI_FAILED}};
    struct fake *fake = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *answer =
            memory_format("HTTP/1.0 200 OK\r\n%s\r\n\r\nSubject: x", rows[i].head);

        fake_answers_raw(fake, slice_of(answer));
        memory_free(answer);
    }
    fake_start(fake);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(run(fake, copy, "/v1/message/x"), rows[i].code);
        assert_string_equal(fake->out, "Subject: x");
        if (rows[i].code != CLI_DONE)
            assert_has(fake->err, "did not arrive whole");
    }
}

TEST(client, what_a_query_cannot_hold_is_encoded)
{
    static const struct {
        const char *text;
        const char *encoded;
    } rows[] = {{"", ""},
                {"azAZ09-._~", "azAZ09-._~"},
                {"a@b.test", "a%40b.test"},
                {"<>", "%3C%3E"},
                {"*.x&y=z", "%2A.x%26y%3Dz"},
                {"100% #+ /?", "100%25%20%23%2B%20%2F%3F"},
                {"\xc3\xbc\r\n", "%C3%BC%0D%0A"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bytes into;

        bytes_init(&into, 100);
        assert_int_equal(client_add_encoded(&into, rows[i].text), RESULT_OK);
        assert_true(slice_equal_text(bytes_view(&into), rows[i].encoded));
        bytes_fini(&into);
    }
}

TEST(client, a_query_that_does_not_fit_is_not_cut)
{
    struct bytes into;

    (void)state;
    bytes_init(&into, 8);
    assert_int_equal(client_add_encoded(&into, "a@b@c"), RESULT_TOO_LARGE);
    bytes_fini(&into);
}

static int forget_answer(void **state)
{
    json_decref(client_answer);
    client_answer = NULL;
    return tear_down(state);
}

#define WITH_FAKE(name)                                                                    \
    cmocka_unit_test_setup_teardown(client_##name, set_up, forget_answer)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(a_question_without_a_body_is_a_get),
        WITH_FAKE(a_body_is_posted_whole),
        WITH_FAKE(a_large_answer_is_read_to_its_end),
        WITH_FAKE(an_error_is_said_in_the_servers_words),
        WITH_FAKE(an_answer_that_is_none_fails),
        WITH_FAKE(where_nobody_listens_no_server_runs),
        WITH_FAKE(a_path_that_no_socket_can_have_is_said),
        WITH_FAKE(a_message_is_copied_byte_by_byte),
        WITH_FAKE(a_message_that_is_not_there_leaves_stdout_empty),
        WITH_FAKE(a_message_that_ends_too_early_fails),
        RUN(client, what_a_query_cannot_hold_is_encoded),
        RUN(client, a_query_that_does_not_fit_is_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
