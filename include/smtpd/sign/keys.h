/* The keys that sign, as the settings name them: which key signs for which domain.
 *
 * Owns      the keys, and a copy of the settings that they were read by.
 * Promises  immutable and counted: who signs with it keeps it, whatever is read meanwhile.
 *           All of the keys or none: one that cannot be read is a failure of all, and the
 *           fault names it.
 * Ignores   whether the DNS knows them: see check.h.
 */
#ifndef SMTPD_SIGN_KEYS_H
#define SMTPD_SIGN_KEYS_H

#include "smtpd/base/result.h"
#include <stdbool.h>
#include <stdint.h>

enum key_kind { KEY_RSA, KEY_ED25519, KEY_KIND_COUNT };

enum {
    SIGN_KEYS_MAX = 20000,      /* in all */
    SIGN_KEYS_OF_DOMAIN_MAX = 8 /* and so signatures of one message */
};

struct sign_key_settings { /* [[dkim]] */
    const char *domain;    /* normal */
    const char *selector;
    const char *file;
    bool has_subdomains; /* signs for what is below the domain too */
};

struct sign_settings {
    const struct sign_key_settings *keys;
    size_t key_count;
    /* Each DOMAIN/SELECTOR.key in it is a key of that domain; NULL: none. */
    const char *key_directory;
    bool relaxed_header;
    bool relaxed_body;
    int64_t expire_ms; /* 0: signatures do not expire */
};

struct sign_keys;

/* Blocking: start, command line, file pool. Keys that everybody may read are logged
 * ("sign.key_exposed"). */
enum result MUST_CHECK sign_keys_load(const struct sign_settings *settings,
                                      struct sign_keys **loaded, struct fault *fault);
/* On one thread only (the loop's, once there is one). */
struct sign_keys *sign_keys_ref(struct sign_keys *keys);
void sign_keys_unref(struct sign_keys *keys); /* NULL is fine */
size_t sign_keys_count(const struct sign_keys *keys);

#endif
