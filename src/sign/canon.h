/* Canonical forms of a message (RFC 6376 3.4), in streaming, pure functions.
 *
 * Promises  any split of the same body gives the same hash; memory and the work of each call
 *           depend on the piece alone, however many empty lines a body has.
 * Ignores   the length limit l=: nobody should use it.
 */
#ifndef SMTPD_SIGN_CANON_H
#define SMTPD_SIGN_CANON_H

#include "digest.h"

enum canon { CANON_SIMPLE, CANON_RELAXED };
const char *canon_name(enum canon canon); /* "simple" */

enum { CANON_OUTPUT = 4096 };

struct canon_body {
    enum canon canon;
    struct digest *digest;  /* of what is known to belong to the body */
    struct digest *at_text; /* as it was behind the last text, when more was added since */
    size_t line_ends;       /* behind the text, not added yet: perhaps the body ends here */
    bool has_text;
    bool after_cr;  /* the last byte was a CR, of which nothing is known yet */
    bool has_blank; /* relaxed: blanks that become one, or nothing at a line's end */
    size_t output_length;
    char output[CANON_OUTPUT]; /* relaxed: gathers what goes to the digest */
};

void canon_body_init(struct canon_body *body, enum canon canon);
void canon_body_add(struct canon_body *body, struct slice piece);
void canon_body_finish(struct canon_body *body, uint8_t hash[DIGEST_BYTES]);
void canon_body_fini(struct canon_body *body); /* instead of finish */

/* A whole field with its CRLF, continuations included. */
enum result MUST_CHECK canon_field(enum canon canon, struct slice field,
                                   struct bytes *into);

#endif
