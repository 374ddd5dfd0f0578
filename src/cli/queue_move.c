/* smtpd queue export and import: messages into files, and back. */
#include "client.h"
#include "print.h"
#include "queue_command.h"
#include "smtpd/base/memory.h"
#include "smtpd/queue/moving.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct moving {
    bool wants_json;
    bool is_dry_run;
    size_t matched;
    struct export_counts counts;
};

static void print_failure(const char *name, const char *why)
{
    (void)fprintf(stderr, "smtpd: %s: %s\n", name, why);
}

static void on_matched(void *owner, size_t messages)
{
    struct moving *moving = owner;

    moving->matched = messages;
    if (!moving->wants_json)
        (void)printf("%zu message%s to export%s\n", messages, messages == 1 ? "" : "s",
                     moving->is_dry_run ? " (dry run: nothing is changed)" : "");
}

static int print_end(const struct moving *moving, int code)
{
    const struct export_counts *counts = &moving->counts;

    if (moving->wants_json)
        (void)printf("{\"matched\":%zu,\"exported\":%zu,\"busy\":%zu,\"gone\":%zu,"
                     "\"failed\":%zu,\"bytes\":%" PRIu64 "}\n",
                     moving->matched, counts->exported, counts->busy, counts->gone,
                     counts->failed, counts->bytes);
    else if (!moving->is_dry_run)
        (void)printf("%zu exported, %zu busy (an attempt is running), %zu gone meanwhile, "
                     "%zu failed\n",
                     counts->exported, counts->busy, counts->gone, counts->failed);
    return code == CLI_DONE && counts->failed > 0 ? CLI_FAILED : code;
}

/* ---- a running server ---- */

static void count_answer(struct moving *moving, const json_t *answer)
{
    const json_t *failures = json_object_get(answer, "failures");

    moving->counts.exported += (size_t)get_number(answer, "exported");
    moving->counts.busy += (size_t)get_number(answer, "busy");
    moving->counts.gone += (size_t)get_number(answer, "gone");
    moving->counts.failed += (size_t)get_number(answer, "failed");
    moving->counts.bytes += (uint64_t)get_number(answer, "bytes");
    for (size_t i = 0; i < json_array_size(failures); i++)
        print_failure(get_text(json_array_get(failures, i), "id"),
                      get_text(json_array_get(failures, i), "why"));
}

static int ask_for(const struct command *command, const char *directory, const json_t *ids,
                   struct moving *moving)
{
    int code = CLI_DONE;

    for (size_t at = 0; at < json_array_size(ids) && code == CLI_DONE; at += QUEUE_BATCH) {
        json_t *batch = json_array();
        json_t *answer = NULL;
        json_t *body;

        for (size_t i = at; i < at + QUEUE_BATCH && i < json_array_size(ids); i++)
            (void)json_array_append(batch, json_array_get(ids, i));
        body = json_pack("{s:s,s:o}", "directory", directory, "ids", batch);
        code = client_ask(command->context, "/v1/queue/export", body, &answer);
        count_answer(moving, answer);
        json_decref(body);
        json_decref(answer);
    }
    return code;
}

static int export_online(const struct command *command, const char *directory,
                         struct moving *moving)
{
    json_t *ids = json_array();
    int code = queue_collect_ids(command, ids);

    if (code == CLI_DONE)
        on_matched(moving, json_array_size(ids));
    if (code == CLI_DONE && !moving->is_dry_run)
        code = ask_for(command, directory, ids, moving);
    json_decref(ids);
    return code;
}

/* ---- nobody runs ---- */

static void on_failed(void *owner, uint64_t id, const char *why)
{
    char text[ID_TEXT];

    (void)owner;
    id_print(id, text);
    print_failure(text, why);
}

static int export_offline(const struct command *command, const char *directory,
                          struct moving *moving)
{
    uint64_t ids[QUEUE_BATCH];
    struct fault fault;
    struct offline_export wanted = {.settings = command->context->queue,
                                    .directory = directory,
                                    .ids = command->id_count ? ids : NULL,
                                    .id_count = command->id_count,
                                    .selection = &command->selection,
                                    .is_dry_run = command->is_dry_run,
                                    .on_matched = on_matched,
                                    .on_failed = on_failed,
                                    .owner = moving};

    for (size_t i = 0; i < command->id_count; i++)
        (void)id_parse(command->ids[i], strlen(command->ids[i]), &ids[i]);
    if (queue_export_offline(&wanted, &moving->counts, &fault) == RESULT_OK)
        return CLI_DONE;
    (void)fprintf(stderr, "smtpd: %s\n", fault.text);
    return CLI_FAILED;
}

/* ---- the commands ---- */

static bool has_directory(const struct command *command)
{
    if (!command->directory)
        (void)fprintf(stderr, "smtpd: a directory is needed\n\n%s", queue_usage);
    return command->directory;
}

/* A server has a working folder of its own. */
static char *absolute(const char *path)
{
    char here[QUEUE_PATH_MAX];

    if (path[0] == '/' || !getcwd(here, sizeof here))
        return memory_text(path);
    return memory_format("%s/%s", here, path);
}

int queue_export_command(const struct command *command)
{
    struct moving moving = {.wants_json = command->context->wants_json,
                            .is_dry_run = command->is_dry_run};
    bool is_online;
    char *directory;
    int code;

    if (!has_directory(command))
        return CLI_USAGE;
    if (!command->id_count && !command->has_selection) {
        (void)fprintf(stderr, "smtpd: say which: ids, a selection, or --all\n\n%s",
                      queue_usage);
        return CLI_USAGE;
    }
    is_online = client_answers(command->context);
    if (!is_online && command->selection.source[0]) {
        (void)fprintf(stderr,
                      "smtpd: --source needs a running server: where mail may leave "
                      "depends on what is known of its destination\n");
        return CLI_USAGE;
    }
    directory = absolute(command->directory);
    if (is_online)
        code = export_online(command, directory, &moving);
    else
        code = export_offline(command, directory, &moving);
    memory_free(directory);
    return print_end(&moving, code);
}

static void on_import_failed(void *owner, const char *name, const char *why)
{
    (void)owner;
    print_failure(name, why);
}

int queue_import_command(const struct command *command)
{
    struct queue_import wanted = {.settings = command->context->queue,
                                  .directory = command->directory,
                                  .server_user = command->context->server_user,
                                  .on_failed = on_import_failed};
    struct import_counts counts;
    struct fault fault;
    enum result result;

    if (!has_directory(command))
        return CLI_USAGE;
    result = queue_import(&wanted, &counts, &fault);
    if (result != RESULT_OK)
        (void)fprintf(stderr, "smtpd: %s\n", fault.text);
    if (command->context->wants_json)
        (void)printf("{\"imported\":%zu,\"known\":%zu,\"failed\":%zu,\"bytes\":%" PRIu64
                     "}\n",
                     counts.imported, counts.known, counts.failed, counts.bytes);
    else
        (void)printf("%zu imported, %zu known already, %zu refused\n", counts.imported,
                     counts.known, counts.failed);
    return result == RESULT_OK && counts.failed == 0 ? CLI_DONE : CLI_FAILED;
}
