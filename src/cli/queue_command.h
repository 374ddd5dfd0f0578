/* What the files of `smtpd queue` share. */
#ifndef SMTPD_CLI_QUEUE_COMMAND_H
#define SMTPD_CLI_QUEUE_COMMAND_H

#include "smtpd/base/bytes.h"
#include "smtpd/cli/cli.h"
#include "smtpd/mail/envelope.h"
#include "smtpd/queue/selection.h"

#include <jansson.h>

enum { QUEUE_BATCH = 1000, QUEUE_PATH_MAX = 8192 };
extern const char queue_usage[];

struct command {
    const struct cli_context *context;
    struct bytes query; /* "&domain=..." */
    const char *ids[QUEUE_BATCH];
    size_t id_count;
    bool has_selection;
    bool has_state; /* --state is part of it */
    bool is_told;   /* what is wrong with the words */
    bool is_dry_run;
    bool wants_summary;
    const char *part;           /* "headers" or "message" */
    uint64_t limit;             /* 0: none given */
    int64_t until_ms;           /* wall; 0: none given */
    const char *reason;         /* or NULL */
    const char *route;          /* of reroute, "own" for none; or NULL */
    const char *directory;      /* of verify, export, import; or NULL */
    struct selection selection; /* the same as `query`, for where no server runs */
};

struct pager {
    const struct command *command;
    char first[ID_TEXT];
    int64_t group;
    bool is_rebuilding;
};
void pager_init(struct pager *pager, const struct command *command);
/* One page into *items (the caller's). *has_more: call again. */
int pager_next(struct pager *pager, size_t limit, json_t **items, bool *has_more);

int64_t queue_now_ms(void); /* wall */

/* queue_change.c: retry, hold, release, bounce, reroute, remove. */
bool queue_is_change(const char *word);
int queue_change(struct command *command, const char *change);

/* The ids of what was named, or selected, by message. */
int queue_collect_ids(const struct command *command, json_t *ids);

/* queue_move.c: export, from a running server or a stopped one; import. */
int queue_export_command(const struct command *command);
int queue_import_command(const struct command *command);

/* queue_repair.c: verify, compact; no server is asked. */
int queue_verify_command(const struct command *command);
int queue_compact_command(const struct command *command);

#endif
