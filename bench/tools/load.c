/* load: SMTP sessions and messages for the benchmarks, and what they felt. `load --help` has the
 * options. One thread; what it costs itself is printed beside the rest. */
#include "load.h"

#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, LINE = 76, MIX_MOST = 5000000 };
static const int64_t NS_PER_S = 1000000000;
static const int64_t REST_NS = 10000000; /* of a session, after a failure */
static const int64_t PATIENCE_S = 60; /* for the last messages, with none of them ending */
static const int64_t OPENING_MOST_S = 30; /* for all kept connections to stand */

/* ---- what is sent ---- */

/* Lines of letters and digits that no compression and no search for a dot finds easy. */
static char *make_body(size_t length)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *body = malloc(length + 1);
    uint64_t state = 88172645463325252u;

    MUST(body, "no memory");
    for (size_t i = 0; i < length; i++) {
        size_t column = i % (LINE + 2);

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body[i] = column == LINE       ? '\r'
                  : column == LINE + 1 ? '\n'
                                       : letters[state % (sizeof letters - 1)];
    }
    return body;
}

static char *make_secret(const struct options *options)
{
    unsigned char plain[1024];
    char *secret = malloc(2048);
    int length = snprintf((char *)plain, sizeof plain, "%c%s%c%s", 0, options->user, 0,
                          options->password);

    MUST(secret && length > 0 && (size_t)length < sizeof plain, "the log-in is too long");
    (void)EVP_EncodeBlock((unsigned char *)secret, plain, length);
    return secret;
}

/* ---- sessions that have nothing to do ---- */

static void begin_message(struct load *load, struct session *session)
{
    (void)load;
    session->is_available = false;
    session_begin(session);
}

static bool log_ins_are_over(const struct load *load)
{
    return (double)(now_ns() - load->schedule.began_ns) >=
           load->options.seconds * (double)NS_PER_S;
}

void load_on_available(struct load *load, struct session *session)
{
    struct schedule *schedule = &load->schedule;

    if (load->options.mode == MODE_LOG_INS) {
        schedule->ended++;
        if (!log_ins_are_over(load)) {
            schedule->started++;
            session_connect(session);
        }
        return;
    }
    if (schedule->began_ns == 0)
        load->ready++;
    if (schedule_take(schedule, &session->message)) {
        schedule->late += load->options.rate > 0;
        begin_message(load, session);
        return;
    }
    session->is_available = true;
    load->available[load->available_count++] = session;
}

void load_on_failure(struct load *load, struct session *session, const char *why)
{
    struct schedule *schedule = &load->schedule;

    (void)snprintf(load->client.last_failure, sizeof load->client.last_failure, "%s", why);
    /* While the connections are opened only a limit of time ends the trying. */
    if (load->options.mode != MODE_MESSAGES || session->has_message)
        schedule->failures++;
    schedule->ended += session->has_message;
    session->has_message = false;
    session->rests_until_ns = now_ns() + REST_NS;
    load->resting[(load->resting_first + load->resting_count++) % load->session_count] =
        session;
}

void load_on_held(struct load *load, struct session *session)
{
    (void)session;
    load->ready++;
}

static void after_rest(struct load *load, struct session *session)
{
    if (load->options.mode == MODE_IDLE)
        return; /* one that was refused stays away */
    if (load->options.mode == MODE_MESSAGES && load->schedule.began_ns == 0)
        session_connect(session);
    else
        load_on_available(load, session);
}

static void end_rests(struct load *load)
{
    int64_t now = now_ns();

    while (load->resting_count > 0 &&
           load->resting[load->resting_first]->rests_until_ns <= now) {
        struct session *session = load->resting[load->resting_first];

        load->resting_first = (load->resting_first + 1) % load->session_count;
        load->resting_count--;
        after_rest(load, session);
    }
}

static void begin_due(struct load *load)
{
    while (load->available_count > 0) {
        struct session *session = load->available[load->available_count - 1];

        if (!schedule_take(&load->schedule, &session->message))
            return;
        load->available_count--;
        begin_message(load, session);
    }
}

/* ---- the loop ---- */

