/* The command line: which word goes to which room, and the exit codes 0 (done), 1 (failed),
 * 2 (usage), 3 (the server does not run). */
#include "smtpd/base/file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/cli/cli.h"
#include "smtpd/config/config.h"
#include "smtpd/server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DOCUMENT_MAX = 4 << 20 };

struct words { /* what is left of the command line, and the flags that go everywhere */
    const char *config_path;
    const char *socket_path;
    bool wants_json;
    int count;
    char **items;
};

typedef int command_fn(const struct words *words);

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static bool wants_help(const struct words *words)
{
    for (int i = 0; i < words->count; i++)
        if (is_help(words->items[i]))
            return true;
    return false;
}

struct command {
    const char *name;
    command_fn *run;
    const char *arguments;
    const char *sentence;
    const char *details; /* NULL: none */
};

static command_fn command_run;
static command_fn command_check;
static command_fn command_user;
static command_fn command_queue;
static command_fn command_suppression;
static command_fn command_tls_report;
static command_fn command_status;
static command_fn command_explain;
static command_fn command_destination;
static command_fn command_dkim;
static command_fn command_health;
static command_fn command_classify;
static command_fn command_document;
static command_fn command_help;
static command_fn command_version;

/* clang-format off */
static const struct command commands[] = {
    {"run",      command_run,      "",                                    "Run the server in the foreground.",
     "It says on standard output what happens ([log]). SIGTERM ends it within\n"
     "server.grace_period, SIGHUP applies the changed file: all of it or nothing.\n"},
    {"check",    command_check,    "[FILE] [--effective|--diff]",         "Check the configuration: every error with line and column.",
     "Certificates, keys and the users file are read too: run it as root or as the\n"
     "server's user. --effective prints every value with the line it comes from,\n"
     "secrets masked. --diff asks the running server what SIGHUP would change with the\n"
     "file. --json prints the errors, or the differences, as a list.\n"},
    {"user",     command_user,     "add|set|show|list|remove ...",        "Users who may log in, and what each may.", NULL},
    {"queue",    command_queue,    "list|show|why|retry|verify ...",      "Look at the queue, change it, check it, move it.", NULL},
    {"destination", command_destination, "list|show|suspend|resume|flush ...", "Where mail goes, at which pace; stop it, let it go on, try it now.", NULL},
    {"explain",  command_explain,  "ADDRESS|DOMAIN [--from SENDER] [--tenant T]", "Where mail for it would go, by which rules, and what would happen now.",
     "Nothing is sent. The running server is asked, which looks the names up.\n"},
    {"suppression", command_suppression, "add|remove|list|show|import ...", "Addresses that get no mail.", NULL},
    {"tls-report", command_tls_report, "show [DOMAIN], send DOMAIN|--all", "How mail met TLS, for the reports that other domains get.", NULL},
    {"dkim",     command_dkim,     "keygen DOMAIN SELECTOR, check ...",   "Keys that sign mail, and their records in the DNS.", NULL},
    {"status",   command_status,   "[--short]",                           "What the running server counts: a summary, and every metric.",
     "--short prints the summary alone. --json prints everything; docs/metrics.md and\n"
     "docs/control.md name it.\n"},
    {"health",   command_health,   "[--ready]",                           "Exit code 0: the server answers (and takes mail). For containers.",
     "It asks the control socket; exit code 1 with the reason when it does not, or, with\n"
     "--ready, takes no mail.\n"},
    {"classify", command_classify, "[--host HOST] [REPLY]",               "What kind of failure a reply tells, and which rule says so.",
     "REPLY as \"550 5.1.1 No such user\", or replies on standard input, a line each.\n"
     "--host is who gave it, for rules that ask. docs/classes.md has the classes.\n"},
    {"document", command_document, "example|manual|destinations|...", "Print the example file, the shipped [[destination]] blocks, or a page of the manual.",
     "destinations: blocks for large providers, which come behind those of the file.\n"
     "manual, verbs, metrics: pages of docs/.\n"},
    {"help",     command_help,     "",                                    "This page.", NULL},
    {"version",  command_version,  "",                                    "Print the version.", NULL},
};
/* clang-format on */

