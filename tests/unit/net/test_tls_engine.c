/* Two engines whose ciphertext the test carries: whole, byte by byte, changed, or not at all. */
#include "tls_engine.h"

#include "certificates.h"
#include "test.h"

#include "smtpd/base/memory.h"

#include <mbedtls/sha256.h>
#include <mbedtls/x509_crt.h>
#include <string.h>

enum { ROUNDS_MOST = 50, PLAIN_MOST = 16384, TEXT_MOST = 8 << 20 };

static struct certificates certificates;

static int make_certificates(void **state)
{
    (void)state;
    certificates_make(&certificates, "hop.test");
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    certificates_remove(&certificates);
    return 0;
}

struct engines {
    struct tls_engine *server;
    struct tls_engine *client;
    enum tls_step server_step;
    enum tls_step client_step;
};

static void open_with(struct engines *engines, const char *ca_file, enum tls_level level,
                      const char *name)
{
    const char *certificate_files[] = {certificates.certificate};
    const char *key_files[] = {certificates.key};
    struct tls_server_settings settings = {certificate_files, key_files, 1, false};
    struct tls_server *server = NULL;
    struct tls_client *client = NULL;
    struct fault fault;

    assert_int_equal(tls_server_new(&settings, &server, &fault), RESULT_OK);
    assert_int_equal(tls_client_new(ca_file, &client, &fault), RESULT_OK);
    *engines = (struct engines){tls_engine_new_server(server),
                                tls_engine_new_client(client, level, name),
                                TLS_STEP_WANT_READ, TLS_STEP_WANT_READ};
    /* A reload forgets its contexts; connections keep theirs. */
    tls_server_unref(server);
    tls_client_unref(client);
}

static void open_both(struct engines *engines)
{
    open_with(engines, certificates.certificate, TLS_OPPORTUNISTIC, "hop.test");
}

static void close_both(struct engines *engines)
{
    tls_engine_free(engines->server);
    tls_engine_free(engines->client);
}

/* What one made goes to the other. How much it was. */
static size_t carry(struct tls_engine *from, struct tls_engine *to)
{
    struct bytes *output = tls_engine_output(from);
    size_t length = output->length;

    assert_int_equal(tls_engine_feed(to, bytes_view(output)), RESULT_OK);
    bytes_clear(output);
    return length;
}

static void step(struct tls_engine *engine, enum tls_step *result)
{
    if (*result == TLS_STEP_WANT_READ)
        *result = tls_engine_handshake(engine);
}

static void shake_hands(struct engines *engines)
{
    size_t moved = 1;

    for (int i = 0; i < ROUNDS_MOST && moved > 0; i++) {
        step(engines->client, &engines->client_step);
        moved = carry(engines->client, engines->server);
        step(engines->server, &engines->server_step);
        moved += carry(engines->server, engines->client);
    }
    assert_int_equal(moved, 0);
}

static void secure_both(struct engines *engines)
{
    open_both(engines);
    shake_hands(engines);
    assert_int_equal(engines->client_step, TLS_STEP_DONE);
    assert_int_equal(engines->server_step, TLS_STEP_DONE);
}

/* Reads what is there; how it ended. */
static enum result read_all(struct tls_engine *engine, struct bytes *into)
{
    for (;;) {
        char plain[PLAIN_MOST];
        size_t length = 0;
        enum result result = tls_engine_read(engine, plain, sizeof plain, &length);

        if (result != RESULT_OK)
            return result;
        assert_in_range(length, 1, sizeof plain);
        assert_int_equal(bytes_add(into, (struct slice){plain, length}), RESULT_OK);
    }
}

static void expect_text(struct tls_engine *engine, struct slice text)
{
    struct bytes got;

    bytes_init(&got, TEXT_MOST);
    assert_int_equal(read_all(engine, &got), RESULT_AGAIN);
    assert_int_equal(got.length, text.length);
    if (text.length > 0)
        assert_memory_equal(got.data, text.data, text.length);
    bytes_fini(&got);
}

/* ---- the handshake ---- */

