/* The file of what operators suspended (smtpd/base/sealed.h):
 *
 *   smtpd-suspensions 1
 *   domain example.com 1792000000000 1792003600000 their%20wish
 *   scope rule:provider 1792000001000 1792086401000 -
 *   end 2 9f3c61b2a4d5e607
 *
 * What, its name, since when and until when (wall ms), why ("-": no reason was given).
 */
#ifndef SMTPD_DELIVER_SUSPENSIONS_FILE_H
#define SMTPD_DELIVER_SUSPENSIONS_FILE_H

#include "smtpd/base/sealed.h"
#include "smtpd/deliver/destinations.h"

enum { SUSPENSIONS_FILE_MAX = 32 << 20 };

enum result MUST_CHECK suspensions_file_begin(struct bytes *into, struct sealed *sealed);
enum result MUST_CHECK suspensions_file_add(struct bytes *into, struct sealed *sealed,
                                            const struct suspension_view *view);
enum result MUST_CHECK suspensions_file_end(struct bytes *into,
                                            const struct sealed *sealed);
enum result MUST_CHECK suspensions_file_parse(struct slice text, suspension_view_fn *each,
                                              void *owner, struct fault *fault);

#endif
