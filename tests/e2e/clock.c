/* LD_PRELOAD: moves the time of day. CLOCK_FILE holds the seconds that are added to it, read at
 * every question; the clock that only goes forward stays as it is. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long step(void)
{
    char text[32] = "0";
    const char *path = getenv("CLOCK_FILE");
    int fd = path ? openat(AT_FDCWD, path, O_RDONLY) : -1;

    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof text - 1);

        if (length >= 0)
            text[length] = 0;
        close(fd);
    }
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    /* Not by dlsym(): a sanitizer asks for the time while it is not yet set up, and the memory
     * that dlsym() takes and gives back then is not its own. */
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += step();
    return result;
}
