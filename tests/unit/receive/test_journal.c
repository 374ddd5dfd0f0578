/* What the events say, and what they never say. */
#include "journal.h"

#include "world.h"

static char folder[64];
static char path[80];

static void start(struct world *w)
{
    (void)snprintf(folder, sizeof folder, "/tmp/smtpd-test-journal-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/log", folder);
    world_prepare(w);
    w->log_output = path;
    world_start(w);
    world_connect(w, "192.0.2.9");
}

/* Ends the world, so that all is written; the text is the caller's. */
static char *end(struct world *w)
{
    char *text = memory_new(1 << 20);
    FILE *file;

    world_end(w);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 20) - 1, file) < (1 << 20) - 1);
    (void)fclose(file);
    (void)unlink(path);
    (void)rmdir(folder);
    return text;
}

TEST(journal, tells_a_message_from_log_in_to_goodbye)
{
    struct world w;
    char *text;

    start(&w);
    world_log_in(&w);
    world_play(
        &w, "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<nobody@home.test>\nS: 550 *\n"
            "C: RCPT TO:<bob@home.test>\nS: 250 *\nC: DATA\nS: 354 *\n"
            "C: Message-ID: <m1@b.test>\nC:\nC: confidential words\nC: .\nS: 250 *\n"
            "C: QUIT\nS: 221 *\nS: <closed>\n");
    text = end(&w);
    assert_true(dialogue_matches("*\"event\":\"receive.connected\"*\"session\":\"*\","
                                 "\"peer\":\"192.0.2.9\",\"listener\":\"0.0.0.0:587\"*",
                                 text));
    assert_true(
        dialogue_matches("*\"event\":\"receive.auth_ok\"*\"user\":\"alice\"*", text));
    assert_true(
        dialogue_matches("*\"event\":\"receive.rejected\"*\"verb\":\"RCPT\","
                         "\"sender\":\"a@b.test\",\"recipient\":\"nobody@home.test\"*"
                         "\"code\":550,\"enhanced\":\"5.1.1\"*",
                         text));
    assert_true(
        dialogue_matches("*\"event\":\"receive.accepted\"*\"id\":\"*\","
                         "\"sender\":\"a@b.test\",\"recipients\":1,"
                         "\"recipient\":\"bob@home.test\",\"size\":*,\"user\":\"alice\","
                         "\"tenant\":\"alice\","
                         "\"message_id\":\"<m1@b.test>\",\"tls\":{\"version\":\"TLSv1.3\"*"
                         "\"delays\":{\"receive\":*",
                         text));
    assert_true(dialogue_matches("*\"event\":\"receive.disconnected\"*\"reason\":\"quit\","
                                 "\"messages\":1,*",
                                 text));
    assert_null(strstr(text, "confidential"));
    memory_free(text);
}

TEST(journal, keeps_secrets)
{
    struct world w;
    char *text;

    start(&w);
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: STARTTLS\nS: 220 *\n");
    world_secure(&w, NULL);
    /* The password as user name, in the wrong place, unasked for, and in a line of its own.
     */
    world_play(
        &w,
        "C: EHLO a.test\nS: 250 *\nC: AUTH PLAIN AGFsaWNlAGhpZGRlbg==\nS: 535 *\n"
        "C: AUTH PLAIN AGFsaWNlAGhpZGRlbg==\nC: AGFsaWNlAGhpZGRlbg==\nS: 503 *\nS: 500 *\n"
        "C: hidden\nS: 500 *\nC: AUTH LOGIN\nS: 334 *\nC: aGlkZGVuIHdvcmQ=\nS: 334 *\n"
        "C: aGlkZGVu\nS: 535 *\n");
    text = end(&w);
    assert_non_null(strstr(text, "receive.auth_failed"));
    assert_null(strstr(text, "hidden"));
    assert_null(strstr(text, "aGlkZGVu"));
    assert_null(strstr(text, "AGFsaWNl"));
    memory_free(text);
}

TEST(journal, tells_refused_connections)
{
    struct world w;
    char *text;

    start(&w);
    for (int i = 0; i < 4; i++)
        world_connect(&w, "192.0.2.9");
    text = end(&w);
    assert_true(dialogue_matches("*\"event\":\"receive.refused\"*\"peer\":\"192.0.2.9\"*"
                                 "\"code\":421,\"enhanced\":\"4.7.0\"*",
                                 text));
    memory_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(journal, tells_a_message_from_log_in_to_goodbye),
        RUN(journal, keeps_secrets),
        RUN(journal, tells_refused_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
