/* Reading a key set. A Kubernetes Secret mounted as a folder has names that begin with a dot
 * (..data) beside links to the files; those are passed over. */
#include "smtpd/sign/keys.h"

#include "key_set.h"
#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/address.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ARENA_MAX = 64 << 20, FILE_PATH_MAX = 4096, STAMP_BYTES_MAX = 16 << 20 };

static const char suffix[] = ".key";

/* ---- the files of a set ---- */

/* Each file of the set once. A result other than RESULT_OK ends the walk. */
typedef enum result file_fn(void *owner, const struct sign_key_settings *key,
                            struct fault *fault);

struct walk {
    file_fn *each;
    void *owner;
    struct fault *fault;
    unsigned found;
};

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool join(char path[FILE_PATH_MAX], const char *folder, const char *name)
{
    int length = snprintf(path, FILE_PATH_MAX, "%s/%s", folder, name);

    return length > 0 && length < FILE_PATH_MAX;
}

static enum result take_file(struct walk *walk, const char *folder, const char *domain,
                             const char *name)
{
    struct sign_key_settings key = {.domain = domain};
    char selector[DOMAIN_TEXT];
    char path[FILE_PATH_MAX];
    struct slice text = slice_of(name);

    if (!slice_ends_fold(text, suffix) || text.length == sizeof suffix - 1)
        return RESULT_OK;
    text.length -= sizeof suffix - 1;
    if (!slice_copy_text(text, selector, sizeof selector) || !join(path, folder, name))
        return fault_set(walk->fault, RESULT_INVALID, "%s/%s: the name is too long", folder,
                         name);
    if (++walk->found > SIGN_KEYS_MAX)
        return fault_set(walk->fault, RESULT_TOO_LARGE, "%s: more than %d keys", folder,
                         SIGN_KEYS_MAX);
    key.selector = selector;
    key.file = path;
    return walk->each(walk->owner, &key, walk->fault);
}

/* In order of names, so that the signatures of a message have an order too. */
static enum result walk_names(struct walk *walk, const char *folder, const char *domain,
                              enum result (*take)(struct walk *, const char *, const char *,
                                                  const char *))
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_shown, alphasort);
    enum result result = RESULT_OK;

    if (count < 0)
        return fault_set(walk->fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO,
                         "cannot read the folder of DKIM keys %s: %s", folder,
                         strerror(errno));
    for (int i = 0; i < count; i++) {
        if (result == RESULT_OK)
            result = take(walk, folder, domain, entries[i]->d_name);
        free(entries[i]); /* scandir()'s */
    }
    free(entries);
    return result;
}

static enum result take_domain(struct walk *walk, const char *folder, const char *ignored,
                               const char *name)
{
    char path[FILE_PATH_MAX];
    char domain[DOMAIN_TEXT];
    struct stat status;

    (void)ignored;
    if (!join(path, folder, name))
        return fault_set(walk->fault, RESULT_INVALID, "%s/%s: the name is too long", folder,
                         name);
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return RESULT_OK; /* a README, lost+found */
    if (domain_normalise(slice_of(name), domain) != RESULT_OK || domain[0] == '[')
        return RESULT_OK;
    return walk_names(walk, path, domain, take_file);
}

static enum result walk_files(const struct sign_settings *settings, file_fn *each,
                              void *owner, struct fault *fault)
{
    struct walk walk = {each, owner, fault, 0};
    enum result result = RESULT_OK;

    for (size_t i = 0; i < settings->key_count && result == RESULT_OK; i++)
        result = each(owner, &settings->keys[i], fault);
    if (result == RESULT_OK && settings->key_directory)
        result = walk_names(&walk, settings->key_directory, NULL, take_domain);
    return result;
}

/* ---- stamps ---- */

static enum result stamp_file(void *owner, const struct sign_key_settings *key,
                              struct fault *fault)
{
    struct bytes *text = owner;
    struct stat status = {0};

