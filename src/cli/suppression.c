/* smtpd suppression: the list of addresses that get no mail, over the control socket. */
#include "client.h"
#include "print.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/moment.h"
#include "smtpd/policy/suppression.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    BATCH = 500, /* a request of so many is far from the largest body */
    TERMINAL_ROWS = 100,
    PATH_MAX_BYTES = 8192,
    LINE_MAX_BYTES = 4096,
    LINES_TOLD = 20
};

static const char usage[] =
    "usage: smtpd suppression add    ADDRESS [--tenant T] [--reason TEXT] [--expire AGE]\n"
    "       smtpd suppression remove ADDRESS [--tenant T]\n"
    "       smtpd suppression list   [--tenant T|--global] [--domain DOMAIN] [--limit N]\n"
    "       smtpd suppression show   ADDRESS [--tenant T|--global]\n"
    "       smtpd suppression import FILE [--tenant T] [--reason TEXT] [--expire AGE]\n"
    "\n"
    "ADDRESS: user@example.com, or @example.com for the whole domain.\n"
    "Without --tenant an entry is of all tenants. A tenant is the user who logged in.\n"
    "AGE: \"30d\", \"12h\"; without --expire an entry stays until it is removed.\n"
    "show prints what holds for an address: entries of it, and of its domain.\n"
    "import reads an address a line; what stands behind it, after blanks or a comma, is "
    "its\n"
    "  reason. Lines that begin with # are left out. \"-\" is the standard input.\n"
    "add, remove and import are done when the answer comes: on the disk.\n"
    "--json prints what the server answered; --config FILE says which server.\n";

struct wish {
    const struct cli_context *context;
    const char *word;
    const char *what; /* address or file; NULL: none */
    const char *tenant;
    const char *reason;
    const char *domain;
    int64_t expires_ms; /* wall; 0: never */
    uint64_t limit;     /* 0: none given */
};

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- changes ---- */

static json_t *entry_json(const struct wish *wish, const char *address, const char *reason)
{
    json_t *entry = json_pack("{s:s}", "address", address);

    if (!entry) /* no UTF-8 */
        return NULL;
    if (wish->tenant && wish->tenant[0])
        (void)json_object_set_new(entry, "tenant", json_string(wish->tenant));
    if (reason && reason[0])
        (void)json_object_set_new(entry, "reason", json_string(reason));
    if (wish->expires_ms)
        (void)json_object_set_new(entry, "expires_ms", json_integer(wish->expires_ms));
    return entry;
}

/* Takes the reference of `entries`. */
static int ask_change(const struct wish *wish, const char *change, json_t *entries,
                      json_t **answer)
{
    json_t *body = json_pack("{s:s,s:o}", "change", change, "entries", entries);
    int code = client_ask(wish->context, "/v1/suppression/change", body, answer);

    json_decref(body);
    return code;
}

static int change_one(const struct wish *wish)
{
    bool is_removal = strcmp(wish->word, "remove") == 0;
    json_t *entries = json_array();
    json_t *answer = NULL;
    int code;

    (void)json_array_append_new(entries, entry_json(wish, wish->what, wish->reason));
    code = ask_change(wish, wish->word, entries, &answer);
    if (code != CLI_DONE)
        return code;
    if (wish->context->wants_json)
        code = print_json(answer);
    else if (!is_removal)
        (void)printf("%s%s\n", wish->what,
                     get_number(answer, "added")
                         ? " is suppressed"
                         : " was on the list: its entry is new now");
    else if (get_number(answer, "removed"))
        (void)printf("%s is suppressed no more\n", wish->what);
    else
        (void)printf("%s was not on the list%s\n", wish->what,
                     wish->tenant ? " of this tenant" : " of all tenants");
    if (is_removal && !get_number(answer, "removed"))
        code = CLI_FAILED;
    json_decref(answer);
    return code;
}

/* ---- import ---- */

struct import {
    const struct wish *wish;
    json_t *batch;
    uint64_t line;
    uint64_t bad;
    uint64_t added;
    uint64_t replaced;
    bool has_progress;
};

static int send_batch(struct import *import)
{
    json_t *answer = NULL;
    int code;

    if (json_array_size(import->batch) == 0)
        return CLI_DONE;
    code = ask_change(import->wish, "add", json_incref(import->batch), &answer);
    (void)json_array_clear(import->batch);
    import->added += (uint64_t)get_number(answer, "added");
    import->replaced += (uint64_t)get_number(answer, "replaced");
    json_decref(answer);
    if (code == CLI_DONE && print_is_terminal() && !import->wish->context->wants_json) {
        (void)fprintf(stderr, "\r%" PRIu64 " lines", import->line);
        import->has_progress = true;
    }
    return code;
}

static void tell_bad(struct import *import, const char *why)
{
    if (import->bad++ < LINES_TOLD)
        (void)fprintf(stderr, "smtpd: %s:%" PRIu64 ": %s\n", import->wish->what,
                      import->line, why);
}

