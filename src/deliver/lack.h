/* What a message needs and a next hop does not offer. */
#ifndef SMTPD_DELIVER_LACK_H
#define SMTPD_DELIVER_LACK_H

#include "inner.h"
#include "smtpd/smtp/capability.h"

enum lack { LACK_NOTHING, LACK_SMTPUTF8, LACK_REQUIRETLS, LACK_8BITMIME, LACK_SIZE };
/* `is_trusted`: its TLS is good enough for mail that requires it (RFC 8689 4.2.1). */
enum lack lack_of(const struct lease *lease, const struct capabilities *theirs,
                  bool is_trusted);
/* Not for LACK_NOTHING. */
const struct said *lack_said(enum lack lack, struct arena *arena, const char *host);

#endif
