/* Sessions of next hops that may be resumed, each with the verdict on the certificate that it began
 * with: a resumed session shows none.
 *
 * Owns      copies of sessions, as bytes; at most LIMIT_TLS_SESSIONS, the one that was kept for longest
 *           goes; none is older than an hour since its certificate was judged.
 * Promises  a session is found under the very key that it was kept under: who asks puts into the key
 *           all that the verdict depends on.
 * Ignores   TLS. One thread at a time: the loop's.
 */
#ifndef SMTPD_NET_TLS_SESSIONS_H
#define SMTPD_NET_TLS_SESSIONS_H

#include "smtpd/net/tls.h"

struct tls_verdict {
    int64_t judged_ms; /* monotonic */
    bool is_verified;
    uint8_t dane_name;
    enum tls_dane dane;
    enum tls_flaw flaw;
    char text[160]; /* why not verified */
};

struct tls_session {
    struct slice bytes;
    struct tls_verdict verdict;
};

struct tls_sessions;
struct tls_sessions *tls_sessions_new(void);
void tls_sessions_free(struct tls_sessions *sessions);
/* NULL: there is none. Until the next call. */
const struct tls_session *tls_sessions_find(struct tls_sessions *sessions, struct slice key,
                                            int64_t now_ms);
/* In the place of an older one; the bytes are copied. */
void tls_sessions_put(struct tls_sessions *sessions, struct slice key,
                      const struct tls_session *session);
void tls_sessions_forget(struct tls_sessions *sessions, struct slice key);
size_t tls_sessions_count(const struct tls_sessions *sessions);

#endif
