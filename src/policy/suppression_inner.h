/* The one struct suppression, shared by the files of the list. */
#ifndef SMTPD_POLICY_SUPPRESSION_INNER_H
#define SMTPD_POLICY_SUPPRESSION_INNER_H

#include "smtpd/base/list.h"
#include "smtpd/policy/suppression.h"
#include "suppression_journal.h"
#include "suppression_table.h"
#include "suppression_writer.h"

/* The changes of one request. */
struct suppression_task {
    struct link link;
    struct bytes text; /* a piece */
    size_t records;
    size_t news; /* that were not in the table when it came */
    struct suppression_counts counts;
    suppression_changed_fn *on_end; /* or NULL */
    void *owner;
};

struct suppression {
    struct loop *loop;
    struct offload *offload;
    struct suppression_settings settings;
    struct suppression_table *table;
    struct suppression_statistics statistics;
    struct list waiting; /* struct suppression_task */
    struct list writing; /* what the job has */
    size_t waiting_bytes;
    size_t pending_news; /* of both lists */
    struct suppression_writer writer;
    struct job *job;
    bool is_writing;
    bool is_write_broken;
    bool is_stopped;
    struct timer retry;
    struct timer sweep;
    size_t sweep_at;
    uint64_t records; /* lines of the file */
    bool is_anew;     /* it is being written anew */
    size_t anew_at;   /* the next shard */
    uint64_t anew_records;
    int64_t anew_after_ms; /* monotonic */
    int64_t full_told_ms;  /* monotonic; 0: never */
};

/* suppression_save.c */
/* Puts it behind those that wait, and sees to it that they leave. */
void suppression_submit(struct suppression *suppression, struct suppression_task *task);
/* Whatever there is to write, if nothing is being written. */
void suppression_save(struct suppression *suppression);
void suppression_save_init(struct suppression *suppression);
void suppression_save_rest(struct suppression *suppression); /* blocking */

#endif
