/* Dates by arithmetic (days since 1970 in the proleptic Gregorian calendar): no time zone,
 * no locale, no state. */
#include "smtpd/base/moment.h"

#include "smtpd/base/pen.h"

#include <stdio.h>
#include <string.h>

struct civil {
    int64_t year;
    unsigned month;   /* 1..12 */
    unsigned day;     /* 1..31 */
    unsigned weekday; /* 0: Sunday */
};

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Eras of 400 years that begin on 1 March: leap days then come last. */
static struct civil civil_of(int64_t days)
{
    int64_t shifted = days + 719468;
    int64_t era = floor_divide(shifted, 146097);
    unsigned day_of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month_shifted = (5 * day_of_year + 2) / 153;
    struct civil civil;

    civil.day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    civil.month = month_shifted < 10 ? month_shifted + 3 : month_shifted - 9;
    civil.year = (int64_t)year_of_era + era * 400 + (civil.month <= 2);
    civil.weekday = (unsigned)((days % 7 + 11) % 7);
    return civil;
}

static void put_time(struct pen *pen, int64_t of_day)
{
    pen_padded(pen, (uint64_t)(of_day / 3600), 2);
    pen_byte(pen, ':');
    pen_padded(pen, (uint64_t)(of_day / 60 % 60), 2);
    pen_byte(pen, ':');
    pen_padded(pen, (uint64_t)(of_day % 60), 2);
}

void moment_rfc3339(int64_t wall_us, char text[MOMENT_TEXT])
{
    int64_t seconds = floor_divide(wall_us, 1000000);
    int64_t days = floor_divide(seconds, 86400);
    int64_t of_day = seconds - days * 86400;
    struct civil civil = civil_of(days);
    struct pen pen = pen_on(text, MOMENT_TEXT);

    pen_padded(&pen, (uint64_t)civil.year, 4);
    pen_byte(&pen, '-');
    pen_padded(&pen, civil.month, 2);
    pen_byte(&pen, '-');
    pen_padded(&pen, civil.day, 2);
    pen_byte(&pen, 'T');
    put_time(&pen, of_day);
    pen_byte(&pen, '.');
    pen_padded(&pen, (uint64_t)(wall_us - seconds * 1000000), 6);
    pen_byte(&pen, 'Z');
}

