/* Leaving. The grace period ends in steps: sessions until 5 s before its end,
 * attempts behind their final dot until 2 s before it, then the last commit. */
#include "inner.h"

#include "duplicates.h"

#include "smtpd/base/log.h"

enum { RECEIVE_RESERVE_MS = 5000, DELIVER_RESERVE_MS = 2000 };

void drain_stop(struct server *server)
{
    timer_cancel(&server->receive_deadline);
    timer_cancel(&server->deliver_deadline);
    loop_stop(server->loop);
}

static void stop_if_empty(struct server *server)
{
    if (server->receive_is_empty && server->deliver_is_empty)
        drain_stop(server);
}

static void on_receive_empty(void *owner)
{
    struct server *server = owner;

    server->receive_is_empty = true;
    stop_if_empty(server);
}

static void on_deliver_empty(void *owner)
{
    struct server *server = owner;

    server->deliver_is_empty = true;
    stop_if_empty(server);
}

static void on_receive_deadline(void *owner)
{
    struct server *server = owner;

    log_message(LOG_WARNING, "server.sessions_cut",
                "the grace period nearly ended: open sessions get 421");
    receive_abort(server->receive);
    on_receive_empty(server);
}

void drain_abort_deliveries(struct server *server)
{
    unsigned possible = deliver_abort(server->deliver);

    if (possible == 0)
        return;
    server->possible_duplicates += possible;
    log_message(LOG_WARNING, "server.possible_duplicates",
                "%u deliveries were cut behind their final dot and may come twice",
                possible);
    if (!duplicates_write(server->config->data_dir, server->possible_duplicates))
        log_message(
            LOG_WARNING, "server.possible_duplicates",
            "smtpd_possible_duplicates_total will not count them: cannot write to %s",
            server->config->data_dir);
}

static void on_deliver_deadline(void *owner)
{
    struct server *server = owner;

    drain_abort_deliveries(server);
    on_deliver_empty(server);
}

static int64_t deadline(const struct server *server, int64_t reserve_ms)
{
    int64_t grace_ms = server->config->grace_period_ms;

    return grace_ms > 2 * reserve_ms ? grace_ms - reserve_ms : grace_ms / 2;
}

static void drain_start(struct server *server)
{
    server->is_draining = true;
    log_message(LOG_NOTICE, "server.draining", "leaving within %lld s",
                (long long)(server->config->grace_period_ms / 1000));
    systemd_stopping(&server->systemd);
    listeners_close(server);
    timer_init(&server->receive_deadline, server->loop, on_receive_deadline, server);
    timer_init(&server->deliver_deadline, server->loop, on_deliver_deadline, server);
    timer_start(&server->receive_deadline, deadline(server, RECEIVE_RESERVE_MS));
    timer_start(&server->deliver_deadline, deadline(server, DELIVER_RESERVE_MS));
    receive_drain(server->receive, on_receive_empty, server);
    deliver_drain(server->deliver, on_deliver_empty, server);
}

void drain_on_signal(void *owner, int signal_number)
{
    struct server *server = owner;

    (void)signal_number;
    if (server->is_draining)
        drain_stop(server); /* asked twice: straight to the last commit */
    else
        drain_start(server);
}
