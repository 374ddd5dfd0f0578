/* smtpd destination: where mail goes, at which pace, over the control socket. */
#include "client.h"
#include "destination_print.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TERMINAL_ROWS = 50, PATH_MAX_BYTES = 32768, NAME_COLUMN = 40, SCOPE_COLUMN = 18 };

static const char usage[] =
    "usage: smtpd destination list    [--match TEXT] [--suspended|--backing-off] [--limit "
    "N]\n"
    "       smtpd destination show    NAME [--as KIND]\n"
    "       smtpd destination suspend NAME --for AGE [--reason TEXT] [--as KIND]\n"
    "       smtpd destination resume  NAME [--as KIND]\n"
    "       smtpd destination flush   NAME [--as KIND]\n"
    "\n"
    "NAME: what list shows, a destination (\"mx1.example.net>mx2.example.net\", "
    "\"route:NAME\");\n"
    "  the name of a [[destination]] block that matches hosts: all it matches, its scope;\n"
    "  or a recipient domain, whoever shares its hosts.\n"
    "KIND: destination, scope or domain, where a name could be more than one.\n"
    "\n"
    "list shows those with the most mail waiting first, at most 1000; --match: TEXT "
    "stands\n"
    "  in the name or the scope.\n"
    "suspend starts no attempt for so long (\"30m\", \"2h\", \"1d\"), over restarts too; "
    "what "
    "is on\n"
    "  its way ends. Mail is taken in, waits, and expires as ever. It holds when the "
    "answer\n"
    "  comes, and is on the disk.\n"
    "resume ends that, and what a reaction suspended.\n"
    "flush tries all mail now, whatever its next attempt is, and forgets back-offs; it "
    "does "
    "not\n"
    "  end an operator's suspension.\n"
    "--json prints what the server answered; --config FILE says which server.\n";

struct wish {
    const struct cli_context *context;
    const char *word;
    const char *name;
    const char *as;
    const char *match;
    const char *state;
    const char *reason;
    int64_t for_ms;
    uint64_t limit;
};

/* ---- asking ---- */

static enum result add_parameter(struct bytes *path, const char *name, const char *value)
{
    enum result added = value ? bytes_format(path, "&%s=", name) : RESULT_OK;

    return value && added == RESULT_OK ? client_add_encoded(path, value) : added;
}

static int ask_list(const struct wish *wish, uint64_t limit, json_t **answer)
{
    struct bytes path;
    enum result added;
    int code = CLI_USAGE;

    bytes_init(&path, PATH_MAX_BYTES);
    added = bytes_format(&path, "/v1/destinations?limit=%" PRIu64, limit);
    if (added == RESULT_OK)
        added = add_parameter(&path, "name", wish->name);
    if (added == RESULT_OK)
        added = add_parameter(&path, "as", wish->as);
    if (added == RESULT_OK)
        added = add_parameter(&path, "match", wish->match);
    if (added == RESULT_OK)
        added = add_parameter(&path, "state", wish->state);
    if (added == RESULT_OK && bytes_add(&path, (struct slice){"", 1}) == RESULT_OK)
        code = client_ask(wish->context, path.data, NULL, answer);
    else
        (void)fprintf(stderr, "smtpd: the name is too long\n");
    bytes_fini(&path);
    return code;
}

/* ---- list ---- */

/* Longer ones are cut on a terminal: a pipe gets all. */
static void print_column(const char *text, int width)
{
    size_t length = strlen(text);

    if (print_is_terminal() && length > (size_t)width)
        (void)printf("%.*s... ", width - 3, text);
    else
        (void)printf("%-*s ", width, text);
}

static void print_failure(const json_t *item, int64_t now_ms)
{
    int64_t failed_ms = get_number(item, "failed_ms");
    char age[PRINT_TEXT];

    if (!failed_ms) {
        (void)printf("-\n");
        return;
    }
    print_age(now_ms - failed_ms, age);
    (void)printf("%s %s ago: %.*s\n", get_text(item, "failed_class"), age,
                 print_is_terminal() ? 80 : 500, get_text(item, "failed_text"));
}

struct sums {
    int64_t window;
    int64_t ceiling;
};

