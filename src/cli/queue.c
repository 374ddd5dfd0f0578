/* smtpd queue: the words of a command line, and what only looks: list, show, why. */
#include "queue_command.h"

#include "client.h"
#include "print.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/moment.h"
#include "smtpd/mail/envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TERMINAL_ROWS = 100 };

const char queue_usage[] =
    "usage: smtpd queue list    [SELECTION] [--limit N] [--summary]\n"
    "       smtpd queue show    ID [--headers|--message]\n"
    "       smtpd queue why     ID\n"
    "       smtpd queue retry   ID...|SELECTION [--dry-run]\n"
    "       smtpd queue hold    ID...|SELECTION [--until TIME] [--dry-run]\n"
    "       smtpd queue release ID...|SELECTION [--dry-run]\n"
    "       smtpd queue bounce  ID...|SELECTION [--reason TEXT] [--dry-run]\n"
    "       smtpd queue reroute ID...|SELECTION --to ROUTE|own [--dry-run]\n"
    "       smtpd queue remove  ID...|SELECTION [--dry-run]\n"
    "       smtpd queue export  DIRECTORY ID...|SELECTION [--dry-run]\n"
    "       smtpd queue import  DIRECTORY\n"
    "       smtpd queue verify  [FOLDER]\n"
    "       smtpd queue compact\n"
    "\n"
    "SELECTION: --all, or any of these; what is given must all fit\n"
    "  --domain DOMAIN      recipient domain, \"*.example.com\", or the name of a route\n"
    "  --sender ADDRESS     envelope sender; \"<>\" for reports\n"
    "  --recipient ADDRESS\n"
    "  --user NAME          who logged in\n"
    "  --tenant NAME\n"
    "  --pool NAME          the pool that was decided when it was accepted\n"
    "  --source NAME        what may leave by this source: its pool has it now\n"
    "  --state STATE        waiting, active or held\n"
    "  --older-than AGE     \"30m\", \"2h\", \"1d\"\n"
    "\n"
    "retry tries the groups now and forgets the back-off of their destinations.\n"
    "hold keeps them from being tried until TIME: \"2h\", \"3d\", \"2026-12-24T18:00Z\" "
    "(UTC);\n"
    "  four weeks if none is given. What expires meanwhile goes back to its sender.\n"
    "release ends holds: each group is due when it would have been.\n"
    "bounce gives them back to their senders with a report.\n"
    "reroute sends them by a [[route]] from now on, whatever their domains, and tries them "
    "now;\n"
    "  \"own\": by their own way again.\n"
    "remove deletes them without a report.\n"
    "export moves whole messages into files of DIRECTORY, each with all of its groups; a\n"
    "  running server does it, or nobody runs. import takes such files into the queue of "
    "a\n"
    "  stopped server, and removes them.\n"
    "All of these print the count first; --dry-run stops there.\n"
    "verify checks the queue of a stopped server, or a copy of its data folder in FOLDER:\n"
    "  every rule of the format; exit code 1 when one is broken. It changes nothing.\n"
    "compact gives the free pages of a stopped server's queue back to the disk.\n"
    "--json prints what the server answered; --config FILE says which server.\n";

int64_t queue_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const struct {
    const char *flag;
    const char *parameter;
} selectors[] = {
    {"--domain", "domain"}, {"--sender", "sender"}, {"--recipient", "recipient"},
    {"--user", "user"},     {"--tenant", "tenant"}, {"--pool", "pool"},
    {"--source", "source"}, {"--state", "state"},   {"--older-than", "older_than"}};

static bool add_selector(struct command *command, const char *flag, const char *value)
{
    struct fault fault;

    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
        if (strcmp(selectors[i].flag, flag) != 0)
            continue;
        if (selection_set(&command->selection, selectors[i].parameter, value, &fault) !=
            RESULT_OK) {
            (void)fprintf(stderr, "smtpd: %s %s: %s\n", flag, value, fault.text);
            command->is_told = true;
            return false;
        }
        command->has_selection = true;
        command->has_state = command->has_state || strcmp(flag, "--state") == 0;
        return bytes_format(&command->query, "&%s=", selectors[i].parameter) == RESULT_OK &&
               client_add_encoded(&command->query, value) == RESULT_OK;
    }
    return false;
}

