/* An address that answers no SYN: a listener whose queue is full. */
#ifndef SMTPD_TESTS_NET_BLACK_HOLE_H
#define SMTPD_TESTS_NET_BLACK_HOLE_H

#include "test.h"

#include "inner.h"

#include <sys/socket.h>
#include <unistd.h>

enum { BLACK_HOLE_FILLERS = 4 };

struct black_hole {
    struct endpoint endpoint;
    int listener;
    int fillers[BLACK_HOLE_FILLERS];
};

static inline void black_hole_open(struct black_hole *hole, const char *address)
{
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    struct endpoint any = {.port = 0};

    assert_int_equal(ip_parse(slice_of(address), &any.ip), RESULT_OK);
    endpoint_to_sockaddr(&any, &bound);
    hole->listener = socket(bound.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(hole->listener, (struct sockaddr *)&bound, length), 0);
    assert_int_equal(listen(hole->listener, 0), 0);
    assert_int_equal(getsockname(hole->listener, (struct sockaddr *)&bound, &length), 0);
    endpoint_from_sockaddr(&bound, &hole->endpoint);
    for (int i = 0; i < BLACK_HOLE_FILLERS; i++) {
        hole->fillers[i] =
            socket(bound.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(hole->fillers[i], (struct sockaddr *)&bound, length);
    }
}

static inline void black_hole_close(struct black_hole *hole)
{
    for (int i = 0; i < BLACK_HOLE_FILLERS; i++)
        (void)close(hole->fillers[i]);
    (void)close(hole->listener);
}

#endif
