/* `smtpd check --diff`: what SIGHUP would change, said by the process that would do it: it
 * reads the text with its own rights (a password file that it cannot open is a problem) and
 * holds the values against those that are in effect. */
#include "inner.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

enum { DIFFERENCES_MAX = 1000, PROBLEMS_BYTES_MAX = 65536 };

struct admin_comparison {
    struct server *server;
    struct job *job;
    struct bytes text;
    struct config *config;
    struct config_problems problems;
    admin_compared_fn *on_end; /* NULL: nobody wants to know any more */
    void *owner;
    struct admin_difference differences[DIFFERENCES_MAX];
    size_t count;
};

static void drop(void *input)
{
    struct admin_comparison *comparison = input;

    for (size_t i = 0; i < comparison->count; i++) {
        memory_free((char *)(uintptr_t)comparison->differences[i].option); /* our copies */
        memory_free((char *)(uintptr_t)comparison->differences[i].before);
        memory_free((char *)(uintptr_t)comparison->differences[i].after);
    }
    config_free(comparison->config);
    if (comparison->text.length > 0)
        secure_wipe(comparison->text.data, comparison->text.length);
    bytes_fini(&comparison->text);
    memory_free(comparison);
}

static void read_text(void *input)
{
    struct admin_comparison *comparison = input;

    comparison->config =
        config_load_text(bytes_view(&comparison->text), "", &comparison->problems);
}

static void note(void *owner, const char *key, const char *before, const char *after,
                 bool needs_restart)
{
    struct admin_comparison *comparison = owner;

    if (comparison->count < DIFFERENCES_MAX)
        comparison->differences[comparison->count++] = (struct admin_difference){
            memory_text(key), memory_text(before), memory_text(after), needs_restart};
}

static void on_read(void *owner, void *input)
{
    struct admin_comparison *comparison = input;
    struct bytes problems;

    (void)owner;
    bytes_init(&problems, PROBLEMS_BYTES_MAX);
    if (comparison->config)
        config_compare(comparison->server->config, comparison->config, note, comparison);
    else
        config_problems_print(&comparison->problems, "", &problems);
    comparison->on_end(comparison->owner, comparison->differences, comparison->count,
                       bytes_view(&problems));
    bytes_fini(&problems);
    drop(comparison);
}

struct admin_comparison *compare_start(void *owner, struct slice text,
                                       admin_compared_fn *on_end, void *request)
{
    struct admin_comparison *comparison = NEW(struct admin_comparison);
    struct server *server = owner;

    comparison->server = server;
    comparison->on_end = on_end;
    comparison->owner = request;
    bytes_init(&comparison->text, text.length + 1);
    if (bytes_add(&comparison->text, text) == RESULT_OK &&
        job_start(server->offload, POOL_FILE, read_text, on_read, drop, comparison, server,
                  &comparison->job) == RESULT_OK)
        return comparison;
    drop(comparison);
    return NULL;
}

void compare_cancel(struct admin_comparison *comparison)
{
    job_cancel(comparison->job); /* drop() follows */
}
