/* How much a new address of ours may send: so many messages (transactions) on its first day, its second
 * and so on. A day is one of UTC on which it sent something.
 *
 * Owns      nothing: the numbers are its source's.
 * Promises  pure. Never more than the quota of a day: what was told to the disk counts as used for
 *           another process, so a crash costs some of the quota and gives none. A clock that is put
 *           back begins no day anew.
 * Ignores   how the numbers are kept: source.c.
 */
#ifndef SMTPD_DELIVER_WARM_UP_H
#define SMTPD_DELIVER_WARM_UP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct warm_up {
    const uint32_t *schedule; /* of the settings */
    size_t days;              /* 0: it may send what it likes */
    int64_t day;              /* since 1970, of the last message; 0: there was none */
    uint32_t step;            /* of that day, from 0; behind the last one: it is warm */
    uint32_t used;
    uint32_t kept; /* on disk as used: more is not sent before it is there */
    uint32_t promised;
};

enum warm_up_state {
    WARM_UP_GOES,
    WARM_UP_WAITS, /* for the disk, or for what is on its way */
    WARM_UP_IS_FULL
};

int64_t warm_up_day(int64_t wall_ms);
int64_t warm_up_next_day_ms(const struct warm_up *warm, int64_t wall_ms);
bool warm_up_is_limited(const struct warm_up *warm);
uint32_t warm_up_quota(const struct warm_up *warm); /* of the day; when it is limited */
/* Begins the day, if it is a new one. */
enum warm_up_state warm_up_look(struct warm_up *warm, int64_t wall_ms);
/* Up to where it is to be on disk; 0: that is enough as it is. */
uint32_t warm_up_wants(const struct warm_up *warm);
void warm_up_promise(struct warm_up *warm);
void warm_up_break(struct warm_up *warm); /* the promise: nothing was sent */
/* May one be sent now? */
bool warm_up_may_take(struct warm_up *warm, bool was_promised, int64_t wall_ms);
/* One is sent now; false: it may not. */
bool warm_up_take(struct warm_up *warm, bool was_promised, int64_t wall_ms);

#endif