/* Flags without a value. False: it is none of them. */
static bool take_switch(struct command *command, const char *word)
{
    if (strcmp(word, "--all") == 0)
        command->has_selection = true;
    else if (strcmp(word, "--dry-run") == 0)
        command->is_dry_run = true;
    else if (strcmp(word, "--summary") == 0)
        command->wants_summary = true;
    else if (strcmp(word, "--headers") == 0 || strcmp(word, "--message") == 0)
        command->part = word + 2;
    else
        return false;
    return true;
}

static bool take_id(struct command *command, const char *word)
{
    uint64_t id;

    if (word[0] == '-' || !id_parse(word, strlen(word), &id) ||
        command->id_count == QUEUE_BATCH)
        return false;
    command->ids[command->id_count++] = word;
    return true;
}

/* How long from now, or a point in time. */
static bool take_until(struct command *command, const char *word)
{
    int64_t ms;

    if (duration_parse(slice_of(word), &ms) == RESULT_OK && ms > 0) {
        command->until_ms = queue_now_ms() + ms;
        return true;
    }
    return moment_parse(slice_of(word), &command->until_ms) == RESULT_OK;
}

static bool take_words(struct command *command, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        bool is_taken = take_switch(command, argv[i]) || take_id(command, argv[i]);

        if (!is_taken && i + 1 < argc && strcmp(argv[i], "--limit") == 0)
            is_taken =
                slice_to_u64(slice_of(argv[++i]), UINT32_MAX, &command->limit) == RESULT_OK;
        else if (!is_taken && i + 1 < argc && strcmp(argv[i], "--until") == 0)
            is_taken = take_until(command, argv[++i]);
        else if (!is_taken && i + 1 < argc && strcmp(argv[i], "--reason") == 0)
            is_taken = (command->reason = argv[++i])[0] != '\0';
        else if (!is_taken && i + 1 < argc && strcmp(argv[i], "--to") == 0)
            is_taken = (command->route = argv[++i])[0] != '\0';
        else if (!is_taken && i + 1 < argc) {
            is_taken = add_selector(command, argv[i], argv[i + 1]);
            i += is_taken;
        }
        if (!is_taken) {
            if (!command->is_told)
                (void)fprintf(stderr, "smtpd: \"%s\" is not understood here\n", argv[i]);
            (void)fprintf(stderr, "\n%s", queue_usage);
            return false;
        }
    }
    return true;
}

/* ---- pages ---- */

void pager_init(struct pager *pager, const struct command *command)
{
    *pager = (struct pager){.command = command};
}

int pager_next(struct pager *pager, size_t limit, json_t **items, bool *has_more)
{
    char path[QUEUE_PATH_MAX];
    json_t *answer = NULL;
    int code;

    (void)snprintf(path, sizeof path, "/v1/queue?limit=%zu%s%s&group=%" PRId64 "%.*s",
                   limit, pager->first[0] ? "&first=" : "", pager->first, pager->group,
                   (int)pager->command->query.length,
                   pager->command->query.data ? pager->command->query.data : "");
    code = client_ask(pager->command->context, path, NULL, &answer);
    if (code != CLI_DONE)
        return code;
    *items = json_incref(json_object_get(answer, "items"));
    (void)snprintf(pager->first, sizeof pager->first, "%s", get_text(answer, "next"));
    pager->group = get_number(answer, "next_group");
    pager->is_rebuilding = json_is_true(json_object_get(answer, "is_rebuilding"));
    *has_more = pager->first[0] != '\0';
    json_decref(answer);
    return CLI_DONE;
}

/* ---- list ---- */

