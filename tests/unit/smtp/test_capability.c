/* EHLO keywords: what other servers write, also the odd ones, and our own offer. */
#include "smtpd/smtp/capability.h"

#include "test.h"

#include <string.h>

static struct capabilities read_line(const char *line)
{
    struct capabilities capabilities = {0};

    capability_read(&capabilities, slice_of(line));
    return capabilities;
}

static void check_only(const char *line, const struct capabilities *expected)
{
    struct capabilities read = read_line(line);

    assert_int_equal(read.pipelining, expected->pipelining);
    assert_int_equal(read.size, expected->size);
    assert_true(read.size_limit == expected->size_limit);
    assert_int_equal(read.eightbitmime, expected->eightbitmime);
    assert_int_equal(read.smtputf8, expected->smtputf8);
    assert_int_equal(read.requiretls, expected->requiretls);
    assert_int_equal(read.enhancedstatuscodes, expected->enhancedstatuscodes);
    assert_int_equal(read.dsn, expected->dsn);
    assert_int_equal(read.chunking, expected->chunking);
    assert_int_equal(read.starttls, expected->starttls);
    assert_int_equal(read.auth, expected->auth);
    assert_int_equal(read.auth_plain, expected->auth_plain);
    assert_int_equal(read.auth_login, expected->auth_login);
}

TEST(read, sets_what_a_line_names_and_nothing_else)
{
    check_only("PIPELINING", &(struct capabilities){.pipelining = true});
    check_only("8bitmime", &(struct capabilities){.eightbitmime = true});
    check_only("RequireTLS", &(struct capabilities){.requiretls = true});
    check_only("SmtpUtf8", &(struct capabilities){.smtputf8 = true});
    check_only("ENHANCEDSTATUSCODES", &(struct capabilities){.enhancedstatuscodes = true});
    check_only("DSN", &(struct capabilities){.dsn = true});
    check_only("CHUNKING", &(struct capabilities){.chunking = true});
    check_only("STARTTLS", &(struct capabilities){.starttls = true});
}

TEST(read, ignores_what_it_does_not_know)
{
    check_only("", &(struct capabilities){0});
    check_only("BINARYMIME", &(struct capabilities){0});
    check_only("X-DSN", &(struct capabilities){0});
    check_only("DSNX", &(struct capabilities){0});
    check_only("XCLIENT DSN SIZE 5 AUTH PLAIN", &(struct capabilities){0});
    capability_read(&(struct capabilities){0}, SLICE_NONE);
}

TEST(read, takes_a_size_and_forgives_a_bad_one)
{
    check_only("SIZE 52428800",
               &(struct capabilities){.size = true, .size_limit = 52428800});
    check_only("size", &(struct capabilities){.size = true});
    check_only("SIZE 0", &(struct capabilities){.size = true});
    check_only("SIZE many", &(struct capabilities){.size = true});
    check_only("SIZE 18446744073709551616", &(struct capabilities){.size = true});
    check_only("SIZE 18446744073709551615",
               &(struct capabilities){.size = true, .size_limit = UINT64_MAX});
}

TEST(read, takes_the_mechanisms_of_auth_in_both_spellings)
{
    struct capabilities both = {.auth = true, .auth_plain = true, .auth_login = true};

    check_only("AUTH PLAIN LOGIN", &both);
    check_only("auth  cram-md5\tlogin plain", &both);
    check_only("AUTH=LOGIN PLAIN", &both);
    check_only("auth=plain login", &both);
    check_only("AUTH", &(struct capabilities){.auth = true});
    check_only("AUTH=", &(struct capabilities){.auth = true});
    check_only("AUTH PLAINER", &(struct capabilities){.auth = true});
    check_only("AUTH PLAIN", &(struct capabilities){.auth = true, .auth_plain = true});
}

TEST(read, adds_up_over_the_lines)
{
    struct capabilities capabilities = {0};

    capability_read(&capabilities, SLICE("AUTH PLAIN"));
    capability_read(&capabilities, SLICE("AUTH=LOGIN"));
    capability_read(&capabilities, SLICE("SIZE 10"));
    capability_read(&capabilities, SLICE("DSN"));
    assert_true(capabilities.auth_plain && capabilities.auth_login && capabilities.dsn);
    assert_true(capabilities.size_limit == 10);
}

static void check_offer(const struct capabilities *ours, const char *expected)
{
    struct bytes into;

    bytes_init(&into, 4096);
    assert_int_equal(capability_offer(&into, "mx.example", "client.example", ours),
                     RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into), expected));
    bytes_fini(&into);
}

TEST(offer, greets_in_ascii_whatever_the_client_calls_itself)
{
    struct capabilities ours = {0};
    struct bytes into;

    bytes_init(&into, 4096);
    assert_int_equal(capability_offer(&into, "mx.example", "b\303\274ro\377", &ours),
                     RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into), "250 mx.example greets b??ro?\r\n"));
    bytes_fini(&into);
}

TEST(offer, is_one_reply_with_a_line_for_each_capability)
{
    struct capabilities ours = {.pipelining = true,
                                .size = true,
                                .size_limit = 26214400,
                                .eightbitmime = true,
                                .smtputf8 = true,
                                .enhancedstatuscodes = true,
                                .dsn = true,
                                .chunking = true,
                                .starttls = true,
                                .auth = true,
                                .auth_plain = true,
                                .auth_login = true};

    check_offer(&ours, "250-mx.example greets client.example\r\n"
                       "250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n"
                       "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n"
                       "250-CHUNKING\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n");
}

TEST(offer, leaves_out_what_we_have_not)
{
    check_offer(&(struct capabilities){0}, "250 mx.example greets client.example\r\n");
    check_offer(&(struct capabilities){.auth = true, .auth_login = true},
                "250-mx.example greets client.example\r\n250 AUTH LOGIN\r\n");
    /* Mechanisms without AUTH are not offered: there is no TLS yet. */
    check_offer(&(struct capabilities){.auth_plain = true, .dsn = true},
                "250-mx.example greets client.example\r\n250 DSN\r\n");
}

TEST(offer, stays_one_reply_whatever_the_client_is_called)
{
    struct capabilities ours = {.dsn = true};
    struct bytes into;

    bytes_init(&into, 4096);
    assert_int_equal(capability_offer(&into, "mx.example", "a\r\n250 AUTH\033", &ours),
                     RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into),
                                 "250-mx.example greets a??250 AUTH?\r\n250 DSN\r\n"));
    bytes_fini(&into);
}

TEST(offer, says_when_there_is_no_room)
{
    struct capabilities ours = {.dsn = true};
    struct bytes into;

    bytes_init(&into, 40);
    assert_int_equal(capability_offer(&into, "mx.example", "client.example", &ours),
                     RESULT_TOO_LARGE);
    bytes_fini(&into);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(read, sets_what_a_line_names_and_nothing_else),
        RUN(read, ignores_what_it_does_not_know),
        RUN(read, takes_a_size_and_forgives_a_bad_one),
        RUN(read, takes_the_mechanisms_of_auth_in_both_spellings),
        RUN(read, adds_up_over_the_lines),
        RUN(offer, greets_in_ascii_whatever_the_client_calls_itself),
        RUN(offer, is_one_reply_with_a_line_for_each_capability),
        RUN(offer, leaves_out_what_we_have_not),
        RUN(offer, stays_one_reply_whatever_the_client_is_called),
        RUN(offer, says_when_there_is_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
