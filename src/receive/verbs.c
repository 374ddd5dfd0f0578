/* Every command of the server: one row and one function. Whether a command is allowed where
 * it comes is decided by its row alone, so that a handler holds only the meaning of its
 * verb, and a new row is closed before TLS and log-in until someone opens it. */
#include "verbs.h"

#include "auth_dialogue.h"
#include "grants.h"
#include "intake.h"
#include "smtpd/base/memory.h"
#include "smtpd/smtp/capability.h"
#include "strangers.h"
#include "transaction.h"

#define ANYWHERE                                                                           \
    (IN(STATE_FRESH) | IN(STATE_GREETED) | IN(STATE_MAIL) | IN(STATE_RCPT) |               \
     IN(STATE_CHUNKS))
#define IN_GREETED IN(STATE_GREETED)
#define IN_TRANSACTION (IN(STATE_MAIL) | IN(STATE_RCPT))
#define ANYBODY (BEFORE_TLS | BEFORE_AUTH)

static void abandon(struct session *session)
{
    transaction_abandon(session);
    if (session->state != STATE_FRESH)
        session->state = STATE_GREETED;
}

static bool has_argument(struct session *session, struct slice rest)
{
    if (rest.length == 0)
        return false;
    session_reply(session, REPLY_SYNTAX, "This command takes no argument");
    return true;
}

/* ---- EHLO and what it opens ---- */

bool verbs_allow_log_in(const struct session *session)
{
    return session->is_secured || (session->profile->settings.auth_in_clear_on_loopback &&
                                   ip_is_loopback(&session->peer));
}

static bool take_helo(struct session *session, struct slice rest)
{
    char name[DOMAIN_TEXT];

    if (command_parse_helo(rest, name) != RESULT_OK) {
        session_reply(session, REPLY_SYNTAX, "Say who you are: EHLO client.example.com");
        return false;
    }
    abandon(session); /* RFC 5321 4.1.4 */
    memory_free(session->helo);
    session->helo = memory_text(name);
    session->state = STATE_GREETED;
    strangers_check_helo(session);
    return true;
}

static void verb_ehlo(struct session *session, struct slice rest)
{
    const struct receive_settings *settings = &session->profile->settings;
    struct capabilities ours = {
        .pipelining = true,
        .size = true,
        .size_limit = grants_message_size(session),
        .eightbitmime = true,
        .smtputf8 = true,
        .enhancedstatuscodes = true,
        .dsn = true,
        .chunking = true,
    };

    if (!take_helo(session, rest))
        return;
    session->is_extended = true;
    ours.starttls = session->tls && !session->is_secured;
    ours.requiretls = session->is_secured; /* RFC 8689 2 */
    ours.auth = settings->has_users && !session->user && verbs_allow_log_in(session);
    ours.auth_plain = ours.auth_login = ours.auth;
    if (capability_offer(&session->receive->output, settings->hostname, session->helo,
                         &ours) != RESULT_OK) {
        session_close(session, "replies are not read");
        return;
    }
    session->receive->statistics.replies_2xx++;
    session->receive->replies[REPLY_HELLO]++;
}

static void verb_helo(struct session *session, struct slice rest)
{
    if (!take_helo(session, rest))
        return;
    session->is_extended = false;
    session_reply(session, REPLY_HELLO, NULL);
}

static void verb_starttls(struct session *session, struct slice rest)
{
    if (has_argument(session, rest))
        return;
    if (session->is_secured)
        session_reply(session, REPLY_TLS_ALREADY, NULL);
    else if (!session->tls)
        session_reply(session, REPLY_TLS_NOT_AVAILABLE, NULL);
    else
        session_secure(session);
}

/* ---- a transaction ---- */

