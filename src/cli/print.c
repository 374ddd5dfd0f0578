/* The look of the command line: quiet into pipes, columns and a little colour on a
 * terminal. */
#include "print.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool print_is_terminal(void)
{
    return isatty(STDOUT_FILENO) == 1;
}

static const char *colour(const char *code)
{
    return print_is_terminal() && !getenv("NO_COLOR") ? code : "";
}

const char *print_bold(void)
{
    return colour("\033[1m");
}

const char *print_dim(void)
{
    return colour("\033[2m");
}

const char *print_warn(void)
{
    return colour("\033[33m");
}

const char *print_plain(void)
{
    return colour("\033[0m");
}

void print_age(int64_t ms, char text[PRINT_TEXT])
{
    int64_t s = ms < 0 ? 0 : ms / 1000;

    if (s < 120)
        (void)snprintf(text, PRINT_TEXT, "%llds", (long long)s);
    else if (s < 7200)
        (void)snprintf(text, PRINT_TEXT, "%lldm", (long long)(s / 60));
    else if (s < 172800)
        (void)snprintf(text, PRINT_TEXT, "%lldh", (long long)(s / 3600));
    else
        (void)snprintf(text, PRINT_TEXT, "%lldd", (long long)(s / 86400));
}

void print_count(int64_t bytes, char text[PRINT_TEXT])
{
    static const char units[] = " KMGTP";
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && units[unit + 1]) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        (void)snprintf(text, PRINT_TEXT, "%lld", (long long)bytes);
    else
        (void)snprintf(text, PRINT_TEXT, "%.1f%c", value, units[unit]);
}

void print_until(int64_t wall_ms, int64_t now_ms, char text[PRINT_TEXT])
{
    char age[PRINT_TEXT];

    if (wall_ms <= 0) {
        (void)snprintf(text, PRINT_TEXT, "-");
    } else if (wall_ms <= now_ms) {
        (void)snprintf(text, PRINT_TEXT, "now");
    } else {
        print_age(wall_ms - now_ms, age);
        (void)snprintf(text, PRINT_TEXT, "in %.40s", age);
    }
}

int print_json(const json_t *json)
{
    if (json_dumpf(json, stdout,
                   JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15)) != 0 ||
        putchar('\n') == EOF)
        return CLI_FAILED;
    return CLI_DONE;
}

const char *get_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

int64_t get_number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}