TEST(tls_engine, two_of_them_agree)
{
    struct engines engines;
    struct tls_facts facts;

    open_both(&engines);
    tls_engine_facts(engines.client, &facts);
    assert_false(facts.is_secure);
    shake_hands(&engines);
    assert_int_equal(engines.client_step, TLS_STEP_DONE);
    assert_int_equal(engines.server_step, TLS_STEP_DONE);
    tls_engine_facts(engines.client, &facts);
    assert_true(facts.is_secure && facts.is_verified);
    assert_string_equal(facts.version, "TLSv1.3");
    assert_string_equal(facts.name, "hop.test");
    assert_string_equal(facts.verify_text, "");
    assert_int_equal(strncmp(facts.cipher, "TLS1-3-", 7), 0);
    tls_engine_facts(engines.server, &facts);
    assert_true(facts.is_secure);
    assert_false(facts.is_verified); /* clients show no certificate */
    assert_string_equal(facts.verify_text, "");
    assert_int_equal(tls_engine_fault(engines.client)->code, RESULT_OK);
    close_both(&engines);
}

TEST(tls_engine, a_step_without_input_waits)
{
    struct engines engines;

    open_both(&engines);
    assert_int_equal(tls_engine_handshake(engines.server), TLS_STEP_WANT_READ);
    assert_int_equal(tls_engine_output(engines.server)->length, 0);
    assert_int_equal(tls_engine_handshake(engines.client), TLS_STEP_WANT_READ);
    assert_true(tls_engine_output(engines.client)->length > 0);
    assert_false(tls_engine_has_input(engines.client));
    close_both(&engines);
}

static void carry_byte_by_byte(struct tls_engine *from, struct tls_engine *to,
                               enum tls_step *result)
{
    struct bytes *output = tls_engine_output(from);

    for (size_t i = 0; i < output->length; i++) {
        assert_int_equal(tls_engine_feed(to, (struct slice){output->data + i, 1}),
                         RESULT_OK);
        assert_true(tls_engine_has_input(to));
        step(to, result);
    }
    bytes_clear(output);
}

TEST(tls_engine, it_does_not_matter_how_the_input_is_cut)
{
    struct engines engines;
    char plain[100];
    size_t length = 0;
    struct bytes *output;

    open_both(&engines);
    step(engines.client, &engines.client_step);
    for (int i = 0; i < ROUNDS_MOST && engines.server_step != TLS_STEP_DONE; i++) {
        carry_byte_by_byte(engines.client, engines.server, &engines.server_step);
        carry_byte_by_byte(engines.server, engines.client, &engines.client_step);
    }
    assert_int_equal(engines.client_step, TLS_STEP_DONE);
    assert_int_equal(engines.server_step, TLS_STEP_DONE);
    assert_int_equal(tls_engine_write(engines.client, SLICE("hello")), RESULT_OK);
    output = tls_engine_output(engines.client);
    for (size_t i = 0; i < output->length; i++) {
        assert_int_equal(tls_engine_read(engines.server, plain, sizeof plain, &length),
                         RESULT_AGAIN);
        assert_int_equal(
            tls_engine_feed(engines.server, (struct slice){output->data + i, 1}),
            RESULT_OK);
    }
    expect_text(engines.server, SLICE("hello"));
    close_both(&engines);
}

TEST(tls_engine, what_is_no_tls_fails_with_a_reason_and_an_alert)
{
    static const char *const texts[] = {"EHLO client.test\r\n", "GET / HTTP/1.0\r\n\r\n",
                                        "\x16\x03\x01\xff\xff and so on"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct engines engines;

        open_both(&engines);
        assert_int_equal(tls_engine_feed(engines.server, slice_of(texts[i])), RESULT_OK);
        assert_int_equal(tls_engine_handshake(engines.server), TLS_STEP_FAILED);
        assert_int_equal(tls_engine_fault(engines.server)->code, RESULT_TLS);
        assert_non_null(strstr(tls_engine_fault(engines.server)->text, "handshake"));
        /* And stays failed. */
        assert_int_equal(tls_engine_handshake(engines.server), TLS_STEP_FAILED);
        close_both(&engines);
    }
}

