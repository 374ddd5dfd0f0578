/* Written a line at a time, read as a whole. */
#include "paces_file.h"

#include <string.h>

#define HEAD "smtpd-paces 1\n"
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

enum result paces_file_begin(struct bytes *into, struct paces_sum *sum)
{
    *sum = (struct paces_sum){hash_of(FNV_START, SLICE(HEAD)), 0};
    return bytes_add_text(into, HEAD);
}

static bool is_plain(unsigned char byte)
{
    return byte > ' ' && byte != '%' && byte < 0x7f;
}

/* A lone "-" is no text, so one that is is written in the other way. */
static enum result add_word(struct bytes *into, const char *text)
{
    bool is_dash = strcmp(text, "-") == 0;
    enum result added = text[0] ? RESULT_OK : bytes_add_text(into, "-");

    for (const char *at = text; *at && added == RESULT_OK; at++) {
        unsigned char byte = (unsigned char)*at;
        char escaped[3] = {'%', hex[byte >> 4], hex[byte & 15]};

        if (is_plain(byte) && !is_dash)
            added = bytes_add(into, (struct slice){at, 1});
        else
            added = bytes_add(into, (struct slice){escaped, sizeof escaped});
    }
    return added == RESULT_OK ? bytes_add_text(into, " ") : added;
}

static enum result add_line(struct bytes *into, const struct pace *pace)
{
    enum result added = add_word(into, pace->scope);

    if (added == RESULT_OK)
        added = add_word(into, pace->source);
    if (added == RESULT_OK)
        added = bytes_format(
            into, "%lld %u %u %u %lld %lld %u %lld %lld ", (long long)pace->changed_ms,
            pace->window, pace->permille, pace->step, (long long)pace->step_ms,
            (long long)pace->next_step_ms, pace->measured.count,
            (long long)pace->measured.window_ms, (long long)pace->suspended_until_ms);
    if (added == RESULT_OK)
        added = add_word(into, pace->suspension);
    if (added == RESULT_OK)
        added = add_word(into, pace->slowness);
    if (added != RESULT_OK)
        return added;
    into->data[into->length - 1] = '\n'; /* for the blank behind the last word */
    return RESULT_OK;
}

enum result paces_file_add(struct bytes *into, struct paces_sum *sum,
                           const struct pace *pace)
{
    size_t before = into->length;
    enum result added = add_line(into, pace);

    if (added != RESULT_OK)
        return added;
    sum->hash = hash_of(sum->hash, slice_from(bytes_view(into), before));
    sum->lines++;
    return RESULT_OK;
}

enum result paces_file_end(struct bytes *into, struct paces_sum *sum)
{
    return bytes_format(into, "end %llu %016llx\n", (unsigned long long)sum->lines,
                        (unsigned long long)sum->hash);
}

/* ---- reading ---- */

struct reading {
    struct pace pace;
    char scope[PACES_KEY_MAX];
    char source[PACES_KEY_MAX];
};

static int digit(char byte)
{
    const char *at = byte ? strchr(hex, byte) : NULL;

    return at ? (int)(at - hex) : -1;
}

static bool take_text(struct slice *rest, char *into, size_t into_bytes)
{
    struct slice word = slice_next_word(rest);
    size_t length = 0;

    into[0] = '\0';
    if (slice_equal_text(word, "-"))
        return true;
    for (size_t i = 0; i < word.length; i++) {
        unsigned char byte = (unsigned char)word.data[i];

        if (byte == '%') {
            bool is_whole = i + 2 < word.length;
            int high = is_whole ? digit(word.data[i + 1]) : -1;
            int low = is_whole ? digit(word.data[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            byte = (unsigned char)(high << 4 | low);
            i += 2;
        } else if (!is_plain(byte)) {
            return false;
        }
        if (byte == 0 || length + 1 >= into_bytes)
            return false;
        into[length++] = (char)byte;
    }
    into[length] = '\0';
    return length > 0;
}

static bool take_number(struct slice *rest, uint64_t most, uint64_t *number)
{
    return slice_to_u64(slice_next_word(rest), most, number) == RESULT_OK;
}

static bool take_numbers(struct slice *rest, struct pace *pace)
{
    uint64_t n[9];
    static const uint64_t most[9] = {UINT64_C(1) << 50, 10000,
                                     BUCKET_FULL_RATE,  BUCKET_FULL_RATE,
                                     UINT64_C(1) << 40, UINT64_C(1) << 50,
                                     1000000000,        UINT64_C(31) * 86400000,
                                     UINT64_C(1) << 50};

    for (size_t i = 0; i < 9; i++)
        if (!take_number(rest, most[i], &n[i]))
            return false;
    pace->changed_ms = (int64_t)n[0];
    pace->window = (unsigned)n[1];
    pace->permille = (unsigned)n[2];
    pace->step = (unsigned)n[3];
    pace->step_ms = (int64_t)n[4];
    pace->next_step_ms = (int64_t)n[5];
    pace->measured = (struct quota){(uint32_t)n[6], (int64_t)n[7]};
    pace->suspended_until_ms = (int64_t)n[8];
    if (n[2] < BUCKET_FULL_RATE && (n[3] == 0 || n[4] == 0))
        return false; /* it would never recover */
    return n[1] > 0 && n[2] > 0 && (n[6] == 0 ? n[7] == 0 : n[7] >= 1000);
}

static bool take_line(struct slice line, struct reading *reading)
{
    struct pace *pace = &reading->pace;

    memset(pace, 0, sizeof *pace);
    pace->scope = reading->scope;
    pace->source = reading->source;
    return take_text(&line, reading->scope, sizeof reading->scope) && reading->scope[0] &&
           take_text(&line, reading->source, sizeof reading->source) &&
           take_numbers(&line, pace) &&
           take_text(&line, pace->suspension, sizeof pace->suspension) &&
           take_text(&line, pace->slowness, sizeof pace->slowness) && line.length == 0;
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

static bool is_end(struct slice text, size_t body, uint64_t lines)
{
    struct paces_sum sum = {hash_of(FNV_START, slice_part(text, 0, body)), lines};
    struct bytes wanted;
    bool is_it;

    bytes_init(&wanted, 64);
    is_it = paces_file_end(&wanted, &sum) == RESULT_OK &&
            slice_equal(bytes_view(&wanted), slice_from(text, body));
    bytes_fini(&wanted);
    return is_it;
}

static enum result walk(struct slice text, struct reading *reading, paces_file_fn *each,
                        void *owner, struct fault *fault)
{
    struct slice rest = slice_from(text, sizeof HEAD - 1);
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
        if (++lines > PACES_KEPT_MAX || !take_line(line, reading))
            return fault_set(fault, RESULT_CORRUPT, "line %llu is no pace",
                             (unsigned long long)lines + 1);
        if (each)
            each(owner, &reading->pace);
    }
}

enum result paces_file_parse(struct slice text, paces_file_fn *each, void *owner,
                             struct fault *fault)
{
    struct reading reading;
    enum result result;

    if (!slice_equal_text(slice_part(text, 0, sizeof HEAD - 1), HEAD))
        return fault_set(fault, RESULT_CORRUPT, "it does not begin with " HEAD);
    result = walk(text, &reading, NULL, NULL, fault);
    return result == RESULT_OK ? walk(text, &reading, each, owner, fault) : result;
}
