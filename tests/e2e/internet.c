/* A simulated internet in one process: a DNS server for domains of every kind, and their mail servers
 * on 127.0.0.0/8.
 *
 *   internet SMTP-PORT DNS-PORT LOG [DNS-DELAY-MS [TTL-S]]
 *
 * A domain is a kind and a number: good17.test has the MX mx.good17.test with an address of its own,
 * whose second byte is the kind. LOG gets each recipient behind whose final dot stood a 250, a line
 * each. A line on standard input is a command, and is answered with a line of counts:
 *
 *   gate open|shut    what `held` says to a final dot (nothing while it is shut), and `busy` to a
 *                     connection (421)
 *   count */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 512,
    LINE = 2048,
    OUTPUT = 65536,
    DROP_STAGES = 5,
    DRIP_MS = 1000,
    ANSWER = 512
};

enum kind {
    KIND_GOOD = 10,
    KIND_FAR,  /* good; its DNS takes DNS-DELAY-MS */
    KIND_MUTE, /* its DNS says nothing */
    KIND_HELD,
    KIND_BUSY,
    KIND_TARPIT, /* a byte a second */
    KIND_DROP,   /* hangs up, each session at another place */
    KIND_GARBAGE,
    KIND_SILENT,
    KIND_ENDLESS, /* lines of one reply, or one line, without an end */
    KIND_REFUSE,  /* nobody listens */
    KIND_STALL    /* reads nothing of a message, and says nothing behind DATA */
};
static const char *const kinds[] = {
    [KIND_GOOD] = "good",       [KIND_FAR] = "far",         [KIND_MUTE] = "mute",
    [KIND_HELD] = "held",       [KIND_BUSY] = "busy",       [KIND_TARPIT] = "tarpit",
    [KIND_DROP] = "drop",       [KIND_GARBAGE] = "garbage", [KIND_SILENT] = "silent",
    [KIND_ENDLESS] = "endless", [KIND_REFUSE] = "refuse",   [KIND_STALL] = "stall"};

struct session {
    struct session *next; /* of those that drip or wait for the gate */
    struct session *before;
    bool is_listed;
    int descriptor;
    unsigned kind;
    unsigned number;
    unsigned stage;   /* replies so far */
    unsigned matched; /* of CR LF . CR LF */
    bool reads_data;
    bool awaits_gate;
    bool is_stuck;
    size_t line_length;
    size_t recipients_length;
    size_t output_length;
    int64_t dripped_ms;
    char line[LINE];
    char *recipients;
    char *output;
};

struct answer {
    int64_t due_ms;
    struct sockaddr_in to;
    size_t length;
    uint8_t packet[ANSWER];
};

static struct {
    int epoll;
    int smtp;
    int dns;
    int log;
    int64_t delay_ms;
    uint32_t ttl_s;
    bool is_open;
    struct session *listed;
    struct answer *answers; /* a ring, in the order in which they are due */
    size_t answer_first;
    size_t answer_count;
    size_t answer_room;
    size_t answer_peak;
    char text[OUTPUT]; /* for the log */
    size_t text_length;
    unsigned long connections;
    unsigned long open;
    unsigned long messages;
    unsigned long queries;
    unsigned long unanswered;
} world;

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "internet: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void flush_log(void)
{
    if (world.text_length > 0)
        must(write(world.log, world.text, world.text_length) == (ssize_t)world.text_length,
             "the log");
    world.text_length = 0;
}

/* ---- SMTP ---- */

static void list(struct session *session)
{
    if (session->is_listed)
        return;
    session->is_listed = true;
    session->before = NULL;
    session->next = world.listed;
    if (world.listed)
        world.listed->before = session;
    world.listed = session;
}

static void unlist(struct session *session)
{
    if (!session->is_listed)
        return;
    session->is_listed = false;
    if (session->before)
        session->before->next = session->next;
    else
        world.listed = session->next;
    if (session->next)
        session->next->before = session->before;
}

