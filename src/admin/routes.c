/* What can be asked of the server: one row each (docs/control.md). */
#include "request.h"

/* clang-format off */
const struct request_route request_routes[] = {
    {"GET",  "/v1/status",        status_handle},
    {"GET",  "/v1/queue",         queue_handle_list},
    {"GET",  "/v1/queue/",        queue_handle_show},
    {"GET",  "/v1/summary",       queue_handle_summary},
    {"POST", "/v1/queue/change",  queue_handle_change},
    {"POST", "/v1/queue/export",  queue_handle_export},
    {"GET",  "/v1/message/",      message_handle},
    {"GET",  "/v1/explain",       explain_handle},
    {"GET",  "/v1/suppression",   suppression_handle_list},
    {"POST", "/v1/suppression/change", suppression_handle_change},
    {"GET",  "/v1/destinations",  destinations_handle_list},
    {"POST", "/v1/destinations/change", destinations_handle_change},
    {"GET",  "/v1/tls-report",    tls_report_handle_list},
    {"GET",  "/v1/tls-report/",   tls_report_handle_show},
    {"POST", "/v1/tls-report/send", tls_report_handle_send},
    {"POST", "/v1/config/compare", config_handle_compare},
    {"GET",  "/livez",            probe_handle_live},
    {"GET",  "/readyz",           probe_handle_ready},
    {"GET",  "/startupz",         probe_handle_startup},
    {"GET",  "/metrics",          metrics_handle},
};
/* clang-format on */
const size_t request_route_count = sizeof request_routes / sizeof *request_routes;
