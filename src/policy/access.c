/* Questions about settings, answered from two small maps that are built once per reload:
 * the settings themselves are arrays in the order of the file, too slow for a list of
 * users. */
#include "smtpd/policy/access.h"

#include "smtpd/base/check.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

enum { DOMAINS_MAX = 100000, USERS_MAX = 1000000 };

struct known_domain {
    struct map *users; /* local parts in lower case -> the domain itself */
    bool takes_every_one;
};

struct access {
    unsigned references;
    struct network *trusted_networks;
    size_t trusted_count;
    struct map *domains; /* normal domain -> struct known_domain */
    char *postmaster;
};

/* ASCII only: RFC 5321 2.4 leaves the meaning of a local part to its host, and ours
 * compares without case. */
static bool fold(struct slice local, char lower[LIMIT_ADDRESS + 1])
{
    if (!slice_copy_text(local, lower, LIMIT_ADDRESS + 1))
        return false;
    for (char *at = lower; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a');
    return true;
}

static void add_users(struct known_domain *known, const struct local_domain *domain)
{
    for (size_t i = 0; i < domain->user_count; i++) {
        struct slice user = slice_of(domain->users[i]);
        char lower[LIMIT_ADDRESS + 1];

        if (slice_equal_text(user, "*"))
            known->takes_every_one = true;
        else if (fold(user, lower))
            CHECK(map_set(known->users, slice_of(lower), known) == RESULT_OK);
    }
}

static void add_domain(struct access *access, const struct local_domain *domain)
{
    struct slice name = slice_of(domain->domain);
    struct known_domain *known = map_get(access->domains, name);

    if (!known) {
        known = NEW(struct known_domain);
        known->users = map_new(USERS_MAX);
        CHECK(map_set(access->domains, name, known) == RESULT_OK);
    }
    add_users(known, domain);
}

struct access *access_new(const struct access_settings *settings)
{
    struct access *access = NEW(struct access);

    access->references = 1;
    if (settings->trusted_count) {
        access->trusted_networks = memory_copy(
            settings->trusted_networks, settings->trusted_count * sizeof(struct network));
        access->trusted_count = settings->trusted_count;
    }
    access->domains = map_new(DOMAINS_MAX);
    for (size_t i = 0; i < settings->local_count; i++)
        add_domain(access, &settings->local_domains[i]);
    access->postmaster = memory_text(settings->postmaster);
    return access;
}

struct access *access_ref(struct access *access)
{
    access->references++;
    return access;
}

void access_unref(struct access *access)
{
    struct known_domain *known;
    size_t position = 0;

    if (!access || --access->references > 0)
        return;
    while ((known = map_next(access->domains, &position, NULL))) {
        map_free(known->users);
        memory_free(known);
    }
    map_free(access->domains);
    memory_free(access->trusted_networks);
    memory_free(access->postmaster);
    memory_free(access);
}

bool access_is_trusted(const struct access *access, const struct ip *peer)
{
    for (size_t i = 0; i < access->trusted_count; i++)
        if (network_contains(&access->trusted_networks[i], peer))
            return true;
    return false;
}

enum access_verdict access_recipient(const struct access *access,
                                     const struct address *recipient)
{
    const struct known_domain *known;
    char normal[DOMAIN_TEXT];
    char lower[LIMIT_ADDRESS + 1];

    /* RFC 5321 4.5.1: <postmaster> without a domain is ours whatever our domains are. */
    if (recipient->is_bare_postmaster)
        return access->postmaster ? ACCESS_POSTMASTER : ACCESS_UNKNOWN_USER;
    if (domain_normalise(address_domain(recipient), normal) != RESULT_OK)
        return ACCESS_REMOTE;
    known = map_get(access->domains, slice_of(normal));
    if (!known)
        return ACCESS_REMOTE;
    if (known->takes_every_one)
        return ACCESS_LOCAL;
    if (!fold(address_local(recipient), lower))
        return ACCESS_UNKNOWN_USER;
    if (map_get(known->users, slice_of(lower)))
        return ACCESS_LOCAL;
    if (access->postmaster && slice_equal_text(slice_of(lower), "postmaster"))
        return ACCESS_POSTMASTER;
    return ACCESS_UNKNOWN_USER;
}

const char *access_postmaster(const struct access *access)
{
    return access->postmaster;
}

bool access_is_local_domain(const struct access *access, const char *normal_domain)
{
    return map_get(access->domains, slice_of(normal_domain)) != NULL;
}
