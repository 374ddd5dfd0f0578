/* How commands reach the server: HTTP/1.1 and JSON on a UNIX socket (docs/control.md).
 *
 * Owns      the socket data_dir/control.sock (0600) and the requests in progress.
 * Promises  only root and the server's own user are answered (SO_PEERCRED). Requests and
 *           answers are bounded; long listings come in pages; nothing blocks the loop.
 * Ignores   what the other rooms count: it asks them.
 */
#ifndef SMTPD_ADMIN_ADMIN_H
#define SMTPD_ADMIN_ADMIN_H

#include "smtpd/deliver/deliver.h"
#include "smtpd/net/resolver.h"
#include "smtpd/policy/suppression.h"
#include "smtpd/queue/queue.h"
#include "smtpd/receive/receive.h"
#include "smtpd/sign/signer.h"

struct admin_facts { /* of the process, asked at each status */
    const char *version;
    const char *hostname;
    int64_t started_ms; /* wall */
    bool is_listening;  /* the start has ended: clients are accepted */
    bool is_draining;
    uint64_t possible_duplicates; /* over restarts */
    unsigned listeners;
    unsigned reloads;
    unsigned reloads_failed;
    const struct tls_server *tls_server; /* NULL: none; looked at during the call's turn */
};
typedef void admin_listener_fn(void *owner, const char *name,
                               const struct receive_listener_statistics *statistics);
/* Calls `each` for every SMTP listener. */
typedef void admin_listeners_fn(void *owner, admin_listener_fn *each, void *each_owner);
typedef void admin_facts_fn(void *owner, struct admin_facts *facts);

struct admin_difference { /* of two configurations */
    const char *option;
    const char *before; /* as the file would have it; secrets masked */
    const char *after;
    bool needs_restart;
};
/* `problems`: why the text is no configuration; empty: it is one. Lives during the call. */
typedef void admin_compared_fn(void *owner, const struct admin_difference *differences,
                               size_t count, struct slice problems);
struct admin_comparison;
/* The completion rule holds. NULL: cannot be done now. Copies `text`. */
typedef struct admin_comparison *admin_compare_fn(void *owner, struct slice text,
                                                  admin_compared_fn *on_end, void *request);
typedef void admin_compare_cancel_fn(struct admin_comparison *comparison);

struct admin_rooms {
    struct loop *loop;
    struct offload *offload;
    struct net *net;
    struct resolver *resolver;
    struct queue *queue;
    struct signer *signer;
    struct receive *receive;
    struct deliver *deliver;
    struct suppression *suppression;
    admin_facts_fn *facts;
    admin_listeners_fn *listeners;
    admin_compare_fn *compare;
    admin_compare_cancel_fn *compare_cancel;
    void *owner;
};

struct admin;

/* Removes a stale socket of a dead process: the caller holds the data folder's lock. */
enum result MUST_CHECK admin_open(const struct admin_rooms *rooms, const char *socket_path,
                                  struct admin **admin, struct fault *fault);
/* docs/metrics.md, made of the table of metrics. */
enum result MUST_CHECK admin_document_metrics(struct bytes *into);
void admin_set_resolver(struct admin *admin, struct resolver *resolver);
void admin_close(struct admin *admin);

#endif
