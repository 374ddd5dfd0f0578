/* smtpd queue retry|hold|release|bounce|reroute|remove: the count first, --dry-run, and changes in
 * batches of a thousand groups. */
#include "client.h"
#include "print.h"
#include "queue_command.h"
#include "smtpd/base/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *target_of(const json_t *item)
{
    return json_pack("{s:s,s:i,s:s}", "id", get_text(item, "id"), "group",
                     (int)get_number(item, "group"), "lane", get_text(item, "lane"));
}

static void add_targets(json_t *targets, const json_t *items)
{
    for (size_t i = 0; i < json_array_size(items); i++)
        (void)json_array_append_new(targets, target_of(json_array_get(items, i)));
}

static int collect_by_id(const struct command *command, json_t *targets)
{
    int code = CLI_DONE;

    for (size_t i = 0; i < command->id_count && code == CLI_DONE; i++) {
        char path[QUEUE_PATH_MAX];
        json_t *answer = NULL;

        (void)snprintf(path, sizeof path, "/v1/queue/%s", command->ids[i]);
        code = client_ask(command->context, path, NULL, &answer);
        if (code == CLI_DONE)
            add_targets(targets, json_object_get(answer, "items"));
        json_decref(answer);
    }
    return code;
}

static int collect_by_selection(const struct command *command, json_t *targets)
{
    struct pager pager;
    bool has_more = true;
    int code = CLI_DONE;

    pager_init(&pager, command);
    while (code == CLI_DONE && has_more) {
        json_t *items = NULL;

        code = pager_next(&pager, QUEUE_BATCH, &items, &has_more);
        add_targets(targets, items);
        json_decref(items);
    }
    return code;
}

int queue_collect_ids(const struct command *command, json_t *ids)
{
    json_t *targets = json_array();
    int code = command->id_count ? collect_by_id(command, targets)
                                 : collect_by_selection(command, targets);
    const char *last = "";

    /* In order of id: the groups of one message follow each other. */
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const char *id = get_text(json_array_get(targets, i), "id");

        if (strcmp(id, last) != 0)
            (void)json_array_append_new(ids, json_string(id));
        last = id;
    }
    json_decref(targets);
    return code;
}

struct change_counts {
    int64_t changed;
    int64_t busy;
    int64_t gone;
    int64_t skipped;
    int64_t until_ms; /* of a hold, as the server understood it */
};

static int change_batch(const struct command *command, const char *change, json_t *batch,
                        struct change_counts *counts)
{
    json_t *body = json_pack("{s:s,s:o}", "change", change, "targets", batch);
    json_t *answer = NULL;
    int code;

    if (command->until_ms)
        (void)json_object_set_new(body, "until_ms", json_integer(command->until_ms));
    if (command->reason)
        (void)json_object_set_new(body, "reason", json_string(command->reason));
    if (command->route)
        (void)json_object_set_new(
            body, "route",
            strcmp(command->route, "own") == 0 ? json_null() : json_string(command->route));
    code = client_ask(command->context, "/v1/queue/change", body, &answer);

    counts->changed += get_number(answer, "changed");
    counts->busy += get_number(answer, "busy");
    counts->gone += get_number(answer, "gone");
    counts->skipped += get_number(answer, "skipped");
    if (get_number(answer, "until_ms") > 0)
        counts->until_ms = get_number(answer, "until_ms");
    json_decref(body);
    json_decref(answer);
    return code;
}

static int change_all(const struct command *command, const char *change,
                      const json_t *targets, struct change_counts *counts)
{
    int code = CLI_DONE;

    for (size_t at = 0; at < json_array_size(targets) && code == CLI_DONE;
         at += QUEUE_BATCH) {
        json_t *batch = json_array();

        for (size_t i = at; i < at + QUEUE_BATCH && i < json_array_size(targets); i++)
            (void)json_array_append(batch, json_array_get(targets, i));
        code = change_batch(command, change, batch, counts);
        if (print_is_terminal() && json_array_size(targets) > QUEUE_BATCH)
            (void)fprintf(stderr, "\r%zu of %zu", at + QUEUE_BATCH,
                          json_array_size(targets));
    }
    return code;
}

static void print_json_counts(const json_t *targets, const struct change_counts *counts)
{
    (void)printf("{\"matched\":%zu,\"changed\":%" PRId64 ",\"busy\":%" PRId64
                 ",\"gone\":%" PRId64 ",\"skipped\":%" PRId64 "%s%.0" PRId64 "}\n",
                 json_array_size(targets), counts->changed, counts->busy, counts->gone,
                 counts->skipped, counts->until_ms ? ",\"until_ms\":" : "",
                 counts->until_ms);
}

static void print_counts(const char *change, const struct change_counts *counts)
{
    char until[MOMENT_TEXT];

    (void)printf("%" PRId64 " done, %" PRId64 " busy (an attempt is running), %" PRId64
                 " gone meanwhile\n",
                 counts->changed, counts->busy, counts->gone);
    if (counts->skipped > 0)
        (void)printf("%" PRId64 " left as they were: %s\n", counts->skipped,
                     strcmp(change, "retry") == 0     ? "held (queue release ends that)"
                     : strcmp(change, "release") == 0 ? "not held"
                     : strcmp(change, "reroute") == 0 ? "they go that way already"
                                                      : "the index is being rebuilt");
    if (counts->until_ms == 0)
        return;
    moment_rfc3339(counts->until_ms * 1000, until);
    (void)printf("held until %.16sZ, and never beyond their expiry\n", until);
}

bool queue_is_change(const char *word)
{
    static const char *const words[] = {"retry",  "hold",    "release",
                                        "bounce", "reroute", "remove"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static int find_targets(struct command *command, const char *change, json_t *targets)
{
    int code;

    if (!command->id_count && !command->has_selection) {
        (void)fprintf(stderr, "smtpd: say which: ids, a selection, or --all\n\n%s",
                      queue_usage);
        return CLI_USAGE;
    }
    /* Of what fits, only held ones can be released: they alone are counted. */
    if (!command->id_count && !command->has_state && strcmp(change, "release") == 0 &&
        bytes_add_text(&command->query, "&state=held") != RESULT_OK)
        return CLI_USAGE;
    code = command->id_count ? collect_by_id(command, targets)
                             : collect_by_selection(command, targets);
    if (code == CLI_DONE && !command->context->wants_json)
        (void)printf("%zu group%s to %s%s\n", json_array_size(targets),
                     json_array_size(targets) == 1 ? "" : "s", change,
                     command->is_dry_run ? " (dry run: nothing is changed)" : "");
    return code;
}

int queue_change(struct command *command, const char *change)
{
    json_t *targets = json_array();
    struct change_counts counts = {0};
    int code = find_targets(command, change, targets);

    if (code == CLI_DONE && !command->is_dry_run)
        code = change_all(command, change, targets, &counts);
    if (code == CLI_DONE && command->context->wants_json)
        print_json_counts(targets, &counts);
    else if (code == CLI_DONE && !command->is_dry_run)
        print_counts(change, &counts);
    json_decref(targets);
    return code;
}
