/* Descriptors of foreign libraries, wake-ups from other threads, signals: thin over libuv,
 * so that no other room needs its types. */
#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct watch {
    uv_poll_t poll;
    int uv_events;
    loop_fn *fn;
    void *owner;
};

static void free_owner(uv_handle_t *handle)
{
    memory_free(handle->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;

    (void)events;
    /* After an error (a datagram socket gets one by ICMP) libuv polls no more. The owner
     * reads the error from the descriptor; the watch goes on. */
    if (status < 0)
        CHECK(uv_poll_start(poll, watch->uv_events, on_poll) == 0);
    watch->fn(watch->owner);
}

struct watch *watch_start(struct loop *loop, int fd, int events, loop_fn *fn, void *owner)
{
    struct watch *watch = NEW(struct watch);

    CHECK(uv_poll_init(&loop->uv, &watch->poll, fd) == 0);
    watch->poll.data = watch;
    watch->fn = fn;
    watch->owner = owner;
    watch->uv_events = (events & WATCH_READABLE ? UV_READABLE : 0) |
                       (events & WATCH_WRITABLE ? UV_WRITABLE : 0);
    CHECK(uv_poll_start(&watch->poll, watch->uv_events, on_poll) == 0);
    return watch;
}

void watch_stop(struct watch *watch)
{
    (void)uv_poll_stop(&watch->poll);
    uv_close((uv_handle_t *)&watch->poll, free_owner);
}

/* An eventfd, and not uv_async_t: that one makes the loop spin until the thread that wakes it
 * has left uv_async_send(). The wake-up itself takes the core from that thread, so with one of
 * low priority the loop stood for up to 16 ms (docs/decisions/004-waking-threads.md). */
struct waker {
    struct watch *watch;
    int fd;
    atomic_bool is_woken;
    loop_fn *fn;
    void *owner;
};

static void on_woken(void *owner)
{
    struct waker *waker = owner;
    uint64_t count;

    if (read(waker->fd, &count, sizeof count) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
    /* Before the work is looked for: who comes later wakes again. */
    (void)atomic_exchange(&waker->is_woken, false);
    waker->fn(waker->owner);
}

struct waker *waker_new(struct loop *loop, loop_fn *fn, void *owner)
{
    struct waker *waker = NEW(struct waker);

    waker->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(waker->fd >= 0);
    atomic_init(&waker->is_woken, false);
    waker->fn = fn;
    waker->owner = owner;
    waker->watch = watch_start(loop, waker->fd, WATCH_READABLE, on_woken, waker);
    return waker;
}

void waker_free(struct waker *waker)
{
    watch_stop(waker->watch);
    (void)close(waker->fd);
    memory_free(waker);
}

void waker_wake(struct waker *waker)
{
    static const uint64_t one = 1;

    if (atomic_exchange(&waker->is_woken, true))
        return;
    while (write(waker->fd, &one, sizeof one) < 0)
        CHECK(errno == EINTR);
}

struct signal_watch {
    uv_signal_t signal;
    loop_signal_fn *fn;
    void *owner;
};

static void on_signal(uv_signal_t *signal, int number)
{
    struct signal_watch *watch = signal->data;

    watch->fn(watch->owner, number);
}

struct signal_watch *signal_watch_start(struct loop *loop, int signal_number,
                                        loop_signal_fn *fn, void *owner)
{
    struct signal_watch *watch = NEW(struct signal_watch);

    CHECK(uv_signal_init(&loop->uv, &watch->signal) == 0);
    watch->signal.data = watch;
    watch->fn = fn;
    watch->owner = owner;
    CHECK(uv_signal_start(&watch->signal, on_signal, signal_number) == 0);
    return watch;
}

void signal_watch_stop(struct signal_watch *watch)
{
    (void)uv_signal_stop(&watch->signal);
    uv_close((uv_handle_t *)&watch->signal, free_owner);
}
