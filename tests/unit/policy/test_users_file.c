/* `smtpd user add|remove|list`: what happens to the file. */
#include "smtpd/policy/auth.h"

#include "smtpd/base/limits.h"
#include "users_folder.h"

static void join_name(void *owner, const char *name, struct slice rights)
{
    char *names = owner;
    size_t length = strlen(names);

    (void)rights;
    (void)snprintf(names + length, 200 - length, "%s ", name);
}

static void assert_names(const struct users_folder *u, const char *wanted)
{
    struct fault fault;
    char names[200] = "";

    assert_int_equal(users_file_list(u->path, join_name, names, &fault), RESULT_OK);
    assert_string_equal(names, wanted);
}

static bool hash_fits(const struct users_folder *u, const char *name, struct slice password)
{
    char text[4096];
    char start[64];
    char *at;

    users_folder_read(u, text, sizeof text);
    (void)snprintf(start, sizeof start, "%s:$argon2id$", name);
    at = strstr(text, start);
    assert_non_null(at);
    at += strlen(name) + 1;
    at[strcspn(at, ":\n")] = '\0';
    return secure_password_verify(at, password);
}

TEST(users_file, is_made_changed_and_emptied)
{
    struct users_folder u;
    struct fault fault;
    bool was_there;

    secure_init();
    users_folder_open(&u);
    assert_int_equal(users_file_set(u.path, "alice", SLICE("one"), &was_there, &fault),
                     RESULT_OK);
    assert_false(was_there);
    assert_int_equal(users_file_set(u.path, "bob@b.test", SLICE("two"), &was_there, &fault),
                     RESULT_OK);
    assert_int_equal(users_file_set(u.path, "alice", SLICE("three"), &was_there, &fault),
                     RESULT_OK);
    assert_true(was_there);
    assert_names(&u, "alice bob@b.test ");
    assert_true(hash_fits(&u, "alice", SLICE("three")));
    assert_false(hash_fits(&u, "alice", SLICE("one")));
    assert_int_equal(users_file_remove(u.path, "alice", &fault), RESULT_OK);
    assert_int_equal(users_file_remove(u.path, "alice", &fault), RESULT_NOT_FOUND);
    assert_names(&u, "bob@b.test ");
    users_folder_close(&u);
}

