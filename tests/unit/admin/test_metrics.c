/* The table as data, and what comes out of a snapshot. */
#include "metrics.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);

    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

TEST(table, a_family_begins_with_a_head_and_goes_on_with_its_own_kind)
{
    const struct metric *family = NULL;

    assert_non_null(metrics[0].group);
    for (size_t i = 0; i < metric_count; i++) {
        const struct metric *row = &metrics[i];

        if (row->name)
            family = row;
        assert_non_null(family);
        assert_true(row->name ? row->help != NULL : !row->group && !row->help);
        if (!row->name) { /* a further sample: labelled, and of the family's kind */
            assert_non_null(row->labels);
            assert_non_null(family->labels);
            assert_null(family->walk);
            assert_int_equal(row->value == VALUE_HISTOGRAM,
                             family->value == VALUE_HISTOGRAM);
            assert_int_equal(row->per_unit, family->per_unit);
        }
        if (!row->walk)
            assert_int_equal(row->value == VALUE_HISTOGRAM,
                             family->type == METRIC_HISTOGRAM);
    }
}

TEST(table, names_are_unique_plain_and_say_their_unit)
{
    for (size_t i = 0; i < metric_count; i++) {
        const struct metric *row = &metrics[i];

        if (!row->name)
            continue;
        for (const char *at = row->name; *at; at++)
            assert_true(islower((unsigned char)*at) || *at == '_');
        for (size_t k = 0; k < i; k++)
            assert_true(!metrics[k].name || strcmp(metrics[k].name, row->name) != 0);
        assert_false(ends_with(row->name, "_total"));
        if (row->unit)
            assert_true(ends_with(row->name, row->unit));
        else
            assert_false(ends_with(row->name, "_seconds") ||
                         ends_with(row->name, "_bytes"));
        assert_true(row->help[strlen(row->help) - 1] == '.');
        assert_null(strchr(row->help, '|')); /* it stands in a table of the manual */
    }
}

TEST(table, no_two_samples_of_a_family_have_the_same_labels)
{
    size_t head = 0;

    for (size_t i = 0; i < metric_count; i++) {
        if (metrics[i].name)
            head = i;
        for (size_t k = head; k < i; k++) {
            assert_string_not_equal(metrics[k].labels, metrics[i].labels);
            assert_int_not_equal(metrics[k].offset, metrics[i].offset);
        }
    }
}

static void init(struct snapshot *snapshot)
{
    histogram_init(&snapshot->lag.spread, &histogram_short);
    histogram_init(&snapshot->receive.final_dot, &histogram_short);
    histogram_init(&snapshot->receive.whole, &histogram_long);
    histogram_init(&snapshot->queue.commit, &histogram_short);
    histogram_init(&snapshot->queue.batch, &histogram_items);
    histogram_init(&snapshot->deliver.delay_queue, &histogram_long);
    histogram_init(&snapshot->deliver.delay_connect, &histogram_long);
    histogram_init(&snapshot->deliver.delay_transfer, &histogram_long);
    histogram_init(&snapshot->deliver.time_in_queue, &histogram_long);
    for (int i = 0; i < KEY_KIND_COUNT; i++)
        histogram_init(&snapshot->sign.kinds[i].us, &histogram_short);
    for (int i = 0; i < POOL_COUNT; i++)
        histogram_init(&snapshot->pools[i].wait, &histogram_short);
}

static void expect_line(const struct exposition *to, const char *line)
{
    if (!memmem(to->text.data, to->text.length, line, strlen(line)))
        fail_msg("no line %s", line);
}

TEST(metrics, pieces_make_the_same_text_as_a_whole)
{
    struct snapshot *snapshot = NEW(struct snapshot);
    struct exposition whole;
    struct exposition pieces;
    size_t row = 0;

    init(snapshot);
    exposition_init(&whole, true);
    exposition_init(&pieces, true);
    assert_int_equal(metrics_write(snapshot, 0, SIZE_MAX, &whole), metric_count);
    while (row < metric_count) {
        size_t next = metrics_write(snapshot, row, 1, &pieces);

        assert_true(next > row);
        row = next;
    }
    assert_int_equal(whole.text.length, pieces.text.length);
    assert_memory_equal(whole.text.data, pieces.text.data, whole.text.length);
    exposition_fini(&whole);
    exposition_fini(&pieces);
    memory_free(snapshot);
}

