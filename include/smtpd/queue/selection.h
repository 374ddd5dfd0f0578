/* Which groups an operator means: --domain, --sender, --state ... Everything given must
 * fit. */
#ifndef SMTPD_QUEUE_SELECTION_H
#define SMTPD_QUEUE_SELECTION_H

#include "smtpd/queue/queue.h"

enum selection_state { SELECTION_ANY, SELECTION_WAITING, SELECTION_ACTIVE, SELECTION_HELD };

struct selection {                  /* all zero: every group */
    char domain[LANE_TEXT];         /* lane or domain pattern; "" any */
    char sender[LIMIT_ADDRESS + 1]; /* "<>" is the null sender */
    char recipient[LIMIT_ADDRESS + 1];
    char user[LIMIT_USER_NAME + 1];
    char tenant[LIMIT_USER_NAME + 1];
    char pool[LIMIT_POOL_NAME + 1]; /* that was decided when it was accepted */
    /* Of its pool as it is now. selection_fits() cannot know (room deliver does), and takes any. */
    char source[LIMIT_POOL_NAME + 1];
    enum selection_state state;
    int64_t older_than_ms; /* 0: any age */
};

enum { SELECTION_NAMES = 9 };
extern const char *const selection_names[SELECTION_NAMES]; /* "domain", "older_than" ... */
/* One of the names, and its text. RESULT_INVALID: the fault says what is wrong. */
enum result MUST_CHECK selection_set(struct selection *selection, const char *name,
                                     const char *value, struct fault *fault);
bool selection_fits(const struct selection *selection, struct queue *queue, int64_t now_ms,
                    const struct envelope *envelope, const struct group *group);

#endif
