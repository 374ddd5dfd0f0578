/* POST /v1/queue/export: messages into files of a folder, and out of the queue. It goes on when the
 * client goes away. */
#include "request.h"
#include "smtpd/base/memory.h"
#include "smtpd/queue/moving.h"

#include <string.h>

enum { FAILURES_TOLD = 100 };

struct exporting_request {
    struct request *request; /* NULL: the client went away */
    json_t *failures;
};

static void on_gone(struct request *request)
{
    struct exporting_request *exporting = request->work;

    exporting->request = NULL;
}

static void on_failed(void *owner, uint64_t id, const char *why)
{
    struct exporting_request *exporting = owner;
    char text[ID_TEXT];

    id_print(id, text);
    if (json_array_size(exporting->failures) < FAILURES_TOLD)
        (void)json_array_append_new(
            exporting->failures,
            json_pack("{s:s,s:o}", "id", text, "why", request_text(why)));
}

static void answer(struct exporting_request *exporting, enum result result,
                   const struct export_counts *counts, const struct fault *fault)
{
    struct request *request = exporting->request;

    request->on_gone = NULL;
    request->work = NULL;
    if (result != RESULT_OK)
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, fault->text);
    else
        request_answer(
            request, MHD_HTTP_OK,
            json_pack("{s:I,s:I,s:I,s:I,s:I,s:O}", "exported", (json_int_t)counts->exported,
                      "busy", (json_int_t)counts->busy, "gone", (json_int_t)counts->gone,
                      "failed", (json_int_t)counts->failed, "bytes",
                      (json_int_t)counts->bytes, "failures", exporting->failures));
}

static void on_exported(void *owner, enum result result, const struct export_counts *counts,
                        const struct fault *fault)
{
    struct exporting_request *exporting = owner;

    if (exporting->request)
        answer(exporting, result, counts, fault);
    json_decref(exporting->failures);
    memory_free(exporting);
}

static bool read_ids(const json_t *list, uint64_t *ids)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *id = json_string_value(json_array_get(list, i));

        if (!id || !id_parse(id, strlen(id), &ids[i]))
            return false;
    }
    return true;
}

static void start(struct request *request, const char *directory, const json_t *list)
{
    uint64_t ids[REQUEST_PAGE_MAX];
    size_t count = json_array_size(list);
    struct exporting_request *exporting;

    if (!directory || directory[0] != '/') {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "directory is a path that begins with /");
        return;
    }
    if (count < 1 || count > REQUEST_PAGE_MAX || !read_ids(list, ids)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "ids is a list of 1 to 1000 ids");
        return;
    }
    exporting = NEW(struct exporting_request);
    exporting->request = request;
    exporting->failures = json_array();
    request->work = exporting;
    request->on_gone = on_gone;
    queue_export_start(
        request->rooms->queue,
        &(struct queue_export){directory, ids, count, on_failed, on_exported, exporting});
}

void queue_handle_export(struct request *request)
{
    json_error_t error;
    json_t *json = json_loadb(request->body.data ? request->body.data : "",
                              request->body.length, 0, &error);

    start(request, json_string_value(json_object_get(json, "directory")),
          json_object_get(json, "ids"));
    json_decref(json);
}
