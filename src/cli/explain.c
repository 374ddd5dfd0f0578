/* smtpd explain: the way of an address, what is asked for on it, and what would happen now. */
#include "client.h"
#include "destination_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TITLE = 12 };

static void title(const char *text)
{
    (void)printf("%s%-*s%s ", print_bold(), TITLE, text, print_plain());
}

static void print_way(const json_t *answer)
{
    const char *route = get_text(answer, "route");
    const char *kind = get_text(answer, "kind");

    title("goes to");
    if (strcmp(kind, "local") == 0)
        (void)printf("a mailbox of this server\n");
    else if (strcmp(kind, "hosts") != 0)
        (void)printf("nowhere: %s %s\n", get_text(answer, "status"),
                     get_text(answer, "text"));
    else if (route[0])
        (void)printf("the host of [[route]] \"%s\", port %" PRId64 "%s\n", route,
                     get_number(answer, "port"),
                     json_is_true(json_object_get(answer, "logs_in")) ? ", and logs in"
                                                                      : "");
    else
        (void)printf("the mail exchangers of %s, port %" PRId64 "\n",
                     get_text(answer, "lane"), get_number(answer, "port"));
}

static void print_dane(const json_t *host)
{
    static const struct {
        const char *name;
        const char *words;
    } danes[] = {{"none", ", no TLSA records"},
                 {"unusable", ", TLSA records of no use: any TLS"},
                 {"match", ", DANE: the certificate must fit"},
                 {"unknown", ", TLSA records unknown: passed over"}};

    for (size_t i = 0; i < sizeof danes / sizeof *danes; i++)
        if (strcmp(danes[i].name, get_text(host, "dane")) == 0)
            (void)printf("%s", danes[i].words);
    if (get_text(host, "dane_text")[0])
        (void)printf(" (%s)", get_text(host, "dane_text"));
}

/* Of a pool what is remembered of a host is apart for each source. */
static void print_by(const json_t *host, const char *source, const char *count,
                     const char *others)
{
    int64_t more = get_number(host, count) - 1;

    if (!get_text(host, source)[0])
        return;
    (void)printf(" by source %s", get_text(host, source));
    if (more > 0)
        (void)printf(", %s %" PRId64 " other%s", others, more, more > 1 ? "s" : "");
}

static void print_host(const json_t *host, int64_t now)
{
    const json_t *addresses = json_object_get(host, "addresses");
    int64_t until_ms = get_number(host, "backs_off_until_ms");
    char until[PRINT_TEXT];

    (void)printf("%5" PRId64 "  %s ", get_number(host, "preference"),
                 get_text(host, "name"));
    for (size_t i = 0; i < json_array_size(addresses); i++)
        (void)printf("%s%s", i ? ", " : "",
                     json_string_value(json_array_get(addresses, i)));
    print_dane(host);
    if (json_is_true(json_object_get(host, "is_forbidden")))
        (void)printf(", %snot named by the MTA-STS policy: passed over%s", print_warn(),
                     print_plain());
    if (until_ms) {
        print_until(until_ms, now, until);
        (void)printf(", %sit failed: not tried again before %s", print_warn(), until);
        print_by(host, "backs_off_source", "backs_off_sources", "nor for now by");
        (void)printf("%s", print_plain());
    }
    if (get_number(host, "in_clear_until_ms")) {
        (void)printf(", %sTLS was broken there", print_warn());
        print_by(host, "in_clear_source", "in_clear_sources", "and by");
        (void)printf("%s", print_plain());
    }
    (void)printf("\n");
}

static void print_hosts(const json_t *answer, int64_t now)
{
    const json_t *hosts = json_object_get(answer, "hosts");

    for (size_t i = 0; i < json_array_size(hosts); i++) {
        title(i == 0 ? "hosts" : "");
        print_host(json_array_get(hosts, i), now);
    }
}

static const char *rate_or(const json_t *limits, const char *name, const char *none)
{
    const char *rate = get_text(limits, name);

    return rate[0] ? rate : none;
}

