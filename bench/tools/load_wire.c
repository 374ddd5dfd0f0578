/* One connection of the load client: bytes, TLS, replies. OpenSSL does the TLS: it is not the
 * library that smtpd uses, and its handshakes cost a third of that one's. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD = 16384 };

static int ticket_index; /* where an SSL keeps the place of its owner's ticket */

/* ---- what all share ---- */

/* Takes the session: 1. In TLS 1.3 it comes behind the handshake. */
static int on_ticket(SSL *ssl, SSL_SESSION *made)
{
    SSL_SESSION **place = SSL_get_ex_data(ssl, ticket_index);

    if (!place)
        return 0;
    SSL_SESSION_free(*place);
    *place = made;
    return 1;
}

void client_init(struct client *client, const struct options *options)
{
    client->options = options;
    client->epoll = epoll_create1(EPOLL_CLOEXEC);
    MUST(client->epoll >= 0, "no epoll");
    if (options->tls == LOAD_CLEAR)
        return;
    client->tls = SSL_CTX_new(TLS_client_method());
    MUST(client->tls, "OpenSSL cannot be set up");
    /* Certificates of benchmarks are their own: checking them is no part of the work. */
    SSL_CTX_set_verify(client->tls, SSL_VERIFY_NONE, NULL);
    (void)SSL_CTX_set_mode(client->tls, SSL_MODE_RELEASE_BUFFERS);
    MUST(SSL_CTX_set1_groups_list(client->tls, options->groups) == 1, "no such --groups");
    if (options->tls_version)
        MUST(SSL_CTX_set_min_proto_version(client->tls, options->tls_version) == 1 &&
                 SSL_CTX_set_max_proto_version(client->tls, options->tls_version) == 1,
             "no such --tls-version");
    ticket_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (options->resumes) {
        (void)SSL_CTX_set_session_cache_mode(client->tls, SSL_SESS_CACHE_CLIENT |
                                                              SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(client->tls, on_ticket);
    }
}

/* ---- the connection ---- */

void wire_watch(struct wire *wire, struct client *client, void *owner, bool writes)
{
    struct epoll_event event = {.events = EPOLLIN | (writes ? (uint32_t)EPOLLOUT : 0)};

    if (wire->waits_to_write == writes)
        return;
    event.data.ptr = owner;
    MUST(epoll_ctl(client->epoll, EPOLL_CTL_MOD, wire->descriptor, &event) == 0,
         "epoll_ctl");
    wire->waits_to_write = writes;
}

/* Each address of ours in turn, all of them in 127/8. */
static bool bind_source(int descriptor, const struct client *client)
{
    struct sockaddr_in source = {.sin_family = AF_INET};
    uint32_t turn;
    int one = 1;

    if (client->options->sources == 0)
        return true;
    turn = (uint32_t)(client->connections % client->options->sources);
    source.sin_addr.s_addr = htonl(0x7f010000u + (turn / 250) * 256 + turn % 250 + 1);
    /* The port is chosen at the connect, when the whole pair of addresses is known. */
    (void)setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    return bind(descriptor, (struct sockaddr *)&source, sizeof source) == 0;
}

enum wire_state wire_connect(struct wire *wire, struct client *client, void *owner)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)client->options->port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
    int one = 1;

    MUST(inet_pton(AF_INET, client->options->host, &to.sin_addr) == 1,
         "--host wants an IPv4 address");
    wire->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire->descriptor < 0)
        return WIRE_BROKEN;
    wire->ssl = NULL;
    wire->piece = WIRE_PIECES;
    wire->input_length = 0;
    (void)setsockopt(wire->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!bind_source(wire->descriptor, client) ||
        (connect(wire->descriptor, (struct sockaddr *)&to, sizeof to) != 0 &&
         errno != EINPROGRESS)) {
        (void)close(wire->descriptor);
        wire->descriptor = -1;
        return WIRE_BROKEN;
    }
    client->connections++;
    event.data.ptr = owner;
    wire->waits_to_write = true;
    MUST(epoll_ctl(client->epoll, EPOLL_CTL_ADD, wire->descriptor, &event) == 0,
         "epoll_ctl");
    return WIRE_AGAIN;
}

bool wire_is_connected(const struct wire *wire)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (getsockopt(wire->descriptor, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error) {
        errno = error;
        return false;
    }
    return true;
}

