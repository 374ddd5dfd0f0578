/* Aho-Corasick over the pieces of all patterns. A pattern fits when its pieces are found in
 * their order, each behind the one before: of each piece the first place is taken, which leaves
 * the most room for the next ones. */
#include "pattern.h"

#include "smtpd/base/memory.h"

#include <string.h>

struct node { /* of the tree of pieces; 0 is the root */
    uint32_t child;
    uint32_t sibling;
    uint32_t fail;  /* the longest end of it that begins a piece too */
    uint32_t ends;  /* the next of those that is a whole piece */
    uint32_t piece; /* that ends here: index + 1 */
    unsigned char byte;
};

struct piece {
    uint32_t pattern;
    uint32_t same; /* the next one with this text: index + 1 */
    uint8_t place; /* in its pattern */
    uint8_t length;
    bool is_first; /* it must begin the text */
    bool is_last;  /* it must end it */
    bool is_final; /* of its pattern */
};

struct pattern_set {
    struct node *nodes;
    size_t node_count;
    struct piece *pieces;
    size_t piece_count;
    size_t count;
    uint32_t first[256]; /* children of the root: most bytes of a text begin no piece */
};

struct progress { /* of a pattern in a text */
    uint8_t place;
    uint16_t end;
};

static unsigned char fold(char byte)
{
    unsigned char folded = (unsigned char)byte;

    if (folded >= 'A' && folded <= 'Z')
        return (unsigned char)(folded + ('a' - 'A'));
    return folded == '\t' ? ' ' : folded;
}

/* In small letters, each run of blanks as one. */
static size_t normalise(struct slice text, unsigned char *into, size_t into_bytes)
{
    size_t length = 0;

    for (size_t i = 0; i < text.length && length < into_bytes; i++) {
        unsigned char byte = fold(text.data[i]);

        if (byte != ' ' || length == 0 || into[length - 1] != ' ')
            into[length++] = byte;
    }
    return length;
}

static size_t count_pieces(const unsigned char *text, size_t length)
{
    size_t count = 0;

    for (size_t i = 0; i < length; i++)
        count += text[i] != '*' && (i == 0 || text[i - 1] == '*');
    return count;
}

const char *pattern_complaint(struct slice text)
{
    size_t count;

    if (text.length == 0)
        return "an empty pattern fits everything: leave it out";
    if (text.length > PATTERN_BYTES_MAX)
        return "a pattern has at most 200 bytes";
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f)
            return "a pattern has no control characters: a reply is one line of text";
    count = count_pieces((const unsigned char *)text.data, text.length);
    if (count == 0)
        return "a pattern of stars alone fits everything: leave it out";
    if (count > PATTERN_PIECES_MAX)
        return "a pattern has at most 8 pieces between its stars";
    return NULL;
}

/* ---- building ---- */

static uint32_t find_child(const struct pattern_set *set, uint32_t at, unsigned char byte)
{
    uint32_t child = at ? set->nodes[at].child : set->first[byte];

    while (child && set->nodes[child].byte != byte)
        child = set->nodes[child].sibling;
    return child;
}

static uint32_t add_child(struct pattern_set *set, uint32_t at, unsigned char byte)
{
    uint32_t child = find_child(set, at, byte);

    if (child)
        return child;
    child = (uint32_t)set->node_count++;
    set->nodes[child].byte = byte;
    if (at) {
        set->nodes[child].sibling = set->nodes[at].child;
        set->nodes[at].child = child;
    } else {
        set->first[byte] = child;
    }
    return child;
}

static struct piece *add_piece(struct pattern_set *set, const unsigned char *text,
                               size_t length)
{
    struct piece *piece = &set->pieces[set->piece_count++];
    uint32_t at = 0;

    for (size_t i = 0; i < length; i++)
        at = add_child(set, at, text[i]);
    piece->length = (uint8_t)length;
    piece->same = set->nodes[at].piece;
    set->nodes[at].piece = (uint32_t)set->piece_count;
    return piece;
}

