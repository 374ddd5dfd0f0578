/* The inside of a key set, for those who sign with it or look it up. */
#ifndef SMTPD_SIGN_KEY_SET_H
#define SMTPD_SIGN_KEY_SET_H

#include "private_key.h"
#include "smtpd/base/arena.h"
#include "smtpd/base/map.h"

struct sign_key {
    const char *domain;
    const char *selector;
    const char *file;
    bool has_subdomains;
    struct private_key *private_key;
};

/* The keys of one domain. */
struct sign_domain {
    struct sign_domain *next; /* of the set */
    const char *name;
    size_t count;
    struct sign_key keys[SIGN_KEYS_OF_DOMAIN_MAX];
};

struct sign_keys {
    unsigned references;
    struct sign_settings settings; /* our copy, in the arena */
    struct arena arena;
    struct map *by_domain;       /* struct sign_domain */
    struct sign_domain *domains; /* in order of their names */
    size_t count;
    uint64_t stamp;
};

/* Which keys sign for an author's domain (normal): its own, or else those of the nearest
 * domain above it that have subdomains. Returns how many. */
size_t sign_keys_choose(const struct sign_keys *keys, const char *domain,
                        const struct sign_key *chosen[SIGN_KEYS_OF_DOMAIN_MAX]);
/* Frees the private keys of some domains, at most so many keys and those of one domain more; true: none
 * is left, and sign_keys_unref() has little to do. Only of a set that nobody else refers to. */
bool sign_keys_free_some(struct sign_keys *keys, size_t most);
/* A number that changes when a file of the set changes, comes or goes. Blocking. */
uint64_t sign_keys_stamp(const struct sign_settings *settings);

#endif
