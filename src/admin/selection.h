/* Which groups an operator means: --domain, --sender, --state ... Everything given must
 * fit. */
#ifndef SMTPD_ADMIN_SELECTION_H
#define SMTPD_ADMIN_SELECTION_H

#include "request.h"

enum selection_state { SELECTION_ANY, SELECTION_WAITING, SELECTION_ACTIVE, SELECTION_HELD };

struct selection {
    char domain[LANE_TEXT];         /* lane or domain pattern; "" any */
    char sender[LIMIT_ADDRESS + 1]; /* "<>" is the null sender */
    char recipient[LIMIT_ADDRESS + 1];
    char user[LIMIT_USER_NAME + 1];
    char tenant[LIMIT_USER_NAME + 1];
    enum selection_state state;
    int64_t older_than_ms; /* 0: any age */
};

/* False: an answer with what is wrong was given. */
bool selection_read(struct request *request, struct selection *selection);
bool selection_fits(const struct selection *selection, struct queue *queue, int64_t now_ms,
                    const struct envelope *envelope, const struct group *group);

#endif