TEST(users_file, keeps_comments_mode_and_other_lines)
{
    static const char kept[] =
        "# ours\n\nold:$argon2id$x:size=1MiB\nlast:$argon2id$y\nnew:$argon2id$v";
    struct users_folder u;
    struct stat status;
    struct fault fault;
    bool was_there;
    char text[4096];

    secure_init();
    users_folder_open(&u);
    users_folder_write(&u, "# ours\n\nold:$argon2id$x:size=1MiB\nlast:$argon2id$y");
    assert_int_equal(chmod(u.path, 0604), 0);
    assert_int_equal(users_file_set(u.path, "new", SLICE("x"), &was_there, &fault),
                     RESULT_OK);
    users_folder_read(&u, text, sizeof text);
    assert_int_equal(strncmp(text, kept, strlen(kept)), 0);
    assert_int_equal(stat(u.path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0604);
    users_folder_close(&u);
}

TEST(users_file, refuses_what_could_not_log_in)
{
    static const char *const bad[] = {"", "a:b", "a b", "#a", "a\nb", "a\x7f"};
    struct users_folder u;
    struct fault fault;
    char long_name[LIMIT_USER_NAME + 2];
    bool was_there;

    secure_init();
    users_folder_open(&u);
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(users_file_set(u.path, bad[i], SLICE("x"), &was_there, &fault),
                         RESULT_INVALID);
    assert_int_equal(users_file_set(u.path, long_name, SLICE("x"), &was_there, &fault),
                     RESULT_INVALID);
    assert_int_equal(users_file_set(u.path, "a", SLICE_NONE, &was_there, &fault),
                     RESULT_INVALID);
    assert_int_equal(users_file_list(u.path, join_name, long_name, &fault),
                     RESULT_NOT_FOUND);
    assert_non_null(strstr(fault.text, u.path));
    users_folder_write(&u, "ok:$argon2id$x\nbroken\n");
    assert_int_equal(users_file_list(u.path, join_name, (char[200]){""}, &fault),
                     RESULT_INVALID);
    assert_non_null(strstr(fault.text, "line 2"));
    users_folder_close(&u);
    assert_int_equal(users_file_set("/nowhere/users", "a", SLICE("x"), &was_there, &fault),
                     RESULT_IO);
}

static enum result change(const struct users_folder *u, const char *name, const char *first,
                          const char *second, struct fault *fault)
{
    const char *rights[] = {first, second};
    struct users_change wanted = {
        .name = name, .rights = rights, .right_count = second ? 2 : 1};
    bool was_there;

    return users_file_change(u->path, &wanted, &was_there, fault);
}

static void assert_text(const struct users_folder *u, const char *wanted)
{
    char text[4096];

    users_folder_read(u, text, sizeof text);
    assert_string_equal(text, wanted);
}

TEST(users_file, changes_keys_and_nothing_else)
{
    struct users_folder u;
    struct fault fault;

    secure_init();
    users_folder_open(&u);
    users_folder_write(&u, "# ours\na:$argon2id$x\nb:$argon2id$y:size=1MiB\n");
    assert_int_equal(change(&u, "a", "networks=2001:db8::/32,10.0.0.0/8", NULL, &fault),
                     RESULT_OK);
    assert_text(&u, "# ours\na:$argon2id$x:networks=2001:db8::/32,10.0.0.0/8\n"
                    "b:$argon2id$y:size=1MiB\n");
    assert_int_equal(change(&u, "b", "messages=10/m,100/h", "senders=@b.test", &fault),
                     RESULT_OK);
    assert_int_equal(change(&u, "a", "networks=", NULL, &fault), RESULT_OK);
    assert_text(&u, "# ours\na:$argon2id$x\n"
                    "b:$argon2id$y:senders=@b.test size=1MiB messages=10/m,100/h\n");
    assert_int_equal(change(&u, "b", "size=2MiB", "size=3MiB", &fault), RESULT_OK);
    assert_int_equal(change(&u, "b", "messages=", "senders=", &fault), RESULT_OK);
    assert_text(&u, "# ours\na:$argon2id$x\nb:$argon2id$y:size=3MiB\n");
    users_folder_close(&u);
}

TEST(users_file, keeps_the_keys_when_the_password_changes)
{
    struct users_folder u;
    struct fault fault;
    bool was_there;
    char text[4096];

    secure_init();
    users_folder_open(&u);
    users_folder_write(&u, "a:$argon2id$x:size=1MiB recipients=5\n");
    assert_int_equal(users_file_set(u.path, "a", SLICE("new"), &was_there, &fault),
                     RESULT_OK);
    assert_true(hash_fits(&u, "a", SLICE("new")));
    users_folder_read(&u, text, sizeof text);
    assert_non_null(strstr(text, ":size=1MiB recipients=5\n"));
    users_folder_close(&u);
}

TEST(users_file, refuses_wrong_keys_and_leaves_the_file)
{
    static const struct {
        const char *word;
        const char *says;
    } bad[] = {
        {"sender=@a.test", "did you mean \"senders\"?"},
        {"size", "\"size\" is no key=value"},
        {"size=1MiB recipients=5", "no blanks"},
        {"size=1KiB", "64KiB to 1GiB"},
        {"=x", "no key=value"},
        {"networks=10.0.0.1/8", "192.0.2.0/24"},
    };
    static const char before[] = "a:$argon2id$x\n";
    struct users_folder u;
    struct fault fault;

    secure_init();
    users_folder_open(&u);
    users_folder_write(&u, before);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(change(&u, "a", bad[i].word, NULL, &fault), RESULT_INVALID);
        if (!strstr(fault.text, bad[i].says))
            fail_msg("%s: %s", bad[i].word, fault.text);
    }
    assert_int_equal(change(&u, "b", "size=1MiB", NULL, &fault), RESULT_NOT_FOUND);
    assert_text(&u, before);
    users_folder_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(users_file, is_made_changed_and_emptied),
        RUN(users_file, keeps_comments_mode_and_other_lines),
        RUN(users_file, refuses_what_could_not_log_in),
        RUN(users_file, changes_keys_and_nothing_else),
        RUN(users_file, keeps_the_keys_when_the_password_changes),
        RUN(users_file, refuses_wrong_keys_and_leaves_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
