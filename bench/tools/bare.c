/* bare: the floor under a durable relay. SMTP from many sessions, one shared durable write for all
 * messages that wait, 250, and on to the next hop over kept connections; nothing else.
 *
 *   bare --listen P --to Q --file F [--host H] [--connections 100] [--file-bytes 512000000]
 *        [--sync thread|loop]
 *
 * It reads a message straight into the buffer that is written and sent: no copy, no rewriting, no
 * look at the header, no log. It keeps no record of what was delivered: after a crash it would
 * send everything again, and it does not even read its file. What a relay does beyond this is
 * what it costs more.
 *
 * The file is a ring of a fixed size whose blocks were written before, so that a sync has no
 * metadata to write. A message keeps its place until it is sent; without a free place there is no
 * 250. fdatasync() runs on a thread of its own while the loop goes on (--sync thread, faster
 * with two cores), or on the loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { EVENTS = 256, FIRST_ROOM = 4096, COMMANDS_MOST = 2048, PIECES = 512, BLOCK = 4096 };

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* MAIL, RCPTs and DATA as they came, then the message as it came, dot included. */
struct message {
    struct message *next;
    struct session *from; /* NULL: it left, or has its reply */
    char *data;
    size_t length;
    size_t room;
    size_t body;    /* where the message begins */
    uint64_t place; /* in the ring, counted from the start of the run */
    bool is_sent;
};

struct list {
    struct message *first;
    struct message **last;
};

static void list_init(struct list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_add(struct list *list, struct message *message)
{
    message->next = NULL;
    *list->last = message;
    list->last = &message->next;
}

static struct message *list_take(struct list *list)
{
    struct message *message = list->first;

    if (message && !(list->first = message->next))
        list->last = &list->first;
    return message;
}

enum kind { KIND_LISTENER, KIND_BELL, KIND_SESSION, KIND_HOP };

struct session { /* in */
    enum kind kind;
    int descriptor;
    bool reads_message;
    struct message *message; /* that is being read */
    struct message *waits;   /* for its sync */
    char input[COMMANDS_MOST];
    size_t input_length;
};

struct hop { /* out */
    enum kind kind;
    int descriptor;
    bool is_ready;
    bool waits_to_write;
    struct message *message;
    size_t sent;
    unsigned replies; /* to this message, so far */
    unsigned commands;
    char input[COMMANDS_MOST];
    size_t input_length;
    struct hop *next_idle;
};

static struct {
    int epoll;
    int listener;
    int file;
    int bell;
    enum kind listener_kind;
    enum kind bell_kind;
    uint64_t ring_bytes;
    uint64_t head;          /* the next place */
    uint64_t tail;          /* the oldest message that is not sent */
    struct message **order; /* of the places: a ring of pointers */
    size_t order_first;
    size_t order_count;
    size_t order_room;
    struct list read;    /* whole, unsynced */
    struct list syncing; /* a batch, the sync's alone */
    struct list synced;
    struct list queue; /* to be sent */
    bool is_syncing;
    bool syncs_on_loop;
    struct hop *idle;
    pthread_mutex_t lock;
    pthread_cond_t more;
} bare;

/* ---- replies ---- */

static void reply(struct session *session, const char *text)
{
    /* Replies are short and the client waits for them: the socket's buffer is empty. */
    must(send(session->descriptor, text, strlen(text), MSG_NOSIGNAL) >= 0 ||
             errno == EPIPE || errno == ECONNRESET,
         "a reply does not fit");
}

static void session_end(struct session *session)
{
    if (session->waits)
        session->waits->from = NULL;
    if (session->message) {
        free(session->message->data);
        free(session->message);
    }
    (void)close(session->descriptor);
    free(session);
}

/* ---- out ---- */

static void watch(int descriptor, void *owner, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events};

    event.data.ptr = owner;
    must(epoll_ctl(bare.epoll, operation, descriptor, &event) == 0, "epoll_ctl");
}

