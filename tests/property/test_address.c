/* Thousands of random mailboxes, drawn from the grammar, are taken and print to themselves;
 * with one byte of them changed they are refused or still print to themselves; and what
 * xtext and ids encode they decode. The seed is printed; SMTPD_SEED sets it. */
#include "smtpd/mail/address.h"

#include "smtpd/mail/envelope.h"
#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 20000, TEXT = LIMIT_ADDRESS + 64 };

static uint64_t seed = 20261124;

/* xorshift64*: the same numbers everywhere. */
static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (seed * UINT64_C(2685821657736338717)) >> 8;
}

static void add(struct bytes *into, const char *text)
{
    assert_int_equal(bytes_add_text(into, text), RESULT_OK);
}

static void add_any_of(struct bytes *into, const char *letters)
{
    assert_int_equal(bytes_add(into, (struct slice){letters + any() % strlen(letters), 1}),
                     RESULT_OK);
}

static void add_atom(struct bytes *into)
{
    for (uint64_t left = 1 + any() % 6; left > 0; left--)
        if (any() % 10 == 0)
            add(into, any() % 2 ? "\303\251" : "\360\237\230\200");
        else
            add_any_of(into, "abcXYZ019!#$%&'*+-/=?^_`{|}~");
}

static void add_local(struct bytes *into)
{
    if (any() % 4 == 0) {
        add(into, "\"");
        for (uint64_t left = 1 + any() % 12; left > 0; left--)
            if (any() % 4 == 0)
                add(into, any() % 2 ? "\\\"" : "\\\\");
            else
                add_any_of(into, any() % 40 == 0 ? "\t" : "ab @<>()[],;:.");
        add(into, "\"");
        return;
    }
    add_atom(into);
    for (uint64_t left = any() % 3; left > 0; left--) {
        add(into, ".");
        add_atom(into);
    }
}

static void add_domain(struct bytes *into)
{
    static const char *const literals[] = {"[192.0.2.1]", "[IPv6:2001:db8::1]",
                                           "[IPv6:::]"};

    if (any() % 8 == 0) {
        add(into, literals[any() % 3]);
        return;
    }
    for (uint64_t left = 1 + any() % 4; left > 0; left--) {
        add_any_of(into, "abcXYZ019_");
        for (uint64_t inner = any() % 8; inner > 0; inner--)
            add_any_of(into, "abcXYZ019_-");
        add(into, any() % 12 == 0 ? "\303\274" : "z");
        if (left > 1)
            add(into, ".");
    }
}

/* false: refused. What is taken must print to itself and be cut at the same place. */
static bool prints_to_itself(struct slice text)
{
    struct address address;
    struct address again;
    struct slice local;

    if (address_parse_mailbox(text, &address) != RESULT_OK)
        return false;
    if (!slice_equal_text(text, address.text))
        fail_msg("%.*s -> %s", (int)text.length, text.data, address.text);
    assert_int_equal(address_parse_mailbox(slice_of(address.text), &again), RESULT_OK);
    local = address_local(&address);
    assert_true(slice_equal(local, address_local(&again)));
    assert_int_equal(local.length + 1 + address_domain(&address).length, text.length);
    assert_int_equal(text.data[local.length], '@');
    return true;
}

TEST(property, a_mailbox_of_the_grammar_is_taken_and_prints_to_itself)
{
    struct bytes text;

    bytes_init(&text, TEXT);
    for (int round = 0; round < ROUNDS; round++) {
        bool has_tab;

        bytes_clear(&text);
        add_local(&text);
        has_tab = slice_find(bytes_view(&text), '\t') < text.length;
        if (text.length > LIMIT_LOCAL_PART)
            continue;
        add(&text, "@");
        add_domain(&text);
        if (prints_to_itself(bytes_view(&text)) == has_tab)
            fail_msg("%s: %.*s", has_tab ? "taken" : "refused", (int)text.length,
                     text.data);
    }
    bytes_fini(&text);
}

TEST(property, a_mailbox_with_a_changed_byte_is_refused_or_prints_to_itself)
{
    static const char bytes[] = "a.@\"\\ <>[]:\r\n\200\377-";
    struct bytes text;
    int taken = 0;

    bytes_init(&text, TEXT);
    for (int round = 0; round < ROUNDS; round++) {
        bytes_clear(&text);
        add_local(&text);
        add(&text, "@");
        add_domain(&text);
        text.data[any() % text.length] = bytes[any() % (sizeof bytes)];
        taken += prints_to_itself(bytes_view(&text));
    }
    assert_true(taken > ROUNDS / 20 && taken < ROUNDS);
    bytes_fini(&text);
}

