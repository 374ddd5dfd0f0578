/* The texts of results, and faults made of them. */
#include "smtpd/base/result.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const texts[RESULT_COUNT] = {
    [RESULT_OK] = "done",
    [RESULT_AGAIN] = "not now",
    [RESULT_TOO_LARGE] = "too large",
    [RESULT_INVALID] = "malformed",
    [RESULT_NOT_FOUND] = "not found",
    [RESULT_EXISTS] = "exists already",
    [RESULT_DENIED] = "denied",
    [RESULT_TIMEOUT] = "timed out",
    [RESULT_REFUSED] = "connection refused",
    [RESULT_UNREACHABLE] = "unreachable",
    [RESULT_CLOSED] = "connection closed",
    [RESULT_NO_SPACE] = "no space left",
    [RESULT_IO] = "input or output failed",
    [RESULT_CORRUPT] = "stored data is corrupt",
    [RESULT_TLS] = "TLS failed",
    [RESULT_UNTRUSTED] = "certificate not trusted",
    [RESULT_DNS_NXDOMAIN] = "domain does not exist",
    [RESULT_DNS_NODATA] = "no such record",
    [RESULT_DNS_FAILURE] = "DNS look-up failed",
    [RESULT_BUSY] = "busy",
    [RESULT_SHUTDOWN] = "leaving",
};

const char *result_text(enum result code)
{
    return (unsigned)code < RESULT_COUNT ? texts[code] : "unknown result";
}

enum result fault_set(struct fault *fault, enum result code, const char *format, ...)
{
    va_list arguments;

    if (!fault)
        return code;
    fault->code = code;
    va_start(arguments, format);
    (void)vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    return code;
}
