/* docs/metrics.md: the table, for people. */
#include "metrics.h"

#include <string.h>

/* The families that rows without a name continue. */
static enum result add_labels(size_t row, struct bytes *into)
{
    enum result added = RESULT_OK;

    if (!metrics[row].labels)
        return RESULT_OK;
    if (metrics[row].walk)
        return bytes_format(into, "`%s`", metrics[row].labels);
    for (size_t i = row; i < metric_count && added == RESULT_OK; i++) {
        if (i > row && metrics[i].name)
            break;
        added = bytes_format(into, "%s`%s`", i > row ? ", " : "", metrics[i].labels);
    }
    return added;
}

static enum result add_family(size_t row, struct bytes *into)
{
    const struct metric *metric = &metrics[row];
    const char *suffix = metric->type == METRIC_COUNTER ? "_total"
                         : metric->type == METRIC_INFO  ? "_info"
                                                        : "";
    enum result added = bytes_format(into, "| `smtpd_%s%s` | %s | ", metric->name, suffix,
                                     metric_type_name(metric->type));

    if (added == RESULT_OK)
        added = add_labels(row, into);
    if (added == RESULT_OK)
        added = bytes_format(into, " | %s |\n", metric->help);
    return added;
}

static enum result add_group(const char *name, struct bytes *into)
{
    return bytes_format(into,
                        "\n## %s\n\n| metric | type | labels | what it says |\n"
                        "|---|---|---|---|\n",
                        name);
}

enum result admin_document_metrics(struct bytes *into)
{
    enum result added = bytes_add_text(
        into,
        "# Metrics\n\n"
        "Printed by `smtpd document metrics` from the table that `/metrics` comes from.\n\n"
        "`/metrics` on the addresses of `admin.listen` answers in OpenMetrics 1.0, or in "
        "the older\nPrometheus text for who asks for `text/plain` only. Names are in base "
        "units; every set of\nlabels is bounded. Counters begin at 0 with the process. "
        "Buckets of histograms end at a\nminute where things are fast, and reach from a "
        "millisecond to seven days where mail waits.\n`smtpd status` shows the same on a "
        "terminal. What to watch: [operations](operations.md).\n");

    for (size_t i = 0; i < metric_count && added == RESULT_OK; i++) {
        if (metrics[i].group)
            added = add_group(metrics[i].group, into);
        if (added == RESULT_OK && metrics[i].name)
            added = add_family(i, into);
    }
    return added;
}
