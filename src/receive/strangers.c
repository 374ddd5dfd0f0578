/* Checks of clients that nobody knows. What is found at the connection and at EHLO is kept
 * and said at RCPT only: a client may still log in, and the log then names sender and
 * recipient. */
#include "strangers.h"

#include "journal.h"
#include "smtpd/base/memory.h"
#include "verbs.h"

#include <stdio.h>
#include <string.h>

enum { TARPIT_MS_MAX = 20000 };

static const struct stranger_settings *settings_of(const struct session *session)
{
    return &session->profile->settings.strangers;
}

/* On listeners for submission nothing can be done without a log-in. */
static bool is_screened(const struct session *session)
{
    return session->mode == MODE_RELAY && !session->client.is_exempt;
}

/* ---- the greeting ---- */

static void greet(struct session *session)
{
    session->is_greeted = true;
    session_reply(session, REPLY_GREETING, NULL);
}

static void on_screened(void *owner, const struct screen_result *result)
{
    struct session *session = owner;

    session->screening = NULL;
    session->screened = memory_copy(result, sizeof *result);
    journal_screened(session);
    if (session->wait == WAIT_SCREEN)
        session_resume(session);
}

void strangers_begin(struct session *session)
{
    int64_t delay_ms = settings_of(session)->greeting_delay_ms;

    if (is_screened(session))
        session->screening = screening_start(session->receive->rooms.screen, &session->peer,
                                             on_screened, session);
    if (!is_screened(session) || delay_ms == 0) {
        greet(session);
        return;
    }
    session_wait_for(session, WAIT_GREETING);
    timer_start(&session->timer, delay_ms);
}

void strangers_on_timer(struct session *session)
{
    timer_start(&session->timer, session->profile->settings.idle_timeout_ms);
    greet(session);
    session_resume(session);
}

void strangers_talk_early(struct session *session)
{
    session->rule = "greeting_delay";
    session_reply_close(session, REPLY_EARLY_TALKER, "talked before the greeting");
}

bool strangers_must_wait(const struct session *session)
{
    return session->screening && session->state >= STATE_MAIL && is_screened(session);
}

void strangers_end(struct session *session)
{
    screening_cancel(session->screening);
    session->screening = NULL;
}

/* ---- EHLO ---- */

static bool is_our_address(const struct session *session, const struct ip *ip)
{
    return ip_equal(ip, &stream_local(session->stream)->ip);
}

static const char *judge_literal(const struct session *session, struct slice text)
{
    struct slice tag = slice_part(text, 0, sizeof "IPv6:" - 1);
    struct ip ip;

    if (slice_equal_text_fold(tag, "IPv6:"))
        text = slice_from(text, tag.length);
    if (ip_parse(text, &ip) != RESULT_OK)
        return "no address in brackets";
    if (ip_equal(&ip, &session->peer))
        return NULL;
    return is_our_address(session, &ip) ? "our own address" : "another address";
}

/* RFC 5321 4.1.4 asks for a full name or an address literal. NULL: it is one. */
static const char *judge_helo(const struct session *session)
{
    struct slice helo = slice_of(session->helo);
    struct ip ip;

    if (helo.length >= 2 && helo.data[0] == '[' && helo.data[helo.length - 1] == ']')
        return judge_literal(session, slice_part(helo, 1, helo.length - 2));
    if (ip_parse(helo, &ip) == RESULT_OK)
        return "an address without brackets";
    if (slice_find(helo, '.') == helo.length)
        return "a name without a dot";
    if (slice_equal_text_fold(helo, session->profile->settings.hostname))
        return "our own name";
    return NULL;
}

void strangers_check_helo(struct session *session)
{
    session->helo_fault = NULL;
    if (!is_screened(session) || settings_of(session)->helo_checks == STRANGERS_OFF)
        return;
    session->helo_fault = judge_helo(session);
    if (session->helo_fault)
        journal_helo(session);
}

/* ---- RCPT ---- */

