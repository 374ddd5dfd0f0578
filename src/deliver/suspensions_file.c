/* A line for each, read as a whole. */
#include "suspensions_file.h"

#include <string.h>

#define HEADING "smtpd-suspensions 1"

const char *const reach_names[REACH_COUNT] = {[REACH_DOMAIN] = "domain",
                                              [REACH_DESTINATION] = "destination",
                                              [REACH_SCOPE] = "scope"};

enum result suspensions_file_begin(struct bytes *into, struct sealed *sealed)
{
    return sealed_begin(sealed, HEADING, into);
}

enum result suspensions_file_add(struct bytes *into, struct sealed *sealed,
                                 const struct suspension_view *view)
{
    size_t start = into->length;
    enum result added = sealed_add_word(into, reach_names[view->reach]);

    if (added == RESULT_OK)
        added = sealed_add_word(into, view->name);
    if (added == RESULT_OK)
        added = bytes_format(into, "%lld %lld ", (long long)view->since_ms,
                             (long long)view->until_ms);
    if (added == RESULT_OK)
        added = sealed_add_word(into, view->reason);
    if (added == RESULT_OK)
        sealed_end_line(sealed, into, start);
    return added;
}

enum result suspensions_file_end(struct bytes *into, const struct sealed *sealed)
{
    return sealed_end(sealed, into);
}

struct reading {
    suspension_view_fn *each; /* or NULL */
    void *owner;
    unsigned lines;
};

static bool take_reach(struct slice *line, enum reach *reach)
{
    struct slice word = slice_next_word(line);

    for (*reach = 0; *reach < REACH_COUNT; (*reach)++)
        if (slice_equal_text(word, reach_names[*reach]))
            return true;
    return false;
}

static bool on_line(void *owner, struct slice line, bool is_sound)
{
    static const uint64_t most = UINT64_C(1) << 50;
    struct reading *reading = owner;
    char name[REACH_NAME];
    char reason[DELIVER_REASON_MAX + 1];
    struct suspension_view view = {.name = name, .reason = reason};
    uint64_t since;
    uint64_t until;

    if (!is_sound && ++reading->lines > SUSPENSIONS_MAX)
        return false;
    if (!take_reach(&line, &view.reach) || !sealed_take_word(&line, name, sizeof name) ||
        !name[0] || !sealed_take_number(&line, most, &since) ||
        !sealed_take_number(&line, most, &until) ||
        !sealed_take_word(&line, reason, sizeof reason) || line.length > 0)
        return false;
    view.since_ms = (int64_t)since;
    view.until_ms = (int64_t)until;
    if (is_sound && reading->each)
        reading->each(reading->owner, &view);
    return true;
}

enum result suspensions_file_parse(struct slice text, suspension_view_fn *each, void *owner,
                                   struct fault *fault)
{
    struct reading reading = {.each = each, .owner = owner};

    return sealed_parse(text, HEADING, on_line, &reading, fault);
}
