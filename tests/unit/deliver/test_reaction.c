/* Which replies are reacted to, and how. */
#include "reaction.h"

#include "test.h"

#include <string.h>

static struct reply reply_of(const char *text)
{
    struct reply_reader reader;

    reply_reader_init(&reader);
    assert_int_equal(reply_reader_line(&reader, slice_of(text), NULL), REPLY_COMPLETE);
    return reader.reply;
}

static const struct reaction *find(const struct reaction *table, size_t count, bool shipped,
                                   const char *text, const char *host)
{
    struct deliver_settings values = {.hostname = "relay.test",
                                      .reactions = table,
                                      .reaction_count = count,
                                      .shipped_reactions = shipped};
    struct plan_settings *settings = settings_new(&values, NULL);
    struct reply reply = reply_of(text);
    const struct reaction *found = reaction_find(settings, &reply, host, "customer.test");
    static struct reaction copy;

    if (found)
        copy = *found;
    settings_unref(settings);
    return found ? &copy : NULL;
}

TEST(reaction, codes_are_matched_digit_by_digit)
{
    assert_true(reaction_code_matches("421", 421));
    assert_true(reaction_code_matches("4xx", 451));
    assert_true(reaction_code_matches("45x", 451));
    assert_false(reaction_code_matches("45x", 421));
    assert_false(reaction_code_matches("421", 422));
}

TEST(reaction, texts_are_matched_anywhere_and_in_either_case)
{
    assert_true(reaction_text_matches("too fast", "4.7.1 You send TOO FAST for us"));
    assert_true(reaction_text_matches("you*fast", "4.7.1 You send too fast"));
    assert_true(reaction_text_matches("", "anything"));
    assert_true(reaction_text_matches("ab", "aab"));
    assert_true(reaction_text_matches("a*bc", "aXbXbc"));
    assert_false(reaction_text_matches("fast*you", "You send too fast"));
    assert_false(reaction_text_matches("faster", "too fast"));
}

TEST(reaction, the_first_that_fits_holds_and_all_that_is_given_must_fit)
{
    static const char *const hosts[] = {"*.mx.test"};
    static const struct reaction table[] = {
        {.code = "421",
         .text = "odd",
         .match = hosts,
         .match_count = 1,
         .action = REACTION_SUSPEND,
         .for_ms = 1},
        {.code = "421", .status = "4.7.*", .action = REACTION_SLOW, .for_ms = 2},
        {.text = "quiet", .action = REACTION_NONE},
        {.text = "quiet throttled", .action = REACTION_SLOW},
    };

    assert_int_equal(find(table, 4, false, "421 4.7.0 odd", "a.mx.test")->action,
                     REACTION_SUSPEND);
    assert_int_equal(find(table, 4, false, "421 4.7.0 odd", "other.test")->action,
                     REACTION_SLOW);
    assert_null(find(table, 4, false, "421 4.3.2 odd", "other.test"));
    assert_null(find(table, 4, false, "450 4.7.0 odd", "a.mx.test"));
    /* "none" ends the search, in the shipped ones too. */
    assert_null(find(table, 4, true, "450 4.7.0 quiet throttled", "a.mx.test"));
    /* What is no refusal is no reason. */
    assert_null(find(table, 4, true, "250 2.0.0 throttled", "a.mx.test"));
}

TEST(reaction, a_recipient_domain_is_matched_as_well_as_the_host)
{
    static const char *const domains[] = {"customer.test"};
    static const struct reaction one = {
        .code = "4xx", .match = domains, .match_count = 1, .action = REACTION_BACK_OFF};

    assert_non_null(find(&one, 1, false, "451 4.3.0 later", "mx.provider.test"));
}

