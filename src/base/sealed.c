#include "smtpd/base/sealed.h"

#include <string.h>

static const uint64_t FNV_START = UINT64_C(0xcbf29ce484222325);
static const uint64_t FNV_PRIME = UINT64_C(0x100000001b3);
static const char hex[] = "0123456789ABCDEF";

static uint64_t hash_of(uint64_t hash, struct slice bytes)
{
    for (size_t i = 0; i < bytes.length; i++)
        hash = (hash ^ (unsigned char)bytes.data[i]) * FNV_PRIME;
    return hash;
}

/* ---- writing ---- */

enum result sealed_begin(struct sealed *sealed, const char *heading, struct bytes *into)
{
    size_t before = into->length;
    enum result added = bytes_format(into, "%s\n", heading);

    *sealed = (struct sealed){FNV_START, 0};
    if (added == RESULT_OK)
        sealed->hash = hash_of(FNV_START, slice_from(bytes_view(into), before));
    return added;
}

void sealed_note(struct sealed *sealed, struct slice lines)
{
    sealed->hash = hash_of(sealed->hash, lines);
    for (size_t i = 0; i < lines.length; i++)
        sealed->lines += lines.data[i] == '\n';
}

void sealed_end_line(struct sealed *sealed, struct bytes *into, size_t start)
{
    into->data[into->length - 1] = '\n';
    sealed_note(sealed, slice_from(bytes_view(into), start));
}

enum result sealed_end(const struct sealed *sealed, struct bytes *into)
{
    return bytes_format(into, "end %llu %016llx\n", (unsigned long long)sealed->lines,
                        (unsigned long long)sealed->hash);
}

static bool is_plain(unsigned char byte)
{
    return byte > ' ' && byte != '%' && byte < 0x7f;
}

enum result sealed_add_word(struct bytes *into, const char *word)
{
    bool is_dash = strcmp(word, "-") == 0; /* one that is is no empty one */
    enum result added = word[0] ? RESULT_OK : bytes_add_text(into, "-");

    for (const char *at = word; *at && added == RESULT_OK; at++) {
        unsigned char byte = (unsigned char)*at;
        char escaped[3] = {'%', hex[byte >> 4], hex[byte & 15]};

        if (is_plain(byte) && !is_dash)
            added = bytes_add(into, (struct slice){at, 1});
        else
            added = bytes_add(into, (struct slice){escaped, sizeof escaped});
    }
    return added == RESULT_OK ? bytes_add_text(into, " ") : added;
}

/* ---- reading ---- */

static int digit(char byte)
{
    const char *at = byte ? strchr(hex, byte) : NULL;

    return at ? (int)(at - hex) : -1;
}

/* The byte at *at, which moves to its last character; 0: there is none that a word may have. */
static unsigned char take_byte(struct slice word, size_t *at)
{
    unsigned char byte = (unsigned char)word.data[*at];
    int high;
    int low;

    if (byte != '%')
        return is_plain(byte) ? byte : 0;
    if (*at + 2 >= word.length)
        return 0;
    high = digit(word.data[*at + 1]);
    low = digit(word.data[*at + 2]);
    *at += 2;
    return high < 0 || low < 0 ? 0 : (unsigned char)(16 * high + low);
}

bool sealed_take_word(struct slice *rest, char *into, size_t into_bytes)
{
    struct slice word = slice_next_word(rest);
    size_t length = 0;

    into[0] = '\0';
    if (slice_equal_text(word, "-"))
        return true;
    for (size_t i = 0; i < word.length; i++) {
        unsigned char byte = take_byte(word, &i);

        if (byte == 0 || length + 1 >= into_bytes)
            return false;
        into[length++] = (char)byte;
    }
    into[length] = '\0';
    return length > 0;
}

bool sealed_take_number(struct slice *rest, uint64_t most, uint64_t *number)
{
    return slice_to_u64(slice_next_word(rest), most, number) == RESULT_OK;
}

static bool next_line(struct slice *rest, struct slice *line)
{
    size_t end = slice_find(*rest, '\n');

    if (end == rest->length)
        return false;
    *line = slice_part(*rest, 0, end);
    *rest = slice_from(*rest, end + 1);
    return true;
}

/* The last line is as it would be written behind those in front of it. */
static bool is_end(struct slice text, size_t body, uint64_t lines)
{
    struct sealed sealed = {hash_of(FNV_START, slice_part(text, 0, body)), lines};
    struct bytes wanted;
    bool is_it;

    bytes_init(&wanted, 64);
    is_it = sealed_end(&sealed, &wanted) == RESULT_OK &&
            slice_equal(bytes_view(&wanted), slice_from(text, body));
    bytes_fini(&wanted);
    return is_it;
}

static enum result judge(struct slice text, size_t head, sealed_line_fn *each, void *owner,
                         struct fault *fault)
{
    struct slice rest = slice_from(text, head);
    struct slice line;
    uint64_t lines = 0;

    for (;;) {
        size_t body = text.length - rest.length;

        if (!next_line(&rest, &line))
            return fault_set(fault, RESULT_CORRUPT, "it has no end");
        if (slice_starts_fold(line, "end "))
            return is_end(text, body, lines)
                       ? RESULT_OK
                       : fault_set(fault, RESULT_CORRUPT, "the sum at its end is wrong");
        lines++;
        if (!each(owner, line, false))
            return fault_set(fault, RESULT_CORRUPT, "line %llu is not as we write it",
                             (unsigned long long)lines + 1);
    }
}

enum result sealed_parse(struct slice text, const char *heading, sealed_line_fn *each,
                         void *owner, struct fault *fault)
{
    struct slice rest = text;
    struct slice line;
    enum result result;

    if (!next_line(&rest, &line) || !slice_equal_text(line, heading))
        return fault_set(fault, RESULT_CORRUPT, "it does not begin with %s", heading);
    result = judge(text, text.length - rest.length, each, owner, fault);
    while (result == RESULT_OK && next_line(&rest, &line) &&
           !slice_starts_fold(line, "end "))
        (void)each(owner, line, true);
    return result;
}
