/* Groups of a real queue into Maildirs: which file comes of which recipient. */
#include "smtpd/local/local.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TURNS_MOST = 20000, HOUR_MS = 3600000, RESULTS = 8 };

struct world {
    struct loop *loop;
    struct offload *offload;
    struct queue *queue;
    struct local *local;
    char folder[64];
    char mail[96];
    char maildir[128];
    const char *sender;
    size_t commits;
    struct domain_queue *due;
    struct lease *lease;
    unsigned ends;
    enum result results[RESULTS];
    char text[256];
};

#define WORLD_UNTIL(w, condition)                                                          \
    do {                                                                                   \
        for (int turns_ = 0; turns_ < TURNS_MOST && !(condition); turns_++)                \
            loop_run_for((w)->loop, 1);                                                    \
        assert_true(condition);                                                            \
    } while (0)

static void on_due(void *owner, struct domain_queue *domain_queue)
{
    ((struct world *)owner)->due = domain_queue;
}

static void apply(struct world *w, const char *const *users, size_t user_count)
{
    struct local_mailboxes mailboxes = {"local.test", w->maildir, users, user_count};
    struct local_settings settings = {"relay.test", &mailboxes, 1};

    local_apply(w->local, &settings);
}

static int set_up(void **state)
{
    static const char *const users[] = {"bob", "Carol"};
    struct world *w = NEW(struct world);
    struct queue_settings settings = {.data_dir = w->folder,
                                      .allow_network_filesystem = true,
                                      .retry_ms = {HOUR_MS},
                                      .retry_count = 1,
                                      .expire_ms = 24 * (int64_t)HOUR_MS};
    struct fault fault;

    (void)strcpy(w->folder, "/tmp/smtpd-local-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->mail, sizeof w->mail, "%s/mail", w->folder);
    (void)snprintf(w->maildir, sizeof w->maildir, "%s/{domain}/{user}", w->mail);
    w->sender = "sender@s.test";
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    assert_int_equal(queue_open(w->loop, w->offload, &settings, &w->queue, &fault),
                     RESULT_OK);
    queue_watch(w->queue, on_due, NULL, w);
    w->local = local_new(w->loop, w->offload);
    apply(w, users, 2);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    char command[192];
    int result;

    if (w->local)
        local_free(w->local);
    if (w->lease)
        lease_release(w->lease);
    queue_close(w->queue);
    offload_free(w->offload);
    loop_free(w->loop);
    (void)snprintf(command, sizeof command, "chmod -R u+rwx '%s' && rm -rf '%s'", w->folder,
                   w->folder);
    result = system(command);
    memory_free(w);
    return result;
}

/* ---- a leased group ---- */

static void on_commit(void *owner, enum result result)
{
    assert_int_equal(result, RESULT_OK);
    ((struct world *)owner)->commits++;
}

static void on_room(void *owner)
{
    (void)owner;
}

static void on_lease(void *owner, struct lease *lease, enum result result)
{
    assert_int_equal(result, RESULT_OK);
    ((struct world *)owner)->lease = lease;
}

static void lease(struct world *w, const char *addresses, const char *body)
{
    char list[512];
    struct recipient recipients[RESULTS] = {{0}};
    struct envelope envelope = {
        .sender = w->sender, .arrival_ms = loop_wall_ms(w->loop), .longest_line = 78};
    struct submission submission = {.envelope = &envelope,
                                    .header = SLICE("Subject: s\r\n\r\n"),
                                    .recipients = recipients};
    struct draft *draft = queue_draft_open(w->queue, on_room, w);
    struct queue_entry entry;
    char *rest = list;

    (void)snprintf(list, sizeof list, "%s", addresses);
    for (char *one; (one = strtok_r(rest, " ", &rest));)
        recipients[submission.recipient_count++].address = one;
    assert_true(draft_write(draft, slice_of(body)) <= RESULT_AGAIN);
    (void)draft_commit(draft, &submission, on_commit, w);
    WORLD_UNTIL(w, w->commits == 1 && w->due);
    assert_true(domain_queue_take(w->due, &entry));
    (void)queue_lease_load(w->due, &entry, on_lease, w);
    WORLD_UNTIL(w, w->lease);
}

static void on_end(void *owner, const enum result *results, const char *text)
{
    struct world *w = owner;

    w->ends++;
    for (uint32_t i = 0; i < w->lease->group.recipient_count && i < RESULTS; i++)
        w->results[i] = results[i];
    (void)snprintf(w->text, sizeof w->text, "%s", text);
}

static void deliver(struct world *w)
{
    unsigned before = w->ends;

    local_deliver(w->local, w->queue, w->lease, on_end, w);
    assert_int_equal(w->ends, before); /* never inside the call */
    WORLD_UNTIL(w, w->ends > before);
}

static void send(struct world *w, const char *addresses, const char *body)
{
    lease(w, addresses, body);
    deliver(w);
}

/* ---- files ---- */

/* How many files stand in "bob/new" or the like; the last one's path. */
static size_t count_files(const struct world *w, const char *sub, char path[512])
{
    char folder[256];
    size_t count = 0;
    DIR *opened;

    (void)snprintf(folder, sizeof folder, "%s/local.test/%s", w->mail, sub);
    opened = opendir(folder);
    if (!opened)
        return 0;
    for (struct dirent *entry; (entry = readdir(opened));)
        if (entry->d_name[0] != '.') {
            count++;
            (void)snprintf(path, 512, "%s/%.200s", folder, entry->d_name);
        }
    (void)closedir(opened);
    return count;
}

static char *read_only_file(const struct world *w, const char *sub)
{
    char path[512] = "";
    struct bytes text;
    char part[4096];
    char *whole;
    FILE *file;

    assert_int_equal(count_files(w, sub, path), 1);
    file = fopen(path, "r");
    assert_non_null(file);
    bytes_init(&text, 64 << 20);
    for (size_t length; (length = fread(part, 1, sizeof part, file)) > 0;)
        assert_int_equal(bytes_add(&text, (struct slice){part, length}), RESULT_OK);
    (void)fclose(file);
    whole = slice_to_text(bytes_view(&text));
    bytes_fini(&text);
    return whole;
}

static void expect_file(const struct world *w, const char *sub, const char *text)
{
    char *whole = read_only_file(w, sub);

    assert_string_equal(whole, text);
    memory_free(whole);
}

/* ---- tests ---- */

TEST(local, a_message_is_stored_with_the_trace_of_its_delivery)
{
    struct world *w = *state;

    send(w, "bob@local.test", "text\r\n");
    assert_int_equal(w->results[0], RESULT_OK);
    expect_file(w, "bob/new",
                "Return-Path: <sender@s.test>\nDelivered-To: bob@local.test\nSubject: s\n\n"
                "text\n");
}

TEST(local, the_recipients_of_a_group_do_not_learn_of_each_other)
{
    struct world *w = *state;

    send(w, "bob@local.test carol@local.test", "text\r\n");
    assert_int_equal(w->results[0], RESULT_OK);
    assert_int_equal(w->results[1], RESULT_OK);
    expect_file(w, "bob/new", "Return-Path: <sender@s.test>\nSubject: s\n\ntext\n");
    expect_file(w, "carol/new", "Return-Path: <sender@s.test>\nSubject: s\n\ntext\n");
}

TEST(local, a_null_sender_is_noted_as_such)
{
    struct world *w = *state;

    w->sender = "";
    send(w, "bob@local.test carol@local.test", "");
    expect_file(w, "bob/new", "Return-Path: <>\nSubject: s\n\n");
}

TEST(local, an_unknown_user_is_not_found_and_the_others_are_served)
{
    struct world *w = *state;
    char path[512];

    send(w, "mallory@local.test bob@local.test", "text\r\n");
    assert_int_equal(w->results[0], RESULT_NOT_FOUND);
    assert_int_equal(w->results[1], RESULT_OK);
    assert_int_equal(count_files(w, "bob/new", path), 1);
    assert_int_equal(count_files(w, "mallory/new", path), 0);
}

TEST(local, users_are_found_in_any_case_and_stored_in_lower_case)
{
    struct world *w = *state;
    char path[512];

    send(w, "CAROL@Local.Test", "text\r\n");
    assert_int_equal(w->results[0], RESULT_OK);
    assert_int_equal(count_files(w, "carol/new", path), 1);
}

TEST(local, a_star_takes_every_user_but_none_that_leads_out_of_the_folder)
{
    static const char *const all[] = {"*"};
    struct world *w = *state;
    char path[512];

    apply(w, all, 1);
    send(w,
         "any.one@local.test ../bob@local.test .hidden@local.test a/b@local.test "
         "..@local.test",
         "text\r\n");
    assert_int_equal(w->results[0], RESULT_OK);
    for (int i = 1; i < 5; i++)
        if (w->results[i] != RESULT_NOT_FOUND)
            fail_msg("recipient %d", i);
    assert_int_equal(count_files(w, "any.one/new", path), 1);
    assert_int_equal(count_files(w, "", path), 1); /* no other folder was made */
}

TEST(local, a_domain_that_is_no_longer_ours_is_not_found)
{
    struct world *w = *state;
    struct local_settings none = {"relay.test", NULL, 0};

    lease(w, "bob@local.test", "text\r\n");
    local_apply(w->local, &none);
    deliver(w);
    assert_int_equal(w->results[0], RESULT_NOT_FOUND);
}

TEST(local, settings_are_a_copy)
{
    struct world *w = *state;
    char user[] = "dave";
    const char *const users[] = {user};
    char path[512];

    apply(w, users, 1);
    memset(user, 'x', sizeof user - 1);
    send(w, "dave@local.test", "text\r\n");
    assert_int_equal(w->results[0], RESULT_OK);
    assert_int_equal(count_files(w, "dave/new", path), 1);
}

TEST(local, a_repeat_after_a_crash_is_not_stored_twice)
{
    struct world *w = *state;
    char path[512];

    send(w, "bob@local.test", "text\r\n");
    deliver(w); /* the same group: its result was never committed */
    assert_int_equal(w->results[0], RESULT_OK);
    assert_int_equal(count_files(w, "bob/new", path), 1);
    assert_int_equal(count_files(w, "bob/tmp", path), 0);
}

TEST(local, the_name_is_made_of_id_and_group)
{
    struct world *w = *state;
    char path[512] = "";
    char id[ID_TEXT];
    char name[64];

    send(w, "bob@local.test", "text\r\n");
    assert_int_equal(count_files(w, "bob/new", path), 1);
    id_print(w->lease->envelope.id, id);
    (void)snprintf(name, sizeof name, "/%s.%u.relay.test", id, w->lease->group.number);
    assert_string_equal(strrchr(path, '/'), name);
}

TEST(local, two_addresses_of_one_user_are_one_file)
{
    struct world *w = *state;
    char path[512];

    send(w, "bob@local.test BOB@local.test mallory@local.test", "text\r\n");
    assert_int_equal(w->results[0], RESULT_OK);
    assert_int_equal(w->results[1], RESULT_OK);
    assert_int_equal(w->results[2], RESULT_NOT_FOUND);
    assert_int_equal(count_files(w, "bob/new", path), 1);
    assert_int_equal(count_files(w, "bob/tmp", path), 0);
    expect_file(w, "bob/new", "Return-Path: <sender@s.test>\nSubject: s\n\ntext\n");
}

TEST(local, a_message_of_many_pieces_is_stored_whole)
{
    struct world *w = *state;
    enum { LINES = 20000, LINE = 12 };
    struct bytes body;
    char *text;
    char *whole;

    bytes_init(&body, 1 << 20);
    for (int i = 0; i < LINES; i++)
        assert_int_equal(bytes_format(&body, "line %05d\r\n", i), RESULT_OK);
    text = slice_to_text(bytes_view(&body));
    send(w, "bob@local.test", text);
    whole = read_only_file(w, "bob/new");
    assert_non_null(strstr(whole, "\n\nline 00000\nline 00001\n"));
    assert_string_equal(whole + strlen(whole) - 22, "line 19998\nline 19999\n");
    assert_int_equal(strlen(strstr(whole, "\n\n") + 2), LINES * (LINE - 1));
    memory_free(whole);
    memory_free(text);
    bytes_fini(&body);
}

TEST(local, a_folder_that_cannot_be_made_is_said_and_does_not_hurt_the_others)
{
    struct world *w = *state;
    char path[512];
    FILE *file;

    lease(w, "bob@local.test carol@local.test", "text\r\n");
    (void)snprintf(path, sizeof path, "%s/local.test", w->mail);
    assert_int_equal(mkdir(w->mail, 0700), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/local.test/bob", w->mail);
    file = fopen(path, "w"); /* a file where a folder must be */
    assert_non_null(file);
    (void)fclose(file);
    deliver(w);
    assert_int_equal(w->results[0], RESULT_IO);
    assert_int_equal(w->results[1], RESULT_OK);
    assert_non_null(strstr(w->text, "bob"));
    assert_int_equal(count_files(w, "carol/new", path), 1);
}

static bool pool_is_quiet(struct world *w)
{
    struct pool_statistics pool;

    offload_statistics(w->offload, POOL_FILE, &pool);
    return pool.running + pool.waiting == 0;
}

TEST(local, freed_in_the_middle_it_never_calls_back_and_leaves_nothing_in_tmp)
{
    struct world *w = *state;
    static const char *const users[] = {"bob"};
    char path[512];

    lease(w, "bob@local.test", "text\r\n");
    for (int turns = 0; turns < 4; turns++) {
        apply(w, users, 1);
        local_deliver(w->local, w->queue, w->lease, on_end, w);
        for (int i = 0; i < turns; i++) /* at another point each time */
            loop_run_for(w->loop, 0);
        if (w->ends > 0)
            break;
        local_free(w->local);
        w->local = local_new(w->loop, w->offload);
        WORLD_UNTIL(w, pool_is_quiet(w)); /* what was under way ends, and is thrown away */
        loop_run_for(w->loop, 20);
        assert_int_equal(w->ends, 0);
        assert_int_equal(count_files(w, "bob/tmp", path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(local_##name, set_up, tear_down)
        T(a_message_is_stored_with_the_trace_of_its_delivery),
        T(the_recipients_of_a_group_do_not_learn_of_each_other),
        T(a_null_sender_is_noted_as_such),
        T(an_unknown_user_is_not_found_and_the_others_are_served),
        T(users_are_found_in_any_case_and_stored_in_lower_case),
        T(a_star_takes_every_user_but_none_that_leads_out_of_the_folder),
        T(a_domain_that_is_no_longer_ours_is_not_found),
        T(settings_are_a_copy),
        T(a_repeat_after_a_crash_is_not_stored_twice),
        T(the_name_is_made_of_id_and_group),
        T(two_addresses_of_one_user_are_one_file),
        T(a_message_of_many_pieces_is_stored_whole),
        T(a_folder_that_cannot_be_made_is_said_and_does_not_hurt_the_others),
        T(freed_in_the_middle_it_never_calls_back_and_leaves_nothing_in_tmp),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
