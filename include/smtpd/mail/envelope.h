/* What travels around a message: plain values, no behaviour.
 *
 * All texts are NUL-terminated and belong to whoever filled the struct (an arena, a
 * record).
 */
#ifndef SMTPD_MAIL_ENVELOPE_H
#define SMTPD_MAIL_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 3461 4.1. 0 means that the client gave none: failure (and delay) by default. */
enum notify { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };

enum dsn_return { RETURN_UNSPECIFIED, RETURN_FULL, RETURN_HEADERS }; /* RET, RFC 3461 4.3 */
enum body_type { BODY_7BIT, BODY_8BITMIME };                         /* RFC 6152 */

/* What a message itself says of TLS (RFC 8689); its words stand in files: "none" and so on. */
enum tls_wish {
    TLS_WISH_NONE,     /* nothing: as the settings and the domain say */
    TLS_WISH_REQUIRED, /* REQUIRETLS: verified TLS all the way, or back to the sender */
    TLS_WISH_WAIVED,   /* "TLS-Required: No": rather without than not at all */
    TLS_WISH_COUNT
};

struct recipient {
    const char *address; /* local@domain, "" never */
    const char *orcpt;   /* "rfc822;..." still in xtext, or NULL */
    uint8_t notify;      /* bits of enum notify */
};

/* What never changes after acceptance (docs/queue.md). */
struct envelope {
    uint64_t id;
    const char *sender;  /* "" is the null sender */
    const char *envid;   /* xtext, or NULL */
    const char *user;    /* who logged in, or NULL */
    const char *tenant;  /* or NULL */
    const char *pool;    /* of our addresses that it goes out by; NULL: as the way says */
    const char *session; /* id of the receiving session, or NULL */
    const char *origin;  /* of an imported message: the queue and id it had; or NULL */
    enum dsn_return dsn_return;
    enum body_type body_type;
    bool smtputf8;
    enum tls_wish tls_wish;
    int8_t priority;    /* as in RFC 6710: -9 to 9; the higher goes first within a tenant */
    int64_t arrival_ms; /* wall */
    /* The stored message: */
    uint64_t header_bytes; /* header section, its empty line included, our additions too */
    uint64_t body_bytes;
    bool has_8bit;         /* a byte above 127 in the body (or header) */
    bool has_dot_line;     /* a line begins with a dot: DATA must stuff */
    uint32_t longest_line; /* with its CRLF */
    bool is_streamed; /* header in chunks from 0, body from chunk 2^24 (docs/queue.md) */
};

/* Base32 (RFC 4648 6 alphabet in lower case, no padding) of an id: 13 characters. */
enum { ID_TEXT = 14 };
void id_print(uint64_t id, char text[ID_TEXT]);
bool id_parse(const char *text, size_t length, uint64_t *id);

#endif
