/* Three passes: what is more exact wins, wherever it stands. */
#include "smtpd/mail/pool_rule.h"

#include "smtpd/mail/address.h"

#include <string.h>

static bool has_sender(const struct pool_rule *rule, const char *sender)
{
    for (size_t i = 0; i < rule->sender_count; i++)
        if (slice_equal_text_fold(slice_of(sender), rule->senders[i]))
            return true;
    return false;
}

static bool has_domain(const struct pool_rule *rule, const char *domain)
{
    for (size_t i = 0; i < rule->sender_domain_count; i++)
        if (domain_matches(rule->sender_domains[i], domain))
            return true;
    return false;
}

static bool has_tenant(const struct pool_rule *rule, const char *tenant)
{
    for (size_t i = 0; i < rule->tenant_count; i++)
        if (strcmp(rule->tenants[i], tenant) == 0)
            return true;
    return false;
}

const char *pool_rule_choose(const struct pool_rule *rules, size_t count,
                             const char *sender, const char *tenant)
{
    const char *at = strrchr(sender, '@');
    char domain[DOMAIN_TEXT];

    for (size_t i = 0; i < count; i++)
        if (has_sender(&rules[i], sender))
            return rules[i].pool;
    if (at && domain_normalise(slice_of(at + 1), domain) == RESULT_OK)
        for (size_t i = 0; i < count; i++)
            if (has_domain(&rules[i], domain))
                return rules[i].pool;
    for (size_t i = 0; tenant && i < count; i++)
        if (has_tenant(&rules[i], tenant))
            return rules[i].pool;
    return NULL;
}

bool pool_rule_has(const struct pool_rule *rules, size_t count, const char *pool)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rules[i].pool, pool) == 0)
            return true;
    return false;
}
