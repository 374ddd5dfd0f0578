/* The process: builds the rooms in order, wires them, reloads, drains, stops.
 *
 * Owns      everything, from start to end.
 * Promises  SIGHUP applies all of the file or nothing, without dropping a session.
 *           SIGTERM: listeners closed, sessions told at their next idle point,
 *           transactions and deliveries in hand finish within the grace period, queue
 *           synced, exit 0. A second SIGTERM goes straight to the commit.
 */
#ifndef SMTPD_SERVER_SERVER_H
#define SMTPD_SERVER_SERVER_H

#include "smtpd/config/config.h"

#define SERVER_VERSION "0.1.0"

/* Runs until told to stop. Takes the config. The exit code: 0, or 1 after a line on stderr.
 */
int server_run(struct config *config, const char *config_path);
/* What can be checked without starting: certificates, keys, CA file, users file, and, by reading it
 * a second time, that server.user may read the configuration at `path` and what it names. Problems
 * are added to the list. The process goes on as server.user. */
void server_check(struct config *config, const char *path,
                  struct config_problems *problems);
/* Prints a generated page: example, manual, verbs, metrics. RESULT_NOT_FOUND: no such page. */
enum result MUST_CHECK server_document(const char *page);

#endif
