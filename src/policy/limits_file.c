/* Written in portions, read as a whole. */
#include "limits_file.h"

#include <string.h>

#define HEADING "smtpd-limits 1"

static const char *const kinds[LIMITS_KINDS] = {
    [LIMITS_USER_MESSAGES] = "user-messages",
    [LIMITS_USER_RECIPIENTS] = "user-recipients",
    [LIMITS_ADDRESS_MESSAGES] = "address-messages",
    [LIMITS_ADDRESS_RECIPIENTS] = "address-recipients",
};

/* ---- writing ---- */

enum result limits_file_begin(struct bytes *into, struct sealed *sealed)
{
    return sealed_begin(sealed, HEADING, into);
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

enum result limits_file_add(struct bytes *into, struct sealed *sealed,
                            const struct limits_record *record)
{
    size_t before = into->length;
    enum result added = RESULT_OK;

    for (size_t i = 0; i < record->window_count && added == RESULT_OK; i++) {
        if (window_sum(&record->windows[i]) == 0)
            continue;
        added = add_window(into, record, &record->windows[i]);
    }
    if (into->length > before)
        sealed_note(sealed, slice_from(bytes_view(into), before));
    return added;
}

enum result limits_file_end(struct bytes *into, struct sealed *sealed)
{
    return sealed_end(sealed, into);
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

struct reading {
    limits_record_fn *each; /* or NULL */
    void *owner;
};

static bool on_line(void *owner, struct slice line, bool is_sound)
{
    const struct reading *reading = owner;
    struct limits_record record;

    if (!take_record(line, &record))
        return false;
    if (is_sound && reading->each)
        reading->each(reading->owner, &record);
    return true;
}

enum result limits_file_parse(struct slice text, limits_record_fn *each, void *owner,
                              struct fault *fault)
{
    struct reading reading = {each, owner};

    return sealed_parse(text, HEADING, on_line, &reading, fault);
}