TEST(tls_engine, a_changed_handshake_fails_and_the_other_end_hears_of_it)
{
    struct engines engines;
    struct bytes *output;

    open_both(&engines);
    step(engines.client, &engines.client_step);
    (void)carry(engines.client, engines.server);
    step(engines.server, &engines.server_step);
    output = tls_engine_output(engines.server);
    assert_true(output->length > 200);
    output->data[output->length - 10] ^= 1; /* within what is encrypted */
    (void)carry(engines.server, engines.client);
    step(engines.client, &engines.client_step);
    assert_int_equal(engines.client_step, TLS_STEP_FAILED);
    assert_int_equal(tls_engine_fault(engines.client)->code, RESULT_TLS);
    assert_true(carry(engines.client, engines.server) > 0);
    step(engines.server, &engines.server_step);
    assert_int_equal(engines.server_step, TLS_STEP_FAILED);
    close_both(&engines);
}

/* ---- who is at the other end ---- */

TEST(tls_engine, the_level_decides_what_a_bad_certificate_means)
{
    static const struct {
        enum tls_level level;
        const char *name;
        bool knows_authority;
        bool is_done;
        bool is_verified;
    } rows[] = {
        {TLS_OPPORTUNISTIC, "hop.test", true, true, true},
        {TLS_OPPORTUNISTIC, "other.test", true, true, false},
        {TLS_OPPORTUNISTIC, "hop.test", false, true, false},
        {TLS_REQUIRED, "other.test", true, true, false},
        {TLS_REQUIRED, "192.0.2.1", true, true, false},
        {TLS_VERIFIED, "hop.test", true, true, true},
        {TLS_VERIFIED, "other.test", true, false, false},
        {TLS_VERIFIED, "hop.test", false, false, false},
        {TLS_VERIFIED, "192.0.2.1", true, false, false},
        {TLS_VERIFIED, "[192.0.2.1]", true, false, false},
        {TLS_VERIFIED, NULL, true, false, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct engines engines;
        struct tls_facts facts;

        open_with(&engines,
                  rows[i].knows_authority ? certificates.certificate
                                          : certificates.other_certificate,
                  rows[i].level, rows[i].name);
        shake_hands(&engines);
        tls_engine_facts(engines.client, &facts);
        assert_int_equal(engines.client_step,
                         rows[i].is_done ? TLS_STEP_DONE : TLS_STEP_FAILED);
        assert_int_equal(facts.is_secure, rows[i].is_done);
        assert_int_equal(facts.is_verified, rows[i].is_verified);
        assert_int_equal(facts.verify_text[0] == '\0', rows[i].is_verified);
        assert_null(strchr(facts.verify_text, '\n'));
        if (!rows[i].is_done)
            assert_int_equal(tls_engine_fault(engines.client)->code, RESULT_UNTRUSTED);
        close_both(&engines);
    }
}

/* ---- DANE ---- */

static struct tlsa_set *set_of(const char *certificate_file)
{
    struct tlsa tlsa = {TLSA_DANE_EE, TLSA_CERTIFICATE, TLSA_SHA256, SLICE_NONE};
    unsigned char digest[32];
    mbedtls_x509_crt certificate;
    struct tlsa_set *set;

    mbedtls_x509_crt_init(&certificate);
    assert_int_equal(mbedtls_x509_crt_parse_file(&certificate, certificate_file), 0);
    assert_int_equal(mbedtls_sha256(certificate.raw.p, certificate.raw.len, digest, 0), 0);
    mbedtls_x509_crt_free(&certificate);
    tlsa.data = (struct slice){(char *)digest, sizeof digest};
    set = tlsa_set_new(&tlsa, 1);
    tlsa_set_add_name(set, "mx.test"); /* the certificate is for hop.test: nobody minds */
    return set;
}

TEST(tls_engine, a_certificate_that_fits_its_record_needs_no_authority)
{
    struct engines engines;
    struct tls_facts facts;

    open_with(&engines, NULL, TLS_REQUIRED, "mx.test");
    tls_engine_take_dane(engines.client, set_of(certificates.certificate));
    shake_hands(&engines);
    assert_int_equal(engines.client_step, TLS_STEP_DONE);
    tls_engine_facts(engines.client, &facts);
    assert_int_equal(facts.dane, TLS_DANE_EE);
    assert_true(facts.is_secure);
    assert_false(facts.is_verified);
    tls_engine_facts(engines.server, &facts);
    assert_int_equal(facts.dane, TLS_DANE_NONE);
    close_both(&engines);
}

TEST(tls_engine, a_certificate_that_does_not_fit_its_record_fails_whoever_signed_it)
{
    struct engines engines;
    struct tls_facts facts;

    open_with(&engines, certificates.certificate, TLS_REQUIRED, "hop.test");
    tls_engine_take_dane(engines.client, set_of(certificates.other_certificate));
    shake_hands(&engines);
    assert_int_equal(engines.client_step, TLS_STEP_FAILED);
    assert_int_equal(tls_engine_fault(engines.client)->code, RESULT_UNTRUSTED);
    assert_non_null(
        strstr(tls_engine_fault(engines.client)->text, "TLSA records of hop.test"));
    tls_engine_facts(engines.client, &facts);
    assert_false(facts.is_secure);
    assert_int_equal(facts.dane, TLS_DANE_NONE);
    close_both(&engines);
}

TEST(tls_engine, without_authorities_nothing_is_verified)
{
    struct engines engines;
    struct tls_facts facts;

    open_with(&engines, NULL, TLS_OPPORTUNISTIC, "hop.test");
    shake_hands(&engines);
    tls_engine_facts(engines.client, &facts);
    assert_true(facts.is_secure);
    assert_false(facts.is_verified);
    assert_non_null(strstr(facts.verify_text, "authorities"));
    close_both(&engines);
}

/* RFC 6066 3: no literal address as a server name. */
TEST(tls_engine, an_address_is_no_name)
{
    static const char *const names[] = {"192.0.2.1", "2001:db8::1", "[192.0.2.1]", NULL};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct engines engines;
        struct tls_facts facts;
        struct bytes *output;

        open_with(&engines, NULL, TLS_OPPORTUNISTIC, names[i]);
        step(engines.client, &engines.client_step);
        output = tls_engine_output(engines.client);
        if (names[i])
            assert_null(memmem(output->data, output->length, names[i], strlen(names[i])));
        shake_hands(&engines);
        tls_engine_facts(engines.client, &facts);
        assert_string_equal(facts.name, "");
        assert_non_null(strstr(facts.verify_text, "no name"));
        close_both(&engines);
    }
}

