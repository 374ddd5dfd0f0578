/* Which groups a request means (smtpd/queue/selection.h). */
#ifndef SMTPD_ADMIN_SELECTION_H
#define SMTPD_ADMIN_SELECTION_H

#include "request.h"
#include "smtpd/queue/selection.h"

/* False: an answer with what is wrong was given. */
bool selection_read(struct request *request, struct selection *selection);

#endif
