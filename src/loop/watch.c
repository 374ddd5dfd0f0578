/* Descriptors of foreign libraries, wake-ups from other threads, signals: thin over libuv,
 * so that no other room needs its types. */
#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

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

struct waker {
    uv_async_t async;
    loop_fn *fn;
    void *owner;
};

static void on_async(uv_async_t *async)
{
    struct waker *waker = async->data;

    if (waker->fn)
        waker->fn(waker->owner);
}

struct waker *waker_new(struct loop *loop, loop_fn *fn, void *owner)
{
    struct waker *waker = NEW(struct waker);

    CHECK(uv_async_init(&loop->uv, &waker->async, on_async) == 0);
    waker->async.data = waker;
    waker->fn = fn;
    waker->owner = owner;
    return waker;
}

void waker_free(struct waker *waker)
{
    waker->fn = NULL;
    uv_close((uv_handle_t *)&waker->async, free_owner);
}

void waker_wake(struct waker *waker)
{
    (void)uv_async_send(&waker->async);
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
