#include "sts_policy.h"

#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { FIELD_NAME_MAX = 32, AGE_DIGITS_MAX = 10, DOMAIN_MAX = 253, LABEL_MAX = 63 };

struct sts_policy {
    unsigned references;
    enum sts_mode mode;
    int64_t max_age_s;
    size_t mx_count;
    size_t mx_bytes;
    char *mx; /* patterns in lower case, each with its NUL */
};

static const char *const modes[] = {
    [STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce"};

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* sts-ext-name: a letter or digit, then at most 31 of them or "_", "-", ".". */
static bool is_field_name(struct slice name)
{
    if (name.length == 0 || name.length > FIELD_NAME_MAX ||
        !is_letter_or_digit(name.data[0]))
        return false;
    for (size_t i = 1; i < name.length; i++)
        if (!is_letter_or_digit(name.data[i]) && name.data[i] != '_' &&
            name.data[i] != '-' && name.data[i] != '.')
            return false;
    return true;
}

/* ---- the TXT record ---- */

static bool is_id(struct slice value)
{
    for (size_t i = 0; i < value.length; i++)
        if (!is_letter_or_digit(value.data[i]))
            return false;
    return value.length > 0 && value.length < STS_ID_TEXT;
}

static bool is_record_value(struct slice value)
{
    for (size_t i = 0; i < value.length; i++)
        if (value.data[i] <= ' ' || value.data[i] > '~' || value.data[i] == '=')
            return false;
    return value.length > 0;
}

/* One "name=value" between semicolons. */
static bool read_pair(struct slice pair, char id[STS_ID_TEXT])
{
    size_t equals = slice_find(pair, '=');
    struct slice name = slice_part(pair, 0, equals);
    struct slice value;

    if (equals == pair.length || !is_field_name(name))
        return false;
    value = slice_from(pair, equals + 1);
    if (!slice_equal_text(name, "id"))
        return is_record_value(value);
    if (!is_id(value))
        return false;
    return id[0] || slice_copy_text(value, id, STS_ID_TEXT);
}

static bool read_record(struct slice record, char id[STS_ID_TEXT])
{
    struct slice rest = slice_from(record, sizeof "v=STSv1;" - 1);

    id[0] = '\0';
    while (rest.length > 0) {
        size_t end = slice_find(rest, ';');
        struct slice pair = slice_trim(slice_part(rest, 0, end));
        bool is_last = end == rest.length;

        rest = slice_from(rest, is_last ? end : end + 1);
        if (is_last && pair.length == 0)
            break; /* the delimiter at the end may be there */
        if (!read_pair(pair, id))
            return false;
    }
    return id[0] != '\0';
}

bool sts_record_id(const struct slice *records, size_t count, char id[STS_ID_TEXT])
{
    static const char version[] = "v=STSv1;";
    const struct slice *found = NULL;

    id[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (records[i].length < sizeof version - 1 ||
            memcmp(records[i].data, version, sizeof version - 1) != 0)
            continue;
        if (found)
            return false;
        found = &records[i];
    }
    if (found && read_record(*found, id))
        return true;
    id[0] = '\0';
    return false;
}

/* ---- the policy ---- */

struct reading {
    struct sts_policy *policy;
    bool has_version;
    bool has_mode;
    bool has_age;
    const char *wrong; /* NULL: nothing so far */
};

/* A domain of letters, digits, hyphens and underscores in labels, below "*." or not. */
static bool is_pattern(struct slice value)
{
    size_t label = 0;

    if (value.length > 2 && value.data[0] == '*' && value.data[1] == '.')
        value = slice_from(value, 2);
    if (value.length == 0 || value.length > DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < value.length; i++) {
        char c = value.data[i];

        if (c == '.' ? label == 0 : !is_letter_or_digit(c) && c != '-' && c != '_')
            return false;
        label = c == '.' ? 0 : label + 1;
        if (label > LABEL_MAX)
            return false;
    }
    return label > 0;
}

static void add_pattern(struct sts_policy *policy, struct slice value)
{
    char *at;

    policy->mx = memory_resize(policy->mx, policy->mx_bytes + value.length + 1);
    at = policy->mx + policy->mx_bytes;
    for (size_t i = 0; i < value.length; i++)
        at[i] = (char)(value.data[i] >= 'A' && value.data[i] <= 'Z' ? value.data[i] + 32
                                                                    : value.data[i]);
    at[value.length] = '\0';
    policy->mx_bytes += value.length + 1;
    policy->mx_count++;
}

static void read_mx(struct reading *reading, struct slice value)
{
    if (!is_pattern(value))
        reading->wrong = "an \"mx\" that is no domain";
    else if (reading->policy->mx_count == STS_MX_MAX)
        reading->wrong = "more than 100 \"mx\" lines";
    else
        add_pattern(reading->policy, value);
}

static void read_mode(struct reading *reading, struct slice value)
{
    if (reading->has_mode)
        return;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (slice_equal_text(value, modes[i])) {
            reading->policy->mode = (enum sts_mode)i;
            reading->has_mode = true;
            return;
        }
    reading->wrong = "a \"mode\" that is none of enforce, testing, none";
}

static void read_age(struct reading *reading, struct slice value)
{
    uint64_t seconds = 0;

    if (reading->has_age)
        return;
    reading->has_age = true;
    if (value.length > AGE_DIGITS_MAX ||
        slice_to_u64(value, UINT64_MAX, &seconds) != RESULT_OK)
        reading->wrong = "a \"max_age\" that is no number of seconds";
    reading->policy->max_age_s = seconds > STS_MAX_AGE_S ? STS_MAX_AGE_S : (int64_t)seconds;
}

static void read_version(struct reading *reading, struct slice value)
{
    if (!reading->has_version && !slice_equal_text(value, "STSv1"))
        reading->wrong = "a \"version\" that is not STSv1";
    reading->has_version = true;
}

static void read_line(struct reading *reading, struct slice line)
{
    size_t colon = slice_find(line, ':');
    struct slice name = slice_part(line, 0, colon);
    struct slice value;

    if (colon == line.length || !is_field_name(name)) {
        reading->wrong = "a line that is no field";
        return;
    }
    value = slice_trim(slice_from(line, colon + 1));
    if (slice_equal_text(name, "version"))
        read_version(reading, value);
    else if (slice_equal_text(name, "mode"))
        read_mode(reading, value);
    else if (slice_equal_text(name, "mx"))
        read_mx(reading, value);
    else if (slice_equal_text(name, "max_age"))
        read_age(reading, value);
}

static void judge(struct reading *reading)
{
    if (reading->wrong)
        return;
    if (!reading->has_version)
        reading->wrong = "no \"version\"";
    else if (!reading->has_mode)
        reading->wrong = "no \"mode\"";
    else if (!reading->has_age)
        reading->wrong = "no \"max_age\"";
    else if (reading->policy->mx_count == 0 && reading->policy->mode != STS_NONE)
        reading->wrong = "no \"mx\"";
}

struct sts_policy *sts_policy_parse(struct slice body, char text[160])
{
    struct reading reading = {.policy = NEW(struct sts_policy)};

    reading.policy->references = 1;
    if (body.length > STS_BODY_MAX)
        reading.wrong = "more than 64 KiB";
    while (body.length > 0 && !reading.wrong) {
        size_t end = slice_find(body, '\n');
        struct slice line = slice_part(body, 0, end);

        body = slice_from(body, end < body.length ? end + 1 : end);
        if (line.length > 0 && line.data[line.length - 1] == '\r')
            line.length--;
        line = slice_trim(line);
        if (line.length > 0) /* blank lines are in many that work everywhere */
            read_line(&reading, line);
    }
    judge(&reading);
    if (!reading.wrong)
        return reading.policy;
    (void)snprintf(text, 160, "the policy has %s", reading.wrong);
    sts_policy_unref(reading.policy);
    return NULL;
}

struct sts_policy *sts_policy_ref(const struct sts_policy *policy)
{
    struct sts_policy *own = (struct sts_policy *)(uintptr_t)policy;

    if (own)
        own->references++;
    return own;
}

void sts_policy_unref(const struct sts_policy *policy)
{
    struct sts_policy *own = (struct sts_policy *)(uintptr_t)policy;

    if (!own || --own->references > 0)
        return;
    memory_free(own->mx);
    memory_free(own);
}

const char *sts_mode_name(enum sts_mode mode)
{
    return modes[mode];
}

enum sts_mode sts_policy_mode(const struct sts_policy *policy)
{
    return policy->mode;
}

int64_t sts_policy_max_age_ms(const struct sts_policy *policy)
{
    return policy->max_age_s * 1000;
}

size_t sts_policy_mx_count(const struct sts_policy *policy)
{
    return policy->mx_count;
}

static bool pattern_matches(const char *pattern, const char *host)
{
    const char *dot;

    if (pattern[0] != '*')
        return strcmp(pattern, host) == 0;
    dot = strchr(host, '.');
    return dot && dot > host && strcmp(pattern + 1, dot) == 0;
}

bool sts_policy_matches(const struct sts_policy *policy, const char *host)
{
    const char *pattern = policy->mx;

    for (size_t i = 0; i < policy->mx_count; i++, pattern += strlen(pattern) + 1)
        if (pattern_matches(pattern, host))
            return true;
    return false;
}

enum result sts_policy_print(const struct sts_policy *policy, struct bytes *into)
{
    const char *pattern = policy->mx;
    enum result result = bytes_format(into, "version: STSv1\nmode: %s\nmax_age: %lld\n",
                                      modes[policy->mode], (long long)policy->max_age_s);

    for (size_t i = 0; i < policy->mx_count && result == RESULT_OK;
         i++, pattern += strlen(pattern) + 1)
        result = bytes_format(into, "mx: %s\n", pattern);
    return result;
}

enum result sts_policy_print_line(const struct sts_policy *policy, struct bytes *into)
{
    size_t before = into->length;
    enum result result = sts_policy_print(policy, into);

    if (result != RESULT_OK) {
        into->length = before;
        return result;
    }
    into->length--; /* the end of the last line */
    for (size_t i = before; i < into->length; i++)
        if (into->data[i] == '\n')
            into->data[i] = '|';
    return RESULT_OK;
}
