/* The rights of a user: what is read, what is refused, what is allowed. */
#include "smtpd/policy/account.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static struct account *account_of(const char *rights)
{
    struct fault fault;
    struct account *account = account_new(SLICE("$argon2id$x"), slice_of(rights), &fault);

    if (!account)
        fail_msg("%s: %s", rights, fault.text);
    return account;
}

static bool may_send(const char *rights, const char *sender)
{
    struct account *account = account_of(rights);
    struct address address;
    bool may;

    assert_int_equal(address_parse_mailbox(slice_of(sender), &address), RESULT_OK);
    may = account_may_send_as(account, &address);
    account_unref(account);
    return may;
}

static bool may_come(const char *rights, const char *from)
{
    struct account *account = account_of(rights);
    struct ip ip;
    bool may;

    assert_int_equal(ip_parse(slice_of(from), &ip), RESULT_OK);
    may = account_may_log_in_from(account, &ip);
    account_unref(account);
    return may;
}

TEST(account, reads_every_key)
{
    struct account *account =
        account_of("senders=a@x.test,@y.test networks=10.0.0.0/8,2001:db8::/32 size=25MiB "
                   "recipients=50  messages=10/m,1000/h recipient_rate=5000/d");
    const struct rights *rights = &account->rights;

    assert_string_equal(account->hash, "$argon2id$x");
    assert_int_equal(rights->sender_count, 2);
    assert_int_equal(rights->network_count, 2);
    assert_int_equal(rights->size_bytes, 25 << 20);
    assert_int_equal(rights->recipients, 50);
    assert_int_equal(rights->messages.count, 2);
    assert_int_equal(rights->messages.items[1].count, 1000);
    assert_int_equal(rights->recipient_rate.items[0].window_ms, 86400000);
    account_unref(account_ref(account));
    account_unref(account);
    account = account_of("");
    assert_int_equal(account->rights.sender_count, 0);
    account_unref(account);
    account_unref(NULL);
}

TEST(account, compares_senders)
{
    assert_true(may_send("", "any@where.test"));
    assert_true(may_send("senders=*", "any@where.test"));
    assert_true(may_send("senders=Ann@X.test", "ann@x.TEST"));
    assert_false(may_send("senders=ann@x.test", "bob@x.test"));
    assert_false(may_send("senders=ann@x.test", "ann@y.test"));
    assert_true(may_send("senders=@x.test", "bob@x.test"));
    assert_false(may_send("senders=@x.test", "bob@sub.x.test"));
    assert_false(may_send("senders=@x.test", "bob@notx.test"));
    assert_true(may_send("senders=@*.x.test", "bob@sub.x.test"));
    assert_true(may_send("senders=@*.x.test", "bob@a.b.x.test"));
    assert_false(may_send("senders=@*.x.test", "bob@x.test"));
    assert_true(may_send("senders=a@x.test,@y.test,@*.z.test", "q@w.z.test"));
    assert_true(may_send("senders=@b\xc3\xbc"
                         "cher.test",
                         "a@xn--bcher-kva.test"));
}

TEST(account, compares_networks)
{
    assert_true(may_come("", "192.0.2.1"));
    assert_true(may_come("networks=192.0.2.0/24", "192.0.2.1"));
    assert_false(may_come("networks=192.0.2.0/24", "192.0.3.1"));
    assert_false(may_come("networks=192.0.2.0/24", "::1"));
    assert_true(may_come("networks=192.0.2.0/24,::1", "::1"));
    assert_true(may_come("networks=2001:db8::/32", "2001:db8:1::2"));
}

TEST(account, says_what_is_wrong)
{
    static const struct {
        const char *rights;
        const char *says;
    } bad[] = {
        {"message=10/m", "unknown key \"message\"; did you mean \"messages\"?"},
        {"size=1MiB size=1MiB", "size is given twice"},
        {"size=", "size=: write"},
        {"size=63KiB", "64KiB to 1GiB"},
        {"size=2GiB", "64KiB to 1GiB"},
        {"recipients=0", "1 to 100000"},
        {"recipients=100001", "1 to 100000"},
        {"messages=10", "at most 4 windows"},
        {"messages=1/s,1/m,1/h,1/d,1/2d", "at most 4 windows"},
        {"senders=nobody", "by commas"},
        {"senders=a@b.test,", "by commas"},
        {"senders=@", "by commas"},
        {"senders=@*", "by commas"},
        {"networks=10.0.0.1/8", "by commas"},
        {"networks=", "by commas"},
        {"size", "\"size\" is no key=value"},
        {"=1", "is no key=value"},
        {"size=1MiB what", "\"what\" is no key=value"},
    };
    struct fault fault;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(account_new(SLICE("h"), slice_of(bad[i].rights), &fault));
        if (!strstr(fault.text, bad[i].says))
            fail_msg("%s: %s", bad[i].rights, fault.text);
    }
}

TEST(account, bounds_its_lists)
{
    char text[ACCOUNT_TEXT_MAX + 64];
    size_t length = (size_t)snprintf(text, sizeof text, "networks=10.0.0.0");
    struct fault fault;
    struct account *account;

    for (size_t i = 1; i < ACCOUNT_NETWORKS_MAX; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, ",10.0.0.%zu", i);
    account = account_of(text);
    assert_int_equal(account->rights.network_count, ACCOUNT_NETWORKS_MAX);
    account_unref(account);
    (void)snprintf(text + length, sizeof text - length, ",10.0.1.0");
    assert_null(account_new(SLICE("h"), slice_of(text), &fault));
    memset(text, 'x', sizeof text);
    assert_null(account_new(SLICE("h"), (struct slice){text, sizeof text}, &fault));
    assert_non_null(strstr(fault.text, "bytes of keys"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(account, reads_every_key),   RUN(account, compares_senders),
        RUN(account, compares_networks), RUN(account, says_what_is_wrong),
        RUN(account, bounds_its_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