void moment_rfc5322(int64_t wall_ms, char text[MOMENT_TEXT])
{
    static const char weekdays[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t seconds = floor_divide(wall_ms, 1000);
    int64_t days = floor_divide(seconds, 86400);
    int64_t of_day = seconds - days * 86400;
    struct civil civil = civil_of(days);
    struct pen pen = pen_on(text, MOMENT_TEXT);

    pen_slice(&pen, (struct slice){weekdays + (size_t)3 * civil.weekday, 3});
    pen_text(&pen, ", ");
    pen_number(&pen, civil.day);
    pen_byte(&pen, ' ');
    pen_slice(&pen, (struct slice){months + (size_t)3 * (civil.month - 1), 3});
    pen_byte(&pen, ' ');
    pen_padded(&pen, (uint64_t)civil.year, 4);
    pen_byte(&pen, ' ');
    put_time(&pen, of_day);
    pen_text(&pen, " +0000");
}

/* ---- reading ---- */

/* Exactly `digits` digits off the front, below `limit`. */
static bool take_digits(struct slice *rest, size_t digits, uint64_t limit, int64_t *number)
{
    uint64_t value;

    if (rest->length < digits ||
        slice_to_u64(slice_part(*rest, 0, digits), limit - 1, &value) != RESULT_OK)
        return false;
    *number = (int64_t)value;
    *rest = slice_from(*rest, digits);
    return true;
}

static bool take_byte(struct slice *rest, char byte)
{
    if (rest->length == 0 || rest->data[0] != byte)
        return false;
    *rest = slice_from(*rest, 1);
    return true;
}

/* The day's number; -1: there is no such day. */
static int64_t take_date(struct slice *rest)
{
    int64_t year;
    int64_t month;
    int64_t day;
    int64_t shifted; /* years that begin on 1 March */
    int64_t days;
    struct civil civil;

    if (!take_digits(rest, 4, 10000, &year) || !take_byte(rest, '-') ||
        !take_digits(rest, 2, 13, &month) || !take_byte(rest, '-') ||
        !take_digits(rest, 2, 32, &day) || year < 1970 || month < 1)
        return -1;
    shifted = month > 2 ? year : year - 1;
    days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 +
           (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1 - 719468;
    civil = civil_of(days);
    return civil.day == (unsigned)day ? days : -1; /* no 30 February */
}

static bool take_time_of_day(struct slice *rest, int64_t *seconds)
{
    int64_t hour;
    int64_t minute;
    int64_t second = 0;

    if (!take_digits(rest, 2, 24, &hour) || !take_byte(rest, ':') ||
        !take_digits(rest, 2, 60, &minute))
        return false;
    if (take_byte(rest, ':') && !take_digits(rest, 2, 60, &second))
        return false;
    *seconds = hour * 3600 + minute * 60 + second;
    return true;
}

/* Up to nine digits of a second; what is less than a millisecond is left out. */
static bool take_fraction(struct slice *rest, int64_t *ms)
{
    int64_t unit = 100;
    size_t digits = 0;

    *ms = 0;
    while (digits < rest->length && rest->data[digits] >= '0' &&
           rest->data[digits] <= '9') {
        *ms += unit * (rest->data[digits++] - '0');
        unit /= 10;
    }
    *rest = slice_from(*rest, digits);
    return digits > 0 && digits < 10;
}

enum result moment_parse(struct slice text, int64_t *wall_ms)
{
    struct slice rest = text;
    int64_t days = take_date(&rest);
    int64_t seconds = 0;
    int64_t ms = 0;

    if (days < 0 ||
        (take_byte(&rest, 'T') && (!take_time_of_day(&rest, &seconds) ||
                                   (take_byte(&rest, '.') && !take_fraction(&rest, &ms)))))
        return RESULT_INVALID;
    (void)take_byte(&rest, 'Z');
    if (rest.length > 0)
        return RESULT_INVALID;
    *wall_ms = (days * 86400 + seconds) * 1000 + ms;
    return RESULT_OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};

struct amount {
    uint64_t value;  /* in the least unit */
    uint64_t factor; /* of the unit it was written in */
};

/* Number and unit off the front of *rest. */
static enum result take_amount(struct slice *rest, const struct unit *units,
                               size_t unit_count, struct amount *amount)
{
    size_t digits = 0;
    size_t letters = 0;
    struct slice unit;
    uint64_t number;
    enum result read;

    while (digits < rest->length && rest->data[digits] >= '0' && rest->data[digits] <= '9')
        digits++;
    read = slice_to_u64(slice_part(*rest, 0, digits), INT64_MAX, &number);
    if (read != RESULT_OK)
        return read;
    *rest = slice_from(*rest, digits);
    while (letters < rest->length &&
           (rest->data[letters] < '0' || rest->data[letters] > '9'))
        letters++;
    unit = slice_part(*rest, 0, letters);
    *rest = slice_from(*rest, letters);
    for (size_t i = 0; i < unit_count; i++) {
        if (!slice_equal_text(unit, units[i].name))
            continue;
        if (number > INT64_MAX / units[i].factor)
            return RESULT_TOO_LARGE;
        amount->factor = units[i].factor;
        amount->value = number * units[i].factor;
        return RESULT_OK;
    }
    return RESULT_INVALID;
}

static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
enum { DURATION_UNITS = sizeof duration_units / sizeof *duration_units };

/* Several units may follow each other, the larger first: "1h30m". */
enum result duration_parse(struct slice text, int64_t *ms)
{
    uint64_t sum = 0;
    uint64_t before = UINT64_MAX;

    if (text.length == 0)
        return RESULT_INVALID;
    while (text.length > 0) {
        struct amount amount;
        enum result taken = take_amount(&text, duration_units, DURATION_UNITS, &amount);

        if (taken != RESULT_OK)
            return taken;
        if (amount.factor >= before)
            return RESULT_INVALID;
        before = amount.factor;
        if (amount.value > (uint64_t)INT64_MAX - sum)
            return RESULT_TOO_LARGE;
        sum += amount.value;
    }
    *ms = (int64_t)sum;
    return RESULT_OK;
}

void duration_print(int64_t ms, char text[MOMENT_TEXT])
{
    size_t length = 0;
    uint64_t left = ms < 0 ? 0 : (uint64_t)ms;

    if (left == 0) {
        (void)snprintf(text, MOMENT_TEXT, "0s");
        return;
    }
    for (size_t i = 0; i < DURATION_UNITS && left > 0; i++) {
        uint64_t amount = left / duration_units[i].factor;

        if (amount == 0)
            continue;
        left -= amount * duration_units[i].factor;
        length += (size_t)snprintf(text + length, MOMENT_TEXT - length, "%llu%s",
                                   (unsigned long long)amount, duration_units[i].name);
    }
}

static const struct unit size_units[] = {{"TiB", UINT64_C(1) << 40},
                                         {"GiB", UINT64_C(1) << 30},
                                         {"MiB", UINT64_C(1) << 20},
                                         {"KiB", UINT64_C(1) << 10},
                                         {"TB", 1000000000000},
                                         {"GB", 1000000000},
                                         {"MB", 1000000},
                                         {"KB", 1000},
                                         {"B", 1},
                                         {"", 1}};

enum result size_parse(struct slice text, uint64_t *bytes)
{
    struct amount amount;
    enum result taken =
        take_amount(&text, size_units, sizeof size_units / sizeof *size_units, &amount);

    if (taken != RESULT_OK)
        return taken;
    if (text.length > 0)
        return RESULT_INVALID;
    *bytes = amount.value;
    return RESULT_OK;
}

void size_print(uint64_t bytes, char text[MOMENT_TEXT])
{
    size_t best = MOMENT_TEXT;

    /* Powers of two stand first in the table: among equally short forms the first one wins.
     */
    for (size_t i = 0; i < sizeof size_units / sizeof *size_units; i++) {
        char form[MOMENT_TEXT];

        if (bytes % size_units[i].factor != 0 || (bytes == 0 && size_units[i].factor > 1))
            continue;
        (void)snprintf(form, sizeof form, "%llu%s",
                       (unsigned long long)(bytes / size_units[i].factor),
                       size_units[i].name);
        if (strlen(form) >= best)
            continue;
        best = strlen(form);
        memcpy(text, form, best + 1);
    }
}