static void print_usage(FILE *to)
{
    (void)fprintf(to, "usage: smtpd COMMAND [ARGUMENTS] [--config FILE] [--json]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        (void)fprintf(to, "  %-11s %-32s %s\n", commands[i].name, commands[i].arguments,
                      commands[i].sentence);
    (void)fprintf(
        to,
        "\n"
        "  --config FILE   default " CONFIG_DEFAULT_FILE "\n"
        "  --socket PATH   control socket, where the configuration cannot be read\n"
        "  --json          machine-readable answers (check, classify, user, queue, ...)\n\n"
        "Exit codes: 0 done, 1 failed, 2 usage, 3 the server does not run.\n"
        "Signals: SIGHUP applies the configuration, SIGTERM leaves in good order.\n");
}

static int print_command_usage(const struct command *command)
{
    (void)printf("usage: smtpd %s%s%s\n\n%s\n", command->name,
                 command->arguments[0] ? " " : "", command->arguments, command->sentence);
    if (command->details)
        (void)printf("\n%s", command->details);
    (void)printf("\nFlags that go everywhere, exit codes, signals: smtpd help\n");
    return CLI_DONE;
}

static int usage_error(const char *before, const char *word, const char *behind)
{
    (void)fprintf(stderr, "%s%s%s\n\nTry: smtpd help\n", before, word, behind);
    return CLI_USAGE;
}

static int command_help(const struct words *words)
{
    (void)words;
    print_usage(stdout);
    return CLI_DONE;
}

static int command_version(const struct words *words)
{
    (void)words;
    (void)printf("smtpd %s\n", SERVER_VERSION);
    return CLI_DONE;
}

/* ---- run and check ---- */

static void print_problems(const struct config_problems *problems, const char *path,
                           bool wants_json, FILE *to)
{
    struct bytes text;

    bytes_init(&text, DOCUMENT_MAX);
    if (wants_json)
        config_problems_print_json(problems, path, &text);
    else
        config_problems_print(problems, path, &text);
    (void)fwrite(text.data ? text.data : "", 1, text.length, to);
    bytes_fini(&text);
}

static struct config *load(const char *path)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct config *config = config_load(path, problems);

    if (!config)
        print_problems(problems, path, false, stderr);
    memory_free(problems);
    return config;
}

static int command_run(const struct words *words)
{
    struct config *config;

    if (words->count > 0)
        return usage_error("smtpd: run takes no \"", words->items[0], "\"");
    config = load(words->config_path);
    return config ? server_run(config, words->config_path) : CLI_FAILED;
}

static int print_effective(const struct config *config, const char *path)
{
    struct bytes text;
    enum result result;

    bytes_init(&text, DOCUMENT_MAX);
    result = config_print_effective(config, path, &text);
    (void)fwrite(text.data ? text.data : "", 1, text.length, stdout);
    bytes_fini(&text);
    return result == RESULT_OK ? CLI_DONE : CLI_FAILED;
}

/* The running server reads the text itself: it has the rights that count. */
static int compare_file(const struct words *words, const char *path,
                        const struct config *config)
{
    struct cli_context context = {.socket_path = words->socket_path,
                                  .wants_json = words->wants_json};
    char *socket_path = memory_format("%s/control.sock", config->data_dir);
    struct bytes text;
    int code = CLI_FAILED;

    if (!context.socket_path)
        context.socket_path = socket_path;
    bytes_init(&text, DOCUMENT_MAX);
    if (file_read(path, &text, NULL) == RESULT_OK)
        code = cli_compare(&context, text.data ? text.data : "", text.length);
    else
        (void)fprintf(stderr, "%s: cannot be read\n", path);
    if (text.length > 0)
        secure_wipe(text.data, text.length);
    bytes_fini(&text);
    memory_free(socket_path);
    return code;
}

enum check_wish { CHECK_ONLY, CHECK_EFFECTIVE, CHECK_DIFF };

static int check_file(const struct words *words, const char *path, enum check_wish wish)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct config *config = config_load(path, problems);
    int code = CLI_DONE;

    if (config)
        server_check(config, path, problems);
    if (words->wants_json && (wish != CHECK_DIFF || !config))
        print_problems(problems, path, true, stdout);
    else
        print_problems(problems, path, false, stderr);
    if (config_problems_errors(problems) > 0)
        code = CLI_FAILED;
    if (config && wish == CHECK_EFFECTIVE)
        code |= print_effective(config, path);
    else if (config && wish == CHECK_DIFF)
        code = code == CLI_DONE ? compare_file(words, path, config) : code;
    else if (code == CLI_DONE && !words->wants_json)
        (void)printf("%s: no errors\n", path);
    config_free(config);
    memory_free(problems);
    return code;
}

