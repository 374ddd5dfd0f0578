/* A new key and its record: smtpd dkim keygen.
 *
 * Promises  DIRECTORY/DOMAIN/SELECTOR.key is whole when it is there, readable by its owner
 *           alone, and no file is ever overwritten. Made by root, it belongs to whom the
 *           directory belongs to.
 */
#ifndef SMTPD_SIGN_KEYGEN_H
#define SMTPD_SIGN_KEYGEN_H

#include "smtpd/base/bytes.h"
#include "smtpd/sign/keys.h"

enum { KEYGEN_LEAST_BITS = 1024, KEYGEN_MOST_BITS = 4096 };

struct keygen_request {
    const char *domain; /* as a user writes it */
    const char *selector;
    const char *directory;
    enum key_kind kind;
    unsigned bits; /* RSA */
};

struct keygen_result {
    char path[4096];
    char name[320]; /* in the DNS, without a dot at its end */
    char record[4096];
    char zone[8192]; /* the record as a line of a zone file */
};

/* Blocking; takes seconds for RSA. */
enum result MUST_CHECK keygen_run(const struct keygen_request *request,
                                  struct keygen_result *made, struct fault *fault);

#endif
