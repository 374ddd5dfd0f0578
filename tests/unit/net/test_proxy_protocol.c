/* The PROXY header as balancers write it, and as they must not. */
#include "test.h"

#include "smtpd/net/proxy_protocol.h"

#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4_BLOCK "\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x00\x19"
#define LITERAL(text) ((struct slice){text, sizeof(text) - 1})

static enum result parse(struct slice bytes, struct proxy_header *header)
{
    return proxy_header_parse(bytes, header);
}

static void assert_endpoint(const struct endpoint *endpoint, const char *expected)
{
    char text[IP_TEXT];

    endpoint_print(endpoint, text);
    assert_string_equal(text, expected);
}

TEST(proxy_protocol, a_line_names_client_and_server)
{
    struct proxy_header header;

    assert_int_equal(
        parse(LITERAL("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\nEHLO"), &header),
        RESULT_OK);
    assert_true(header.has_client);
    assert_endpoint(&header.client, "192.0.2.7:40000");
    assert_endpoint(&header.server, "198.51.100.1:25");
    assert_int_equal(header.length,
                     strlen("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"));
    assert_int_equal(
        parse(LITERAL("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n"), &header),
        RESULT_OK);
    assert_endpoint(&header.client, "[2001:db8::7]:1");
    assert_endpoint(&header.server, "[2001:db8::1]:65535");
}

TEST(proxy_protocol, an_unknown_client_is_nobody_and_what_follows_is_skipped)
{
    struct proxy_header header;

    assert_int_equal(parse(LITERAL("PROXY UNKNOWN\r\n"), &header), RESULT_OK);
    assert_false(header.has_client);
    assert_int_equal(parse(LITERAL("PROXY UNKNOWN ff::1 ff::2 7 8\r\nX"), &header),
                     RESULT_OK);
    assert_false(header.has_client);
    assert_int_equal(header.length, 31);
}

TEST(proxy_protocol, a_line_that_is_not_exact_is_refused)
{
    static const char *const lines[] = {
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 25 1\r\n",
        "PROXY TCP4 192.0.2.7  198.51.100.1 40000 25\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 40000 25\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 40000 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 040 25\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 40 25\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 40 25\r\n",
        "PROXY UNKNOWN\n",
        "PROXY\r\n",
        "PRAXY UNKNOWN\r\n",
        "EHLO client.test\r\n",
    };
    struct proxy_header header;

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_int_equal(parse(slice_of(lines[i]), &header), RESULT_INVALID);
        assert_false(header.has_client);
    }
}

TEST(proxy_protocol, a_line_has_an_end)
{
    char line[200];
    struct proxy_header header;

    memset(line, ' ', sizeof line);
    memcpy(line, "PROXY UNKNOWN", 13);
    assert_int_equal(parse((struct slice){line, 106}, &header), RESULT_AGAIN);
    assert_int_equal(parse((struct slice){line, 107}, &header), RESULT_INVALID);
    memcpy(line + 105, "\r\n", 2);
    assert_int_equal(parse((struct slice){line, sizeof line}, &header), RESULT_OK);
    assert_int_equal(header.length, 107);
}

TEST(proxy_protocol, the_binary_form_names_client_and_server)
{
    struct proxy_header header;

    assert_int_equal(parse(LITERAL(SIGNATURE "\x21\x11\x00\x0c" V4_BLOCK "EHLO"), &header),
                     RESULT_OK);
    assert_true(header.has_client);
    assert_endpoint(&header.client, "192.0.2.7:40000");
    assert_endpoint(&header.server, "198.51.100.1:25");
    assert_int_equal(header.length, 28);
}

TEST(proxy_protocol, extensions_of_the_binary_form_are_skipped)
{
    struct proxy_header header;

    assert_int_equal(
        parse(LITERAL(SIGNATURE "\x21\x11\x00\x0f" V4_BLOCK "\x04\x00\x00"), &header),
        RESULT_OK);
    assert_int_equal(header.length, 31);
}

TEST(proxy_protocol, the_balancer_may_speak_for_itself)
{
    struct proxy_header header;

    assert_int_equal(parse(LITERAL(SIGNATURE "\x20\x00\x00\x00"), &header), RESULT_OK);
    assert_false(header.has_client);
    assert_int_equal(header.length, 16);
    assert_int_equal(parse(LITERAL(SIGNATURE "\x21\x31\x00\x02xy"), &header), RESULT_OK);
    assert_false(header.has_client); /* of a UNIX socket */
}

TEST(proxy_protocol, a_broken_binary_form_is_refused)
{
    struct proxy_header header;

    assert_int_equal(parse(LITERAL(SIGNATURE "\x11\x11\x00\x0c" V4_BLOCK), &header),
                     RESULT_INVALID); /* version 1 */
    assert_int_equal(parse(LITERAL(SIGNATURE "\x22\x11\x00\x0c" V4_BLOCK), &header),
                     RESULT_INVALID); /* no such command */
    assert_int_equal(parse(LITERAL(SIGNATURE "\x21\x11\x00\x0b" V4_BLOCK), &header),
                     RESULT_INVALID); /* too short for its family */
    assert_int_equal(parse(LITERAL(SIGNATURE "\x21\x21\x00\x0c" V4_BLOCK), &header),
                     RESULT_INVALID);
    assert_int_equal(parse(LITERAL(SIGNATURE "\x21\x11\xff\xff"), &header), RESULT_INVALID);
    assert_int_equal(parse(LITERAL("\x16\x03\x01\x02"), &header), RESULT_INVALID); /* TLS */
}

TEST(proxy_protocol, half_a_header_says_how_much_is_missing_at_least)
{
    struct proxy_header header;

    assert_int_equal(parse(SLICE_NONE, &header), RESULT_AGAIN);
    assert_int_equal(header.length, 1);
    assert_int_equal(parse(LITERAL("PROXY TC"), &header), RESULT_AGAIN);
    assert_int_equal(header.length, 9);
    assert_int_equal(parse(LITERAL("\r\n\r\n"), &header), RESULT_AGAIN);
    assert_int_equal(header.length, 16);
    assert_int_equal(parse(LITERAL(SIGNATURE "\x21\x11\x00\x0c\xc0"), &header),
                     RESULT_AGAIN);
    assert_int_equal(header.length, 28);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(proxy_protocol, a_line_names_client_and_server),
        RUN(proxy_protocol, an_unknown_client_is_nobody_and_what_follows_is_skipped),
        RUN(proxy_protocol, a_line_that_is_not_exact_is_refused),
        RUN(proxy_protocol, a_line_has_an_end),
        RUN(proxy_protocol, the_binary_form_names_client_and_server),
        RUN(proxy_protocol, extensions_of_the_binary_form_are_skipped),
        RUN(proxy_protocol, the_balancer_may_speak_for_itself),
        RUN(proxy_protocol, a_broken_binary_form_is_refused),
        RUN(proxy_protocol, half_a_header_says_how_much_is_missing_at_least),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