TEST(tls_engine, the_name_is_sent)
{
    struct engines engines;
    struct bytes *output;

    open_both(&engines);
    step(engines.client, &engines.client_step);
    output = tls_engine_output(engines.client);
    assert_non_null(memmem(output->data, output->length, "hop.test", 8));
    close_both(&engines);
}

TEST(tls_engine, a_name_that_is_too_long_fails_and_is_not_cut)
{
    struct engines engines;
    char name[400];

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    open_with(&engines, NULL, TLS_OPPORTUNISTIC, name);
    assert_int_equal(tls_engine_handshake(engines.client), TLS_STEP_FAILED);
    assert_non_null(strstr(tls_engine_fault(engines.client)->text, "too long"));
    assert_int_equal(tls_engine_output(engines.client)->length, 0);
    close_both(&engines);
}

/* ---- data ---- */

TEST(tls_engine, data_of_many_records_goes_both_ways)
{
    enum { BYTES = 300000 };
    struct engines engines;
    char *text = memory_new(BYTES);

    for (size_t i = 0; i < BYTES; i++)
        text[i] = (char)(i * 2654435761U >> 13);
    secure_both(&engines);
    assert_int_equal(tls_engine_write(engines.client, (struct slice){text, BYTES}),
                     RESULT_OK);
    assert_true(tls_engine_output(engines.client)->length > BYTES);
    assert_null(memmem(tls_engine_output(engines.client)->data,
                       tls_engine_output(engines.client)->length, text, 32));
    (void)carry(engines.client, engines.server);
    expect_text(engines.server, (struct slice){text, BYTES});
    assert_int_equal(tls_engine_write(engines.server, (struct slice){text, BYTES}),
                     RESULT_OK);
    (void)carry(engines.server, engines.client);
    expect_text(engines.client, (struct slice){text, BYTES});
    assert_int_equal(tls_engine_write(engines.server, SLICE_NONE), RESULT_OK);
    assert_int_equal(tls_engine_output(engines.server)->length, 0);
    close_both(&engines);
    memory_free(text);
}

