/* One text for Prometheus and for us: what `smtpd status` shows cannot differ from what is
 * scraped. */
#include "metrics.h"

#include "print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_TEXT = 128, LABEL_TEXT = 1024, LINE_TEXT = 4096, NAMED_SHOWN = 10 };

/* ---- reading ---- */

struct reader {
    json_t *families;
    json_t *family; /* borrowed: the last one */
    char group[NAME_TEXT];
};

static json_t *number_of(const char *text)
{
    return strpbrk(text, ".eIN") ? json_real(strtod(text, NULL))
                                 : json_integer(strtoll(text, NULL, 10));
}

static bool begin_family(struct reader *reader, const char *rest)
{
    size_t length = strcspn(rest, " ");

    if (!rest[length])
        return false;
    reader->family =
        json_pack("{s:s,s:s#,s:s,s:s,s:[]}", "group", reader->group, "name", rest,
                  (int)length, "type", rest + length + 1, "help", "", "samples");
    return json_array_append_new(reader->families, reader->family) == 0;
}

static void unescape(char *text)
{
    char *to = text;

    for (; *text; text++) {
        if (*text == '\\' && text[1])
            text++;
        *to++ = *text;
    }
    *to = '\0';
}

static bool read_comment(struct reader *reader, char *line)
{
    char *rest;

    if (strncmp(line, "# GROUP ", 8) == 0) {
        (void)snprintf(reader->group, sizeof reader->group, "%.100s", line + 8);
        return true;
    }
    if (strncmp(line, "# TYPE ", 7) == 0)
        return begin_family(reader, line + 7);
    if (strncmp(line, "# HELP ", 7) == 0 && reader->family) {
        rest = strchr(line + 7, ' ');
        if (!rest)
            return false;
        unescape(rest + 1);
        return json_object_set_new(reader->family, "help", json_string(rest + 1)) == 0;
    }
    return true;
}

/* `at` stands behind the brace; NULL when it is no list of labels. Returns what follows. */
static char *read_labels(char *at, json_t *labels, char le[NAME_TEXT])
{
    while (at && *at && *at != '}') {
        char *name = at;
        char *value = strstr(at, "=\"");
        char *end;

        if (!value)
            return NULL;
        *value = '\0';
        value += 2;
        for (end = value; *end && *end != '"'; end++)
            if (*end == '\\' && end[1])
                end++;
        if (!*end)
            return NULL;
        *end = '\0';
        unescape(value);
        if (strcmp(name, "le") == 0)
            (void)snprintf(le, NAME_TEXT, "%.100s", value);
        else
            (void)json_object_set_new(labels, name, json_string(value));
        at = end + 1;
        at += *at == ',';
    }
    return at && *at == '}' ? at + 1 : NULL;
}

/* The sample of a histogram that its many lines belong to: they stand together. */
static json_t *histogram_sample(json_t *samples, const json_t *labels)
{
    size_t count = json_array_size(samples);
    json_t *sample = count > 0 ? json_array_get(samples, count - 1) : NULL;

    if (sample && json_equal(json_object_get(sample, "labels"), labels))
        return sample;
    sample =
        json_pack("{s:O,s:i,s:i,s:[]}", "labels", labels, "count", 0, "sum", 0, "buckets");
    (void)json_array_append_new(samples, sample);
    return sample;
}

static void add_histogram_line(json_t *sample, const char *suffix, const char *le,
                               json_t *number)
{
    if (strcmp(suffix, "_count") == 0)
        (void)json_object_set(sample, "count", number);
    else if (strcmp(suffix, "_sum") == 0)
        (void)json_object_set(sample, "sum", number);
    else if (strcmp(le, "+Inf") != 0)
        (void)json_array_append_new(json_object_get(sample, "buckets"),
                                    json_pack("[o,O]", number_of(le), number));
}