TEST(reaction, what_large_providers_say_is_known)
{
    static const struct {
        const char *reply;
        const char *host;
        enum reaction_action action;
    } samples[] = {
        {"421 4.7.28 [192.0.2.1 15] Gmail has detected an unusual rate of unsolicited mail "
         "originating from your IP address.",
         "gmail-smtp-in.l.google.com", REACTION_SLOW},
        {"421 4.7.0 [192.0.2.1 15] Our system has detected an unusual rate of unsolicited "
         "mail originating from your IP address.",
         "aspmx.l.google.com", REACTION_SLOW},
        {"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected "
         "volume or user complaints - 4.16.55.1",
         "mta7.am0.yahoodns.net", REACTION_BACK_OFF},
        {"421 4.7.1 [TSS03] All messages from 192.0.2.1 will be deferred",
         "mta5.am0.yahoodns.net", REACTION_BACK_OFF},
        {"553 5.7.1 [TSS11] All messages from 192.0.2.1 will be permanently deferred",
         "mta5.am0.yahoodns.net", REACTION_SUSPEND},
        {"451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
         "example-com.mail.protection.outlook.com", REACTION_SLOW},
        {"451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to "
         "IP reputation.",
         "hotmail-com.olc.protection.outlook.com", REACTION_BACK_OFF},
        {"451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
         "example-com.a-v1.mx.microsoft", REACTION_SLOW},
        {"421 RP-001 The mail server IP connecting to Outlook.com server has exceeded the "
         "rate limit allowed.",
         "mx1.hotmail.com", REACTION_SLOW},
        {"421 4.1.0 192.0.2.1 Throttled - try again later. RL000003", "mx1.comcast.net",
         REACTION_SLOW},
        {"450 4.7.1 You are sending too fast", "mx.small.test", REACTION_SLOW},
    };

    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const struct reaction *found =
            find(NULL, 0, true, samples[i].reply, samples[i].host);

        if (!found || found->action != samples[i].action)
            fail_msg("%s", samples[i].reply);
        assert_null(find(NULL, 0, false, samples[i].reply, samples[i].host));
    }
}

TEST(reaction, a_class_is_told_by_the_rules_and_the_rest_must_fit_too)
{
    static const struct class_rule rules[] = {
        {.class = CLASS_RATE, .text = "slow down"},
        {.class = CLASS_REPUTATION, .text = "bad address", .host = "*.mx.test"}};
    static const struct reaction table[] = {
        {.code = "421", .classes = 1 << CLASS_RATE, .action = REACTION_SUSPEND},
        {.classes = 1 << CLASS_RATE | 1 << CLASS_REPUTATION, .action = REACTION_BACK_OFF}};
    struct deliver_settings values = {.hostname = "relay.test",
                                      .reactions = table,
                                      .reaction_count = 2,
                                      .classifier = classifier_new(rules, 2)};
    struct plan_settings *settings = settings_new(&values, NULL);
    struct reply slow = reply_of("450 4.7.1 please slow down");
    struct reply close = reply_of("421 4.7.1 please slow down");
    struct reply bad = reply_of("554 5.7.1 bad address");
    struct reply other = reply_of("554 5.7.1 no");

    assert_int_equal(reaction_find(settings, &slow, "mx.test", "a.test")->action,
                     REACTION_BACK_OFF);
    assert_int_equal(reaction_find(settings, &close, "mx.test", "a.test")->action,
                     REACTION_SUSPEND);
    assert_int_equal(reaction_find(settings, &bad, "a.mx.test", "a.test")->action,
                     REACTION_BACK_OFF);
    assert_null(
        reaction_find(settings, &bad, "a.test", "a.test")); /* another host's rule */
    assert_null(reaction_find(settings, &other, "a.mx.test", "a.test"));
    settings_unref(settings);
    classifier_unref(values.classifier);
}

TEST(reaction, what_is_said_about_a_message_or_a_mailbox_is_no_reason)
{
    static const char *const replies[] = {
        "450 4.2.0 Greylisted, try again in 300 seconds",
        "452 4.2.2 The email account that you tried to reach is over quota",
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that "
        "prevents additional messages",
        "550 5.1.1 no such user", "451 4.3.0 temporary lookup failure"};

    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        if (find(NULL, 0, true, replies[i], "aspmx.l.google.com"))
            fail_msg("%s", replies[i]);
}

TEST(reaction, the_shipped_ones_are_sound)
{
    size_t count;
    const struct reaction *shipped = reaction_shipped(&count);

    for (size_t i = 0; i < count; i++) {
        assert_true(shipped[i].code || shipped[i].text);
        assert_true(!shipped[i].text || strlen(shipped[i].text) <= REACTION_PATTERN_MAX);
        assert_true(shipped[i].for_ms > 0);
        assert_true(shipped[i].action != REACTION_BOUNCE);
        assert_true((shipped[i].action == REACTION_SLOW) == (shipped[i].percent > 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(reaction, codes_are_matched_digit_by_digit),
        RUN(reaction, texts_are_matched_anywhere_and_in_either_case),
        RUN(reaction, the_first_that_fits_holds_and_all_that_is_given_must_fit),
        RUN(reaction, a_recipient_domain_is_matched_as_well_as_the_host),
        RUN(reaction, a_class_is_told_by_the_rules_and_the_rest_must_fit_too),
        RUN(reaction, what_large_providers_say_is_known),
        RUN(reaction, what_is_said_about_a_message_or_a_mailbox_is_no_reason),
        RUN(reaction, the_shipped_ones_are_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
