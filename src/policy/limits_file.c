/* Written in portions, read as a whole. */
#include "limits_file.h"

#include <string.h>

#define HEAD "smtpd-limits 1\n"
static const uint64_t FNV_START = UINT64_C(0xcbf29ce484222325);
static const uint64_t FNV_PRIME = UINT64_C(0x100000001b3);

static const char *const kinds[LIMITS_KINDS] = {
    [LIMITS_USER_MESSAGES] = "user-messages",
    [LIMITS_USER_RECIPIENTS] = "user-recipients",
    [LIMITS_ADDRESS_MESSAGES] = "address-messages",
    [LIMITS_ADDRESS_RECIPIENTS] = "address-recipients",
};

static uint64_t hash_of(uint64_t hash, struct slice bytes)
{
    for (size_t i = 0; i < bytes.length; i++)
        hash = (hash ^ (unsigned char)bytes.data[i]) * FNV_PRIME;
    return hash;
}

/* ---- writing ---- */

enum result limits_file_begin(struct bytes *into, struct limits_sum *sum)
{
    *sum = (struct limits_sum){hash_of(FNV_START, SLICE(HEAD)), 0};
    return bytes_add_text(into, HEAD);
}

static enum result add_window(struct bytes *into, const struct limits_record *record,
                              const struct window *window)
{
    int last = WINDOW_COUNTS - 1;
    enum result added =
        bytes_format(into, "%s %s %lld %lld ", kinds[record->kind], record->name,
                     (long long)window->window_ms, (long long)window->step);

    while (last > 0 && window->counts[last] == 0)
        last--;
    for (int i = 0; i <= last && added == RESULT_OK; i++)
        added = bytes_format(into, "%s%u", i ? "," : "", window->counts[i]);
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

enum result limits_file_add(struct bytes *into, struct limits_sum *sum,
                            const struct limits_record *record)
{
    size_t before = into->length;
    enum result added = RESULT_OK;

    for (size_t i = 0; i < record->window_count && added == RESULT_OK; i++) {
        if (window_sum(&record->windows[i]) == 0)
            continue;
        added = add_window(into, record, &record->windows[i]);
        sum->lines++;
    }
    if (into->length > before)
        sum->hash = hash_of(sum->hash, slice_from(bytes_view(into), before));
    return added;
}

enum result limits_file_end(struct bytes *into, struct limits_sum *sum)
{
    return bytes_format(into, "end %llu %016llx\n", (unsigned long long)sum->lines,
                        (unsigned long long)sum->hash);
}

/* ---- reading ---- */

static bool take_kind(struct slice word, enum limits_kind *kind)
{
    for (int i = 0; i < LIMITS_KINDS; i++) {
        *kind = (enum limits_kind)i;
        if (slice_equal_text(word, kinds[i]))
            return true;
    }
    return false;
}

static bool take_name(struct slice word, char name[LIMITS_NAME + 1])
{
    for (size_t i = 0; i < word.length; i++)
        if ((unsigned char)word.data[i] <= ' ' || word.data[i] == 0x7f)
            return false;
    return word.length > 0 && slice_copy_text(word, name, LIMITS_NAME + 1);
}

static bool take_counts(struct slice word, struct window *window)
{
    for (int i = 0; i < WINDOW_COUNTS; i++) {
        size_t end = slice_find(word, ',');
        uint64_t count;

        if (slice_to_u64(slice_part(word, 0, end), UINT32_MAX, &count) != RESULT_OK)
            return false;
        window->counts[i] = (uint32_t)count;
        if (end == word.length)
            return true;
        word = slice_from(word, end + 1);
    }
    return false;
}

/* A length that an option can have: a step of it is at least a millisecond. */
static bool take_window(struct slice *rest, struct window *window)
{
    uint64_t window_ms;
    uint64_t step;

    if (slice_to_u64(slice_next_word(rest), INT64_C(31) * 86400000, &window_ms) !=
            RESULT_OK ||
        window_ms < 1000 ||
        slice_to_u64(slice_next_word(rest), INT64_MAX / 86400000 / 31, &step) != RESULT_OK)
        return false;
    window->window_ms = (int64_t)window_ms;
    window->step = (int64_t)step;
    return take_counts(slice_next_word(rest), window);
}

static bool take_record(struct slice line, struct limits_record *record)
{
    *record = (struct limits_record){.window_count = 1};
    return take_kind(slice_next_word(&line), &record->kind) &&
           take_name(slice_next_word(&line), record->name) &&
           take_window(&line, &record->windows[0]) && line.length == 0;
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

/* The last line is as the lines in front of it would have it written. */
static bool is_end(struct slice text, size_t body, uint64_t lines)
{
    struct limits_sum sum = {hash_of(FNV_START, slice_part(text, 0, body)), lines};
    struct bytes wanted;
    bool is_it;

    bytes_init(&wanted, 64);
    is_it = limits_file_end(&wanted, &sum) == RESULT_OK &&
            slice_equal(bytes_view(&wanted), slice_from(text, body));
    bytes_fini(&wanted);
    return is_it;
}

static enum result walk(struct slice text, limits_record_fn *each, void *owner,
                        struct fault *fault)
{
    struct slice rest = slice_from(text, sizeof HEAD - 1);
    struct limits_record record;
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
        if (!take_record(line, &record))
            return fault_set(fault, RESULT_CORRUPT, "line %llu is no count",
                             (unsigned long long)lines + 1);
        if (each)
            each(owner, &record);
    }
}

enum result limits_file_parse(struct slice text, limits_record_fn *each, void *owner,
                              struct fault *fault)
{
    enum result result;

    if (!slice_equal_text(slice_part(text, 0, sizeof HEAD - 1), HEAD))
        return fault_set(fault, RESULT_CORRUPT, "it does not begin with " HEAD);
    result = walk(text, NULL, NULL, fault);
    return result == RESULT_OK ? walk(text, each, owner, fault) : result;
}
