/* The words of the notification protocol, and the sockets of an activation. */
#include "test.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "systemd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct manager {
    struct loop *loop;
    struct offload *offload;
    struct net *net;
    struct systemd systemd;
    int fd;
    char path[100];
};

static void open_manager(struct manager *m, bool is_abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length;
    struct tls_settings tls = {0, 0};

    secure_init();
    memset(m, 0, sizeof *m);
    (void)snprintf(m->path, sizeof m->path, "%s/tmp/smtpd-notify-%d",
                   is_abstract ? "@" : "", (int)getpid());
    memcpy(address.sun_path, m->path, strlen(m->path));
    if (is_abstract)
        address.sun_path[0] = '\0';
    else
        (void)unlink(m->path);
    length = (socklen_t)(sizeof address.sun_family + strlen(m->path));
    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(m->fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", m->path, 1), 0);
    m->loop = loop_new();
    m->offload = offload_new(m->loop);
    m->net = net_new(m->loop, m->offload, &tls);
}

static void close_manager(struct manager *m)
{
    systemd_fini(&m->systemd);
    offload_free(m->offload);
    loop_run_for(m->loop, 5);
    net_free(m->net);
    loop_free(m->loop);
    (void)close(m->fd);
    if (m->path[0] == '/')
        (void)unlink(m->path);
}

static const char *heard(struct manager *m)
{
    static char words[200];
    ssize_t length = recv(m->fd, words, sizeof words - 1, 0);

    words[length > 0 ? length : 0] = '\0';
    return words;
}

static void set_number(const char *name, long number)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%ld", number);
    assert_int_equal(setenv(name, text, 1), 0);
}

