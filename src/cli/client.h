/* One request to the server and its JSON answer. */
#ifndef SMTPD_CLI_CLIENT_H
#define SMTPD_CLI_CLIENT_H

#include "smtpd/base/bytes.h"
#include "smtpd/cli/cli.h"

#include <jansson.h>

/* CLI_DONE: *answer is the caller's. Else what went wrong was written to stderr. `body` may
 * be NULL (GET). */
int client_ask(const struct cli_context *context, const char *path, const json_t *body,
               json_t **answer);
/* The text of an answer, whatever its status. Waits for five seconds at most. */
enum { CLIENT_PROBE_MAX = 8 << 20 };
int client_probe(const struct cli_context *context, const char *path, struct bytes *text,
                 unsigned *status);
/* Copies the answer to stdout as it comes. */
int client_copy(const struct cli_context *context, const char *path);
/* Appends `text` to a query, percent-encoded (RFC 3986 2.1). */
enum result client_add_encoded(struct bytes *into, const char *text);

/* Somebody listens on the socket; nothing is printed. */
bool client_answers(const struct cli_context *context);

#endif