    (void)fault;
    if (stat(key->file, &status) != 0)
        return bytes_format(text, "%s %d\n", key->file, errno);
    return bytes_format(text, "%s %llu %llu %lld.%ld\n", key->file,
                        (unsigned long long)status.st_ino,
                        (unsigned long long)status.st_size,
                        (long long)status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

uint64_t sign_keys_stamp(const struct sign_settings *settings)
{
    struct fault fault = {0};
    struct bytes text;
    uint64_t stamp;

    bytes_init(&text, STAMP_BYTES_MAX);
    if (walk_files(settings, stamp_file, &text, &fault) != RESULT_OK &&
        bytes_add_text(&text, fault.text) != RESULT_OK)
        bytes_clear(&text);
    stamp = secure_short_hash(bytes_view(&text));
    bytes_fini(&text);
    return stamp;
}

/* ---- the set ---- */

static const char *keep(struct sign_keys *keys, const char *text)
{
    return text ? arena_text(&keys->arena, slice_of(text)) : NULL;
}

static enum result copy_settings(struct sign_keys *keys,
                                 const struct sign_settings *settings)
{
    struct sign_key_settings *copies =
        arena_alloc(&keys->arena, (settings->key_count + 1) * sizeof *copies);

    if (!copies)
        return RESULT_TOO_LARGE;
    keys->settings = *settings;
    keys->settings.key_directory = keep(keys, settings->key_directory);
    keys->settings.keys = copies;
    for (size_t i = 0; i < settings->key_count; i++) {
        const struct sign_key_settings *from = &settings->keys[i];

        copies[i] =
            (struct sign_key_settings){keep(keys, from->domain), keep(keys, from->selector),
                                       keep(keys, from->file), from->has_subdomains};
        if (!copies[i].domain || !copies[i].selector || !copies[i].file)
            return RESULT_TOO_LARGE;
    }
    return RESULT_OK;
}

static struct sign_domain *find_domain(struct sign_keys *keys, const char *name)
{
    struct sign_domain *domain = map_get(keys->by_domain, slice_of(name));
    struct sign_domain **at = &keys->domains;

    if (domain)
        return domain;
    domain = arena_alloc(&keys->arena, sizeof *domain);
    if (!domain)
        return NULL;
    domain->name = keep(keys, name);
    if (!domain->name || map_set(keys->by_domain, slice_of(name), domain) != RESULT_OK)
        return NULL;
    while (*at && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    domain->next = *at;
    *at = domain;
    return domain;
}

static bool has_selector(const struct sign_domain *domain, const char *selector)
{
    for (size_t i = 0; i < domain->count; i++)
        if (strcmp(domain->keys[i].selector, selector) == 0)
            return true;
    return false;
}

static enum result judge_place(const struct sign_domain *domain,
                               const struct sign_key_settings *key, struct fault *fault)
{
    char normal[DOMAIN_TEXT];

    if (!domain)
        return fault_set(fault, RESULT_TOO_LARGE, "too many DKIM keys");
    /* RFC 6376 3.1: a selector is made as names of the DNS are. */
    if (domain_normalise(slice_of(key->selector), normal) != RESULT_OK || normal[0] == '[')
        return fault_set(fault, RESULT_INVALID,
                         "%s: \"%s\" is no selector; use letters, digits and \"-\"",
                         key->file, key->selector);
    if (has_selector(domain, key->selector))
        return fault_set(fault, RESULT_EXISTS,
                         "%s: %s has another key with the selector \"%s\"", key->file,
                         domain->name, key->selector);
    if (domain->count == SIGN_KEYS_OF_DOMAIN_MAX)
        return fault_set(fault, RESULT_TOO_LARGE, "%s: %s has more than %d keys", key->file,
                         domain->name, SIGN_KEYS_OF_DOMAIN_MAX);
    return RESULT_OK;
}

static enum result load_file(void *owner, const struct sign_key_settings *wanted,
                             struct fault *fault)
{
    struct sign_keys *keys = owner;
    struct sign_domain *domain = find_domain(keys, wanted->domain);
    enum result result = judge_place(domain, wanted, fault);
    struct sign_key *key;
    bool is_exposed = false;

    if (result != RESULT_OK)
        return result;
    key = &domain->keys[domain->count];
    *key = (struct sign_key){.domain = domain->name,
                             .selector = keep(keys, wanted->selector),
                             .file = keep(keys, wanted->file),
                             .has_subdomains = wanted->has_subdomains};
    if (!key->selector || !key->file)
        return fault_set(fault, RESULT_TOO_LARGE, "too many DKIM keys");
    result = private_key_load(wanted->file, &key->private_key, &is_exposed, fault);
    if (result != RESULT_OK)
        return result;
    if (is_exposed)
        log_message(LOG_WARNING, "sign.key_exposed",
                    "everybody on this machine may read %s; say: chmod o-rwx %s",
                    wanted->file, wanted->file);
    domain->count++;
    keys->count++;
    return RESULT_OK;
}

enum result sign_keys_load(const struct sign_settings *settings, struct sign_keys **loaded,
                           struct fault *fault)
{
    struct sign_keys *keys = NEW(struct sign_keys);
    enum result result;

    *loaded = NULL;
    keys->references = 1;
    keys->by_domain = map_new(SIGN_KEYS_MAX);
    arena_init(&keys->arena, ARENA_MAX);
    /* Taken first: a change while we read shows at the next look. */
    keys->stamp = sign_keys_stamp(settings);
    result = copy_settings(keys, settings);
    if (result != RESULT_OK)
        (void)fault_set(fault, result, "too many DKIM keys");
    else
        result = walk_files(&keys->settings, load_file, keys, fault);
    if (result == RESULT_OK)
        *loaded = keys;
    else
        sign_keys_unref(keys);
    return result;
}

struct sign_keys *sign_keys_ref(struct sign_keys *keys)
{
    keys->references++;
    return keys;
}

bool sign_keys_free_some(struct sign_keys *keys, size_t most)
{
    size_t freed = 0;

    for (; keys->domains && freed < most; keys->domains = keys->domains->next)
        for (size_t i = 0; i < keys->domains->count; i++, freed++)
            private_key_free(keys->domains->keys[i].private_key);
    keys->count -= freed;
    return !keys->domains;
}

void sign_keys_unref(struct sign_keys *keys)
{
    if (!keys || --keys->references > 0)
        return;
    (void)sign_keys_free_some(keys, SIZE_MAX);
    map_free(keys->by_domain);
    arena_clear(&keys->arena);
    memory_free(keys);
}

size_t sign_keys_count(const struct sign_keys *keys)
{
    return keys ? keys->count : 0;
}

/* ---- choosing ---- */

size_t sign_keys_choose(const struct sign_keys *keys, const char *domain,
                        const struct sign_key *chosen[SIGN_KEYS_OF_DOMAIN_MAX])
{
    const char *name = domain;
    size_t count = 0;

    while (name && count == 0) {
        const struct sign_domain *known = map_get(keys->by_domain, slice_of(name));

        for (size_t i = 0; known && i < known->count; i++)
            if (name == domain || known->keys[i].has_subdomains)
                chosen[count++] = &known->keys[i];
        name = strchr(name, '.');
        name = name ? name + 1 : NULL;
    }
    return count;
}
