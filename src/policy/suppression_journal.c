/* A piece is believed when its end says so: then each of its lines was written by us. */
#include "suppression_journal.h"

#include <string.h>

static const uint64_t FNV_START = UINT64_C(0xcbf29ce484222325);
static const uint64_t FNV_PRIME = UINT64_C(0x100000001b3);

static const char *const sources[SUPPRESSION_SOURCES] = {
    [SUPPRESSION_COMMAND] = "command",
    [SUPPRESSION_BOUNCE] = "bounce",
};

const char *suppression_source_name(enum suppression_source source)
{
    return sources[source];
}

static uint64_t hash_of(uint64_t hash, struct slice bytes)
{
    for (size_t i = 0; i < bytes.length; i++)
        hash = (hash ^ (unsigned char)bytes.data[i]) * FNV_PRIME;
    return hash;
}

/* ---- writing ---- */

void suppression_piece_begin(struct suppression_piece *piece)
{
    *piece = (struct suppression_piece){FNV_START, 0};
}

/* "=" is no xtext, so it can stand for none. */
static enum result add_name(struct bytes *into, const char *name)
{
    enum result added = RESULT_OK;

    if (name[0])
        added = xtext_encode(slice_of(name), into);
    else
        added = bytes_add_text(into, "=");
    return added == RESULT_OK ? bytes_add_text(into, " ") : added;
}

static enum result add_line(struct bytes *into, const struct suppression_record *record)
{
    const struct suppression_entry *entry = &record->entry;
    enum result added;

    if (record->is_removal)
        added = bytes_add_text(into, "- ");
    else
        added = bytes_format(into, "+ %lld %lld %s ", (long long)entry->created_ms,
                             (long long)entry->expires_ms, sources[entry->source]);
    if (added == RESULT_OK)
        added = add_name(into, entry->tenant);
    if (added == RESULT_OK)
        added = add_name(into, entry->address);
    if (added == RESULT_OK && !record->is_removal)
        added = bytes_add_text(into, entry->reason);
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

enum result suppression_piece_add(struct suppression_piece *piece, struct bytes *into,
                                  const struct suppression_record *record)
{
    size_t before = into->length;
    enum result added = add_line(into, record);

    if (added != RESULT_OK) {
        into->length = before;
        return added;
    }
    piece->hash = hash_of(piece->hash, slice_from(bytes_view(into), before));
    piece->lines++;
    return RESULT_OK;
}

enum result suppression_piece_end(const struct suppression_piece *piece, struct bytes *into)
{
    return bytes_format(into, ". %llu %016llx\n", (unsigned long long)piece->lines,
                        (unsigned long long)piece->hash);
}

/* ---- a line ---- */

struct line { /* what a record looks at */
    char tenant[LIMIT_USER_NAME + 1];
    char address[SUPPRESSION_ADDRESS];
    char reason[SUPPRESSION_REASON + 1];
};

static bool is_clean(struct slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f)
            return false;
    return true;
}

static bool take_name(struct slice word, char *name, size_t name_bytes)
{
    struct bytes plain;
    bool is_taken;

    name[0] = '\0';
    if (slice_equal_text(word, "="))
        return true;
    bytes_init(&plain, name_bytes);
    is_taken = word.length > 0 && xtext_decode(word, &plain) == RESULT_OK &&
               plain.length > 0 && is_clean(bytes_view(&plain)) &&
               slice_copy_text(bytes_view(&plain), name, name_bytes);
    bytes_fini(&plain);
    return is_taken;
}

static bool take_time(struct slice word, int64_t *ms)
{
    uint64_t value;

    if (slice_to_u64(word, INT64_MAX / 1000, &value) != RESULT_OK)
        return false;
    *ms = (int64_t)value;
    return true;
}

static bool take_source(struct slice word, enum suppression_source *source)
{
    for (int i = 0; i < SUPPRESSION_SOURCES; i++) {
        *source = (enum suppression_source)i;
        if (slice_equal_text(word, sources[i]))
            return true;
    }
    return false;
}

static bool take_line(struct slice rest, struct line *line,
                      struct suppression_record *record)
{
    struct slice kind = slice_next_word(&rest);
    struct suppression_entry *entry = &record->entry;

    *record = (struct suppression_record){
        .entry = {line->tenant, line->address, line->reason, SUPPRESSION_COMMAND, 0, 0}};
    line->reason[0] = '\0';
    record->is_removal = slice_equal_text(kind, "-");
    if (!record->is_removal && (!slice_equal_text(kind, "+") ||
                                !take_time(slice_next_word(&rest), &entry->created_ms) ||
                                !take_time(slice_next_word(&rest), &entry->expires_ms) ||
                                !take_source(slice_next_word(&rest), &entry->source)))
        return false;
    if (!take_name(slice_next_word(&rest), line->tenant, sizeof line->tenant) ||
        !take_name(slice_next_word(&rest), line->address, sizeof line->address) ||
        !strchr(line->address, '@'))
        return false;
    rest = slice_trim(rest);
    if (record->is_removal)
        return rest.length == 0;
    return is_clean(rest) && slice_copy_text(rest, line->reason, sizeof line->reason);
}

/* ---- a piece ---- */

struct piece {
    struct slice lines; /* without its end */
    size_t bytes;       /* with it */
    uint64_t line_count;
    bool has_end;
    bool is_sound;
};

static bool is_end(struct slice line, const struct suppression_piece *sum)
{
    struct bytes wanted;
    bool is_it;

    bytes_init(&wanted, 64);
    is_it = sum->lines > 0 && suppression_piece_end(sum, &wanted) == RESULT_OK &&
            slice_equal(bytes_view(&wanted), line);
    bytes_fini(&wanted);
    return is_it;
}

