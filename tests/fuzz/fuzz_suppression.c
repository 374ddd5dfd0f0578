/* The journal of the suppression list against any bytes: what is taken is written and read again
 * as it was. The sums are put right, or hardly any input would come so far. */
#include "policy/suppression_journal.h"
#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
    struct suppression_piece piece;
    struct bytes text;
    uint64_t hash; /* of all that was told */
    uint64_t count;
};

static void mix(struct again *again, const char *text)
{
    for (; *text; text++)
        again->hash = (again->hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    again->hash = (again->hash ^ '|') * UINT64_C(0x100000001b3);
}

static void note(void *owner, const struct suppression_record *record)
{
    struct again *again = owner;
    const struct suppression_entry *entry = &record->entry;

    CHECK(strlen(entry->reason) <= SUPPRESSION_REASON && strchr(entry->address, '@'));
    CHECK(entry->created_ms >= 0 && entry->expires_ms >= 0);
    mix(again, entry->tenant);
    mix(again, entry->address);
    mix(again, entry->reason);
    again->count++;
    if (again->text.ceiling > 0)
        CHECK(suppression_piece_add(&again->piece, &again->text, record) == RESULT_OK);
}

/* Head, the given lines, an end that fits them. */
static void put_right(struct bytes *text, const uint8_t *data, size_t size)
{
    struct suppression_piece piece;

    suppression_piece_begin(&piece);
    CHECK(bytes_add_text(text, SUPPRESSION_JOURNAL_HEAD) == RESULT_OK);
    CHECK(bytes_add(text, (struct slice){(const char *)data, size}) == RESULT_OK);
    for (size_t i = 0; i < size; i++) {
        piece.hash = (piece.hash ^ data[i]) * UINT64_C(0x100000001b3);
        piece.lines += data[i] == '\n';
    }
    CHECK(suppression_piece_end(&piece, text) == RESULT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct suppression_journal journal;
    struct again again = {0};
    struct again second = {0};
    struct again nothing = {0};
    struct bytes text;
    struct fault fault;
    enum result result = suppression_journal_read((struct slice){(const char *)data, size},
                                                  note, &nothing, &journal, &fault);

    CHECK(result == RESULT_OK || result == RESULT_CORRUPT);
    CHECK(journal.sound_bytes <= size && journal.records <= nothing.count);
    bytes_init(&text, size + 4096);
    bytes_init(&again.text, 4 * size + 65536);
    suppression_piece_begin(&again.piece);
    put_right(&text, data, size);
    result = suppression_journal_read(bytes_view(&text), note, &again, &journal, &fault);
    if (result == RESULT_OK && again.count > 0) {
        CHECK(suppression_piece_end(&again.piece, &again.text) == RESULT_OK);
        CHECK(suppression_pieces_read(bytes_view(&again.text), note, &second) == RESULT_OK);
        CHECK(second.hash == again.hash && second.count == again.count);
    }
    bytes_fini(&text);
    bytes_fini(&again.text);
    return 0;
}
