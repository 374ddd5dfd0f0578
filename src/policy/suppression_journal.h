/* The file of the suppression list: text, a line per change, written in pieces that are whole or
 * not there.
 *
 *   smtpd-suppression 1
 *   + 1764412345678 0 command = bob@example.com asked to be left alone
 *   + 1764412345678 1772188345678 bounce red @example.net no such domain
 *   . 2 9f3c61b2a4d5e607
 *   - = bob@example.com
 *   . 1 5be6d38d49a70c52
 *
 * "+": when it was made, when it expires (0: never), source, tenant ("=": of all), address,
 * reason. "-": tenant, address. Tenant and address are in xtext (RFC 3461 4), so that they have
 * no blanks. ".": the end of what was written and synced together: how many lines, and FNV-1a
 * (64 bits) of their bytes.
 *
 * Promises  pure.
 */
#ifndef SMTPD_POLICY_SUPPRESSION_JOURNAL_H
#define SMTPD_POLICY_SUPPRESSION_JOURNAL_H

#include "smtpd/policy/suppression.h"

#define SUPPRESSION_JOURNAL_HEAD "smtpd-suppression 1\n"

enum { SUPPRESSION_APPEND_MAX = 16 << 20 }; /* written and synced together */

struct suppression_record {
    bool is_removal; /* then of `entry` the tenant and the address only */
    struct suppression_entry entry;
};

struct suppression_piece {
    uint64_t hash;
    uint64_t lines;
};

void suppression_piece_begin(struct suppression_piece *piece);
enum result MUST_CHECK suppression_piece_add(struct suppression_piece *piece,
                                             struct bytes *into,
                                             const struct suppression_record *record);
/* The lines of another piece, which is sound: two that are written together are one, or the disk
 * could keep the second and lose the first. */
enum result MUST_CHECK suppression_piece_join(struct suppression_piece *piece,
                                              struct bytes *into, struct slice other);
enum result MUST_CHECK suppression_piece_end(const struct suppression_piece *piece,
                                             struct bytes *into);

typedef void suppression_record_fn(void *owner, const struct suppression_record *record);
/* The pieces of text without a head: all of them are sound (they are our own). */
enum result MUST_CHECK suppression_pieces_read(struct slice text,
                                               suppression_record_fn *each, void *owner);

struct suppression_journal {
    size_t sound_bytes; /* less than there are: the end was torn off */
    uint64_t records;
};
/* Calls for every record of a sound piece, in order. What is wrong behind the last sound piece, no
 * longer than what is written and synced together, is a torn end. What is longer, or stands in front of
 * a sound piece, or has no head, is damage: RESULT_CORRUPT, and the fault says where. */
enum result MUST_CHECK suppression_journal_read(struct slice text,
                                                suppression_record_fn *each, void *owner,
                                                struct suppression_journal *journal,
                                                struct fault *fault);

#endif
