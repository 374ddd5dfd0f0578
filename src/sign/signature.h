/* The DKIM-Signature field (RFC 6376 3.5): which fields are signed, the text, the hash.
 *
 * Promises  pure but for the key's arithmetic. Every field that a reader sees or a program
 *           judges by is listed once more than it is there, so that none can be added.
 *           Lines stay below 78 columns where a domain is not longer.
 */
#ifndef SMTPD_SIGN_SIGNATURE_H
#define SMTPD_SIGN_SIGNATURE_H

#include "canon.h"
#include "key_set.h"

enum { SIGNATURE_FIELD_MAX = 16384 };

struct signature_input {
    struct slice
        section; /* the header section as it is stored, with its empty line or not */
    enum canon header;
    enum canon body;
    uint8_t body_hash[DIGEST_BYTES];
    int64_t now_s;
    int64_t expires_s; /* 0: never */
};

/* What all signatures of a message have in common. */
struct signature_base {
    const struct signature_input *input;
    struct bytes names;    /* of the tag h= */
    struct digest *fields; /* of the fields, in their canonical form */
};

/* `input` lives until signature_fini(). */
enum result MUST_CHECK signature_prepare(struct signature_base *base,
                                         const struct signature_input *input);
/* Adds a whole field with its CRLF; nothing on a failure. */
enum result MUST_CHECK signature_add(const struct signature_base *base,
                                     const struct sign_key *key, struct bytes *into);
void signature_fini(struct signature_base *base);

#endif