/* What MAIL says that cannot be; REPLY_SENDER_OK: nothing. */
static enum reply_name judge_sender(const struct session *session,
                                    const struct mail_command *command)
{
    char normal[DOMAIN_TEXT];

    if (command->sender.needs_smtputf8 && !command->smtputf8)
        return REPLY_NEEDS_SMTPUTF8; /* RFC 6531 3.4 */
    if (!command->sender.is_null &&
        domain_normalise(address_domain(&command->sender), normal) != RESULT_OK)
        return REPLY_BAD_SENDER;
    if (command->has_size && command->size > grants_message_size(session))
        return REPLY_TOO_LARGE; /* RFC 1870 6.1 */
    return grants_sender(session, &command->sender) ? REPLY_SENDER_OK : REPLY_SENDER_DENIED;
}

static enum reply_name judge_room(const struct session *session)
{
    enum result room = queue_has_room(session->receive->rooms.queue);

    if (pressure_level(session->receive->rooms.pressure) == PRESSURE_MESSAGES)
        return REPLY_SHORT_OF_MEMORY;
    if (room == RESULT_OK)
        return REPLY_SENDER_OK;
    return room == RESULT_IO ? REPLY_QUEUE_FAILED : REPLY_NO_SPACE;
}

static void reply_error(struct session *session, const struct command_error *error)
{
    session_reply(session,
                  error->is_unknown_parameter ? REPLY_PARAMETER_UNKNOWN : REPLY_SYNTAX,
                  error->text);
}

static void verb_mail(struct session *session, struct slice rest)
{
    struct mail_command command;
    struct command_error error;
    char why[LIMITS_TEXT] = "The domain of the sender is no domain";
    enum reply_name name;

    if (command_parse_mail(rest, &command, &error) != RESULT_OK) {
        reply_error(session, &error);
        return;
    }
    if (command.requires_tls && !session->is_secured) { /* it is not offered here */
        session_reply(session, REPLY_PARAMETER_UNKNOWN, "REQUIRETLS needs TLS (STARTTLS)");
        return;
    }
    if (!grants_refresh(session)) {
        session_reply_close(session, REPLY_LOGGED_OUT, "the user was changed or removed");
        return;
    }
    name = judge_sender(session, &command);
    if (name == REPLY_SENDER_OK)
        name = judge_room(session);
    if (name == REPLY_SENDER_OK && !transaction_open(session, &command))
        name = REPLY_OUT_OF_MEMORY;
    if (name == REPLY_SENDER_OK && !grants_take_message(session, why)) {
        name = REPLY_LIMIT_REACHED;
        transaction_abandon(session);
    }
    if (name == REPLY_SENDER_OK)
        session->state = STATE_MAIL;
    session->borrowed_sender = command.sender.text;
    session->rule = name == REPLY_SHORT_OF_MEMORY ? "memory" : NULL;
    if (name == REPLY_LIMIT_REACHED)
        grants_refuse(session, why);
    else
        session_reply(session, name, why);
    session->borrowed_sender = session->rule = NULL;
}

/* Who may send there; REPLY_RECIPIENT_OK: this client. `stored` becomes the mailbox that
 * gets the mail, `normal` its domain. */
static enum reply_name judge_recipient(const struct session *session,
                                       const struct rcpt_command *command,
                                       struct address *stored, char normal[DOMAIN_TEXT])
{
    const struct access *access = session->profile->access;
    enum access_verdict verdict;

    *stored = command->recipient;
    if (stored->needs_smtputf8 && !session->transaction->envelope.smtputf8)
        return REPLY_NEEDS_SMTPUTF8;
    if (stored->is_null || (!stored->is_bare_postmaster &&
                            domain_normalise(address_domain(stored), normal) != RESULT_OK))
        return REPLY_BAD_RECIPIENT;
    verdict = access_recipient(access, stored);
    if (verdict == ACCESS_UNKNOWN_USER)
        return REPLY_UNKNOWN_RECIPIENT;
    if (verdict == ACCESS_REMOTE && !session_may_relay(session))
        return REPLY_RELAY_DENIED;
    if (verdict == ACCESS_POSTMASTER &&
        (address_parse_mailbox(slice_of(access_postmaster(access)), stored) != RESULT_OK ||
         domain_normalise(address_domain(stored), normal) != RESULT_OK))
        return REPLY_UNKNOWN_RECIPIENT;
    return REPLY_RECIPIENT_OK;
}

