/* The inside of struct net, for the files of this room. */
#ifndef SMTPD_NET_INNER_H
#define SMTPD_NET_INNER_H

#include "smtpd/base/list.h"
#include "smtpd/base/map.h"
#include "smtpd/net/proxy_protocol.h"
#include "smtpd/net/stream.h"

#include <uv.h>

enum { NET_READ_BUFFER = 65536, NET_SPARES = 64 };

struct net {
    struct loop *loop;
    struct offload *offload;
    uv_loop_t *uv;
    struct tls_settings tls;
    struct map *handshakes_by_address; /* struct handshake_count */
    struct net_statistics statistics;
    struct list streams; /* every handle that libuv still holds */
    /* One for all streams: libuv fills it and calls back before anybody else can. */
    char read_buffer[NET_READ_BUFFER];
    /* What streams wrote into and no longer need: an idle stream holds nothing, and the next
     * one that writes allocates nothing. */
    struct bytes spares[NET_SPARES];
    unsigned spare_count;
};

/* socket.c */
void endpoint_to_sockaddr(const struct endpoint *endpoint,
                          struct sockaddr_storage *address);
void endpoint_from_sockaddr(const struct sockaddr_storage *address,
                            struct endpoint *endpoint);
enum result result_of_uv(int status);
/* A descriptor for an outgoing connection from this address; below 0: the error, as libuv's. */
int socket_bound_to(const struct ip *source);

/* stream.c: a new stream around a connected or to be connected handle. */
struct stream *stream_new(struct net *net);
uv_tcp_t *stream_tcp(struct stream *stream);
void stream_connected(struct stream *stream); /* reads the endpoints, sets options */
/* Behind a balancer: the endpoints are those that its header names. */
void stream_set_client(struct stream *stream, const struct proxy_header *header);

#endif