static void print_sts(const json_t *answer, int64_t now)
{
    const json_t *sts = json_object_get(answer, "mta_sts");
    const char *mode = get_text(sts, "mode");
    char age[PRINT_TEXT];
    char until[PRINT_TEXT];

    if (!json_is_object(sts))
        return;
    title("MTA-STS");
    print_age(now - get_number(sts, "fetched_ms"), age);
    print_until(get_number(sts, "until_ms"), now, until);
    if (mode[0])
        (void)printf("%s, by the policy fetched %s ago (id %s), which ends %s", mode, age,
                     get_text(sts, "id"), until);
    else
        (void)printf("no policy is known; one is looked for when mail goes there");
    (void)printf("%s\n", json_is_true(json_object_get(sts, "has_failed"))
                             ? "; the last look for one failed"
                             : "");
}

static void print_limits(const json_t *answer)
{
    const json_t *limits = json_object_get(answer, "limits");
    const json_t *match = json_object_get(answer, "match");

    title("settings");
    if (get_text(answer, "route")[0])
        (void)printf("of the [[route]]\n");
    else if (json_array_size(match) == 0)
        (void)printf("of [delivery]: no [[destination]] matches\n");
    else
        (void)printf("of the [[destination]] that matches \"%s\"%s: %s\n",
                     json_string_value(json_array_get(match, 0)),
                     json_array_size(match) > 1 ? " and others" : "",
                     get_text(answer, "rule"));
    title("TLS");
    (void)printf("%s; the way there is %sauthentic (DNSSEC)\n", get_text(answer, "tls"),
                 json_is_true(json_object_get(answer, "is_authentic")) ? "" : "not ");
    print_sts(answer, print_now_ms());
    title("limits");
    (void)printf("%" PRId64 " connections, %" PRId64 " messages for each, %" PRId64
                 " recipients in a transaction\n",
                 get_number(limits, "connections"),
                 get_number(limits, "messages_per_connection"),
                 get_number(limits, "recipients_per_transaction"));
    title("");
    (void)printf("messages %s, new connections %s\n",
                 rate_or(limits, "message_rate", "without a limit"),
                 rate_or(limits, "connection_rate", "without a limit"));
}

static void print_source(const json_t *source, int64_t now)
{
    const json_t *warm_up = json_object_get(source, "warm_up");
    char until[PRINT_TEXT];

    (void)printf("%s [%s], weight %" PRId64, get_text(source, "name"),
                 get_text(source, "address"), get_number(source, "weight"));
    if (get_number(source, "most"))
        (void)printf(", %" PRId64 " of %" PRId64 " connections",
                     get_number(source, "connections"), get_number(source, "most"));
    if (json_is_object(warm_up))
        (void)printf(", warm-up day %" PRId64 ": %" PRId64 " of %" PRId64 " sent",
                     get_number(warm_up, "day"), get_number(warm_up, "sent"),
                     get_number(warm_up, "quota"));
    if (get_text(source, "waits")[0]) {
        print_until(get_number(source, "until_ms"), now, until);
        (void)printf(", %snothing before %s: %s%s", print_warn(), until,
                     get_text(source, "text"), print_plain());
    }
    (void)printf("\n");
}

static void print_pool(const json_t *answer, int64_t now)
{
    const json_t *sources = json_object_get(answer, "sources");

    title("pool");
    (void)printf("%s\n", get_text(answer, "pool")[0]
                             ? get_text(answer, "pool")
                             : "none: the system chooses our address");
    for (size_t i = 0; i < json_array_size(sources); i++) {
        title(i == 0 ? "sources" : "");
        print_source(json_array_get(sources, i), now);
    }
}

static void print_state(const json_t *answer)
{
    const json_t *state = json_object_get(answer, "state");

    title("now");
    if (!json_is_object(state)) {
        (void)printf("no mail went there since the start\n");
        return;
    }
    (void)printf("%" PRId64 " connections, %" PRId64 " attempts, %" PRId64
                 " groups ready\n",
                 get_number(state, "connections"), get_number(state, "attempts"),
                 get_number(state, "ready"));
}

