/* The table of the suppression list against a plain list: set, find, remove, purge, walk. */
#include "suppression_table.h"

#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { NAMES = 3000, ROUNDS = 30000 };

static void name_of(size_t at, char text[64])
{
    (void)snprintf(text, 64, "user%zu@example%zu.test", at, at % 7);
}

static struct suppression_entry entry_of(const char *tenant, const char *address,
                                         int64_t expires_ms)
{
    return (struct suppression_entry){tenant, address,   "why", SUPPRESSION_BOUNCE,
                                      5,      expires_ms};
}

static void keeps_tenants_apart(void **state)
{
    struct suppression_table *table = suppression_table_new();
    struct suppression_entry one = entry_of("red", "a@x.test", 9);
    struct suppression_entry found;

    (void)state;
    assert_true(suppression_table_set(table, &one));
    assert_false(suppression_table_find(table, "", "a@x.test", &found));
    assert_false(suppression_table_find(table, "blue", "a@x.test", &found));
    assert_false(suppression_table_find(table, "re", "da@x.test", &found));
    assert_true(suppression_table_find(table, "red", "a@x.test", &found));
    assert_string_equal(found.tenant, "red");
    assert_string_equal(found.address, "a@x.test");
    assert_string_equal(found.reason, "why");
    assert_int_equal(found.source, SUPPRESSION_BOUNCE);
    assert_int_equal(found.created_ms, 5);
    assert_int_equal(found.expires_ms, 9);
    one.reason = "another";
    assert_false(suppression_table_set(table, &one));
    assert_int_equal(suppression_table_count(table), 1);
    assert_true(suppression_table_find(table, "red", "a@x.test", &found));
    assert_string_equal(found.reason, "another");
    assert_false(suppression_table_remove(table, "", "a@x.test"));
    assert_true(suppression_table_remove(table, "red", "a@x.test"));
    assert_int_equal(suppression_table_count(table), 0);
    suppression_table_free(table);
}

static void count_one(void *owner, const struct suppression_entry *entry)
{
    size_t at;
    unsigned char *seen = owner;

    assert_int_equal(sscanf(entry->address, "user%zu@", &at), 1);
    seen[at]++;
}

static void is_what_a_list_would_be(void **state)
{
    struct suppression_table *table = suppression_table_new();
    bool is_there[NAMES] = {false};
    unsigned char seen[NAMES] = {0};
    size_t count = 0;
    size_t visited = 0;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t at = secure_random_below(NAMES);
        struct suppression_entry found;
        char name[64];

        name_of(at, name);
        assert_int_equal(suppression_table_find(table, "", name, &found), is_there[at]);
        if (secure_random_below(3) > 0) {
            struct suppression_entry entry = entry_of("", name, 0);

            assert_int_equal(suppression_table_set(table, &entry), !is_there[at]);
            is_there[at] = true;
        } else {
            assert_int_equal(suppression_table_remove(table, "", name), is_there[at]);
            is_there[at] = false;
        }
    }
    for (size_t i = 0; i < SUPPRESSION_SHARDS; i++)
        visited += suppression_table_visit(table, i, count_one, seen);
    for (size_t i = 0; i < NAMES; i++) {
        count += is_there[i];
        assert_int_equal(seen[i], is_there[i]);
    }
    assert_int_equal(suppression_table_count(table), count);
    assert_int_equal(visited, count);
    suppression_table_free(table);
}

static void purges_what_has_expired(void **state)
{
    struct suppression_table *table = suppression_table_new();
    struct suppression_entry found;
    size_t purged = 0;

    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        struct suppression_entry entry;
        char name[64];

        name_of(i, name);
        entry = entry_of("", name, (int64_t)(i % 3) * 100); /* never, 100, 200 */
        assert_true(suppression_table_set(table, &entry));
    }
    for (size_t i = 0; i < SUPPRESSION_SHARDS; i++)
        purged += suppression_table_purge(table, i, 100);
    assert_int_equal(purged, NAMES / 3);
    assert_int_equal(suppression_table_count(table), NAMES - NAMES / 3);
    for (size_t i = 0; i < NAMES; i++) {
        char name[64];

        name_of(i, name);
        assert_int_equal(suppression_table_find(table, "", name, &found), i % 3 != 1);
    }
    suppression_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_tenants_apart),
        cmocka_unit_test(is_what_a_list_would_be),
        cmocka_unit_test(purges_what_has_expired),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
