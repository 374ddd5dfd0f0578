/* The verb table, walked: every verb in every state, in clear and secured, with and without
 * a log-in, on both kinds of listener; and the dialogues of single verbs. */
#include "verbs.h"

#include "world.h"

static const char *const arguments[][2] = {
    {"EHLO", " a.test"},
    {"HELO", " a.test"},
    {"AUTH", " PLAIN AGFsaWNlAHdyb25n"},
    {"MAIL", " FROM:<a@b.test>"},
    {"RCPT", " TO:<c@d.test>"},
    {"BDAT", " 0"},
    {"VRFY", " bob"},
    {"EXPN", " list"},
};

/* From the greeting to the state, with all rights. */
static const char *const ways[STATE_COUNT] = {
    [STATE_FRESH] = "S: 220 *\n",
    [STATE_GREETED] = "S: 220 *\nC: EHLO a.test\nS: 250 *\n",
    [STATE_MAIL] =
        "S: 220 *\nC: EHLO a.test\nC: MAIL FROM:<a@b.test>\nS: 250 *\nS: 250 *\n",
    [STATE_RCPT] =
        "S: 220 *\nC: EHLO a.test\nC: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\n"
        "S: 250 *\nS: 250 *\nS: 250 *\n",
    [STATE_CHUNKS] =
        "S: 220 *\nC: EHLO a.test\nC: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\n"
        "C: BDAT 2\nC> hi\nS: 250 *\nS: 250 *\nS: 250 *\nS: 250 *\n",
};

static struct session *session_of(const struct world *w)
{
    return CONTAINER_OF(list_first(&w->receive->sessions), struct session, link);
}

static const char *argument_of(const struct verb *verb)
{
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        if (strcmp(arguments[i][0], verb->name) == 0)
            return arguments[i][1];
    return "";
}

/* What the row says, worked out a second time. */
static void expected_refusal(const struct verb *verb, int state, int rights,
                             bool is_submission, char text[256])
{
    bool is_secured = rights & 1;
    bool has_user = rights & 2;
    struct reply reply;

    text[0] = '\0';
    if (!(verb->allowed >> state & 1))
        reply_named(&reply, REPLY_SEQUENCE, verb->elsewhere);
    else if (is_submission && !is_secured && !(verb->flags & BEFORE_TLS))
        reply_named(&reply, REPLY_TLS_REQUIRED, NULL);
    else if (is_submission && !has_user && !(verb->flags & BEFORE_AUTH))
        reply_named(&reply, REPLY_AUTH_REQUIRED, NULL);
    else
        return;
    reply_print(&reply, text, 256);
}

static bool is_refusal(const struct verb *verb, const char *line)
{
    return strncmp(line, "530", 3) == 0 ||
           (verb->elsewhere && strncmp(line, "503", 3) == 0 &&
            strstr(line, verb->elsewhere));
}

static void walk_one(struct world *w, const struct verb *verb, int state, int rights)
{
    struct session *session;
    char script[512];
    char refusal[256];

    world_connect(w, "10.1.1.1");
    session = session_of(w);
    session->is_secured = true;
    session->user = memory_text("alice");
    session->account = account_ref(auth_account(w->auth, "alice"));
    world_play(w, ways[state]);
    assert_int_equal(session->state, state);
    session->is_secured = rights & 1;
    if (!(rights & 2)) {
        memory_free(session->user);
        account_unref(session->account);
        session->user = NULL;
        session->account = NULL;
    }
    expected_refusal(verb, state, rights, w->listener.mode == MODE_SUBMISSION, refusal);
    (void)snprintf(script, sizeof script, "C: %s%s\nS: %s\n", verb->name, argument_of(verb),
                   refusal[0] ? refusal : "*");
    world_play(w, script);
    if (!refusal[0] && is_refusal(verb, w->dialogue.last))
        fail_msg("%s in state %d with rights %d: %s", verb->name, state, rights,
                 w->dialogue.last);
    w->stream->on_secured = NULL;
    if (!w->stream->is_closed)
        world_vanish(w);
    loop_run_for(w->loop, 0);
}

static void walk(enum receive_mode mode)
{
    struct world w;
    size_t count;
    const struct verb *verbs = verbs_table(&count);

    world_prepare(&w);
    w.listener.mode = mode;
    world_start(&w);
    for (size_t i = 0; i < count; i++)
        for (int state = 0; state < STATE_COUNT; state++)
            for (int rights = 0; rights < 4; rights++)
                walk_one(&w, &verbs[i], state, rights);
    world_end(&w);
}

TEST(verbs, do_what_their_row_says_on_submission)
{
    walk(MODE_SUBMISSION);
}

TEST(verbs, do_what_their_row_says_on_relay)
{
    walk(MODE_RELAY);
}

TEST(verbs, have_sound_rows)
{
    size_t count;
    const struct verb *verbs = verbs_table(&count);

    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(verbs[i].name) >= 4);
        assert_non_null(verbs[i].handle);
        assert_true(verbs[i].allowed != 0 && verbs[i].allowed < 1U << STATE_COUNT);
        /* A row that is closed somewhere says what to do instead. */
        assert_true(verbs[i].allowed == (1U << STATE_COUNT) - 1 ||
                    verbs[i].elsewhere != NULL);
        assert_int_equal(verbs[i].summary[strlen(verbs[i].summary) - 1], '.');
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(verbs[i].name, verbs[k].name);
    }
}

static void start(struct world *w, enum receive_mode mode, const char *address)
{
    world_prepare(w);
    w->listener.mode = mode;
    world_start(w);
    world_connect(w, address);
}

