#include "tls_sessions.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/list.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <string.h>

enum { AGE_MOST_MS = 3600000, SESSION_MAX = 16384 };

struct kept {
    struct link link;
    struct tls_session session;
    char *key;
    size_t key_length;
    char *bytes;
};

struct tls_sessions {
    struct map *map;
    struct list all; /* the first that was kept is the first */
};

struct tls_sessions *tls_sessions_new(void)
{
    struct tls_sessions *sessions = NEW(struct tls_sessions);

    sessions->map = map_new(LIMIT_TLS_SESSIONS);
    list_init(&sessions->all);
    return sessions;
}

/* What is in it opens connections: it does not lie about. */
static void forget(struct tls_sessions *sessions, struct kept *kept)
{
    (void)map_remove(sessions->map, (struct slice){kept->key, kept->key_length});
    list_remove(&sessions->all, &kept->link);
    secure_wipe(kept->bytes, kept->session.bytes.length);
    memory_free(kept->bytes);
    memory_free(kept->key);
    memory_free(kept);
}

static struct kept *first(const struct tls_sessions *sessions)
{
    struct link *link = list_first(&sessions->all);

    return link ? CONTAINER_OF(link, struct kept, link) : NULL;
}

void tls_sessions_free(struct tls_sessions *sessions)
{
    while (first(sessions))
        forget(sessions, first(sessions));
    map_free(sessions->map);
    memory_free(sessions);
}

const struct tls_session *tls_sessions_find(struct tls_sessions *sessions, struct slice key,
                                            int64_t now_ms)
{
    struct kept *kept = map_get(sessions->map, key);

    if (kept && now_ms - kept->session.verdict.judged_ms > AGE_MOST_MS) {
        forget(sessions, kept);
        kept = NULL;
    }
    return kept ? &kept->session : NULL;
}

void tls_sessions_forget(struct tls_sessions *sessions, struct slice key)
{
    struct kept *kept = map_get(sessions->map, key);

    if (kept)
        forget(sessions, kept);
}

void tls_sessions_put(struct tls_sessions *sessions, struct slice key,
                      const struct tls_session *session)
{
    struct kept *kept;

    if (session->bytes.length == 0 || session->bytes.length > SESSION_MAX)
        return;
    tls_sessions_forget(sessions, key);
    if (sessions->all.count >= LIMIT_TLS_SESSIONS)
        forget(sessions, first(sessions));
    kept = NEW(struct kept);
    kept->session.verdict = session->verdict;
    kept->bytes = memory_copy(session->bytes.data, session->bytes.length);
    kept->session.bytes = (struct slice){kept->bytes, session->bytes.length};
    kept->key = memory_copy(key.data, key.length);
    kept->key_length = key.length;
    list_push_back(&sessions->all, &kept->link);
    if (map_set(sessions->map, key, kept) != RESULT_OK)
        forget(sessions, kept);
}

size_t tls_sessions_count(const struct tls_sessions *sessions)
{
    return sessions->all.count;
}
