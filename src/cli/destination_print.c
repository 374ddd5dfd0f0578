#include "destination_print.h"

#include "smtpd/base/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum { TITLE = 12, END_TEXT = 128 };

int64_t print_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void print_rate(const json_t *pace, char text[PRINT_TEXT])
{
    const char *rate = get_text(pace, "message_rate");
    int64_t permille = get_number(pace, "permille");

    if (!rate[0])
        (void)snprintf(text, PRINT_TEXT, "-");
    else if (permille >= 1000)
        (void)snprintf(text, PRINT_TEXT, "%.40s", rate);
    else
        (void)snprintf(text, PRINT_TEXT, "%" PRId64 "%% of %.30s", permille / 10, rate);
}

/* "until 2026-11-29T16:00Z (in 2h)" */
static void print_end(int64_t until_ms, int64_t now_ms, char text[END_TEXT])
{
    char moment[MOMENT_TEXT];
    char until[PRINT_TEXT];

    moment_rfc3339(until_ms * 1000, moment);
    print_until(until_ms, now_ms, until);
    (void)snprintf(text, END_TEXT, "until %.16sZ (%.40s)", moment, until);
}

void print_suspension(const json_t *suspension, int64_t now_ms, char text[DESTINATION_TEXT])
{
    const char *reason = get_text(suspension, "reason");
    char end[END_TEXT];

    print_end(get_number(suspension, "until_ms"), now_ms, end);
    (void)snprintf(text, DESTINATION_TEXT,
                   "suspended %s by an operator (%s %.300s)%s%.200s", end,
                   get_text(suspension, "reach"), get_text(suspension, "name"),
                   reason[0] ? ": " : "", reason);
}

static const json_t *suspended_pace(const json_t *paces)
{
    for (size_t i = 0; i < json_array_size(paces); i++)
        if (get_number(json_array_get(paces, i), "suspended_until_ms"))
            return json_array_get(paces, i);
    return NULL;
}

void print_hold(const json_t *destination, int64_t now_ms, char text[DESTINATION_TEXT])
{
    const json_t *suspension = json_object_get(destination, "suspension");
    const json_t *pace = suspended_pace(json_object_get(destination, "paces"));
    int64_t rests_ms = get_number(destination, "backs_off_until_ms");
    char end[END_TEXT];

    text[0] = '\0';
    if (json_is_object(suspension)) {
        print_suspension(suspension, now_ms, text);
    } else if (pace) {
        print_end(get_number(pace, "suspended_until_ms"), now_ms, end);
        (void)snprintf(text, DESTINATION_TEXT, "suspended %s by a reaction to: %.300s", end,
                       get_text(pace, "suspended_by"));
    } else if (rests_ms) {
        print_end(rests_ms, now_ms, end);
        (void)snprintf(text, DESTINATION_TEXT, "backs off %s (%s): %.300s", end,
                       get_text(destination, "fault_class"),
                       get_text(destination, "fault"));
    }
}

static void title_of(const char *title)
{
    (void)printf("%s%-*s%s ", print_bold(), TITLE, title, print_plain());
}

static void print_next(const json_t *pace, int64_t now_ms)
{
    int64_t suspended_ms = get_number(pace, "suspended_until_ms");
    int64_t next_ms = get_number(pace, "next_ms");
    int64_t window = get_number(pace, "window");
    int64_t attempts = get_number(pace, "attempts");
    char end[END_TEXT];

    if (suspended_ms) {
        print_end(suspended_ms, now_ms, end);
        (void)printf("%ssuspended %s: %s%s\n", print_warn(), end,
                     get_text(pace, "suspended_by"), print_plain());
    } else if (attempts >= window) {
        (void)printf("the next one starts when one of %" PRId64 " ends\n", attempts);
    } else if (next_ms > now_ms) {
        (void)printf("the next one starts in %" PRId64 " ms\n", next_ms - now_ms);
    } else {
        (void)printf("the next one starts at once\n");
    }
}

static void print_bounces(const json_t *pace, int64_t now_ms)
{
    char end[END_TEXT];

    print_end(get_number(pace, "bounces_until_ms"), now_ms, end);
    title_of("");
    (void)printf("%sbounces what waits, at most %" PRId64 ", %s: %s%s\n", print_warn(),
                 get_number(pace, "bounces_left"), end, get_text(pace, "bounces_for"),
                 print_plain());
}

void print_pace(const char *title, const json_t *pace, int64_t now_ms)
{
    const char *source = get_text(pace, "source");
    const char *connection_rate = get_text(pace, "connection_rate");
    char rate[PRINT_TEXT];

    print_rate(pace, rate);
    title_of(title);
    (void)printf("%s%s%" PRId64 " of %" PRId64 " connections allowed now, %" PRId64
                 " in use; messages %s; new connections %s\n",
                 source, source[0] ? ": " : "", get_number(pace, "window"),
                 get_number(pace, "ceiling"), get_number(pace, "attempts"),
                 rate[0] == '-' ? "without a limit" : rate,
                 connection_rate[0] ? connection_rate : "without a limit");
    if (get_text(pace, "slowed_by")[0]) {
        title_of("");
        (void)printf("%sslowed: %s%s\n", print_warn(), get_text(pace, "slowed_by"),
                     print_plain());
    }
    if (get_number(pace, "bounces_left"))
        print_bounces(pace, now_ms);
    title_of("");
    print_next(pace, now_ms);
}
