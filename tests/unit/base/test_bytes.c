/* Slices, buffers, base64. */
#include "smtpd/base/bytes.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <string.h>

static void assert_slice(struct slice slice, const char *expected)
{
    assert_int_equal(slice.length, strlen(expected));
    assert_true(slice_equal_text(slice, expected));
}

/* ---- slices ---- */

TEST(slice, equality_is_of_bytes_and_folding_is_of_ascii_letters_only)
{
    assert_true(slice_equal(SLICE("abc"), SLICE("abc")));
    assert_false(slice_equal(SLICE("abc"), SLICE("ABC")));
    assert_false(slice_equal(SLICE("abc"), SLICE("abcd")));
    assert_true(slice_equal_fold(SLICE("aBc"), SLICE("AbC")));
    assert_false(slice_equal_fold(SLICE("a[c"), SLICE("a{c")));
    assert_false(slice_equal_fold(SLICE("a@c"), SLICE("a`c")));
    assert_false(slice_equal_fold(SLICE("\xc4"), SLICE("\xe4")));
    assert_true(slice_equal(SLICE_NONE, SLICE("")));
    assert_true(slice_equal_text(SLICE_NONE, NULL));
}

TEST(slice, starts_and_ends_fold_and_never_look_outside)
{
    assert_true(slice_starts_fold(SLICE("MAIL FROM:<a>"), "mail from:"));
    assert_false(slice_starts_fold(SLICE("MAI"), "mail"));
    assert_true(slice_ends_fold(SLICE("x.Example.COM"), ".example.com"));
    assert_false(slice_ends_fold(SLICE("om"), ".com"));
    assert_true(slice_starts_fold(SLICE_NONE, ""));
    assert_true(slice_ends_fold(SLICE_NONE, ""));
    assert_false(slice_ends_fold(SLICE_NONE, "x"));
}

TEST(slice, parts_beyond_the_end_are_cut_to_it)
{
    assert_slice(slice_from(SLICE("abcdef"), 2), "cdef");
    assert_slice(slice_from(SLICE("abc"), 9), "");
    assert_slice(slice_part(SLICE("abcdef"), 1, 3), "bcd");
    assert_slice(slice_part(SLICE("abc"), 1, SIZE_MAX), "bc");
    assert_slice(slice_part(SLICE("abc"), 3, 1), "");
}

TEST(slice, trimming_takes_blanks_and_tabs_at_both_ends)
{
    assert_slice(slice_trim(SLICE(" \t a b\t ")), "a b");
    assert_slice(slice_trim(SLICE(" \t ")), "");
    assert_slice(slice_trim(SLICE_NONE), "");
}

TEST(slice, eight_bits_are_seen_wherever_they_stand)
{
    assert_false(slice_has_8bit(SLICE_NONE));
    assert_false(slice_has_8bit(SLICE("a\x7f\x01")));
    assert_true(slice_has_8bit(SLICE("\x80"
                                     "bc")));
    assert_true(slice_has_8bit(SLICE("ab\xff")));
    assert_false(slice_has_8bit(slice_part(SLICE("ab\xff"), 0, 2)));
}

TEST(slice, a_byte_is_found_at_its_first_place_or_at_the_end)
{
    assert_int_equal(slice_find(SLICE("a@b@c"), '@'), 1);
    assert_int_equal(slice_find(SLICE("abc"), '@'), 3);
    assert_int_equal(slice_find(SLICE_NONE, '@'), 0);
}

TEST(slice, words_come_one_by_one_and_then_empty)
{
    struct slice rest = SLICE("  SIZE=1\tBODY=8BITMIME ");

    assert_slice(slice_next_word(&rest), "SIZE=1");
    assert_slice(slice_next_word(&rest), "BODY=8BITMIME");
    assert_slice(slice_next_word(&rest), "");
    assert_slice(slice_next_word(&rest), "");
}

