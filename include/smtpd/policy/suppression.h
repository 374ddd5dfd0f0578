/* Addresses that get no mail: of one tenant, or of all.
 *
 * Owns      the list in memory and its file, a journal in data_dir.
 * Promises  a change is told as done when it is on the disk, and holds from that moment on;
 *           kill and power failure lose nothing that was told. Bounded: `entries` of the
 *           settings, beyond it nothing is added. No search and no change holds the loop: the
 *           list is kept and walked in small parts.
 * Ignores   what a bounce is; who may give commands.
 */
#ifndef SMTPD_POLICY_SUPPRESSION_H
#define SMTPD_POLICY_SUPPRESSION_H

#include "smtpd/loop/offload.h"
#include "smtpd/mail/address.h"

enum suppression_at { SUPPRESSION_AT_RCPT, SUPPRESSION_AT_DELIVERY, SUPPRESSION_OFF };
enum suppression_source { SUPPRESSION_COMMAND, SUPPRESSION_BOUNCE, SUPPRESSION_SOURCES };
const char *suppression_source_name(enum suppression_source source);

enum {
    SUPPRESSION_ADDRESS = LIMIT_ADDRESS + 2,
    SUPPRESSION_REASON = 200,   /* bytes; one line */
    SUPPRESSION_CHANGES = 1000, /* of one request */
    SUPPRESSION_TEXT = LIMIT_ADDRESS + 100
};

struct suppression_settings {
    enum suppression_at at;
    bool wants_report; /* of what is dropped before delivery */
    bool adds_hard_bounces;
    int64_t expire_ms; /* of those; 0: never */
    size_t entries;
};

struct suppression_entry {
    const char *tenant;  /* "": of all */
    const char *address; /* lower case; "@example.com": the whole domain */
    const char *reason;  /* "": none was given */
    enum suppression_source source;
    int64_t created_ms; /* wall */
    int64_t expires_ms; /* wall; 0: never */
};

struct suppression;
/* Blocking read of the file. What was torn off at its end is cut with a warning: it was never
 * told as done. RESULT_CORRUPT: it is damaged before its end. */
enum result MUST_CHECK suppression_open(struct loop *loop, struct offload *offload,
                                        const char *path, struct suppression **opened,
                                        struct fault *fault);
void suppression_apply(struct suppression *suppression,
                       const struct suppression_settings *settings);
/* Nothing is written by the pool any more. NULL is fine. */
void suppression_stop(struct suppression *suppression);
/* Behind suppression_stop() and offload_free(): writes what waits, blocking, and calls back.
 * NULL is fine. */
void suppression_close(struct suppression *suppression);

/* ---- asking ---- */

/* As it stands in the list. false: neither an address nor "@" and a domain. */
bool suppression_normalise(const char *given, char normal[SUPPRESSION_ADDRESS]);

/* `tenant` may be NULL. The first that holds of: the tenant's address, the tenant's domain, the
 * address, the domain. The texts live until the loop's next turn. */
bool suppression_find(const struct suppression *suppression, const char *tenant,
                      const char *address, struct suppression_entry *entry);
/* The same, where the settings want it to be asked; a refusal is counted. `why` is for the
 * client or the sender. */
bool suppression_refuses(struct suppression *suppression, const char *tenant,
                         const char *address, char why[SUPPRESSION_TEXT]);
struct suppression_message {
    const char *tenant; /* or NULL */
    bool
        is_named_late; /* the message named it: at RCPT another one, or none, was asked about */
};
bool suppression_drops(const struct suppression *suppression,
                       const struct suppression_message *message, const char *address,
                       char why[SUPPRESSION_TEXT]);
bool suppression_wants_report(const struct suppression *suppression);

/* What fits all that is given. */
struct suppression_filter {
    const char *tenant;  /* NULL: any; "": entries of all */
    const char *address; /* normal, or NULL: what holds for it, entries of its domain too */
    const char *domain;  /* normal, with its "@", or NULL: all in it */
};
typedef void suppression_visit_fn(void *owner, const struct suppression_entry *entry);
/* A part of the list: `*position` is 0 at first, and where the next part begins. Looks at
 * about `most` entries. false: there is no next part. Who is there all the time comes once,
 * whatever changes between the parts. */
bool suppression_walk(const struct suppression *suppression,
                      const struct suppression_filter *filter, uint32_t *position,
                      size_t most, suppression_visit_fn *visit, void *owner);

/* ---- changing ---- */

struct suppression_change {
    const char *tenant; /* NULL or "": of all */
    const char *address;
    const char *reason; /* or NULL */
    int64_t expires_ms; /* 0: never */
};
struct suppression_counts {
    uint64_t added;
    uint64_t replaced;
    uint64_t removed;
    uint64_t absent; /* were to be removed */
};
typedef void suppression_changed_fn(void *owner, enum result result,
                                    const struct suppression_counts *counts);
struct suppression_changes {
    bool is_removal;
    const struct suppression_change *items;
    size_t count; /* at most SUPPRESSION_CHANGES */
    suppression_changed_fn *on_end;
    void *owner;
};
/* All or nothing; copies. Not RESULT_OK: `fault` says why, and on_end does not run. */
enum result MUST_CHECK suppression_change_start(struct suppression *suppression,
                                                const struct suppression_changes *changes,
                                                struct fault *fault);
/* A next hop said that there is no such mailbox. Added if the settings say so. */
void suppression_note_bounce(struct suppression *suppression, const char *tenant,
                             const char *address, const char *said);

struct suppression_statistics {
    uint64_t entries;
    uint64_t refused[SUPPRESSION_SOURCES]; /* by where the entry came from */
    uint64_t added[SUPPRESSION_SOURCES];
    uint64_t removed; /* by command */
    uint64_t expired;
    uint64_t not_added; /* of bounces: no room */
    uint64_t writes_failed;
};
void suppression_statistics(const struct suppression *suppression,
                            struct suppression_statistics *statistics);

#endif