TEST(tls_engine, a_small_buffer_gets_a_record_in_pieces)
{
    struct engines engines;
    char plain[3];
    size_t length = 0;

    secure_both(&engines);
    assert_int_equal(tls_engine_write(engines.client, SLICE("hello")), RESULT_OK);
    (void)carry(engines.client, engines.server);
    assert_int_equal(tls_engine_read(engines.server, plain, 3, &length), RESULT_OK);
    assert_int_equal(length, 3);
    assert_memory_equal(plain, "hel", 3);
    assert_int_equal(tls_engine_read(engines.server, plain, 3, &length), RESULT_OK);
    assert_int_equal(length, 2);
    assert_memory_equal(plain, "lo", 2);
    assert_int_equal(tls_engine_read(engines.server, plain, 3, &length), RESULT_AGAIN);
    close_both(&engines);
}

TEST(tls_engine, a_goodbye_ends_it_behind_the_data)
{
    struct engines engines;
    struct bytes got;

    secure_both(&engines);
    bytes_init(&got, TEXT_MOST);
    assert_int_equal(tls_engine_write(engines.client, SLICE("QUIT\r\n")), RESULT_OK);
    tls_engine_say_goodbye(engines.client);
    (void)carry(engines.client, engines.server);
    assert_int_equal(read_all(engines.server, &got), RESULT_CLOSED);
    assert_true(slice_equal_text(bytes_view(&got), "QUIT\r\n"));
    bytes_fini(&got);
    close_both(&engines);
}

TEST(tls_engine, without_a_handshake_there_is_no_goodbye)
{
    struct engines engines;

    open_both(&engines);
    tls_engine_say_goodbye(engines.server);
    assert_int_equal(tls_engine_output(engines.server)->length, 0);
    close_both(&engines);
}

TEST(tls_engine, changed_data_is_not_given_out)
{
    struct engines engines;
    struct bytes *output;
    struct bytes got;

    secure_both(&engines);
    bytes_init(&got, TEXT_MOST);
    assert_int_equal(tls_engine_write(engines.client, SLICE("MAIL FROM:<a@b>\r\n")),
                     RESULT_OK);
    output = tls_engine_output(engines.client);
    output->data[output->length - 1] ^= 1;
    (void)carry(engines.client, engines.server);
    assert_int_equal(read_all(engines.server, &got), RESULT_TLS);
    assert_int_equal(got.length, 0);
    bytes_fini(&got);
    close_both(&engines);
}

TEST(tls_engine, a_record_that_is_sent_twice_is_not_read_twice)
{
    struct engines engines;
    struct bytes *output;
    struct bytes got;

    secure_both(&engines);
    bytes_init(&got, TEXT_MOST);
    assert_int_equal(tls_engine_write(engines.client, SLICE("once")), RESULT_OK);
    output = tls_engine_output(engines.client);
    assert_int_equal(tls_engine_feed(engines.server, bytes_view(output)), RESULT_OK);
    assert_int_equal(tls_engine_feed(engines.server, bytes_view(output)), RESULT_OK);
    assert_int_equal(read_all(engines.server, &got), RESULT_TLS);
    assert_true(slice_equal_text(bytes_view(&got), "once"));
    bytes_fini(&got);
    close_both(&engines);
}

TEST(tls_engine, input_has_a_ceiling)
{
    enum { MEGABYTE = 1 << 20 };
    struct engines engines;
    char *text = memory_new(MEGABYTE + 1);

    open_both(&engines);
    assert_int_equal(tls_engine_feed(engines.server, (struct slice){text, MEGABYTE + 1}),
                     RESULT_TOO_LARGE);
    assert_int_equal(tls_engine_feed(engines.server, (struct slice){text, MEGABYTE}),
                     RESULT_OK);
    assert_int_equal(tls_engine_feed(engines.server, (struct slice){text, 1}),
                     RESULT_TOO_LARGE);
    close_both(&engines);
    memory_free(text);
}

