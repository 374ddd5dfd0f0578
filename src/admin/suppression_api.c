/* The suppression list over HTTP: in parts, and changed by at most a thousand entries at once. A
 * change goes on when the client goes away. */
#include "request.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { LOOKED_AT = 1000 }; /* in one turn of the loop */

/* ---- list ---- */

static json_t *name_or_null(const char *text)
{
    return text[0] ? request_text(text) : json_null();
}

static void add_item(void *owner, const struct suppression_entry *entry)
{
    json_t *item = json_pack(
        "{s:o,s:o,s:o,s:s,s:I,s:I}", "address", request_text(entry->address), "tenant",
        name_or_null(entry->tenant), "reason", name_or_null(entry->reason), "source",
        suppression_source_name(entry->source), "created_ms", (json_int_t)entry->created_ms,
        "expires_ms", (json_int_t)entry->expires_ms);

    (void)json_array_append_new(owner, item);
}

/* NULL, "" or the normal form; false: it is answered. */
static bool read_name(struct request *request, const char *parameter, const char **name,
                      char normal[SUPPRESSION_ADDRESS])
{
    char given[SUPPRESSION_ADDRESS] = "@";
    const char *value = request_query(request, parameter);
    bool is_domain = strcmp(parameter, "domain") == 0 && value && value[0] != '@';

    if (!value)
        return true;
    *name = normal;
    if (slice_copy_text(slice_of(value), given + is_domain, sizeof given - is_domain) &&
        suppression_normalise(given, normal))
        return true;
    request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                         is_domain ? "domain is no domain" : "address is no address");
    return false;
}

void suppression_handle_list(struct request *request)
{
    const char *first = request_query(request, "first");
    struct suppression_filter filter = {.tenant = request_query(request, "tenant")};
    char address[SUPPRESSION_ADDRESS];
    char domain[SUPPRESSION_ADDRESS];
    uint64_t number = 0;
    uint32_t position;
    json_t *items;
    bool has_more;

    if (first && slice_to_u64(slice_of(first), UINT32_MAX, &number) != RESULT_OK) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, "first is that of \"next\"");
        return;
    }
    if (!read_name(request, "address", &filter.address, address) ||
        !read_name(request, "domain", &filter.domain, domain))
        return;
    position = (uint32_t)number;
    items = json_array();
    has_more = suppression_walk(request->rooms->suppression, &filter, &position, LOOKED_AT,
                                add_item, items);
    request_answer(request, MHD_HTTP_OK,
                   json_pack("{s:o,s:o}", "items", items, "next",
                             has_more ? json_integer(position) : json_null()));
}

/* ---- change ---- */

static void on_gone(struct request *request)
{
    struct request **owner = request->work;

    *owner = NULL;
}

static void on_changed(void *owner, enum result result,
                       const struct suppression_counts *counts)
{
    struct request **holder = owner;
    struct request *request = *holder;

    memory_free(holder);
    if (!request)
        return;
    request->on_gone = NULL;
    request->work = NULL;
    if (result != RESULT_OK)
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                             "the suppression list cannot be written: see the log");
    else
        request_answer(request, MHD_HTTP_OK,
                       json_pack("{s:I,s:I,s:I,s:I}", "added", (json_int_t)counts->added,
                                 "replaced", (json_int_t)counts->replaced, "removed",
                                 (json_int_t)counts->removed, "absent",
                                 (json_int_t)counts->absent));
}

/* false: something in it is of another kind than it should be. */
static bool read_change(const json_t *json, int64_t now_ms,
                        struct suppression_change *change)
{
    const json_t *tenant = json_object_get(json, "tenant");
    const json_t *reason = json_object_get(json, "reason");
    const json_t *expires = json_object_get(json, "expires_ms");

    *change = (struct suppression_change){
        json_string_value(tenant), json_string_value(json_object_get(json, "address")),
        json_string_value(reason), json_integer_value(expires)};
    return change->address && (!tenant || json_is_null(tenant) || change->tenant) &&
           (!reason || json_is_null(reason) || change->reason) &&
           (!expires || json_is_integer(expires)) &&
           (change->expires_ms == 0 || change->expires_ms > now_ms);
}

static void start(struct request *request, bool is_removal, const json_t *entries)
{
    struct suppression_change changes[SUPPRESSION_CHANGES];
    size_t count = json_array_size(entries);
    struct request **holder;
    struct fault fault;

    if (count > SUPPRESSION_CHANGES)
        count = 0;
    for (size_t i = 0; i < count; i++)
        if (!read_change(json_array_get(entries, i), loop_wall_ms(request->rooms->loop),
                         &changes[i]))
            count = 0;
    if (count == 0) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "entries is a list of 1 to 1000 objects with address, and, if "
                             "wanted, tenant, reason and expires_ms (later than now)");
        return;
    }
    holder = NEW(struct request *);
    *holder = request;
    if (suppression_change_start(
            request->rooms->suppression,
            &(struct suppression_changes){is_removal, changes, count, on_changed, holder},
            &fault) == RESULT_OK) {
        request->work = holder;
        request->on_gone = on_gone;
        return;
    }
    memory_free(holder);
    request_answer_error(request,
                         fault.code == RESULT_INVALID ? MHD_HTTP_BAD_REQUEST
                                                      : MHD_HTTP_SERVICE_UNAVAILABLE,
                         fault.text);
}

void suppression_handle_change(struct request *request)
{
    json_error_t error;
    json_t *json = json_loadb(request->body.data ? request->body.data : "",
                              request->body.length, 0, &error);
    const char *change = json_string_value(json_object_get(json, "change"));
    bool is_removal = change && strcmp(change, "remove") == 0;

    if (!change || (!is_removal && strcmp(change, "add") != 0))
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, "change is add or remove");
    else
        start(request, is_removal, json_object_get(json, "entries"));
    json_decref(json);
}
