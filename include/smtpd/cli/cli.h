/* Commands to a running server, over its control socket (docs/control.md), those on the queue of
 * a stopped one, those on DKIM keys, and what rules make of replies.
 *
 * Promises  exit codes 0 done, 1 failed, 2 usage, 3 the server does not run. Columns and
 *           colour on a terminal, plain columns into a pipe, JSON with --json. Blocking:
 *           this is a process of its own.
 */
#ifndef SMTPD_CLI_CLI_H
#define SMTPD_CLI_CLI_H

#include "smtpd/deliver/classify.h"
#include "smtpd/net/resolver.h"
#include "smtpd/queue/queue.h"
#include "smtpd/sign/keys.h"
#include <stdbool.h>
#include <stddef.h>

enum { CLI_DONE, CLI_FAILED, CLI_USAGE, CLI_NOT_RUNNING };

struct cli_context {
    const char *socket_path;
    bool wants_json;
    const char *data_dir; /* for what works on the folder itself; else NULL */
    /* For what moves messages while no server runs; else NULL. */
    const struct queue_settings *queue;
    const char *server_user; /* or NULL */
};

/* argv[0] is the first word behind "smtpd status" or "smtpd queue". */
int cli_status(const struct cli_context *context, int argc, char **argv);
/* What SIGHUP would change with this file (text). */
int cli_compare(const struct cli_context *context, const char *text, size_t length);
/* Exit codes 0 and 1 only, also when no server runs. */
int cli_health(const struct cli_context *context, int argc, char **argv);

struct cli_dkim {
    const struct sign_settings *signing; /* NULL: there is no configuration */
    const struct resolver_settings *resolver;
    bool wants_json;
};
/* Keys and their records: without a server. argv[0] is the word behind "smtpd dkim". */
int cli_dkim(const struct cli_dkim *context, int argc, char **argv);
int cli_queue(const struct cli_context *context, int argc, char **argv);
int cli_explain(const struct cli_context *context, int argc, char **argv);
int cli_destination(const struct cli_context *context, int argc, char **argv);
int cli_destination_help(bool was_asked); /* else on standard error, exit code 2 */
int cli_suppression(const struct cli_context *context, int argc, char **argv);
int cli_suppression_help(bool was_asked); /* else on standard error, exit code 2 */
int cli_tls_report(const struct cli_context *context, int argc, char **argv);
int cli_tls_report_help(bool was_asked); /* else on standard error, exit code 2 */
/* What the rules make of the replies in argv or on standard input; no server is asked. */
int cli_classify(const struct cli_context *context, const struct classifier *classifier,
                 int argc, char **argv);
/* Works on the users file; no server is asked. */
struct cli_users {
    const char *path;
    const char *server_user; /* must be able to read it; NULL: whoever starts the server */
};
int cli_user(const struct cli_context *context, const struct cli_users *file, int argc,
             char **argv);
int cli_user_help(bool was_asked); /* else on standard error, exit code 2 */

#endif
