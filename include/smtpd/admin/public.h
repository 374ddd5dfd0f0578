/* The TCP listeners of [admin] listen: /livez, /readyz, /startupz and /metrics, for
 * everybody who reaches them.
 *
 * Owns      the listening sockets and what is connected to them.
 * Promises  nothing else can be asked here. At most 64 connections a listener and 32 an
 *           address, each for one request and at most about ten seconds.
 * Ignores   commands: those go over the control socket (admin.h).
 */
#ifndef SMTPD_ADMIN_PUBLIC_H
#define SMTPD_ADMIN_PUBLIC_H

#include "smtpd/admin/admin.h"
#include "smtpd/base/ip.h"

struct admin_public;

struct admin_public *admin_public_new(void);
/* Binds those that are not open yet; nothing else changes. All or nothing. */
enum result MUST_CHECK admin_public_bind(struct admin_public *open,
                                         const struct endpoint *endpoints, size_t count,
                                         struct fault *fault);
void admin_public_forget_new(struct admin_public *open); /* bound, never applied */
/* Starts new ones, closes those that are not named. */
void admin_public_apply(struct admin_public *open, struct admin *admin,
                        const struct endpoint *endpoints, size_t count);
void admin_public_close(struct admin_public *open); /* before the admin; NULL is fine */

#endif
