/* POST /v1/config/compare: a file as text -> what SIGHUP would change with it. Nothing is
 * changed; the server room does the reading and the comparing. */
#include "request.h"

static json_t *difference_json(const struct admin_difference *difference)
{
    return json_pack("{s:s,s:o,s:o,s:b}", "option", difference->option, "before",
                     request_text(difference->before), "after",
                     request_text(difference->after), "needs_restart",
                     (int)difference->needs_restart);
}

static void on_compared(void *owner, const struct admin_difference *differences,
                        size_t count, struct slice problems)
{
    struct request *request = owner;
    json_t *items = json_array();
    char text[1024];

    request->work = NULL;
    request->on_gone = NULL;
    if (problems.length > 0) {
        json_decref(items);
        (void)slice_copy_text(slice_part(problems, 0, sizeof text - 1), text, sizeof text);
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, text);
        return;
    }
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(items, difference_json(&differences[i]));
    request_answer(request, MHD_HTTP_OK, json_pack("{s:o}", "differences", items));
}

static void on_gone(struct request *request)
{
    request->rooms->compare_cancel(request->work);
    request->work = NULL;
}

void config_handle_compare(struct request *request)
{
    const struct admin_rooms *rooms = request->rooms;
    json_t *body = json_loadb(request->body.data, request->body.length, 0, NULL);
    const json_t *text = json_object_get(body, "text");

    if (!json_is_string(text)) {
        json_decref(body);
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "expected {\"text\": \"...\"}: a file as text");
        return;
    }
    request->work = rooms->compare(
        rooms->owner, (struct slice){json_string_value(text), json_string_length(text)},
        on_compared, request);
    json_decref(body);
    if (!request->work) {
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                             "the file pool is full; try again");
        return;
    }
    request->on_gone = on_gone;
}
