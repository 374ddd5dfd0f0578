/* AUTH (RFC 4954) with PLAIN (RFC 4616) and LOGIN. A mechanism is a row; each line of the
 * client goes to the function of the step it answers. What was decoded is wiped as soon as
 * it was handed on; the log sees the user's name only when it is one. */
#include "auth_dialogue.h"

#include "journal.h"
#include "smtpd/base/memory.h"
#include "smtpd/smtp/command.h"
#include "verbs.h"

typedef void step_fn(struct session *session, struct slice response);

struct mechanism {
    const char *name;
    const char *challenge; /* base64 */
    step_fn *first;
};

struct auth_dialogue {
    const struct mechanism *mechanism;
    step_fn *next;
    struct auth_check *check;
    char *user; /* NULL: not yet said */
    struct bytes decoded;
};

static void wipe(struct auth_dialogue *dialogue)
{
    if (dialogue->decoded.capacity > 0)
        secure_wipe(dialogue->decoded.data, dialogue->decoded.capacity);
    bytes_clear(&dialogue->decoded);
}

static void ask(struct session *session, const char *challenge, step_fn *next)
{
    session->auth->next = next;
    session_read(session, READ_AUTH);
    session_reply(session, REPLY_AUTH_CONTINUE, challenge);
}

void auth_dialogue_end(struct session *session)
{
    struct auth_dialogue *dialogue = session->auth;

    if (!dialogue)
        return;
    session->auth = NULL;
    if (dialogue->check)
        auth_cancel(dialogue->check);
    wipe(dialogue);
    bytes_fini(&dialogue->decoded);
    memory_free(dialogue->user);
    memory_free(dialogue);
    if (session->reading == READ_AUTH)
        session_read(session, READ_COMMANDS);
}

void auth_dialogue_fail(struct session *session, enum reply_name reply)
{
    session->receive->statistics.auth_busy += reply == REPLY_AUTH_BUSY;
    auth_dialogue_end(session);
    session_reply(session, reply, NULL);
}

/* The words are always the same; the log knows better. */
static void fail_log_in(struct session *session, const struct auth_answer *answer)
{
    static const char *const reasons[AUTH_VERDICTS] = {
        [AUTH_WRONG] = "password",
        [AUTH_WRONG_NETWORK] = "network",
        [AUTH_LOCKED_OUT] = "locked out",
    };
    const struct auth_dialogue *dialogue = session->auth;

    session->receive->statistics.auth_failed++;
    journal_auth_failed(session, dialogue->user, dialogue->mechanism->name,
                        reasons[answer->verdict]);
    auth_dialogue_end(session);
    session_reply_later(session, answer->delay_ms, REPLY_AUTH_FAILED, NULL);
}

static void log_in(struct session *session, struct account *account)
{
    struct auth_dialogue *dialogue = session->auth;

    journal_auth_ok(session, dialogue->user, dialogue->mechanism->name);
    session->receive->statistics.auth_ok++;
    session->user = dialogue->user;
    session->account = account_ref(account);
    dialogue->user = NULL;
    rate_exempt(session->receive->rooms.rate, &session->client);
    auth_dialogue_end(session);
    session_reply(session, REPLY_AUTH_OK, NULL);
}

static void on_verified(void *owner, const struct auth_answer *answer)
{
    struct session *session = owner;

    session->auth->check = NULL;
    if (answer->verdict == AUTH_OK)
        log_in(session, answer->account);
    else if (answer->verdict == AUTH_BUSY)
        auth_dialogue_fail(session, REPLY_AUTH_BUSY);
    else
        fail_log_in(session, answer);
    if (session->wait != WAIT_DELAY)
        session_resume(session);
}

static void verify(struct session *session, struct slice user, struct slice password)
{
    struct auth_dialogue *dialogue = session->auth;
    struct auth_try try = {user, password, session->peer,
                           access_is_trusted(session->profile->access, &session->peer)};

    /* What is no user name may be anything, a password in the wrong field too. */
    if (!dialogue->user && auth_user_name_is_valid(user))
        dialogue->user = slice_to_text(user);
    dialogue->check = auth_verify(session->receive->rooms.auth, &try, on_verified, session);
    wipe(dialogue);
    session_wait_for(session, WAIT_AUTH);
}