static bool read_sample(struct reader *reader, char *line)
{
    size_t length = strcspn(line, "{ ");
    json_t *samples = reader->family ? json_object_get(reader->family, "samples") : NULL;
    const char *name = reader->family ? get_text(reader->family, "name") : "";
    char *rest = line + length;
    char le[NAME_TEXT] = "";
    json_t *labels = json_object();
    json_t *number;

    if (*rest == '{')
        rest = read_labels(rest + 1, labels, le);
    if (!reader->family || !rest || *rest != ' ' ||
        strncmp(line, name, strlen(name)) != 0) {
        json_decref(labels);
        return false;
    }
    number = number_of(rest + 1);
    line[length] = '\0';
    if (strcmp(get_text(reader->family, "type"), "histogram") == 0)
        add_histogram_line(histogram_sample(samples, labels), line + strlen(name), le,
                           number);
    else
        (void)json_array_append_new(
            samples, json_pack("{s:O,s:O}", "labels", labels, "value", number));
    json_decref(number);
    json_decref(labels);
    return true;
}

json_t *metrics_parse(struct slice text)
{
    struct reader reader = {.families = json_array()};
    char line[LINE_TEXT];
    bool is_good = true;

    while (text.length > 0 && is_good) {
        size_t length = slice_find(text, '\n');

        is_good =
            slice_copy_text(slice_part(text, 0, length), line, sizeof line) &&
            (line[0] == '#' ? read_comment(&reader, line) : read_sample(&reader, line));
        text = slice_from(text, length < text.length ? length + 1 : length);
    }
    if (is_good && json_array_size(reader.families) > 0)
        return reader.families;
    json_decref(reader.families);
    return NULL;
}

/* ---- showing ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);

    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static void print_seconds(double seconds, char text[PRINT_TEXT])
{
    if (seconds <= 0)
        (void)snprintf(text, PRINT_TEXT, "0");
    else if (seconds < 0.001)
        (void)snprintf(text, PRINT_TEXT, "%.0f us", seconds * 1e6);
    else if (seconds < 1)
        (void)snprintf(text, PRINT_TEXT, "%.3g ms", seconds * 1e3);
    else if (seconds < 120)
        (void)snprintf(text, PRINT_TEXT, "%.3g s", seconds);
    else
        print_age((int64_t)(seconds * 1000), text);
}

/* "smtpd_store_file_bytes" -> "store file" and how its numbers are to be read. */
static void shorten(const char *name, char text[NAME_TEXT])
{
    static const char *const ends[] = {"_total", "_timestamp_seconds", "_seconds", "_bytes",
                                       "_info"};

    (void)snprintf(text, NAME_TEXT, "%.100s",
                   strncmp(name, "smtpd_", 6) == 0 ? name + 6 : name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(text, ends[i]))
            text[strlen(text) - strlen(ends[i])] = '\0';
    for (char *at = text; *at; at++)
        if (*at == '_')
            *at = ' ';
}

static void print_value(const char *name, const json_t *value, int64_t now_ms,
                        char text[PRINT_TEXT])
{
    double number = json_number_value(value);
    double away;
    char age[PRINT_TEXT];

    if (ends_with(name, "_timestamp_seconds") || ends_with(name, "_time_seconds")) {
        away = number * 1000 - (double)now_ms;
        print_age((int64_t)(away < 0 ? -away : away), age);
        (void)snprintf(text, PRINT_TEXT, away < 0 ? "%.40s ago" : "in %.40s", age);
    } else if (strstr(name, "_seconds")) {
        print_seconds(number, text);
    } else if (strstr(name, "_bytes")) {
        print_count((int64_t)number, text);
    } else {
        (void)snprintf(text, PRINT_TEXT, "%" JSON_INTEGER_FORMAT, (json_int_t)number);
    }
}

static void label_words(const json_t *sample, char text[LABEL_TEXT])
{
    const json_t *labels = json_object_get(sample, "labels");
    const char *name;
    json_t *value;
    size_t length = 0;

    text[0] = '\0';
    json_object_foreach((json_t *)(uintptr_t)labels, name, value)
    {
        (void)snprintf(text + length, LABEL_TEXT - length, "%s%s", length > 0 ? " " : "",
                       json_string_value(value));
        length = strlen(text);
    }
}

