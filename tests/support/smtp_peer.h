/* A next hop for tests, on loopback, on the loop of the test. Each connection that it accepts plays
 * one script, in the order in which they were given:
 *
 *   S: 250 ok            a line of ours; those in a row leave as one packet
 *   C: MAIL FROM:<*>*    a line that must come; * stands for anything
 *   C: <data>            lines up to the lone dot
 *   C: <nothing>         nothing stands behind what was read: the client does not run ahead
 *   C: <closed>          the client ends the connection
 *   C: <rest>            whatever comes, then the end
 *   S: <close>           we end it; S: <abort> at once
 *   S: <tls>             the handshake, behind the line before
 *   S: <hold>            the script goes on at smtp_peer_go()
 *   S: <deaf>            nothing more is read, down to full buffers of the kernel, until
 *   S: <listen>
 *   S: <flood>           more continuation lines than a reply may have
 *   S: <serve>           from here on every message is taken
 *
 * Behind the end of a script QUIT may come, nothing else. Whatever is unexpected is kept as the
 * complaint: the first one. A connection without a script is a complaint too, unless the peer
 * serves. */
#ifndef SMTPD_TESTS_SMTP_PEER_H
#define SMTPD_TESTS_SMTP_PEER_H

#include "smtpd/net/listener.h"

enum { SMTP_PEER_SCRIPTS = 16, SMTP_PEER_COMPLAINT = 512 };

struct smtp_peer {
    struct net *net;
    struct listener *listener;
    struct endpoint endpoint;
    struct tls_server *borrowed_tls;
    const char *scripts[SMTP_PEER_SCRIPTS];
    size_t script_count;
    bool serves; /* without a script */
    struct list connections;
    unsigned accepted;
    unsigned open;
    unsigned most_open;
    unsigned held;
    unsigned messages;       /* that were answered 250, in <serve> */
    struct bytes recipients; /* of these: "a@b.test;c@d.test;" */
    struct bytes data;       /* of the last message, still stuffed, LF */
    char complaint[SMTP_PEER_COMPLAINT];
};

/* False: the port is taken. Port 0: any. */
bool smtp_peer_open(struct smtp_peer *peer, struct net *net, const char *address,
                    uint16_t port);
void smtp_peer_close(struct smtp_peer *peer);
void smtp_peer_play(struct smtp_peer *peer, const char *script); /* the next connection */
void smtp_peer_go(struct smtp_peer *peer);                       /* all that hold */

#endif
