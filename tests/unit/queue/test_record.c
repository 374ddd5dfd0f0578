/* Stored records: every field comes back, the form on disk stays as it is (a queue outlives
 * the program that wrote it), and nothing but that form is read. */
#include "record.h"

#include "record_samples.h"

/* ---- what comes back ---- */

TEST(record, every_field_of_an_envelope_comes_back)
{
    const struct envelope written = {
        .id = 99,
        .sender = "s@b.test",
        .envid = "QQ+2B",
        .user = "alice",
        .tenant = "acme",
        .session = "k3",
        .origin = "00c0ffee00c0ffee/aaaaaaaaaaaab",
        .pool = "newsletters",
        .dsn_return = RETURN_HEADERS,
        .body_type = BODY_8BITMIME,
        .smtputf8 = true,
        .priority = -9,
        .arrival_ms = 1760000000123,
        .header_bytes = 412,
        .body_bytes = (UINT64_C(1) << 40) + 3,
        .has_8bit = true,
        .has_dot_line = true,
        .longest_line = 4000000000U,
        .is_streamed = true,
    };
    struct bytes record = envelope_record(&written);
    struct envelope read;
    uint32_t group_count = 0;

    assert_int_equal(record_decode_envelope(bytes_view(&record), 77, &read, &group_count),
                     RESULT_OK);
    assert_int_equal(read.id, 77); /* of the key; the record has none */
    assert_int_equal(group_count, 2);
    assert_string_equal(read.sender, "s@b.test");
    assert_string_equal(read.envid, "QQ+2B");
    assert_string_equal(read.user, "alice");
    assert_string_equal(read.tenant, "acme");
    assert_string_equal(read.session, "k3");
    assert_string_equal(read.origin, "00c0ffee00c0ffee/aaaaaaaaaaaab");
    assert_string_equal(read.pool, "newsletters");
    assert_int_equal(read.dsn_return, RETURN_HEADERS);
    assert_int_equal(read.body_type, BODY_8BITMIME);
    assert_int_equal(read.priority, -9);
    assert_int_equal(read.arrival_ms, 1760000000123);
    assert_int_equal(read.header_bytes, 412);
    assert_true(read.body_bytes == (UINT64_C(1) << 40) + 3);
    assert_int_equal(read.longest_line, 4000000000U);
    assert_true(read.smtputf8 && read.has_8bit && read.has_dot_line && read.is_streamed);
    bytes_fini(&record);
}

TEST(record, each_flag_of_an_envelope_stands_alone)
{
    for (int bit = 0; bit < 5; bit++) {
        struct envelope written = plain_envelope();
        struct bytes record;
        struct envelope read;
        uint32_t group_count;

        written.smtputf8 = bit == 0;
        written.has_8bit = bit == 1;
        written.has_dot_line = bit == 2;
        written.is_streamed = bit == 3;
        written.body_type = bit == 4 ? BODY_8BITMIME : BODY_7BIT;
        record = envelope_record(&written);
        assert_int_equal(
            record_decode_envelope(bytes_view(&record), 1, &read, &group_count), RESULT_OK);
        assert_int_equal(read.smtputf8, bit == 0);
        assert_int_equal(read.has_8bit, bit == 1);
        assert_int_equal(read.has_dot_line, bit == 2);
        assert_int_equal(read.is_streamed, bit == 3);
        assert_int_equal(read.body_type, bit == 4 ? BODY_8BITMIME : BODY_7BIT);
        assert_int_equal(read.dsn_return, RETURN_UNSPECIFIED);
        bytes_fini(&record);
    }
}