static int command_check(const struct words *words)
{
    const char *path = words->config_path;
    enum check_wish wish = CHECK_ONLY;

    for (int i = 0; i < words->count; i++) {
        if (strcmp(words->items[i], "--effective") == 0)
            wish = CHECK_EFFECTIVE;
        else if (strcmp(words->items[i], "--diff") == 0)
            wish = CHECK_DIFF;
        else if (words->items[i][0] == '-')
            return usage_error("smtpd: check takes no \"", words->items[i], "\"");
        else
            path = words->items[i];
    }
    return check_file(words, path, wish);
}

/* ---- user ---- */

static int command_user(const struct words *words)
{
    struct cli_context context = {.wants_json = words->wants_json};
    struct cli_users file;
    struct config *config;
    int code;

    if (words->count == 0 || wants_help(words) || strcmp(words->items[0], "help") == 0)
        return cli_user_help(words->count > 0);
    config = load(words->config_path);
    if (!config)
        return CLI_FAILED;
    file = (struct cli_users){config->users_file, config->user};
    if (file.path) {
        code = cli_user(&context, &file, words->count, words->items);
    } else {
        (void)fprintf(stderr, "smtpd: %s names no auth.users_file\n", words->config_path);
        code = CLI_FAILED;
    }
    config_free(config);
    return code;
}

/* ---- commands to the server ---- */

static int ask_server(const struct words *words,
                      int (*ask)(const struct cli_context *, int, char **))
{
    struct cli_context context = {.socket_path = words->socket_path,
                                  .wants_json = words->wants_json};
    char *folder = NULL;
    char *path = NULL;
    int code;

    if (!context.socket_path) {
        folder = config_data_dir(words->config_path);
        if (!folder) {
            config_free(load(words->config_path)); /* says why */
            (void)fprintf(stderr, "smtpd: or say --socket PATH\n");
            return CLI_FAILED;
        }
        context.socket_path = path = memory_format("%s/control.sock", folder);
    }
    code = ask(&context, words->count, words->items);
    memory_free(path);
    memory_free(folder);
    return code;
}

/* What works on the data folder itself. A copy elsewhere needs no configuration. */
static int work_on_folder(const struct words *words)
{
    struct cli_context context = {.wants_json = words->wants_json};
    char *folder = config_data_dir(words->config_path);
    int code = CLI_FAILED;

    context.data_dir = folder;
    if (folder || words->count > 1)
        code = cli_queue(&context, words->count, words->items);
    else
        config_free(load(words->config_path)); /* says why */
    memory_free(folder);
    return code;
}

/* Without a server it works on the folder itself. */
static int move_messages(const struct words *words)
{
    struct config *config = load(words->config_path);
    struct cli_context context = {.socket_path = words->socket_path,
                                  .wants_json = words->wants_json};
    struct queue_settings queue;
    struct log_settings log;
    struct fault fault;
    char *path;
    int code;

    if (!config)
        return CLI_FAILED;
    path = memory_format("%s/control.sock", config->data_dir);
    if (!context.socket_path)
        context.socket_path = path;
    config_queue(config, &queue);
    config_log(config, &log);
    context.queue = &queue;
    context.server_user = config->user;
    /* The server's log tells of it too; its standard output is not ours. */
    if (strcmp(log.output, "stdout") != 0 && strcmp(log.output, "stderr") != 0 &&
        log_open(&log, &fault) != RESULT_OK)
        (void)fprintf(stderr, "smtpd: %s\n", fault.text);
    code = cli_queue(&context, words->count, words->items);
    log_close();
    memory_free(path);
    config_free(config);
    return code;
}

static int command_queue(const struct words *words)
{
    struct cli_context nowhere = {0};
    const char *word = words->count ? words->items[0] : "";

    /* How it is used is known without a server. */
    if (words->count == 0 || wants_help(words) || strcmp(word, "help") == 0)
        return cli_queue(&nowhere, words->count ? 1 : 0,
                         (char *[]){(char *)(uintptr_t) "help"});
    if (strcmp(word, "verify") == 0 || strcmp(word, "compact") == 0)
        return work_on_folder(words);
    if (strcmp(word, "export") == 0 || strcmp(word, "import") == 0)
        return move_messages(words);
    return ask_server(words, cli_queue);
}

