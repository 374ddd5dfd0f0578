/* The file smtpd.toml: one table of options, from which loading, checking, the example file
 * and the manual all come.
 *
 * Owns      the values of one reading of the file, until config_free().
 * Promises  all of the file or nothing; every problem of the file at once, each with line,
 *           column, what is wrong and what would be right. Secrets are never printed.
 * Ignores   what the values are for: the rooms' settings are cut out of it by config_*().
 */
#ifndef SMTPD_CONFIG_CONFIG_H
#define SMTPD_CONFIG_CONFIG_H

#include "smtpd/base/arena.h"
#include "smtpd/base/ip.h"
#include "smtpd/base/log.h"
#include "smtpd/deliver/deliver.h"
#include "smtpd/local/local.h"
#include "smtpd/policy/suppression.h"
#include "smtpd/receive/receive.h"
#include "smtpd/sign/keys.h"

#define CONFIG_DEFAULT_FILE "/etc/smtpd/smtpd.toml"

/* A list value; what the items are, the option's type says. */
struct value_list {
    void *items;
    size_t count;
};

/* Where an element of a repeated table stands, and where each of its values came from. */
struct config_element {
    unsigned line;
    unsigned column;
    unsigned *lines; /* per row of its table; 0: the default */
    unsigned *columns;
    const unsigned *
        shipped_lines; /* of the shipped block with its name, where its own is 0; or NULL */
    bool is_bad;       /* something in it was complained about: its values may be missing */
};

struct config_times {
    int64_t connect_ms;
    int64_t greeting_ms;
    int64_t command_ms;
    int64_t data_ms;
    int64_t final_dot_ms;
    int64_t idle_ms;
};

struct config_transfer { /* [delivery], and what [[destination]] and [[route]] may change */
    unsigned connections;
    unsigned messages_per_connection;
    unsigned recipients_per_transaction;
    unsigned pipeline_window;
    struct quota message_rate;    /* count 0: off */
    struct quota connection_rate; /* count 0: off */
    struct config_times times;
    struct value_list retry; /* int64_t, ms; of [delivery] it is [queue]'s */
    int tls;                 /* enum tls_level */
    bool dane;
    bool mta_sts;
    const char *pool; /* NULL: that of [delivery] */
};

struct config_listen {
    struct config_element element;
    struct value_list address; /* struct endpoint */
    int mode;                  /* enum receive_mode */
    int tls;                   /* enum receive_tls */
    bool proxy_protocol;
};

struct config_destination {
    struct config_element element;
    const char *name;        /* NULL: the first of match */
    struct value_list match; /* const char * */
    struct config_transfer transfer;
    bool is_replaced; /* of a shipped one: a block of the file has its name */
};

struct config_route {
    struct config_element element;
    const char *name;
    struct value_list match;
    const char *host;
    unsigned port;
    bool implicit_tls;
    struct config_transfer transfer;
    const char *user;
    const char *password;
    const char *password_file;
    const char *password_env;
    const char *secret; /* the password, from wherever; NULL: none */
};

struct config_reaction {
    struct config_element element;
    const char *code;
    const char *status;
    const char *text;
    struct value_list class; /* int, from CLASS_BAD_MAILBOX */
    struct value_list match; /* const char * */
    int action;              /* enum reaction_action */
    int64_t for_ms;
    unsigned percent;
    unsigned limit;
};

struct config_source {
    struct config_element element;
    const char *name;
    const char *address;
    const char *ehlo; /* NULL: server.hostname */
    unsigned weight;
    struct value_list warm_up; /* unsigned */
};

struct config_pool {
    struct config_element element;
    const char *name;
    struct value_list sources;        /* const char *: "NAME" or "NAME=WEIGHT" */
    struct value_list senders;        /* const char * */
    struct value_list sender_domains; /* const char * */
    struct value_list tenants;        /* const char * */
};

struct config_dnsbl {
    struct config_element element;
    const char *zone;
    int weight;
    struct value_list answers; /* struct network */
};

struct config_dkim {
    struct config_element element;
    const char *domain;
    const char *selector;
    const char *key;
    bool subdomains;
};

struct config_class { /* [[class]] */
    struct config_element element;
    int class; /* from CLASS_BAD_MAILBOX on */
    const char *code;
    const char *status;
    const char *text;
    const char *host;
};

