/* Which rule fits whom. */
#include "world.h"

#include "header_rules.h"

static const char *const submission[] = {"0.0.0.0:587"};
static const char *const elsewhere[] = {"0.0.0.0:465"};
static const char *const anybody[] = {"*"};
static const char *const alice[] = {"alice"};
static const char *const mailer[] = {"X-Mailer"};
static const char *const secret[] = {"X-Secret"};
static const char *const tag[] = {"X-Tag: one", "X-Tag: two"};

/* clang-format off */
static const struct header_rule rules[] = {
    {NULL, 0,       NULL, 0,    mailer, 1, NULL, 0},
    {submission, 1, anybody, 1, secret, 1, NULL, 0},
    {elsewhere, 1,  NULL, 0,    NULL, 0,   tag, 2},
    {NULL, 0,       alice, 1,   NULL, 0,   tag, 2},
};
/* clang-format on */
enum { RULES = sizeof rules / sizeof *rules };

static struct session *session_of(const char *listener, const char *user)
{
    struct session *session = NEW(struct session);

    (void)snprintf(session->listener, sizeof session->listener, "%s", listener);
    session->user = memory_text(user);
    return session;
}

static void drop(struct session *session)
{
    memory_free(session->user);
    memory_free(session);
}

static size_t removed(const char *listener, const char *user, const char **names)
{
    struct header_rules *copy = header_rules_new(rules, RULES);
    struct session *session = session_of(listener, user);
    size_t count = header_rules_removed(copy, session, names, 8);

    for (size_t i = 0; i < count; i++)
        names[i] = strcmp(names[i], "X-Mailer") == 0 ? "X-Mailer" : "X-Secret";
    drop(session);
    header_rules_free(copy);
    return count;
}

TEST(header_rules, a_rule_without_names_fits_everybody)
{
    const char *names[8];

    assert_int_equal(removed("0.0.0.0:25", NULL, names), 1);
    assert_string_equal(names[0], "X-Mailer");
}

TEST(header_rules, a_star_means_whoever_logged_in)
{
    const char *names[8];

    assert_int_equal(removed("0.0.0.0:587", NULL, names), 1);
    assert_int_equal(removed("0.0.0.0:587", "bob", names), 2);
    assert_string_equal(names[1], "X-Secret");
    assert_int_equal(removed("0.0.0.0:25", "bob", names), 1);
}

TEST(header_rules, fields_are_added_for_the_listener_or_the_user_named)
{
    static const struct {
        const char *listener;
        const char *user;
        const char *expected;
    } cases[] = {{"0.0.0.0:25", "bob", ""},
                 {"0.0.0.0:465", "bob", "X-Tag: one\r\nX-Tag: two\r\n"},
                 {"0.0.0.0:25", "alice", "X-Tag: one\r\nX-Tag: two\r\n"}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct header_rules *copy = header_rules_new(rules, RULES);
        struct session *session = session_of(cases[i].listener, cases[i].user);
        struct bytes added;

        bytes_init(&added, 1000);
        assert_int_equal(header_rules_add(copy, session, &added), RESULT_OK);
        assert_true(slice_equal_text(bytes_view(&added), cases[i].expected));
        bytes_fini(&added);
        drop(session);
        header_rules_free(copy);
    }
}

TEST(header_rules, never_name_more_than_there_is_room_for)
{
    struct header_rules *copy = header_rules_new(rules, RULES);
    struct session *session = session_of("0.0.0.0:587", "bob");
    const char *names[2] = {NULL, NULL};

    assert_int_equal(header_rules_removed(copy, session, names, 1), 1);
    assert_null(names[1]);
    drop(session);
    header_rules_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(header_rules, a_rule_without_names_fits_everybody),
        RUN(header_rules, a_star_means_whoever_logged_in),
        RUN(header_rules, fields_are_added_for_the_listener_or_the_user_named),
        RUN(header_rules, never_name_more_than_there_is_room_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
