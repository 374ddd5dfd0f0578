/* The journal of the suppression list: what is written reads back; a torn end is cut, a damaged
 * middle is told. */
#include "suppression_journal.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 20 };

struct seen {
    char lines[32][700];
    size_t count;
};

static void note(void *owner, const struct suppression_record *record)
{
    struct seen *seen = owner;
    const struct suppression_entry *entry = &record->entry;

    assert_true(seen->count < 32);
    (void)snprintf(seen->lines[seen->count++], 700, "%c|%s|%s|%s|%s|%lld|%lld",
                   record->is_removal ? '-' : '+', entry->tenant, entry->address,
                   suppression_source_name(entry->source), entry->reason,
                   (long long)entry->created_ms, (long long)entry->expires_ms);
}

static void add_piece(struct bytes *text, const struct suppression_record *records,
                      size_t count)
{
    struct suppression_piece piece;

    suppression_piece_begin(&piece);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(suppression_piece_add(&piece, text, &records[i]), RESULT_OK);
    assert_int_equal(suppression_piece_end(&piece, text), RESULT_OK);
}

static const struct suppression_record samples[] = {
    {false, {"", "bob@example.com", "asked to be left alone", SUPPRESSION_COMMAND, 17, 0}},
    {false, {"red team+1=x", "@example.net", "", SUPPRESSION_BOUNCE, 18, 99}},
    {false,
     {"", "\"a b\"@\xc3\xa9.example", "550 5.1.1 n\xc3\xb6", SUPPRESSION_BOUNCE, 19, 0}},
    {true, {"", "bob@example.com", "", SUPPRESSION_COMMAND, 0, 0}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

/* Two pieces: the first three, and the last. */
static void write_samples(struct bytes *text)
{
    bytes_init(text, MOST);
    assert_int_equal(bytes_add_text(text, SUPPRESSION_JOURNAL_HEAD), RESULT_OK);
    add_piece(text, samples, SAMPLES - 1);
    add_piece(text, samples + SAMPLES - 1, 1);
}

static enum result read_text(struct slice text, struct seen *seen,
                             struct suppression_journal *journal, struct fault *fault)
{
    memset(seen, 0, sizeof *seen);
    return suppression_journal_read(text, note, seen, journal, fault);
}

static void reads_what_was_written(void **state)
{
    struct suppression_journal journal;
    struct fault fault;
    struct bytes text;
    struct seen seen;

    (void)state;
    write_samples(&text);
    assert_int_equal(read_text(bytes_view(&text), &seen, &journal, &fault), RESULT_OK);
    assert_int_equal(journal.records, SAMPLES);
    assert_int_equal(journal.sound_bytes, text.length);
    assert_string_equal(seen.lines[0],
                        "+||bob@example.com|command|asked to be left alone|17|0");
    assert_string_equal(seen.lines[1], "+|red team+1=x|@example.net|bounce||18|99");
    assert_string_equal(seen.lines[2],
                        "+||\"a b\"@\xc3\xa9.example|bounce|550 5.1.1 n\xc3\xb6|19|0");
    assert_string_equal(seen.lines[3], "-||bob@example.com|command||0|0");
    bytes_fini(&text);
}

/* Wherever it was cut: all whole pieces, and nothing of a torn one. */
static void cuts_a_torn_end(void **state)
{
    struct suppression_journal journal;
    struct fault fault;
    struct bytes text;
    struct seen seen;
    size_t head = sizeof SUPPRESSION_JOURNAL_HEAD - 1;
    size_t first = 0;

    (void)state;
    write_samples(&text);
    for (size_t i = 0, ends = 0; ends < 1; i++)
        if (text.data[i] == '.' && text.data[i - 1] == '\n') {
            first = i + slice_find(slice_from(bytes_view(&text), i), '\n') + 1;
            ends++;
        }
    for (size_t length = 0; length < text.length; length++) {
        size_t sound = length < head ? 0 : length < first ? head : first;

        assert_int_equal(
            read_text(slice_part(bytes_view(&text), 0, length), &seen, &journal, &fault),
            RESULT_OK);
        assert_int_equal(journal.sound_bytes, sound);
        assert_int_equal(seen.count, sound == first ? SAMPLES - 1 : 0);
    }
    bytes_fini(&text);
}

/* Each byte of the first piece, its end too: the second one says that it was whole once. */
static void tells_a_damaged_middle(void **state)
{
    struct suppression_journal journal;
    struct fault fault;
    struct bytes text;
    struct seen seen;
    size_t head = sizeof SUPPRESSION_JOURNAL_HEAD - 1;
    size_t end = 0;

    (void)state;
    write_samples(&text);
    while (text.data[end] != '.' || text.data[end - 1] != '\n')
        end++;
    end += slice_find(slice_from(bytes_view(&text), end), '\n');
    for (size_t at = head; at < end; at++) {
        text.data[at] ^= 1;
        assert_int_equal(read_text(bytes_view(&text), &seen, &journal, &fault),
                         RESULT_CORRUPT);
        assert_non_null(strstr(fault.text, "byte 20"));
        text.data[at] ^= 1;
    }
    bytes_fini(&text);
}

static void refuses_what_is_another_file(void **state)
{
    struct suppression_journal journal;
    struct fault fault;
    struct seen seen;

    (void)state;
    assert_int_equal(read_text(SLICE("smtpd-limits 1\n"), &seen, &journal, &fault),
                     RESULT_CORRUPT);
    assert_int_equal(read_text(SLICE("smtpd-suppression 2\n"), &seen, &journal, &fault),
                     RESULT_CORRUPT);
    assert_non_null(strstr(fault.text, "smtpd-suppression 1"));
    assert_int_equal(read_text(SLICE(""), &seen, &journal, &fault), RESULT_OK);
}

/* What is written together is one piece: of it all is there, or nothing. */
static void joins_pieces_to_one(void **state)
{
    struct suppression_journal journal;
    struct suppression_piece piece;
    struct bytes joined, one, wanted;
    struct fault fault;
    struct seen seen;

    (void)state;
    bytes_init(&joined, MOST);
    bytes_init(&one, MOST);
    bytes_init(&wanted, MOST);
    add_piece(&wanted, samples, SAMPLES);
    suppression_piece_begin(&piece);
    add_piece(&one, samples, SAMPLES - 1);
    assert_int_equal(suppression_piece_join(&piece, &joined, bytes_view(&one)), RESULT_OK);
    bytes_clear(&one);
    add_piece(&one, samples + SAMPLES - 1, 1);
    assert_int_equal(suppression_piece_join(&piece, &joined, bytes_view(&one)), RESULT_OK);
    assert_int_equal(suppression_piece_end(&piece, &joined), RESULT_OK);
    assert_true(slice_equal(bytes_view(&joined), bytes_view(&wanted)));
    /* The disk kept its end, and lost its beginning. */
    bytes_clear(&one);
    assert_int_equal(bytes_add_text(&one, SUPPRESSION_JOURNAL_HEAD), RESULT_OK);
    assert_int_equal(bytes_add(&one, bytes_view(&joined)), RESULT_OK);
    memset(one.data + sizeof SUPPRESSION_JOURNAL_HEAD - 1, 0, 20);
    assert_int_equal(read_text(bytes_view(&one), &seen, &journal, &fault), RESULT_OK);
    assert_int_equal(seen.count, 0);
    assert_int_equal(journal.sound_bytes, sizeof SUPPRESSION_JOURNAL_HEAD - 1);
    bytes_fini(&joined);
    bytes_fini(&one);
    bytes_fini(&wanted);
}

/* The head is synced alone; what is longer was there, and the disk lost it. */
static void zeros_alone_are_no_empty_list(void **state)
{
    enum { HEAD = sizeof SUPPRESSION_JOURNAL_HEAD - 1 };
    static const char zeros[5000];
    struct suppression_journal journal;
    struct fault fault;
    struct seen seen;

    (void)state;
    for (size_t length = 0; length < sizeof zeros; length += length <= HEAD ? 1 : 97) {
        enum result result =
            read_text((struct slice){zeros, length}, &seen, &journal, &fault);

        assert_int_equal(result, length <= HEAD ? RESULT_OK : RESULT_CORRUPT);
        assert_int_equal(journal.sound_bytes, 0);
    }
    assert_non_null(strstr(fault.text, "bytes are zero"));
    assert_int_equal(read_text(SLICE("\0\0x"), &seen, &journal, &fault), RESULT_CORRUPT);
}

/* No more than what is synced together can be torn. */
static void a_torn_end_has_a_limit(void **state)
{
    struct suppression_journal journal;
    struct fault fault;
    struct seen seen;
    struct bytes text;
    size_t sound;
    char *file;

    (void)state;
    bytes_init(&text, MOST);
    assert_int_equal(bytes_add_text(&text, SUPPRESSION_JOURNAL_HEAD), RESULT_OK);
    add_piece(&text, samples, SAMPLES);
    sound = text.length;
    file = calloc(1, sound + SUPPRESSION_APPEND_MAX + 1);
    assert_non_null(file);
    memcpy(file, text.data, sound);
    assert_int_equal(read_text((struct slice){file, sound + SUPPRESSION_APPEND_MAX}, &seen,
                               &journal, &fault),
                     RESULT_OK);
    assert_int_equal(seen.count, SAMPLES);
    assert_int_equal(journal.sound_bytes, sound);
    assert_int_equal(read_text((struct slice){file, sound + SUPPRESSION_APPEND_MAX + 1},
                               &seen, &journal, &fault),
                     RESULT_CORRUPT);
    assert_non_null(strstr(fault.text, "is damaged"));
    free(file);
    bytes_fini(&text);
}

/* With a sum that fits, so only the line itself is judged. */
static void is_strict_with_lines(void **state)
{
    static const char *const lines[] = {"",
                                        "* 1 0 command = a@b",
                                        "+ 1 0 letter = a@b",
                                        "+ x 0 command = a@b",
                                        "+ 1 -1 command = a@b",
                                        "+ 1 99999999999999999999 command = a@b",
                                        "+ 1 0 command = ab",
                                        "+ 1 0 command = =",
                                        "+ 1 0 command a=b a@b",
                                        "+ 1 0 command +0A a@b",
                                        "+ 1 0 command = a@b a\x01",
                                        "- = a@b more",
                                        "-"};
    struct suppression_journal journal;
    struct fault fault;
    struct seen seen;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct suppression_piece piece = {UINT64_C(0xcbf29ce484222325), 1};
        struct bytes text;

        bytes_init(&text, MOST);
        assert_int_equal(bytes_format(&text, "%s%s\n", SUPPRESSION_JOURNAL_HEAD, lines[i]),
                         RESULT_OK);
        for (size_t at = sizeof SUPPRESSION_JOURNAL_HEAD - 1; at < text.length; at++)
            piece.hash =
                (piece.hash ^ (unsigned char)text.data[at]) * UINT64_C(0x100000001b3);
        assert_int_equal(suppression_piece_end(&piece, &text), RESULT_OK);
        assert_int_equal(read_text(bytes_view(&text), &seen, &journal, &fault),
                         RESULT_CORRUPT);
        assert_int_equal(seen.count, 0);
        bytes_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(cuts_a_torn_end),
        cmocka_unit_test(tells_a_damaged_middle),
        cmocka_unit_test(refuses_what_is_another_file),
        cmocka_unit_test(joins_pieces_to_one),
        cmocka_unit_test(zeros_alone_are_no_empty_list),
        cmocka_unit_test(a_torn_end_has_a_limit),
        cmocka_unit_test(is_strict_with_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