static int command_suppression(const struct words *words)
{
    if (words->count == 0 || wants_help(words))
        return cli_suppression_help(words->count > 0);
    return ask_server(words, cli_suppression);
}

static int command_destination(const struct words *words)
{
    if (words->count == 0 || wants_help(words))
        return cli_destination_help(words->count > 0);
    return ask_server(words, cli_destination);
}

static int command_tls_report(const struct words *words)
{
    if (words->count == 0 || wants_help(words))
        return cli_tls_report_help(words->count > 0);
    return ask_server(words, cli_tls_report);
}

static int command_status(const struct words *words)
{
    return ask_server(words, cli_status);
}

static int command_explain(const struct words *words)
{
    return ask_server(words, cli_explain);
}

static int command_health(const struct words *words)
{
    return ask_server(words, cli_health) == CLI_DONE ? CLI_DONE : CLI_FAILED;
}

/* ---- dkim ---- */

/* keygen with --directory needs no configuration; what else needs one says so itself. */
static int command_dkim(const struct words *words)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct config *config = config_load(words->config_path, problems);
    struct resolver_settings resolver;
    struct sign_settings signing;
    struct cli_dkim context = {.wants_json = words->wants_json};
    int code;

    if (config) {
        config_sign(config, &signing);
        config_resolver(config, &resolver);
        context.signing = &signing;
        context.resolver = &resolver;
    }
    code = cli_dkim(&context, words->count, words->items);
    if (code == CLI_FAILED && !config)
        print_problems(problems, words->config_path, false, stderr);
    config_free(config);
    memory_free(problems);
    return code;
}

/* ---- classes, generated pages ---- */

/* The shipped rules can be asked on a machine that has no configuration. */
static int command_classify(const struct words *words)
{
    bool has_none = strcmp(words->config_path, CONFIG_DEFAULT_FILE) == 0 &&
                    access(words->config_path, F_OK) != 0;
    struct config *config = has_none ? config_defaults() : load(words->config_path);
    struct cli_context context = {.wants_json = words->wants_json};
    int code = CLI_FAILED;

    if (config)
        code =
            cli_classify(&context, config_classifier(config), words->count, words->items);
    config_free(config);
    return code;
}

static int command_document(const struct words *words)
{
    const char *page = words->count == 1 ? words->items[0] : "";
    enum result result = server_document(page);

    if (result == RESULT_NOT_FOUND)
        return usage_error(
            "usage: smtpd document example|manual|destinations|verbs|metrics", "", "");
    return result == RESULT_OK ? CLI_DONE : CLI_FAILED;
}

/* Takes the flags that go everywhere out of the words. False: a flag lacks its value. */
static bool take_flags(struct words *words, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const char **value = NULL;

        if (strcmp(argv[i], "--json") == 0)
            words->wants_json = true;
        else if (strcmp(argv[i], "--config") == 0)
            value = &words->config_path;
        else if (strcmp(argv[i], "--socket") == 0)
            value = &words->socket_path;
        else
            words->items[words->count++] = argv[i];
        if (value && i + 1 == argc)
            return false;
        if (value)
            *value = argv[++i];
    }
    return true;
}

static const struct command *find_command(const char *name)
{
    if (is_help(name))
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int run_command(const struct command *command, const struct words *words)
{
    if (command->run != command_queue && command->run != command_user &&
        command->run != command_suppression && command->run != command_destination &&
        command->run != command_tls_report && wants_help(words))
        return print_command_usage(command);
    return command->run(words);
}

int main(int argc, char **argv)
{
    struct words words = {.config_path = CONFIG_DEFAULT_FILE, .items = NULL};
    const struct command *command;
    int code;

    if (argc < 2) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    secure_init();
    words.items = NEW_ARRAY(char *, (size_t)argc);
    if (!take_flags(&words, argc - 1, argv + 1)) {
        code = usage_error("smtpd: ", argv[argc - 1], " needs a value");
    } else {
        command = words.count > 0 ? find_command(words.items[0]) : NULL;
        words.count -= words.count > 0;
        words.items++;
        code = command ? run_command(command, &words)
                       : usage_error("smtpd: no command \"", argv[1], "\"");
        words.items--;
    }
    memory_free(words.items);
    return code;
}