static void add_pattern(struct pattern_set *set, const struct pattern *pattern,
                        uint32_t number)
{
    unsigned char text[PATTERN_BYTES_MAX];
    size_t length = normalise(slice_of(pattern->text), text, sizeof text);
    bool is_whole = pattern->kind == PATTERN_WHOLE;
    struct piece *piece = NULL;
    uint8_t place = 0;
    size_t end;

    for (size_t at = 0; at < length; at = end + 1) {
        for (end = at; end < length && text[end] != '*'; end++)
            ;
        if (end == at)
            continue;
        piece = add_piece(set, text + at, end - at);
        piece->pattern = number;
        piece->place = place++;
        piece->is_first = is_whole && at == 0;
        piece->is_last = is_whole && end == length;
    }
    if (piece)
        piece->is_final = true;
}

static void link_node(struct pattern_set *set, uint32_t parent, uint32_t child)
{
    uint32_t fail = parent ? set->nodes[parent].fail : 0;
    unsigned char byte = set->nodes[child].byte;
    uint32_t found = parent ? find_child(set, fail, byte) : 0;

    while (parent && !found && fail) {
        fail = set->nodes[fail].fail;
        found = find_child(set, fail, byte);
    }
    set->nodes[child].fail = found;
    set->nodes[child].ends = set->nodes[found].piece ? found : set->nodes[found].ends;
}

/* By breadth: what a node falls back to is shorter, and done before it. */
static void link_all(struct pattern_set *set)
{
    uint32_t *turn = NEW_ARRAY(uint32_t, set->node_count);
    size_t turns = 0;

    for (size_t byte = 0; byte < 256; byte++) {
        if (!set->first[byte])
            continue;
        link_node(set, 0, set->first[byte]);
        turn[turns++] = set->first[byte];
    }
    for (size_t i = 0; i < turns; i++) {
        for (uint32_t child = set->nodes[turn[i]].child; child;
             child = set->nodes[child].sibling) {
            link_node(set, turn[i], child);
            turn[turns++] = child;
        }
    }
    memory_free(turn);
}

struct pattern_set *pattern_set_new(const struct pattern *patterns, size_t count)
{
    struct pattern_set *set;
    size_t bytes = 1;
    size_t pieces = 0;

    if (count > PATTERNS_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct slice text = slice_of(patterns[i].text);

        if (pattern_complaint(text))
            return NULL;
        bytes += text.length;
        pieces += count_pieces((const unsigned char *)text.data, text.length);
    }
    set = NEW(struct pattern_set);
    set->nodes = NEW_ARRAY(struct node, bytes);
    set->pieces = NEW_ARRAY(struct piece, pieces + 1);
    set->node_count = 1;
    set->count = count;
    for (size_t i = 0; i < count; i++)
        add_pattern(set, &patterns[i], (uint32_t)i);
    link_all(set);
    return set;
}

void pattern_set_free(struct pattern_set *set)
{
    if (!set)
        return;
    memory_free(set->nodes);
    memory_free(set->pieces);
    memory_free(set);
}

/* ---- matching ---- */

static void note_piece(const struct piece *piece, size_t end, size_t length,
                       struct progress *progress, bool *hits)
{
    struct progress *of = &progress[piece->pattern];
    size_t start = end - piece->length;

    if (hits[piece->pattern] || piece->place != of->place || start < of->end ||
        (piece->is_first && start != 0) || (piece->is_last && end != length))
        return;
    of->place++;
    of->end = (uint16_t)end;
    hits[piece->pattern] = piece->is_final;
}

void pattern_set_match(const struct pattern_set *set, struct slice text, bool *hits)
{
    unsigned char bytes[PATTERN_TEXT_MAX];
    size_t length = normalise(text, bytes, sizeof bytes);
    struct progress *progress = NEW_ARRAY(struct progress, set->count + 1);
    uint32_t at = 0;

    memset(hits, 0, set->count * sizeof *hits);
    for (size_t i = 0; i < length; i++) {
        uint32_t next = find_child(set, at, bytes[i]);

        while (!next && at) {
            at = set->nodes[at].fail;
            next = find_child(set, at, bytes[i]);
        }
        at = next;
        for (uint32_t end = set->nodes[at].piece ? at : set->nodes[at].ends; end;
             end = set->nodes[end].ends)
            for (uint32_t n = set->nodes[end].piece; n; n = set->pieces[n - 1].same)
                note_piece(&set->pieces[n - 1], i + 1, length, progress, hits);
    }
    memory_free(progress);
}
