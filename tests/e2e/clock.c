/* LD_PRELOAD: moves the time. CLOCK_FILE holds seconds, read at every question: those that the time of
 * day steps by, which the clock that only goes forward knows nothing of; and behind a blank, if there
 * are any, those that pass, by all clocks.
 *
 * A sanitizer asks for the time while it is not yet set up, and from threads and with locks of its own:
 * nothing here calls what it stands in front of (open, read, strtol, dlsym) but at the start. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct move {
    long step;
    long passed;
};

static const char *path; /* NULL: not set up yet */
static int (*real_wait)(sem_t *, clockid_t, const struct timespec *);

__attribute__((constructor)) static void set_up(void)
{
    real_wait = (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(
        RTLD_NEXT, "sem_clockwait");
    path = getenv("CLOCK_FILE");
}

static long take_number(const char **at)
{
    long number = 0;
    int sign = 1;

    while (**at == ' ')
        ++*at;
    if (**at == '-') {
        sign = -1;
        ++*at;
    }
    for (; **at >= '0' && **at <= '9'; ++*at)
        number = 10 * number + (**at - '0');
    return sign * number;
}

static struct move read_move(void)
{
    char text[64] = {0};
    const char *at = text;
    struct move move = {0, 0};
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) : -1;

    if (fd < 0)
        return move;
    if (syscall(SYS_read, fd, text, sizeof text - 1) > 0) {
        move.step = take_number(&at);
        move.passed = take_number(&at);
    }
    (void)syscall(SYS_close, fd);
    return move;
}

static int is_monotonic(clockid_t clock)
{
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (result == 0 && clock == CLOCK_REALTIME) {
        struct move move = read_move();

        now->tv_sec += move.step + move.passed;
    } else if (result == 0 && is_monotonic(clock)) {
        now->tv_sec += read_move().passed;
    }
    return result;
}

/* The kernel's clock has not moved: the moment is told by ours. */
int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *moment)
{
    struct timespec at = *moment;

    if (is_monotonic(clock)) {
        at.tv_sec -= read_move().passed;
        if (at.tv_sec < 0)
            at.tv_sec = 0;
    }
    return real_wait(sem, clock, &at);
}
