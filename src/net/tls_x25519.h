/* X25519 by libsodium instead of mbedTLS, for every handshake of both directions: an exchange
 * costs 0.05 ms of CPU and not 0.8 (docs/decisions/005-handshakes.md). Nothing calls this
 * room's function: the linker leads the library's calls of mbedtls_ecp_mul() here
 * (SMTPD_X25519 in CMakeLists.txt), and those for other curves go on to the library.
 */
#ifndef SMTPD_NET_TLS_X25519_H
#define SMTPD_NET_TLS_X25519_H

#include <stdbool.h>

/* Whether an exchange by way of the library gives the known answer: at start. */
bool tls_x25519_is_right(void);

#endif