TEST(verbs, refuse_wrong_arguments)
{
    struct world w;

    start(&w, MODE_RELAY, "10.1.1.1");
    world_play(&w,
               "S: 220 *\nC: EHLO\nS: 501 5.5.4 *\nC: HELO\nS: 501 5.5.4 *\n"
               "C: HELO a.test\nS: 250 relay.test\nC: RSET now\nS: 501 5.5.4 *\n"
               "C: QUIT now\nS: 501 5.5.4 *\nC: STARTTLS now\nS: 501 5.5.4 *\n"
               "C: MAIL <a@b.test>\nS: 501 5.5.4 *\nC: MAIL FROM:a@b.test\nS: 501 5.5.4 *\n"
               "C: MAIL FROM:<a@b.test> SIZE=x\nS: 501 5.5.4 *\n"
               "C: MAIL FROM:<a@b.test> COLOUR=red\nS: 555 5.5.4 *\n"
               "C: MAIL FROM:<a@b.test>\nS: 250 2.1.0 *\nC: RCPT TO:<>\nS: 501 5.5.4 *\n"
               "C: RCPT TO:<c@d.test> NOTIFY=NEVER,DELAY\nS: 501 5.5.4 *\n"
               "C: RCPT TO:<c@d.test>\nS: 250 2.1.5 *\nC: DATA now\nS: 501 5.5.4 *\n"
               "C: HELP\nS: 214 2.0.0 *EHLO HELO STARTTLS AUTH MAIL*\n"
               "C: VRFY bob\nS: 252 2.5.0 *\nC: EXPN all\nS: 502 5.5.1 *\n");
    world_end(&w);
}

TEST(verbs, know_whose_recipients_these_are)
{
    struct world w;

    start(&w, MODE_RELAY, "198.51.100.7");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<bob@home.test>\nS: 250 2.1.5 *\n"
                   "C: RCPT TO:<BOB@Home.Test.>\nS: *\n"
                   "C: RCPT TO:<nobody@home.test>\nS: 550 5.1.1 *\n"
                   "C: RCPT TO:<x@elsewhere.test>\nS: 550 5.7.1 *\n"
                   "C: RCPT TO:<postmaster>\nS: 250 2.1.5 *\n"
                   "C: RCPT TO:<Postmaster@home.test>\nS: 250 2.1.5 *\n"
                   "C: RCPT TO:<postmaster@elsewhere.test>\nS: 550 5.7.1 *\n");
    world_connect(&w, "10.1.1.1");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<x@elsewhere.test>\nS: 250 2.1.5 *\n"
                   "C: RCPT TO:<nobody@home.test>\nS: 550 5.1.1 *\n");
    world_end(&w);
}

TEST(verbs, let_a_logged_in_client_relay)
{
    struct world w;

    start(&w, MODE_SUBMISSION, "198.51.100.7");
    world_log_in(&w);
    world_play(
        &w, "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<x@elsewhere.test>\nS: 250 *\n"
            "C: RCPT TO:<nobody@home.test>\nS: 550 5.1.1 *\n");
    world_end(&w);
}

TEST(verbs, do_not_trust_networks_on_submission)
{
    struct world w;

    start(&w, MODE_SUBMISSION, "10.1.1.1");
    world_play(
        &w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: MAIL FROM:<a@b.test>\nS: 530 5.7.0 *\n"
            "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 538 5.7.11 *\nC: STARTTLS\nS: 220 *\n");
    world_secure(&w, NULL);
    world_play(&w, "C: EHLO a.test\nS: 250 *\nC: MAIL FROM:<a@b.test>\nS: 530 5.7.0 *\n");
    world_end(&w);
}

TEST(verbs, ask_for_smtputf8)
{
    struct world w;

    start(&w, MODE_RELAY, "10.1.1.1");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\n"
                   "C: MAIL FROM:<gr\\xc3\\xbc@b.test>\nS: 553 5.6.7 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<gr\\xc3\\xbc@d.test>\n"
                   "S: 553 5.6.7 *\nC: RSET\nS: 250 *\n"
                   "C: MAIL FROM:<gr\\xc3\\xbc@b.test> SMTPUTF8\nS: 250 *\n"
                   "C: RCPT TO:<gr\\xc3\\xbc@d.test>\nS: 250 *\n");
    world_end(&w);
}

TEST(verbs, judge_size_and_room_at_mail)
{
    struct world w;

    start(&w, MODE_RELAY, "10.1.1.1");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test> SIZE=100001\nS: 552 5.3.4 *\n"
                   "C: MAIL FROM:<a@b.test> SIZE=99999999999999999999999\nS: 501 *\n");
    w.queue.room = RESULT_NO_SPACE;
    world_play(&w, "C: MAIL FROM:<a@b.test>\nS: 452 4.3.1 *\n");
    w.queue.room = RESULT_IO;
    world_play(&w, "C: MAIL FROM:<a@b.test>\nS: 451 4.3.0 *\n");
    w.queue.room = RESULT_BUSY;
    world_play(&w, "C: MAIL FROM:<a@b.test>\nS: 452 4.3.1 *\n");
    w.queue.room = RESULT_OK;
    world_play(&w, "C: MAIL FROM:<a@b.test> SIZE=100000\nS: 250 *\n");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(verbs, do_what_their_row_says_on_submission),
        RUN(verbs, do_what_their_row_says_on_relay),
        RUN(verbs, have_sound_rows),
        RUN(verbs, refuse_wrong_arguments),
        RUN(verbs, know_whose_recipients_these_are),
        RUN(verbs, let_a_logged_in_client_relay),
        RUN(verbs, do_not_trust_networks_on_submission),
        RUN(verbs, ask_for_smtputf8),
        RUN(verbs, judge_size_and_room_at_mail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
