/* Files as a whole. Blocking: for a thread of a pool, for a command, and for the start.
 *
 * Promises  a short write and a signal are no failures. Of a file that is replaced there is the
 *           old one or the new one, whole, whatever happens.
 * Ignores   what stands in them; rights other than the owner's.
 */
#ifndef SMTPD_BASE_FILE_H
#define SMTPD_BASE_FILE_H

#include "smtpd/base/bytes.h"

/* False: errno says why. */
bool MUST_CHECK file_write_all(int fd, struct slice bytes);
/* From where it stands to its end. RESULT_TOO_LARGE: the ceiling of `into`; RESULT_IO: errno. */
enum result MUST_CHECK file_read_all(int fd, struct bytes *into);
/* RESULT_NOT_FOUND: there is none. The fault has the reason alone, without the path. */
enum result MUST_CHECK file_read(const char *path, struct bytes *into, struct fault *fault);
/* Made or cut (rights 0600), written and synced. The fault has the reason alone. */
enum result MUST_CHECK file_write(const char *path, struct slice text, struct fault *fault);
/* What was renamed or made there is there after a power failure too. */
enum result MUST_CHECK file_sync_folder(const char *folder, struct fault *fault);
enum result MUST_CHECK file_sync_parent(const char *path,
                                        struct fault *fault); /* of a file */
/* Written beside (PATH.new, rights 0600), synced, renamed, the folder synced. On a failure what was
 * there is there, and nothing is left beside it; but when it is the folder that cannot be synced,
 * the new one is there, and which one a power failure leaves is not known. */
enum result MUST_CHECK file_replace(const char *path, struct slice text,
                                    struct fault *fault);

#endif
