/* TLS contexts, and what a handshake with them says of the peer. */
#include "secured_pair.h"

TEST(tls, a_key_of_another_certificate_and_a_missing_file_are_named)
{
    struct fault fault;

    assert_null(server_with(certificates.certificate, certificates.other_key, &fault));
    assert_non_null(strstr(fault.text, certificates.other_key));
    assert_null(server_with("/nowhere/x.crt", certificates.key, &fault));
    assert_non_null(strstr(fault.text, "/nowhere/x.crt"));
}

TEST(tls, the_expiry_of_a_certificate_is_known)
{
    struct fault fault;
    struct tls_server *server =
        server_with(certificates.certificate, certificates.key, &fault);
    int64_t left_ms = tls_server_expires_ms(server) - loop_wall_us() / 1000;

    assert_true(left_ms > INT64_C(29) * 86400000 && left_ms < INT64_C(31) * 86400000);
    tls_server_unref(server);
}

TEST(tls, both_ways_with_much_data)
{
    struct tls_pair both;
    enum { BYTES = 3 << 20 };
    char *block = memory_new(BYTES);

    secure_init();
    secure_random(block, BYTES);
    open_both(&both, NULL);
    secure_both(&both, TLS_OPPORTUNISTIC, "hop.test");
    PAIR_UNTIL(&both.pair, both.pair.server.secured == 1);
    (void)stream_write(both.pair.client.stream, (struct slice){block, BYTES});
    (void)stream_write(both.pair.server.stream, (struct slice){block, BYTES});
    PAIR_UNTIL(&both.pair, both.pair.server.got.length == BYTES &&
                               both.pair.client.got.length == BYTES);
    assert_memory_equal(both.pair.server.got.data, block, BYTES);
    assert_memory_equal(both.pair.client.got.data, block, BYTES);
    assert_string_equal(stream_tls(both.pair.client.stream)->version, "TLSv1.3");
    memory_free(block);
    close_both(&both);
}

TEST(tls, the_verdict_is_computed_whatever_the_level)
{
    struct tls_pair both;

    open_both(&both, certificates.certificate);
    secure_both(&both, TLS_OPPORTUNISTIC, "hop.test");
    assert_true(stream_tls(both.pair.client.stream)->is_verified);
    close_both(&both);
    open_both(&both, certificates.other_certificate);
    secure_both(&both, TLS_REQUIRED, "hop.test");
    assert_int_equal(both.pair.client.fault.code, RESULT_OK);
    assert_false(stream_tls(both.pair.client.stream)->is_verified);
    assert_true(stream_tls(both.pair.client.stream)->verify_text[0] != '\0');
    close_both(&both);
}

TEST(tls, verified_wants_the_right_name_from_the_right_authority)
{
    static const struct {
        const char *name;
        bool knows_authority;
        enum result expected;
    } cases[] = {{"hop.test", true, RESULT_OK},
                 {"other.test", true, RESULT_UNTRUSTED},
                 {"hop.test", false, RESULT_UNTRUSTED},
                 {"127.0.0.1", true, RESULT_UNTRUSTED}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tls_pair both;

        open_both(&both, cases[i].knows_authority ? certificates.certificate
                                                  : certificates.other_certificate);
        secure_both(&both, TLS_VERIFIED, cases[i].name);
        assert_int_equal(both.pair.client.fault.code, cases[i].expected);
        close_both(&both);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls, a_key_of_another_certificate_and_a_missing_file_are_named),
        RUN(tls, the_expiry_of_a_certificate_is_known),
        RUN(tls, both_ways_with_much_data),
        RUN(tls, the_verdict_is_computed_whatever_the_level),
        RUN(tls, verified_wants_the_right_name_from_the_right_authority),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