TEST(slice, a_number_is_digits_only_and_at_most_the_most)
{
    uint64_t value = 1;

    assert_int_equal(slice_to_u64(SLICE("0"), 10, &value), RESULT_OK);
    assert_int_equal(value, 0);
    assert_int_equal(slice_to_u64(SLICE("18446744073709551615"), UINT64_MAX, &value),
                     RESULT_OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(slice_to_u64(SLICE("18446744073709551616"), UINT64_MAX, &value),
                     RESULT_TOO_LARGE);
    assert_int_equal(slice_to_u64(SLICE("99999999999999999999999"), UINT64_MAX, &value),
                     RESULT_TOO_LARGE);
    assert_int_equal(slice_to_u64(SLICE("5"), 4, &value), RESULT_TOO_LARGE);
    assert_int_equal(slice_to_u64(SLICE("4"), 4, &value), RESULT_OK);
    assert_int_equal(slice_to_u64(SLICE("11"), 10, &value), RESULT_TOO_LARGE);
    assert_int_equal(slice_to_u64(SLICE(""), 4, &value), RESULT_INVALID);
    assert_int_equal(slice_to_u64(SLICE("-1"), 4, &value), RESULT_INVALID);
    assert_int_equal(slice_to_u64(SLICE("+1"), 4, &value), RESULT_INVALID);
    assert_int_equal(slice_to_u64(SLICE(" 1"), 4, &value), RESULT_INVALID);
    assert_int_equal(slice_to_u64(SLICE("99999999999999999999999x"), 4, &value),
                     RESULT_INVALID);
}

TEST(slice, a_text_copy_must_fit_with_its_nul_and_hold_none)
{
    char into[4] = "xxx";

    assert_true(slice_copy_text(SLICE("abc"), into, sizeof into));
    assert_string_equal(into, "abc");
    assert_false(slice_copy_text(SLICE("abcd"), into, sizeof into));
    assert_string_equal(into, "");
    assert_false(slice_copy_text(SLICE("a\0b"), into, sizeof into));
    assert_string_equal(into, "");
    assert_true(slice_copy_text(SLICE_NONE, into, sizeof into));
    assert_string_equal(into, "");
}

TEST(slice, a_text_on_the_heap_ends_with_a_nul)
{
    char *text = slice_to_text(slice_part(SLICE("abcdef"), 0, 3));

    assert_string_equal(text, "abc");
    memory_free(text);
}

/* ---- buffers ---- */

TEST(bytes, a_buffer_grows_to_its_ceiling_and_not_past_it)
{
    struct bytes bytes;

    bytes_init(&bytes, 1000);
    for (int i = 0; i < 100; i++)
        assert_int_equal(bytes_add_text(&bytes, "0123456789"), RESULT_OK);
    assert_int_equal(bytes.length, 1000);
    assert_int_equal(bytes_add_text(&bytes, "x"), RESULT_TOO_LARGE);
    assert_int_equal(bytes.length, 1000);
    assert_int_equal(bytes_add_text(&bytes, ""), RESULT_OK);
    assert_true(bytes.capacity <= 1000);
    bytes_fini(&bytes);
}

TEST(bytes, a_call_that_does_not_fit_changes_nothing)
{
    struct bytes bytes;

    bytes_init(&bytes, 8);
    assert_int_equal(bytes_add_text(&bytes, "abcd"), RESULT_OK);
    assert_int_equal(bytes_add_text(&bytes, "efghi"), RESULT_TOO_LARGE);
    assert_int_equal(bytes_format(&bytes, "%05d", 1), RESULT_TOO_LARGE);
    assert_int_equal(bytes_add_base64(&bytes, SLICE("wxyz")), RESULT_TOO_LARGE);
    assert_int_equal(bytes_add_base64_decoded(&bytes, SLICE("d3h5ejEy")), RESULT_TOO_LARGE);
    assert_null(bytes_reserve(&bytes, 5));
    assert_null(bytes_reserve(&bytes, SIZE_MAX));
    assert_slice(bytes_view(&bytes), "abcd");
    bytes_fini(&bytes);
}

TEST(bytes, what_fits_exactly_fits)
{
    struct bytes bytes;

    bytes_init(&bytes, 600);
    assert_int_equal(bytes_format(&bytes, "%0600d", 0), RESULT_OK);
    bytes_fini(&bytes);
    bytes_init(&bytes, 4);
    assert_int_equal(bytes_format(&bytes, "%s", "abcd"), RESULT_OK);
    bytes_clear(&bytes);
    assert_int_equal(bytes_add_base64(&bytes, SLICE("a")), RESULT_OK);
    assert_slice(bytes_view(&bytes), "YQ==");
    bytes_clear(&bytes);
    assert_int_equal(bytes_add_base64_decoded(&bytes, SLICE("YWJjZA==")), RESULT_OK);
    assert_slice(bytes_view(&bytes), "abcd");
    bytes_fini(&bytes);
}

TEST(bytes, a_buffer_without_room_takes_nothing)
{
    struct bytes bytes;

    bytes_init(&bytes, 0);
    assert_int_equal(bytes_add_text(&bytes, "x"), RESULT_TOO_LARGE);
    assert_int_equal(bytes_add(&bytes, SLICE_NONE), RESULT_OK);
    assert_non_null(bytes_view(&bytes).data);
    bytes_fini(&bytes);
}

TEST(bytes, formats_short_and_long)
{
    struct bytes bytes;

    bytes_init(&bytes, 2000);
    assert_int_equal(bytes_format(&bytes, "%d-%s;", 7, "x"), RESULT_OK);
    assert_int_equal(bytes_format(&bytes, "%01000d", 9), RESULT_OK);
    assert_int_equal(bytes.length, 1004);
    assert_slice(slice_part(bytes_view(&bytes), 0, 6), "7-x;00");
    assert_slice(slice_from(bytes_view(&bytes), 1002), "09");
    bytes_fini(&bytes);
}

TEST(bytes, the_front_can_be_dropped)
{
    struct bytes bytes;

    bytes_init(&bytes, 100);
    assert_int_equal(bytes_add_text(&bytes, "one\ntwo"), RESULT_OK);
    bytes_drop_front(&bytes, 4);
    assert_slice(bytes_view(&bytes), "two");
    bytes_drop_front(&bytes, 99);
    assert_slice(bytes_view(&bytes), "");
    bytes_fini(&bytes);
}

TEST(bytes, clearing_keeps_the_memory_and_releasing_gives_it_back)
{
    struct bytes bytes;

    bytes_init(&bytes, 100);
    assert_int_equal(bytes_add_text(&bytes, "abc"), RESULT_OK);
    bytes_clear(&bytes);
    assert_int_equal(bytes.length, 0);
    assert_non_null(bytes.data);
    bytes_release(&bytes);
    assert_null(bytes.data);
    assert_int_equal(bytes.ceiling, 100);
    assert_int_equal(bytes_add_text(&bytes, "abc"), RESULT_OK);
    bytes_fini(&bytes);
}

TEST(bytes, reserved_room_can_be_written)
{
    struct bytes bytes;
    char *room;

    bytes_init(&bytes, 5000);
    assert_int_equal(bytes_add_text(&bytes, "abc"), RESULT_OK);
    room = bytes_reserve(&bytes, 4997);
    assert_non_null(room);
    memset(room, 'x', 4997);
    bytes.length += 4997;
    assert_slice(slice_part(bytes_view(&bytes), 0, 4), "abcx");
    bytes_fini(&bytes);
}

/* ---- base64 ---- */

TEST(base64, the_vectors_of_rfc_4648)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"},
                                           {"\xfb\xff", "+/8="}};
    struct bytes bytes;

    bytes_init(&bytes, 100);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        bytes_clear(&bytes);
        assert_int_equal(bytes_add_base64(&bytes, slice_of(pairs[i][0])), RESULT_OK);
        assert_slice(bytes_view(&bytes), pairs[i][1]);
        bytes_clear(&bytes);
        assert_int_equal(bytes_add_base64_decoded(&bytes, slice_of(pairs[i][1])),
                         RESULT_OK);
        assert_slice(bytes_view(&bytes), pairs[i][0]);
    }
    bytes_fini(&bytes);
}

