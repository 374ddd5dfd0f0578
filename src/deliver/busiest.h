/* Which destinations have a name in the metrics (deliver.h says what is promised). */
#ifndef SMTPD_DELIVER_BUSIEST_H
#define SMTPD_DELIVER_BUSIEST_H

#include "inner.h"

struct busiest_mark { /* whose counts an attempt's end belongs to */
    uint32_t slot;    /* 0: the others */
    uint32_t generation;
};

struct busiest *busiest_new(void);
void busiest_free(struct busiest *busiest);
struct busiest_mark busiest_settles(struct busiest *busiest,
                                    struct destination *destination);
struct deliver_result *busiest_result(struct busiest *busiest, struct busiest_mark mark);
void busiest_forget(struct busiest *busiest, struct destination *destination);
void busiest_review(struct busiest *busiest); /* once a minute */
void busiest_read(const struct busiest *busiest, int64_t now_ms,
                  struct deliver_busiest *into);

#endif