/* authzid NUL authcid NUL password. RFC 4616 2: acting for somebody else is not offered. */
static void take_plain(struct session *session, struct slice response)
{
    size_t first = slice_find(response, '\0');
    struct slice authzid = slice_part(response, 0, first);
    struct slice rest = slice_from(response, first + 1);
    size_t second = slice_find(rest, '\0');
    struct slice user = slice_part(rest, 0, second);
    struct slice password = slice_from(rest, second + 1);
    static const struct auth_answer not_for_others = {.verdict = AUTH_WRONG};

    if (first == response.length || second == rest.length ||
        slice_find(password, '\0') != password.length)
        auth_dialogue_fail(session, REPLY_AUTH_BAD_BASE64);
    else if (authzid.length > 0 && !slice_equal(authzid, user))
        fail_log_in(session, &not_for_others);
    else
        verify(session, user, password);
}

static void take_password(struct session *session, struct slice response)
{
    verify(session, slice_of(session->auth->user), response);
}

/* Any name is taken here, so that an impossible one costs a guesser as much as any other.
 */
static void take_user(struct session *session, struct slice response)
{
    if (auth_user_name_is_valid(response))
        session->auth->user = slice_to_text(response);
    wipe(session->auth);
    ask(session, "UGFzc3dvcmQ6", take_password); /* "Password:" */
}

static const struct mechanism mechanisms[] = {
    {"PLAIN", "", take_plain}, {"LOGIN", "VXNlcm5hbWU6", take_user}, /* "Username:" */
};
enum { MECHANISMS = sizeof mechanisms / sizeof *mechanisms };

static void take_response(struct session *session, struct slice encoded)
{
    struct auth_dialogue *dialogue = session->auth;
    struct bytes *decoded = &dialogue->decoded;

    bytes_clear(decoded);
    if (bytes_add_base64_decoded(decoded, encoded) != RESULT_OK)
        auth_dialogue_fail(session, REPLY_AUTH_BAD_BASE64);
    else
        dialogue->next(session, bytes_view(decoded));
}

void auth_dialogue_line(struct session *session, struct slice line)
{
    if (slice_equal_text(line, "*"))
        auth_dialogue_fail(session, REPLY_AUTH_CANCELLED); /* RFC 4954 4 */
    else
        take_response(session, line);
}

static const struct mechanism *find(const char *name)
{
    for (size_t i = 0; i < MECHANISMS; i++)
        if (slice_equal_text(slice_of(name), mechanisms[i].name))
            return &mechanisms[i];
    return NULL;
}

/* Why there can be no log-in now; REPLY_OK: there can. */
static enum reply_name judge(const struct session *session)
{
    if (session->user)
        return REPLY_AUTH_ALREADY;
    if (!session->profile->settings.has_users)
        return REPLY_AUTH_NOT_OFFERED;
    return verbs_allow_log_in(session) ? REPLY_OK : REPLY_AUTH_NEEDS_TLS;
}

static bool is_locked_out(const struct session *session)
{
    return !access_is_trusted(session->profile->access, &session->peer) &&
           auth_address_is_locked_out(session->receive->rooms.auth, &session->peer);
}

void verb_auth(struct session *session, struct slice rest)
{
    const struct mechanism *mechanism;
    enum reply_name name = judge(session);
    struct slice initial;
    bool has_initial;
    char mechanism_name[24];

    if (name != REPLY_OK) {
        session_reply(session, name, NULL);
        return;
    }
    if (is_locked_out(session)) {
        session_reply_close(session, REPLY_LOCKED_OUT, "locked out");
        return;
    }
    if (command_parse_auth(rest, mechanism_name, &initial, &has_initial) != RESULT_OK) {
        session_reply(session, REPLY_SYNTAX,
                      "Write AUTH, a mechanism, and at most one response");
        return;
    }
    mechanism = find(mechanism_name);
    if (!mechanism) {
        session_reply(session, REPLY_AUTH_UNKNOWN_MECHANISM, NULL);
        return;
    }
    session->auth = NEW(struct auth_dialogue);
    session->auth->mechanism = mechanism;
    bytes_init(&session->auth->decoded, LIMIT_AUTH_LINE);
    session->auth->next = mechanism->first;
    if (has_initial)
        take_response(session, initial);
    else
        ask(session, mechanism->challenge, mechanism->first);
}
