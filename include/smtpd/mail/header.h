/* The header section: one scan, and our trace field.
 *
 * Promises  pure and linear; the section is what stands before the first empty line.
 * Ignores   MIME, the meaning of fields it does not name.
 */
#ifndef SMTPD_MAIL_HEADER_H
#define SMTPD_MAIL_HEADER_H

#include "smtpd/base/bytes.h"

/* What receive needs to know of a complete header section (CRLF lines, with or without the
 * empty line at its end). */
struct header_scan {
    unsigned field_count;
    unsigned received_count; /* RFC 5321 6.3 */
    unsigned date_count;
    unsigned message_id_count;
    unsigned from_count;
    bool has_8bit;
    bool is_malformed;       /* a line that is neither field nor continuation */
    struct slice message_id; /* value of the first, trimmed; or none */
};
void header_scan(struct slice section, struct header_scan *scan);

/* Walks the fields: *rest starts as the whole section. Gives the name and the raw field
 * with its CRLFs (continuations included). false at the end. A malformed line ends the
 * walk. */
bool header_next_field(struct slice *rest, struct slice *name, struct slice *field);

/* Length of the header section of a whole message, its empty line included. */
size_t header_section_length(struct slice message);

/* Copies the section without the fields named (NULL-terminated array, any case). */
enum result MUST_CHECK header_copy_without(struct slice section, const char *const *names,
                                           struct bytes *into);

/* RFC 5321 4.4. Texts may be NULL where not known. */
struct trace {
    const char *helo;
    const char *peer_name; /* from reverse DNS, or NULL */
    /* "192.0.2.1" or "IPv6:2001:db8::1"; NULL: the client is not named at all */
    const char *peer_address;
    const char *hostname; /* ours */
    const char *protocol; /* "ESMTP", "ESMTPS", "ESMTPSA", "UTF8SMTPSA"... RFC 3848, 6531 */
    const char *tls_version; /* comment, or NULL */
    const char *tls_cipher;
    const char *id;
    const char *recipient; /* FOR, when there is only one; or NULL */
    int64_t wall_ms;
};
/* "Received: from ...\r\n", folded below 78 columns where it can be. */
enum result MUST_CHECK header_add_received(struct bytes *into, const struct trace *trace);
/* Each ends with CRLF. */
enum result MUST_CHECK header_add_date(struct bytes *into, int64_t wall_ms);
enum result MUST_CHECK header_add_message_id(struct bytes *into, const char *id,
                                             int64_t wall_ms, const char *hostname);

#endif
