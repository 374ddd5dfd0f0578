/* smtpd user: who may log in, and what each of them may. Works on the file, not on the server,
 * which reads it again by itself. */
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/cli/cli.h"
#include "smtpd/policy/auth.h"

#include "print.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { LISTED_MAX = 1000000, COLUMNS_MAX = 16, LINE_MAX_BYTES = ACCOUNT_TEXT_MAX + 256 };

struct command {
    const struct cli_context *context;
    const char *path; /* of the users file */
    const char *server_user;
    int argc;
    char **argv;
};

static int fail(const struct fault *fault)
{
    (void)fprintf(stderr, "smtpd: %s\n", fault->text);
    return CLI_FAILED;
}

static int help(FILE *to)
{
    size_t count;
    const struct right_key *keys = rights_keys(&count);

    (void)fprintf(
        to, "usage: smtpd user add    NAME [key=value ...]\n"
            "       smtpd user set    NAME key=value ...   (\"key=\" removes the key)\n"
            "       smtpd user show   NAME\n"
            "       smtpd user list\n"
            "       smtpd user remove NAME\n\n"
            "add asks for the password: one line of standard input. For a user who is "
            "there it\nchanges the password and the keys that are named.\n\n"
            "What a user may; what is not given is not limited here:\n");
    for (size_t i = 0; i < count; i++)
        (void)fprintf(to, "  %-15s %s\n  %-15s %s\n", keys[i].name, keys[i].sentence, "",
                      keys[i].how);
    return to == stdout ? CLI_DONE : CLI_USAGE;
}

/* ---- the password ---- */

static bool set_echo(bool is_on)
{
    struct termios terminal;

    if (tcgetattr(STDIN_FILENO, &terminal) != 0)
        return false;
    if (is_on)
        terminal.c_lflag |= ECHO;
    else
        terminal.c_lflag &= ~(tcflag_t)ECHO;
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal) == 0;
}

/* One line of standard input; asked for, and not shown, on a terminal. */
static bool read_password(char password[LIMIT_PASSWORD + 2], size_t *length)
{
    bool is_terminal = isatty(STDIN_FILENO) == 1;
    char *line;

    if (is_terminal) {
        (void)fprintf(stderr, "Password: ");
        (void)set_echo(false);
    }
    line = fgets(password, LIMIT_PASSWORD + 2, stdin);
    if (is_terminal) {
        (void)set_echo(true);
        (void)fprintf(stderr, "\n");
    }
    *length = line ? strcspn(line, "\r\n") : 0;
    if (*length >= 1 && *length <= LIMIT_PASSWORD)
        return true;
    (void)fprintf(stderr,
                  "smtpd: the password, one line on standard input, has 1 to %d bytes\n",
                  LIMIT_PASSWORD);
    return false;
}

/* ---- changing ---- */

static int change(const struct command *command, struct slice password)
{
    struct users_change wanted = {
        .name = command->argv[1],
        .password = password,
        .rights = (const char *const *)(command->argv + 2),
        .right_count = (size_t)command->argc - 2,
    };
    bool was_there = false;
    struct fault fault;

    if (users_file_change(command->path, &wanted, &was_there, &fault) != RESULT_OK)
        return fail(&fault);
    (void)printf("%s %s in %s\n", was_there ? "changed" : "added", wanted.name,
                 command->path);
    return CLI_DONE;
}

/* Root's first user makes the file: the server, which becomes server.user, must read it. */
static bool give_to_server(const struct command *command)
{
    const struct passwd *user =
        geteuid() == 0 && command->server_user ? getpwnam(command->server_user) : NULL;

    if (!user || chown(command->path, (uid_t)-1, user->pw_gid) == 0)
        return true;
    (void)fprintf(stderr, "smtpd: cannot give %s to the group of %s: %s\n", command->path,
                  command->server_user, strerror(errno));
    return false;
}

