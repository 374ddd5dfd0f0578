/* An outcome on its way to the disk, as the three files that have to do with it see it: settle.c (what
 * becomes of it), settle_tell.c (log and counts), settle_behind.c (of what waits behind a fault). */
#ifndef SMTPD_DELIVER_SETTLE_INNER_H
#define SMTPD_DELIVER_SETTLE_INNER_H

#include "busiest.h"
#include "inner.h"
#include "source.h"

struct settle {
    struct link link;
    struct deliver *deliver; /* NULL: we have left, and the room is gone */
    struct work *work;
    struct lease *lease;
    struct arena arena;
    struct outcome *outcomes;
    bool *is_settled;
    struct lease_load *load; /* of a swept entry */
    struct destination *destination;
    struct domain_queue *domain_queue;
    struct queue_entry entry;
    bool is_swept;   /* it was taken as expired */
    bool is_late;    /* it waits on: only its sender is told */
    bool is_decided; /* without an attempt */
    char fault[300]; /* of a swept entry */
    enum deliver_class fault_class;
    struct bounce *bounce;
    const struct report *reports;
    size_t report_count;
    const struct destination_settings *own; /* while it is judged */
    struct settlement settlement;
    bool wants_delay_notice;
    bool is_submitted;
    struct timer retry;
    /* for the log */
    char destination_key[512];
    char peer[360];
    char source[DELIVER_SOURCE_TEXT];
    struct tls_facts tls;
    bool has_tls;
    enum deliver_tls_policy tls_policy;
    int64_t connect_ms;
    int64_t transfer_ms;
    int64_t started_ms;
    bool was_tried; /* by an attempt: it has the times above */
    void (*on_end)(void *owner, bool is_done);
    void *owner;
    struct busiest_mark mark;
};

/* settle.c */
struct settle *settle_new(struct deliver *deliver, struct destination *destination);
void settle_free(struct settle *settle); /* who waits for it is told */
void settle_take_lease(struct settle *settle, struct lease *lease);
/* Of all its recipients: then the reports are written, and the commit begins. */
void settle_judge(struct settle *settle);
bounce_fn settle_on_bounced; /* the reports are there: the commit begins */

/* settle_tell.c */
void settle_tell(struct settle *settle);

#endif
