/* What is counted for TLS reports, over HTTP: in parts; a report as it would be sent now; and sending. */
#include "request.h"
#include "smtpd/deliver/tls_report.h"
#include "smtpd/mail/address.h"

enum { DOMAINS = 500, REPORT_MAX = 8 << 20 };

static void add_item(void *owner, const struct tls_report_item *item)
{
    json_t *json = json_pack(
        "{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:I}", "domain", item->domain, "policy",
        item->policy, "successes", (json_int_t)item->successes, "failures",
        (json_int_t)item->failures, "dropped", (json_int_t)item->dropped, "begin_ms",
        (json_int_t)item->begin_ms, "end_ms", (json_int_t)item->end_ms, "tries",
        (int)item->tries, "not_before_ms", (json_int_t)item->not_before_ms);

    (void)json_array_append_new(owner, json);
}

void tls_report_handle_list(struct request *request)
{
    const struct deliver *deliver = request->rooms->deliver;
    const char *first = request_query(request, "first");
    uint64_t number = 0;
    json_t *items;
    size_t walked;

    if (first && slice_to_u64(slice_of(first), UINT32_MAX, &number) != RESULT_OK) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, "first is that of \"next\"");
        return;
    }
    items = json_array();
    walked = deliver_tls_report_walk(deliver, number, DOMAINS, add_item, items);
    request_answer(request, MHD_HTTP_OK,
                   json_pack("{s:b,s:o,s:o}", "on", (int)deliver_tls_report_is_on(deliver),
                             "items", items, "next",
                             walked == DOMAINS
                                 ? json_integer((json_int_t)number + (json_int_t)walked)
                                 : json_null()));
}

static bool read_domain(struct request *request, const char *given,
                        char domain[DOMAIN_TEXT])
{
    if (given && domain_normalise(slice_of(given), domain) == RESULT_OK)
        return true;
    request_answer_error(request, MHD_HTTP_BAD_REQUEST, "domain is no domain");
    return false;
}

void tls_report_handle_show(struct request *request)
{
    char domain[DOMAIN_TEXT];
    struct bytes text;

    if (!read_domain(request, request_argument(request), domain))
        return;
    bytes_init(&text, REPORT_MAX);
    if (deliver_tls_report_json(request->rooms->deliver, domain, &text) == RESULT_OK)
        request_answer_bytes(request, MHD_HTTP_OK, "application/tlsrpt+json",
                             bytes_view(&text));
    else
        request_answer_error(request, MHD_HTTP_NOT_FOUND,
                             "nothing is counted of this domain today");
    bytes_fini(&text);
}

void tls_report_handle_send(struct request *request)
{
    struct deliver *deliver = request->rooms->deliver;
    json_error_t error;
    json_t *json = json_loadb(request->body.data ? request->body.data : "",
                              request->body.length, 0, &error);
    const char *given = json_string_value(json_object_get(json, "domain"));
    bool is_all = json_is_true(json_object_get(json, "all"));
    char domain[DOMAIN_TEXT];

    if (!deliver_tls_report_is_on(deliver))
        request_answer_error(request, MHD_HTTP_CONFLICT,
                             "no reports are made: set tls_report.organization and "
                             "tls_report.contact");
    else if (is_all || read_domain(request, given, domain))
        request_answer(request, MHD_HTTP_OK,
                       json_pack("{s:I}", "ended",
                                 (json_int_t)deliver_tls_report_send(
                                     deliver, is_all ? NULL : domain)));
    json_decref(json);
}
