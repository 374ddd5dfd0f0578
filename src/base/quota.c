/* How many in how long, as text. */
#include "smtpd/base/quota.h"

#include "smtpd/base/moment.h"

#include <stdio.h>
#include <string.h>

enum { COUNT_MAX = 1000000000, WINDOW_MS_MIN = 1000 };
static const int64_t WINDOW_MS_MAX = INT64_C(31) * 24 * 3600 * 1000;

static enum result parse_window(struct slice text, int64_t *window_ms)
{
    char one[MOMENT_TEXT] = "1";
    bool has_number = text.length > 0 && text.data[0] >= '0' && text.data[0] <= '9';

    if (!has_number && slice_copy_text(text, one + 1, sizeof one - 1))
        text = slice_of(one);
    if (duration_parse(text, window_ms) != RESULT_OK || *window_ms < WINDOW_MS_MIN ||
        *window_ms > WINDOW_MS_MAX)
        return RESULT_INVALID;
    return RESULT_OK;
}

enum result quota_parse(struct slice text, struct quota *quota)
{
    size_t slash = slice_find(text, '/');
    uint64_t count;

    if (slash == text.length ||
        slice_to_u64(slice_part(text, 0, slash), COUNT_MAX, &count) != RESULT_OK ||
        count == 0)
        return RESULT_INVALID;
    quota->count = (uint32_t)count;
    return parse_window(slice_from(text, slash + 1), &quota->window_ms);
}

void quota_print(const struct quota *quota, char text[QUOTA_TEXT])
{
    char window[MOMENT_TEXT];
    const char *from = window;

    duration_print(quota->window_ms, window);
    if (window[0] == '1' && (window[1] < '0' || window[1] > '9') && strlen(window) == 2)
        from++; /* "h" and not "1h" */
    (void)snprintf(text, QUOTA_TEXT, "%u/%.40s", quota->count, from);
}

static bool has_window(const struct quotas *quotas, int64_t window_ms)
{
    for (size_t i = 0; i < quotas->count; i++)
        if (quotas->items[i].window_ms == window_ms)
            return true;
    return false;
}

enum result quotas_parse(struct slice text, struct quotas *quotas)
{
    *quotas = (struct quotas){0};
    for (;;) {
        size_t end = slice_find(text, ',');
        struct quota quota;

        if (quotas->count == QUOTAS_MAX ||
            quota_parse(slice_part(text, 0, end), &quota) != RESULT_OK ||
            has_window(quotas, quota.window_ms))
            return RESULT_INVALID;
        quotas->items[quotas->count++] = quota;
        if (end == text.length)
            return RESULT_OK;
        text = slice_from(text, end + 1);
    }
}

void quotas_set(struct quotas *quotas, const struct quota *items, size_t count)
{
    *quotas = (struct quotas){.count = count < QUOTAS_MAX ? count : QUOTAS_MAX};
    for (size_t i = 0; i < quotas->count; i++)
        quotas->items[i] = items[i];
}
