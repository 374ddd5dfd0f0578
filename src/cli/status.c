/* smtpd status: what the server counts, on one screen. */
#include "client.h"
#include "metrics.h"
#include "print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void line(const char *name, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void line(const char *name, const char *format, ...)
{
    va_list arguments;

    (void)printf("  %s%-12s%s ", print_dim(), name, print_plain());
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)putchar('\n');
}

static void head(const char *name)
{
    (void)printf("%s%s%s\n", print_bold(), name, print_plain());
}

static void show_queue(const json_t *status)
{
    const json_t *queue = json_object_get(status, "queue");
    char age[PRINT_TEXT] = "-";
    char room[PRINT_TEXT];
    char file[PRINT_TEXT];

    if (get_number(queue, "oldest_ms"))
        print_age(get_number(status, "now_ms") - get_number(queue, "oldest_ms"), age);
    print_count(get_number(queue, "free_bytes"), room);
    print_count(get_number(queue, "file_bytes"), file);
    head("queue");
    line("waiting",
         "%" PRId64 " groups in %" PRId64 " domain queues, the oldest %s; %" PRId64
         " held, %" PRId64 " active%s",
         get_number(queue, "groups_waiting"), get_number(queue, "domain_queues"), age,
         get_number(queue, "groups_held"), get_number(queue, "groups_leased"),
         json_is_true(json_object_get(queue, "is_rebuilding")) ? " (index is being rebuilt)"
                                                               : "");
    line("disk", "%s%s free%s, file %s",
         json_is_true(json_object_get(queue, "has_room")) ? "" : print_warn(), room,
         json_is_true(json_object_get(queue, "has_room")) ? "" : ": new mail gets 452",
         file);
    (void)printf("%s", print_plain());
    line("commits",
         "%" PRId64 " (%" PRId64 " failed), %" PRId64 " messages; last %" PRId64
         " us, most %" PRId64 " us in a minute",
         get_number(queue, "commits"), get_number(queue, "commits_failed"),
         get_number(queue, "messages_committed"), get_number(queue, "commit_us_last"),
         get_number(queue, "commit_us_max"));
}

static void show_receive(const json_t *receive)
{
    char bytes[PRINT_TEXT];

    print_count(get_number(receive, "bytes_accepted"), bytes);
    head("receive");
    line("connections",
         "%" PRId64 " open, %" PRId64 " since the start, %" PRId64 " refused",
         get_number(receive, "connections_open"), get_number(receive, "connections"),
         get_number(receive, "connections_refused"));
    line("messages",
         "%" PRId64 " accepted for %" PRId64 " recipients (%s), %" PRId64 " rejected",
         get_number(receive, "messages_accepted"),
         get_number(receive, "recipients_accepted"), bytes,
         get_number(receive, "messages_rejected"));
    line("log-ins", "%" PRId64 " good, %" PRId64 " failed", get_number(receive, "auth_ok"),
         get_number(receive, "auth_failed"));
}

static void show_deliver(const json_t *deliver)
{
    head("deliver");
    line("recipients",
         "%" PRId64 " delivered, %" PRId64 " deferred, %" PRId64 " failed, %" PRId64
         " expired",
         get_number(deliver, "recipients_delivered"),
         get_number(deliver, "recipients_deferred"),
         get_number(deliver, "recipients_failed"),
         get_number(deliver, "recipients_expired"));
    line("connections", "%" PRId64 " open, %" PRId64 " since the start, %" PRId64 " failed",
         get_number(deliver, "connections_open"), get_number(deliver, "connections"),
         get_number(deliver, "connections_failed"));
    line("destinations", "%" PRId64 " known, %" PRId64 " backing off",
         get_number(deliver, "destinations"),
         get_number(deliver, "destinations_backing_off"));
}

static void show_summary(const json_t *status)
{
    const json_t *lag = json_object_get(status, "loop_lag");
    char age[PRINT_TEXT];

    print_age(get_number(status, "now_ms") - get_number(status, "started_ms"), age);
    (void)printf("%s%s%s  smtpd %s, up %s%s\n", print_bold(), get_text(status, "hostname"),
                 print_plain(), get_text(status, "version"), age,
                 json_is_true(json_object_get(status, "is_draining")) ? ", leaving" : "");
    show_queue(status);
    show_receive(json_object_get(status, "receive"));
    show_deliver(json_object_get(status, "deliver"));
    head("loop");
    line("lag", "p50 %" PRId64 " us, p99 %" PRId64 " us, most %" PRId64 " us in a minute",
         get_number(lag, "p50_us"), get_number(lag, "p99_us"), get_number(lag, "max_us"));
}

static int ask_metrics(const struct cli_context *context, json_t **families)
{
    struct bytes text;
    unsigned status = 0;
    int code;

    *families = NULL;
    bytes_init(&text, CLIENT_PROBE_MAX);
    code = client_probe(context, "/metrics?groups=1", &text, &status);
    if (code == CLI_DONE && status == 200)
        *families = metrics_parse(bytes_view(&text));
    bytes_fini(&text);
    if (code == CLI_DONE && !*families) {
        (void)fprintf(stderr, "smtpd: the server's metrics are not understood\n");
        code = CLI_FAILED;
    }
    return code;
}

int cli_status(const struct cli_context *context, int argc, char **argv)
{
    bool is_short = argc == 1 && strcmp(argv[0], "--short") == 0;
    json_t *families = NULL;
    json_t *status = NULL;
    int code;

    if (argc > 0 && !is_short) {
        (void)fprintf(stderr, "smtpd: status takes no \"%s\"\n", argv[argc > 1]);
        return CLI_USAGE;
    }
    code = client_ask(context, "/v1/status", NULL, &status);
    if (code == CLI_DONE && !is_short)
        code = ask_metrics(context, &families);
    if (code == CLI_DONE && context->wants_json) {
        if (families)
            (void)json_object_set(status, "metrics", families);
        code = print_json(status);
    } else if (code == CLI_DONE) {
        show_summary(status);
        if (families)
            metrics_print(families, get_number(status, "now_ms"));
    }
    json_decref(families);
    json_decref(status);
    return code;
}
