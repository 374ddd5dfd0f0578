/* One request, on the control socket or over TCP, and the few ways to answer it. */
#ifndef SMTPD_ADMIN_REQUEST_H
#define SMTPD_ADMIN_REQUEST_H

#include "smtpd/admin/admin.h"

#include <jansson.h>
#include <microhttpd.h>

enum {
    REQUEST_BODY_MAX = 1 << 20,
    REQUEST_CONNECTIONS = 64,
    REQUEST_TIMEOUT_S = 60,
    REQUEST_PAGE_MAX = 1000
};

struct http;
struct request {
    struct link link;
    struct http *http;
    struct admin *admin;
    const struct admin_rooms *rooms;
    struct MHD_Connection *connection;
    char method[8];
    char path[256]; /* "": longer than any that exists */
    struct bytes body;
    bool is_too_large; /* more came than the body may hold: it is read and forgotten */
    bool is_handled;   /* the handler was called */
    bool is_suspended; /* waits for request_answer() */
    bool is_answered;
    unsigned status;
    struct MHD_Response *response;
    /* Of the handler: what to give up when the client goes away. */
    void (*on_gone)(struct request *request);
    void *work;
};

/* A handler answers now, or later: once. */
typedef void request_fn(struct request *request);

struct request_route {
    const char *method;
    const char *path; /* "/v1/queue/" ends with a slash: what follows is the argument */
    request_fn *handler;
};
extern const struct request_route request_routes[];
extern const size_t request_route_count;

/* Takes the reference of `json`. */
void request_answer(struct request *request, unsigned status, json_t *json);
void request_answer_error(struct request *request, unsigned status, const char *text);
/* Takes a streaming response. */
void request_answer_response(struct request *request, unsigned status,
                             struct MHD_Response *response);
/* A JSON string of any text: a fault in words may be cut in the middle of a character, which
 * is no UTF-8 any more, and jansson refuses the whole object for it. */
json_t *request_text(const char *text);
/* NULL: not given; "": given without a value. */
const char *request_query(struct request *request, const char *name);
const char *request_argument(const struct request *request); /* last part of the path */
/* Copies `text`. */
void request_answer_bytes(struct request *request, unsigned status, const char *type,
                          struct slice text);
void http_turn_soon(struct http *http); /* something was resumed: look soon */
const struct admin_rooms *admin_rooms_of(const struct admin *admin);

request_fn status_handle;
request_fn queue_handle_list;
request_fn queue_handle_show;
request_fn queue_handle_change;
request_fn queue_handle_export;
request_fn queue_handle_summary;
request_fn message_handle;
request_fn probe_handle_live;
request_fn probe_handle_ready;
request_fn probe_handle_startup;
request_fn metrics_handle;
request_fn config_handle_compare;
request_fn explain_handle;
request_fn suppression_handle_list;
request_fn suppression_handle_change;
request_fn destinations_handle_list;
request_fn destinations_handle_change;
request_fn tls_report_handle_list;
request_fn tls_report_handle_show;
request_fn tls_report_handle_send;

/* NULL: ready. */
const char *probe_not_ready(const struct admin_rooms *rooms);

struct sample;
const struct sample *admin_sample_of(const struct admin *admin);

#endif