static void print_bound(const char *name, double bound, char text[PRINT_TEXT])
{
    if (strstr(name, "_seconds"))
        print_seconds(bound, text);
    else
        (void)snprintf(text, PRINT_TEXT, "%.0f", bound);
}

/* The bound below which `share` of all lie. */
static void quantile(const char *name, const json_t *sample, double share,
                     char text[PRINT_TEXT])
{
    double count = json_number_value(json_object_get(sample, "count"));
    const json_t *buckets = json_object_get(sample, "buckets");
    double bound = 0;

    for (size_t i = 0; i < json_array_size(buckets); i++) {
        const json_t *bucket = json_array_get(buckets, i);

        bound = json_number_value(json_array_get(bucket, 0));
        if (json_number_value(json_array_get(bucket, 1)) >= share * count) {
            print_bound(name, bound, text);
            return;
        }
    }
    print_bound(name, bound, text);
    (void)memmove(text + 1, text, strlen(text) + 1);
    text[0] = '>';
}

static void show_histogram(const char *name, const char *head, const json_t *sample)
{
    double count = json_number_value(json_object_get(sample, "count"));
    char words[LABEL_TEXT];
    char mean[PRINT_TEXT];
    char half[PRINT_TEXT];
    char most[PRINT_TEXT];

    label_words(sample, words);
    (void)printf("  %s%-30s%s %-10s", print_dim(), head, print_plain(), words);
    if (count <= 0) {
        (void)printf(" none\n");
        return;
    }
    print_bound(name, json_number_value(json_object_get(sample, "sum")) / count, mean);
    quantile(name, sample, 0.5, half);
    quantile(name, sample, 0.99, most);
    (void)printf(" %.0f, mean %s, half within %s, 99%% within %s\n", count, mean, half,
                 most);
}

static void show_histograms(const json_t *family, const char *head)
{
    const json_t *samples = json_object_get(family, "samples");

    for (size_t i = 0; i < json_array_size(samples); i++)
        show_histogram(get_text(family, "name"), i == 0 ? head : "",
                       json_array_get(samples, i));
}

/* Of labelled samples those that are not zero, at most ten; "0" when all are. */
static void show_samples(const json_t *family, const char *head, int64_t now_ms)
{
    const json_t *samples = json_object_get(family, "samples");
    bool is_info = ends_with(get_text(family, "name"), "_info");
    char words[LABEL_TEXT];
    char value[PRINT_TEXT];
    size_t shown = 0;
    size_t left_out = 0;

    (void)printf("  %s%-30s%s", print_dim(), head, print_plain());
    for (size_t i = 0; i < json_array_size(samples); i++) {
        const json_t *sample = json_array_get(samples, i);

        label_words(sample, words);
        if (words[0] && json_number_value(json_object_get(sample, "value")) == 0)
            continue;
        if (shown >= NAMED_SHOWN) {
            left_out++;
            continue;
        }
        print_value(get_text(family, "name"), json_object_get(sample, "value"), now_ms,
                    value);
        (void)printf("%s %s%s%s", shown > 0 ? "," : "", words,
                     words[0] && !is_info ? " " : "", is_info ? "" : value);
        shown++;
    }
    if (left_out > 0)
        (void)printf(", and %zu more", left_out);
    (void)printf("%s\n", shown > 0 ? "" : " 0");
}

void metrics_print(const json_t *families, int64_t now_ms)
{
    const char *group = "";
    char head[NAME_TEXT];

    for (size_t i = 0; i < json_array_size(families); i++) {
        const json_t *family = json_array_get(families, i);

        if (strcmp(get_text(family, "group"), group) != 0) {
            group = get_text(family, "group");
            (void)printf("\n%s%s%s\n", print_bold(), group, print_plain());
        }
        shorten(get_text(family, "name"), head);
        if (strcmp(get_text(family, "type"), "histogram") == 0)
            show_histograms(family, head);
        else
            show_samples(family, head, now_ms);
    }
}
