/* What stands in a queue, told as text, whatever state its folder is in. */
#ifndef SMTPD_TESTS_DURABILITY_BOOKS_H
#define SMTPD_TESTS_DURABILITY_BOOKS_H

#include <stdio.h>

/* Opens the folder as a start of the server does (drafts of a dead process go), and writes, a line
 * each, fields separated by blanks:
 *
 *   message ID NAME LENGTH DIGEST SENDER    NAME: its field X-Name; the digest is BLAKE2b-128 of
 *                                           what stands from there on; SENDER <> for a report, which
 *                                           may have no name
 *   failed ID ADDRESS                       a Final-Recipient of a report
 *   group ID NUMBER DIGEST ADDRESS...       DIGEST: of the record
 *   wrong TEXT                              something that may not be
 *   end
 */
void books_write(const char *folder, FILE *out);

#endif
