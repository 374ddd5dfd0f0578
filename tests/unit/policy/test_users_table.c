/* Reading the users file: all of it or nothing. */
#include "users_table.h"

#include "smtpd/base/secure.h"
#include "users_folder.h"

static const struct account *account_of(const struct map *table, const char *name)
{
    const struct account *account = map_get(table, slice_of(name));

    assert_non_null(account);
    return account;
}

TEST(users_table, reads_names_and_hashes)
{
    struct users_folder u;
    struct users_stamp stamp;
    struct users_stamp again;
    struct map *table = NULL;
    struct fault fault;

    secure_init();
    users_folder_open(&u);
    users_folder_write(&u, "# users\n\n  alice:$argon2id$a \nbob:$argon2id$b:size=1MiB\n");
    assert_int_equal(users_table_load(u.path, &table, &stamp, &fault), RESULT_OK);
    assert_int_equal(map_count(table), 2);
    assert_string_equal(account_of(table, "alice")->hash, "$argon2id$a");
    assert_int_equal(account_of(table, "alice")->rights.size_bytes, 0);
    assert_string_equal(account_of(table, "bob")->hash, "$argon2id$b");
    assert_int_equal(account_of(table, "bob")->rights.size_bytes, 1 << 20);
    users_table_free(table);
    assert_int_equal(users_stamp_read(u.path, &again), RESULT_OK);
    assert_true(users_stamp_equal(&stamp, &again));
    users_folder_write(&u, "");
    assert_int_equal(users_stamp_read(u.path, &again), RESULT_OK);
    assert_false(users_stamp_equal(&stamp, &again));
    users_folder_close(&u);
    assert_int_equal(users_stamp_read(u.path, &again), RESULT_NOT_FOUND);
    assert_int_equal(users_table_load(u.path, &table, &stamp, &fault), RESULT_NOT_FOUND);
}

TEST(users_table, names_the_line_that_is_wrong)
{
    static const char *const bad[] = {
        "a:$argon2id$x\nb\n",
        "a:$argon2id$x\n:$argon2id$x\n",
        "a:$argon2id$x\nb:plain\n",
        "a:$argon2id$x\nb c:$argon2id$x\n",
        "a:$argon2id$x\na:$argon2id$y\n",
        "a:$argon2id$x\nb:$argon2id$x:sise=1MiB\n",
        "a:$argon2id$x\nb:$argon2id$x:size\n",
        "a:$argon2id$x\nb:$argon2id$x:size=1MiB size=2MiB\n",
    };
    struct users_folder u;
    struct users_stamp stamp;
    struct map *table = NULL;
    struct fault fault;

    secure_init();
    users_folder_open(&u);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        users_folder_write(&u, bad[i]);
        assert_int_equal(users_table_load(u.path, &table, &stamp, &fault), RESULT_INVALID);
        assert_non_null(strstr(fault.text, "line 2"));
        assert_null(strstr(fault.text, "plain"));
    }
    users_folder_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(users_table, reads_names_and_hashes),
        RUN(users_table, names_the_line_that_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
