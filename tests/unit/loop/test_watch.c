/* Descriptors, wake-ups from other threads, signals. */
#include "smtpd/loop/loop.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { THREADS = 4, WAKES_EACH = 500 };

struct seen {
    struct loop *loop;
    struct watch *watch;
    struct waker *waker;
    int fd;
    int count;
    int last_error;
    int last_signal;
    _Atomic int given; /* by the threads */
    int taken;         /* by the loop */
};

static int set_up(void **state)
{
    struct seen *seen = NEW(struct seen);

    seen->loop = loop_new();
    *state = seen;
    return 0;
}

static int tear_down(void **state)
{
    struct seen *seen = *state;

    loop_free(seen->loop);
    memory_free(seen);
    return 0;
}

/* ---- descriptors ---- */

static void on_readable(void *owner)
{
    struct seen *seen = owner;
    char byte;

    seen->count++;
    if (read(seen->fd, &byte, 1) != 1)
        seen->count = 1000;
}

static void count_only(void *owner)
{
    ((struct seen *)owner)->count++;
}

static void stop_watch(void *owner)
{
    struct seen *seen = owner;

    seen->count++;
    watch_stop(seen->watch);
}

static void a_watch_tells_when_its_descriptor_can_be_read(void **state)
{
    struct seen *seen = *state;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    seen->fd = ends[0];
    seen->watch = watch_start(seen->loop, ends[0], WATCH_READABLE, on_readable, seen);
    loop_run_for(seen->loop, 5);
    assert_int_equal(seen->count, 0);
    assert_int_equal(write(ends[1], "ab", 2), 2);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->count, 2);
    watch_stop(seen->watch);
    assert_int_equal(write(ends[1], "c", 1), 1);
    loop_run_for(seen->loop, 5);
    assert_int_equal(seen->count, 2);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void a_watch_may_be_stopped_by_its_own_callback(void **state)
{
    struct seen *seen = *state;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    seen->watch = watch_start(seen->loop, ends[0], WATCH_WRITABLE, stop_watch, seen);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->count, 1);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void on_error(void *owner)
{
    struct seen *seen = owner;
    socklen_t length = sizeof seen->last_error;
    char byte;

    seen->count++;
    if (read(seen->fd, &byte, 1) < 0)
        (void)getsockopt(seen->fd, SOL_SOCKET, SO_ERROR, &seen->last_error, &length);
}

static struct sockaddr_in local_port(int fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    return address;
}

static void a_watch_lives_on_after_an_error_of_its_descriptor(void **state)
{
    struct seen *seen = *state;
    int peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in there = local_port(peer);
    struct sockaddr_in here = local_port(fd);
    struct sockaddr_in elsewhere = {.sin_family = AF_INET,
                                    .sin_port = htons(1),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    assert_int_equal(connect(fd, (struct sockaddr *)&there, sizeof there), 0);
    /* With another one to talk to it takes nothing of ours, and nobody else gets its port. */
    assert_int_equal(connect(peer, (struct sockaddr *)&elsewhere, sizeof elsewhere), 0);
    seen->fd = fd;
    seen->watch = watch_start(seen->loop, fd, WATCH_READABLE, on_error, seen);
    assert_int_equal(write(fd, "x", 1), 1); /* nobody listens: ICMP says so */
    loop_run_for(seen->loop, 10);
    assert_true(seen->count > 0);
    seen->count = 0;
    assert_int_equal(connect(peer, (struct sockaddr *)&here, sizeof here), 0);
    assert_int_equal(write(peer, "y", 1), 1);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->count, 1);
    watch_stop(seen->watch);
    (void)close(peer);
    (void)close(fd);
}

/* ---- wakers ---- */

static void many_wakes_before_the_turn_are_one_call(void **state)
{
    struct seen *seen = *state;

    seen->waker = waker_new(seen->loop, count_only, seen);
    for (int i = 0; i < 100; i++)
        waker_wake(seen->waker);
    assert_int_equal(seen->count, 0);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->count, 1);
    waker_free(seen->waker);
}

static void a_freed_waker_calls_nobody(void **state)
{
    struct seen *seen = *state;

    seen->waker = waker_new(seen->loop, count_only, seen);
    waker_wake(seen->waker);
    waker_free(seen->waker);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->count, 0);
}

static void *give(void *argument)
{
    struct seen *seen = argument;

    for (int i = 0; i < WAKES_EACH; i++) {
        atomic_fetch_add(&seen->given, 1);
        waker_wake(seen->waker);
    }
    return NULL;
}

static void take(void *owner)
{
    struct seen *seen = owner;

    seen->taken = atomic_load(&seen->given);
    if (seen->taken == THREADS * WAKES_EACH)
        loop_stop(seen->loop);
}

static void no_wake_of_many_threads_is_lost(void **state)
{
    struct seen *seen = *state;
    pthread_t threads[THREADS];

    seen->waker = waker_new(seen->loop, take, seen);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, give, seen), 0);
    loop_run_for(seen->loop, 20000);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(seen->taken, THREADS * WAKES_EACH);
    waker_free(seen->waker);
}

/* ---- signals ---- */

static void on_signal(void *owner, int number)
{
    struct seen *seen = owner;

    seen->count++;
    seen->last_signal = number;
}

static void a_signal_arrives_on_the_loop(void **state)
{
    struct seen *seen = *state;
    struct signal_watch *hup = signal_watch_start(seen->loop, SIGHUP, on_signal, seen);
    struct signal_watch *usr = signal_watch_start(seen->loop, SIGUSR1, on_signal, seen);

    assert_int_equal(raise(SIGHUP), 0);
    assert_int_equal(seen->count, 0);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->count, 1);
    assert_int_equal(seen->last_signal, SIGHUP);
    assert_int_equal(raise(SIGUSR1), 0);
    loop_run_for(seen->loop, 10);
    assert_int_equal(seen->last_signal, SIGUSR1);
    signal_watch_stop(hup);
    signal_watch_stop(usr);
    loop_run_for(seen->loop, 1);
}

#define RUN_LOOP(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_LOOP(a_watch_tells_when_its_descriptor_can_be_read),
        RUN_LOOP(a_watch_may_be_stopped_by_its_own_callback),
        RUN_LOOP(a_watch_lives_on_after_an_error_of_its_descriptor),
        RUN_LOOP(many_wakes_before_the_turn_are_one_call),
        RUN_LOOP(a_freed_waker_calls_nobody),
        RUN_LOOP(no_wake_of_many_threads_is_lost),
        RUN_LOOP(a_signal_arrives_on_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