TEST(metrics, every_kind_of_row_shows_what_the_snapshot_has)
{
    struct snapshot *snapshot = NEW(struct snapshot);
    struct exposition to;

    init(snapshot);
    (void)snprintf(snapshot->version, sizeof snapshot->version, "%s", "9.9");
    snapshot->is_ready = true;
    snapshot->facts.started_ms = INT64_C(1795594022419);
    snapshot->facts.reloads_failed = 3;
    snapshot->receive.messages_accepted = UINT64_C(5000000000);
    snapshot->oldest_age_ms = 1500;
    snapshot->receive.code_count = 2;
    snapshot->receive.codes[0] = (struct receive_code){250, 7, 0};
    snapshot->receive.codes[1] = (struct receive_code){451, 8, 9};
    snapshot->listener_count = 1;
    (void)snprintf(snapshot->listeners[0].name, IP_TEXT, "%s", "[::1]:25");
    snapshot->listeners[0].counts = (struct receive_listener_statistics){4, 5};
    snapshot->busiest.count = 1;
    (void)snprintf(snapshot->busiest.named[0].name, DELIVER_NAME_TEXT, "%s", "mx1");
    snapshot->busiest.named[0].result.deferred = 6;
    snapshot->busiest.named[0].is_backing_off = true;
    snapshot->busiest.other.failed = 2;
    snapshot->deliver.failed_by_class[CLASS_EXPIRED] = 11;
    snapshot->deliver.deferred_by_class[CLASS_QUOTA] = 12;
    snapshot->certificate_count = 1;
    (void)snprintf(snapshot->certificates[0].file, 256, "%s", "/a.crt");
    snapshot->certificates[0].expires_ms = 2000;
    exposition_init(&to, true);
    (void)metrics_write(snapshot, 0, SIZE_MAX, &to);
    expect_line(&to, "\nsmtpd_build_info{version=\"9.9\"} 1\n");
    expect_line(&to, "\nsmtpd_ready 1\n");
    expect_line(&to, "\nsmtpd_start_time_seconds 1795594022.419\n");
    expect_line(&to, "\nsmtpd_reloads_total{result=\"failed\"} 3\n");
    expect_line(&to, "\nsmtpd_messages_accepted_total 5000000000\n");
    expect_line(&to, "\nsmtpd_queue_oldest_age_seconds 1.5\n");
    expect_line(&to, "\nsmtpd_replies_total{code=\"250\"} 7\n");
    expect_line(&to, "\nsmtpd_messages_rejected_total{code=\"451\"} 9\n");
    expect_line(&to,
                "\nsmtpd_connections_total{listener=\"[::1]:25\",result=\"refused\"} 5\n");
    expect_line(&to, "\nsmtpd_destination_recipients_total{destination=\"mx1\","
                     "result=\"deferred\"} 6\n");
    expect_line(&to, "\nsmtpd_destination_recipients_total{destination=\"other\","
                     "result=\"failed\"} 2\n");
    expect_line(&to, "\nsmtpd_destination_backing_off{destination=\"mx1\"} 1\n");
    expect_line(&to, "\nsmtpd_recipients_not_delivered_total{result=\"failed\","
                     "class=\"expired\"} 11\n");
    expect_line(&to, "\nsmtpd_recipients_not_delivered_total{result=\"deferred\","
                     "class=\"quota\"} 12\n");
    expect_line(&to,
                "\nsmtpd_tls_certificate_expiry_timestamp_seconds{file=\"/a.crt\"} 2\n");
    exposition_fini(&to);
    memory_free(snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(table, a_family_begins_with_a_head_and_goes_on_with_its_own_kind),
        RUN(table, names_are_unique_plain_and_say_their_unit),
        RUN(table, no_two_samples_of_a_family_have_the_same_labels),
        RUN(metrics, pieces_make_the_same_text_as_a_whole),
        RUN(metrics, every_kind_of_row_shows_what_the_snapshot_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
