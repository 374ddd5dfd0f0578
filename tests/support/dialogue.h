/* Plays a scripted SMTP conversation against something live: a server (we are "C:") or a
 * client (we are "S:", "say" = 'S').
 *
 *   C: EHLO client.test        a line; consecutive lines of ours leave as one packet
 *   C> half a li               bytes as they stand, no line end (\r \n \0 \t \\ \xNN are read)
 *   S: 250 2.1.0 *             a line that must come; * stands for anything
 *   S: 250-SIZE *              a continuation line; those before it are skipped
 *   S: <closed>                the other side ends the connection
 *   S: <silence>               nothing comes for 50 ms
 *   +40ms                      time passes (ms or s)
 *   # a remark
 *
 * A final line ("250 ...") also skips the continuation lines before it. Anything unexpected
 * fails the test with the number of the script's line. At the end nothing may be left
 * unread.
 */
#ifndef SMTPD_TESTS_DIALOGUE_H
#define SMTPD_TESTS_DIALOGUE_H

#include "smtpd/base/bytes.h"
#include "smtpd/loop/loop.h"

struct dialogue_end {
    void (*send)(void *owner, struct slice bytes);
    /* Adds what has come; false: the other side closed and nothing more will come. */
    bool (*receive)(void *owner, struct bytes *into);
    void (*wait)(void *owner, int64_t ms); /* lets the other side run */
    void *owner;
};

struct dialogue {
    struct dialogue_end end;
    char say; /* 'C' or 'S': which lines are ours */
    struct bytes input;
    struct bytes batch;
    bool is_closed;
    unsigned line;
    char last[1200]; /* the line that matched last */
};

void dialogue_init(struct dialogue *dialogue, char say, const struct dialogue_end *end);
void dialogue_fini(struct dialogue *dialogue);
void dialogue_play(struct dialogue *dialogue, const char *script);
/* Sends bytes that a script cannot hold. */
void dialogue_send(struct dialogue *dialogue, struct slice bytes);
bool dialogue_matches(const char *pattern, const char *text);

/* Over a socket (not blocking is set here); the loop runs while it waits. */
struct dialogue_socket {
    struct loop *loop;
    int fd;
};
struct dialogue_end dialogue_over_socket(struct dialogue_socket *socket);

#endif
