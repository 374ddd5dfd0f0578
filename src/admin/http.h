/* One listening HTTP server: its routes, its limits, its requests in progress.
 *
 * Owns      the descriptor it is given, also when it cannot start.
 * Promises  nothing blocks the loop; connections, bodies and time are bounded.
 */
#ifndef SMTPD_ADMIN_HTTP_H
#define SMTPD_ADMIN_HTTP_H

#include "request.h"

struct http_settings {
    struct loop *loop;
    struct admin *admin;
    int fd; /* listening */
    const struct request_route *routes;
    size_t route_count;
    bool (*may_ask)(int fd); /* NULL: everybody */
    bool is_plain;           /* errors as plain text, not as JSON */
    size_t body_bytes_max;
    unsigned connections;
    unsigned connections_per_address; /* with visit_ms only */
    unsigned idle_s;
    int64_t visit_ms; /* longest life of a connection, for one request; 0: any */
};

struct http *http_open(const struct http_settings *settings); /* NULL: does not start */
void http_close(struct http *http);                           /* NULL is fine */

#endif
