/* Endpoints as the system wants them, and libuv's errors in our words. */
#include "inner.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *address)
{
    memset(address, 0, sizeof *address);
    if (ip_is_v4(&endpoint->ip)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)address;

        v4->sin_family = AF_INET;
        v4->sin_port = htons(endpoint->port);
        memcpy(&v4->sin_addr, endpoint->ip.bytes + 12, 4);
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(endpoint->port);
        memcpy(&v6->sin6_addr, endpoint->ip.bytes, 16);
    }
}

void endpoint_from_sockaddr(const struct sockaddr_storage *address,
                            struct endpoint *endpoint)
{
    memset(endpoint, 0, sizeof *endpoint);
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        uint8_t bytes[4];

        memcpy(bytes, &v4->sin_addr, 4);
        endpoint->ip = ip_from_v4(bytes);
        endpoint->port = ntohs(v4->sin_port);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

        memcpy(endpoint->ip.bytes, &v6->sin6_addr, 16);
        endpoint->port = ntohs(v6->sin6_port);
    }
}

/* Without IP_BIND_ADDRESS_NO_PORT the port is chosen before the peer is known, and one port serves one
 * connection only. */
int socket_bound_to(const struct ip *source)
{
    struct endpoint endpoint = {*source, 0};
    struct sockaddr_storage address;
    int on = 1;
    int fd;
    int status;

    endpoint_to_sockaddr(&endpoint, &address);
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return uv_translate_sys_error(errno);
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    status = uv_translate_sys_error(errno);
    (void)close(fd);
    return status;
}

enum result result_of_uv(int status)
{
    switch (status) {
    case 0:
        return RESULT_OK;
    case UV_EOF:
    case UV_ECONNRESET:
    case UV_EPIPE:
    case UV_ENOTCONN:
        return RESULT_CLOSED;
    case UV_ECONNREFUSED:
        return RESULT_REFUSED;
    case UV_ETIMEDOUT:
        return RESULT_TIMEOUT;
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH:
    case UV_EADDRNOTAVAIL:
    case UV_ENETDOWN:
        return RESULT_UNREACHABLE;
    case UV_EACCES:
    case UV_EPERM:
        return RESULT_DENIED;
    case UV_EADDRINUSE:
        return RESULT_EXISTS;
    default:
        return RESULT_IO;
    }
}
