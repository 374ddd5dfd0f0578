/* What is counted. In the path of a command it is an increment by the reply's name; codes
 * and limits come from the names when somebody asks. */
#include "smtpd/receive/receive.h"

#include "session.h"

#include <string.h>

/* Which limit a reply speaks of. */
static const struct {
    enum reply_name name;
    enum receive_limit limit;
} limits[] = {
    {REPLY_GREETING_BUSY, RECEIVE_LIMIT_CONNECTIONS},
    {REPLY_GREETING_BUSY_ADDRESS, RECEIVE_LIMIT_CONNECTIONS_PER_ADDRESS},
    {REPLY_GREETING_BUSY_NETWORK, RECEIVE_LIMIT_CONNECTIONS_PER_NETWORK},
    {REPLY_GREETING_TOO_OFTEN, RECEIVE_LIMIT_CONNECTION_RATE},
    {REPLY_GREETING_TOO_OFTEN_NETWORK, RECEIVE_LIMIT_NETWORK_CONNECTION_RATE},
    {REPLY_TLS_FAILED, RECEIVE_LIMIT_HANDSHAKES},
    {REPLY_AUTH_BUSY, RECEIVE_LIMIT_PASSWORD_POOL},
    {REPLY_LOCKED_OUT, RECEIVE_LIMIT_FAILED_LOG_INS},
    {REPLY_TOO_MANY_RECIPIENTS, RECEIVE_LIMIT_RECIPIENTS},
    {REPLY_TOO_LARGE, RECEIVE_LIMIT_MESSAGE_SIZE},
    {REPLY_HEADER_TOO_LARGE, RECEIVE_LIMIT_HEADER_SECTION},
    {REPLY_LOOP, RECEIVE_LIMIT_RECEIVED_HOPS},
    {REPLY_TOO_MANY_ERRORS, RECEIVE_LIMIT_BAD_COMMANDS},
    {REPLY_IDLE, RECEIVE_LIMIT_IDLE},
    {REPLY_NO_SPACE, RECEIVE_LIMIT_SPACE},
    {REPLY_TOO_MANY_UNKNOWN, RECEIVE_LIMIT_UNKNOWN_RECIPIENTS},
    {REPLY_GREETING_BARRED, RECEIVE_LIMIT_OFFENDERS},
    {REPLY_GREETING_MEMORY, RECEIVE_LIMIT_MEMORY_CONNECTIONS},
    {REPLY_SHORT_OF_MEMORY, RECEIVE_LIMIT_MEMORY_MESSAGES},
    {REPLY_OUT_OF_MEMORY, RECEIVE_LIMIT_MEMORY},
};

static const struct {
    enum reply_name name;
    enum receive_rule rule;
} rules[] = {
    {REPLY_EARLY_TALKER, RECEIVE_RULE_GREETING_DELAY},
    {REPLY_LISTED, RECEIVE_RULE_DNSBL},
    {REPLY_NO_NAME, RECEIVE_RULE_REVERSE_DNS},
    {REPLY_NAME_UNKNOWN, RECEIVE_RULE_REVERSE_DNS},
    {REPLY_BAD_HELO, RECEIVE_RULE_HELO_CHECKS},
};

void receive_statistics_init(struct receive *receive)
{
    histogram_init(&receive->statistics.final_dot, &histogram_short);
    histogram_init(&receive->statistics.whole, &histogram_long);
}

void receive_count_reply(struct receive *receive, enum reply_name name,
                         const struct reply *reply)
{
    struct receive_statistics *statistics = &receive->statistics;

    receive->replies[name]++;
    statistics->replies_2xx += reply_is_positive(reply);
    statistics->replies_4xx += reply_is_transient(reply);
    statistics->replies_5xx += reply_is_permanent(reply);
}

void receive_count_rejected(struct receive *receive, enum reply_name name)
{
    receive->statistics.messages_rejected++;
    receive->rejections[name]++;
}

void receive_count_session(struct receive *receive, const struct tls_facts *tls)
{
    enum receive_tls_version version = RECEIVE_TLS_CLEAR;

    if (tls && tls->is_secure)
        version = strcmp(tls->version, "TLSv1.3") == 0 ? RECEIVE_TLS_1_3 : RECEIVE_TLS_1_2;
    receive->statistics.sessions_by_tls[version]++;
}

static void add_code(struct receive_statistics *statistics, const struct receive_code *add)
{
    size_t at = statistics->code_count;

    while (at > 0 && statistics->codes[at - 1].code > add->code)
        at--;
    if (at > 0 && statistics->codes[at - 1].code == add->code) {
        statistics->codes[at - 1].replies += add->replies;
        statistics->codes[at - 1].messages_rejected += add->messages_rejected;
        return;
    }
    if (statistics->code_count == RECEIVE_CODES_MAX)
        return;
    memmove(&statistics->codes[at + 1], &statistics->codes[at],
            (statistics->code_count - at) * sizeof statistics->codes[0]);
    statistics->codes[at] = *add;
    statistics->code_count++;
}

void receive_statistics(const struct receive *receive,
                        struct receive_statistics *statistics)
{
    *statistics = receive->statistics;
    statistics->connections_open = receive->sessions.count;
    auth_statistics(receive->rooms.auth, &statistics->auth);
    limits_statistics(receive->rooms.limits, &statistics->sending);
    screen_statistics(receive->rooms.screen, &statistics->screen);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        statistics->rules[rules[i].rule] += receive->replies[rules[i].name];
    pressure_statistics(receive->rooms.pressure, &statistics->pressure);
    statistics->code_count = 0;
    for (int name = 0; name < REPLY_NAME_COUNT; name++) {
        struct receive_code code = {reply_name_code((enum reply_name)name),
                                    receive->replies[name], receive->rejections[name]};

        add_code(statistics, &code);
    }
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        statistics->limits[limits[i].limit] += receive->replies[limits[i].name];
}
