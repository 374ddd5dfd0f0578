/* See fake_dns.h. Trusting code: its peers are our own tests. */
#include "fake_dns.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TC = 0x02, QR = 0x80, AD = 0x20, HEADER = 12 };

struct pending {
    struct link link;
    struct sockaddr_in from;
    size_t length;
    uint8_t query[512];
};

struct connection {
    struct link link;
    struct fake_dns *fake;
    int fd;
    struct watch *watch;
    struct timer timer;
    size_t got;
    size_t sent;
    size_t length;
    uint8_t query[1024];
    uint8_t answer[2 + FAKE_DNS_PACKET];
};

struct fake_dns {
    struct loop *loop;
    const struct fake_dns_row *rows;
    size_t row_count;
    int udp;
    int tcp;
    struct watch *udp_watch;
    struct watch *tcp_watch;
    struct timer timer;
    int64_t delay_ms;
    struct endpoint endpoint;
    struct list pending;
    struct list connections;
    unsigned udp_count;
    unsigned tcp_count;
    unsigned most_pending;
};

/* ---- answers ---- */

static uint8_t *put16(uint8_t *at, unsigned value)
{
    *at++ = (uint8_t)(value >> 8);
    *at++ = (uint8_t)value;
    return at;
}

/* The byte at *text, which may be written \DDD. */
static uint8_t next_byte(const char **text)
{
    const char *at = *text;

    if (*at != '\\') {
        (*text)++;
        return (uint8_t)*at;
    }
    *text += 4;
    return (uint8_t)((at[1] - '0') * 100 + (at[2] - '0') * 10 + at[3] - '0');
}

/* "a.b" (or "" or "."). */
static uint8_t *put_name(uint8_t *at, const char *name, size_t length)
{
    const char *end = name + length;

    while (name < end && *name != '.') {
        uint8_t *count = at++;

        while (name < end && *name != '.')
            *at++ = next_byte(&name);
        *count = (uint8_t)(at - count - 1);
        if (name < end)
            name++;
    }
    *at++ = 0;
    return at;
}

/* "3 1 1 0123abcd" */
static uint8_t *put_tlsa(uint8_t *at, const char *text, size_t length)
{
    const char *end = text + length;
    char *rest;

    for (int i = 0; i < 3; i++) {
        *at++ = (uint8_t)strtoul(text, &rest, 10);
        text = rest + (rest < end);
    }
    for (; text + 1 < end; text += 2) {
        char byte[3] = {text[0], text[1], '\0'};

        *at++ = (uint8_t)strtoul(byte, NULL, 16);
    }
    return at;
}

static uint8_t *put_data(uint8_t *at, unsigned type, const char *text, size_t length)
{
    char copy[64] = "";

    if (type == 1 || type == 28) {
        memcpy(copy, text, length);
        CHECK(inet_pton(type == 1 ? AF_INET : AF_INET6, copy, at) == 1);
        return at + (type == 1 ? 4 : 16);
    }
    if (type == 16) {
        const char *end = text + length;

        for (;; text++) {
            uint8_t *count = at++;

            while (text < end && *text != '|')
                *at++ = next_byte(&text);
            *count = (uint8_t)(at - count - 1);
            if (text == end)
                return at;
        }
    }
    if (type == 52)
        return put_tlsa(at, text, length);
    if (type == 15) {
        char *rest;
        unsigned long preference = strtoul(text, &rest, 10);

        at = put16(at, (unsigned)preference);
        rest++; /* blank */
        return put_name(at, rest, (size_t)(text + length - rest));
    }
    return put_name(at, text, length);
}

static unsigned type_of(const char *text)
{
    static const struct {
        const char *name;
        unsigned type;
    } types[] = {{"A ", 1},    {"CNAME ", 5}, {"PTR ", 12}, {"MX ", 15},
                 {"TXT ", 16}, {"AAAA ", 28}, {"TLSA ", 52}};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strncmp(text, types[i].name, strlen(types[i].name)) == 0)
            return types[i].type;
    check_failed(__FILE__, __LINE__, "a known type");
}

struct owner {
    uint8_t name[255];
    size_t length;
};

static uint8_t *put_record(uint8_t *at, struct owner *owner, uint32_t ttl_s,
                           const char *text, size_t length)
{
    unsigned type = type_of(text);
    const char *data = strchr(text, ' ') + 1;
    uint8_t *data_length;

    memcpy(at, owner->name, owner->length);
    at = put16(at + owner->length, type);
    at = put16(at, 1);
    at = put16(at, ttl_s >> 16);
    at = put16(at, ttl_s & 0xffff);
    data_length = at;
    at = put_data(at + 2, type, data, (size_t)(text + length - data));
    (void)put16(data_length, (unsigned)(at - data_length - 2));
    if (type == 5) {
        owner->length = (size_t)(at - data_length - 2);
        memcpy(owner->name, data_length + 2, owner->length);
    }
    return at;
}

static size_t question_bytes(const uint8_t *query)
{
    size_t at = HEADER;

    while (query[at])
        at += 1U + query[at];
    return at + 1 - HEADER;
}

