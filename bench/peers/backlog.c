/* Preloaded into OpenSMTPD: its listen backlog of 5 becomes 1024. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

enum { BACKLOG = 1024 };

int listen(int fd, int backlog)
{
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "listen");
    return real(fd, backlog < BACKLOG ? BACKLOG : backlog);
}