static void print_head(void)
{
    (void)printf("%s%-13s %5s %7s %-7s %-7s %5s  %-28s %-24s %s%s\n", print_bold(), "ID",
                 "AGE", "SIZE", "STATE", "NEXT", "TRIES", "SENDER", "TO", "LAST ANSWER",
                 print_plain());
}

static void print_row(const json_t *item, int64_t now)
{
    const json_t *last = json_object_get(item, "last");
    const json_t *recipients = json_object_get(item, "recipients");
    const char *sender = get_text(item, "sender");
    char age[PRINT_TEXT];
    char size[PRINT_TEXT];
    char next[PRINT_TEXT];
    char to[PRINT_TEXT * 2];

    print_age(now - get_number(item, "arrival_ms"), age);
    print_count(get_number(item, "size"), size);
    print_until(get_number(item, get_number(item, "held_until_ms") > 0 ? "held_until_ms"
                                                                       : "next_attempt_ms"),
                now, next);
    if (json_array_size(recipients) == 1)
        (void)snprintf(to, sizeof to, "%s",
                       json_string_value(json_array_get(recipients, 0)));
    else
        (void)snprintf(to, sizeof to, "%zu at %.80s", json_array_size(recipients),
                       get_text(item, "lane"));
    (void)printf("%-13s %5s %7s %-7s %-7s %5" PRId64 "  %-28s %-24s %s%s%s\n",
                 get_text(item, "id"), age, size, get_text(item, "state"), next,
                 get_number(item, "attempts"), sender[0] ? sender : "<>", to, print_dim(),
                 get_text(last, "text"), print_plain());
}

static void print_more(uint64_t shown, uint64_t counted, bool is_rebuilding)
{
    if (counted > shown)
        (void)printf("%s%" PRIu64 " more; --limit N shows more, a selection less%s\n",
                     print_dim(), counted - shown, print_plain());
    else
        (void)printf("%s%" PRIu64 " group%s%s\n", print_dim(), counted,
                     counted == 1 ? "" : "s", print_plain());
    if (is_rebuilding)
        (void)printf("%sthe index is being rebuilt: more may come%s\n", print_warn(),
                     print_plain());
}

static int list_as_json(const struct command *command, uint64_t limit)
{
    struct pager pager;
    bool has_more = true;
    uint64_t count = 0;
    int code = CLI_DONE;

    pager_init(&pager, command);
    while (code == CLI_DONE && has_more && (!limit || count < limit)) {
        size_t page =
            limit && limit - count < QUEUE_BATCH ? (size_t)(limit - count) : QUEUE_BATCH;
        json_t *items = NULL;

        code = pager_next(&pager, page, &items, &has_more);
        for (size_t i = 0; code == CLI_DONE && i < json_array_size(items); i++, count++) {
            if (json_dumpf(json_array_get(items, i), stdout,
                           JSON_COMPACT | JSON_ENSURE_ASCII) ||
                putchar('\n') == EOF)
                code = CLI_FAILED;
        }
        json_decref(items);
    }
    return code;
}

static int queue_list(const struct command *command)
{
    uint64_t limit = command->limit;
    uint64_t counted = 0;
    uint64_t shown = 0;
    struct pager pager;
    bool has_more = true;
    int64_t now = queue_now_ms();
    int code = CLI_DONE;

    if (command->context->wants_json)
        return list_as_json(command, limit);
    if (!limit)
        limit = print_is_terminal() ? TERMINAL_ROWS : UINT64_MAX;
    pager_init(&pager, command);
    while (code == CLI_DONE && has_more) {
        json_t *items = NULL;

        code = pager_next(&pager, QUEUE_BATCH, &items, &has_more);
        if (code == CLI_DONE && counted == 0 && json_array_size(items) > 0)
            print_head();
        for (size_t i = 0; code == CLI_DONE && i < json_array_size(items); i++, counted++)
            if (shown < limit) {
                print_row(json_array_get(items, i), now);
                shown++;
            }
        json_decref(items);
    }
    if (code == CLI_DONE)
        print_more(shown, counted, pager.is_rebuilding);
    return code;
}

