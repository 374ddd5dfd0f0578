/* Signing messages while they come in: the body is hashed as it streams, the keys compute on
 * the crypto pool, one job a message.
 *
 * Owns      the key set in effect, and looks every 10 s (on the file pool) whether its files
 *           changed: a set that cannot be read is logged ("sign.keys_unreadable") and the old
 *           one stays.
 * Promises  the completion rule (docs/architecture.md). All signatures of a message or a
 *           failure, never some. A message keeps the keys that were in effect when they were
 *           chosen.
 * Ignores   whose messages are to be signed.
 */
#ifndef SMTPD_SIGN_SIGNER_H
#define SMTPD_SIGN_SIGNER_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/histogram.h"
#include "smtpd/loop/offload.h"
#include "smtpd/sign/keys.h"

struct signer;

struct signer *signer_new(struct loop *loop, struct offload *offload);
void signer_free(struct signer *signer); /* no messages left */
/* From now on. Takes the reference. */
void signer_use(struct signer *signer, struct sign_keys *keys);
/* Keys that were not to be used after all. Takes the reference; thousands of them are freed a few at a
 * time, as those are that signer_use() replaces. NULL is fine. */
void signer_retire(struct signer *signer, struct sign_keys *keys);
size_t signer_key_count(const struct signer *signer);

/* ---- a message ---- */

struct signing;

/* NULL: there are no keys at all. */
struct signing *signing_start(struct signer *signer);
/* The body, as it is stored. */
void signing_add(struct signing *signing, struct slice body);
/* Chooses the keys by the author's domain, of the header section as it is stored. 0: there
 * is none for this domain; cancel it. */
size_t signing_choose(struct signing *signing, struct slice section);
/* RESULT_OK: the fields, each with its CRLF, to be put before the section. Lives during the
 * call only. Else RESULT_BUSY (the pool is full) or RESULT_IO (logged, "sign.failed"). */
typedef void signing_end_fn(void *owner, enum result result, struct slice fields);
/* The body is complete. `section` is copied; `id` is for the log. Afterwards only
 * signing_cancel() is allowed, until `on_end` frees it. */
void signing_finish(struct signing *signing, struct slice section, uint64_t id,
                    signing_end_fn *on_end, void *owner);
void signing_cancel(struct signing *signing); /* at any time before `on_end` */

struct signer_statistics {
    uint64_t messages; /* signed */
    uint64_t refused;  /* the crypto pool was full */
    uint64_t keys;
    uint64_t keys_retired; /* of sets before this one, that are being freed */
    uint64_t loads_failed; /* looks at the files that left the old keys */
    struct {
        uint64_t signatures;
        uint64_t failures;
        struct histogram us; /* of the key's arithmetic */
    } kinds[KEY_KIND_COUNT];
};
void signer_statistics(const struct signer *signer, struct signer_statistics *statistics);

#endif