static enum reply_name judge_lists(const struct session *session, char why[STRANGERS_TEXT])
{
    const struct screen_result *result = session->screened;
    char peer[IP_TEXT];

    if (!result || !result->is_rejected)
        return REPLY_RECIPIENT_OK;
    ip_print(&session->peer, peer);
    (void)snprintf(why, STRANGERS_TEXT, "%s is listed by %s%s%s", peer, result->zone,
                   result->reason[0] ? ": " : "", result->reason);
    return REPLY_LISTED;
}

static enum reply_name judge_name(const struct session *session)
{
    const struct screen_result *result = session->screened;

    if (!result || settings_of(session)->reverse_dns != STRANGERS_REJECT ||
        result->state == SCREEN_NAME_CONFIRMED)
        return REPLY_RECIPIENT_OK;
    return result->state == SCREEN_NAME_FAILED ? REPLY_NAME_UNKNOWN : REPLY_NO_NAME;
}

static bool is_postmaster(const struct address *recipient)
{
    return recipient->is_bare_postmaster ||
           slice_equal_text_fold(address_local(recipient), "postmaster");
}

enum reply_name strangers_judge(struct session *session, const struct address *recipient,
                                char why[STRANGERS_TEXT])
{
    enum reply_name name;

    if (!is_screened(session) || is_postmaster(recipient))
        return REPLY_RECIPIENT_OK;
    session->rule = "dnsbl";
    name = judge_lists(session, why);
    if (name != REPLY_RECIPIENT_OK)
        return name;
    session->rule = "reverse_dns";
    name = judge_name(session);
    if (name != REPLY_RECIPIENT_OK)
        return name;
    if (session->helo_fault && settings_of(session)->helo_checks == STRANGERS_REJECT) {
        session->rule = "helo_checks";
        (void)snprintf(why, STRANGERS_TEXT, "Your EHLO names %s", session->helo_fault);
        return REPLY_BAD_HELO;
    }
    session->rule = NULL;
    return REPLY_RECIPIENT_OK;
}

/* ---- errors ---- */

static bool end_session(struct session *session, enum reply_name name, const char *rule)
{
    int64_t memory_ms = settings_of(session)->offenders_ms;
    int64_t now_ms = loop_now_ms(session->receive->rooms.loop);

    if (memory_ms > 0)
        rate_bar(session->receive->rooms.rate, &session->peer, now_ms + memory_ms, now_ms);
    session->rule = rule;
    session_reply_close(session, name, rule);
    return true;
}

bool strangers_give_up(struct session *session, enum reply_name name)
{
    const struct stranger_settings *settings = settings_of(session);

    if (session->client.is_exempt)
        return false;
    if (name == REPLY_UNKNOWN_RECIPIENT && settings->unknown_recipients > 0 &&
        ++session->unknown_recipients >= settings->unknown_recipients)
        return end_session(session, REPLY_TOO_MANY_UNKNOWN, "unknown_recipients");
    if (verbs_is_fault(name) && settings->errors > 0 &&
        session->bad_commands >= settings->errors)
        return end_session(session, REPLY_TOO_MANY_ERRORS, "errors");
    return false;
}

/* From half of the limit on, longer each time. */
static int64_t grown(int64_t delay_ms, unsigned count, unsigned limit)
{
    unsigned half = limit / 2;
    int64_t grown_ms = count > half ? delay_ms * (count - half) : 0;

    return grown_ms < TARPIT_MS_MAX ? grown_ms : TARPIT_MS_MAX;
}

int64_t strangers_delay(const struct session *session, enum reply_name name)
{
    const struct stranger_settings *settings = settings_of(session);

    if (session->client.is_exempt || name == REPLY_AUTH_FAILED) /* slowed already */
        return 0;
    if (name == REPLY_UNKNOWN_RECIPIENT)
        return grown(settings->tarpit_ms, session->unknown_recipients,
                     settings->unknown_recipients);
    return verbs_is_fault(name)
               ? grown(settings->tarpit_ms, session->bad_commands, settings->errors)
               : 0;
}