/* A recipient who is there already takes nothing of the limits. */
static enum reply_name add_recipient(struct session *session, const struct address *stored,
                                     const char *normal, const struct rcpt_command *command,
                                     char why[LIMITS_TEXT])
{
    size_t before = transaction_recipients(session);
    enum reply_name name;

    if (!grants_take_recipient(session, why))
        return REPLY_LIMIT_REACHED;
    name = transaction_add(session, stored, normal, command);
    if (transaction_recipients(session) == before)
        limits_return_recipient(session->receive->rooms.limits,
                                &session->transaction->claim);
    return name;
}

static void verb_rcpt(struct session *session, struct slice rest)
{
    struct rcpt_command command;
    struct command_error error;
    struct address stored;
    char normal[DOMAIN_TEXT];
    char why[STRANGERS_TEXT] = "The domain of the recipient is no domain";
    enum reply_name name;

    if (command_parse_rcpt(rest, &command, &error) != RESULT_OK) {
        reply_error(session, &error);
        return;
    }
    name = judge_recipient(session, &command, &stored, normal);
    if (name == REPLY_RECIPIENT_OK)
        name = strangers_judge(session, &command.recipient, why);
    if (name == REPLY_RECIPIENT_OK && grants_suppressed(session, &stored, why)) {
        name = REPLY_SUPPRESSED;
        session->rule = "suppression";
    }
    if (name == REPLY_RECIPIENT_OK)
        name = add_recipient(session, &stored, normal, &command, why);
    if (name == REPLY_RECIPIENT_OK)
        session->state = STATE_RCPT;
    session->borrowed_recipient = command.recipient.text;
    if (name == REPLY_LIMIT_REACHED)
        grants_refuse(session, why);
    else
        session_reply(session, name, why);
    session->borrowed_recipient = session->rule = NULL;
}

static void verb_data(struct session *session, struct slice rest)
{
    if (has_argument(session, rest))
        return;
    if (transaction_recipients(session) == 0) {
        session_reply(session, REPLY_NO_RECIPIENTS, NULL);
        return;
    }
    intake_begin(session);
    framing_read_data(&session->framing);
    session_read(session, READ_DATA);
    session_reply(session, REPLY_START_DATA, NULL);
}

/* A chunk is read whole whatever we think of it: what follows must be commands again, not
 * the inside of a message (RFC 3030 2). */
static void read_chunk(struct session *session, struct slice rest,
                       const struct refusal *refusal)
{
    uint64_t most = grants_message_size(session) + INTAKE_EXCESS_BYTES;
    uint64_t bytes = 0;
    bool is_last = false;

    if (command_parse_bdat(rest, &bytes, &is_last) != RESULT_OK) {
        session_reply(session, REPLY_SYNTAX, "Write BDAT and a number of octets [LAST]");
        session_close(session, "a chunk of unknown size");
        return;
    }
    if (bytes > most) {
        session_reply_close(session, REPLY_TOO_LARGE, "an absurd chunk");
        return;
    }
    session->has_chunk = refusal == NULL;
    if (refusal)
        session->chunk_refusal = *refusal;
    session->chunk_bytes = bytes;
    session->is_last_chunk = is_last;
    framing_read_chunk(&session->framing, bytes);
    session_read(session, READ_CHUNK);
}

static void verb_bdat(struct session *session, struct slice rest)
{
    static const struct refusal nobody = {REPLY_NO_RECIPIENTS, NULL};

    if (transaction_recipients(session) == 0) {
        read_chunk(session, rest, &nobody);
        return;
    }
    if (session->state != STATE_CHUNKS)
        intake_begin(session);
    session->state = STATE_CHUNKS;
    read_chunk(session, rest, NULL);
}

/* ---- the rest ---- */

static void verb_rset(struct session *session, struct slice rest)
{
    if (has_argument(session, rest))
        return;
    abandon(session);
    session_reply(session, REPLY_OK, NULL);
}