static struct sums sum_of(const json_t *paces)
{
    struct sums sums = {0, 0};

    for (size_t i = 0; i < json_array_size(paces); i++) {
        sums.window += get_number(json_array_get(paces, i), "window");
        sums.ceiling += get_number(json_array_get(paces, i), "ceiling");
    }
    return sums;
}

static void print_row(const json_t *item, int64_t now_ms)
{
    const json_t *paces = json_object_get(item, "paces");
    struct sums sums = sum_of(paces);
    const char *scope = get_text(item, "scope");
    char window[PRINT_TEXT];
    char rate[PRINT_TEXT];
    char hold[DESTINATION_TEXT];

    (void)snprintf(window, sizeof window, "%" PRId64 "/%" PRId64, sums.window,
                   sums.ceiling);
    print_rate(json_array_get(paces, 0), rate);
    print_hold(item, now_ms, hold);
    print_column(get_text(item, "name"), NAME_COLUMN);
    print_column(strncmp(scope, "rule:", 5) == 0 ? scope : "-", SCOPE_COLUMN);
    (void)printf("%9" PRId64 " %7" PRId64 " %7" PRId64 " %9s %-14s ",
                 get_number(item, "waiting"), get_number(item, "attempts"),
                 get_number(item, "connections"), window, rate);
    print_failure(item, now_ms);
    if (hold[0])
        (void)printf("    %s%s%s\n", print_warn(), hold, print_plain());
}

static void print_suspensions(const json_t *suspensions, int64_t now_ms)
{
    char text[DESTINATION_TEXT];

    for (size_t i = 0; i < json_array_size(suspensions); i++) {
        const json_t *one = json_array_get(suspensions, i);

        if (i == 0)
            (void)printf("\n%sSuspended by operators%s\n", print_bold(), print_plain());
        print_suspension(one, now_ms, text);
        (void)printf("  %s\n", text);
    }
}

static void print_list(const json_t *answer)
{
    const json_t *items = json_object_get(answer, "destinations");
    int64_t now_ms = print_now_ms();
    int64_t matched = get_number(answer, "matched");

    (void)printf("%s%-*s %-*s %9s %7s %7s %9s %-14s %s%s\n", print_bold(), NAME_COLUMN,
                 "DESTINATION", SCOPE_COLUMN, "SCOPE", "WAITING", "RUNNING", "CONNS",
                 "WINDOW", "RATE", "LAST FAILURE", print_plain());
    for (size_t i = 0; i < json_array_size(items); i++)
        print_row(json_array_get(items, i), now_ms);
    if (json_array_size(items) == 0)
        (void)printf("%snone%s\n", print_dim(), print_plain());
    if (matched > (int64_t)json_array_size(items))
        (void)printf("%s%zu of %" PRId64 "; --limit N shows more%s\n", print_dim(),
                     json_array_size(items), matched, print_plain());
    print_suspensions(json_object_get(answer, "suspensions"), now_ms);
}

static int list(const struct wish *wish)
{
    bool is_short = print_is_terminal() && !wish->context->wants_json;
    json_t *answer = NULL;
    int code = ask_list(wish,
                        wish->limit ? wish->limit
                        : is_short  ? TERMINAL_ROWS
                                    : 1000,
                        &answer);

    if (code == CLI_DONE && wish->context->wants_json)
        code = print_json(answer);
    else if (code == CLI_DONE)
        print_list(answer);
    json_decref(answer);
    return code;
}

/* ---- show ---- */

static void title(const char *text)
{
    (void)printf("%s%-12s%s ", print_bold(), text, print_plain());
}

