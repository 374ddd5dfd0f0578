/* smtpd queue verify and compact: on the file of a stopped server, or a copy of it. */
#include "smtpd/queue/repair.h"

#include "print.h"
#include "queue_command.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A damaged page kills who follows its pointers, and LMDB ends the process that meets one:
 * another process does the walk, and this one tells what became of it. */
enum { WALKED = 0, NOT_WALKED = 3 };

struct verifying {
    struct verify_numbers *numbers; /* shared by both */
    bool wants_json;
};

static void on_finding(void *owner, const struct verify_finding *finding)
{
    const struct verifying *verifying = owner;
    json_t *json;

    if (!verifying->wants_json) {
        (void)printf("%s%s%s: %s%s%s: %s\n", finding->table, finding->record[0] ? " " : "",
                     finding->record, print_warn(), finding->rule, print_plain(),
                     finding->text);
        return;
    }
    json = json_pack("{s:s,s:s,s:s,s:s}", "rule", finding->rule, "table", finding->table,
                     "record", finding->record, "text", finding->text);
    if (json)
        (void)json_dumpf(json, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    (void)putchar('\n');
    json_decref(json);
}

static void on_progress(void *owner)
{
    const struct verifying *verifying = owner;

    (void)fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " messages",
                  verifying->numbers->messages, verifying->numbers->all);
}

static void print_json_numbers(const struct verify_numbers *numbers)
{
    json_t *json = json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "format",
        (json_int_t)numbers->format, "messages", (json_int_t)numbers->messages, "groups",
        (json_int_t)numbers->groups, "recipients", (json_int_t)numbers->recipients,
        "chunks", (json_int_t)numbers->chunks, "body_bytes",
        (json_int_t)numbers->body_bytes, "drafts", (json_int_t)numbers->drafts, "imports",
        (json_int_t)numbers->imports, "pages", (json_int_t)numbers->pages, "free_pages",
        (json_int_t)numbers->free_pages, "page_bytes", (json_int_t)numbers->page_bytes,
        "findings", (json_int_t)numbers->findings);

    (void)json_dumpf(json, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(json);
}

static void print_numbers(const struct verifying *verifying)
{
    const struct verify_numbers *numbers = verifying->numbers;
    char bytes[PRINT_TEXT];

    if (verifying->wants_json) {
        print_json_numbers(numbers);
        return;
    }
    print_count((int64_t)numbers->body_bytes, bytes);
    (void)printf("format %" PRIu64 ": %" PRIu64 " messages of %s in %" PRIu64
                 " groups to %" PRIu64 " recipients; %" PRIu64 " pages, %" PRIu64 " free\n",
                 numbers->format, numbers->messages, bytes, numbers->groups,
                 numbers->recipients, numbers->pages, numbers->free_pages);
    if (numbers->drafts > 0)
        (void)printf("%" PRIu64 " unfinished: the next start removes them\n",
                     numbers->drafts);
    if (numbers->findings > 0)
        (void)printf("%s%" PRIu64 " broken rule%s%s\n", print_warn(), numbers->findings,
                     numbers->findings == 1 ? "" : "s", print_plain());
    else
        (void)printf("no rule is broken\n");
}

static int walk(const char *folder, struct verifying *verifying)
{
    bool shows_progress = isatty(STDERR_FILENO) == 1 && !verifying->wants_json;
    struct verify_wanted wanted = {.folder = folder,
                                   .now_ms = queue_now_ms(),
                                   .on_finding = on_finding,
                                   .on_progress = shows_progress ? on_progress : NULL,
                                   .owner = verifying,
                                   .numbers = verifying->numbers};
    struct fault fault;
    enum result result = queue_verify(&wanted, &fault);

    if (shows_progress)
        (void)fputs("\r\033[K", stderr);
    if (result != RESULT_OK)
        (void)fprintf(stderr, "smtpd: %s\n", fault.text);
    return fflush(stdout) == 0 && result == RESULT_OK ? WALKED : NOT_WALKED;
}

static int walk_apart(const char *folder, struct verifying *verifying)
{
    int status = 0;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    if (child == 0)
        _exit(walk(folder, verifying));
    if (child < 0 || waitpid(child, &status, 0) != child) {
        (void)fprintf(stderr, "smtpd: no process can be started\n");
        return CLI_FAILED;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_WALKED)
        return CLI_FAILED;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != WALKED) {
        verifying->numbers->findings++;
        on_finding(verifying,
                   &(struct verify_finding){
                       "unreadable", "file", "",
                       "a page is damaged, or lies behind the end of the file: what comes "
                       "behind it was not looked at"});
    }
    print_numbers(verifying);
    return verifying->numbers->findings > 0 ? CLI_FAILED : CLI_DONE;
}

int queue_verify_command(const struct command *command)
{
    struct verifying verifying = {.wants_json = command->context->wants_json};
    const char *folder =
        command->directory ? command->directory : command->context->data_dir;
    int code;

    verifying.numbers = mmap(NULL, sizeof *verifying.numbers, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verifying.numbers == MAP_FAILED) {
        (void)fprintf(stderr, "smtpd: no memory\n");
        return CLI_FAILED;
    }
    code = walk_apart(folder, &verifying);
    (void)munmap(verifying.numbers, sizeof *verifying.numbers);
    return code;
}

int queue_compact_command(const struct command *command)
{
    struct compact_numbers numbers;
    struct fault fault;
    char before[PRINT_TEXT];
    char after[PRINT_TEXT];

    if (queue_compact(command->context->data_dir, &numbers, &fault) != RESULT_OK) {
        (void)fprintf(stderr, "smtpd: %s\n", fault.text);
        return CLI_FAILED;
    }
    if (command->context->wants_json) {
        (void)printf("{\"bytes_before\":%" PRIu64 ",\"bytes_after\":%" PRIu64
                     ",\"records\":%" PRIu64 "}\n",
                     numbers.bytes_before, numbers.bytes_after, numbers.records);
        return CLI_DONE;
    }
    print_count((int64_t)numbers.bytes_before, before);
    print_count((int64_t)numbers.bytes_after, after);
    (void)printf("%s before, %s now; %" PRIu64 " records\n", before, after,
                 numbers.records);
    return CLI_DONE;
}
