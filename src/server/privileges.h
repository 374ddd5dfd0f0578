/* Rights and limits of the process. Apart from inner.h: <grp.h> and the queue both have a
 * struct group. */
#ifndef SMTPD_SERVER_PRIVILEGES_H
#define SMTPD_SERVER_PRIVILEGES_H

#include "smtpd/base/result.h"

void privileges_raise_limits(void);
/* Makes data_dir (0700) if it is missing. As root with a user name (NULL: none) it becomes
 * that user's, the log (a file, or NULL) too, so that it can be opened again, and the process
 * becomes that user, keeping CAP_NET_BIND_SERVICE. */
enum result MUST_CHECK privileges_drop(const char *data_dir, const char *log_file,
                                       const char *user_name, struct fault *fault);
/* `smtpd check` as root: files are looked at as that user from here on. */
enum result MUST_CHECK privileges_look_as(const char *user_name, struct fault *fault);

#endif