TEST(tls_engine, freeing_nothing_is_fine)
{
    tls_engine_free(NULL);
}

/* ---- sessions ---- */

struct contexts {
    struct tls_server *server;
    struct tls_client *client;
};

static void contexts_open(struct contexts *contexts)
{
    const char *certificate_files[] = {certificates.certificate};
    const char *key_files[] = {certificates.key};
    struct tls_server_settings settings = {certificate_files, key_files, 1, false};
    struct fault fault;

    assert_int_equal(tls_server_new(&settings, &contexts->server, &fault), RESULT_OK);
    assert_int_equal(tls_client_new(certificates.certificate, &contexts->client, &fault),
                     RESULT_OK);
}

static void contexts_close(struct contexts *contexts)
{
    tls_server_unref(contexts->server);
    tls_client_unref(contexts->client);
}

struct demand {
    enum tls_level level;
    const char *name;
    struct slice way;
    int64_t now_ms;
    const struct tlsa *tlsa; /* NULL: no records */
};

/* A connection as a next hop has it: a handshake, and words of the server behind it. */
static struct tls_facts meet(struct contexts *contexts, const struct demand *demand)
{
    struct engines engines = {
        tls_engine_new_server(contexts->server),
        tls_engine_new_client(contexts->client, demand->level, demand->name),
        TLS_STEP_WANT_READ, TLS_STEP_WANT_READ};
    struct tlsa_set *set = demand->tlsa ? tlsa_set_new(demand->tlsa, 1) : NULL;
    struct tls_facts facts;

    if (set) {
        tlsa_set_add_name(set, demand->name);
        tls_engine_take_dane(engines.client, set);
    }
    tls_engine_resume(engines.client, demand->way, demand->now_ms);
    shake_hands(&engines);
    assert_int_equal(engines.client_step, TLS_STEP_DONE);
    tls_engine_facts(engines.client, &facts);
    tls_engine_keep_session(engines.client);
    assert_int_equal(tls_engine_write(engines.server, SLICE("250 ok")), RESULT_OK);
    (void)carry(engines.server, engines.client);
    expect_text(engines.client, SLICE("250 ok"));
    close_both(&engines);
    return facts;
}

TEST(tls_engine, a_session_is_resumed_with_the_verdict_that_it_had)
{
    static const struct demand demands[] = {
        {TLS_OPPORTUNISTIC, "hop.test", {"a", 1}, 0, NULL},
        {TLS_OPPORTUNISTIC, "other.test", {"a", 1}, 0, NULL},
        {TLS_VERIFIED, "hop.test", {"a", 1}, 0, NULL},
    };
    struct contexts contexts;

    contexts_open(&contexts);
    for (size_t i = 0; i < sizeof demands / sizeof *demands; i++) {
        struct tls_facts first = meet(&contexts, &demands[i]);
        struct tls_facts second = meet(&contexts, &demands[i]);

        assert_false(first.is_resumed);
        assert_true(second.is_resumed);
        assert_int_equal(second.is_verified, first.is_verified);
        assert_int_equal(first.is_verified, i != 1);
        assert_int_equal(second.flaw, first.flaw);
        assert_string_equal(second.verify_text, first.verify_text);
    }
    contexts_close(&contexts);
}

TEST(tls_engine, other_demands_another_way_another_hour_begin_anew)
{
    static const int64_t hour_ms = 3600000;
    struct demand demand = {TLS_REQUIRED, "hop.test", SLICE("a"), 0, NULL};
    struct contexts contexts;
    struct contexts others;

    contexts_open(&contexts);
    contexts_open(&others);
    assert_false(meet(&contexts, &demand).is_resumed);
    assert_true(meet(&contexts, &demand).is_resumed);
    demand.now_ms = hour_ms; /* a session that was resumed grows no younger */
    assert_true(meet(&contexts, &demand).is_resumed);
    demand.now_ms = hour_ms + 1;
    assert_false(meet(&contexts, &demand).is_resumed);
    assert_true(meet(&contexts, &demand).is_resumed);
    demand.way = SLICE("b");
    assert_false(meet(&contexts, &demand).is_resumed);
    demand.way = SLICE("a");
    demand.level = TLS_VERIFIED;
    assert_false(meet(&contexts, &demand).is_resumed);
    demand.level = TLS_REQUIRED;
    demand.name = "other.test";
    assert_false(meet(&contexts, &demand).is_resumed);
    demand.name = "hop.test";
    assert_true(meet(&contexts, &demand).is_resumed);
    tls_server_unref(others.server);
    others.server = contexts.server; /* a reload: another client */
    assert_false(meet(&others, &demand).is_resumed);
    tls_client_unref(others.client);
    contexts_close(&contexts);
}