TEST(systemd, tells_what_happens_in_this_order)
{
    struct manager m;

    for (int is_abstract = 0; is_abstract < 2; is_abstract++) {
        open_manager(&m, is_abstract);
        systemd_init(&m.systemd, m.loop);
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_string_equal(heard(&m), "");
        systemd_ready(&m.systemd);
        assert_int_equal(strncmp(heard(&m), "READY=1\n", 8), 0);
        systemd_reloading(&m.systemd);
        assert_int_equal(strncmp(heard(&m), "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
        systemd_stopping(&m.systemd);
        assert_int_equal(strncmp(heard(&m), "STOPPING=1\n", 11), 0);
        loop_run_for(m.loop, 30);
        assert_string_equal(heard(&m), ""); /* nobody asked for a watchdog */
        close_manager(&m);
    }
}

TEST(systemd, says_that_it_lives_twice_in_the_time_given)
{
    struct manager m;
    int count = 0;

    open_manager(&m, false);
    set_number("WATCHDOG_USEC", 100000);
    set_number("WATCHDOG_PID", getpid());
    systemd_init(&m.systemd, m.loop);
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    assert_int_equal(m.systemd.watchdog_ms, 50);
    systemd_ready(&m.systemd);
    (void)heard(&m);
    for (int i = 0; i < 400 && count < 3; i++) {
        loop_run_for(m.loop, 5);
        count += strcmp(heard(&m), "WATCHDOG=1") == 0;
    }
    assert_int_equal(count, 3);
    close_manager(&m);
}

TEST(systemd, is_not_watched_for_another_process)
{
    struct manager m;

    open_manager(&m, false);
    set_number("WATCHDOG_USEC", 100000);
    set_number("WATCHDOG_PID", getppid());
    systemd_init(&m.systemd, m.loop);
    assert_int_equal(m.systemd.watchdog_ms, 0);
    close_manager(&m);
}

TEST(systemd, without_a_manager_nothing_happens)
{
    struct manager m;
    struct fault fault;

    open_manager(&m, false);
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    systemd_init(&m.systemd, m.loop);
    assert_int_equal(m.systemd.fd, -1);
    assert_int_equal(systemd_inherit(&m.systemd, m.net, &fault), RESULT_OK);
    systemd_ready(&m.systemd);
    assert_string_equal(heard(&m), "");
    close_manager(&m);
}

/* Descriptors 3 and up, as sd_listen_fds(3) has it: what stood there is put back. */
static void with_sockets(struct manager *m, const int *fds, int count, enum result expected,
                         struct fault *fault)
{
    int saved[4];

    for (int i = 0; i < count; i++) {
        saved[i] = fcntl(3 + i, F_DUPFD_CLOEXEC, 100);
        assert_int_equal(dup2(fds[i], 3 + i), 3 + i);
    }
    set_number("LISTEN_FDS", count);
    set_number("LISTEN_PID", getpid());
    assert_int_equal(systemd_inherit(&m->systemd, m->net, fault), expected);
    assert_null(getenv("LISTEN_FDS"));
    assert_null(getenv("LISTEN_PID"));
    /* The listeners keep them under other numbers here, so that the loop's come back. */
    for (int i = 0; i < count; i++) {
        (void)close(3 + i);
        if (saved[i] >= 0) {
            assert_int_equal(dup2(saved[i], 3 + i), 3 + i);
            (void)close(saved[i]);
        }
    }
}

TEST(systemd, refuses_a_descriptor_that_listens_to_nothing)
{
    struct manager m;
    struct fault fault;
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

    open_manager(&m, false);
    systemd_init(&m.systemd, m.loop);
    with_sockets(&m, &nothing, 1, RESULT_INVALID, &fault);
    assert_non_null(strstr(fault.text, "descriptor 3 is no listening TCP socket"));
    (void)close(nothing);
    close_manager(&m);
}

TEST(systemd, takes_no_sockets_of_another_process)
{
    struct manager m;
    struct fault fault;

    open_manager(&m, false);
    systemd_init(&m.systemd, m.loop);
    set_number("LISTEN_FDS", 1);
    set_number("LISTEN_PID", getppid());
    assert_int_equal(systemd_inherit(&m.systemd, m.net, &fault), RESULT_OK);
    assert_int_equal(m.systemd.inherited_count, 0);
    set_number("LISTEN_FDS", 1000);
    set_number("LISTEN_PID", getpid());
    assert_int_equal(systemd_inherit(&m.systemd, m.net, &fault), RESULT_TOO_LARGE);
    close_manager(&m);
}

TEST(systemd, hands_out_the_listener_of_an_address_once)
{
    struct manager m;
    struct listener *listener;
    struct endpoint endpoint;
    struct endpoint bound;
    struct fault fault;
    int fd = -1;

    open_manager(&m, false);
    systemd_init(&m.systemd, m.loop);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:0"), &endpoint), RESULT_OK);
    assert_int_equal(listener_open_socket(&endpoint, &fd, &bound, &fault), RESULT_OK);
    assert_int_equal(listener_adopt(m.net, fd, &m.systemd.inherited[0], &fault), RESULT_OK);
    m.systemd.inherited_count = 1;
    assert_null(systemd_take(&m.systemd, &endpoint));
    listener = systemd_take(&m.systemd, &bound);
    assert_non_null(listener);
    assert_null(systemd_take(&m.systemd, &bound));
    systemd_give_back(&m.systemd, listener);
    systemd_tell_unused(&m.systemd); /* named, and kept */
    assert_ptr_equal(systemd_take(&m.systemd, &bound), listener);
    systemd_give_back(&m.systemd, listener);
    assert_int_equal(m.systemd.inherited_count, 1);
    close_manager(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(systemd, tells_what_happens_in_this_order),
        RUN(systemd, says_that_it_lives_twice_in_the_time_given),
        RUN(systemd, is_not_watched_for_another_process),
        RUN(systemd, without_a_manager_nothing_happens),
        RUN(systemd, refuses_a_descriptor_that_listens_to_nothing),
        RUN(systemd, takes_no_sockets_of_another_process),
        RUN(systemd, hands_out_the_listener_of_an_address_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