static int user_add(const struct command *command)
{
    char password[LIMIT_PASSWORD + 2];
    bool is_first = access(command->path, F_OK) != 0;
    size_t length = 0;
    int code;

    if (!read_password(password, &length))
        return CLI_USAGE;
    code = change(command, (struct slice){password, length});
    secure_wipe(password, sizeof password);
    if (code == CLI_DONE && is_first && !give_to_server(command))
        return CLI_FAILED;
    return code;
}

static int user_set(const struct command *command)
{
    return command->argc < 3 ? help(stderr) : change(command, SLICE_NONE);
}

static int user_remove(const struct command *command)
{
    struct fault fault;

    if (command->argc != 2)
        return help(stderr);
    if (users_file_remove(command->path, command->argv[1], &fault) != RESULT_OK)
        return fail(&fault);
    (void)printf("removed %s from %s\n", command->argv[1], command->path);
    return CLI_DONE;
}

/* ---- looking ---- */

static struct slice value_of(struct slice rights, const char *key)
{
    struct slice name;
    struct slice value;

    while (rights_next(&rights, &name, &value))
        if (slice_equal_text(name, key))
            return value;
    return SLICE_NONE;
}

static json_t *list_as_json(struct slice list)
{
    json_t *items = json_array();

    while (list.length > 0) {
        size_t end = slice_find(list, ',');

        (void)json_array_append_new(items, json_stringn(list.data, end));
        list = end < list.length ? slice_from(list, end + 1) : SLICE_NONE;
    }
    return items;
}

static json_t *user_as_json(const char *name, struct slice rights)
{
    size_t count;
    const struct right_key *keys = rights_keys(&count);
    json_t *user = json_pack("{s:s}", "name", name);

    for (size_t i = 0; i < count; i++) {
        struct slice value = value_of(rights, keys[i].name);

        if (value.length > 0)
            (void)json_object_set_new(user, keys[i].name,
                                      keys[i].is_list
                                          ? list_as_json(value)
                                          : json_stringn(value.data, value.length));
    }
    return user;
}

struct listing {
    const struct command *command;
    const char *wanted; /* NULL: all */
    bool is_found;
    json_t *users;
    size_t widths[COLUMNS_MAX]; /* of the keys; 0: nobody has it */
    size_t name_width;
};

static void widen(size_t *width, size_t length)
{
    if (*width < length)
        *width = length;
}

static void measure(void *owner, const char *name, struct slice rights)
{
    struct listing *listing = owner;
    size_t count;
    const struct right_key *keys = rights_keys(&count);

    widen(&listing->name_width, strlen(name));
    for (size_t i = 0; i < count && i < COLUMNS_MAX; i++) {
        struct slice value = value_of(rights, keys[i].name);

        if (value.length == 0)
            continue;
        widen(&listing->widths[i], value.length);
        widen(&listing->widths[i], strlen(keys[i].name));
    }
}

static void print_line(const struct listing *listing, const char *name,
                       struct slice (*cell)(struct slice, const char *),
                       struct slice rights)
{
    struct bytes line;
    size_t count;
    const struct right_key *keys = rights_keys(&count);
    enum result added;

    bytes_init(&line, LINE_MAX_BYTES * (size_t)COLUMNS_MAX);
    added = bytes_format(&line, "%-*s", (int)listing->name_width, name);
    for (size_t i = 0; i < count && i < COLUMNS_MAX && added == RESULT_OK; i++) {
        struct slice value = cell(rights, keys[i].name);

        if (listing->widths[i] == 0)
            continue;
        if (value.length == 0)
            value = SLICE("-");
        added = bytes_format(&line, "  %.*s%*s", (int)value.length, value.data,
                             (int)(listing->widths[i] - value.length), "");
    }
    while (line.length > 0 && line.data[line.length - 1] == ' ')
        line.length--;
    (void)printf("%.*s\n", (int)line.length, line.data);
    bytes_fini(&line);
}

