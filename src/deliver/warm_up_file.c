/* Written a line at a time, read as a whole. */
#include "warm_up_file.h"

#include <string.h>

#define HEADING "smtpd-warm-up 1"
enum { DAY_MOST = 10000000 };

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

enum result warm_up_file_begin(struct bytes *into, struct sealed *sealed)
{
    return sealed_begin(sealed, HEADING, into);
}

enum result warm_up_file_add(struct bytes *into, struct sealed *sealed,
                             const struct warm_up_line *line)
{
    size_t before = into->length;
    enum result added = bytes_format(into, "source %s %lld %u %u", line->name,
                                     (long long)line->day, line->step, line->used);

    if (added == RESULT_OK && line->gone_day > 0)
        added = bytes_format(into, " %lld", (long long)line->gone_day);
    if (added == RESULT_OK)
        added = bytes_add_text(into, "\n");
    if (added == RESULT_OK)
        sealed_note(sealed, slice_from(bytes_view(into), before));
    return added;
}

enum result warm_up_file_end(struct bytes *into, const struct sealed *sealed)
{
    return sealed_end(sealed, into);
}

/* ---- reading ---- */

struct reading {
    warm_up_file_fn *each;
    void *owner;
    unsigned lines;
};

static bool take_line(struct slice text, struct warm_up_line *line)
{
    uint64_t day;
    uint64_t step;
    uint64_t used;
    uint64_t gone_day = 0;

    if (!slice_equal_text(slice_next_word(&text), "source") ||
        !slice_copy_text(slice_next_word(&text), line->name, sizeof line->name) ||
        !deliver_source_name_is_valid(slice_of(line->name)) ||
        !sealed_take_number(&text, DAY_MOST, &day) ||
        !sealed_take_number(&text, DELIVER_WARM_UP_DAYS, &step) ||
        !sealed_take_number(&text, UINT32_MAX, &used) ||
        (text.length > 0 &&
         (!sealed_take_number(&text, DAY_MOST, &gone_day) || gone_day == 0)))
        return false;
    line->day = (int64_t)day;
    line->step = (uint32_t)step;
    line->used = (uint32_t)used;
    line->gone_day = (int64_t)gone_day;
    return text.length == 0;
}

static bool on_line(void *owner, struct slice text, bool is_sound)
{
    struct reading *reading = owner;
    struct warm_up_line line;

    if (!is_sound && ++reading->lines > WARM_UP_KEPT_MAX)
        return false;
    if (!take_line(text, &line))
        return false;
    if (is_sound && reading->each)
        reading->each(reading->owner, &line);
    return true;
}

enum result warm_up_file_parse(struct slice text, warm_up_file_fn *each, void *owner,
                               struct fault *fault)
{
    struct reading reading = {each, owner, 0};

    return sealed_parse(text, HEADING, on_line, &reading, fault);
}
