/* Versioned packed records <-> structs: what the tables `envelope` and `group` hold.
 *
 * Promises  pure. decode(encode(x)) = x. Decoding takes any bytes: what does not follow
 *           the form exactly is RESULT_CORRUPT, and nothing is read outside of the record.
 * Ignores   keys and tables: see store.c.
 */
#ifndef SMTPD_QUEUE_RECORD_H
#define SMTPD_QUEUE_RECORD_H

#include "smtpd/queue/queue.h"

/* One page run holds it, whatever the page size (docs/queue.md). */
enum { RECORD_MAX = LIMIT_CHUNK_BYTES };

/* Appends. RESULT_TOO_LARGE above RECORD_MAX: the caller's texts passed their limits.
 * RESULT_INVALID: decoding would refuse it, and the message would be lost in the queue. */
enum result MUST_CHECK record_encode_envelope(const struct envelope *envelope,
                                              uint32_t group_count, struct bytes *into);
/* Texts of the result point into `record` and live as long. */
enum result MUST_CHECK record_decode_envelope(struct slice record, uint64_t id,
                                              struct envelope *envelope,
                                              uint32_t *group_count);

enum result MUST_CHECK record_encode_group(const struct group *group, struct bytes *into);
/* Fills `recipients` (room for LIMIT_GROUP_RECIPIENTS) and lets `group` point there. */
enum result MUST_CHECK record_decode_group(struct slice record, uint32_t number,
                                           struct group *group,
                                           struct recipient *recipients);
/* When a group is due: at its next attempt, or at the end of its hold; the expiry ends one
 * too. */
int64_t record_due_ms(const struct group *group, int64_t expiry_ms);
/* An origin: where a message came from, "QUEUE/ID", the queue in 16 hexadecimal digits. */
enum { ORIGIN_TEXT = 16 + 1 + ID_TEXT };
void record_print_origin(uint64_t queue_id, uint64_t id, char text[ORIGIN_TEXT]);
bool record_is_origin(struct slice text);
/* What a recipient costs in a group record: for the cut at LIMIT_GROUP_BYTES. */
size_t record_recipient_bytes(const struct recipient *recipient);

#endif
