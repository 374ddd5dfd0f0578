#include "tally_file.h"

#include "smtpd/base/limits.h"

#include <string.h>

#define HEAD "smtpd-tls-report 1"
enum { NUMBER_BITS = 53 };

/* ---- writing ---- */

static enum result add_failure(const struct tally_failure *failure, struct bytes *into)
{
    enum result added =
        bytes_format(into, "failure\t%s\t%llu", tally_result_name(failure->result),
                     (unsigned long long)failure->count);

    for (int i = 0; i < TALLY_TEXTS && added == RESULT_OK; i++)
        added = bytes_format(into, "\t%s", failure->texts[i]);
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

static enum result add_policy(const struct tally_policy *policy, struct bytes *into,
                              uint64_t *lines)
{
    enum result added = bytes_format(
        into, "policy\t%s\t%llu\t%llu\t%llu\t%s\n", tally_type_name(policy->type),
        (unsigned long long)policy->successes, (unsigned long long)policy->failures,
        (unsigned long long)policy->dropped, policy->text);

    (*lines)++;
    for (struct link *link = list_first(&policy->kinds); link && added == RESULT_OK;
         link = list_next(&policy->kinds, link), (*lines)++)
        added = add_failure(CONTAINER_OF(link, struct tally_failure, link), into);
    return added;
}

static enum result add_domains(const struct list *domains, struct bytes *into,
                               uint64_t *lines)
{
    enum result added = RESULT_OK;

    for (struct link *link = list_first(domains); link && added == RESULT_OK;
         link = list_next(domains, link)) {
        const struct tally_domain *domain = CONTAINER_OF(link, struct tally_domain, link);

        added = bytes_format(into, "domain\t%s\t%lld\t%lld\n", domain->domain,
                             (long long)domain->begin_ms, (long long)domain->end_ms);
        (*lines)++;
        for (struct link *each = list_first(&domain->policies); each && added == RESULT_OK;
             each = list_next(&domain->policies, each))
            added = add_policy(CONTAINER_OF(each, struct tally_policy, link), into, lines);
    }
    return added;
}

enum result tally_file_print(struct tally *tally, struct bytes *into)
{
    uint64_t lines = 0;
    enum result added = bytes_add_text(into, HEAD "\n");

    if (added == RESULT_OK)
        added = add_domains(tally_closed(tally), into, &lines);
    if (added == RESULT_OK)
        added = add_domains(tally_open(tally), into, &lines);
    if (added == RESULT_OK)
        added = bytes_format(into, "end\t%llu\n", (unsigned long long)lines);
    return added;
}

/* ---- reading ---- */

struct reading {
    struct tally *tally;
    struct tally_domain *domain;
    struct tally_policy *policy;
    struct slice line;
    bool is_wrong;
};

static struct slice take_field(struct reading *reading)
{
    size_t end = slice_find(reading->line, '\t');
    struct slice field = slice_part(reading->line, 0, end);

