/* Which pool of our addresses a message goes out by, as far as it is the message that says so: by its
 * sender, its sender's domain, or its tenant.
 *
 * Owns      nothing.
 * Promises  pure. The sender's address comes before its domain, the domain before the tenant; among
 *           equals the first rule holds.
 * Ignores   what the way says (src/deliver/pool.c), and what a header field says (receive).
 */
#ifndef SMTPD_MAIL_POOL_RULE_H
#define SMTPD_MAIL_POOL_RULE_H

#include <stdbool.h>
#include <stddef.h>

struct pool_rule {
    const char *pool;
    const char *const *senders; /* addresses; case does not matter */
    size_t sender_count;
    const char *const *sender_domains; /* patterns, normal */
    size_t sender_domain_count;
    const char *const *tenants;
    size_t tenant_count;
};

/* NULL: none of them. `tenant`: or NULL. */
const char *pool_rule_choose(const struct pool_rule *rules, size_t count,
                             const char *sender, const char *tenant);
bool pool_rule_has(const struct pool_rule *rules, size_t count, const char *pool);

#endif
