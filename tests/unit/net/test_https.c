/* One GET against a server of the test, over real sockets and real TLS. */
#include "smtpd/net/https.h"

#include "secured_pair.h"

#include <stdio.h>

enum { ABORTS = 1, ENDS = 2, STAYS = 4 };

struct site {
    struct pair pair; /* its loop, its listener; the client is the GET */
    struct tls_server *server;
    struct tls_client *client;
    const char *answer;
    unsigned manner;
    char request[2048];
    struct stream *stream;
    unsigned ends;
    enum https_result result;
    char body[256];
    char text[512];
};

static void on_request(void *owner, struct slice bytes)
{
    struct site *site = owner;
    size_t length = strlen(site->request);

    if (length + bytes.length < sizeof site->request)
        memcpy(site->request + length, bytes.data, bytes.length);
    if (!strstr(site->request, "\r\n\r\n"))
        return;
    if (site->answer)
        (void)stream_write(site->stream, slice_of(site->answer));
    if (site->manner == ENDS)
        stream_close(site->stream);
    else if (site->manner == ABORTS)
        stream_abort(site->stream);
    if (site->manner != STAYS)
        site->stream = NULL;
}

static void on_gone(void *owner, const struct fault *why)
{
    struct site *site = owner;

    (void)why;
    stream_close(site->stream);
    site->stream = NULL;
}

static void on_stream_secured(void *owner, const struct fault *fault)
{
    if (fault)
        on_gone(owner, fault);
}

static void on_stream(void *owner, struct listener *listener, struct stream *stream)
{
    static const struct stream_events events = {on_request, on_gone, NULL};
    struct site *site = owner;

    (void)listener;
    site->stream = stream;
    stream_start(stream, &events, site);
    assert_int_equal(stream_secure_server(stream, site->server, on_stream_secured),
                     RESULT_OK);
}

static void on_end(void *owner, enum https_result result, struct slice body,
                   const struct fault *fault)
{
    struct site *site = owner;

    site->ends++;
    site->result = result;
    (void)slice_copy_text(body, site->body, sizeof site->body);
    (void)snprintf(site->text, sizeof site->text, "%s", fault->text);
}

static void site_open(struct site *site)
{
    struct tls_settings tls = {0, 0};
    struct fault fault;

    memset(site, 0, sizeof *site);
    site->manner = STAYS;
    pair_init(&site->pair, &tls);
    listener_start(site->pair.listener, on_stream, site);
    site->server = server_with(certificates.certificate, certificates.key, &fault);
    assert_int_equal(tls_client_new(certificates.certificate, &site->client, &fault),
                     RESULT_OK);
}

static void site_close(struct site *site)
{
    if (site->stream)
        stream_abort(site->stream);
    pair_close(&site->pair);
    tls_server_unref(site->server);
    tls_client_unref(site->client);
}

static struct https *get_start(struct site *site, const char *host, int64_t deadline_ms)
{
    struct https_request request = {.addresses = listener_endpoint(site->pair.listener),
                                    .address_count = 1,
                                    .host = host,
                                    .path = "/page.txt",
                                    .media_type = "text/plain",
                                    .body_max = 100,
                                    .deadline_ms = deadline_ms,
                                    .tls = site->client};
    struct https *get;

    site->ends = 0;
    memset(site->request, 0, sizeof site->request);
    get = https_start(site->pair.net, &request, on_end, site);
    assert_int_equal(site->ends, 0); /* never inside the call */
    return get;
}

static void get(struct site *site, const char *host, int64_t deadline_ms)
{
    (void)get_start(site, host, deadline_ms);
    PAIR_UNTIL(&site->pair, site->ends == 1);
    PAIR_UNTIL(&site->pair, site->stream == NULL);
}

TEST(https, a_page_is_had_and_the_request_says_what_it_must)
{
    struct site site;

    site_open(&site);
    site.answer =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    get(&site, "hop.test", 20000);
    assert_int_equal(site.result, HTTPS_OK);
    assert_string_equal(site.body, "hello");
    assert_memory_equal(site.request, "GET /page.txt HTTP/1.1\r\nHost: hop.test:", 39);
    assert_non_null(strstr(site.request, "\r\nConnection: close\r\n"));
    site_close(&site);
}

TEST(https, a_body_to_the_end_needs_the_goodbye_of_tls)
{
    struct site site;

    site_open(&site);
    site.answer = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello";
    site.manner = ENDS;
    get(&site, "hop.test", 20000);
    assert_int_equal(site.result, HTTPS_OK);
    assert_string_equal(site.body, "hello");
    site.manner = ABORTS;
    get(&site, "hop.test", 20000);
    assert_int_not_equal(site.result, HTTPS_OK);
    site_close(&site);
}

TEST(https, what_is_no_answer_is_told_with_the_host)
{
    struct site site;

    site_open(&site);
    site.answer = "HTTP/1.1 301 Moved\r\nLocation: https://hop.test/\r\n\r\n";
    get(&site, "hop.test", 20000);
    assert_int_equal(site.result, HTTPS_NO_ANSWER);
    assert_non_null(strstr(site.text, "hop.test [127.0.0.1"));
    assert_non_null(strstr(site.text, "redirects"));
    site_close(&site);
}

TEST(https, a_certificate_for_another_name_ends_it_before_a_word)
{
    struct site site;

    site_open(&site);
    get(&site, "elsewhere.test", 20000);
    assert_int_equal(site.result, HTTPS_NO_TLS);
    assert_string_equal(site.request, "");
    assert_non_null(strstr(site.text, "not valid for elsewhere.test"));
    site_close(&site);
}

TEST(https, silence_and_nobody_end_it_too)
{
    struct site site;
    struct endpoint nobody = {.port = 1};
    struct https_request request = {.addresses = &nobody,
                                    .address_count = 1,
                                    .host = "hop.test",
                                    .path = "/",
                                    .media_type = "text/plain",
                                    .body_max = 100,
                                    .deadline_ms = 20000};

    site_open(&site);
    get(&site, "hop.test", 300);
    assert_int_equal(site.result, HTTPS_NO_CONNECTION);
    assert_non_null(strstr(site.text, "in time"));
    assert_int_equal(ip_parse(SLICE("127.0.0.1"), &nobody.ip), RESULT_OK);
    request.tls = site.client;
    site.ends = 0;
    (void)https_start(site.pair.net, &request, on_end, &site);
    PAIR_UNTIL(&site.pair, site.ends == 1);
    assert_int_equal(site.result, HTTPS_NO_CONNECTION);
    site_close(&site);
}

TEST(https, after_a_cancel_nothing_is_told)
{
    struct site site;

    site_open(&site);
    https_cancel(get_start(&site, "hop.test", 20000));
    https_cancel(NULL);
    loop_run_for(site.pair.loop, 50);
    assert_int_equal(site.ends, 0);
    {
        struct https *get = get_start(&site, "hop.test", 20000);

        PAIR_UNTIL(&site.pair, site.request[0]);
        https_cancel(get);
    }
    PAIR_UNTIL(&site.pair, site.stream == NULL);
    assert_int_equal(site.ends, 0);
    site_close(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(https, a_page_is_had_and_the_request_says_what_it_must),
        RUN(https, a_body_to_the_end_needs_the_goodbye_of_tls),
        RUN(https, what_is_no_answer_is_told_with_the_host),
        RUN(https, a_certificate_for_another_name_ends_it_before_a_word),
        RUN(https, silence_and_nobody_end_it_too),
        RUN(https, after_a_cancel_nothing_is_told),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
