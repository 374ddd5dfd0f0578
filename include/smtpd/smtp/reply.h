/* Replies: code, enhanced code, text <-> lines, in both directions; and the table of every
 * reply that this server gives.
 *
 * Promises  pure. A remote server cannot make a reply larger than limits.h allows.
 */
#ifndef SMTPD_SMTP_REPLY_H
#define SMTPD_SMTP_REPLY_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/limits.h"

/* RFC 3463; all zero: none. */
struct enhanced_code {
    uint8_t class_digit; /* 2, 4, 5 */
    uint16_t subject;
    uint16_t detail;
};

struct reply {
    uint16_t code; /* 200..599; 0: none */
    struct enhanced_code enhanced;
    char text[LIMIT_REPLY_TEXT + 1]; /* lines joined by a blank; printable UTF-8 */
};

bool reply_is_positive(const struct reply *reply);     /* 2xx */
bool reply_is_intermediate(const struct reply *reply); /* 3xx */
bool reply_is_transient(const struct reply *reply);    /* 4xx */
bool reply_is_permanent(const struct reply *reply);    /* 5xx */
void reply_set(struct reply *reply, unsigned code, const char *enhanced, const char *format,
               ...) __attribute__((format(printf, 4, 5)));
/* "550 5.1.1 No such user" */
void reply_print(const struct reply *reply, char *into, size_t into_bytes);
/* "5.1.1"; when the reply has none: "5.0.0", "4.0.0" or "2.0.0" by its code. */
void reply_status(const struct reply *reply, char status[16]);
bool enhanced_code_parse(struct slice *text, struct enhanced_code *enhanced);

/* Reads the lines of one reply (RFC 5321 4.2.1), given without CR LF. */
struct reply_reader {
    struct reply reply;
    unsigned line_count;
    uint32_t text_length;
    bool is_complete;
    bool wants_lines; /* EHLO: every line is offered to the caller as well */
};
enum reply_event { REPLY_MORE, REPLY_COMPLETE, REPLY_BAD };
void reply_reader_init(struct reply_reader *reader);
/* `text` (may be NULL) gets the text part of this line. REPLY_BAD: not a reply, codes that
 * differ between lines, or more than LIMIT_REPLY_LINES lines: the connection is of no more
 * use. */
enum reply_event reply_reader_line(struct reply_reader *reader, struct slice line,
                                   struct slice *text);

/* What this server says: code, enhanced code and words from one table (docs/replies.md
 * prints it). Some texts take one %s. */
