#include "smtpd/policy/access.h"

#include "smtpd/base/secure.h"
#include "test.h"

static struct access *make(const char *postmaster)
{
    static const char *const users[] = {"bob", "Carol"};
    static const char *const all[] = {"*"};
    static const struct local_domain domains[] = {{"home.test", users, 2},
                                                  {"all.test", all, 1}};
    struct network trusted[2];
    struct access_settings settings = {trusted, 2, domains, 2, postmaster};

    secure_init();
    assert_int_equal(network_parse(SLICE("10.0.0.0/8"), &trusted[0]), RESULT_OK);
    assert_int_equal(network_parse(SLICE("2001:db8::/32"), &trusted[1]), RESULT_OK);
    return access_new(&settings);
}

static enum access_verdict judge(const struct access *access, const char *path)
{
    struct slice rest = slice_of(path);
    struct address address;

    assert_int_equal(address_parse_path(&rest, &address), RESULT_OK);
    return access_recipient(access, &address);
}

TEST(access, knows_our_users)
{
    struct access *access = make("bob@home.test");

    assert_int_equal(judge(access, "<bob@home.test>"), ACCESS_LOCAL);
    assert_int_equal(judge(access, "<BOB@HOME.TEST>"), ACCESS_LOCAL);
    assert_int_equal(judge(access, "<carol@home.test>"), ACCESS_LOCAL);
    assert_int_equal(judge(access, "<dave@home.test>"), ACCESS_UNKNOWN_USER);
    assert_int_equal(judge(access, "<anyone@all.test>"), ACCESS_LOCAL);
    assert_int_equal(judge(access, "<bob@else.test>"), ACCESS_REMOTE);
    assert_int_equal(judge(access, "<bob@sub.home.test>"), ACCESS_REMOTE);
    assert_int_equal(judge(access, "<bob@[192.0.2.1]>"), ACCESS_REMOTE);
    assert_true(access_is_local_domain(access, "all.test"));
    assert_false(access_is_local_domain(access, "else.test"));
    access_unref(access);
}

TEST(access, accepts_postmaster_always)
{
    struct access *access = make("bob@home.test");

    assert_int_equal(judge(access, "<postmaster>"), ACCESS_POSTMASTER);
    assert_int_equal(judge(access, "<PostMaster@home.test>"), ACCESS_POSTMASTER);
    assert_int_equal(judge(access, "<postmaster@all.test>"), ACCESS_LOCAL);
    assert_int_equal(judge(access, "<postmaster@else.test>"), ACCESS_REMOTE);
    assert_string_equal(access_postmaster(access), "bob@home.test");
    access_unref(access);
    access = make(NULL);
    assert_int_equal(judge(access, "<postmaster>"), ACCESS_UNKNOWN_USER);
    assert_int_equal(judge(access, "<postmaster@home.test>"), ACCESS_UNKNOWN_USER);
    access_unref(access);
}

TEST(access, trusts_networks)
{
    struct access *access = access_ref(make(NULL));
    struct ip ip;

    access_unref(access);
    assert_int_equal(ip_parse(SLICE("10.2.3.4"), &ip), RESULT_OK);
    assert_true(access_is_trusted(access, &ip));
    assert_int_equal(ip_parse(SLICE("11.2.3.4"), &ip), RESULT_OK);
    assert_false(access_is_trusted(access, &ip));
    assert_int_equal(ip_parse(SLICE("2001:db8::7"), &ip), RESULT_OK);
    assert_true(access_is_trusted(access, &ip));
    access_unref(access);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(access, knows_our_users),
        RUN(access, accepts_postmaster_always),
        RUN(access, trusts_networks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