static void print_one(const json_t *item, int64_t now_ms)
{
    const json_t *paces = json_object_get(item, "paces");
    char hold[DESTINATION_TEXT];

    title("destination");
    (void)printf("%s\n", get_text(item, "name"));
    title("scope");
    (void)printf("%s\n", strncmp(get_text(item, "scope"), "rule:", 5) == 0
                             ? get_text(item, "scope")
                             : "its own");
    title("settings");
    if (get_text(item, "rule")[0])
        (void)printf("of [[destination]] \"%s\"\n", get_text(item, "rule"));
    else
        (void)printf("of %s\n", strncmp(get_text(item, "name"), "route:", 6) == 0
                                    ? "its [[route]]"
                                    : "[delivery]");
    title("mail");
    (void)printf(
        "%" PRId64 " groups waiting for %" PRId64 " domains, tenants and priorities, "
        "%" PRId64 " loaded; %" PRId64 " attempts, %" PRId64 " connections\n",
        get_number(item, "waiting"), get_number(item, "lanes"), get_number(item, "ready"),
        get_number(item, "attempts"), get_number(item, "connections"));
    for (size_t i = 0; i < json_array_size(paces); i++)
        print_pace(i == 0 ? "pace" : "", json_array_get(paces, i), now_ms);
    print_hold(item, now_ms, hold);
    if (hold[0]) {
        title("now");
        (void)printf("%s%s%s\n", print_warn(), hold, print_plain());
    }
    title("last failure");
    print_failure(item, now_ms);
}

static void print_name(const json_t *name, int64_t now_ms)
{
    const json_t *suspension = json_object_get(name, "suspension");
    char text[DESTINATION_TEXT];

    title(get_text(name, "reach"));
    (void)printf("%s\n", get_text(name, "name"));
    if (!json_is_object(suspension))
        return;
    print_suspension(suspension, now_ms, text);
    title("now");
    (void)printf("%s%s%s\n", print_warn(), text, print_plain());
}

static int show(const struct wish *wish)
{
    int64_t now_ms = print_now_ms();
    json_t *answer = NULL;
    int code = ask_list(wish, TERMINAL_ROWS, &answer);
    const json_t *items = json_object_get(answer, "destinations");

    if (code == CLI_DONE && wish->context->wants_json) {
        code = print_json(answer);
    } else if (code == CLI_DONE) {
        print_name(json_object_get(answer, "name"), now_ms);
        for (size_t i = 0; i < json_array_size(items); i++) {
            (void)printf("\n");
            print_one(json_array_get(items, i), now_ms);
        }
        if (json_array_size(items) == 0)
            (void)printf("\n%sno mail went there since the start%s\n", print_dim(),
                         print_plain());
        if (get_number(answer, "matched") > (int64_t)json_array_size(items))
            (void)printf("\n%sthe %zu with the most mail of %" PRId64 "%s\n", print_dim(),
                         json_array_size(items), get_number(answer, "matched"),
                         print_plain());
    }
    json_decref(answer);
    return code;
}

/* ---- changes ---- */

static void print_changed(const struct wish *wish, const json_t *answer)
{
    const json_t *name = json_object_get(answer, "name");
    const json_t *suspension = json_object_get(name, "suspension");
    bool was_suspended = json_is_true(json_object_get(answer, "was_suspended"));
    int64_t lanes = get_number(answer, "lanes");
    char text[DESTINATION_TEXT];

    (void)printf("%s %s: ", get_text(name, "reach"), get_text(name, "name"));
    if (strcmp(wish->word, "flush") == 0)
        (void)printf("%" PRId64 " groups are tried before their time, in %" PRId64
                     " domains, tenants and priorities\n",
                     get_number(answer, "groups"), lanes);
    else if (strcmp(wish->word, "resume") == 0)
        (void)printf("%s\n", was_suspended ? "is suspended no more, nor bounced"
                                           : "was not suspended, nor bounced");
    if (json_is_object(suspension)) {
        print_suspension(suspension, print_now_ms(), text);
        (void)printf("%s%s%s\n", print_warn(), text, print_plain());
    } else if (strcmp(wish->word, "suspend") == 0) {
        (void)printf("the suspension is over already\n");
    }
    if (!json_is_true(json_object_get(answer, "is_kept")))
        (void)printf("%sit holds, but is not on the disk: see the log%s\n", print_warn(),
                     print_plain());
}