static struct slice key_name(struct slice ignored, const char *key)
{
    (void)ignored;
    return slice_of(key);
}

static void print_row(void *owner, const char *name, struct slice rights)
{
    print_line(owner, name, value_of, rights);
}

static void add_json(void *owner, const char *name, struct slice rights)
{
    struct listing *listing = owner;

    if (json_array_size(listing->users) < LISTED_MAX)
        (void)json_array_append_new(listing->users, user_as_json(name, rights));
}

static bool has_columns(const struct listing *listing)
{
    for (size_t i = 0; i < COLUMNS_MAX; i++)
        if (listing->widths[i] > 0)
            return true;
    return false;
}

static int list_columns(struct listing *listing)
{
    const char *path = listing->command->path;
    struct fault fault;

    if (users_file_list(path, measure, listing, &fault) != RESULT_OK)
        return fail(&fault);
    if (has_columns(listing)) {
        widen(&listing->name_width, sizeof "user" - 1);
        (void)printf("%s", print_bold());
        print_line(listing, "user", key_name, SLICE_NONE);
        (void)printf("%s", print_plain());
    }
    return users_file_list(path, print_row, listing, &fault) == RESULT_OK ? CLI_DONE
                                                                          : fail(&fault);
}

static int user_list(const struct command *command)
{
    struct listing listing = {.command = command};
    struct fault fault;
    int code;

    if (command->argc != 1)
        return help(stderr);
    if (!command->context->wants_json)
        return list_columns(&listing);
    listing.users = json_array();
    if (users_file_list(command->path, add_json, &listing, &fault) == RESULT_OK)
        code = print_json(listing.users);
    else
        code = fail(&fault);
    json_decref(listing.users);
    return code;
}

static void show(void *owner, const char *name, struct slice rights)
{
    struct listing *listing = owner;
    size_t count;
    const struct right_key *keys = rights_keys(&count);

    if (strcmp(name, listing->wanted) != 0)
        return;
    listing->is_found = true;
    if (listing->command->context->wants_json) {
        json_t *user = user_as_json(name, rights);

        (void)print_json(user);
        json_decref(user);
        return;
    }
    (void)printf("%s%s%s\n", print_bold(), name, print_plain());
    for (size_t i = 0; i < count; i++) {
        struct slice value = value_of(rights, keys[i].name);

        (void)printf("  %-15s %.*s\n", keys[i].name, (int)value.length,
                     value.length > 0 ? value.data : "");
    }
}

static int user_show(const struct command *command)
{
    struct listing listing = {.command = command};
    struct fault fault;

    if (command->argc != 2)
        return help(stderr);
    listing.wanted = command->argv[1];
    if (users_file_list(command->path, show, &listing, &fault) != RESULT_OK)
        return fail(&fault);
    if (listing.is_found)
        return CLI_DONE;
    (void)fault_set(&fault, RESULT_NOT_FOUND, "there is no user %s in %s", listing.wanted,
                    command->path);
    return fail(&fault);
}

/* ---- the words ---- */

struct word {
    const char *name;
    int (*run)(const struct command *command);
    bool wants_name;
};

static const struct word words[] = {{"add", user_add, true},
                                    {"set", user_set, true},
                                    {"show", user_show, true},
                                    {"list", user_list, false},
                                    {"remove", user_remove, true}};

int cli_user_help(bool was_asked)
{
    return help(was_asked ? stdout : stderr);
}

int cli_user(const struct cli_context *context, const struct cli_users *file, int argc,
             char **argv)
{
    struct command command = {context, file->path, file->server_user, argc, argv};

    for (size_t i = 0; argc > 0 && i < sizeof words / sizeof *words; i++)
        if (strcmp(argv[0], words[i].name) == 0 && (!words[i].wants_name || argc > 1))
            return words[i].run(&command);
    return help(stderr);
}
