/* What a message needs and a next hop does not offer. */
#ifndef SMTPD_DELIVER_LACK_H
#define SMTPD_DELIVER_LACK_H

#include "inner.h"
#include "smtpd/smtp/capability.h"

enum lack { LACK_NOTHING, LACK_SMTPUTF8, LACK_8BITMIME, LACK_SIZE };
enum lack lack_of(const struct lease *lease, const struct capabilities *theirs);
/* Not for LACK_NOTHING. */
const struct said *lack_said(enum lack lack, struct arena *arena, const char *host);

#endif
