/* Who may relay, and which recipients are our own: pure questions about settings.
 *
 * Owns      nothing that changes: an immutable, reference-counted object made of the
 *           settings; a reload makes a new one, sessions keep theirs.
 * Ignores   passwords (auth.h), counters (rate.h).
 */
#ifndef SMTPD_POLICY_ACCESS_H
#define SMTPD_POLICY_ACCESS_H

#include "smtpd/base/ip.h"
#include "smtpd/mail/address.h"

struct local_domain {
    const char *domain;       /* normal */
    const char *const *users; /* local parts, compared without case; "*" takes every one */
    size_t user_count;
};

struct access_settings {
    const struct network *trusted_networks; /* may relay on mode = "relay" listeners */
    size_t trusted_count;
    const struct local_domain *local_domains;
    size_t local_count;
    const char *postmaster; /* mailbox that gets mail for an unlisted postmaster, or NULL */
};

struct access;
struct access *access_new(const struct access_settings *settings); /* copies */
struct access *access_ref(struct access *access);
void access_unref(struct access *access);

bool access_is_trusted(const struct access *access, const struct ip *peer);

enum access_verdict {
    ACCESS_LOCAL,        /* ours, and the user exists */
    ACCESS_POSTMASTER,   /* ours, goes to settings->postmaster instead (RFC 5321 4.5.1) */
    ACCESS_UNKNOWN_USER, /* 550 5.1.1 */
    ACCESS_REMOTE        /* relaying: whether the client may is the session's to say */
};
enum access_verdict access_recipient(const struct access *access,
                                     const struct address *recipient);
const char *access_postmaster(const struct access *access); /* NULL: none */
bool access_is_local_domain(const struct access *access, const char *normal_domain);

#endif