static void take_line(struct import *import, struct slice line)
{
    char address[SUPPRESSION_ADDRESS];
    char normal[SUPPRESSION_ADDRESS];
    char reason[SUPPRESSION_REASON + 1];
    size_t end = 0;
    json_t *entry;

    line = slice_trim(line);
    if (line.length == 0 || line.data[0] == '#')
        return;
    while (end < line.length && !strchr(" \t,;", line.data[end]))
        end++;
    if (!slice_copy_text(slice_part(line, 0, end), address, sizeof address) ||
        !suppression_normalise(address, normal)) {
        tell_bad(import, "no address");
        return;
    }
    while (end < line.length && strchr(" \t,;", line.data[end]))
        end++;
    slice_copy_start(slice_from(line, end), reason, sizeof reason);
    entry = entry_json(import->wish, address, reason[0] ? reason : import->wish->reason);
    if (!entry)
        tell_bad(import, "it is no UTF-8");
    else
        (void)json_array_append_new(import->batch, entry);
}

static int read_lines(struct import *import, FILE *file)
{
    char line[LINE_MAX_BYTES];
    int code = CLI_DONE;

    while (code == CLI_DONE && fgets(line, sizeof line, file)) {
        size_t length = strlen(line);

        import->line++;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            length--;
        if (length == sizeof line - 1) {
            tell_bad(import, "the line is too long");
            return CLI_FAILED;
        }
        take_line(import, (struct slice){line, length});
        if (json_array_size(import->batch) == BATCH)
            code = send_batch(import);
    }
    if (code == CLI_DONE)
        code = send_batch(import);
    if (ferror(file)) {
        (void)fprintf(stderr, "smtpd: %s cannot be read\n", import->wish->what);
        code = CLI_FAILED;
    }
    return code;
}

static int import_file(const struct wish *wish)
{
    struct import import = {.wish = wish, .batch = json_array()};
    bool is_input = strcmp(wish->what, "-") == 0;
    FILE *file = is_input ? stdin : fopen(wish->what, "re");
    int code = CLI_FAILED;

    if (file)
        code = read_lines(&import, file);
    else
        (void)fprintf(stderr, "smtpd: %s cannot be opened\n", wish->what);
    if (file && !is_input)
        (void)fclose(file);
    json_decref(import.batch);
    if (!file)
        return code;
    if (import.has_progress)
        (void)fputc('\n', stderr);
    if (wish->context->wants_json)
        (void)printf("{\"added\":%" PRIu64 ",\"replaced\":%" PRIu64 ",\"bad\":%" PRIu64
                     "}\n",
                     import.added, import.replaced, import.bad);
    else
        (void)printf("%" PRIu64 " added, %" PRIu64 " were there, %" PRIu64
                     " lines not understood\n",
                     import.added, import.replaced, import.bad);
    return code == CLI_DONE && import.bad > 0 ? CLI_FAILED : code;
}

/* ---- list and show ---- */

static void print_item(const json_t *item, bool is_first)
{
    int64_t expires_ms = get_number(item, "expires_ms");
    const char *tenant = get_text(item, "tenant");
    char created[MOMENT_TEXT];
    char expires[MOMENT_TEXT] = "never";

    moment_rfc3339(get_number(item, "created_ms") * 1000, created);
    if (expires_ms)
        moment_rfc3339(expires_ms * 1000, expires);
    if (is_first)
        (void)printf("%s%-32s %-16s %-7s %-10s %-10s %s%s\n", print_bold(), "ADDRESS",
                     "TENANT", "SOURCE", "SINCE", "EXPIRES", "REASON", print_plain());
    (void)printf("%-32s %-16s %-7s %.10s %-10.10s %s%s%s\n", get_text(item, "address"),
                 tenant[0] ? tenant : "-", get_text(item, "source"), created, expires,
                 print_dim(), get_text(item, "reason"), print_plain());
}

struct listing {
    const struct wish *wish;
    uint64_t limit;
    uint64_t count;
    bool has_more;
};

static bool print_items(struct listing *listing, const json_t *items)
{
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i);

        if (listing->count == listing->limit) {
            listing->has_more = true;
            return false;
        }
        if (!listing->wish->context->wants_json)
            print_item(item, listing->count == 0);
        else if (json_dumpf(item, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) ||
                 putchar('\n') == EOF)
            return false;
        listing->count++;
    }
    return true;
}

static enum result add_parameter(struct bytes *path, const char *name, const char *value)
{
    enum result added = value ? bytes_format(path, "&%s=", name) : RESULT_OK;

    return value && added == RESULT_OK ? client_add_encoded(path, value) : added;
}

static int next_part(const struct wish *wish, int64_t first, json_t **answer)
{
    bool is_show = strcmp(wish->word, "show") == 0;
    struct bytes path;
    enum result added;
    int code = CLI_USAGE;

    bytes_init(&path, PATH_MAX_BYTES);
    added = bytes_format(&path, "/v1/suppression?first=%" PRId64, first);
    if (added == RESULT_OK)
        added = add_parameter(&path, "tenant", wish->tenant);
    if (added == RESULT_OK)
        added = add_parameter(&path, "domain", wish->domain);
    if (added == RESULT_OK)
        added = add_parameter(&path, "address", is_show ? wish->what : NULL);
    if (added == RESULT_OK && bytes_add(&path, (struct slice){"", 1}) == RESULT_OK)
        code = client_ask(wish->context, path.data, NULL, answer);
    bytes_fini(&path);
    return code;
}

