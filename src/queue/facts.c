/* The flags decide how a message goes out (dots are stuffed, 8BITMIME is asked for): one that is
 * missing would change it on its way. */
#include "facts.h"

#include <string.h>

void facts_init(struct facts *facts, uint64_t header_bytes)
{
    memset(facts, 0, sizeof *facts);
    facts->header_bytes = header_bytes;
    facts->before = '\n'; /* a line begins */
}

static bool has_8bit(struct slice piece)
{
    uint64_t word;
    size_t at = 0;

    for (; at + sizeof word <= piece.length; at += sizeof word) {
        memcpy(&word, piece.data + at, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            return true;
    }
    for (; at < piece.length; at++)
        if ((unsigned char)piece.data[at] & 0x80)
            return true;
    return false;
}

static void note_tail(struct facts *facts, struct slice header)
{
    size_t count = header.length < sizeof facts->tail ? header.length : sizeof facts->tail;

    memmove(facts->tail, facts->tail + count, sizeof facts->tail - count);
    memcpy(facts->tail + sizeof facts->tail - count, header.data + header.length - count,
           count);
}

/* All in the header section, or all in the body. */
static void add_part(struct facts *facts, struct slice part, bool is_body)
{
    struct slice rest = part;

    while (rest.length > 0) {
        size_t length = slice_find(rest, '\n');
        bool is_over = length < rest.length;

        if (facts->before == '\n' && rest.data[0] == '.')
            facts->has_dot_line = true;
        length += is_over;
        facts->line_bytes += length;
        if (is_over && (length > 1 ? rest.data[length - 2] != '\r' : facts->before != '\r'))
            facts->has_bare_lf = true;
        if (is_body && facts->line_bytes > facts->longest_line)
            facts->longest_line = facts->line_bytes;
        if (is_over)
            facts->line_bytes = 0;
        facts->before = (unsigned char)rest.data[length - 1];
        rest = slice_from(rest, length);
    }
    facts->has_8bit = facts->has_8bit || has_8bit(part);
    facts->bytes += part.length;
}

void facts_add(struct facts *facts, struct slice piece)
{
    if (facts->bytes < facts->header_bytes) {
        uint64_t left = facts->header_bytes - facts->bytes;
        struct slice header =
            slice_part(piece, 0, left < piece.length ? (size_t)left : piece.length);

        note_tail(facts, header);
        add_part(facts, header, false);
        piece = slice_from(piece, header.length);
    }
    if (piece.length > 0)
        add_part(facts, piece, true);
}

static bool ends_header(const struct facts *facts)
{
    return facts->header_bytes == 2 ? memcmp(facts->tail + 2, "\r\n", 2) == 0
                                    : memcmp(facts->tail, "\r\n\r\n", 4) == 0;
}

size_t facts_compare(const struct facts *facts, const struct envelope *envelope,
                     struct facts_quarrel quarrels[FACTS_QUARRELS])
{
    size_t count = 0;

    if (!ends_header(facts))
        quarrels[count++] = (struct facts_quarrel){
            "header-end", "the header section does not end with an empty line"};
    if (facts->has_bare_lf || facts->line_bytes > 0)
        quarrels[count++] =
            (struct facts_quarrel){"line-end", "a line does not end in CRLF"};
    if (facts->has_8bit && !envelope->has_8bit)
        quarrels[count++] = (struct facts_quarrel){
            "flag-8bit", "a byte is above 127, and has_8bit is not set"};
    if (facts->has_dot_line && !envelope->has_dot_line)
        quarrels[count++] = (struct facts_quarrel){
            "flag-dot-line", "a line begins with a dot, and has_dot_line is not set"};
    if (facts->longest_line > envelope->longest_line)
        quarrels[count++] =
            (struct facts_quarrel){"longest-line", "a line is longer than the longest one"};
    return count;
}