static void wait_ns(struct load *load, int64_t until)
{
    struct epoll_event events[EVENTS];
    int64_t left = until - now_ns();
    struct timespec timeout = {0};
    int count;

    if (left > 0) {
        timeout.tv_sec = left / NS_PER_S;
        timeout.tv_nsec = (long)(left % NS_PER_S);
    }
    count = epoll_pwait2(load->client.epoll, events, EVENTS, &timeout, NULL);
    MUST(count >= 0 || errno == EINTR, "epoll_pwait2");
    for (int i = 0; i < count; i++)
        session_on_event(events[i].data.ptr, events[i].events);
}

/* The next moment at which something is to be done without an event; at most a second away. */
static int64_t next_ns(const struct load *load)
{
    int64_t next = now_ns() + NS_PER_S;
    int64_t due = load->available_count > 0 ? schedule_next_ns(&load->schedule) : 0;

    if (due && due < next)
        next = due;
    if (load->resting_count > 0 &&
        load->resting[load->resting_first]->rests_until_ns < next)
        next = load->resting[load->resting_first]->rests_until_ns;
    return next;
}

static void turn(struct load *load)
{
    wait_ns(load, next_ns(load));
    end_rests(load);
    begin_due(load);
}

static void run_messages(struct load *load)
{
    struct schedule *schedule = &load->schedule;
    int64_t opened = now_ns();
    int64_t moved = opened;
    uint64_t ended = 0;

    for (size_t i = 0; i < load->session_count; i++)
        if (load->options.per_connection > 0)
            load_on_available(load, &load->sessions[i]);
        else
            session_connect(&load->sessions[i]);
    while (load->ready < load->session_count &&
           now_ns() - opened < OPENING_MOST_S * NS_PER_S)
        turn(load);
    if (load->ready == 0)
        die("no session: %s", load->client.last_failure);
    schedule_begin(schedule);
    begin_due(load);
    while (!schedule_is_over(schedule) || schedule->ended < schedule->started) {
        turn(load);
        if (schedule->ended != ended)
            moved = now_ns();
        ended = schedule->ended;
        if (now_ns() - moved > PATIENCE_S * NS_PER_S)
            break;
    }
    schedule->failures += schedule->started - schedule->ended;
}

static void run_log_ins(struct load *load)
{
    int64_t until;

    schedule_begin(&load->schedule);
    until = load->schedule.began_ns +
            (int64_t)((load->options.seconds + (double)PATIENCE_S) * (double)NS_PER_S);
    load->schedule.started = load->session_count;
    for (size_t i = 0; i < load->session_count; i++)
        session_connect(&load->sessions[i]);
    while (load->schedule.ended < load->schedule.started && now_ns() < until)
        turn(load);
}

/* A failure's text comes from the other side. */
static void clean(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text == '"' || *text == '\\' || *text > '~')
            *text = ' ';
}

static void run_idle(struct load *load)
{
    struct pollfd watched[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = load->client.epoll, .events = POLLIN}};
    char nothing[256];
    size_t settled = 0;

    while (settled < load->options.idle) {
        while (load->opened < load->options.idle &&
               load->opened - settled < load->options.sessions)
            session_connect(&load->sessions[load->opened++]);
        turn(load);
        settled = load->ready + load->schedule.failures;
    }
    clean(load->client.last_failure);
    (void)printf("{\"held\":%zu,\"failures\":%llu,\"last_failure\":\"%s\"}\n",
                 load->ready - load->lost, (unsigned long long)load->schedule.failures,
                 load->client.last_failure);
    (void)fflush(stdout);
    for (;;) {
        MUST(poll(watched, 2, -1) >= 0, "poll");
        if (watched[1].revents)
            wait_ns(load, 0);
        if (watched[0].revents && read(STDIN_FILENO, nothing, sizeof nothing) <= 0)
            break;
    }
    (void)printf("{\"lost\":%zu}\n", load->lost);
}

/* ---- what is printed ---- */

static void print_connections(const struct load *load)
{
    (void)printf(
        ",\"connections\":%llu,\"handshakes\":%llu,\"resumed\":%llu,\"tls\":\"%s\","
        "\"last_failure\":\"%s\"}\n",
        (unsigned long long)load->client.connections,
        (unsigned long long)load->client.handshakes,
        (unsigned long long)load->client.resumed, load->client.tls_text,
        load->client.last_failure);
}