TEST(record, what_a_message_says_of_tls_comes_back_and_nothing_else_is_taken)
{
    for (int wish = TLS_WISH_NONE; wish < TLS_WISH_COUNT; wish++) {
        struct envelope written = plain_envelope();
        struct bytes record;
        struct envelope read;
        uint32_t group_count;

        written.tls_wish = (enum tls_wish)wish;
        record = envelope_record(&written);
        assert_int_equal(
            record_decode_envelope(bytes_view(&record), 1, &read, &group_count), RESULT_OK);
        assert_int_equal(read.tls_wish, wish);
        record.data[record.length - 1] = TLS_WISH_COUNT;
        assert_int_equal(
            record_decode_envelope(bytes_view(&record), 1, &read, &group_count),
            RESULT_CORRUPT);
        bytes_fini(&record);
    }
}

TEST(record, no_text_and_an_empty_text_are_two_things)
{
    struct envelope written = plain_envelope();
    struct bytes record;
    struct envelope read;
    uint32_t group_count;

    written.sender = ""; /* the null sender */
    written.envid = "";
    record = envelope_record(&written);
    assert_int_equal(record_decode_envelope(bytes_view(&record), 1, &read, &group_count),
                     RESULT_OK);
    assert_string_equal(read.sender, "");
    assert_string_equal(read.envid, "");
    assert_null(read.user);
    assert_null(read.tenant);
    assert_null(read.session);
    assert_null(read.origin);
    bytes_fini(&record);
}

TEST(record, an_envelope_of_the_first_version_is_read_and_written_anew_as_the_newest)
{
    static const char first[] = "\x01"
                                "e"
                                "\0\0"
                                "\x0a\0\0\0"
                                "\x02\0\0\0"
                                "\x39\x30\0\0\0\0\0\0"
                                "\x04\0\0\0\0\0\0\0"
                                "\x06\0\0\0\0\0\0\0"
                                "\x03\0a@b\0"
                                "\xff\xff\xff\xff\xff\xff"
                                "\x02\0k3\0";
    struct slice record = {first, sizeof first - 1};
    struct envelope read;
    uint32_t group_count = 0;
    struct bytes again;

    assert_int_equal(record_decode_envelope(record, 9, &read, &group_count), RESULT_OK);
    assert_int_equal(group_count, 2);
    assert_string_equal(read.session, "k3");
    assert_null(read.origin);
    again = envelope_record(&read);
    assert_null(read.pool);
    assert_int_equal(again.data[0], 3);
    assert_int_equal(again.length, record.length + 5); /* no origin, no pool, no wish */
    assert_memory_equal(again.data + 1, first + 1, record.length - 1);
    bytes_fini(&again);
}

