#include "tally_json.h"

#include "smtpd/base/moment.h"

#include <string.h>

/* Remembers its first failure: only the end is asked. */
struct writer {
    struct bytes *into;
    enum result result;
};

static void add(struct writer *writer, const char *text)
{
    if (writer->result == RESULT_OK)
        writer->result = bytes_add_text(writer->into, text);
}

/* RFC 8259 7. Names of an organisation may be UTF-8, which JSON takes as it is. */
static void add_string(struct writer *writer, struct slice text)
{
    add(writer, "\"");
    for (size_t i = 0; i < text.length && writer->result == RESULT_OK; i++) {
        unsigned char byte = (unsigned char)text.data[i];

        if (byte == '"' || byte == '\\')
            writer->result = bytes_format(writer->into, "\\%c", byte);
        else if (byte < ' ')
            writer->result = bytes_format(writer->into, "\\u%04x", byte);
        else
            writer->result = bytes_add(writer->into, slice_part(text, i, 1));
    }
    add(writer, "\"");
}

static void add_name(struct writer *writer, const char *name)
{
    add_string(writer, slice_of(name));
    add(writer, ": ");
}

static void add_text(struct writer *writer, const char *name, const char *text)
{
    add_name(writer, name);
    add_string(writer, slice_of(text));
}

static void add_count(struct writer *writer, const char *name, uint64_t count)
{
    add_name(writer, name);
    if (writer->result == RESULT_OK)
        writer->result = bytes_format(writer->into, "%llu", (unsigned long long)count);
}

/* To the second: 2026-11-24T10:11:12Z. */
static void add_time(struct writer *writer, const char *name, int64_t wall_ms)
{
    char text[MOMENT_TEXT];
    char *dot;

    moment_rfc3339(wall_ms * 1000, text);
    dot = strchr(text, '.');
    if (dot)
        (void)memcpy(dot, "Z", 2);
    add_text(writer, name, text);
}

/* Lines of the policy that begin with `prefix`, without it. */
static void add_lines(struct writer *writer, const char *name, const char *policy,
                      const char *prefix)
{
    struct slice rest = slice_of(policy);
    bool is_first = true;

    add_name(writer, name);
    add(writer, "[");
    while (rest.length > 0) {
        size_t end = slice_find(rest, '|');
        struct slice line = slice_part(rest, 0, end);

        rest = slice_from(rest, end < rest.length ? end + 1 : end);
        if (line.length == 0 || !slice_starts_fold(line, prefix))
            continue;
        add(writer, is_first ? "" : ", ");
        is_first = false;
        add_string(writer, slice_from(line, strlen(prefix)));
    }
    add(writer, "]");
}

static void add_failure(struct writer *writer, const struct tally_failure *failure)
{
    static const char *const names[TALLY_TEXTS] = {[TALLY_MX] = "receiving-mx-hostname",
                                                   [TALLY_HELO] = "receiving-mx-helo",
                                                   [TALLY_SOURCE] = "sending-mta-ip",
                                                   [TALLY_ADDRESS] = "receiving-ip",
                                                   [TALLY_REASON] = "failure-reason-code"};

    add(writer, "{");
    add_text(writer, "result-type", tally_result_name(failure->result));
    for (int i = 0; i < TALLY_TEXTS; i++) {
        if (!failure->texts[i][0])
            continue;
        add(writer, ", ");
        add_text(writer, names[i], failure->texts[i]);
    }
    add(writer, ", ");
    add_count(writer, "failed-session-count", failure->count);
    add(writer, "}");
}

static void add_failures(struct writer *writer, const struct tally_policy *policy)
{
    bool is_first = true;

    if (policy->kinds.count == 0)
        return;
    add(writer, ",\n  ");
    add_name(writer, "failure-details");
    add(writer, "[");
    for (struct link *link = list_first(&policy->kinds); link;
         link = list_next(&policy->kinds, link)) {
        add(writer, is_first ? "\n   " : ",\n   ");
        is_first = false;
        add_failure(writer, CONTAINER_OF(link, struct tally_failure, link));
    }
    add(writer, "]");
}

static void add_policy(struct writer *writer, const struct tally_domain *domain,
                       const struct tally_policy *policy)
{
    add(writer, "{");
    add_name(writer, "policy");
    add(writer, "{");
    add_text(writer, "policy-type", tally_type_name(policy->type));
    if (policy->text[0]) {
        add(writer, ", ");
        add_lines(writer, "policy-string", policy->text, "");
    }
    add(writer, ", ");
    add_text(writer, "policy-domain", domain->domain);
    if (policy->type == TALLY_STS && strstr(policy->text, "mx: ")) {
        add(writer, ", ");
        add_lines(writer, "mx-host", policy->text, "mx: ");
    }
    add(writer, "},\n  ");
    add_name(writer, "summary");
    add(writer, "{");
    add_count(writer, "total-successful-session-count", policy->successes);
    add(writer, ", ");
    add_count(writer, "total-failure-session-count", policy->failures);
    add(writer, "}");
    add_failures(writer, policy);
    add(writer, "}");
}

enum result tally_json(const struct tally_domain *domain,
                       const struct tally_reporter *reporter, struct bytes *into)
{
    struct writer writer = {into, RESULT_OK};
    /* The last second of it (RFC 8460, appendix B). */
    int64_t end_ms = domain->end_ms ? domain->end_ms - 1000 : reporter->end_ms;
    bool is_first = true;

    add(&writer, "{");
    add_text(&writer, "organization-name", reporter->organization);
    add(&writer, ",\n ");
    add_name(&writer, "date-range");
    add(&writer, "{");
    add_time(&writer, "start-datetime", domain->begin_ms);
    add(&writer, ", ");
    add_time(&writer, "end-datetime",
             end_ms > domain->begin_ms ? end_ms : domain->begin_ms);
    add(&writer, "},\n ");
    add_text(&writer, "contact-info", reporter->contact);
    add(&writer, ",\n ");
    add_text(&writer, "report-id", reporter->id);
    add(&writer, ",\n ");
    add_name(&writer, "policies");
    add(&writer, "[");
    for (struct link *link = list_first(&domain->policies); link;
         link = list_next(&domain->policies, link)) {
        add(&writer, is_first ? "\n " : ",\n ");
        is_first = false;
        add_policy(&writer, domain, CONTAINER_OF(link, struct tally_policy, link));
    }
    add(&writer, "]}\n");
    return writer.result;
}
