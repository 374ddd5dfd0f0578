/* Which keys there are, and which sign for whom. */
#include "key_set.h"

#include "key_folder.h"
#include "smtpd/base/secure.h"

static struct key_folder folder;

static int set_up(void **state)
{
    (void)state;
    key_folder_open(&folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    key_folder_close(&folder);
    return 0;
}

static struct sign_keys *load(const struct sign_settings *settings)
{
    struct sign_keys *keys = NULL;
    struct fault fault = {0};

    if (sign_keys_load(settings, &keys, &fault) != RESULT_OK)
        fail_msg("%s", fault.text);
    return keys;
}

static struct sign_keys *load_folder(void)
{
    struct sign_settings settings = {.key_directory = folder.path};

    return load(&settings);
}

/* The selectors in their order. */
static const char *chosen_by(const struct sign_keys *keys, const char *domain)
{
    static char text[256];
    const struct sign_key *chosen[SIGN_KEYS_OF_DOMAIN_MAX];
    size_t count = sign_keys_choose(keys, domain, chosen);

    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s@%s",
                       i > 0 ? " " : "", chosen[i]->selector, chosen[i]->domain);
    return text;
}

TEST(keys, a_folder_gives_its_keys_in_order)
{
    struct sign_keys *keys;

    key_folder_put(&folder, "b.test", "two.key", ed25519_pem);
    key_folder_put(&folder, "a.test", "s2.key", ed25519_pem);
    key_folder_put(&folder, "a.test", "s1.key", rsa_pem);
    key_folder_put(&folder, "a.test", "README", "no key");
    key_folder_put(&folder, "a.test", ".hidden.key", "no key");
    key_folder_put(&folder, "a.test", ".key", "no key");
    key_folder_put(&folder, "..data", "x.key", "no key");
    key_folder_put(&folder, "not a domain", "x.key", "no key");
    keys = load_folder();
    assert_int_equal(sign_keys_count(keys), 3);
    assert_string_equal(chosen_by(keys, "a.test"), "s1@a.test s2@a.test");
    assert_string_equal(chosen_by(keys, "b.test"), "two@b.test");
    assert_string_equal(chosen_by(keys, "sub.a.test"), "");
    assert_string_equal(chosen_by(keys, "test"), "");
    sign_keys_unref(keys);
}

TEST(keys, the_nearest_domain_above_signs_where_it_may)
{
    struct sign_key_settings rows[] = {
        {"a.test", "wide", NULL, true},
        {"a.test", "narrow", NULL, false},
        {"deep.a.test", "deep", NULL, true},
        {"own.a.test", "own", NULL, false},
    };
    struct sign_settings settings = {.keys = rows, .key_count = 4};
    struct sign_keys *keys;

    key_folder_put(&folder, "x.test", "k.key", ed25519_pem);
    for (size_t i = 0; i < 4; i++)
        rows[i].file = folder.file;
    keys = load(&settings);
    assert_string_equal(chosen_by(keys, "a.test"), "wide@a.test narrow@a.test");
    assert_string_equal(chosen_by(keys, "x.a.test"), "wide@a.test");
    assert_string_equal(chosen_by(keys, "x.y.a.test"), "wide@a.test");
    assert_string_equal(chosen_by(keys, "x.deep.a.test"), "deep@deep.a.test");
    assert_string_equal(chosen_by(keys, "own.a.test"), "own@own.a.test");
    assert_string_equal(chosen_by(keys, "x.own.a.test"), "wide@a.test");
    assert_string_equal(chosen_by(keys, "notaa.test"), "");
    sign_keys_unref(keys);
}

static void expect_refusal(const struct sign_settings *settings, const char *why)
{
    struct sign_keys *keys = NULL;
    struct fault fault = {0};

    assert_int_not_equal(sign_keys_load(settings, &keys, &fault), RESULT_OK);
    assert_null(keys);
    if (!strstr(fault.text, why))
        fail_msg("\"%s\" does not say \"%s\"", fault.text, why);
}

TEST(keys, one_that_is_wrong_is_a_failure_of_all)
{
    struct sign_key_settings rows[] = {{"a.test", "s1", folder.file, false}};
    struct sign_settings settings = {.key_directory = folder.path};

    key_folder_put(&folder, "a.test", "s1.key", ed25519_pem);
    key_folder_put(&folder, "b.test", "s1.key", "no key");
    expect_refusal(&settings, folder.file);
    key_folder_put(&folder, "b.test", "s1.key", ed25519_pem);
    key_folder_put(&folder, "b.test", "a b.key", ed25519_pem);
    expect_refusal(&settings, "\"a b\" is no selector");
    key_folder_remove(&folder, "b.test", "a b.key");
    for (int i = 0; i < 8; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "t%d.key", i);
        key_folder_put(&folder, "b.test", name, ed25519_pem);
    }
    expect_refusal(&settings, "b.test has more than 8 keys");
    settings = (struct sign_settings){rows, 1, folder.path, true, true, 0};
    key_folder_put(&folder, "a.test", "s1.key", ed25519_pem);
    expect_refusal(&settings, "another key with the selector \"s1\"");
    settings = (struct sign_settings){.key_directory = "/nonexistent/keys"};
    expect_refusal(&settings, "/nonexistent/keys");
}

TEST(keys, the_stamp_changes_with_the_files)
{
    struct sign_settings settings = {.key_directory = folder.path};
    uint64_t stamps[5];
    struct sign_keys *keys;

    key_folder_put(&folder, "a.test", "s1.key", ed25519_pem);
    stamps[0] = sign_keys_stamp(&settings);
    assert_true(stamps[0] == sign_keys_stamp(&settings));
    keys = load_folder();
    assert_true(keys->stamp == stamps[0]);
    sign_keys_unref(keys);
    key_folder_put(&folder, "a.test", "s2.key", ed25519_pem);
    stamps[1] = sign_keys_stamp(&settings);
    key_folder_put(&folder, "a.test", "s2.key", ed25519_pem);
    stamps[2] = sign_keys_stamp(&settings);
    key_folder_remove(&folder, "a.test", "s2.key");
    stamps[3] = sign_keys_stamp(&settings);
    assert_true(stamps[1] != stamps[0] && stamps[2] != stamps[1]);
    assert_true(stamps[3] == stamps[0]);
    settings.key_directory = "/nonexistent/keys";
    stamps[4] = sign_keys_stamp(&settings);
    assert_true(stamps[4] != stamps[0]);
}

TEST(keys, no_settings_are_no_keys)
{
    struct sign_settings settings = {0};
    struct sign_keys *keys = load(&settings);

    assert_int_equal(sign_keys_count(keys), 0);
    assert_string_equal(chosen_by(keys, "a.test"), "");
    assert_ptr_equal(sign_keys_ref(keys), keys);
    sign_keys_unref(keys);
    sign_keys_unref(keys);
    sign_keys_unref(NULL);
    assert_int_equal(sign_keys_count(NULL), 0);
}

#define RUN_HERE(name) cmocka_unit_test_setup_teardown(keys_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_HERE(a_folder_gives_its_keys_in_order),
        RUN_HERE(the_nearest_domain_above_signs_where_it_may),
        RUN_HERE(one_that_is_wrong_is_a_failure_of_all),
        RUN_HERE(the_stamp_changes_with_the_files),
        RUN_HERE(no_settings_are_no_keys),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
