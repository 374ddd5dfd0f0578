/* The one struct server, shared by the files of this room. */
#ifndef SMTPD_SERVER_INNER_H
#define SMTPD_SERVER_INNER_H

#include "smtpd/admin/admin.h"
#include "smtpd/admin/public.h"
#include "smtpd/base/list.h"
#include "smtpd/net/listener.h"
#include "smtpd/server/server.h"
#include "systemd.h"

struct server_listener {
    struct link link;
    struct server *server;
    struct listener *listener;
    struct receive_listener settings;
    struct receive_listener_statistics statistics;
    char name[IP_TEXT];
    bool is_wanted; /* by the file that is being applied */
    bool
        is_inherited; /* from the service manager: it goes back there, and is never closed by a reload */
};

struct server {
    const char *config_path;
    struct config *config;
    uint64_t memory_limit; /* of the container or machine, when we started */
    struct loop *loop;
    struct offload *offload;
    struct net *net;
    struct resolver *resolver;
    struct queue *queue;
    struct auth *auth;
    struct rate *rate;
    struct limits *limits;
    struct suppression *suppression;
    struct pressure *pressure;
    struct screen *screen;
    struct access *access;
    struct signer *signer;
    struct tls_server *tls_server;
    struct tls_client *tls_client;
    struct receive *receive;
    struct deliver *deliver;
    struct local *local;
    struct admin *admin;
    struct admin_public *public;
    struct list listeners;
    struct systemd systemd;
    struct signal_watch *on_term;
    struct signal_watch *on_int;
    struct signal_watch *on_hup;
    struct timer watchdog; /* is the store still able to commit? */
    int64_t started_ms;
    bool is_listening;
    int exit_code;
    /* files that are followed */
    struct timer follow_timer;
    struct job *follow_job;
    uint64_t follow_stamp; /* of certificates and the like, as they were read */
    uint64_t config_stamp; /* of smtpd.toml */
    int64_t expiry_warned_ms;
    /* reload */
    struct job *reload;
    bool reload_again;
    unsigned reloads;
    unsigned reloads_failed;
    /* leaving */
    bool is_draining;
    uint64_t possible_duplicates; /* over restarts */
    bool receive_is_empty;
    bool deliver_is_empty;
    struct timer receive_deadline;
    struct timer deliver_deadline;
};

/* listeners.c */
/* Opens what `config` wants and is not open yet; nothing else changes. On failure what was
 * opened here is closed again. */
enum result MUST_CHECK listeners_open(struct server *server, const struct config *config,
                                      struct fault *fault);
/* Gives each its settings, closes what `server->config` does not want, starts new ones. */
void listeners_apply(struct server *server);
void listeners_tell(void *owner, admin_listener_fn *each, void *each_owner);
void listeners_close(struct server *server); /* of SMTP: probes go on */

/* reload.c */
void reload_start(struct server *server); /* again behind one that runs */
void reload_on_signal(void *owner, int signal_number);

/* follow.c */
/* What tells one state of the files of [tls] and of delivery.ca_file from the next.
 * Blocking: at the start, or on the file pool. */
uint64_t follow_stamp(const struct config *config);
uint64_t follow_config_stamp(const char *path);
void follow_start(struct server *server);
void follow_stop(struct server *server);

/* compare.c */
admin_compare_fn compare_start;
admin_compare_cancel_fn compare_cancel;

/* drain.c */
void drain_on_signal(void *owner, int signal_number);
/* Counts those that stood behind their final dot, for this process and the next. */
void drain_abort_deliveries(struct server *server);
void drain_stop(struct server *server); /* no more waiting: leave the loop */

/* suppress.c */
enum result MUST_CHECK suppress_open(struct server *server, struct fault *fault);
/* What deliver asks, and tells. */
struct deliver_policy suppress_policy(struct server *server);

/* sign_own.c: mail that deliver writes itself. */
struct deliver_signing sign_own(struct server *server);

/* server.c */
void server_apply_settings(struct server *server);
void server_use_resolver(struct server *server, struct resolver *resolver);

#endif