/* Up to the next line that looks like an end. */
static struct piece find_piece(struct slice text)
{
    struct piece piece = {.lines = text, .bytes = text.length};
    struct suppression_piece sum;
    size_t at = 0;

    suppression_piece_begin(&sum);
    while (at < text.length) {
        struct slice rest = slice_from(text, at);
        size_t length = slice_find(rest, '\n');

        if (length == rest.length)
            break; /* torn */
        if (length > 1 && rest.data[0] == '.' && rest.data[1] == ' ') {
            piece.lines = slice_part(text, 0, at);
            piece.bytes = at + length + 1;
            piece.line_count = sum.lines;
            piece.has_end = true;
            piece.is_sound = is_end(slice_part(rest, 0, length + 1), &sum);
            return piece;
        }
        sum.hash = hash_of(sum.hash, slice_part(rest, 0, length + 1));
        sum.lines++;
        at += length + 1;
    }
    return piece;
}

static bool read_lines(struct slice lines, suppression_record_fn *each, void *owner)
{
    struct suppression_record record;
    struct line line;

    while (lines.length > 0) {
        size_t length = slice_find(lines, '\n');

        if (!take_line(slice_part(lines, 0, length), &line, &record))
            return false;
        if (each)
            each(owner, &record);
        lines = slice_from(lines, length + 1);
    }
    return true;
}

enum result suppression_pieces_read(struct slice text, suppression_record_fn *each,
                                    void *owner)
{
    while (text.length > 0) {
        struct piece piece = find_piece(text);

        if (!piece.is_sound || !read_lines(piece.lines, each, owner))
            return RESULT_CORRUPT;
        text = slice_from(text, piece.bytes);
    }
    return RESULT_OK;
}

enum result suppression_piece_join(struct suppression_piece *piece, struct bytes *into,
                                   struct slice other)
{
    struct piece joined = find_piece(other);
    enum result added = bytes_add(into, joined.lines);

    if (added != RESULT_OK)
        return added;
    piece->hash = hash_of(piece->hash, joined.lines);
    piece->lines += joined.line_count;
    return RESULT_OK;
}

/* ---- the file ---- */

/* The end says how many lines belong to it: are those sound, whatever stands in front? So a
 * damaged end does not hide the piece behind it. */
static bool has_sound_tail(const struct piece *piece, struct slice text)
{
    struct slice end =
        slice_part(text, piece->lines.length, piece->bytes - piece->lines.length);
    struct slice rest = slice_from(end, 2);
    struct suppression_piece sum;
    size_t at = piece->lines.length;
    uint64_t count = 0;

    if (slice_to_u64(slice_next_word(&rest), piece->line_count, &count) != RESULT_OK)
        return false;
    for (uint64_t left = count; left > 0 && at > 0; left--) {
        at--; /* the end of the line itself */
        while (at > 0 && piece->lines.data[at - 1] != '\n')
            at--;
    }
    suppression_piece_begin(&sum);
    sum.hash = hash_of(sum.hash, slice_from(piece->lines, at));
    sum.lines = count;
    return is_end(end, &sum);
}

/* A sound piece within or behind what is broken: the disk lost what it had promised to keep. */
static bool has_sound_piece(struct slice text)
{
    while (text.length > 0) {
        struct piece piece = find_piece(text);

        if (piece.is_sound || (piece.has_end && has_sound_tail(&piece, text)))
            return true;
        text = slice_from(text, piece.bytes);
    }
    return false;
}

/* A sound piece that cannot be understood comes from another version; nothing of it may be
 * taken. */
static bool read_piece(const struct piece *piece, suppression_record_fn *each, void *owner)
{
    return read_lines(piece->lines, NULL, NULL) && read_lines(piece->lines, each, owner);
}

static bool has_head(struct slice text)
{
    return slice_equal_text(slice_part(text, 0, sizeof SUPPRESSION_JOURNAL_HEAD - 1),
                            SUPPRESSION_JOURNAL_HEAD);
}

static bool is_zeros(struct slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] != '\0')
            return false;
    return true;
}

enum result suppression_journal_read(struct slice text, suppression_record_fn *each,
                                     void *owner, struct suppression_journal *journal,
                                     struct fault *fault)
{
    const struct slice head = SLICE(SUPPRESSION_JOURNAL_HEAD);

    *journal = (struct suppression_journal){0};
    /* Its very first writing was torn: that is of the head alone. */
    if ((text.length < head.length &&
         slice_equal(text, slice_part(head, 0, text.length))) ||
        (text.length <= head.length && is_zeros(text)))
        return RESULT_OK;
    if (is_zeros(text))
        return fault_set(fault, RESULT_CORRUPT,
                         "the disk lost what was in it: all of its %zu bytes are zero",
                         text.length);
    if (!has_head(text))
        return fault_set(fault, RESULT_CORRUPT, "it does not begin with \"%.*s\"",
                         (int)head.length - 1, head.data);
    journal->sound_bytes = head.length;
    while (journal->sound_bytes < text.length) {
        struct slice rest = slice_from(text, journal->sound_bytes);
        struct piece piece = find_piece(rest);

        if (!piece.is_sound && rest.length <= SUPPRESSION_APPEND_MAX &&
            !has_sound_piece(rest))
            return RESULT_OK;
        if (!piece.is_sound)
            return fault_set(fault, RESULT_CORRUPT,
                             "what stands from byte %zu on, behind entry %llu, is damaged",
                             journal->sound_bytes, (unsigned long long)journal->records);
        if (!read_piece(&piece, each, owner))
            return fault_set(fault, RESULT_CORRUPT,
                             "from byte %zu on there is a line of another version",
                             journal->sound_bytes);
        journal->sound_bytes += piece.bytes;
        journal->records += piece.line_count;
    }
    return RESULT_OK;
}