static void hang_up(struct session *session)
{
    unlist(session);
    (void)close(session->descriptor);
    session->descriptor = -1;
    world.open--;
}

static void let_go(struct session *session)
{
    free(session->recipients);
    free(session->output);
    free(session);
}

static void put(struct session *session, const char *data, size_t length)
{
    if (session->kind == KIND_TARPIT || session->output_length > 0) {
        session->output = realloc(session->output, session->output_length + length);
        must(session->output != NULL, "memory");
        memcpy(session->output + session->output_length, data, length);
        session->output_length += length;
        list(session);
        return;
    }
    (void)send(session->descriptor, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void put_garbage(struct session *session)
{
    char bytes[64];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] =
            (char)(world.messages * 31 + session->stage * 17 + i * i * 7 + session->number);
    bytes[sizeof bytes - 1] = '\n';
    put(session, bytes, sizeof bytes);
}

/* As much as it takes, and more each time that it takes more. */
static void put_endless(struct session *session)
{
    static char lines[OUTPUT];
    size_t length = 0;

    if (session->number % 2)
        memset(lines, 'x', length = sizeof lines);
    else
        while (length + 16 < sizeof lines)
            length +=
                (size_t)snprintf(lines + length, sizeof lines - length, "220-and more\r\n");
    (void)send(session->descriptor, lines, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    list(session);
}

/* False: it hung up. */
static bool say(struct session *session, const char *text)
{
    session->stage++;
    if (session->kind == KIND_DROP && session->stage > session->number % DROP_STAGES) {
        hang_up(session);
        return false;
    }
    if (session->kind == KIND_SILENT)
        return true;
    if (session->kind == KIND_GARBAGE)
        put_garbage(session);
    else if (session->kind == KIND_ENDLESS)
        put_endless(session);
    else
        put(session, text, strlen(text));
    return true;
}

static void accept_message(struct session *session)
{
    if (world.text_length + session->recipients_length > sizeof world.text)
        flush_log();
    memcpy(world.text + world.text_length, session->recipients, session->recipients_length);
    world.text_length += session->recipients_length;
    session->recipients_length = 0;
    world.messages++;
}

static bool end_message(struct session *session)
{
    session->reads_data = false;
    if (session->kind == KIND_HELD && !world.is_open) {
        session->awaits_gate = true;
        list(session);
        return true;
    }
    accept_message(session);
    return say(session, "250 2.0.0 kept\r\n");
}

static void note_recipient(struct session *session)
{
    char *from = strchr(session->line, '<');
    char *to = from ? strchr(from, '>') : NULL;
    size_t length = to ? (size_t)(to - from) : 0; /* with the line's end */

    if (!to || session->recipients_length + length > OUTPUT / 2)
        return;
    session->recipients = realloc(session->recipients, session->recipients_length + length);
    must(session->recipients != NULL, "memory");
    memcpy(session->recipients + session->recipients_length, from + 1, length - 1);
    session->recipients[session->recipients_length + length - 1] = '\n';
    session->recipients_length += length;
}

static bool on_line(struct session *session)
{
    const char *line = session->line;

    if (strncasecmp(line, "EHLO", 4) == 0)
        return say(
            session,
            "250-hop.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n");
    if (strncasecmp(line, "RCPT", 4) == 0)
        note_recipient(session);
    if (strncasecmp(line, "MAIL", 4) == 0 || strncasecmp(line, "RSET", 4) == 0)
        session->recipients_length = 0;
    if (strncasecmp(line, "DATA", 4) == 0) {
        session->reads_data =
            session->kind != KIND_GARBAGE && session->kind != KIND_ENDLESS;
        session->matched = 2;
        session->is_stuck = session->kind == KIND_STALL;
        return say(session, "354 go on\r\n");
    }
    if (strncasecmp(line, "QUIT", 4) == 0) {
        if (say(session, "221 2.0.0 bye\r\n"))
            hang_up(session);
        return false;
    }
    return say(session, "250 2.0.0 fine\r\n");
}

static bool on_byte(struct session *session, char byte)
{
    static const char end[] = "\r\n.\r\n";

    if (session->reads_data) {
        if (byte == end[session->matched])
            session->matched++;
        else
            session->matched = byte == '\r';
        return session->matched < sizeof end - 1 || end_message(session);
    }
    if (byte != '\n') {
        if (session->line_length + 1 < sizeof session->line)
            session->line[session->line_length++] = byte;
        return true;
    }
    session->line[session->line_length] = '\0';
    session->line_length = 0;
    return on_line(session);
}

static void on_readable(struct session *session)
{
    char bytes[65536];
    ssize_t count;

    if (session->is_stuck) {
        (void)epoll_ctl(world.epoll, EPOLL_CTL_DEL, session->descriptor, NULL);
        return;
    }
    count = recv(session->descriptor, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0) {
        hang_up(session);
        let_go(session);
        return;
    }
    for (ssize_t i = 0; i < count; i++) {
        if (!on_byte(session, bytes[i])) {
            if (session->descriptor < 0)
                let_go(session);
            return;
        }
        if (session->is_stuck)
            return;
    }
}

static void on_connection(void)
{
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    struct epoll_event event = {.events = EPOLLIN};
    struct session *session;
    int descriptor;
    int on = 1;

    while ((descriptor = accept4(world.smtp, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        session = calloc(1, sizeof *session);
        must(session != NULL, "memory");
        (void)getsockname(descriptor, (struct sockaddr *)&own, &length);
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        session->descriptor = descriptor;
        session->kind = ntohl(own.sin_addr.s_addr) >> 16 & 0xff;
        session->number = (unsigned)world.connections++;
        world.open++;
        event.data.ptr = session;
        must(epoll_ctl(world.epoll, EPOLL_CTL_ADD, descriptor, &event) == 0, "epoll");
        if (session->kind == KIND_BUSY && !world.is_open) {
            (void)say(session, "421 4.3.2 not now\r\n");
            hang_up(session);
            let_go(session);
        } else if (!say(session, "220 hop.test ESMTP\r\n")) {
            let_go(session);
        }
    }
}

/* What drips, goes on without an end, or waited for the gate. */
static void look_at_listed(int64_t now)
{
    struct session *next;

    for (struct session *session = world.listed; session; session = next) {
        next = session->next;
        if (session->awaits_gate && world.is_open) {
            session->awaits_gate = false;
            unlist(session);
            accept_message(session);
            (void)say(session, "250 2.0.0 kept\r\n");
        } else if (session->kind == KIND_ENDLESS) {
            put_endless(session);
        } else if (session->output_length > 0 && now - session->dripped_ms >= DRIP_MS) {
            session->dripped_ms = now;
            (void)send(session->descriptor, session->output, 1,
                       MSG_NOSIGNAL | MSG_DONTWAIT);
            memmove(session->output, session->output + 1, --session->output_length);
            if (session->output_length == 0)
                unlist(session);
        }
    }
}

/* ---- DNS ---- */

enum { TYPE_A = 1, TYPE_MX = 15, TYPE_AAAA = 28, NXDOMAIN = 3 };

struct question {
    char name[256];
    unsigned kind; /* 0: no such domain */
    unsigned number;
    bool is_host;  /* mx.DOMAIN */
    bool is_other; /* _mta-sts.DOMAIN and the like */
    unsigned type;
    size_t end;
};

static bool read_question(const uint8_t *packet, size_t length, struct question *question)
{
    size_t at = 12;
    size_t out = 0;
    const char *domain;

    while (at < length && packet[at] != 0) {
        size_t label = packet[at++];

        if (label > 63 || at + label >= length || out + label + 2 > sizeof question->name)
            return false;
        memcpy(question->name + out, packet + at, label);
        out += label;
        question->name[out++] = '.';
        at += label;
    }
    if (at + 5 > length || out == 0)
        return false;
    question->name[out - 1] = '\0';
    question->type = (unsigned)packet[at + 1] << 8 | packet[at + 2];
    question->end = at + 5;
    question->is_host = strncasecmp(question->name, "mx.", 3) == 0;
    question->is_other = question->name[0] == '_';
    domain = question->is_host ? question->name + 3 : question->name;
    if (question->is_other) {
        domain = strchr(question->name, '.');
        domain = domain ? domain + 1 : "";
    }
    question->kind = 0;
    for (unsigned i = KIND_GOOD; i <= KIND_STALL; i++) {
        size_t word = strlen(kinds[i]);

        if (strncasecmp(domain, kinds[i], word) != 0 || domain[word] < '0' ||
            domain[word] > '9')
            continue;
        question->kind = i;
        question->number = (unsigned)strtoul(domain + word, NULL, 10);
    }
    return true;
}

static size_t put_record(uint8_t *at, unsigned type, const uint8_t *data, size_t length)
{
    uint8_t head[12] = {0xc0,
                        12,
                        0,
                        (uint8_t)type,
                        0,
                        1,
                        (uint8_t)(world.ttl_s >> 24),
                        (uint8_t)(world.ttl_s >> 16),
                        (uint8_t)(world.ttl_s >> 8),
                        (uint8_t)world.ttl_s,
                        (uint8_t)(length >> 8),
                        (uint8_t)length};

    memcpy(at, head, sizeof head);
    memcpy(at + sizeof head, data, length);
    return sizeof head + length;
}

static size_t put_answers(const struct question *question, uint8_t *at)
{
    static const uint8_t mx[] = {0, 10, 2, 'm', 'x', 0xc0, 12};
    uint8_t address[16] = {127, (uint8_t)question->kind, (uint8_t)(question->number / 250),
                           (uint8_t)(question->number % 250 + 1)};

    if (question->type == TYPE_MX && !question->is_host && !question->is_other)
        return put_record(at, TYPE_MX, mx, sizeof mx);
    if (!question->is_host)
        return 0;
    if (question->kind == KIND_REFUSE && question->type == TYPE_AAAA) {
        memset(address, 0, sizeof address);
        address[15] = 1; /* here nobody listens on ::1 */
        return put_record(at, TYPE_AAAA, address, sizeof address);
    }
    if (question->kind != KIND_REFUSE && question->type == TYPE_A)
        return put_record(at, TYPE_A, address, 4);
    return 0;
}

static void answer(const uint8_t *packet, size_t length, const struct sockaddr_in *to)
{
    struct question question;
    struct answer *made;
    size_t added;

    world.queries++;
    if (length < 17 || length > 300 || !read_question(packet, length, &question))
        return;
    if (question.kind == KIND_MUTE) {
        world.unanswered++;
        return;
    }
    if (world.answer_count == world.answer_room)
        return; /* as a busy server does */
    made = &world.answers[(world.answer_first + world.answer_count) % world.answer_room];
    memcpy(made->packet, packet, question.end);
    added = put_answers(&question, made->packet + question.end);
    made->packet[2] = 0x84;
    made->packet[3] = question.kind == 0 || question.is_other ? 0x80 | NXDOMAIN : 0x80;
    memset(made->packet + 6, 0, 6);
    made->packet[7] = added > 0;
    made->length = question.end + added;
    made->to = *to;
    made->due_ms = now_ms() + world.delay_ms;
    if (question.kind != KIND_FAR || world.delay_ms == 0) {
        (void)sendto(world.dns, made->packet, made->length, MSG_DONTWAIT,
                     (struct sockaddr *)&made->to, sizeof made->to);
        return;
    }
    world.answer_count++;
    if (world.answer_count > world.answer_peak)
        world.answer_peak = world.answer_count;
}

static void on_query(void)
{
    uint8_t packet[2048];
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t count;

    while ((count = recvfrom(world.dns, packet, sizeof packet, MSG_DONTWAIT,
                             (struct sockaddr *)&from, &length)) > 0)
        answer(packet, (size_t)count, &from);
}

static void send_due(int64_t now)
{
    while (world.answer_count > 0 && world.answers[world.answer_first].due_ms <= now) {
        struct answer *due = &world.answers[world.answer_first];

        (void)sendto(world.dns, due->packet, due->length, MSG_DONTWAIT,
                     (struct sockaddr *)&due->to, sizeof due->to);
        world.answer_first = (world.answer_first + 1) % world.answer_room;
        world.answer_count--;
    }
}

/* ---- the process ---- */

static int open_socket(int type, unsigned port)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int descriptor = socket(AF_INET, type | SOCK_NONBLOCK, 0);
    int on = 1;
    int bytes = 4 << 20;

    (void)setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (type == SOCK_DGRAM) {
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        (void)setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
    must(bind(descriptor, (struct sockaddr *)&own, sizeof own) == 0, "bind");
    must(type != SOCK_STREAM || listen(descriptor, 4096) == 0, "listen");
    return descriptor;
}

static void on_command(void)
{
    char line[256];

    if (!fgets(line, sizeof line, stdin))
        exit(0);
    if (strncmp(line, "gate ", 5) == 0)
        world.is_open = strncmp(line + 5, "open", 4) == 0;
    look_at_listed(now_ms());
    flush_log();
    (void)printf(
        "{\"connections\": %lu, \"open\": %lu, \"messages\": %lu, \"queries\": %lu, "
        "\"unanswered\": %lu, \"in_flight_most\": %zu}\n",
        world.connections, world.open, world.messages, world.queries, world.unanswered,
        world.answer_peak);
    (void)fflush(stdout);
}

static void watch(int descriptor, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

    must(epoll_ctl(world.epoll, EPOLL_CTL_ADD, descriptor, &event) == 0, "epoll");
}

static void turn(void)
{
    struct epoll_event events[EVENTS];
    bool is_in_haste = world.answer_count > 0;
    int count = epoll_wait(world.epoll, events, EVENTS, is_in_haste ? 1 : 100);
    static int64_t looked_ms;
    int64_t now;

    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &world.smtp)
            on_connection();
        else if (events[i].data.ptr == &world.dns)
            on_query();
        else if (events[i].data.ptr == &world.epoll)
            on_command();
        else
            on_readable(events[i].data.ptr);
    }
    now = now_ms();
    send_due(now);
    if (now - looked_ms >= 100) {
        looked_ms = now;
        look_at_listed(now);
    }
    flush_log();
}

int main(int count, char **words)
{
    struct rlimit limit;

    if (count < 4) {
        (void)fprintf(stderr,
                      "usage: internet SMTP-PORT DNS-PORT LOG [DNS-DELAY-MS [TTL-S]]\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    world.delay_ms = count > 4 ? strtol(words[4], NULL, 10) : 0;
    world.ttl_s = count > 5 ? (uint32_t)strtoul(words[5], NULL, 10) : 3600;
    world.answer_room = 65536;
    world.answers = calloc(world.answer_room, sizeof *world.answers);
    must(world.answers != NULL, "memory");
    world.log = open(words[3], O_WRONLY | O_CREAT | O_APPEND, 0600);
    must(world.log >= 0, words[3]);
    world.smtp = open_socket(SOCK_STREAM, (unsigned)strtoul(words[1], NULL, 10));
    world.dns = open_socket(SOCK_DGRAM, (unsigned)strtoul(words[2], NULL, 10));
    world.epoll = epoll_create1(0);
    setvbuf(stdin, NULL, _IONBF, 0);
    watch(world.smtp, &world.smtp);
    watch(world.dns, &world.dns);
    watch(STDIN_FILENO, &world.epoll);
    for (;;)
        turn();
}