/* Where there is one of each source, so is a line. */
static void print_paces(const json_t *answer, int64_t now)
{
    const json_t *paces = json_object_get(answer, "paces");

    if (strncmp(get_text(answer, "scope"), "rule:", 5) == 0) {
        title("scope");
        (void)printf("%s: these limits hold for all that it matches together\n",
                     get_text(answer, "scope"));
    }
    for (size_t i = 0; i < json_array_size(paces); i++)
        print_pace(i == 0 ? "pace" : "", json_array_get(paces, i), now);
}

static void print_wait(const char *what, int64_t until_ms, const char *fault, int64_t now)
{
    char until[PRINT_TEXT];

    print_until(until_ms, now, until);
    (void)printf("%s: tried %s%s%s\n", what, until, fault[0] ? ": " : "", fault);
}

static void print_next(const json_t *answer, int64_t now)
{
    const json_t *state = json_object_get(answer, "state");
    const json_t *waits = json_object_get(answer, "waits");
    const char *kind = get_text(answer, "kind");
    char hold[DESTINATION_TEXT];

    print_hold(answer, now, hold);
    title("next");
    if (hold[0])
        (void)printf("a message waits: %s%s%s\n", print_warn(), hold, print_plain());
    else if (strcmp(kind, "fail") == 0)
        (void)printf("a message is given back to its sender at once\n");
    else if (strcmp(kind, "defer") == 0)
        (void)printf("a message waits until the DNS can say\n");
    else if (get_number(state, "backs_off_until_ms"))
        print_wait("the destination backs off", get_number(state, "backs_off_until_ms"),
                   get_text(state, "fault"), now);
    else if (get_number(waits, "until_ms") > now && get_text(waits, "text")[0])
        print_wait("the domain backs off", get_number(waits, "until_ms"),
                   get_text(waits, "text"), now);
    else
        (void)printf("a message is %s at once\n",
                     strcmp(kind, "local") == 0 ? "stored" : "tried");
}

static void print_answer(const char *address, const json_t *answer)
{
    int64_t now = print_now_ms();

    title("address");
    (void)printf("%s\n", address);
    print_way(answer);
    if (strcmp(get_text(answer, "kind"), "hosts") == 0) {
        title("destination");
        (void)printf("%s\n", get_text(answer, "destination"));
        print_hosts(answer, now);
        print_limits(answer);
        print_paces(answer, now);
        print_pool(answer, now);
        print_state(answer);
    }
    print_next(answer, now);
}

static void print_usage(void)
{
    (void)fprintf(stderr,
                  "usage: smtpd explain ADDRESS|DOMAIN [--from SENDER] [--tenant T]\n");
}

/* Whose mail: pairs of a flag and a value. */
static bool add_mail(struct bytes *path, int count, char **words)
{
    for (int i = 0; i < count; i += 2) {
        const char *name = strcmp(words[i], "--from") == 0     ? "&from="
                           : strcmp(words[i], "--tenant") == 0 ? "&tenant="
                                                               : NULL;

        if (!name || bytes_add_text(path, name) != RESULT_OK ||
            client_add_encoded(path, words[i + 1]) != RESULT_OK)
            return false;
    }
    return true;
}

int cli_explain(const struct cli_context *context, int argc, char **argv)
{
    struct bytes path;
    json_t *answer = NULL;
    int code;

    if (argc % 2 != 1 || argv[0][0] == '-') {
        print_usage();
        return CLI_USAGE;
    }
    bytes_init(&path, 4096);
    if (bytes_add_text(&path, "/v1/explain?address=") != RESULT_OK ||
        client_add_encoded(&path, argv[0]) != RESULT_OK ||
        !add_mail(&path, argc - 1, argv + 1) ||
        bytes_add(&path, (struct slice){"", 1}) != RESULT_OK) {
        bytes_fini(&path);
        print_usage();
        return CLI_USAGE;
    }
    code = client_ask(context, path.data, NULL, &answer);
    if (code == CLI_DONE && context->wants_json)
        code = print_json(answer);
    else if (code == CLI_DONE)
        print_answer(argv[0], answer);
    json_decref(answer);
    bytes_fini(&path);
    return code;
}
