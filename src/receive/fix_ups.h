/* What is mended in a complete header section: RFC 6409 8, and the operator's rules.
 *
 * Promises  changes nothing but the fields that it names: every other byte of the section
 *           stays as it came. The operator's rules have the last word.
 */
#ifndef SMTPD_RECEIVE_FIX_UPS_H
#define SMTPD_RECEIVE_FIX_UPS_H

#include "session.h"

/* On the transaction's header, whose section stands there without its empty line. Anything
 * but RESULT_OK: the section grew too large. */
enum result MUST_CHECK fix_ups_apply(struct session *session);

#endif