TEST(tls_engine, a_session_belongs_to_the_records_that_it_was_judged_by)
{
    unsigned char digest[32];
    unsigned char whole[32];
    mbedtls_x509_crt certificate;
    struct tlsa key = {TLSA_DANE_EE, TLSA_KEY, TLSA_SHA256, {(char *)digest, 32}};
    struct tlsa all = {TLSA_DANE_EE, TLSA_CERTIFICATE, TLSA_SHA256, {(char *)whole, 32}};
    struct demand demand = {TLS_REQUIRED, "hop.test", SLICE("a"), 0, &key};
    struct contexts contexts;
    struct tls_facts facts;

    mbedtls_x509_crt_init(&certificate);
    assert_int_equal(mbedtls_x509_crt_parse_file(&certificate, certificates.certificate),
                     0);
    (void)mbedtls_sha256(certificate.pk_raw.p, certificate.pk_raw.len, digest, 0);
    (void)mbedtls_sha256(certificate.raw.p, certificate.raw.len, whole, 0);
    mbedtls_x509_crt_free(&certificate);
    contexts_open(&contexts);
    assert_false(meet(&contexts, &demand).is_resumed);
    facts = meet(&contexts, &demand);
    assert_true(facts.is_resumed);
    assert_int_equal(facts.dane, TLS_DANE_EE);
    demand.tlsa = &all; /* other records, which it fits too */
    facts = meet(&contexts, &demand);
    assert_false(facts.is_resumed);
    assert_int_equal(facts.dane, TLS_DANE_EE);
    demand.tlsa = NULL;
    assert_false(meet(&contexts, &demand).is_resumed);
    contexts_close(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls_engine, two_of_them_agree),
        RUN(tls_engine, a_step_without_input_waits),
        RUN(tls_engine, it_does_not_matter_how_the_input_is_cut),
        RUN(tls_engine, what_is_no_tls_fails_with_a_reason_and_an_alert),
        RUN(tls_engine, a_changed_handshake_fails_and_the_other_end_hears_of_it),
        RUN(tls_engine, the_level_decides_what_a_bad_certificate_means),
        RUN(tls_engine, a_certificate_that_fits_its_record_needs_no_authority),
        RUN(tls_engine, a_certificate_that_does_not_fit_its_record_fails_whoever_signed_it),
        RUN(tls_engine, without_authorities_nothing_is_verified),
        RUN(tls_engine, an_address_is_no_name),
        RUN(tls_engine, the_name_is_sent),
        RUN(tls_engine, a_name_that_is_too_long_fails_and_is_not_cut),
        RUN(tls_engine, data_of_many_records_goes_both_ways),
        RUN(tls_engine, a_small_buffer_gets_a_record_in_pieces),
        RUN(tls_engine, a_goodbye_ends_it_behind_the_data),
        RUN(tls_engine, without_a_handshake_there_is_no_goodbye),
        RUN(tls_engine, changed_data_is_not_given_out),
        RUN(tls_engine, a_record_that_is_sent_twice_is_not_read_twice),
        RUN(tls_engine, input_has_a_ceiling),
        RUN(tls_engine, freeing_nothing_is_fine),
        RUN(tls_engine, a_session_is_resumed_with_the_verdict_that_it_had),
        RUN(tls_engine, other_demands_another_way_another_hour_begin_anew),
        RUN(tls_engine, a_session_belongs_to_the_records_that_it_was_judged_by),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
