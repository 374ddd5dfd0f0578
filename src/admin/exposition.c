/* See https://prometheus.io/docs/specs/om/open_metrics_spec/ : in OpenMetrics a counter's
 * family has no "_total" and its sample has it; in the older text both have it. */
#include "exposition.h"

#include "smtpd/base/check.h"

#include <string.h>

enum { DIGITS = 24 };

void exposition_init(struct exposition *to, bool is_openmetrics)
{
    *to = (struct exposition){.is_openmetrics = is_openmetrics};
    bytes_init(&to->text, EXPOSITION_BYTES_MAX);
}

void exposition_fini(struct exposition *to)
{
    bytes_fini(&to->text);
}

const char *exposition_content_type(const struct exposition *to)
{
    return to->is_openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                              : "text/plain; version=0.0.4; charset=utf-8";
}

const char *metric_type_name(enum metric_type type)
{
    static const char *const names[] = {"counter", "gauge", "histogram", "info"};

    return names[type];
}

static void add(struct exposition *to, struct slice text)
{
    if (!to->is_full && bytes_add(&to->text, text) != RESULT_OK)
        to->is_full = true;
}

static void add_text(struct exposition *to, const char *text)
{
    add(to, slice_of(text));
}

/* The older text knows no escaped quote in a HELP line. */
static void add_escaped(struct exposition *to, const char *text, bool is_label)
{
    const char *specials = is_label || to->is_openmetrics ? "\\\"\n" : "\\\n";

    for (;;) {
        size_t plain = strcspn(text, specials);

        add(to, (struct slice){text, plain});
        text += plain;
        if (!*text)
            return;
        add_text(to, *text == '\n' ? "\\n" : *text == '"' ? "\\\"" : "\\\\");
        text++;
    }
}

/* Digits from the end of `room` on; returns where they begin. */
static char *write_digits(uint64_t number, unsigned least, char room[DIGITS])
{
    char *at = room + DIGITS;

    for (unsigned count = 0; number > 0 || count < least; count++) {
        *--at = (char)('0' + number % 10);
        number /= 10;
    }
    return at;
}

static void add_digits(struct exposition *to, uint64_t number, unsigned least)
{
    char room[DIGITS];
    const char *at = write_digits(number, least, room);

    add(to, (struct slice){at, (size_t)(room + DIGITS - at)});
}

static void add_fraction(struct exposition *to, uint64_t rest, int64_t per_unit)
{
    char room[DIGITS];
    unsigned places = 0;
    const char *at;
    size_t length;

    for (int64_t power = 1; power < per_unit; power *= 10)
        places++;
    at = write_digits(rest, places, room);
    for (length = places; length > 1 && at[length - 1] == '0'; length--)
        ;
    add_text(to, ".");
    add(to, (struct slice){at, length});
}

/* `per_unit` is a power of ten. */
static void add_number(struct exposition *to, int64_t value, int64_t per_unit,
                       bool always_has_point)
{
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint64_t rest = size % (uint64_t)per_unit;

    if (value < 0)
        add_text(to, "-");
    add_digits(to, size / (uint64_t)per_unit, 1);
    if (rest > 0)
        add_fraction(to, rest, per_unit);
    else if (always_has_point)
        add_text(to, ".0");
}

static void add_family_name(struct exposition *to)
{
    add_text(to, "smtpd_");
    add_text(to, to->name);
    if (to->is_openmetrics)
        return;
    if (to->type == METRIC_COUNTER)
        add_text(to, "_total");
    else if (to->type == METRIC_INFO)
        add_text(to, "_info");
}

void exposition_group(struct exposition *to, const char *name)
{
    if (!to->has_groups || to->is_openmetrics)
        return;
    add_text(to, "# GROUP ");
    add_text(to, name);
    add_text(to, "\n");
}

void exposition_family(struct exposition *to, const char *name, enum metric_type type,
                       const char *unit, const char *help)
{
    bool knows_type = to->is_openmetrics || type != METRIC_INFO;

    to->name = name;
    to->type = type;
    add_text(to, "# TYPE ");
    add_family_name(to);
    add_text(to, " ");
    add_text(to, knows_type ? metric_type_name(type) : "gauge");
    if (unit && to->is_openmetrics) {
        add_text(to, "\n# UNIT ");
        add_family_name(to);
        add_text(to, " ");
        add_text(to, unit);
    }
    add_text(to, "\n# HELP ");
    add_family_name(to);
    add_text(to, " ");
    add_escaped(to, help, false);
    add_text(to, "\n");
}

void exposition_start(struct exposition *to, const char *suffix)
{
    add_text(to, "smtpd_");
    add_text(to, to->name);
    if (to->type == METRIC_COUNTER)
        add_text(to, "_total");
    else if (to->type == METRIC_INFO)
        add_text(to, "_info");
    add_text(to, suffix);
    to->has_labels = false;
}

void exposition_labels(struct exposition *to, const char *written)
{
    add_text(to, to->has_labels ? "," : "{");
    add_text(to, written);
    to->has_labels = true;
}

void exposition_label(struct exposition *to, const char *name, const char *value)
{
    exposition_labels(to, name);
    add_text(to, "=\"");
    add_escaped(to, value, true);
    add_text(to, "\"");
}

void exposition_value(struct exposition *to, int64_t value, int64_t per_unit)
{
    add_text(to, to->has_labels ? "} " : " ");
    add_number(to, value, per_unit, false);
    add_text(to, "\n");
}

static void add_bucket(struct exposition *to, const char *labels, int64_t upper,
                       const struct histogram *histogram, uint64_t count)
{
    exposition_start(to, "_bucket");
    if (labels)
        exposition_labels(to, labels);
    exposition_labels(to, "le=\"");
    if (upper < 0)
        add_text(to, "+Inf");
    else
        add_number(to, upper, histogram->bounds->per_unit, true);
    add_text(to, "\"");
    exposition_value(to, (int64_t)count, 1);
}

void exposition_histogram(struct exposition *to, const char *labels,
                          const struct histogram *histogram)
{
    const struct histogram_bounds *bounds = histogram->bounds;
    uint64_t count = 0;

    for (size_t i = 0; i < bounds->count; i++) {
        count += histogram->buckets[i];
        add_bucket(to, labels, bounds->upper[i], histogram, count);
    }
    add_bucket(to, labels, -1, histogram, histogram->count);
    exposition_start(to, "_sum");
    if (labels)
        exposition_labels(to, labels);
    exposition_value(to, histogram->sum, bounds->per_unit);
    exposition_start(to, "_count");
    if (labels)
        exposition_labels(to, labels);
    exposition_value(to, (int64_t)histogram->count, 1);
}

void exposition_end(struct exposition *to)
{
    CHECK(!to->is_full);
    if (to->is_openmetrics)
        add_text(to, "# EOF\n");
}
