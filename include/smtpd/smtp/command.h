/* Command lines: verb, path, parameters (RFC 5321 4.1.1).
 *
 * Promises  pure, bounded. Values are checked for grammar and range here, not for sense.
 */
#ifndef SMTPD_SMTP_COMMAND_H
#define SMTPD_SMTP_COMMAND_H

#include "smtpd/mail/address.h"
#include "smtpd/mail/envelope.h"

/* Splits "VERB rest". The verb is 3 to 12 letters; false otherwise. */
bool command_split(struct slice line, struct slice *verb, struct slice *rest);

struct command_error {
    bool is_unknown_parameter; /* 555; else 501 */
    char text[160];            /* what is wrong, and what would be right */
};

struct mail_command {
    struct address sender;
    bool has_size;
    uint64_t size;
    enum body_type body_type;
    bool smtputf8;
    bool requires_tls; /* REQUIRETLS, RFC 8689 */
    enum dsn_return dsn_return;
    char envid[LIMIT_ENVID + 1]; /* xtext, "" when none */
    char auth[LIMIT_ORCPT + 1];  /* AUTH= (RFC 4954 5), xtext, "" when none: not trusted */
};
/* `rest` of "MAIL FROM:<...> ...". */
enum result MUST_CHECK command_parse_mail(struct slice rest, struct mail_command *command,
                                          struct command_error *error);

struct rcpt_command {
    struct address recipient;
    uint8_t notify;
    char orcpt[LIMIT_ORCPT + 1]; /* "rfc822;..." in xtext, "" when none */
};
enum result MUST_CHECK command_parse_rcpt(struct slice rest, struct rcpt_command *command,
                                          struct command_error *error);

/* "BDAT n [LAST]", RFC 3030 2. */
enum result MUST_CHECK command_parse_bdat(struct slice rest, uint64_t *bytes,
                                          bool *is_last);
/* The argument of EHLO or HELO: a domain or literal, leniently (letters, digits, - _ . : [
 * ]), at most LIMIT_DOMAIN. */
enum result MUST_CHECK command_parse_helo(struct slice rest, char name[DOMAIN_TEXT]);
/* AUTH: mechanism in upper case and the initial response ("=" is an empty one; none:
 * false). */
enum result MUST_CHECK command_parse_auth(struct slice rest, char mechanism[24],
                                          struct slice *initial, bool *has_initial);

/* What a client of a remote server says. No line end. `smtputf8` etc. only where the caller
 * knows that the server offers them. */
struct mail_line {
    const char *sender;
    bool offers_size, offers_8bitmime, offers_smtputf8, offers_dsn;
    const struct envelope *envelope;
    bool offers_requiretls;
};
enum result MUST_CHECK command_add_mail(struct bytes *into, const struct mail_line *line);
enum result MUST_CHECK command_add_rcpt(struct bytes *into,
                                        const struct recipient *recipient, bool offers_dsn);

#endif
