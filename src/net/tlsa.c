/* A set is one block: the records, then their bytes. Names are few and apart. */
#include "smtpd/net/tlsa.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { SHA256_BYTES = 32, SHA512_BYTES = 64 };

struct tlsa_set {
    char *names[TLSA_NAMES];
    size_t count;
    struct tlsa records[];
};

bool tlsa_is_usable(const struct tlsa *tlsa)
{
    if (tlsa->usage != TLSA_DANE_TA && tlsa->usage != TLSA_DANE_EE)
        return false;
    if (tlsa->selector != TLSA_CERTIFICATE && tlsa->selector != TLSA_KEY)
        return false;
    switch (tlsa->matching) {
    case TLSA_FULL:
        return tlsa->data.length > 0;
    case TLSA_SHA256:
        return tlsa->data.length == SHA256_BYTES;
    case TLSA_SHA512:
        return tlsa->data.length == SHA512_BYTES;
    default:
        return false;
    }
}

static bool has_stronger(const struct tlsa *records, size_t count, const struct tlsa *than)
{
    if (than->matching != TLSA_SHA256)
        return false; /* the full form is no digest: it always counts */
    for (size_t i = 0; i < count; i++)
        if (records[i].usage == than->usage && records[i].selector == than->selector &&
            records[i].matching == TLSA_SHA512 && tlsa_is_usable(&records[i]))
            return true;
    return false;
}

static bool counts(const struct tlsa *records, size_t count, size_t at)
{
    return tlsa_is_usable(&records[at]) && !has_stronger(records, count, &records[at]);
}

struct tlsa_set *tlsa_set_new(const struct tlsa *records, size_t count)
{
    struct tlsa_set *set;
    size_t kept = 0;
    size_t bytes = 0;
    char *into;

    for (size_t i = 0; i < count; i++) {
        if (!counts(records, count, i))
            continue;
        kept++;
        bytes += records[i].data.length;
    }
    if (kept == 0)
        return NULL;
    set = memory_new(sizeof *set + kept * sizeof *set->records + bytes);
    into = (char *)&set->records[kept];
    for (size_t i = 0; i < count; i++) {
        struct tlsa *copy = &set->records[set->count];

        if (!counts(records, count, i))
            continue;
        *copy = records[i];
        memcpy(into, copy->data.data, copy->data.length);
        copy->data.data = into;
        into += copy->data.length;
        set->count++;
    }
    return set;
}

void tlsa_set_free(struct tlsa_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < TLSA_NAMES; i++)
        memory_free(set->names[i]);
    memory_free(set);
}

size_t tlsa_set_count(const struct tlsa_set *set)
{
    return set->count;
}

const struct tlsa *tlsa_set_at(const struct tlsa_set *set, size_t at)
{
    CHECK(at < set->count);
    return &set->records[at];
}

void tlsa_set_add_name(struct tlsa_set *set, const char *name)
{
    for (size_t i = 0; i < TLSA_NAMES; i++) {
        if (!set->names[i]) {
            set->names[i] = memory_text(name);
            return;
        }
        if (strcmp(set->names[i], name) == 0)
            return;
    }
}

const char *tlsa_set_name(const struct tlsa_set *set, size_t at)
{
    return at < TLSA_NAMES ? set->names[at] : NULL;
}