struct config_local {
    struct config_element element;
    const char *domain;
    const char *maildir;
    struct value_list users; /* const char * */
};

struct config_header_rule {
    struct config_element element;
    struct value_list listener; /* struct endpoint */
    struct value_list user;     /* const char * */
    struct value_list remove;
    struct value_list add;
};

struct config_tenant {
    struct config_element element;
    const char *name;
    unsigned weight;
};

struct config {
    /* [server] */
    const char *hostname;
    const char *data_dir;
    int64_t grace_period_ms;
    const char *postmaster;
    const char *user;
    /* [tls] */
    struct value_list tls_certificate; /* const char * */
    struct value_list tls_key;
    int tls_min_version;  /* 0: 1.2, 1: 1.3 */
    int canonicalization; /* of [signing]; bit 0: simple body, bit 1: simple header */
    /* [auth] */
    const char *users_file;
    int64_t failure_delay_ms;
    struct value_list failures_per_address; /* struct quota */
    struct value_list failures_per_user;    /* struct quota */
    int64_t lockout_ms;
    /* [limits] */
    uint64_t message_size_bytes;
    unsigned recipients_per_message;
    unsigned received_hops;
    unsigned connections;
    unsigned connections_per_address;
    unsigned connections_per_network;
    struct value_list connection_rate;             /* struct quota */
    struct value_list connection_rate_per_network; /* struct quota */
    struct value_list messages_per_user;           /* struct quota, these four */
    struct value_list recipients_per_user;
    struct value_list messages_per_address;
    struct value_list recipients_per_address;
    int64_t idle_timeout_ms;
    uint64_t memory_bytes; /* 0: auto */
    unsigned handshakes;
    unsigned handshakes_per_address;
    /* [relay] */
    struct value_list trusted_networks; /* struct network */
    /* [policy] */
    int64_t greeting_delay_ms; /* 0: off */
    unsigned reject_weight;
    int helo_checks; /* enum stranger_check */
    int reverse_dns;
    unsigned unknown_recipients;
    unsigned errors;
    int64_t tarpit_ms;    /* 0: off */
    int64_t offenders_ms; /* 0: off */
    /* [tls_report] */
    const char *tls_report_organization;
    const char *tls_report_contact;
    /* [suppression] */
    int suppression_at;            /* enum suppression_at */
    int64_t suppression_expire_ms; /* 0: never */
    unsigned suppression_entries;
    /* [proxy] */
    struct value_list proxy_networks; /* struct network */
    /* [signing] */
    const char *key_directory;
    int64_t signature_expire_ms; /* 0: never */
    /* [queue] */
    struct value_list retry; /* int64_t, ms */
    int64_t expire_ms;
    int64_t delay_notice_ms; /* 0: off */
    uint64_t min_free_space_bytes;
    uint64_t report_body_bytes;
    /* [dns] */
    struct value_list dns_servers; /* struct endpoint */
    int64_t dns_deadline_ms;
    /* [delivery] */
    struct config_transfer delivery;
    const char *ca_file;
    const char *classes_file;
    unsigned delivery_port;
    const char *tenant_header;
    struct value_list tenant_users; /* const char * */
    const char *priority_header;
    const char *pool_header;
    struct value_list pool_users; /* const char * */
    unsigned mta_sts_port;
    int64_t attempt_delay_ms;
    /* [admin] */
    struct value_list admin_listen; /* struct endpoint */
    /* [log] */
    const char *log_output;
    int log_level;
    int log_format;
    /* Switches of all sections, side by side: apart they would cost eight bytes each */
    bool follow_file;
    bool auth_in_clear_on_loopback;
    bool add_missing_headers;
    bool remove_bcc;
    bool hide_client;
    bool allow_network_filesystem;
    bool allow_private_networks;
    bool shipped_reactions;
    bool shipped_destinations;
    bool dns_trust_ad;
    bool suppression_report;
    bool suppression_hard_bounces;