TEST(base64, what_no_encoder_writes_is_refused_and_adds_nothing)
{
    static const char *const bad[] = {"Zg",   "Zg=",  "Zg==Zg==", "Z===", "====",
                                      "=",    "Zh==", "Zm9=",     "Zm 9", "Zm9v\r\n",
                                      "Zm-_", "*",    "Z=g="};
    struct bytes bytes;

    bytes_init(&bytes, 100);
    assert_int_equal(bytes_add_text(&bytes, "kept"), RESULT_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(bytes_add_base64_decoded(&bytes, slice_of(bad[i])),
                         RESULT_INVALID);
        assert_slice(bytes_view(&bytes), "kept");
    }
    bytes_fini(&bytes);
}

TEST(slice, a_copied_start_ends_behind_a_whole_character)
{
    static const struct {
        const char *from;
        const char *start; /* in 5 bytes with the NUL */
    } rows[] = {{"", ""},
                {"abcd", "abcd"},
                {"abcde", "abcd"},
                {"abc\xc3\xa9", "abc"},
                {"ab\xc3\xa9z", "ab\xc3\xa9"},
                {"abc\xe2\x82\xac", "abc"},
                {"a\xf0\x9f\x93\xa7", "a"},
                {"\xf0\x9f\x93\xa7z", "\xf0\x9f\x93\xa7"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char into[5];

        slice_copy_start(slice_of(rows[i].from), into, sizeof into);
        assert_string_equal(into, rows[i].start);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(slice, equality_is_of_bytes_and_folding_is_of_ascii_letters_only),
        RUN(slice, starts_and_ends_fold_and_never_look_outside),
        RUN(slice, parts_beyond_the_end_are_cut_to_it),
        RUN(slice, trimming_takes_blanks_and_tabs_at_both_ends),
        RUN(slice, eight_bits_are_seen_wherever_they_stand),
        RUN(slice, a_byte_is_found_at_its_first_place_or_at_the_end),
        RUN(slice, words_come_one_by_one_and_then_empty),
        RUN(slice, a_number_is_digits_only_and_at_most_the_most),
        RUN(slice, a_text_copy_must_fit_with_its_nul_and_hold_none),
        RUN(slice, a_copied_start_ends_behind_a_whole_character),
        RUN(slice, a_text_on_the_heap_ends_with_a_nul),
        RUN(bytes, a_buffer_grows_to_its_ceiling_and_not_past_it),
        RUN(bytes, a_call_that_does_not_fit_changes_nothing),
        RUN(bytes, what_fits_exactly_fits),
        RUN(bytes, a_buffer_without_room_takes_nothing),
        RUN(bytes, formats_short_and_long),
        RUN(bytes, the_front_can_be_dropped),
        RUN(bytes, clearing_keeps_the_memory_and_releasing_gives_it_back),
        RUN(bytes, reserved_room_can_be_written),
        RUN(base64, the_vectors_of_rfc_4648),
        RUN(base64, what_no_encoder_writes_is_refused_and_adds_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
