/* docs/verbs.md shows every row of both tables. */
#include "verbs.h"

#include "world.h"

TEST(document, shows_every_verb_and_every_reply)
{
    struct bytes text;
    size_t count;
    const struct verb *verbs = verbs_table(&count);
    char wanted[200];

    bytes_init(&text, 1 << 20);
    assert_int_equal(receive_document_verbs(&text), RESULT_OK);
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(wanted, sizeof wanted, "| `%s", verbs[i].name);
        assert_non_null(strstr(text.data, wanted));
        assert_non_null(strstr(text.data, verbs[i].summary));
    }
    for (int name = 0; name < REPLY_NAME_COUNT; name++) {
        (void)snprintf(wanted, sizeof wanted, "| %s | `",
                       reply_name_text((enum reply_name)name));
        assert_non_null(strstr(text.data, wanted));
    }
    assert_non_null(strstr(text.data, "AUTH PLAIN\\|LOGIN"));
    assert_non_null(strstr(text.data, "after MAIL, after RCPT, between BDATs"));
    bytes_fini(&text);
}

TEST(document, says_when_there_is_no_room)
{
    struct bytes text;

    for (size_t most = 0; most < 3000; most += 100) {
        bytes_init(&text, most);
        assert_int_equal(receive_document_verbs(&text), RESULT_TOO_LARGE);
        bytes_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(document, shows_every_verb_and_every_reply),
        RUN(document, says_when_there_is_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
