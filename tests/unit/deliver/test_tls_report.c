/* Whose turn it is to be told: what failed stands behind all the others. */
#include "smtpd/deliver/tls_report.h"

#include "deliver_world.h"
#include "tls_report.h"

static void note(void *owner, const struct tls_report_item *item)
{
    char *names = owner;

    (void)strcat(strcat(names, item->domain), " ");
}

static void count(struct world *w, const char *domain)
{
    tls_report_count(w->deliver->tls_report,
                     &(struct tally_session){.domain = domain, .policy = ""});
}

TEST(tls_report, one_that_failed_goes_behind_the_others)
{
    struct world *w = *state;
    char names[256] = "";

    w->settings.tls_report_organization = "Example";
    w->settings.tls_report_contact = "tls@example.test";
    world_apply(w);
    count(w, "one.servfail.test");
    count(w, "two.silent.test"); /* under way all the time */
    assert_int_equal(deliver_tls_report_send(w->deliver, NULL), 2);
    WORLD_UNTIL(w, world_counts(w).tls_reports[DELIVER_TLS_REPORT_FAILED] == 1);
    assert_int_equal(deliver_tls_report_walk(w->deliver, 0, 10, note, names), 4);
    assert_string_equal(names, "two.silent.test one.servfail.test ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(tls_report, one_that_failed_goes_behind_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
