/* Answers whole, and byte by byte: both must be read the same. */
#include "https_answer.h"

#include "test.h"

#include <string.h>

enum { BODY_MAX = 64 };
#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"

static enum https_step read_by(struct https_answer *answer, const char *text, size_t piece)
{
    struct slice rest = slice_of(text);

    https_answer_init(answer, "text/plain", BODY_MAX);
    while (rest.length > 0) {
        struct slice part = slice_part(rest, 0, rest.length < piece ? rest.length : piece);

        rest = slice_from(rest, part.length);
        (void)https_answer_read(answer, part);
    }
    return answer->step;
}

static void expect_body(const char *text, const char *body, bool to_end)
{
    for (size_t piece = 1; piece < 2000; piece = piece * 3) {
        struct https_answer answer;
        enum https_step step = read_by(&answer, text, piece);

        if (to_end) {
            assert_int_equal(step, HTTPS_TO_END);
            step = https_answer_end(&answer, true);
        }
        if (step != HTTPS_DONE)
            fail_msg("%s: %s", text, answer.text);
        assert_true(slice_equal_text(bytes_view(&answer.body), body));
        https_answer_fini(&answer);
    }
}

static void expect_bad(const char *text, const char *words)
{
    for (size_t piece = 1; piece < 2000; piece = piece * 3) {
        struct https_answer answer;

        assert_int_equal(read_by(&answer, text, piece), HTTPS_BAD);
        if (!strstr(answer.text, words))
            fail_msg("\"%s\" lacks \"%s\"", answer.text, words);
        https_answer_fini(&answer);
    }
}

TEST(https_answer, a_body_by_its_length_by_chunks_and_to_the_end)
{
    (void)state;
    expect_body(HEAD "Content-Length: 5\r\n\r\nhello", "hello", false);
    expect_body(HEAD "content-length:5 \r\nContent-Length: 5\r\n\r\nhello, and more",
                "hello", false);
    expect_body(HEAD "Content-Length: 0\r\n\r\n", "", false);
    expect_body(CHUNKED "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n", "hello",
                false);
    expect_body(CHUNKED "00000003 \r\nhel\r\n0\r\n\r\n", "hel", false);
    expect_body("HTTP/1.0 200\r\nContent-Type: TEXT/plain ; charset=utf-8\r\n\r\nhello",
                "hello", true);
    expect_body("HTTP/1.1 103 Early\r\nContent-Length: 7\r\n\r\n" HEAD
                "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi",
                "hi", false);
}

TEST(https_answer, nothing_but_a_200_is_good)
{
    (void)state;
    expect_bad("HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n",
               "\"302 Found\", not 200: redirects are not followed");
    expect_bad("HTTP/1.1 404 \x01gone\r\n\r\n", "\"404 ?gone\"");
    expect_bad("HTTP/1.1 101 Switching\r\n\r\n", "101");
    expect_bad("HTTP/2 200 OK\r\n\r\n", "no HTTP/1.1");
    expect_bad("HTTP/1.1 2000\r\n\r\n", "no HTTP/1.1");
    expect_bad("220 mx ESMTP\r\n", "no HTTP/1.1");
}

TEST(https_answer, what_two_could_read_in_two_ways_is_bad)
{
    (void)state;
    expect_bad(HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length");
    expect_bad(HEAD "Content-Length: +5\r\n\r\n", "Content-Length");
    expect_bad(HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "two ways");
    expect_bad(HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding");
    expect_bad(HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
               "Transfer-Encoding");
    expect_bad(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        "two ways");
    expect_bad(HEAD " folded: x\r\n\r\n", "field");
    expect_bad(HEAD "Name : x\r\n\r\n", "field");
    expect_bad(HEAD "no colon\r\n\r\n", "field");
    expect_bad("HTTP/1.1 200 OK\nContent-Type: text/plain\n\n", "CR LF");
    expect_bad(HEAD "X: a\rb\r\n\r\n", "CR LF");
    expect_bad(CHUNKED "3\r\nhello\r\n", "longer than its size");
    expect_bad(CHUNKED "x\r\n", "no number");
    expect_bad(CHUNKED "\r\n", "no number");
    expect_bad(CHUNKED "000000003\r\n", "no number");
}

TEST(https_answer, another_type_or_coding_is_bad)
{
    (void)state;
    expect_bad("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "not text/plain");
    expect_bad("HTTP/1.1 200 OK\r\n\r\n", "not text/plain");
    expect_bad(HEAD "Content-Encoding: gzip\r\n\r\n", "Content-Encoding");
}

TEST(https_answer, what_is_too_long_is_bad)
{
    char text[HTTPS_HEAD_MAX + 4096];
    size_t length;

    (void)state;
    expect_bad(HEAD "Content-Length: 65\r\n\r\n", "too long");
    expect_bad(CHUNKED "40\r\n"
                       "0123456789012345678901234567890123456789012345678901234567890123"
                       "\r\n1\r\n",
               "too long");
    expect_bad(CHUNKED "ffffffff\r\n", "too long");
    expect_bad(HEAD "\r\n01234567890123456789012345678901234567890123456789012345678901234",
               "too long");
    length = sizeof HEAD - 1;
    memcpy(text, HEAD, length);
    while (length + 1024 < sizeof text) {
        memset(text + length, 'a', 1024);
        memcpy(text + length, "n: ", 3);
        memcpy(text + length + 1022, "\r\n", 2);
        length += 1024;
    }
    text[length] = '\0';
    expect_bad(text, "too long");
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    expect_bad(text, "too long");
}

TEST(https_answer, an_end_that_anybody_can_make_is_none)
{
    static const char *const cut[] = {"",
                                      "HTTP/1.1 20",
                                      HEAD,
                                      HEAD "\r\nhello",
                                      HEAD "Content-Length: 5\r\n\r\nhell",
                                      CHUNKED "3\r\nhel\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        struct https_answer answer;

        (void)read_by(&answer, cut[i], 100);
        assert_int_equal(https_answer_end(&answer, false), HTTPS_BAD);
        assert_non_null(strstr(answer.text, "ended within"));
        https_answer_fini(&answer);
    }
}

TEST(https_answer, of_a_post_any_2xx_is_the_end)
{
    static const char *const good[] = {"HTTP/1.1 200 OK\r\n\r\n",
                                       "HTTP/1.1 201 Made\r\nContent-Length: 9\r\n\r\n",
                                       "HTTP/1.1 100 Go\r\n\r\nHTTP/1.0 204\r\n\r\n"};
    static const char *const bad[] = {"HTTP/1.1 301 Moved\r\n\r\n",
                                      "HTTP/1.1 503 No\r\n\r\n"};
    struct https_answer answer;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        https_answer_init(&answer, NULL, BODY_MAX);
        assert_int_equal(https_answer_read(&answer, slice_of(good[i])), HTTPS_DONE);
        https_answer_fini(&answer);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        https_answer_init(&answer, NULL, BODY_MAX);
        assert_int_equal(https_answer_read(&answer, slice_of(bad[i])), HTTPS_BAD);
        assert_non_null(strstr(answer.text, "not 2xx"));
        https_answer_fini(&answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(https_answer, a_body_by_its_length_by_chunks_and_to_the_end),
        RUN(https_answer, nothing_but_a_200_is_good),
        RUN(https_answer, what_two_could_read_in_two_ways_is_bad),
        RUN(https_answer, another_type_or_coding_is_bad),
        RUN(https_answer, what_is_too_long_is_bad),
        RUN(https_answer, an_end_that_anybody_can_make_is_none),
        RUN(https_answer, of_a_post_any_2xx_is_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
