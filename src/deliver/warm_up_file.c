/* Written a line at a time, read as a whole. */
#include "warm_up_file.h"

#include <string.h>

#define HEAD "smtpd-warm-up 1\n"
static const uint64_t FNV_START = UINT64_C(0xcbf29ce484222325);
static const uint64_t FNV_PRIME = UINT64_C(0x100000001b3);
enum { DAY_MOST = 10000000 };

static uint64_t hash_of(uint64_t hash, struct slice bytes)
{
    for (size_t i = 0; i < bytes.length; i++)
        hash = (hash ^ (unsigned char)bytes.data[i]) * FNV_PRIME;
    return hash;
}

bool deliver_source_name_is_valid(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        char byte = name.data[i];
        bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        bool is_digit = byte >= '0' && byte <= '9';

        if (!is_letter && !is_digit && byte != '-' && byte != '_' && byte != '.')
            return false;
    }
    return name.length > 0 && name.length < DELIVER_SOURCE_TEXT;
}

/* ---- writing ---- */

enum result warm_up_file_begin(struct bytes *into, struct warm_up_sum *sum)
{
    *sum = (struct warm_up_sum){hash_of(FNV_START, SLICE(HEAD)), 0};
    return bytes_add_text(into, HEAD);
}

enum result warm_up_file_add(struct bytes *into, struct warm_up_sum *sum,
                             const struct warm_up_line *line)
{
    size_t before = into->length;
    enum result added = bytes_format(into, "%s %lld %u %u\n", line->name,
                                     (long long)line->day, line->step, line->used);

    if (added != RESULT_OK)
        return added;
    sum->hash = hash_of(sum->hash, slice_from(bytes_view(into), before));
    sum->lines++;
    return RESULT_OK;
}

enum result warm_up_file_end(struct bytes *into, const struct warm_up_sum *sum)
{
    return bytes_format(into, "end %llu %016llx\n", (unsigned long long)sum->lines,
                        (unsigned long long)sum->hash);
}

/* ---- reading ---- */

static bool take_line(struct slice text, struct warm_up_line *line)
{
    struct slice name = slice_next_word(&text);
    uint64_t day;
    uint64_t step;
    uint64_t used;

    if (!deliver_source_name_is_valid(name) ||
        !slice_copy_text(name, line->name, sizeof line->name) ||
        slice_to_u64(slice_next_word(&text), DAY_MOST, &day) != RESULT_OK ||
        slice_to_u64(slice_next_word(&text), DELIVER_WARM_UP_DAYS, &step) != RESULT_OK ||
        slice_to_u64(slice_next_word(&text), UINT32_MAX, &used) != RESULT_OK)
        return false;
    line->day = (int64_t)day;
    line->step = (uint32_t)step;
    line->used = (uint32_t)used;
    return text.length == 0;
}

static bool is_end(struct slice text, size_t body, uint64_t lines)
{
    struct warm_up_sum sum = {hash_of(FNV_START, slice_part(text, 0, body)), lines};
    struct bytes wanted;
    bool is_it;

    bytes_init(&wanted, 64);
    is_it = warm_up_file_end(&wanted, &sum) == RESULT_OK &&
            slice_equal(bytes_view(&wanted), slice_from(text, body));
    bytes_fini(&wanted);
    return is_it;
}

static enum result walk(struct slice text, warm_up_file_fn *each, void *owner,
                        struct fault *fault)
{
    struct slice rest = slice_from(text, sizeof HEAD - 1);
    struct warm_up_line line;
    uint64_t lines = 0;

    for (;;) {
        size_t body = text.length - rest.length;
        size_t end = slice_find(rest, '\n');
        struct slice one = slice_part(rest, 0, end);

        if (end == rest.length)
            return fault_set(fault, RESULT_CORRUPT, "it has no end");
        rest = slice_from(rest, end + 1);
        /* No source of that name has four words behind it, and no end has. */
        if (slice_starts_fold(one, "end ") && is_end(text, body, lines))
            return RESULT_OK;
        if (++lines > WARM_UP_KEPT_MAX || !take_line(one, &line))
            return fault_set(fault, RESULT_CORRUPT, "line %llu is no source",
                             (unsigned long long)lines + 1);
        if (each)
            each(owner, &line);
    }
}

enum result warm_up_file_parse(struct slice text, warm_up_file_fn *each, void *owner,
                               struct fault *fault)
{
    enum result result;

    if (!slice_equal_text(slice_part(text, 0, sizeof HEAD - 1), HEAD))
        return fault_set(fault, RESULT_CORRUPT, "it does not begin with " HEAD);
    result = walk(text, NULL, NULL, fault);
    return result == RESULT_OK ? walk(text, each, owner, fault) : result;
}