TEST(record, every_field_of_a_group_comes_back)
{
    struct recipient written_to[] = {
        {.address = "c@d.test", .orcpt = "rfc822;c+2Bx@d.test", .notify = NOTIFY_NEVER},
        {.address = "e@d.test", .notify = NOTIFY_SUCCESS | NOTIFY_DELAY},
    };
    const struct group written = {
        .lane = "route:inside",
        .next_attempt_ms = 1760000000001,
        .not_before_ms = 1760000000002,
        .last_attempt_ms = 1760000000003,
        .attempts = 4000000000U,
        .is_held = true,
        .delay_notified = true,
        .recipient_count = 2,
        .recipients = written_to,
        .last_code = 452,
        .last_status = "4.2.2",
        .last_text = "mailbox full",
        .last_host = "mx.d.test",
    };
    struct bytes record = group_record(&written);
    struct recipient read_to[LIMIT_GROUP_RECIPIENTS];
    struct group read;

    assert_int_equal(record_decode_group(bytes_view(&record), 9, &read, read_to),
                     RESULT_OK);
    assert_int_equal(read.number, 9); /* of the key */
    assert_ptr_equal(read.recipients, read_to);
    assert_string_equal(read.lane, "route:inside");
    assert_int_equal(read.next_attempt_ms, 1760000000001);
    assert_int_equal(read.not_before_ms, 1760000000002);
    assert_int_equal(read.last_attempt_ms, 1760000000003);
    assert_int_equal(read.attempts, 4000000000U);
    assert_true(read.is_held && read.delay_notified);
    assert_int_equal(read.last_code, 452);
    assert_string_equal(read.last_status, "4.2.2");
    assert_string_equal(read.last_text, "mailbox full");
    assert_string_equal(read.last_host, "mx.d.test");
    assert_int_equal(read.recipient_count, 2);
    assert_string_equal(read_to[0].address, "c@d.test");
    assert_string_equal(read_to[0].orcpt, "rfc822;c+2Bx@d.test");
    assert_int_equal(read_to[0].notify, NOTIFY_NEVER);
    assert_string_equal(read_to[1].address, "e@d.test");
    assert_null(read_to[1].orcpt);
    assert_int_equal(read_to[1].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    bytes_fini(&record);
}

TEST(record, held_and_delay_notified_are_two_flags)
{
    for (int bit = 0; bit < 2; bit++) {
        struct group written = plain_group();
        struct recipient read_to[LIMIT_GROUP_RECIPIENTS];
        struct group read;
        struct bytes record;

        written.is_held = bit == 0;
        written.delay_notified = bit == 1;
        record = group_record(&written);
        assert_int_equal(record_decode_group(bytes_view(&record), 0, &read, read_to),
                         RESULT_OK);
        assert_int_equal(read.is_held, bit == 0);
        assert_int_equal(read.delay_notified, bit == 1);
        bytes_fini(&record);
    }
}

TEST(record, texts_of_a_result_point_into_the_record)
{
    struct group written = plain_group();
    struct bytes record = group_record(&written);
    struct recipient read_to[LIMIT_GROUP_RECIPIENTS];
    struct group read;

    assert_int_equal(record_decode_group(bytes_view(&record), 0, &read, read_to),
                     RESULT_OK);
    assert_true(read.lane >= record.data && read.lane < record.data + record.length);
    assert_true(read_to[0].address >= record.data &&
                read_to[0].address < record.data + record.length);
    bytes_fini(&record);
}

/* ---- the form on disk ---- */

TEST(record, the_form_of_an_envelope_is_this_one)
{
    static const char expected[] = "\x03"
                                   "e"
                                   "\x41" /* RET=HDRS, SMTPUTF8 */
                                   "\x05"
                                   "\xe8\x03\0\0"             /* longest line */
                                   "\x02\0\0\0"               /* groups */
                                   "\x39\x30\0\0\0\0\0\0"     /* arrival */
                                   "\x04\x03\x02\x01\0\0\0\0" /* header */
                                   "\x06\0\0\0\0\0\0\0"       /* body */
                                   "\x03\0a@b\0"
                                   "\x01\0x\0"
                                   "\xff\xff"
                                   "\0\0\0"
                                   "\xff\xff"
                                   "\x03\0q/i\0"
                                   "\x04\0bulk\0"
                                   "\x01"; /* REQUIRETLS */
    struct envelope envelope = {.sender = "a@b",
                                .envid = "x",
                                .tenant = "",
                                .origin = "q/i",
                                .pool = "bulk",
                                .dsn_return = RETURN_HEADERS,
                                .smtputf8 = true,
                                .tls_wish = TLS_WISH_REQUIRED,
                                .priority = 5,
                                .arrival_ms = 12345,
                                .header_bytes = 0x01020304,
                                .body_bytes = 6,
                                .longest_line = 1000};
    struct bytes record = envelope_record(&envelope);

    assert_int_equal(record.length, sizeof expected - 1);
    assert_memory_equal(record.data, expected, sizeof expected - 1);
    bytes_fini(&record);
}

TEST(record, the_form_of_a_group_is_this_one)
{
    static const char expected[] = "\x01"
                                   "g"
                                   "\x03\0"
                                   "\x02\0\0\0"           /* attempts */
                                   "\x01\x01\0\0\0\0\0\0" /* next */
                                   "\x02\0\0\0\0\0\0\0"   /* not before */
                                   "\x03\0\0\0\0\0\0\0"   /* last attempt */
                                   "\xc4\x01"             /* 452 */
                                   "\x01\0"
                                   "\x01\0d\0"
                                   "\x05\0"
                                   "4.2.2\0"
                                   "\0\0\0"
                                   "\x01\0h\0"
                                   "\x08"
                                   "\x03\0c@d\0"
                                   "\xff\xff";
    struct recipient to = {.address = "c@d", .notify = NOTIFY_DELAY};
    struct group group = {.lane = "d",
                          .next_attempt_ms = 257,
                          .not_before_ms = 2,
                          .last_attempt_ms = 3,
                          .attempts = 2,
                          .is_held = true,
                          .delay_notified = true,
                          .recipient_count = 1,
                          .recipients = &to,
                          .last_code = 452,
                          .last_status = "4.2.2",
                          .last_text = "",
                          .last_host = "h"};
    struct bytes record = group_record(&group);

    assert_int_equal(record.length, sizeof expected - 1);
    assert_memory_equal(record.data, expected, sizeof expected - 1);
    bytes_fini(&record);
}

TEST(record, encoding_appends_to_what_is_there)
{
    struct envelope envelope = plain_envelope();
    struct bytes record;

    bytes_init(&record, 2 * RECORD_MAX);
    assert_int_equal(bytes_add_text(&record, "before"), RESULT_OK);
    assert_int_equal(record_encode_envelope(&envelope, 1, &record), RESULT_OK);
    assert_memory_equal(record.data,
                        "before\x03"
                        "e",
                        8);
    assert_int_equal(decode_envelope(slice_from(bytes_view(&record), 6)), RESULT_OK);
    bytes_fini(&record);
}

/* ---- limits ---- */

TEST(record, what_does_not_fit_into_one_page_is_too_large_and_nothing_is_added)
{
    static char text[LONG_TEXT + 1];
    struct envelope envelope = plain_envelope();
    struct bytes record;
    size_t fits = RECORD_MAX - (size_t)(ENVELOPE_FIXED + 3 + 6 * 2 + 1);

    bytes_init(&record, 2 * RECORD_MAX);
    memset(text, 'x', fits);
    envelope.sender = text;
    assert_int_equal(record_encode_envelope(&envelope, 1, &record), RESULT_OK);
    assert_int_equal(record.length, RECORD_MAX);
    assert_int_equal(decode_envelope(bytes_view(&record)), RESULT_OK);
    bytes_clear(&record);
    text[fits] = 'x';
    assert_int_equal(record_encode_envelope(&envelope, 1, &record), RESULT_TOO_LARGE);
    assert_int_equal(record.length, 0);
    memset(text, 'x', LONG_TEXT);
    assert_int_equal(record_encode_envelope(&envelope, 1, &record), RESULT_TOO_LARGE);
    assert_int_equal(record.length, 0);
    bytes_fini(&record);
}

TEST(record, a_group_has_one_to_a_hundred_recipients)
{
    struct group group = plain_group();
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    for (size_t i = 0; i <= LIMIT_GROUP_RECIPIENTS; i++)
        recipients[i] = (struct recipient){.address = "c@d.test"};
    group.recipient_count = 0;
    assert_int_equal(record_encode_group(&group, &record), RESULT_TOO_LARGE);
    group.recipient_count = LIMIT_GROUP_RECIPIENTS + 1;
    assert_int_equal(record_encode_group(&group, &record), RESULT_TOO_LARGE);
    assert_int_equal(record.length, 0);
    group.recipient_count = LIMIT_GROUP_RECIPIENTS;
    assert_int_equal(record_encode_group(&group, &record), RESULT_OK);
    assert_int_equal(decode_group(bytes_view(&record)), RESULT_OK);
    refuses(&record, GROUP_FIXED - 2, 0);   /* recipient_count */
    refuses(&record, GROUP_FIXED - 2, 101); /* and so is one more than are there */
    bytes_fini(&record);
}

TEST(record, a_recipient_costs_what_it_adds_to_its_group)
{
    struct group group = plain_group();
    struct bytes record = group_record(&group);
    size_t before = record.length;

    for (int with_orcpt = 0; with_orcpt < 2; with_orcpt++) {
        size_t cost;

        recipients[1] = (struct recipient){.address = "someone@d.test",
                                           .orcpt = with_orcpt ? "rfc822;x@y.test" : NULL};
        group.recipient_count = 2;
        bytes_clear(&record);
        assert_int_equal(record_encode_group(&group, &record), RESULT_OK);
        cost = record.length - before;
        /* No less than that, or a group outgrows its limit; a byte of an ORCPT apart. */
        assert_in_range(record_recipient_bytes(&recipients[1]), cost, cost + 1);
    }
    bytes_fini(&record);
}

/* ---- what is refused ---- */

TEST(record, an_unknown_version_or_the_other_kind_is_refused)
{
    struct envelope envelope = plain_envelope();
    struct group group = plain_group();
    struct bytes first = envelope_record(&envelope);
    struct bytes second = group_record(&group);

    assert_int_equal(decode_group(bytes_view(&first)), RESULT_CORRUPT);
    assert_int_equal(decode_envelope(bytes_view(&second)), RESULT_CORRUPT);
    refuses(&first, 0, 0);
    refuses(&first, 0, 1); /* it has no origin: bytes are left over */
    refuses(&first, 0, 2); /* nor a pool and a wish */
    refuses(&first, 0, 4);
    refuses(&second, 0, 0);
    refuses(&second, 0, 2);
    bytes_fini(&first);
    bytes_fini(&second);
}

TEST(record, flags_that_nobody_wrote_are_refused)
{
    struct envelope envelope = plain_envelope();
    struct group group = plain_group();
    struct bytes first = envelope_record(&envelope);
    struct bytes second = group_record(&group);

    refuses(&first, 2, 3 << 5); /* there is no third RET */
    refuses(&first, 2, 1 << 7);
    for (int bit = 2; bit < 8; bit++)
        refuses(&second, 2, 1 << bit);
    refuses(&second, 3, 1); /* always 0 */
    bytes_fini(&first);
    bytes_fini(&second);
}

TEST(record, times_and_sizes_that_could_overflow_a_sum_are_refused)
{
    struct envelope envelope = plain_envelope();
    struct group group = plain_group();
    struct bytes first = envelope_record(&envelope);
    struct bytes second = group_record(&group);

    refuses(&first, 12 + 6, 1 << 5); /* arrival: 2^53 */
    refuses(&first, 12 + 7, 0x80);   /* negative */
    refuses(&first, 20 + 6, 1);      /* header_bytes: 2^48 */
    refuses(&first, 28 + 6, 1);      /* body_bytes */
    for (size_t at = 8; at < 32; at += 8) {
        refuses(&second, at + 6, 1 << 5);
        refuses(&second, at + 7, 0x80);
    }
    bytes_fini(&first);
    bytes_fini(&second);
}

TEST(record, a_text_must_end_where_its_length_says)
{
    struct envelope envelope = plain_envelope();
    struct bytes record = envelope_record(&envelope);
    size_t length = strlen(envelope.sender);

    refuses(&record, ENVELOPE_FIXED, (int)length - 1);  /* the NUL comes later */
    refuses(&record, ENVELOPE_FIXED, (int)length + 1);  /* and earlier */
    refuses(&record, ENVELOPE_FIXED + 2 + 1, 0);        /* a NUL inside */
    refuses(&record, ENVELOPE_FIXED + 2 + length, 'x'); /* none */
    refuses(&record, ENVELOPE_FIXED + 1, 0x7f);         /* beyond the record */
    bytes_fini(&record);
}

TEST(record, a_sender_a_lane_and_an_address_must_be_there)
{
    struct envelope envelope = plain_envelope();
    struct group group = plain_group();
    struct bytes record = envelope_record(&envelope);
    size_t address = GROUP_FIXED + 2 + strlen(group.lane) + 1 + 3 * 3 + 1;

    remake_text(&record, ENVELOPE_FIXED, NULL);
    assert_int_equal(decode_envelope(bytes_view(&record)), RESULT_CORRUPT);
    bytes_fini(&record);
    record = group_record(&group);
    remake_text(&record, GROUP_FIXED, NULL);
    assert_int_equal(decode_group(bytes_view(&record)), RESULT_CORRUPT);
    bytes_fini(&record);
    record = group_record(&group);
    remake_text(&record, address, "e@f.test");
    assert_int_equal(decode_group(bytes_view(&record)), RESULT_OK);
    remake_text(&record, address, "");
    assert_int_equal(decode_group(bytes_view(&record)), RESULT_CORRUPT);
    bytes_fini(&record);
}

TEST(record, a_lane_longer_than_its_buffers_is_refused)
{
    char lane[LANE_TEXT + 1];
    struct group group = plain_group();
    struct bytes record;

    memset(lane, 'l', sizeof lane);
    lane[LANE_TEXT - 1] = 0;
    group.lane = lane;
    record = group_record(&group);
    assert_int_equal(decode_group(bytes_view(&record)), RESULT_OK);
    lane[LANE_TEXT - 1] = 'l';
    lane[LANE_TEXT] = 0;
    remake_text(&record, GROUP_FIXED, lane);
    assert_int_equal(decode_group(bytes_view(&record)), RESULT_CORRUPT);
    bytes_fini(&record);
}

TEST(record, every_shorter_record_and_a_longer_one_is_refused)
{
    struct envelope envelope = plain_envelope();
    struct group group = plain_group();
    struct bytes first = envelope_record(&envelope);
    struct bytes second = group_record(&group);

    for (size_t length = 0; length < first.length; length++)
        assert_int_equal(decode_envelope((struct slice){first.data, length}),
                         RESULT_CORRUPT);
    for (size_t length = 0; length < second.length; length++)
        assert_int_equal(decode_group((struct slice){second.data, length}), RESULT_CORRUPT);
    assert_int_equal(bytes_add(&first, SLICE("\0")), RESULT_OK);
    assert_int_equal(bytes_add(&second, SLICE("\0")), RESULT_OK);
    assert_int_equal(decode_envelope(bytes_view(&first)), RESULT_CORRUPT);
    assert_int_equal(decode_group(bytes_view(&second)), RESULT_CORRUPT);
    bytes_fini(&first);
    bytes_fini(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(record, every_field_of_an_envelope_comes_back),
        RUN(record, each_flag_of_an_envelope_stands_alone),
        RUN(record, what_a_message_says_of_tls_comes_back_and_nothing_else_is_taken),
        RUN(record, no_text_and_an_empty_text_are_two_things),
        RUN(record,
            an_envelope_of_the_first_version_is_read_and_written_anew_as_the_newest),
        RUN(record, every_field_of_a_group_comes_back),
        RUN(record, held_and_delay_notified_are_two_flags),
        RUN(record, texts_of_a_result_point_into_the_record),
        RUN(record, the_form_of_an_envelope_is_this_one),
        RUN(record, the_form_of_a_group_is_this_one),
        RUN(record, encoding_appends_to_what_is_there),
        RUN(record, what_does_not_fit_into_one_page_is_too_large_and_nothing_is_added),
        RUN(record, a_group_has_one_to_a_hundred_recipients),
        RUN(record, a_recipient_costs_what_it_adds_to_its_group),
        RUN(record, an_unknown_version_or_the_other_kind_is_refused),
        RUN(record, flags_that_nobody_wrote_are_refused),
        RUN(record, times_and_sizes_that_could_overflow_a_sum_are_refused),
        RUN(record, a_text_must_end_where_its_length_says),
        RUN(record, a_sender_a_lane_and_an_address_must_be_there),
        RUN(record, a_lane_longer_than_its_buffers_is_refused),
        RUN(record, every_shorter_record_and_a_longer_one_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
