/* The answer to one GET: bytes of HTTP/1.0 or 1.1 in, a body out.
 *
 * Owns      the line being read, the body.
 * Promises  pure; strict: what two readers could understand in two ways is bad (RFC 9112 11.2).
 *           Nothing but status 200 is good (to a POST 2xx), redirects neither. At most HTTPS_HEAD_MAX bytes of
 *           head (all interim answers and trailers in it), HTTPS_LINE_MAX of a line, and the
 *           ceiling of the body.
 * Ignores   caches, cookies, codings of content.
 */
#ifndef SMTPD_NET_HTTPS_ANSWER_H
#define SMTPD_NET_HTTPS_ANSWER_H

#include "smtpd/base/bytes.h"

enum { HTTPS_HEAD_MAX = 32768, HTTPS_LINE_MAX = 8192 };

enum https_step {
    HTTPS_STATUS,
    HTTPS_FIELDS,
    HTTPS_LENGTH, /* a body of a known length */
    HTTPS_TO_END, /* a body up to the end of the connection */
    HTTPS_CHUNK_SIZE,
    HTTPS_CHUNK,
    HTTPS_CHUNK_END,
    HTTPS_TRAILERS,
    HTTPS_DONE,
    HTTPS_BAD
};

struct https_answer {
    enum https_step step;
    const char *
        media_type; /* that the body must have; NULL: any 2xx ends it, the body is nobody's */
    struct bytes line;
    struct bytes body;
    size_t head_bytes;
    unsigned status;
    bool is_old; /* HTTP/1.0 */
    bool has_length;
    bool is_chunked;
    bool has_type;   /* the right one */
    bool has_coding; /* of the content */
    uint64_t left;   /* of the body, or of the chunk */
    char text[160];  /* HTTPS_BAD: why */
};

void https_answer_init(struct https_answer *answer, const char *media_type,
                       size_t body_max);
void https_answer_fini(struct https_answer *answer);
/* The step after these bytes. Behind HTTPS_DONE nothing is read. */
enum https_step https_answer_read(struct https_answer *answer, struct slice bytes);
/* The connection is over; `is_whole`: the other side said so itself, and nobody cut it off. */
enum https_step https_answer_end(struct https_answer *answer, bool is_whole);

#endif
