/* GET /v1/message/ID?part=headers|message: the stored bytes, streamed a piece at a time. */
#include "request.h"
#include "smtpd/base/memory.h"

#include <string.h>

struct download {
    struct request *request;
    struct queue_visit *visit; /* finds the envelope */
    uint64_t id;
    bool is_found;
    bool only_header;
    struct body_reader *reader;
    struct slice piece; /* what is left of the current one */
    uint64_t left;      /* bytes of the part still to come */
    bool is_reading;
    bool is_suspended;
    bool has_failed;
    bool has_ended;
    struct envelope envelope; /* numbers only: its texts are gone */
};

static void download_free(void *owner)
{
    struct download *download = owner;

    if (download->visit)
        queue_visit_cancel(download->visit);
    if (download->reader)
        body_reader_close(download->reader);
    memory_free(download);
}

static void on_piece(void *owner, struct slice piece, enum result result)
{
    struct download *download = owner;

    download->is_reading = false;
    download->piece = piece;
    if (result != RESULT_OK)
        download->has_failed = true;
    else if (piece.length == 0)
        download->has_ended = true;
    if (download->is_suspended) {
        download->is_suspended = false;
        MHD_resume_connection(download->request->connection);
        http_turn_soon(download->request->http);
    }
}

static ssize_t give_more(void *owner, uint64_t position, char *into, size_t most)
{
    struct download *download = owner;
    size_t count;

    (void)position;
    if (download->has_failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (download->has_ended || download->left == 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (download->piece.length == 0) {
        if (!download->is_reading) {
            download->is_reading = true;
            body_reader_next(download->reader, on_piece, download);
        }
        download->is_suspended = true;
        MHD_suspend_connection(download->request->connection);
        return 0;
    }
    count = download->piece.length < most ? download->piece.length : most;
    if (count > download->left)
        count = (size_t)download->left;
    memcpy(into, download->piece.data, count);
    download->piece = slice_from(download->piece, count);
    download->left -= count;
    return (ssize_t)count;
}

static bool find_envelope(void *owner, const struct envelope *envelope,
                          const struct group *group)
{
    struct download *download = owner;

    (void)group;
    if (envelope->id == download->id) {
        download->is_found = true;
        download->envelope = *envelope;
    }
    return false;
}

static void download_gone(struct request *request)
{
    download_free(request->work);
    request->work = NULL;
}

/* The server is leaving, or the client went away, in the middle of a stream. */
static void download_stop(struct request *request)
{
    struct download *download = request->work;

    request->on_gone = NULL;
    download->has_failed = true;
    if (download->is_suspended) {
        download->is_suspended = false;
        MHD_resume_connection(request->connection);
    }
}

static void download_refuse(struct download *download, unsigned status, const char *why)
{
    struct request *request = download->request;

    request->on_gone = NULL;
    request->work = NULL;
    download_free(download);
    request_answer_error(request, status, why);
}

static void on_found(void *owner, enum result result)
{
    struct download *download = owner;
    struct request *request = download->request;

    download->visit = NULL;
    if (result != RESULT_OK) {
        download_refuse(download, MHD_HTTP_INTERNAL_SERVER_ERROR, result_text(result));
        return;
    }
    if (!download->is_found) {
        download_refuse(download, MHD_HTTP_NOT_FOUND, "no such message in the queue");
        return;
    }
    if (body_reader_open(request->rooms->queue, &download->envelope, &download->reader) !=
        RESULT_OK) {
        download_refuse(download, MHD_HTTP_SERVICE_UNAVAILABLE,
                        "all read windows are in use; try again");
        return;
    }
    download->left = download->envelope.header_bytes +
                     (download->only_header ? 0 : download->envelope.body_bytes);
    /* With its length, so that a client sees when it was cut off. From here on the response
     * owns the download, and the request a reference of both. */
    request->on_gone = download_stop;
    request_answer_response(request, MHD_HTTP_OK,
                            MHD_create_response_from_callback(download->left,
                                                              LIMIT_PIECE_BYTES, give_more,
                                                              download, download_free));
}

void message_handle(struct request *request)
{
    const char *part = request_query(request, "part");
    const char *text = request_argument(request);
    struct download *download;
    uint64_t id;

    if (!id_parse(text, strlen(text), &id)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, "not an id");
        return;
    }
    if (part && strcmp(part, "headers") != 0 && strcmp(part, "message") != 0) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "part is one of headers, message");
        return;
    }
    download = NEW(struct download);
    download->request = request;
    download->id = id;
    download->only_header = part && strcmp(part, "headers") == 0;
    request->work = download;
    request->on_gone = download_gone;
    download->visit =
        queue_visit_start(request->rooms->queue, id, find_envelope, on_found, download);
}