static int queue_summary(const struct command *command)
{
    json_t *answer = NULL;
    const json_t *lanes;
    int64_t now = queue_now_ms();
    int code = client_ask(command->context, "/v1/summary", NULL, &answer);

    if (code != CLI_DONE)
        return code;
    if (command->context->wants_json) {
        code = print_json(answer);
        json_decref(answer);
        return code;
    }
    lanes = json_object_get(answer, "lanes");
    (void)printf("%s%-40s %8s %8s %7s  %-12s %-7s %s%s\n", print_bold(), "DOMAIN OR ROUTE",
                 "GROUPS", "HELD", "OLDEST", "WAITS FOR", "UNTIL", "", print_plain());
    for (size_t i = 0; i < json_array_size(lanes); i++) {
        const json_t *lane = json_array_get(lanes, i);
        char age[PRINT_TEXT];
        char until[PRINT_TEXT];

        print_age(now - get_number(lane, "oldest_ms"), age);
        print_until(get_number(lane, "until_ms"), now, until);
        (void)printf("%-40s %8" PRId64 " %8" PRId64 " %7s  %-12s %-7s %s%s%s\n",
                     get_text(lane, "lane"), get_number(lane, "groups"),
                     get_number(lane, "held"), age, get_text(lane, "why"), until,
                     print_dim(), get_text(lane, "text"), print_plain());
    }
    json_decref(answer);
    return code;
}

/* ---- show and why ---- */

static void print_why(const json_t *item, int64_t now)
{
    const json_t *why = json_object_get(item, "why");
    const char *destination = get_text(why, "destination");
    char until[PRINT_TEXT];

    print_until(get_number(why, "until_ms"), now, until);
    (void)printf("%s/%" PRId64 "  %-32s %s%s%s, %s%s%s\n", get_text(item, "id"),
                 get_number(item, "group"), get_text(item, "lane"), print_bold(),
                 get_text(why, "kind"), print_plain(),
                 until[0] == '-' ? "no set time" : until,
                 get_text(why, "text")[0] ? ": " : "", get_text(why, "text"));
    if (destination[0])
        (void)printf("    %sdestination %s%s\n", print_dim(), destination, print_plain());
}

static void print_group(const json_t *item, int64_t now)
{
    const json_t *recipients = json_object_get(item, "recipients");
    const json_t *last = json_object_get(item, "last");
    const char *class = get_text(last, "class");

    print_why(item, now);
    for (size_t i = 0; i < json_array_size(recipients); i++)
        (void)printf("    to %s\n", json_string_value(json_array_get(recipients, i)));
    if (get_number(item, "attempts") > 0)
        (void)printf(
            "    %" PRId64 " attempt%s; last answer%s%s%s%s%s: %s\n",
            get_number(item, "attempts"), get_number(item, "attempts") == 1 ? "" : "s",
            get_text(last, "host")[0] ? " of " : "", get_text(last, "host"),
            class[0] ? " (" : "", class, class[0] ? ")" : "", get_text(last, "text"));
}

static void print_envelope(const json_t *item, int64_t now)
{
    const char *sender = get_text(item, "sender");
    char age[PRINT_TEXT];
    char size[PRINT_TEXT];

    print_age(now - get_number(item, "arrival_ms"), age);
    print_count(get_number(item, "size"), size);
    (void)printf("%s%s%s  from %s, %s, %s old%s%s\n", print_bold(), get_text(item, "id"),
                 print_plain(), sender[0] ? sender : "<>", size, age,
                 get_text(item, "user")[0] ? ", logged in as " : "",
                 get_text(item, "user"));
}

