/* The TLS of one connection: a machine that eats and makes bytes, without a socket.
 *
 * Owns      its mbedTLS context. One thread at a time touches it: during the handshake a
 *           thread of the crypto pool while a step runs, else the loop's.
 * Ignores   where ciphertext comes from and goes to.
 */
#ifndef SMTPD_NET_TLS_ENGINE_H
#define SMTPD_NET_TLS_ENGINE_H

#include "smtpd/base/bytes.h"
#include "smtpd/net/tls.h"

struct tls_engine;

enum tls_step {
    TLS_STEP_WANT_READ, /* more ciphertext is needed */
    TLS_STEP_DONE,      /* the handshake is over */
    TLS_STEP_FAILED
};

struct tls_engine *tls_engine_new_server(struct tls_server *server);
struct tls_engine *tls_engine_new_client(struct tls_client *client, enum tls_level level,
                                         const char *name);
/* Before the first step: the certificate must fit these records. Theirs is the verdict, whatever
 * the authorities say. */
void tls_engine_take_dane(struct tls_engine *engine, struct tlsa_set *set);
/* Before the first step, behind the records: a session that was kept of the peer at `way` (both its
 * ends) under the same demands is resumed, and those to come are kept. On the loop's thread. */
void tls_engine_resume(struct tls_engine *engine, struct slice way, int64_t now_ms);
/* Before that: none is resumed. */
void tls_engine_begin_anew(struct tls_engine *engine);
/* The handshake ended well, or did not (the next one begins anew): on the loop's thread. */
void tls_engine_keep_session(struct tls_engine *engine);
void tls_engine_forget_session(const struct tls_engine *engine);
bool tls_engine_offered_session(const struct tls_engine *engine);
void tls_engine_free(struct tls_engine *engine);

/* Ciphertext from the peer. RESULT_TOO_LARGE: more than a connection may have unread. */
enum result MUST_CHECK tls_engine_feed(struct tls_engine *engine, struct slice ciphertext);
bool tls_engine_has_input(const struct tls_engine *engine);
/* One step of the handshake: on the crypto pool. Ciphertext to send is in the output. */
enum tls_step tls_engine_handshake(struct tls_engine *engine);
/* After a step: the fault of a failed one, and the facts of a done one. */
const struct fault *tls_engine_fault(const struct tls_engine *engine);
enum tls_flaw tls_engine_flaw(const struct tls_engine *engine);
void tls_engine_facts(const struct tls_engine *engine, struct tls_facts *facts);

/* Ciphertext that waits to be sent: look, then drop. */
struct bytes *tls_engine_output(struct tls_engine *engine);

/* RESULT_OK: *length bytes of plain text (at most `most`); RESULT_AGAIN: nothing yet;
 * RESULT_CLOSED: the peer ended it in good order; RESULT_TLS: broken. */
enum result MUST_CHECK tls_engine_read(struct tls_engine *engine, char *into, size_t most,
                                       size_t *length);
enum result MUST_CHECK tls_engine_write(struct tls_engine *engine, struct slice plain);
void tls_engine_say_goodbye(struct tls_engine *engine); /* close_notify into the output */

#endif
