/* All entries live equally long, so the list is in order of their end. */
#include "logins.h"

#include "smtpd/base/check.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { ENTRIES_MAX = 10000, LIFE_MS = 5 * 60 * 1000 };

struct login {
    struct link link; /* oldest first */
    uint8_t digest[SECURE_DIGEST];
    int64_t expires_ms;
};

struct logins {
    struct loop *loop;
    struct map *map; /* digest -> struct login */
    struct list order;
};

static struct slice key_of(const uint8_t digest[SECURE_DIGEST])
{
    return (struct slice){(const char *)digest, SECURE_DIGEST};
}

static void forget(struct logins *logins, struct login *login)
{
    (void)map_remove(logins->map, key_of(login->digest));
    list_remove(&logins->order, &login->link);
    secure_wipe(login, sizeof *login);
    memory_free(login);
}

void logins_clear(struct logins *logins)
{
    struct link *link;

    while ((link = list_first(&logins->order)))
        forget(logins, CONTAINER_OF(link, struct login, link));
}

static void forget_expired(struct logins *logins)
{
    int64_t now_ms = loop_now_ms(logins->loop);
    struct link *link;

    while ((link = list_first(&logins->order))) {
        struct login *login = CONTAINER_OF(link, struct login, link);

        if (login->expires_ms > now_ms)
            break;
        forget(logins, login);
    }
}

bool logins_has(struct logins *logins, const uint8_t digest[SECURE_DIGEST])
{
    forget_expired(logins);
    return map_get(logins->map, key_of(digest)) != NULL;
}

void logins_add(struct logins *logins, const uint8_t digest[SECURE_DIGEST])
{
    struct login *login;

    if (logins_has(logins, digest))
        return;
    if (map_count(logins->map) == ENTRIES_MAX)
        forget(logins, CONTAINER_OF(list_first(&logins->order), struct login, link));
    login = NEW(struct login);
    memcpy(login->digest, digest, SECURE_DIGEST);
    login->expires_ms = loop_now_ms(logins->loop) + LIFE_MS;
    list_push_back(&logins->order, &login->link);
    CHECK(map_set(logins->map, key_of(login->digest), login) == RESULT_OK);
}

struct logins *logins_new(struct loop *loop)
{
    struct logins *logins = NEW(struct logins);

    logins->loop = loop;
    logins->map = map_new(ENTRIES_MAX);
    list_init(&logins->order);
    return logins;
}

void logins_free(struct logins *logins)
{
    if (!logins)
        return;
    logins_clear(logins);
    map_free(logins->map);
    memory_free(logins);
}
