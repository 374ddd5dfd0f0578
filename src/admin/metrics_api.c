/* GET /metrics: a snapshot now, its text in pieces over some turns of the loop, so that no
 * turn is long however many destinations have names. */
#include "metrics.h"

#include "http.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { PIECE_BYTES = 8192 };

struct scrape {
    struct request *request;
    struct snapshot *snapshot;
    struct exposition text;
    size_t next_row;
    struct deferred turn;
};

static void scrape_free(struct request *request)
{
    struct scrape *scrape = request->work;

    request->on_gone = NULL;
    request->work = NULL;
    deferred_cancel(request->rooms->loop, &scrape->turn);
    exposition_fini(&scrape->text);
    memory_free(scrape->snapshot);
    memory_free(scrape);
}

static void on_turn(void *owner)
{
    struct scrape *scrape = owner;
    struct request *request = scrape->request;

    scrape->next_row =
        metrics_write(scrape->snapshot, scrape->next_row, PIECE_BYTES, &scrape->text);
    if (scrape->next_row < metric_count && !scrape->text.is_full) {
        loop_defer(request->rooms->loop, &scrape->turn, on_turn, scrape);
        return;
    }
    if (!scrape->text.is_full)
        exposition_end(&scrape->text);
    if (scrape->text.is_full)
        request_answer_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR,
                             "the metrics are too large");
    else
        request_answer_bytes(request, MHD_HTTP_OK, exposition_content_type(&scrape->text),
                             bytes_view(&scrape->text.text));
    scrape_free(request);
}

/* Prometheus names what it takes; who names nothing gets OpenMetrics. */
static bool wants_old_text(struct request *request)
{
    const char *accept = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_ACCEPT);

    return accept && !strstr(accept, "application/openmetrics-text") &&
           strstr(accept, "text/plain");
}

void metrics_handle(struct request *request)
{
    struct scrape *scrape = NEW(struct scrape);
    bool has_groups = request_query(request, "groups") != NULL; /* of smtpd status */

    scrape->request = request;
    scrape->snapshot = NEW(struct snapshot);
    exposition_init(&scrape->text, !wants_old_text(request) && !has_groups);
    scrape->text.has_groups = has_groups;
    snapshot_take(request->rooms, admin_sample_of(request->admin), scrape->snapshot);
    request->work = scrape;
    request->on_gone = scrape_free;
    loop_defer(request->rooms->loop, &scrape->turn, on_turn, scrape);
}
