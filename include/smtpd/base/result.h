/* The list of ways in which the world can fail, and how a failure is passed on.
 *
 * Owns      the words; foreign codes (UV_*, MDB_*, mbedTLS) are translated into these in
 *           the one file that owns the library.
 * Promises  RESULT_OK is 0; every result has a text.
 * Ignores   what the peer did wrong: that is a value (struct reply), not an error of ours.
 */
#ifndef SMTPD_BASE_RESULT_H
#define SMTPD_BASE_RESULT_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))

enum result {
    RESULT_OK,
    RESULT_AGAIN,     /* not now: wait for the announced callback */
    RESULT_TOO_LARGE, /* a ceiling was reached */
    RESULT_INVALID,   /* the input does not follow its grammar or range */
    RESULT_NOT_FOUND,
    RESULT_EXISTS,
    RESULT_DENIED, /* rights, or a credential that does not match */
    RESULT_TIMEOUT,
    RESULT_REFUSED,     /* connection refused */
    RESULT_UNREACHABLE, /* no way to the host or network */
    RESULT_CLOSED,      /* the peer closed or reset the connection */
    RESULT_NO_SPACE,    /* disk, map or budget is full: passes when there is room */
    RESULT_IO,          /* the disk or a system call failed */
    RESULT_CORRUPT,     /* stored data contradicts itself */
    RESULT_TLS,         /* handshake or record layer */
    RESULT_UNTRUSTED,   /* the certificate does not satisfy the policy */
    RESULT_DNS_NXDOMAIN,
    RESULT_DNS_NODATA,
    RESULT_DNS_FAILURE, /* SERVFAIL, refused, malformed or no answer: for now */
    RESULT_BUSY,        /* held by another process, or a bounded queue is full */
    RESULT_SHUTDOWN,    /* we are leaving */
    RESULT_COUNT
};

/* A failure with what an operator needs to know: what happened, to what, what to do. */
struct fault {
    enum result code;
    char text[512];
};

/* English, lower case, no full stop. Never NULL. */
const char *result_text(enum result code);

/* Fills `fault` (which may be NULL) and returns `code`, so that it can end a function. */
enum result fault_set(struct fault *fault, enum result code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
