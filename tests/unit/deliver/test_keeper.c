/* What was learned comes back, in bounds. */
#include "keeper.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct offload *offload;
    struct keeper *keeper;
    char folder[64];
    char path[96];
    size_t read;
    unsigned window;
    unsigned left;
};

static int set_up(void **state)
{
    struct world *w = NEW(struct world);

    (void)strcpy(w->folder, "/tmp/smtpd-keeper-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof w->path, "%s/paces", w->folder);
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    w->keeper = keeper_new(w->loop, w->offload, w->path);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    keeper_free(w->keeper);
    offload_free(w->offload);
    loop_free(w->loop);
    (void)unlink(w->path);
    assert_int_equal(rmdir(w->folder), 0); /* nothing else is left there */
    memory_free(w);
    return 0;
}

static void on_pace(void *owner, const struct pace *pace)
{
    struct world *w = owner;

    w->read++;
    w->window = pace->window;
    w->left = pace->bounce.left;
}

static void restart(struct world *w)
{
    keeper_free(w->keeper);
    w->keeper = keeper_new(w->loop, w->offload, w->path);
    w->read = 0;
    keeper_load(w->keeper, on_pace, w);
}

static struct pace learned(const struct world *w, unsigned window)
{
    return (struct pace){.scope = "mx.test",
                         .source = "",
                         .changed_ms = loop_wall_ms(w->loop),
                         .window = window,
                         .has_shrunk = true,
                         .permille = BUCKET_FULL_RATE};
}

TEST(keeper, what_was_changed_is_there_after_the_end)
{
    struct world *w = *state;
    struct pace pace = learned(w, 3);
    struct kept kept = {.pace = &pace};

    keeper_load(w->keeper, on_pace, w);
    assert_int_equal(w->read, 0); /* there was no file */
    keeper_note(w->keeper, &kept);
    keeper_forget(w->keeper, &kept);
    keeper_note(w->keeper, &kept);
    restart(w);
    assert_int_equal(w->read, 1);
    assert_int_equal(w->window, 3);
}

TEST(keeper, and_without_an_end_a_few_seconds_later)
{
    struct world *w = *state;
    struct pace pace = learned(w, 4);
    struct kept kept = {.pace = &pace};

    keeper_note(w->keeper, &kept);
    for (int turns = 0; turns < 20000 && access(w->path, F_OK) != 0; turns++)
        loop_run_for(w->loop, 1);
    keeper_load(w->keeper, on_pace, w);
    assert_int_equal(w->read, 1);
    assert_int_equal(w->window, 4);
    keeper_free(w->keeper); /* its job may still be at the folder */
    w->keeper = NULL;
}

TEST(keeper, what_is_plain_again_leaves_the_file)
{
    struct world *w = *state;
    struct pace pace = learned(w, 3);
    struct kept kept = {.pace = &pace};

    keeper_note(w->keeper, &kept);
    pace.has_shrunk = false;
    keeper_note(w->keeper, &kept);
    restart(w);
    assert_int_equal(w->read, 0);
}

TEST(keeper, ten_thousand_are_kept_and_the_longest_unchanged_goes)
{
    struct world *w = *state;
    size_t count = PACES_KEPT_MAX + 1000;
    struct pace *paces = NEW_ARRAY(struct pace, count);
    struct kept *kept = NEW_ARRAY(struct kept, count);

    for (size_t i = 0; i < count; i++) {
        paces[i] = learned(w, 1 + (unsigned)i % 5);
        kept[i].pace = &paces[i];
        keeper_note(w->keeper, &kept[i]);
    }
    assert_false(link_is_in_list(&kept[999].link));
    assert_true(link_is_in_list(&kept[1000].link));
    restart(w);
    assert_int_equal(w->read, PACES_KEPT_MAX);
    memory_free(paces);
    memory_free(kept);
}

TEST(keeper, what_changes_while_it_is_written_is_written_once)
{
    struct world *w = *state;
    struct pace *paces = NEW_ARRAY(struct pace, PACES_KEPT_MAX);
    struct kept *kept = NEW_ARRAY(struct kept, PACES_KEPT_MAX);

    for (size_t i = 0; i < PACES_KEPT_MAX; i++) {
        paces[i] = learned(w, 4);
        kept[i].pace = &paces[i];
        keeper_note(w->keeper, &kept[i]);
    }
    for (size_t turns = 0; turns < 20000 && access(w->path, F_OK) != 0; turns++) {
        /* the longest unchanged, which was written first */
        keeper_note(w->keeper, &kept[turns % PACES_KEPT_MAX]);
        loop_run_for(w->loop, 1);
    }
    keeper_load(w->keeper, on_pace, w);
    assert_int_equal(w->read, PACES_KEPT_MAX);
    keeper_free(w->keeper); /* its job may still be at the folder */
    w->keeper = NULL;
    memory_free(paces);
    memory_free(kept);
}

TEST(keeper, what_is_older_than_a_week_is_not_read)
{
    struct world *w = *state;
    struct pace pace = learned(w, 3);
    struct kept kept = {.pace = &pace};

    pace.changed_ms -= INT64_C(8) * 86400000;
    keeper_note(w->keeper, &kept);
    restart(w);
    assert_int_equal(w->read, 0);
}

TEST(keeper, unless_what_a_reaction_began_goes_on)
{
    struct world *w = *state;
    struct pace paces[2] = {learned(w, 3), learned(w, 4)};
    struct kept kept[2] = {{.pace = &paces[0]}, {.pace = &paces[1]}};

    for (size_t i = 0; i < 2; i++)
        paces[i].changed_ms -= INT64_C(8) * 86400000;
    paces[0].suspended_until_ms = loop_wall_ms(w->loop) + 3600000;
    paces[1].bounce.until_ms = loop_wall_ms(w->loop) + 3600000;
    keeper_note(w->keeper, &kept[0]);
    keeper_note(w->keeper, &kept[1]);
    restart(w);
    assert_int_equal(w->read, 2);
}

/* A thousand changes at once are one file. */
TEST(keeper, what_counts_down_is_written_as_it_is_at_the_end)
{
    struct world *w = *state;
    struct pace pace = learned(w, 3);
    struct kept kept = {.pace = &pace};

    pace.has_shrunk = false; /* nothing but the bounce is worth keeping */
    pace.bounce.until_ms = loop_wall_ms(w->loop) + 3600000;
    for (pace.bounce.left = 1000; pace.bounce.left > 7; pace.bounce.left--)
        keeper_note(w->keeper, &kept);
    assert_int_not_equal(access(w->path, F_OK), 0);
    for (int turns = 0; turns < 20000 && access(w->path, F_OK) != 0; turns++)
        loop_run_for(w->loop, 1);
    keeper_load(w->keeper, on_pace, w);
    assert_int_equal(w->read, 1);
    assert_int_equal(w->left, 7);
    keeper_free(w->keeper); /* its job may still be at the folder */
    w->keeper = NULL;
}

TEST(keeper, a_file_that_is_not_sound_is_left_alone)
{
    struct world *w = *state;
    FILE *file = fopen(w->path, "w");

    assert_non_null(file);
    (void)fputs("smtpd-paces 1\nnonsense\n", file);
    (void)fclose(file);
    restart(w);
    assert_int_equal(w->read, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeper_what_was_changed_is_there_after_the_end,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeper_and_without_an_end_a_few_seconds_later,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeper_what_is_plain_again_leaves_the_file, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            keeper_ten_thousand_are_kept_and_the_longest_unchanged_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            keeper_what_changes_while_it_is_written_is_written_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeper_what_is_older_than_a_week_is_not_read,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeper_unless_what_a_reaction_began_goes_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            keeper_what_counts_down_is_written_as_it_is_at_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeper_a_file_that_is_not_sound_is_left_alone,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
