/* Written a line at a time, read as a whole. */
#include "paces_file.h"

#include <string.h>

#define HEADING "smtpd-paces 2"
#define HEADING_1 "smtpd-paces 1"

/* ---- writing ---- */

enum result paces_file_begin(struct bytes *into, struct sealed *sealed)
{
    return sealed_begin(sealed, HEADING, into);
}

static enum result add_bounce(struct bytes *into, const struct pace *pace)
{
    const struct pace_bounce *bounce = &pace->bounce;
    enum result added =
        bytes_format(into, "%u %lld %lld %u ", pace->backoffs, (long long)bounce->until_ms,
                     (long long)bounce->before_ms, bounce->left);

    return added == RESULT_OK ? sealed_add_word(into, bounce->text) : added;
}

static enum result add_line(struct bytes *into, const struct pace *pace)
{
    enum result added = sealed_add_word(into, pace->scope);

    if (added == RESULT_OK)
        added = sealed_add_word(into, pace->source);
    if (added == RESULT_OK)
        added = bytes_format(
            into, "%lld %u %u %u %lld %lld %u %lld %lld ", (long long)pace->changed_ms,
            pace->window, pace->permille, pace->step, (long long)pace->step_ms,
            (long long)pace->next_step_ms, pace->measured.count,
            (long long)pace->measured.window_ms, (long long)pace->suspended_until_ms);
    if (added == RESULT_OK)
        added = sealed_add_word(into, pace->suspension);
    if (added == RESULT_OK)
        added = sealed_add_word(into, pace->slowness);
    if (added == RESULT_OK)
        added = add_bounce(into, pace);
    return added;
}

enum result paces_file_add(struct bytes *into, struct sealed *sealed,
                           const struct pace *pace)
{
    size_t before = into->length;
    enum result added = add_line(into, pace);

    if (added == RESULT_OK)
        sealed_end_line(sealed, into, before);
    return added;
}

enum result paces_file_end(struct bytes *into, struct sealed *sealed)
{
    return sealed_end(sealed, into);
}

/* ---- reading ---- */

struct reading {
    struct pace pace;
    char scope[PACES_KEY_MAX];
    char source[PACES_KEY_MAX];
    unsigned version;
    unsigned lines;
    paces_file_fn *each; /* or NULL */
    void *owner;
};

static bool take_all(struct slice *rest, const uint64_t *most, uint64_t *n, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!sealed_take_number(rest, most[i], &n[i]))
            return false;
    return true;
}

static bool take_numbers(struct slice *rest, struct pace *pace)
{
    uint64_t n[9];
    static const uint64_t most[9] = {UINT64_C(1) << 50, 10000,
                                     BUCKET_FULL_RATE,  BUCKET_FULL_RATE,
                                     UINT64_C(1) << 40, UINT64_C(1) << 50,
                                     1000000000,        UINT64_C(31) * 86400000,
                                     UINT64_C(1) << 50};

    if (!take_all(rest, most, n, 9))
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

static bool take_bounce(struct slice *rest, struct pace *pace)
{
    struct pace_bounce *bounce = &pace->bounce;
    uint64_t n[4];
    static const uint64_t most[4] = {PACE_BACKOFFS_MAX, UINT64_C(1) << 50,
                                     UINT64_C(1) << 50, PACE_BOUNCED_MAX};

    if (!take_all(rest, most, n, 4) ||
        !sealed_take_word(rest, bounce->text, sizeof bounce->text))
        return false;
    pace->backoffs = (unsigned)n[0];
    bounce->until_ms = (int64_t)n[1];
    bounce->before_ms = (int64_t)n[2];
    bounce->left = (unsigned)n[3];
    if (n[1] == 0)
        return n[2] == 0 && n[3] == 0 && !bounce->text[0];
    return n[2] <= n[1];
}

static bool take_line(struct slice line, struct reading *reading)
{
    struct pace *pace = &reading->pace;

    memset(pace, 0, sizeof *pace);
    pace->scope = reading->scope;
    pace->source = reading->source;
    return sealed_take_word(&line, reading->scope, sizeof reading->scope) &&
           reading->scope[0] &&
           sealed_take_word(&line, reading->source, sizeof reading->source) &&
           take_numbers(&line, pace) &&
           sealed_take_word(&line, pace->suspension, sizeof pace->suspension) &&
           sealed_take_word(&line, pace->slowness, sizeof pace->slowness) &&
           (reading->version == 1 || take_bounce(&line, pace)) && line.length == 0;
}

static bool on_line(void *owner, struct slice line, bool is_sound)
{
    struct reading *reading = owner;

    if (!is_sound && ++reading->lines > PACES_KEPT_MAX)
        return false;
    if (!take_line(line, reading))
        return false;
    if (is_sound && reading->each)
        reading->each(reading->owner, &reading->pace);
    return true;
}

enum result paces_file_parse(struct slice text, paces_file_fn *each, void *owner,
                             struct fault *fault)
{
    struct reading reading;
    bool is_old = slice_starts_fold(text, HEADING_1 "\n");

    reading.version = is_old ? 1 : 2;
    reading.lines = 0;
    reading.each = each;
    reading.owner = owner;
    return sealed_parse(text, is_old ? HEADING_1 : HEADING, on_line, &reading, fault);
}