    reading->line = end < reading->line.length ? slice_from(reading->line, end + 1)
                                               : (struct slice){"", 0};
    return field;
}

static void take_text(struct reading *reading, char *into, size_t into_bytes)
{
    struct slice field = take_field(reading);

    for (size_t i = 0; i < field.length; i++)
        if (field.data[i] < ' ' || field.data[i] > '~')
            reading->is_wrong = true;
    if (!slice_copy_text(field, into, into_bytes))
        reading->is_wrong = true;
}

static uint64_t take_number(struct reading *reading)
{
    uint64_t number = 0;

    if (slice_to_u64(take_field(reading), UINT64_C(1) << NUMBER_BITS, &number) != RESULT_OK)
        reading->is_wrong = true;
    return number;
}

static void read_domain(struct reading *reading)
{
    char name[TALLY_DOMAIN_TEXT];
    int64_t begin_ms;
    int64_t end_ms;

    take_text(reading, name, sizeof name);
    begin_ms = (int64_t)take_number(reading);
    end_ms = (int64_t)take_number(reading);
    reading->policy = NULL;
    if (reading->is_wrong || !name[0] || (end_ms && end_ms < begin_ms))
        reading->is_wrong = true;
    else
        reading->domain = tally_put_domain(reading->tally, name, begin_ms, end_ms);
    reading->is_wrong |= !reading->domain;
}

static void read_policy(struct reading *reading)
{
    struct slice type = take_field(reading);
    uint64_t successes = take_number(reading);
    uint64_t failures = take_number(reading);
    uint64_t dropped = take_number(reading);
    char text[TALLY_POLICY_TEXT];
    int at = 0;

    take_text(reading, text, sizeof text);
    while (at < TALLY_TYPES &&
           !slice_equal_text(type, tally_type_name((enum tally_type)at)))
        at++;
    if (reading->is_wrong || at == TALLY_TYPES || !reading->domain || dropped > failures ||
        reading->domain->policies.count > TALLY_POLICIES_MAX + TALLY_TYPES) {
        reading->is_wrong = true;
        return;
    }
    reading->policy =
        tally_put_policy(reading->tally, reading->domain, (enum tally_type)at, text);
    reading->policy->successes += successes;
    reading->policy->failures += failures;
    reading->policy->dropped += dropped;
}

static void read_failure(struct reading *reading)
{
    struct slice result = take_field(reading);
    struct tally_failure failure = {.count = take_number(reading)};
    char texts[TALLY_TEXTS][TALLY_FAILURE_TEXT];
    int at = TALLY_SUCCESS + 1;

    for (int i = 0; i < TALLY_TEXTS; i++) {
        take_text(reading, texts[i], sizeof texts[i]);
        failure.texts[i] = texts[i];
    }
    while (at < TALLY_RESULTS &&
           !slice_equal_text(result, tally_result_name((enum tally_result)at)))
        at++;
    failure.result = (enum tally_result)at;
    if (reading->is_wrong || at == TALLY_RESULTS || !reading->policy ||
        !tally_put_failure(reading->tally, reading->policy, &failure))
        reading->is_wrong = true;
}

static void read_line(struct reading *reading)
{
    struct slice word = take_field(reading);

    if (slice_equal_text(word, "domain"))
        read_domain(reading);
    else if (slice_equal_text(word, "policy"))
        read_policy(reading);
    else if (slice_equal_text(word, "failure"))
        read_failure(reading);
    else
        reading->is_wrong = true;
    reading->is_wrong |= reading->line.length > 0;
}

static bool next_line(struct slice *rest, struct slice *line)
{
    size_t end = slice_find(*rest, '\n');

    if (end == rest->length)
        return false;
    *line = slice_part(*rest, 0, end);
    *rest = slice_from(*rest, end + 1);
    return true;
}

static bool is_end(struct reading *reading, uint64_t lines, struct slice rest)
{
    (void)take_field(reading);
    return take_number(reading) == lines && !reading->is_wrong &&
           reading->line.length == 0 && rest.length == 0;
}

static enum result parse(struct slice text, struct tally *tally, struct fault *fault)
{
    struct reading reading = {.tally = tally};
    struct slice line;
    uint64_t lines = 0;

    if (!next_line(&text, &line) || !slice_equal_text(line, HEAD))
        return fault_set(fault, RESULT_CORRUPT, "it does not begin with " HEAD);
    while (next_line(&text, &reading.line)) {
        if (slice_starts_fold(reading.line, "end\t"))
            return is_end(&reading, lines, text)
                       ? RESULT_OK
                       : fault_set(fault, RESULT_CORRUPT, "its end does not fit");
        lines++;
        read_line(&reading);
        if (reading.is_wrong)
            return fault_set(fault, RESULT_CORRUPT, "line %llu cannot be understood",
                             (unsigned long long)lines + 1);
    }
    return fault_set(fault, RESULT_CORRUPT, "it has no end");
}

enum result tally_file_parse(struct slice text, struct tally *tally, struct fault *fault)
{
    enum result result;

    tally_set_ceiling(tally, (size_t)2 * LIMIT_TLS_REPORT_BYTES);
    result = parse(text, tally, fault);
    tally_set_ceiling(tally, LIMIT_TLS_REPORT_BYTES);
    return result;
}
