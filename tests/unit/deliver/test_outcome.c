/* What a reply means for a recipient, and the class that log lines carry. */
#include "inner.h"

#include "test.h"

#include <string.h>

static struct reply reply_of(const char *line)
{
    struct reply_reader reader;

    reply_reader_init(&reader);
    assert_int_equal(reply_reader_line(&reader, slice_of(line), NULL), REPLY_COMPLETE);
    return reader.reply;
}

TEST(outcome, codes_decide)
{
    static const struct {
        const char *line;
        enum verdict verdict;
    } rows[] = {{"250 2.0.0 ok", VERDICT_DELIVERED},
                {"251 2.1.5 will forward", VERDICT_DELIVERED},
                {"421 4.3.2 closing", VERDICT_DEFERRED},
                {"450 busy", VERDICT_DEFERRED},
                {"452 4.5.3 too many", VERDICT_DEFERRED},
                {"550 5.1.1 unknown", VERDICT_FAILED},
                {"554 no", VERDICT_FAILED},
                {"354 what", VERDICT_DEFERRED}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply reply = reply_of(rows[i].line);

        if (verdict_of(&reply) != rows[i].verdict)
            fail_msg("%s", rows[i].line);
    }
}

TEST(outcome, a_reply_is_kept_with_its_status_or_the_one_its_code_implies)
{
    struct arena arena;
    struct reply with = reply_of("550 5.1.1 unknown user");
    struct reply without = reply_of("450 busy");
    struct said *said;

    arena_init(&arena, 1 << 16);
    said = said_reply(&arena, &with, "mx.a.test");
    assert_true(said->is_remote);
    assert_int_equal(said->code, 550);
    assert_string_equal(said->status, "5.1.1");
    assert_string_equal(said->host, "mx.a.test");
    assert_non_null(strstr(said->text, "unknown user"));
    said = said_reply(&arena, &without, NULL);
    assert_true(said->status[0] == '4');
    assert_string_equal(said->host, "");
    arena_clear(&arena);
}

/* The queue's commands and reports want whole characters of a reply longer than is kept. */
TEST(outcome, a_long_reply_is_cut_between_two_characters)
{
    struct arena arena;
    char text[2 * GROUP_REPLY_TEXT] = "x";
    struct said *said;

    for (size_t i = 1; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    arena_init(&arena, 1 << 16);
    said = said_words(&arena, CLASS_OTHER, 451, "4.0.0", text, NULL);
    assert_int_equal(strlen(said->text), GROUP_REPLY_TEXT - 1);
    text[0] = '\xc3'; /* now the characters stand so that one is halved */
    text[1] = '\xa9';
    for (size_t i = 2; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    said = said_words(&arena, CLASS_OTHER, 451, "4.0.0", text, NULL);
    assert_int_equal(strlen(said->text), GROUP_REPLY_TEXT - 2);
    arena_clear(&arena);
}

TEST(outcome, the_class_is_what_became_of_it_or_what_was_said)
{
    struct said said = {.is_remote = true, .class = CLASS_QUOTA};
    struct outcome outcome = {.verdict = VERDICT_DELIVERED, .said = &said};

    assert_int_equal(verdict_class(&outcome), CLASS_DELIVERED);
    outcome.is_relayed = true;
    assert_int_equal(verdict_class(&outcome), CLASS_RELAYED);
    outcome.verdict = VERDICT_DEFERRED;
    assert_int_equal(verdict_class(&outcome), CLASS_QUOTA);
    outcome.verdict = VERDICT_FAILED;
    assert_int_equal(verdict_class(&outcome), CLASS_QUOTA);
    outcome.is_operator = true;
    assert_int_equal(verdict_class(&outcome), CLASS_OPERATOR);
    outcome.is_expired = true;
    assert_int_equal(verdict_class(&outcome), CLASS_EXPIRED);
    outcome = (struct outcome){.verdict = VERDICT_FAILED};
    assert_int_equal(verdict_class(&outcome), CLASS_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(outcome, codes_decide),
        RUN(outcome, a_reply_is_kept_with_its_status_or_the_one_its_code_implies),
        RUN(outcome, a_long_reply_is_cut_between_two_characters),
        RUN(outcome, the_class_is_what_became_of_it_or_what_was_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