size_t fake_dns_answer(const struct fake_dns_row *row, const uint8_t *query,
                       size_t query_bytes, uint8_t packet[FAKE_DNS_PACKET])
{
    /* Compressed: the owner is the question's name. */
    struct owner owner = {{0xc0, HEADER}, 2};
    size_t name_bytes = question_bytes(query);
    uint8_t *at = packet + HEADER + name_bytes + 4;
    const char *record = row->records;
    unsigned count = 0;

    CHECK(query_bytes >= HEADER + name_bytes + 4);
    memcpy(packet, query, HEADER + name_bytes + 4);
    packet[2] |= QR;
    packet[3] = (uint8_t)(row->rcode | (row->is_authentic ? AD : 0));
    while (record && *record) {
        size_t length = strcspn(record, ";");

        at = put_record(at, &owner, row->ttl_s, record, length);
        record += length + (record[length] == ';');
        count++;
    }
    for (unsigned i = 0; i < row->mx_count; i++) {
        char text[32];

        (void)snprintf(text, sizeof text, "MX 10 mx%u.test", i);
        at = put_record(at, &owner, row->ttl_s, text, strlen(text));
        count++;
    }
    (void)put16(packet + 6, count);
    (void)put16(packet + 8, 0);
    (void)put16(packet + 10, 0);
    return (size_t)(at - packet);
}

static bool name_is(const uint8_t *query, const char *name)
{
    const char *suffix = strncmp(name, "*.", 2) == 0 ? name + 2 : name;
    uint8_t wire[300];
    size_t length = (size_t)(put_name(wire, suffix, strlen(suffix)) - wire);
    size_t asked = question_bytes(query);

    if (strcmp(name, "*") == 0)
        return true;
    return (suffix == name ? asked == length : asked > length) &&
           memcmp(query + HEADER + asked - length, wire, length) == 0;
}

static const struct fake_dns_row *find_row(const struct fake_dns *fake,
                                           const uint8_t *query)
{
    static const struct fake_dns_row none = {.rcode = 3};
    const uint8_t *type = query + HEADER + question_bytes(query);

    for (size_t i = 0; i < fake->row_count; i++) {
        const struct fake_dns_row *row = &fake->rows[i];

        if (name_is(query, row->name) &&
            (row->type == 0 || row->type == ((unsigned)type[0] << 8 | type[1])))
            return row;
    }
    return &none;
}

/* ---- UDP ---- */

static void say_udp(struct fake_dns *fake, const struct pending *pending)
{
    const struct fake_dns_row *row = find_row(fake, pending->query);
    uint8_t *packet = memory_new(FAKE_DNS_PACKET);
    size_t length = fake_dns_answer(row, pending->query, pending->length, packet);
    size_t without_records = HEADER + question_bytes(packet) + 4;
    bool has_edns = pending->query[11] > 0;

    switch (row->manner) {
    case FAKE_DNS_ANSWERS:
        break;
    case FAKE_DNS_IS_SILENT:
        length = 0;
        break;
    case FAKE_DNS_TRUNCATES:
    case FAKE_DNS_CLOSES_TCP:
    case FAKE_DNS_CONFUSES_TCP:
    case FAKE_DNS_IS_SILENT_OVER_TCP:
        packet[2] |= TC;
        packet[7] = 0;
        packet[6] = 0;
        length = without_records;
        break;
    case FAKE_DNS_GARBLES:
        length = without_records + 7;
        break;
    case FAKE_DNS_KNOWS_NO_EDNS:
        if (has_edns) {
            packet[3] = 1;
            packet[7] = 0;
            length = without_records;
        }
        break;
    }
    if (length > 0)
        (void)sendto(fake->udp, packet, length, 0, (const struct sockaddr *)&pending->from,
                     sizeof pending->from);
    memory_free(packet);
}

static void on_answer_time(void *owner)
{
    struct fake_dns *fake = owner;
    struct link *link;

    while ((link = list_pop_front(&fake->pending))) {
        struct pending *pending = CONTAINER_OF(link, struct pending, link);

        say_udp(fake, pending);
        memory_free(pending);
    }
}

static void on_udp(void *owner)
{
    struct fake_dns *fake = owner;

    for (;;) {
        struct pending *pending = NEW(struct pending);
        socklen_t from_bytes = sizeof pending->from;
        ssize_t count =
            recvfrom(fake->udp, pending->query, sizeof pending->query, MSG_DONTWAIT,
                     (struct sockaddr *)&pending->from, &from_bytes);

        if (count < HEADER) {
            memory_free(pending);
            break;
        }
        pending->length = (size_t)count;
        fake->udp_count++;
        list_push_back(&fake->pending, &pending->link);
        if (fake->pending.count > fake->most_pending)
            fake->most_pending = (unsigned)fake->pending.count;
    }
    if (fake->delay_ms == 0)
        on_answer_time(fake);
    else if (fake->pending.count > 0 && !timer_is_waiting(&fake->timer))
        timer_start(&fake->timer, fake->delay_ms);
}

/* ---- TCP ---- */