static int list(const struct wish *wish)
{
    bool is_short = print_is_terminal() && !wish->context->wants_json;
    struct listing listing = {.wish = wish,
                              .limit = wish->limit ? wish->limit
                                       : is_short  ? TERMINAL_ROWS
                                                   : UINT64_MAX};
    int64_t first = 0;
    bool goes_on = true;
    int code = CLI_DONE;

    while (goes_on && code == CLI_DONE) {
        json_t *answer = NULL;

        code = next_part(wish, first, &answer);
        goes_on =
            code == CLI_DONE && print_items(&listing, json_object_get(answer, "items"));
        first = get_number(answer, "next");
        goes_on = goes_on && first > 0;
        json_decref(answer);
    }
    if (code != CLI_DONE || wish->context->wants_json)
        return code;
    if (listing.has_more)
        (void)printf("%sthere are more; --limit N shows more%s\n", print_dim(),
                     print_plain());
    else if (listing.count == 0)
        (void)printf("%snone%s\n", print_dim(), print_plain());
    return fflush(stdout) == 0 ? CLI_DONE : CLI_FAILED;
}

/* ---- the words ---- */

enum {
    TAKES_WHAT = 1,
    TAKES_TENANT = 2,
    TAKES_ENTRY = 4,
    TAKES_LIST = 8,
    TAKES_GLOBAL = 16
};

static const struct word {
    const char *name;
    int (*run)(const struct wish *wish);
    int takes;
} words[] = {
    {"add", change_one, TAKES_WHAT | TAKES_TENANT | TAKES_ENTRY},
    {"remove", change_one, TAKES_WHAT | TAKES_TENANT},
    {"list", list, TAKES_TENANT | TAKES_GLOBAL | TAKES_LIST},
    {"show", list, TAKES_WHAT | TAKES_TENANT | TAKES_GLOBAL},
    {"import", import_file, TAKES_WHAT | TAKES_TENANT | TAKES_ENTRY},
};

/* False: the flag is none of the word's, or its value cannot be. */
static bool take_flag(struct wish *wish, int takes, const char *flag, const char *value)
{
    int64_t age_ms;

    if (strcmp(flag, "--tenant") == 0 && (takes & TAKES_TENANT))
        return (wish->tenant = value)[0] != '\0';
    if (strcmp(flag, "--reason") == 0 && (takes & TAKES_ENTRY))
        return (wish->reason = value)[0] != '\0';
    if (strcmp(flag, "--domain") == 0 && (takes & TAKES_LIST))
        return (wish->domain = value)[0] != '\0';
    if (strcmp(flag, "--limit") == 0 && (takes & TAKES_LIST))
        return slice_to_u64(slice_of(value), UINT32_MAX, &wish->limit) == RESULT_OK;
    if (strcmp(flag, "--expire") != 0 || !(takes & TAKES_ENTRY) ||
        duration_parse(slice_of(value), &age_ms) != RESULT_OK || age_ms <= 0)
        return false;
    wish->expires_ms = now_ms() + age_ms;
    return true;
}

static bool take_words(struct wish *wish, int takes, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        bool is_taken = false;

        if (strcmp(argv[i], "--global") == 0 && (takes & TAKES_GLOBAL)) {
            wish->tenant = "";
            is_taken = true;
        } else if (argv[i][0] == '-' && argv[i][1] && i + 1 < argc) {
            is_taken = take_flag(wish, takes, argv[i], argv[i + 1]);
            i += is_taken;
        } else if ((argv[i][0] != '-' || !argv[i][1]) && (takes & TAKES_WHAT) &&
                   !wish->what) {
            wish->what = argv[i];
            is_taken = true;
        }
        if (!is_taken) {
            (void)fprintf(stderr, "smtpd: \"%s\" is not understood here\n\n%s", argv[i],
                          usage);
            return false;
        }
    }
    if ((takes & TAKES_WHAT) && !wish->what) {
        (void)fprintf(stderr, "smtpd: %s is needed\n\n%s",
                      strcmp(wish->word, "import") == 0 ? "a file" : "an address", usage);
        return false;
    }
    return true;
}

int cli_suppression_help(bool was_asked)
{
    (void)fprintf(was_asked ? stdout : stderr, "%s", usage);
    return was_asked ? CLI_DONE : CLI_USAGE;
}

int cli_suppression(const struct cli_context *context, int argc, char **argv)
{
    struct wish wish = {.context = context, .word = argc > 0 ? argv[0] : ""};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(wish.word, words[i].name) != 0)
            continue;
        if (!take_words(&wish, words[i].takes, argc - 1, argv + 1))
            return CLI_USAGE;
        return words[i].run(&wish);
    }
    return cli_suppression_help(false);
}
