/* One process a data folder: `data_dir/lock`, held by flock from open to exit. */
#ifndef SMTPD_QUEUE_LOCK_H
#define SMTPD_QUEUE_LOCK_H

#include "smtpd/base/result.h"
#include <stdbool.h>

/* Makes the folder (0700) if its parent exists. RESULT_DENIED: a network or overlay file
 * system that is not allowed; RESULT_BUSY: held, the fault says by which process. */
enum result MUST_CHECK lock_take(const char *data_dir, bool allow_network_filesystem,
                                 int *fd, struct fault *fault);
/* Of a folder that is there, also of a copy on a disk that cannot be written: nothing is made.
 * -1 in *fd: it has no file `lock`, so no server uses it. */
enum result MUST_CHECK lock_take_existing(const char *data_dir, int *fd,
                                          struct fault *fault);
void lock_give_up(int fd);

/* The name of a file system on which flock, mmap or fdatasync do not keep their promise, or
 * NULL. `type` is f_type of statfs. */
const char *lock_unsafe_filesystem(unsigned long type);

#endif