static int change(const struct wish *wish)
{
    json_t *body = json_pack("{s:s,s:s}", "change", wish->word, "name", wish->name);
    json_t *answer = NULL;
    int code;

    if (wish->as)
        (void)json_object_set_new(body, "as", json_string(wish->as));
    if (wish->for_ms)
        (void)json_object_set_new(body, "until_ms",
                                  json_integer(print_now_ms() + wish->for_ms));
    if (wish->reason)
        (void)json_object_set_new(body, "reason", json_string(wish->reason));
    if (!body) {
        (void)fprintf(stderr, "smtpd: the name is no UTF-8\n");
        return CLI_USAGE;
    }
    code = client_ask(wish->context, "/v1/destinations/change", body, &answer);
    json_decref(body);
    if (code != CLI_DONE)
        return code;
    if (wish->context->wants_json)
        code = print_json(answer);
    else
        print_changed(wish, answer);
    if (!json_is_true(json_object_get(answer, "is_kept")))
        code = CLI_FAILED;
    json_decref(answer);
    return code;
}

/* ---- the words ---- */

enum { TAKES_NAME = 1, TAKES_LIST = 2, TAKES_TIME = 4 };

static const struct word {
    const char *name;
    int (*run)(const struct wish *wish);
    int takes;
} words[] = {
    {"list", list, TAKES_LIST},
    {"show", show, TAKES_NAME},
    {"suspend", change, TAKES_NAME | TAKES_TIME},
    {"resume", change, TAKES_NAME},
    {"flush", change, TAKES_NAME},
};

/* False: the flag is none of the word's, or its value cannot be. */
static bool take_flag(struct wish *wish, int takes, const char *flag, const char *value)
{
    if (strcmp(flag, "--as") == 0 && (takes & TAKES_NAME))
        return (wish->as = value)[0] != '\0';
    if (strcmp(flag, "--match") == 0 && (takes & TAKES_LIST))
        return (wish->match = value)[0] != '\0';
    if (strcmp(flag, "--reason") == 0 && (takes & TAKES_TIME))
        return (wish->reason = value)[0] != '\0';
    if (strcmp(flag, "--limit") == 0 && (takes & TAKES_LIST))
        return slice_to_u64(slice_of(value), 1000, &wish->limit) == RESULT_OK &&
               wish->limit > 0;
    return strcmp(flag, "--for") == 0 && (takes & TAKES_TIME) &&
           duration_parse(slice_of(value), &wish->for_ms) == RESULT_OK && wish->for_ms > 0;
}

static bool take_state(struct wish *wish, int takes, const char *flag)
{
    if (!(takes & TAKES_LIST) || wish->state)
        return false;
    if (strcmp(flag, "--suspended") == 0)
        wish->state = "suspended";
    else if (strcmp(flag, "--backing-off") == 0)
        wish->state = "backing_off";
    return wish->state;
}

static bool take_words(struct wish *wish, int takes, int argc, char **argv)
{
    const char *missing = NULL;

    for (int i = 0; i < argc; i++) {
        bool is_taken = take_state(wish, takes, argv[i]);

        if (!is_taken && argv[i][0] == '-' && i + 1 < argc) {
            is_taken = take_flag(wish, takes, argv[i], argv[i + 1]);
            i += is_taken;
        } else if (!is_taken && argv[i][0] != '-' && (takes & TAKES_NAME) && !wish->name) {
            wish->name = argv[i];
            is_taken = true;
        }
        if (!is_taken) {
            (void)fprintf(stderr, "smtpd: \"%s\" is not understood here\n\n%s", argv[i],
                          usage);
            return false;
        }
    }
    if ((takes & TAKES_NAME) && !wish->name)
        missing = "a name";
    else if ((takes & TAKES_TIME) && !wish->for_ms)
        missing = "--for AGE";
    if (missing)
        (void)fprintf(stderr, "smtpd: %s is needed\n\n%s", missing, usage);
    return !missing;
}

int cli_destination_help(bool was_asked)
{
    (void)fprintf(was_asked ? stdout : stderr, "%s", usage);
    return was_asked ? CLI_DONE : CLI_USAGE;
}

int cli_destination(const struct cli_context *context, int argc, char **argv)
{
    struct wish wish = {.context = context, .word = argc > 0 ? argv[0] : ""};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(wish.word, words[i].name) != 0)
            continue;
        if (!take_words(&wish, words[i].takes, argc - 1, argv + 1))
            return CLI_USAGE;
        return words[i].run(&wish);
    }
    return cli_destination_help(false);
}