void wire_close(struct wire *wire, struct client *client)
{
    (void)client;
    if (wire->ssl) {
        /* Or OpenSSL takes the session for a bad one and resumes it no more. */
        SSL_set_shutdown(wire->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(wire->ssl);
    }
    wire->ssl = NULL;
    if (wire->descriptor >= 0)
        (void)close(wire->descriptor);
    wire->descriptor = -1;
}

/* ---- TLS ---- */

void wire_secure(struct wire *wire, struct client *client, SSL_SESSION **ticket)
{
    wire->ssl = SSL_new(client->tls);
    MUST(wire->ssl && SSL_set_fd(wire->ssl, wire->descriptor) == 1,
         "OpenSSL: no connection");
    wire->input_length = 0;
    (void)SSL_set_ex_data(wire->ssl, ticket_index, ticket);
    if (ticket && *ticket)
        (void)SSL_set_session(wire->ssl, *ticket);
    SSL_set_connect_state(wire->ssl);
}

/* `length` is below 1 for a fault or for a wait. */
static enum wire_state judge(const struct wire *wire, int length)
{
    switch (SSL_get_error(wire->ssl, length)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return WIRE_AGAIN;
    default:
        return WIRE_BROKEN;
    }
}

static void note_tls(struct client *client, SSL *ssl)
{
    EVP_PKEY *key = NULL;

    client->handshakes++;
    client->resumed += SSL_session_reused(ssl) == 1;
    if (client->tls_text[0])
        return;
    (void)SSL_get_peer_tmp_key(ssl, &key);
    (void)snprintf(client->tls_text, sizeof client->tls_text, "%s %s %s",
                   SSL_get_version(ssl), SSL_get_cipher_name(ssl),
                   key ? EVP_PKEY_get0_type_name(key) : "-");
    EVP_PKEY_free(key);
}

enum wire_state wire_handshake(struct wire *wire, struct client *client)
{
    int done;

    ERR_clear_error();
    done = SSL_do_handshake(wire->ssl);
    if (done == 1) {
        note_tls(client, wire->ssl);
        return WIRE_DONE;
    }
    return judge(wire, done);
}

/* ---- bytes ---- */

static void drop_sent(struct wire *wire, size_t sent)
{
    while (wire->piece < WIRE_PIECES) {
        struct iovec *piece = &wire->pieces[wire->piece];

        if (sent < piece->iov_len) {
            piece->iov_base = (char *)piece->iov_base + sent;
            piece->iov_len -= sent;
            return;
        }
        sent -= piece->iov_len;
        piece->iov_len = 0;
        wire->piece++;
    }
}

static enum wire_state send_plain(struct wire *wire)
{
    struct msghdr message = {.msg_iov = wire->pieces + wire->piece,
                             .msg_iovlen = WIRE_PIECES - wire->piece};
    ssize_t sent = sendmsg(wire->descriptor, &message, MSG_NOSIGNAL);

    if (sent < 0)
        return errno == EAGAIN ? WIRE_AGAIN : WIRE_BROKEN;
    drop_sent(wire, (size_t)sent);
    return WIRE_DONE;
}

/* One record of what waits: small pieces leave together. A write that has to wait is repeated
 * with the same bytes, as OpenSSL wants it. */
static enum wire_state send_record(struct wire *wire)
{
    static char record[RECORD];
    size_t length = 0;
    int sent;

    for (size_t i = wire->piece; i < WIRE_PIECES && length < RECORD; i++) {
        size_t part = wire->pieces[i].iov_len;

        if (part > RECORD - length)
            part = RECORD - length;
        memcpy(record + length, wire->pieces[i].iov_base, part);
        length += part;
    }
    ERR_clear_error();
    sent = SSL_write(wire->ssl, record, (int)length);
    if (sent <= 0)
        return judge(wire, sent);
    drop_sent(wire, (size_t)sent);
    return WIRE_DONE;
}

enum wire_state wire_send(struct wire *wire, struct client *client, void *owner)
{
    enum wire_state state = WIRE_DONE;

    while (wire->piece < WIRE_PIECES && state == WIRE_DONE)
        state = wire->ssl ? send_record(wire) : send_plain(wire);
    if (state != WIRE_BROKEN)
        wire_watch(wire, client, owner, state == WIRE_AGAIN);
    return state;
}

enum wire_state wire_receive(struct wire *wire)
{
    char *into = wire->input + wire->input_length;
    size_t most = WIRE_INPUT - wire->input_length;
    ssize_t got;

    if (most == 0)
        return WIRE_BROKEN; /* no reply is as long */
    if (wire->ssl) {
        ERR_clear_error();
        got = SSL_read(wire->ssl, into, (int)most);
        if (got <= 0)
            return judge(wire, (int)got);
    } else {
        got = recv(wire->descriptor, into, most, 0);
        if (got <= 0)
            return got < 0 && errno == EAGAIN ? WIRE_AGAIN : WIRE_BROKEN;
    }
    wire->input_length += (size_t)got;
    return WIRE_DONE;
}

/* ---- replies ---- */

static void take_input(struct wire *wire, size_t length)
{
    wire->input_length -= length;
    memmove(wire->input, wire->input + length, wire->input_length);
}

int wire_reply(struct wire *wire, char *text, size_t text_bytes)
{
    char *at = wire->input;
    char *end = wire->input + wire->input_length;
    bool saw_pipelining = false;
    char *feed;

    while ((feed = memchr(at, '\n', (size_t)(end - at)))) {
        if (feed - at < 4)
            return -1;
        if (feed - at >= 14 && memcmp(at + 4, "PIPELINING", 10) == 0)
            saw_pipelining = true;
        if (at[3] != '-') {
            int code = (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');

            (void)snprintf(text, text_bytes, "%.*s", (int)(feed - at - 1), at);
            wire->saw_pipelining = saw_pipelining;
            take_input(wire, (size_t)(feed + 1 - wire->input));
            return code >= 200 && code < 600 ? code : -1;
        }
        at = feed + 1;
    }
    return 0;
}