static void print_messages(struct load *load, double cpu)
{
    struct schedule *schedule = &load->schedule;
    size_t good = schedule->latency.count;
    double seconds = (double)(schedule->last_ns - schedule->began_ns) / (double)NS_PER_S;

    if (!load->options.is_json) {
        (void)printf("%zu messages in %.2f s, %.0f a second, %llu failures\n", good,
                     seconds, seconds > 0 ? (double)good / seconds : 0,
                     (unsigned long long)schedule->failures);
        return;
    }
    (void)printf("{\"messages\":%zu,\"seconds\":%.6f,\"rate\":%.3f,\"failures\":%llu,"
                 "\"bytes\":%llu,\"cpu_us_per_message\":%.3f,\"latency_us\":",
                 good, seconds, seconds > 0 ? (double)good / seconds : 0,
                 (unsigned long long)schedule->failures,
                 (unsigned long long)schedule->bytes, good ? cpu * 1e6 / (double)good : 0);
    samples_print(&schedule->latency);
    (void)printf(",\"end_to_reply_us\":");
    samples_print(&schedule->reply);
    (void)printf(",\"schedule\":{\"rate\":%.3f,\"begun\":%llu,\"waited_for_session\":%llu,"
                 "\"late_us\":",
                 load->options.rate, (unsigned long long)schedule->started,
                 (unsigned long long)schedule->late);
    samples_print(&schedule->waiting);
    (void)printf("}");
    print_connections(load);
}

static void print_log_ins(struct load *load, double cpu)
{
    struct schedule *schedule = &load->schedule;
    double seconds = (double)(schedule->last_ns - schedule->began_ns) / (double)NS_PER_S;
    double rate = seconds > 0 ? (double)load->log_ins / seconds : 0;

    if (!load->options.is_json) {
        (void)printf("%llu log-ins in %.2f s, %.0f a second, %llu failures\n",
                     (unsigned long long)load->log_ins, seconds, rate,
                     (unsigned long long)schedule->failures);
        return;
    }
    (void)printf("{\"log_ins\":%llu,\"seconds\":%.6f,\"rate\":%.3f,\"failures\":%llu,"
                 "\"cpu_us_per_log_in\":%.3f,\"latency_us\":",
                 (unsigned long long)load->log_ins, seconds, rate,
                 (unsigned long long)schedule->failures,
                 load->log_ins ? cpu * 1e6 / (double)load->log_ins : 0);
    samples_print(&schedule->latency);
    print_connections(load);
}

/* ---- */

static void set_up(struct load *load)
{
    const struct options *options = &load->options;
    struct rlimit files;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* the schedule is finer than the usual 50 us */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    client_init(&load->client, options);
    load->schedule.options = options;
    load->session_count = options->mode == MODE_IDLE ? options->idle : options->sessions;
    load->sessions = calloc(load->session_count, sizeof *load->sessions);
    load->available = calloc(load->session_count, sizeof(struct session *));
    load->resting = calloc(load->session_count, sizeof(struct session *));
    MUST(load->sessions && load->available && load->resting, "no memory");
    for (size_t i = 0; i < load->session_count; i++) {
        load->sessions[i].load = load;
        load->sessions[i].wire.descriptor = -1;
    }
    load->body = make_body(options->size ? options->size : MIX_MOST);
    if (options->user)
        load->secret = make_secret(options);
}

int main(int count, char **words)
{
    static struct load load;
    double cpu;

    options_read(&load.options, count, words);
    set_up(&load);
    switch (load.options.mode) {
    case MODE_IDLE:
        run_idle(&load);
        return 0;
    case MODE_LOG_INS:
        run_log_ins(&load);
        break;
    case MODE_MESSAGES:
        run_messages(&load);
        break;
    }
    cpu = cpu_seconds() - load.schedule.cpu_began_s;
    clean(load.client.last_failure);
    if (load.options.mode == MODE_LOG_INS)
        print_log_ins(&load, cpu);
    else
        print_messages(&load, cpu);
    return 0; /* failures are a result; a fault of this program ended it before */
}
