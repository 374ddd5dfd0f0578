#include "destination_json.h"

json_t *text_or_null(const char *text)
{
    return text && text[0] ? request_text(text) : json_null();
}

json_t *rate_json(const struct quota *quota)
{
    char text[QUOTA_TEXT];

    if (quota->count == 0)
        return json_null();
    quota_print(quota, text);
    return json_string(text);
}

static json_t *pace_json(const struct pace_view *pace)
{
    return json_pack(
        "{s:o,s:i,s:i,s:i,s:o,s:i,s:o,s:o,s:I,s:I,s:o,s:i,s:I,s:o}", "source",
        text_or_null(pace->source), "window", (int)pace->window, "ceiling",
        (int)pace->ceiling, "attempts", (int)pace->running, "message_rate",
        rate_json(&pace->message_rate), "permille", (int)pace->permille, "slowed_by",
        text_or_null(pace->slowness), "connection_rate", rate_json(&pace->connection_rate),
        "next_ms", (json_int_t)pace->next_ms, "suspended_until_ms",
        (json_int_t)pace->suspended_until_ms, "suspended_by",
        text_or_null(pace->suspended_until_ms ? pace->suspension : ""), "bounces_left",
        (int)pace->bounces_left, "bounces_until_ms", (json_int_t)pace->bounces_until_ms,
        "bounces_for", text_or_null(pace->bounces_for));
}

json_t *paces_json(const struct pace_view *paces, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, pace_json(&paces[i]));
    return list;
}

json_t *suspension_json(const struct suspension_view *view)
{
    if (!view)
        return json_null();
    return json_pack("{s:s,s:o,s:o,s:I,s:I}", "reach", reach_names[view->reach], "name",
                     request_text(view->name), "reason", text_or_null(view->reason),
                     "since_ms", (json_int_t)view->since_ms, "until_ms",
                     (json_int_t)view->until_ms);
}
