/* smtpd tls-report: what is counted for reports of TLS (RFC 8460), over the control socket. */
#include "client.h"
#include "print.h"
#include "smtpd/base/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_MAX_BYTES = 1024 };

static const char usage[] =
    "usage: smtpd tls-report show\n"
    "       smtpd tls-report show DOMAIN\n"
    "       smtpd tls-report send DOMAIN|--all\n"
    "\n"
    "show lists what is counted, by domain and policy; of a DOMAIN it prints the report as "
    "it would\n"
    "  be sent now.\n"
    "send ends the count of today and sends the report now, if the domain asks for "
    "reports; what\n"
    "  comes after is counted anew. The log says where it went.\n"
    "--json prints what the server answered; --config FILE says which server.\n";

/* ---- show ---- */

static void print_item(const json_t *item, bool is_first)
{
    char begin[MOMENT_TEXT];
    char end[MOMENT_TEXT] = "";

    moment_rfc3339(get_number(item, "begin_ms") * 1000, begin);
    if (get_number(item, "end_ms"))
        moment_rfc3339(get_number(item, "end_ms") * 1000, end);
    if (is_first)
        (void)printf("%s%-32s %-15s %10s %10s %-16s %s%s\n", print_bold(), "DOMAIN",
                     "POLICY", "GOOD", "FAILED", "FROM", "STATE", print_plain());
    (void)printf("%-32s %-15s %10" PRId64 " %s%10" PRId64 "%s %.16s %s\n",
                 get_text(item, "domain"), get_text(item, "policy"),
                 get_number(item, "successes"),
                 get_number(item, "failures") ? print_warn() : "",
                 get_number(item, "failures"), print_plain(), begin,
                 !end[0]                     ? "counting"
                 : get_number(item, "tries") ? "to be sent again"
                                             : "to be sent");
}

static int list(const struct cli_context *context)
{
    int64_t first = 0;
    uint64_t count = 0;
    bool is_on = true;
    int code = CLI_DONE;

    do {
        json_t *answer = NULL;
        const json_t *items;
        char path[PATH_MAX_BYTES];

        (void)snprintf(path, sizeof path, "/v1/tls-report?first=%" PRId64, first);
        code = client_ask(context, path, NULL, &answer);
        is_on = json_is_true(json_object_get(answer, "on"));
        items = json_object_get(answer, "items");
        for (size_t i = 0; i < json_array_size(items); i++, count++) {
            if (!context->wants_json)
                print_item(json_array_get(items, i), count == 0);
            else if (json_dumpf(json_array_get(items, i), stdout,
                                JSON_COMPACT | JSON_ENSURE_ASCII) ||
                     putchar('\n') == EOF)
                code = CLI_FAILED;
        }
        first = get_number(answer, "next");
        json_decref(answer);
    } while (code == CLI_DONE && first > 0);
    if (code != CLI_DONE || context->wants_json)
        return code;
    if (!is_on)
        (void)printf("nothing is counted: set tls_report.organization and "
                     "tls_report.contact\n");
    else if (count == 0)
        (void)printf("%snone%s\n", print_dim(), print_plain());
    return fflush(stdout) == 0 ? CLI_DONE : CLI_FAILED;
}

static int show(const struct cli_context *context, const char *domain)
{
    struct bytes path;
    json_t *answer = NULL;
    int code = CLI_USAGE;

    bytes_init(&path, PATH_MAX_BYTES);
    if (bytes_add_text(&path, "/v1/tls-report/") == RESULT_OK &&
        client_add_encoded(&path, domain) == RESULT_OK &&
        bytes_add(&path, (struct slice){"", 1}) == RESULT_OK)
        code = client_ask(context, path.data, NULL, &answer);
    bytes_fini(&path);
    if (code == CLI_DONE)
        code = print_json(answer);
    json_decref(answer);
    return code;
}

/* ---- send ---- */

static int send_now(const struct cli_context *context, const char *what)
{
    bool is_all = strcmp(what, "--all") == 0;
    json_t *body =
        is_all ? json_pack("{s:b}", "all", 1) : json_pack("{s:s}", "domain", what);
    json_t *answer = NULL;
    int code = client_ask(context, "/v1/tls-report/send", body, &answer);

    json_decref(body);
    if (code != CLI_DONE)
        return code;
    if (context->wants_json)
        code = print_json(answer);
    else
        (void)printf("%" PRId64 " %s sent where reports are wanted; see the log\n",
                     get_number(answer, "ended"),
                     get_number(answer, "ended") == 1 ? "count was ended and is"
                                                      : "counts were ended and are");
    json_decref(answer);
    return code;
}

int cli_tls_report_help(bool was_asked)
{
    (void)fprintf(was_asked ? stdout : stderr, "%s", usage);
    return was_asked ? CLI_DONE : CLI_USAGE;
}

int cli_tls_report(const struct cli_context *context, int argc, char **argv)
{
    if (argc == 1 && strcmp(argv[0], "show") == 0)
        return list(context);
    if (argc == 2 && strcmp(argv[0], "show") == 0 && argv[1][0] != '-')
        return show(context, argv[1]);
    if (argc == 2 && strcmp(argv[0], "send") == 0 &&
        (argv[1][0] != '-' || strcmp(argv[1], "--all") == 0))
        return send_now(context, argv[1]);
    return cli_tls_report_help(false);
}