static void verb_noop(struct session *session, struct slice rest)
{
    (void)rest; /* RFC 5321 4.1.1.9: ignored */
    session_reply(session, REPLY_OK, NULL);
}

static void verb_vrfy(struct session *session, struct slice rest)
{
    (void)rest;
    session_reply(session, REPLY_CANNOT_VRFY, NULL); /* RFC 5321 3.5.3 */
}

static void verb_expn(struct session *session, struct slice rest)
{
    (void)rest;
    session_reply(session, REPLY_NOT_IMPLEMENTED, NULL);
}

static void verb_quit(struct session *session, struct slice rest)
{
    if (has_argument(session, rest))
        return;
    session_reply_close(session, REPLY_CLOSING, "quit");
}

static void verb_help(struct session *session, struct slice rest)
{
    struct bytes names;
    char text[256];
    size_t count;
    const struct verb *rows = verbs_table(&count);
    enum result added = RESULT_OK;

    (void)rest;
    bytes_init(&names, sizeof text);
    for (size_t i = 0; i < count && added == RESULT_OK; i++)
        added = bytes_format(&names, "%s%s", i > 0 ? " " : "", rows[i].name);
    if (!slice_copy_text(bytes_view(&names), text, sizeof text))
        text[0] = '\0';
    bytes_fini(&names);
    session_reply(session, REPLY_HELP, text);
}

/* ---- the table ---- */

/* clang-format off */
static const struct verb verbs[] = {
    {"EHLO", verb_ehlo, ANYWHERE, ANYBODY, NULL,
     "EHLO client.example.com", "Greets, forgets an open message, lists what is offered (RFC 5321 4.1.1.1).", NULL},
    {"HELO", verb_helo, ANYWHERE, ANYBODY, NULL,
     "HELO client.example.com", "The old greeting, without extensions (RFC 5321 4.1.1.1).", NULL},
    {"STARTTLS", verb_starttls, IN_GREETED, ANYBODY, "Say EHLO first, or finish this message",
     "STARTTLS", "Begins TLS; everything said or sent before is forgotten (RFC 3207).", NULL},
    {"AUTH", verb_auth, IN_GREETED, ANYBODY | ENDS_BATCH, "Say EHLO first, or finish this message",
     "AUTH PLAIN|LOGIN [initial response]", "Logs in; under TLS only (RFC 4954).", NULL},
    {"MAIL", verb_mail, IN_GREETED, 0, "Say EHLO first, or finish this message",
     "MAIL FROM:<sender> [SIZE=n] [BODY=7BIT|8BITMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=id] [REQUIRETLS]",
     "Begins a message (RFC 5321 4.1.1.2).", NULL},
    {"RCPT", verb_rcpt, IN_TRANSACTION, 0, "Say MAIL first",
     "RCPT TO:<recipient> [NOTIFY=...] [ORCPT=rfc822;address]", "Adds a recipient (RFC 5321 4.1.1.3).", NULL},
    {"DATA", verb_data, IN_TRANSACTION, 0, "Say MAIL and RCPT first; after BDAT go on with BDAT",
     "DATA", "The message follows, up to a dot on a line of its own (RFC 5321 4.1.1.4).", NULL},
    {"BDAT", verb_bdat, IN_TRANSACTION | IN(STATE_CHUNKS), 0, "Say MAIL and RCPT first",
     "BDAT n [LAST]", "n octets of the message follow (RFC 3030).", read_chunk},
    {"RSET", verb_rset, ANYWHERE, ANYBODY, NULL,
     "RSET", "Forgets the open message (RFC 5321 4.1.1.5).", NULL},
    {"NOOP", verb_noop, ANYWHERE, ANYBODY, NULL,
     "NOOP [text]", "Does nothing (RFC 5321 4.1.1.9).", NULL},
    {"VRFY", verb_vrfy, ANYWHERE, 0, NULL,
     "VRFY user", "Answers that it cannot tell (RFC 5321 3.5.3).", NULL},
    {"EXPN", verb_expn, ANYWHERE, 0, NULL,
     "EXPN list", "Is not served.", NULL},
    {"HELP", verb_help, ANYWHERE, ANYBODY, NULL,
     "HELP", "Lists the commands (RFC 5321 4.1.1.8).", NULL},
    {"QUIT", verb_quit, ANYWHERE, ANYBODY, NULL,
     "QUIT", "Ends the connection (RFC 5321 4.1.1.10).", NULL},
};
/* clang-format on */

