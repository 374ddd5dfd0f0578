/* The types of options: each one struct of three functions. The file, the defaults and the
 * bounds are all read by the same parser, so the manual prints exactly what a user may
 * type. */
#ifndef SMTPD_CONFIG_TYPE_H
#define SMTPD_CONFIG_TYPE_H

#include "smtpd/base/arena.h"
#include "smtpd/config/config.h"

struct option;

struct type_context {
    struct arena *arena;
    const struct option *option; /* choices */
    char wrong[240]; /* after a failure: what is wrong and what would be right */
};

struct option_type {
    const char *name; /* in the manual: "duration" */
    const char *how;  /* in the manual: how it is written */
    size_t value_bytes;
    bool is_quoted; /* a string in the file */
    enum result (*parse)(struct type_context *context, struct slice text, void *value);
    void (*print)(const struct option *option, const void *value,
                  struct bytes *into);            /* bare */
    int (*compare)(const void *a, const void *b); /* NULL: no order, no bounds */
};

extern const struct option_type type_bool;
extern const struct option_type type_count;
extern const struct option_type type_weight; /* int, also below 0 */
extern const struct option_type type_size;
extern const struct option_type type_size_or_auto;    /* 0: "auto" */
extern const struct option_type type_duration;        /* int64_t ms */
extern const struct option_type type_duration_or_off; /* 0: "off" */
extern const struct option_type type_text;            /* const char * */
extern const struct option_type type_path;
extern const struct option_type type_mailbox;
extern const struct option_type type_field_name; /* const char * */
extern const struct option_type type_field;
extern const struct option_type type_domain;
extern const struct option_type type_pattern;
extern const struct option_type type_host;
extern const struct option_type type_choice; /* int: index into option->choices */
extern const struct option_type type_endpoint;
extern const struct option_type type_dns_server;
extern const struct option_type type_network;
extern const struct option_type type_reply_code; /* const char *, these three */
extern const struct option_type type_reply_status;
extern const struct option_type type_reply_text;
extern const struct option_type type_rate;        /* struct quota */
extern const struct option_type type_rate_or_off; /* count 0: "off" */

#endif