TEST(property, a_path_is_its_mailbox_whatever_route_stands_before_it)
{
    struct bytes mailbox;
    struct bytes path;

    bytes_init(&mailbox, TEXT);
    bytes_init(&path, 4 * TEXT);
    for (int round = 0; round < ROUNDS; round++) {
        struct address plain;
        struct address address;
        struct slice rest;

        bytes_clear(&mailbox);
        bytes_clear(&path);
        add_local(&mailbox);
        add(&mailbox, "@");
        add_domain(&mailbox);
        add(&path, "<");
        for (uint64_t hops = any() % 3; hops > 0; hops--) {
            add(&path, "@");
            add_domain(&path);
            add(&path, hops > 1 ? "," : ":");
        }
        assert_int_equal(bytes_add(&path, bytes_view(&mailbox)), RESULT_OK);
        add(&path, "> X");
        rest = bytes_view(&path);
        assert_int_equal(address_parse_path(&rest, &address),
                         address_parse_mailbox(bytes_view(&mailbox), &plain));
        if (address.text[0] && plain.text[0]) {
            assert_string_equal(address.text, plain.text);
            assert_true(slice_equal_text(rest, " X"));
        }
    }
    bytes_fini(&path);
    bytes_fini(&mailbox);
}

TEST(property, a_normal_domain_is_normal_and_a_domain)
{
    struct bytes text;
    int taken = 0;

    bytes_init(&text, TEXT);
    for (int round = 0; round < ROUNDS; round++) {
        char normal[DOMAIN_TEXT];
        char again[DOMAIN_TEXT];
        struct bytes mailbox;

        bytes_clear(&text);
        add_domain(&text);
        if (domain_normalise(bytes_view(&text), normal) != RESULT_OK)
            continue;
        taken++;
        if (domain_normalise(slice_of(normal), again) != RESULT_OK ||
            strcmp(normal, again) != 0)
            fail_msg("%.*s -> %s -> %s", (int)text.length, text.data, normal, again);
        bytes_init(&mailbox, TEXT);
        add(&mailbox, "a@");
        add(&mailbox, normal);
        assert_true(prints_to_itself(bytes_view(&mailbox)));
        bytes_fini(&mailbox);
    }
    assert_true(taken > ROUNDS / 2);
    bytes_fini(&text);
}

TEST(property, xtext_of_anything_decodes_to_it)
{
    char plain[100];
    struct bytes xtext;
    struct bytes again;

    bytes_init(&xtext, 3 * sizeof plain);
    bytes_init(&again, sizeof plain);
    for (int round = 0; round < ROUNDS; round++) {
        struct slice all = {plain, any() % sizeof plain};

        for (size_t i = 0; i < all.length; i++)
            plain[i] = (char)any();
        bytes_clear(&xtext);
        bytes_clear(&again);
        assert_int_equal(xtext_encode(all, &xtext), RESULT_OK);
        assert_int_equal(xtext_decode(bytes_view(&xtext), &again), RESULT_OK);
        assert_true(slice_equal(bytes_view(&again), all));
        for (size_t i = 0; i < xtext.length; i++)
            assert_true(xtext.data[i] > ' ' && xtext.data[i] < 0x7f);
    }
    bytes_fini(&again);
    bytes_fini(&xtext);
}

TEST(property, a_printed_id_parses_to_itself)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t id = (any() << 32 ^ any()) >> any() % 64;
        uint64_t again = ~id;
        char text[ID_TEXT];

        id_print(id, text);
        if (!id_parse(text, strlen(text), &again) || again != id)
            fail_msg("%" PRIu64 " -> %s -> %" PRIu64, id, text, again);
    }
}

static int set_up(void **state)
{
    const char *wanted = getenv("SMTPD_SEED");

    (void)state;
    if (wanted)
        seed = strtoull(wanted, NULL, 10) | 1;
    printf("SMTPD_SEED=%" PRIu64 "\n", seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(property, a_mailbox_of_the_grammar_is_taken_and_prints_to_itself),
        RUN(property, a_mailbox_with_a_changed_byte_is_refused_or_prints_to_itself),
        RUN(property, a_path_is_its_mailbox_whatever_route_stands_before_it),
        RUN(property, a_normal_domain_is_normal_and_a_domain),
        RUN(property, xtext_of_anything_decodes_to_it),
        RUN(property, a_printed_id_parses_to_itself),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
