/* What the stored bytes of a message say of themselves, read in pieces: to compare with what
 * its envelope says.
 *
 * Promises  pure; how the bytes are cut makes no difference.
 */
#ifndef SMTPD_QUEUE_FACTS_H
#define SMTPD_QUEUE_FACTS_H

#include "smtpd/base/bytes.h"
#include "smtpd/mail/envelope.h"

struct facts {
    uint64_t header_bytes; /* where the body begins */
    uint64_t bytes;
    uint64_t line_bytes;   /* of the line that is not over yet */
    uint64_t longest_line; /* of the body, with its CRLF */
    unsigned char before;  /* the last byte */
    unsigned char tail[4]; /* the last four of the header section */
    bool has_8bit;
    bool has_dot_line;
    bool has_bare_lf;
};

void facts_init(struct facts *facts, uint64_t header_bytes);
void facts_add(struct facts *facts, struct slice piece);

struct facts_quarrel {
    const char *rule; /* as in docs/repair.md */
    const char *text;
};
enum { FACTS_QUARRELS = 5 };
/* What is wrong with the whole message, if its envelope says so; returns how many. A flag that
 * is set without need does no harm: header fields may have been removed since. */
size_t facts_compare(const struct facts *facts, const struct envelope *envelope,
                     struct facts_quarrel quarrels[FACTS_QUARRELS]);

#endif