/* The commands leave at once; the message when the 354 has come. */
static void hop_send(struct hop *hop)
{
    size_t end = hop->replies < hop->commands ? hop->message->body : hop->message->length;
    bool blocked;

    while (hop->sent < end) {
        ssize_t sent = send(hop->descriptor, hop->message->data + hop->sent,
                            end - hop->sent, MSG_NOSIGNAL);

        if (sent < 0)
            break;
        hop->sent += (size_t)sent;
    }
    blocked = hop->sent < end;
    must(!blocked || errno == EAGAIN, "the next hop is gone");
    if (blocked != hop->waits_to_write)
        watch(hop->descriptor, hop, EPOLLIN | (blocked ? (uint32_t)EPOLLOUT : 0),
              EPOLL_CTL_MOD);
    hop->waits_to_write = blocked;
}

static unsigned count_lines(const char *data, size_t length)
{
    unsigned count = 0;

    for (size_t i = 0; i < length; i++)
        count += data[i] == '\n';
    return count;
}

static void send_waiting(void)
{
    struct message *message;

    while (bare.idle && (message = list_take(&bare.queue))) {
        struct hop *hop = bare.idle;

        bare.idle = hop->next_idle;
        hop->message = message;
        hop->sent = 0;
        hop->replies = 0;
        hop->commands = count_lines(message->data, message->body);
        hop_send(hop);
    }
}

static void free_places(void)
{
    while (bare.order_count > 0 && bare.order[bare.order_first]->is_sent) {
        struct message *message = bare.order[bare.order_first];

        bare.order_first = (bare.order_first + 1) % bare.order_room;
        bare.order_count--;
        bare.tail = bare.order_count > 0 ? bare.order[bare.order_first]->place : bare.head;
        free(message);
    }
}

static void hop_is_idle(struct hop *hop)
{
    if (hop->message) {
        free(hop->message->data);
        hop->message->data = NULL;
        hop->message->is_sent = true;
        free_places();
    }
    hop->message = NULL;
    hop->next_idle = bare.idle;
    bare.idle = hop;
}

static void hop_on_reply(struct hop *hop, const char *line)
{
    if (!hop->is_ready) {
        must(line[0] == '2', "the next hop does not want us");
        if (hop->replies++ == 0) {
            must(send(hop->descriptor, "HELO bare.bench.test\r\n", 22, MSG_NOSIGNAL) == 22,
                 "the next hop is gone");
            return;
        }
        hop->is_ready = true;
        hop_is_idle(hop);
        return;
    }
    must(hop->message, "the next hop speaks unasked");
    hop->replies++;
    must(line[0] == (hop->replies == hop->commands ? '3' : '2'), "the next hop refuses");
    if (hop->replies == hop->commands)
        hop_send(hop);
    else if (hop->replies > hop->commands)
        hop_is_idle(hop);
}

static void hop_on_event(struct hop *hop, uint32_t events)
{
    char *at = hop->input;
    char *feed;
    ssize_t got;

    if ((events & EPOLLOUT) && hop->message)
        hop_send(hop);
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    got = recv(hop->descriptor, hop->input + hop->input_length,
               sizeof hop->input - hop->input_length, 0);
    must(got > 0, "the next hop is gone");
    hop->input_length += (size_t)got;
    while ((feed = memchr(at, '\n', hop->input_length - (size_t)(at - hop->input)))) {
        if (feed - at > 3 && at[3] != '-')
            hop_on_reply(hop, at);
        at = feed + 1;
    }
    hop->input_length -= (size_t)(at - hop->input);
    memmove(hop->input, at, hop->input_length);
}

