/* One report in the words of RFC 8460 4.4. (Written by hand: texts of a tally are printable ASCII, and
 * the library for JSON stands behind other walls.)
 *
 * Promises  pure.
 */
#ifndef SMTPD_DELIVER_TALLY_JSON_H
#define SMTPD_DELIVER_TALLY_JSON_H

#include "tally.h"

struct tally_reporter {
    const char *organization;
    const char *contact;
    const char *id; /* of this report */
    int64_t end_ms; /* of one that is still counted: now */
};

enum { TALLY_JSON_MAX = 8 << 20 };
enum result MUST_CHECK tally_json(const struct tally_domain *domain,
                                  const struct tally_reporter *reporter,
                                  struct bytes *into);

#endif
