/* One report whose places are silent: it ends in its time, whatever they are. */
#include "deliver_world.h"
#include "tls_report_send.h"

struct outcome_of_sending {
    unsigned ends;
    enum deliver_tls_report result;
    char text[512];
};

static void on_sent(void *owner, struct tally_domain *domain,
                    enum deliver_tls_report result, const char *text)
{
    struct outcome_of_sending *outcome = owner;

    assert_string_equal(domain->domain, "rua.test");
    outcome->ends++;
    outcome->result = result;
    (void)snprintf(outcome->text, sizeof outcome->text, "%s", text);
}

/* Two web servers that say nothing, then `more`. */
static void publish(struct world *w, const char *more)
{
    unsigned port = w->peers[0].endpoint.port;

    world_make_tls(w, "mx1.test");
    w->settings.tls_report_organization = "Example";
    w->settings.tls_report_contact = "tls@example.test";
    world_apply(w);
    (void)snprintf(world_rua, sizeof world_rua,
                   "TXT v=TLSRPTv1\\059 rua=https://mx1.test:%u/a,https://mx1.test:%u/b%s",
                   port, port, more);
    smtp_peer_play(&w->peers[0], "C: <rest>\n");
    smtp_peer_play(&w->peers[0], "C: <rest>\n");
    loop_run_for(w->loop, 1); /* the certificate took time, which its clock did not see */
}

static void send_in(struct world *w, int64_t time_ms, struct outcome_of_sending *outcome)
{
    struct tally_session session = {.domain = "rua.test", .policy = ""};
    struct tally *tally = tally_new();
    struct tally_domain *domain;
    struct tls_report_send *send;

    assert_true(tally_count(tally, &session, 0));
    domain = tally_close(tally, "rua.test", TALLY_DAY_MS);
    send = tls_report_send_start(w->deliver, domain, time_ms, on_sent, outcome);
    assert_int_equal(outcome->ends, 0);
    WORLD_UNTIL(w, outcome->ends == 1);
    tls_report_send_cancel(send);
    tally_free(tally);
}

TEST(tls_report_send, all_web_servers_share_its_time)
{
    struct world *w = *state;
    struct outcome_of_sending outcome = {0};

    publish(w, "");
    send_in(w, 1500, &outcome);
    assert_int_equal(outcome.result, DELIVER_TLS_REPORT_FAILED);
    assert_non_null(strstr(outcome.text, "mx1.test"));
    assert_int_equal(w->peers[0].accepted, 1);
}

TEST(tls_report_send, what_has_taken_its_time_still_goes_by_mail)
{
    struct world *w = *state;
    struct outcome_of_sending outcome = {0};

    publish(w, ",mailto:reports@servfail.test");
    send_in(w, 1500, &outcome);
    assert_int_equal(outcome.result, DELIVER_TLS_REPORT_SENT);
    assert_string_equal(outcome.text, "mailto:reports@servfail.test");
    assert_int_equal(w->peers[0].accepted, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(tls_report_send, all_web_servers_share_its_time),
        WITH_WORLD(tls_report_send, what_has_taken_its_time_still_goes_by_mail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