enum { VERB_COUNT = sizeof verbs / sizeof *verbs };
_Static_assert((int)VERB_COUNT <= (int)RECEIVE_VERBS_MAX, "the door counts verbs");

const struct verb *verbs_table(size_t *count)
{
    *count = VERB_COUNT;
    return verbs;
}

/* ---- the dispatcher ---- */

/* Submission: TLS is still missing. */
static bool lacks_tls(const struct session *session)
{
    return session->mode == MODE_SUBMISSION && session->tls && !verbs_allow_log_in(session);
}

bool verbs_refusal(const struct session *session, const struct verb *verb,
                   struct refusal *refusal)
{
    bool is_submission = session->mode == MODE_SUBMISSION;

    *refusal = (struct refusal){REPLY_OK, NULL};
    if (!(verb->allowed & IN(session->state)))
        *refusal = (struct refusal){REPLY_SEQUENCE, verb->elsewhere};
    else if (!(verb->flags & BEFORE_TLS) && lacks_tls(session))
        refusal->name = REPLY_TLS_REQUIRED;
    else if (!(verb->flags & BEFORE_AUTH) && is_submission && !session->user)
        refusal->name = REPLY_AUTH_REQUIRED;
    else if ((verb->flags & ENDS_BATCH) && session->input_behind > 0)
        refusal->name = REPLY_PIPELINED;
    return refusal->name != REPLY_OK;
}

bool verbs_is_fault(enum reply_name name)
{
    static const bool is_bad[REPLY_NAME_COUNT] = {
        [REPLY_AUTH_FAILED] = true,
        [REPLY_AUTH_BAD_BASE64] = true,
        [REPLY_AUTH_CANCELLED] = true,
        [REPLY_AUTH_TOO_LONG] = true,
        [REPLY_AUTH_NEEDS_TLS] = true,
        [REPLY_AUTH_UNKNOWN_MECHANISM] = true,
        [REPLY_AUTH_NOT_OFFERED] = true,
        [REPLY_AUTH_ALREADY] = true,
        [REPLY_TLS_REQUIRED] = true,
        [REPLY_AUTH_REQUIRED] = true,
        [REPLY_TLS_NOT_AVAILABLE] = true,
        [REPLY_TLS_ALREADY] = true,
        [REPLY_UNKNOWN_COMMAND] = true,
        [REPLY_NOT_IMPLEMENTED] = true,
        [REPLY_LINE_TOO_LONG] = true,
        [REPLY_BAD_LINE] = true,
        [REPLY_SYNTAX] = true,
        [REPLY_PARAMETER_UNKNOWN] = true,
        [REPLY_SEQUENCE] = true,
        [REPLY_PIPELINED] = true,
        [REPLY_BAD_SENDER] = true,
        [REPLY_RELAY_DENIED] = true,
        [REPLY_SENDER_DENIED] = true,
        [REPLY_NO_RECIPIENTS] = true,
    };

    return is_bad[name];
}

static const struct verb *find(struct slice name)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (slice_equal_text_fold(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

void verbs_dispatch(struct session *session, struct slice line)
{
    struct refusal refusal;
    struct slice name;
    struct slice rest;

    session->verb = command_split(line, &name, &rest) ? find(name) : NULL;
    if (!session->verb)
        session_reply(session, REPLY_UNKNOWN_COMMAND, NULL);
    else if (!verbs_refusal(session, session->verb, &refusal))
        session->verb->handle(session, rest);
    else if (session->verb->refuse)
        session->verb->refuse(session, rest, &refusal);
    else
        session_reply(session, refusal.name, refusal.argument);
}