    /* Repeated tables */
    struct value_list listen;      /* struct config_listen */
    struct value_list destination; /* struct config_destination */
    struct value_list route;       /* struct config_route */
    struct value_list reaction;    /* struct config_reaction */
    struct value_list local;       /* struct config_local */
    struct value_list header_rule; /* struct config_header_rule */
    struct value_list dnsbl;       /* struct config_dnsbl */
    struct value_list dkim;        /* struct config_dkim */
    struct value_list tenant;      /* struct config_tenant */
    struct value_list source;      /* struct config_source */
    struct value_list pool;        /* struct config_pool */
    struct value_list class;       /* struct config_class */

    struct value_list
        shipped_destination;       /* struct config_destination, behind the others */
    struct value_list file_class;  /* struct config_class, of delivery.classes_file */
    struct classifier *classifier; /* once somebody asked for it */
    const char *path;

    /* Where each value came from, by index of the option table; and the memory of it all.
     */
    unsigned *lines;
    unsigned *columns;
    struct arena arena;
};

enum { CONFIG_PROBLEMS_MAX = 100 };

struct config_problem {
    unsigned line; /* 0: of the file as a whole */
    unsigned column;
    bool is_warning; /* the file can be used all the same */
    char text[400];
    char file[256]; /* "": the one that was to be read; else one that it names */
};

struct config_problems {
    struct config_problem items[CONFIG_PROBLEMS_MAX];
    size_t count;
    size_t left_out; /* more than the maximum */
};

/* Blocking (start, command line, or the file pool). NULL when there is any problem. */
struct config *config_load(const char *path, struct config_problems *problems);
struct config *config_load_text(struct slice text, const char *name,
                                struct config_problems *problems);
/* Where the data is, of a file that may have errors elsewhere: commands to a running server
 * work while its file is being mended. NULL: nobody can tell. The caller's, memory_free(). */
char *config_data_dir(const char *path);
void config_free(struct config *config); /* wipes secrets; NULL is fine */
size_t config_problems_errors(const struct config_problems *problems); /* no warnings */
/* "FILE:LINE:COLUMN: text\n" for each. */
void config_problems_print(const struct config_problems *problems, const char *path,
                           struct bytes *into);
/* The same as a list in JSON. */
void config_problems_print_json(const struct config_problems *problems, const char *path,
                                struct bytes *into);

/* Every value with the line it comes from, secrets masked, as TOML with comments. */
enum result MUST_CHECK config_print_effective(const struct config *config, const char *path,
                                              struct bytes *into);
/* Calls `each` for every option (or repeated table) that differs. */
typedef void config_change_fn(void *owner, const char *key, const char *before,
                              const char *after, bool needs_restart);
void config_compare(const struct config *before, const struct config *after,
                    config_change_fn *each, void *owner);

/* Generated files: smtpd.toml.example and docs/configuration.md. */
enum result MUST_CHECK config_document_example(struct bytes *into);
enum result MUST_CHECK config_document_manual(struct bytes *into);
/* The shipped [[destination]] blocks, as they are compiled in. */
enum result MUST_CHECK config_document_destinations(struct bytes *into);

/* The rooms' settings. Texts and lists live as long as the config; arrays made here come
 * from its arena. */
void config_receive(struct config *config, struct receive_settings *settings);
void config_limits(const struct config *config, struct limits_settings *settings);
void config_auth(const struct config *config, struct auth_settings *settings);
void config_screen(struct config *config, struct screen_settings *settings);
void config_pressure(const struct config *config, struct pressure_settings *settings);
void config_suppression(const struct config *config, struct suppression_settings *settings);
void config_rate(const struct config *config, struct rate_settings *settings);
void config_access(struct config *config, struct access_settings *settings);
void config_queue(const struct config *config, struct queue_settings *settings);
void config_tls(const struct config *config, struct tls_settings *settings);
void config_tls_server(const struct config *config, struct tls_server_settings *settings);
void config_resolver(const struct config *config, struct resolver_settings *settings);
void config_deliver(struct config *config, struct deliver_settings *settings);
/* The rules of failures: [[class]], then those of delivery.classes_file or the shipped ones. The
 * config's. */
struct classifier *config_classifier(struct config *config);
/* Of no file: the defaults alone, for what asks for no more. */
struct config *config_defaults(void);
void config_sign(struct config *config, struct sign_settings *settings);
void config_local(struct config *config, struct local_settings *settings);
void config_log(const struct config *config, struct log_settings *settings);

#endif