static void hops_connect(const char *host, unsigned port, unsigned count)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;

    must(inet_pton(AF_INET, host, &to.sin_addr) == 1, "--host");
    for (unsigned i = 0; i < count; i++) {
        struct hop *hop = calloc(1, sizeof *hop);

        must(hop, "memory");
        hop->kind = KIND_HOP;
        hop->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(hop->descriptor >= 0 &&
                 connect(hop->descriptor, (struct sockaddr *)&to, sizeof to) == 0 &&
                 fcntl(hop->descriptor, F_SETFL, O_NONBLOCK) == 0,
             "cannot connect to the next hop");
        (void)setsockopt(hop->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(hop->descriptor, hop, EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* ---- the file ---- */

static void write_pieces(const struct iovec *pieces, int count, uint64_t place)
{
    ssize_t wanted = 0;

    for (int i = 0; i < count; i++)
        wanted += (ssize_t)pieces[i].iov_len;
    must(pwritev(bare.file, pieces, count, (off_t)(place % bare.ring_bytes)) == wanted,
         "cannot write");
}

/* All of the batch by as few writes as its places allow, then one sync. */
static void write_batch(const struct list *batch)
{
    struct iovec pieces[PIECES];
    int count = 0;
    uint64_t place = 0;
    uint64_t next = 0;

    for (struct message *each = batch->first; each; each = each->next) {
        if (count == PIECES || (count > 0 && each->place != next)) {
            write_pieces(pieces, count, place);
            count = 0;
        }
        if (count == 0)
            place = each->place;
        pieces[count++] = (struct iovec){each->data, each->length};
        next = each->place + each->length;
    }
    if (count > 0)
        write_pieces(pieces, count, place);
    must(fdatasync(bare.file) == 0, "cannot sync");
}

static void *run_sync(void *unused)
{
    uint64_t one = 1;

    (void)unused;
    (void)pthread_mutex_lock(&bare.lock);
    for (;;) {
        while (!bare.syncing.first)
            (void)pthread_cond_wait(&bare.more, &bare.lock);
        (void)pthread_mutex_unlock(&bare.lock);
        write_batch(&bare.syncing); /* nobody else touches it while is_syncing */
        (void)pthread_mutex_lock(&bare.lock);
        bare.synced = bare.syncing;
        list_init(&bare.syncing);
        must(write(bare.bell, &one, sizeof one) == sizeof one, "the bell");
    }
    return NULL;
}

/* A place that does not cross the end of the ring; false: the ring is full. */
static bool take_place(struct message *message)
{
    uint64_t left = bare.ring_bytes - bare.head % bare.ring_bytes;
    uint64_t place = bare.head + (left < message->length ? left : 0);

    must(message->length < bare.ring_bytes / 2, "a message is too long for the file");
    if (place + message->length - bare.tail > bare.ring_bytes ||
        bare.order_count == bare.order_room)
        return false;
    message->place = place;
    bare.head = place + message->length;
    bare.order[(bare.order_first + bare.order_count++) % bare.order_room] = message;
    return true;
}

static void settle(struct list *batch)
{
    struct message *message;

    while ((message = list_take(batch))) {
        if (message->from) {
            message->from->waits = NULL;
            reply(message->from, "250 2.0.0 OK\r\n");
        }
        list_add(&bare.queue, message);
    }
}

/* What came while the batch before was synced is the next one. */
static void start_sync(void)
{
    struct list batch;

    list_init(&batch);
    if (bare.is_syncing)
        return;
    while (bare.read.first && take_place(bare.read.first))
        list_add(&batch, list_take(&bare.read));
    if (!batch.first)
        return;
    if (bare.syncs_on_loop) {
        write_batch(&batch);
        settle(&batch);
        return;
    }
    bare.is_syncing = true;
    (void)pthread_mutex_lock(&bare.lock);
    bare.syncing = batch;
    (void)pthread_cond_signal(&bare.more);
    (void)pthread_mutex_unlock(&bare.lock);
}

static void on_bell(void)
{
    struct list batch;
    uint64_t count;

    must(read(bare.bell, &count, sizeof count) == sizeof count, "the bell");
    (void)pthread_mutex_lock(&bare.lock);
    batch = bare.synced;
    list_init(&bare.synced);
    (void)pthread_mutex_unlock(&bare.lock);
    bare.is_syncing = false;
    settle(&batch);
}

/* ---- in ---- */

static char *room(struct message *message, size_t least)
{
    if (message->room - message->length < least) {
        message->room = message->room * 2 + least;
        message->data = realloc(message->data, message->room);
        must(message->data, "memory");
    }
    return message->data + message->length;
}

static void keep_command(struct session *session, const char *line, size_t length)
{
    if (!session->message) {
        session->message = calloc(1, sizeof *session->message);
        must(session->message, "memory");
    }
    memcpy(room(session->message, length + FIRST_ROOM), line, length);
    session->message->length += length;
}

/* Only the first letter is looked at. false: the session is gone. */
static bool on_command(struct session *session, const char *line, size_t length)
{
    switch (line[0] & ~0x20) {
    case 'E':
    case 'H':
        reply(session, "250 bare.bench.test\r\n");
        break;
    case 'M':
        keep_command(session, line, length);
        reply(session, "250 2.1.0 OK\r\n");
        break;
    case 'R': /* RCPT; RSET has no place in here */
        keep_command(session, line, length);
        reply(session, "250 2.1.5 OK\r\n");
        break;
    case 'D':
        keep_command(session, line, length);
        session->message->body = session->message->length;
        session->reads_message = true;
        reply(session, "354 Go on\r\n");
        break;
    case 'Q':
        reply(session, "221 2.0.0 Bye\r\n");
        session_end(session);
        return false;
    default:
        reply(session, "500 5.5.1 What?\r\n");
    }
    return true;
}

/* A client does not speak before it has its 250, so nothing stands behind the dot. */
static void on_message_bytes(struct session *session, size_t got)
{
    static const char end[] = "\r\n.\r\n";
    struct message *message = session->message;

    message->length += got;
    if (message->length - message->body < 5 ||
        memcmp(message->data + message->length - 5, end, 5) != 0)
        return;
    message->from = session;
    session->waits = message;
    session->message = NULL;
    session->reads_message = false;
    list_add(&bare.read, message);
}

static void session_on_event(struct session *session)
{
    char *at = session->input;
    char *feed;
    ssize_t got;

    if (session->reads_message) {
        char *into = room(session->message, FIRST_ROOM);

        got = recv(session->descriptor, into,
                   session->message->room - session->message->length, 0);
        if (got > 0)
            on_message_bytes(session, (size_t)got);
        else if (got == 0 || errno != EAGAIN)
            session_end(session);
        return;
    }
    got = recv(session->descriptor, session->input + session->input_length,
               sizeof session->input - session->input_length, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            session_end(session);
        return;
    }
    session->input_length += (size_t)got;
    while (
        (feed = memchr(at, '\n', session->input_length - (size_t)(at - session->input)))) {
        if (!on_command(session, at, (size_t)(feed + 1 - at)))
            return;
        at = feed + 1;
    }
    session->input_length -= (size_t)(at - session->input);
    memmove(session->input, at, session->input_length);
}

static void on_listener(void)
{
    int one = 1;
    int descriptor = accept4(bare.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct session *session;

    if (descriptor < 0)
        return;
    session = calloc(1, sizeof *session);
    must(session, "memory");
    session->kind = KIND_SESSION;
    session->descriptor = descriptor;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(descriptor, session, EPOLLIN, EPOLL_CTL_ADD);
    reply(session, "220 bare.bench.test ESMTP\r\n");
}

/* ---- the loop ---- */

static void dispatch(void *owner, uint32_t events)
{
    switch (*(enum kind *)owner) {
    case KIND_LISTENER:
        on_listener();
        break;
    case KIND_BELL:
        on_bell();
        break;
    case KIND_SESSION:
        session_on_event(owner);
        break;
    case KIND_HOP:
        hop_on_event(owner, events);
        break;
    }
}

static void listen_at(unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bare.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(bare.listener >= 0, "socket");
    (void)setsockopt(bare.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(bare.listener, (struct sockaddr *)&at, sizeof at) == 0 &&
             listen(bare.listener, 4096) == 0,
         "cannot listen");
    bare.listener_kind = KIND_LISTENER;
    watch(bare.listener, &bare.listener_kind, EPOLLIN, EPOLL_CTL_ADD);
}

static void open_file(const char *path)
{
    static char zeros[BLOCK * 256];

    bare.file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(bare.file >= 0, path);
    bare.ring_bytes -= bare.ring_bytes % sizeof zeros;
    for (uint64_t at = 0; at < bare.ring_bytes; at += sizeof zeros)
        must(pwrite(bare.file, zeros, sizeof zeros, (off_t)at) == sizeof zeros, path);
    must(fsync(bare.file) == 0, path);
    bare.order_room = 1 << 20;
    bare.order = calloc(bare.order_room, sizeof(struct message *));
    must(bare.order, "memory");
}

static void start_thread(void)
{
    pthread_t thread;

    bare.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bare.bell_kind = KIND_BELL;
    must(bare.bell >= 0 && pthread_mutex_init(&bare.lock, NULL) == 0 &&
             pthread_cond_init(&bare.more, NULL) == 0 &&
             pthread_create(&thread, NULL, run_sync, NULL) == 0,
         "no thread");
    watch(bare.bell, &bare.bell_kind, EPOLLIN, EPOLL_CTL_ADD);
}

struct options {
    unsigned listen;
    unsigned to;
    unsigned connections;
    const char *host;
    const char *file;
};

static void read_options(struct options *options, int count, char **words)
{
    static const struct option table[] = {{"listen", required_argument, NULL, 'l'},
                                          {"to", required_argument, NULL, 't'},
                                          {"host", required_argument, NULL, 'h'},
                                          {"file", required_argument, NULL, 'f'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"file-bytes", required_argument, NULL, 'b'},
                                          {"sync", required_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    int which;

    while ((which = getopt_long(count, words, "", table, NULL)) != -1) {
        if (which == 'l')
            options->listen = (unsigned)strtoul(optarg, NULL, 10);
        else if (which == 't')
            options->to = (unsigned)strtoul(optarg, NULL, 10);
        else if (which == 'h')
            options->host = optarg;
        else if (which == 'f')
            options->file = optarg;
        else if (which == 'c')
            options->connections = (unsigned)strtoul(optarg, NULL, 10);
        else if (which == 'b')
            bare.ring_bytes = strtoull(optarg, NULL, 10);
        else if (which == 's' && strcmp(optarg, "loop") == 0)
            bare.syncs_on_loop = true;
        else if (which != 's' || strcmp(optarg, "thread") != 0)
            exit(2);
    }
}

int main(int count, char **words)
{
    struct options options = {.host = "127.0.0.1", .connections = 100};
    struct epoll_event events[EVENTS];
    struct rlimit files;

    bare.ring_bytes = 512000000;
    read_options(&options, count, words);
    if (!options.listen || !options.to || !options.file || bare.ring_bytes < 1 << 20) {
        (void)fprintf(stderr, "usage: bare --listen P --to Q --file F [--host H] "
                              "[--connections N] [--file-bytes N] [--sync thread|loop]\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    list_init(&bare.read);
    list_init(&bare.syncing);
    list_init(&bare.synced);
    list_init(&bare.queue);
    bare.epoll = epoll_create1(EPOLL_CLOEXEC);
    must(bare.epoll >= 0, "epoll");
    open_file(options.file);
    if (!bare.syncs_on_loop)
        start_thread();
    hops_connect(options.host, options.to, options.connections);
    listen_at(options.listen);
    for (;;) {
        int seen = epoll_wait(bare.epoll, events, EVENTS, -1);

        for (int i = 0; i < seen; i++)
            dispatch(events[i].data.ptr, events[i].events);
        start_sync();
        send_waiting();
    }
}