static int queue_show(const struct command *command, bool only_why)
{
    char path[QUEUE_PATH_MAX];
    json_t *answer = NULL;
    const json_t *items;
    int64_t now = queue_now_ms();
    int code;

    if (command->id_count != 1) {
        (void)fprintf(stderr, "smtpd: one id is needed\n\n%s", queue_usage);
        return CLI_USAGE;
    }
    if (command->part) {
        (void)snprintf(path, sizeof path, "/v1/message/%s?part=%s", command->ids[0],
                       command->part);
        return client_copy(command->context, path);
    }
    (void)snprintf(path, sizeof path, "/v1/queue/%s", command->ids[0]);
    code = client_ask(command->context, path, NULL, &answer);
    if (code != CLI_DONE)
        return code;
    items = json_object_get(answer, "items");
    if (command->context->wants_json)
        code = print_json(items);
    else if (!only_why)
        print_envelope(json_array_get(items, 0), now);
    for (size_t i = 0; !command->context->wants_json && i < json_array_size(items); i++) {
        if (only_why)
            print_why(json_array_get(items, i), now);
        else
            print_group(json_array_get(items, i), now);
    }
    json_decref(answer);
    return code;
}

/* What is not looked at must not be given: "remove ID --state held" would remove the id
 * whatever its state. */
static bool fits_together(const struct command *command, const char *word)
{
    bool is_show = strcmp(word, "show") == 0 || strcmp(word, "why") == 0;
    bool is_repair = strcmp(word, "verify") == 0 || strcmp(word, "compact") == 0 ||
                     strcmp(word, "import") == 0;
    const char *why = NULL;

    if (command->until_ms && strcmp(word, "hold") != 0)
        why = "--until goes with hold";
    else if (command->reason && strcmp(word, "bounce") != 0)
        why = "--reason goes with bounce";
    else if (!command->route != (strcmp(word, "reroute") != 0))
        why = "reroute needs --to, and nothing else takes it";
    else if (command->id_count > 0 && command->has_selection)
        why = "ids and a selection do not go together";
    else if (command->id_count > 0 && strcmp(word, "list") == 0)
        why = "list takes a selection; show takes an id";
    else if (command->has_selection && is_show)
        why = "one id is needed, and no selection";
    else if (is_repair && (command->has_selection || command->id_count > 0))
        why = "it takes no ids and no selection";
    if (why)
        (void)fprintf(stderr, "smtpd: %s\n\n%s", why, queue_usage);
    return !why;
}

static int run(struct command *command, const char *word)
{
    if (!fits_together(command, word))
        return CLI_USAGE;
    if (strcmp(word, "list") == 0)
        return command->wants_summary ? queue_summary(command) : queue_list(command);
    if (strcmp(word, "show") == 0)
        return queue_show(command, false);
    if (strcmp(word, "why") == 0)
        return queue_show(command, true);
    if (queue_is_change(word))
        return queue_change(command, word);
    if (strcmp(word, "export") == 0)
        return queue_export_command(command);
    if (strcmp(word, "import") == 0)
        return queue_import_command(command);
    if (strcmp(word, "verify") == 0)
        return queue_verify_command(command);
    if (strcmp(word, "compact") == 0)
        return queue_compact_command(command);
    (void)fprintf(stderr, "smtpd: queue has no \"%s\"\n\n%s", word, queue_usage);
    return CLI_USAGE;
}

static bool takes_directory(const char *word)
{
    return strcmp(word, "verify") == 0 || strcmp(word, "export") == 0 ||
           strcmp(word, "import") == 0;
}

int cli_queue(const struct cli_context *context, int argc, char **argv)
{
    struct command command = {.context = context};
    int code = CLI_USAGE;
    int skip;

    if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "help") == 0) {
        (void)fprintf(argc ? stdout : stderr, "%s", queue_usage);
        return argc ? CLI_DONE : CLI_USAGE;
    }
    bytes_init(&command.query, QUEUE_PATH_MAX / 2);
    skip = takes_directory(argv[0]) && argc > 1 && argv[1][0] != '-';
    if (skip)
        command.directory = argv[1];
    if (take_words(&command, argc - 1 - skip, argv + 1 + skip))
        code = run(&command, argv[0]);
    bytes_fini(&command.query);
    return code;
}