static void connection_close(struct connection *connection)
{
    timer_cancel(&connection->timer);
    watch_stop(connection->watch);
    (void)close(connection->fd);
    list_remove(&connection->fake->connections, &connection->link);
    memory_free(connection);
}

static void on_second_piece(void *owner)
{
    struct connection *connection = owner;

    (void)send(connection->fd, connection->answer + connection->sent,
               connection->length - connection->sent, MSG_NOSIGNAL);
    connection_close(connection);
}

static void answer_tcp(struct connection *connection)
{
    const struct fake_dns_row *row = find_row(connection->fake, connection->query + 2);
    size_t length = fake_dns_answer(row, connection->query + 2, connection->got - 2,
                                    connection->answer + 2);

    connection->fake->tcp_count++;
    (void)put16(connection->answer, (unsigned)length);
    connection->length = length + 2;
    if (row->manner == FAKE_DNS_IS_SILENT_OVER_TCP)
        return;
    if (row->manner == FAKE_DNS_CLOSES_TCP)
        connection->length = length / 2;
    if (row->manner == FAKE_DNS_CONFUSES_TCP)
        connection->answer[2] ^= 0xff;
    (void)send(connection->fd, connection->answer, 1, MSG_NOSIGNAL);
    connection->sent = 1;
    timer_start(&connection->timer, 3);
}

static void on_tcp_bytes(void *owner)
{
    struct connection *connection = owner;
    ssize_t count = recv(connection->fd, connection->query + connection->got,
                         sizeof connection->query - connection->got, MSG_DONTWAIT);

    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            connection_close(connection);
        return;
    }
    connection->got += (size_t)count;
    if (connection->got > 2 && connection->got == 2U + connection->query[1])
        answer_tcp(connection);
}

static void on_connection(void *owner)
{
    struct fake_dns *fake = owner;
    int fd = accept4(fake->tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *connection;

    if (fd < 0)
        return;
    connection = NEW(struct connection);
    connection->fake = fake;
    connection->fd = fd;
    timer_init(&connection->timer, fake->loop, on_second_piece, connection);
    connection->watch =
        watch_start(fake->loop, fd, WATCH_READABLE, on_tcp_bytes, connection);
    list_push_back(&fake->connections, &connection->link);
}

/* ---- door ---- */

/* UDP and TCP on the same free port: the kernel gives one for UDP, TCP may be taken. */
static void bind_both(struct fake_dns *fake)
{
    for (int i = 0; i < 100; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t in_bytes = sizeof in;

        fake->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        fake->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK(fake->udp >= 0 && fake->tcp >= 0);
        CHECK(bind(fake->udp, (struct sockaddr *)&in, sizeof in) == 0);
        CHECK(getsockname(fake->udp, (struct sockaddr *)&in, &in_bytes) == 0);
        fake->endpoint.ip = ip_from_v4((const uint8_t *)&in.sin_addr);
        fake->endpoint.port = ntohs(in.sin_port);
        if (bind(fake->tcp, (struct sockaddr *)&in, sizeof in) == 0 &&
            listen(fake->tcp, 128) == 0)
            return;
        (void)close(fake->udp);
        (void)close(fake->tcp);
    }
    check_failed(__FILE__, __LINE__, "a free port");
}

struct fake_dns *fake_dns_open(struct loop *loop, const struct fake_dns_row *rows,
                               size_t count)
{
    struct fake_dns *fake = NEW(struct fake_dns);
    int buffer_bytes = 1 << 20;

    fake->loop = loop;
    fake->rows = rows;
    fake->row_count = count;
    list_init(&fake->pending);
    list_init(&fake->connections);
    timer_init(&fake->timer, loop, on_answer_time, fake);
    bind_both(fake);
    (void)setsockopt(fake->udp, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    fake->udp_watch = watch_start(loop, fake->udp, WATCH_READABLE, on_udp, fake);
    fake->tcp_watch = watch_start(loop, fake->tcp, WATCH_READABLE, on_connection, fake);
    return fake;
}

void fake_dns_close(struct fake_dns *fake)
{
    struct link *link;

    timer_cancel(&fake->timer);
    while ((link = list_first(&fake->connections)))
        connection_close(CONTAINER_OF(link, struct connection, link));
    while ((link = list_pop_front(&fake->pending)))
        memory_free(CONTAINER_OF(link, struct pending, link));
    watch_stop(fake->udp_watch);
    watch_stop(fake->tcp_watch);
    (void)close(fake->udp);
    (void)close(fake->tcp);
    memory_free(fake);
}

struct endpoint fake_dns_endpoint(const struct fake_dns *fake)
{
    return fake->endpoint;
}

void fake_dns_delay(struct fake_dns *fake, int64_t delay_ms)
{
    fake->delay_ms = delay_ms;
}

unsigned fake_dns_udp_count(const struct fake_dns *fake)
{
    return fake->udp_count;
}

unsigned fake_dns_tcp_count(const struct fake_dns *fake)
{
    return fake->tcp_count;
}

unsigned fake_dns_most_pending(const struct fake_dns *fake)
{
    return fake->most_pending;
}
