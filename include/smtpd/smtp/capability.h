/* EHLO keywords: read theirs, offer ours (RFC 5321 4.1.1.1). */
#ifndef SMTPD_SMTP_CAPABILITY_H
#define SMTPD_SMTP_CAPABILITY_H

#include "smtpd/base/bytes.h"

struct capabilities {
    bool pipelining;
    bool size;
    uint64_t size_limit; /* 0: no limit said */
    bool eightbitmime;
    bool smtputf8;
    bool enhancedstatuscodes;
    bool dsn;
    bool chunking;
    bool starttls;
    bool requiretls;
    bool auth;
    bool auth_plain;
    bool auth_login;
};

/* One line of a 250 answer to EHLO, without code; the first line (the host) is not given.
 */
void capability_read(struct capabilities *capabilities, struct slice line);

/* Adds the whole answer to EHLO: greeting line and a line per capability, code 250. */
enum result MUST_CHECK capability_offer(struct bytes *into, const char *hostname,
                                        const char *peer, const struct capabilities *ours);

#endif