enum reply_name {
    REPLY_GREETING,
    REPLY_GREETING_BUSY,              /* 421 4.3.2 too many connections */
    REPLY_GREETING_BUSY_ADDRESS,      /* 421 4.7.0 too many from your address */
    REPLY_GREETING_BUSY_NETWORK,      /* 421 4.7.0 too many from your network */
    REPLY_GREETING_TOO_OFTEN,         /* 421 4.7.0 too many new ones from your address */
    REPLY_GREETING_TOO_OFTEN_NETWORK, /* 421 4.7.0 too many new ones from your network */
    REPLY_GREETING_BARRED,            /* 421 4.7.0 too many errors of late */
    REPLY_EARLY_TALKER,               /* 554 5.5.1 */
    REPLY_GREETING_MEMORY,            /* 421 4.3.2 short of memory */
    REPLY_CLOSING,                    /* 221 */
    REPLY_SHUTTING_DOWN,              /* 421 4.3.2 */
    REPLY_IDLE,                       /* 421 4.4.2 */
    REPLY_TOO_MANY_ERRORS,            /* 421 4.7.0 */
    REPLY_TLS_FAILED,                 /* 454 4.7.0, before the handshake began */
    REPLY_OK,                         /* 250 2.0.0 */
    REPLY_HELLO,                      /* 250 host, no enhanced code (RFC 2034 4) */
    REPLY_HELP,
    REPLY_CANNOT_VRFY,            /* 252 2.5.0 */
    REPLY_SENDER_OK,              /* 250 2.1.0 */
    REPLY_RECIPIENT_OK,           /* 250 2.1.5 */
    REPLY_START_DATA,             /* 354 */
    REPLY_CHUNK_OK,               /* 250 2.0.0 %s octets received */
    REPLY_QUEUED,                 /* 250 2.0.0 queued as %s */
    REPLY_READY_FOR_TLS,          /* 220 2.0.0 */
    REPLY_AUTH_CONTINUE,          /* 334 */
    REPLY_AUTH_OK,                /* 235 2.7.0 */
    REPLY_AUTH_FAILED,            /* 535 5.7.8 */
    REPLY_AUTH_CANCELLED,         /* 501 5.7.0 (RFC 4954 4) */
    REPLY_AUTH_BAD_BASE64,        /* 501 5.5.2 */
    REPLY_AUTH_TOO_LONG,          /* 500 5.5.6 (RFC 4954 4) */
    REPLY_AUTH_UNKNOWN_MECHANISM, /* 504 5.5.4 */
    REPLY_AUTH_BUSY,              /* 454 4.7.0 */
    REPLY_AUTH_NEEDS_TLS,         /* 538 5.7.11 */
    REPLY_AUTH_NOT_OFFERED,       /* 503 5.5.1 */
    REPLY_AUTH_ALREADY,           /* 503 5.5.1 */
    REPLY_LOGGED_OUT,             /* 421 4.7.0 */
    REPLY_LOCKED_OUT,             /* 421 4.7.0 too many failed log-ins from the address */
    REPLY_TLS_REQUIRED,           /* 530 5.7.0 */
    REPLY_AUTH_REQUIRED,          /* 530 5.7.0 */
    REPLY_TLS_NOT_AVAILABLE,      /* 454 4.7.0 */
    REPLY_TLS_ALREADY,            /* 503 5.5.1 */
    REPLY_UNKNOWN_COMMAND,        /* 500 5.5.2 */
    REPLY_NOT_IMPLEMENTED,        /* 502 5.5.1 a verb that we know and do not serve */
    REPLY_LINE_TOO_LONG,          /* 500 5.5.2 */
    REPLY_BAD_LINE,               /* 500 5.5.2 bare CR/LF or NUL */
    REPLY_SYNTAX,                 /* 501 5.5.4 %s */
    REPLY_PARAMETER_UNKNOWN,      /* 555 5.5.4 %s */
    REPLY_SEQUENCE,               /* 503 5.5.1 %s */
    REPLY_PIPELINED,              /* 503 5.5.0: input behind a command that ends a batch */
    REPLY_BAD_SENDER,             /* 553 5.1.7 */
    REPLY_BAD_RECIPIENT,          /* 553 5.1.3 */
    REPLY_NEEDS_SMTPUTF8,         /* 553 5.6.7 */
    REPLY_UNKNOWN_RECIPIENT,      /* 550 5.1.1 */
    REPLY_RELAY_DENIED,           /* 550 5.7.1 */
    REPLY_SENDER_DENIED,          /* 553 5.7.1 */
    REPLY_HEADER_SENDER_DENIED,   /* 550 5.7.1 %s */
    REPLY_BAD_TENANT,             /* 554 5.6.0 %s */
    REPLY_SUPPRESSED,             /* 550 5.7.1 %s */
    REPLY_LIMIT_REACHED,          /* 450 4.7.1 %s */
    REPLY_TOO_MANY_UNKNOWN,       /* 421 4.7.0 */
    REPLY_LISTED,                 /* 554 5.7.1 %s */
    REPLY_NO_NAME,                /* 550 5.7.25 (RFC 7372 3.3) */
    REPLY_NAME_UNKNOWN,           /* 450 4.7.25 */
    REPLY_BAD_HELO,               /* 550 5.7.1 %s */
    REPLY_TOO_MANY_RECIPIENTS,    /* 452 4.5.3 */
    REPLY_NO_RECIPIENTS,          /* 554 5.5.1 */
    REPLY_TOO_LARGE,              /* 552 5.3.4 */
    REPLY_HEADER_TOO_LARGE,       /* 552 5.3.4 */
    REPLY_NO_SPACE,               /* 452 4.3.1 */
    REPLY_SHORT_OF_MEMORY,        /* 452 4.3.1: the whole process */
    REPLY_QUEUE_FAILED,           /* 451 4.3.0 */
    REPLY_SIGNING_FAILED,         /* 451 4.7.5 (RFC 3463 3.8) */
    REPLY_LOOP,                   /* 554 5.4.6 */
    REPLY_BARE_LINE_END,          /* 550 5.5.2 */
    REPLY_HAS_NUL,                /* 550 5.6.0 */
    REPLY_OUT_OF_MEMORY,          /* 452 4.3.1: a session's ceiling */
    REPLY_NAME_COUNT
};
/* Fills `reply` from the table; `argument` (may be NULL) stands for the %s. */
void reply_named(struct reply *reply, enum reply_name name, const char *argument);
/* For the manual and the tests: the row's stable identifier, e.g. "queued". */
const char *reply_name_text(enum reply_name name);
uint16_t reply_name_code(enum reply_name name);

/* Adds the line(s) of a reply with CR LF. Enhanced code left out where the reply has none.
 */
enum result MUST_CHECK reply_add(struct bytes *into, const struct reply *reply);
/* A reply of several lines without enhanced codes (EHLO, HELP). `lines` without CR LF. */
enum result MUST_CHECK reply_add_lines(struct bytes *into, unsigned code,
                                       const struct slice *lines, size_t line_count);

#endif
