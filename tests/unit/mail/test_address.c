/* Mailboxes, paths, domains and xtext by their grammars: what is taken and how it reads
 * afterwards, what is refused, and the limits on both sides. */
#include "smtpd/mail/address.h"

#include "test.h"

#include <string.h>

/* `count` times `letter`, then `tail`. */
static const char *filled(char *into, char letter, size_t count, const char *tail)
{
    memset(into, letter, count);
    memcpy(into + count, tail, strlen(tail) + 1);
    return into;
}

static bool is_mailbox(const char *text)
{
    struct address address;

    return address_parse_mailbox(slice_of(text), &address) == RESULT_OK;
}

/* clang-format off */
static const char *const good_mailboxes[] = {
    "a@b", "user@example.com", "User.Name+tag@Example.COM", "!#$%&'*+-/=?^_`{|}~@b.example",
    "\"a b\"@c.example", "\"a\\\"b\"@c.example", "\"a@b>\"@c.example", "\".\"@c.example",
    "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "a@[ipv6:::1]", "a@[IPv6:::ffff:192.0.2.1]",
    "a@my_host.example", "a@x--y.example", "a@1.example", "a@xn--bcher-kva.example",
    "\303\251@b.example", "a@b\303\274cher.example", "\"\303\251 x\"@b.example",
    "\360\237\230\200@b.example", "\"\"@c.example",
};

static const char *const bad_mailboxes[] = {
    "", "a", "@", "a@", "@b", "a@b@c", "a b@c.example", "a@b c", "a@b.example ", " a@b.example",
    ".a@b.example", "a.@b.example", "a..b@c.example", "a@.b", "a@b.", "a@b..c",
    "a@-b.example", "a@b-.example", "a@b.example-", "a@b.-example", "a@-",
    "\"a@b.example", "\"a\"b@c.example", "a\"b\"@c.example", "\"a\\\"@b.example",
    "\"a\tb\"@c.example", "\"a\\\tb\"@c.example", "\"a\177\"@b.example",
    "a(b)@c.example", "a<b@c.example", "a,b@c.example", "a;b@c.example", "a:b@c.example",
    "a\\b@c.example", "a[b@c.example", "a\tb@c.example", "a\r\n@b.example", "a@b\r\nc",
    "<a@b.example>", "postmaster", "a@b!c", "a@b+c",
    "a@[]", "a@[192.0.2.1", "a@[192.0.2.256]", "a@[192.0.2]", "a@[::1]", "a@[IPv6:]",
    "a@[IPv6:192.0.2.1]", "a@[IPv6:2001:db8::g]", "a@[x-tag:y]", "a@[192.0.2.1]b", "a@[ ]",
    /* Not UTF-8: a lone byte, too long a form, a surrogate, above U+10FFFF, cut short. */
    "\200@b.example", "\300\200@b.example", "\355\240\200@b.example",
    "\364\220\200\200@b.example", "\303@b.example", "a@\342\202.example", "\"\377\"@b.example",
    "\"\\\303\251\"@b.example",
};
/* clang-format on */

TEST(mailbox, is_taken_as_it_stands)
{
    for (size_t i = 0; i < sizeof good_mailboxes / sizeof *good_mailboxes; i++) {
        struct address address;

        if (address_parse_mailbox(slice_of(good_mailboxes[i]), &address) != RESULT_OK)
            fail_msg("refused: %s", good_mailboxes[i]);
        assert_string_equal(address.text, good_mailboxes[i]);
        assert_false(address.is_null || address.is_bare_postmaster);
    }
}

TEST(mailbox, is_refused_outside_of_the_grammar)
{
    for (size_t i = 0; i < sizeof bad_mailboxes / sizeof *bad_mailboxes; i++)
        if (is_mailbox(bad_mailboxes[i]))
            fail_msg("taken: %s", bad_mailboxes[i]);
    assert_int_equal(address_parse_mailbox(SLICE("a\0@b.example"), &(struct address){0}),
                     RESULT_INVALID);
    assert_int_equal(address_parse_mailbox(SLICE_NONE, &(struct address){0}),
                     RESULT_INVALID);
}

TEST(mailbox, is_cut_into_its_two_parts)
{
    struct address address;

    assert_int_equal(address_parse_mailbox(SLICE("\"a@b\"@c.example"), &address),
                     RESULT_OK);
    assert_true(slice_equal_text(address_local(&address), "\"a@b\""));
    assert_true(slice_equal_text(address_domain(&address), "c.example"));
    assert_false(address.is_literal || address.needs_smtputf8);
    assert_int_equal(address_parse_mailbox(SLICE("a@[192.0.2.1]"), &address), RESULT_OK);
    assert_true(address.is_literal);
    assert_true(slice_equal_text(address_domain(&address), "[192.0.2.1]"));
}

TEST(mailbox, needs_smtputf8_for_a_byte_above_127_on_either_side)
{
    struct address address;

    assert_int_equal(address_parse_mailbox(SLICE("\303\251@b.example"), &address),
                     RESULT_OK);
    assert_true(address.needs_smtputf8);
    assert_int_equal(address_parse_mailbox(SLICE("a@b\303\274cher.example"), &address),
                     RESULT_OK);
    assert_true(address.needs_smtputf8);
    assert_int_equal(address_parse_mailbox(SLICE("a@xn--bcher-kva.example"), &address),
                     RESULT_OK);
    assert_false(address.needs_smtputf8);
}

TEST(mailbox, keeps_to_the_limits_of_its_parts)
{
    char local[LIMIT_ADDRESS];
    char domain[LIMIT_ADDRESS + 8] = "a@";

    assert_true(is_mailbox(filled(local, 'x', LIMIT_LOCAL_PART, "@b.example")));
    assert_false(is_mailbox(filled(local, 'x', LIMIT_LOCAL_PART + 1, "@b.example")));
    (void)filled(domain + 2, 'x', LIMIT_DOMAIN, "");
    assert_true(is_mailbox(domain));
    (void)filled(domain + 2, 'x', LIMIT_DOMAIN + 1, "");
    assert_false(is_mailbox(domain));
}

TEST(mailbox, of_the_longest_parts_fits)
{
    char text[LIMIT_ADDRESS + 8];
    struct address address;

    (void)filled(text, 'x', LIMIT_LOCAL_PART, "@");
    (void)filled(text + LIMIT_LOCAL_PART + 1, 'y', LIMIT_DOMAIN, "");
    assert_int_equal(address_parse_mailbox(slice_of(text), &address), RESULT_OK);
    assert_int_equal(strlen(address.text), LIMIT_ADDRESS);
    assert_int_equal(address_domain(&address).length, LIMIT_DOMAIN);
}

/* ---- paths ---- */

static void check_path(const char *input, const char *text, const char *rest)
{
    struct slice left = slice_of(input);
    struct address address;

    if (address_parse_path(&left, &address) != RESULT_OK)
        fail_msg("refused: %s", input);
    assert_string_equal(address.text, text);
    assert_true(slice_equal_text(left, rest));
}

TEST(path, is_taken_off_the_front)
{
    check_path("<a@b.example> SIZE=1", "a@b.example", " SIZE=1");
    check_path("<\"a>b\"@c.example>", "\"a>b\"@c.example", "");
    check_path("<a@[192.0.2.1]>x", "a@[192.0.2.1]", "x");
}

TEST(path, drops_a_source_route)
{
    check_path("<@one.example:a@b.example>", "a@b.example", "");
    check_path("<@one.example,@two.example,@[192.0.2.1]:a@b.example>", "a@b.example", "");
}

TEST(path, of_nobody_is_null)
{
    struct slice rest = SLICE("<> SIZE=1");
    struct address address;

    assert_int_equal(address_parse_path(&rest, &address), RESULT_OK);
    assert_true(address.is_null && address.text[0] == '\0');
    assert_int_equal(address_domain(&address).length, 0);
    assert_int_equal(address_local(&address).length, 0);
    assert_true(slice_equal_text(rest, " SIZE=1"));
}

TEST(path, of_the_postmaster_needs_no_domain)
{
    struct slice rest = SLICE("<PostMaster>");
    struct address address;

    assert_int_equal(address_parse_path(&rest, &address), RESULT_OK);
    assert_true(address.is_bare_postmaster);
    assert_string_equal(address.text, "PostMaster");
    assert_true(slice_equal_text(address_local(&address), "PostMaster"));
    assert_int_equal(address_domain(&address).length, 0);
    rest = SLICE("<postmaster@b.example>");
    assert_int_equal(address_parse_path(&rest, &address), RESULT_OK);
    assert_false(address.is_bare_postmaster);
}

TEST(path, is_refused_outside_of_the_grammar)
{
    static const char *const bad[] = {
        "",
        "<",
        ">",
        "a@b.example",
        "<a@b.example",
        "a@b.example>",
        "<<a@b.example>>",
        "< a@b.example>",
        "<a@b.example >",
        "< >",
        "<a>",
        "<postmasters>",
        "<@one.example>",
        "<@one.example:>",
        "<@:a@b.example>",
        "<@one.example;a@b.example>",
        "<@one.example,a@b.example>",
        "<@one.example,@two.example,a@b.example>",
        "<@one.example,:a@b.example>",
        "<@one.example:@two.example:a@b.example>",
        "<one.example:a@b.example>",
        "<a@b.example\r\n>",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct slice rest = slice_of(bad[i]);
        struct address address;

        if (address_parse_path(&rest, &address) != RESULT_INVALID)
            fail_msg("taken: %s", bad[i]);
    }
}

/* ---- domains ---- */

struct domain_example {
    const char *given;
    const char *normal; /* NULL: refused */
};

/* clang-format off */
static const struct domain_example domain_examples[] = {
    {"example.com", "example.com"},
    {"Example.COM.", "example.com"},
    {"localhost", "localhost"},
    {"My_Host.example", "my_host.example"},
    {"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
    {"[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"},
    {"[192.0.2.1]", "[192.0.2.1]"},
    {"b\303\274cher.example", "xn--bcher-kva.example"},
    {"B\303\234CHER.Example.", "xn--bcher-kva.example"},
    {"bu\314\210cher.example", "xn--bcher-kva.example"}, /* NFC */
    /* Non-transitional: the sharp s stays itself. */
    {"stra\303\237e.example", "xn--strae-oqa.example"},
    /* Wide forms and the ideographic full stop are mapped (UTS 46). */
    {"\357\275\205\357\275\230.b\303\274cher", "ex.xn--bcher-kva"},
    {"b\303\274cher\343\200\202example", "xn--bcher-kva.example"},
    {"b\303\274cher\343\200\202", "xn--bcher-kva"},
    /* ... but not into what is no domain any more. */
    {"\303\251\357\274\240b.example", NULL},
    {"\303\251\357\274\236.example", NULL},
    {"\303\251\343\200\200b.example", NULL},
    {"\357\274\273192.0.2.1\357\274\275", NULL},
    {"b\303\274cher\343\200\202\343\200\202example", NULL},
    {"\343\200\202", NULL},
    {"", NULL}, {".", NULL}, {"..", NULL}, {"a..b", NULL}, {".a", NULL}, {"a..", NULL},
    {"-a.example", NULL}, {"a-.example", NULL}, {"a b", NULL}, {"a@b", NULL}, {"*.a", NULL},
    {"\377.example", NULL}, {"[192.0.2.1", NULL}, {"[::1]", NULL}, {"[IPv6:192.0.2.1]", NULL},
    {"a\r\nb", NULL}, {"a/b", NULL},
};
/* clang-format on */

TEST(domain, is_made_normal_or_refused)
{
    for (size_t i = 0; i < sizeof domain_examples / sizeof *domain_examples; i++) {
        const struct domain_example *example = &domain_examples[i];
        char normal[DOMAIN_TEXT];
        char again[DOMAIN_TEXT];
        enum result result = domain_normalise(slice_of(example->given), normal);

        if (result != (example->normal ? RESULT_OK : RESULT_INVALID))
            fail_msg("%s: %s", example->given, result == RESULT_OK ? normal : "refused");
        if (!example->normal)
            continue;
        assert_string_equal(normal, example->normal);
        assert_int_equal(domain_normalise(slice_of(normal), again), RESULT_OK);
        assert_string_equal(again, normal);
    }
}

TEST(domain, has_labels_of_at_most_63_octets)
{
    char normal[DOMAIN_TEXT];
    char text[200];

    assert_int_equal(domain_normalise(slice_of(filled(text, 'x', 63, ".example")), normal),
                     RESULT_OK);
    assert_int_equal(domain_normalise(slice_of(filled(text, 'x', 64, ".example")), normal),
                     RESULT_INVALID);
}

TEST(domain, has_at_most_255_octets)
{
    char normal[DOMAIN_TEXT];
    char text[LIMIT_DOMAIN + 3];

    for (size_t i = 0; i < LIMIT_DOMAIN + 2; i++)
        text[i] = i % 2 ? '.' : 'x';
    assert_int_equal(domain_normalise((struct slice){text, LIMIT_DOMAIN}, normal),
                     RESULT_OK);
    assert_int_equal(domain_normalise((struct slice){text, LIMIT_DOMAIN + 2}, normal),
                     RESULT_INVALID);
}

TEST(domain, with_a_nul_is_none)
{
    char normal[DOMAIN_TEXT];

    assert_int_equal(domain_normalise(SLICE("a\0b"), normal), RESULT_INVALID);
    assert_int_equal(domain_normalise(SLICE_NONE, normal), RESULT_INVALID);
}

TEST(domain, matches_itself_what_is_below_a_star_and_everything)
{
    assert_true(domain_matches("example.com", "example.com"));
    assert_false(domain_matches("example.com", "a.example.com"));
    assert_false(domain_matches("example.com", "notexample.com"));
    assert_true(domain_matches("*.example.com", "a.example.com"));
    assert_true(domain_matches("*.example.com", "a.b.example.com"));
    assert_false(domain_matches("*.example.com", "example.com"));
    assert_false(domain_matches("*.example.com", ".example.com"));
    assert_false(domain_matches("*.example.com", "aexample.com"));
    assert_false(domain_matches("*.example.com", "com"));
    assert_true(domain_matches("*", "example.com"));
    assert_true(domain_matches("*", "[192.0.2.1]"));
    assert_false(domain_matches("*x", "x"));
}

/* ---- xtext ---- */

struct xtext_example {
    const char *plain;
    const char *xtext;
};

static const struct xtext_example xtext_examples[] = {
    {"", ""},
    {"a@b.example", "a@b.example"},
    {"a+b=c d", "a+2Bb+3Dc+20d"},
    {"\r\n\t\177", "+0D+0A+09+7F"},
    {"\303\251", "+C3+A9"},
    {"!~", "!~"},
};

TEST(xtext, encodes_and_decodes)
{
    for (size_t i = 0; i < sizeof xtext_examples / sizeof *xtext_examples; i++) {
        struct bytes text;

        bytes_init(&text, 100);
        assert_int_equal(xtext_encode(slice_of(xtext_examples[i].plain), &text), RESULT_OK);
        assert_true(slice_equal_text(bytes_view(&text), xtext_examples[i].xtext));
        bytes_clear(&text);
        assert_int_equal(xtext_decode(slice_of(xtext_examples[i].xtext), &text), RESULT_OK);
        assert_true(slice_equal_text(bytes_view(&text), xtext_examples[i].plain));
        bytes_fini(&text);
    }
}

TEST(xtext, is_refused_where_it_is_none)
{
    static const char *const bad[] = {"+",   "a+", "a+2",      "+2b", "+G0", "+0G", "a b",
                                      "a=b", "\t", "\303\251", "++2", "+ 2", "\177"};
    struct bytes plain;

    bytes_init(&plain, 100);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (xtext_decode(slice_of(bad[i]), &plain) != RESULT_INVALID)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(xtext_decode(SLICE("a\0"), &plain), RESULT_INVALID);
    bytes_fini(&plain);
}

TEST(xtext, says_when_there_is_no_room)
{
    struct bytes into;

    bytes_init(&into, 3);
    assert_int_equal(xtext_decode(SLICE("abcd"), &into), RESULT_TOO_LARGE);
    bytes_clear(&into);
    assert_int_equal(xtext_encode(SLICE("a b"), &into), RESULT_TOO_LARGE);
    bytes_clear(&into);
    assert_int_equal(xtext_encode(SLICE(" "), &into), RESULT_OK);
    bytes_fini(&into);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(mailbox, is_taken_as_it_stands),
        RUN(mailbox, is_refused_outside_of_the_grammar),
        RUN(mailbox, is_cut_into_its_two_parts),
        RUN(mailbox, needs_smtputf8_for_a_byte_above_127_on_either_side),
        RUN(mailbox, keeps_to_the_limits_of_its_parts),
        RUN(mailbox, of_the_longest_parts_fits),
        RUN(path, is_taken_off_the_front),
        RUN(path, drops_a_source_route),
        RUN(path, of_nobody_is_null),
        RUN(path, of_the_postmaster_needs_no_domain),
        RUN(path, is_refused_outside_of_the_grammar),
        RUN(domain, is_made_normal_or_refused),
        RUN(domain, has_labels_of_at_most_63_octets),
        RUN(domain, has_at_most_255_octets),
        RUN(domain, with_a_nul_is_none),
        RUN(domain, matches_itself_what_is_below_a_star_and_everything),
        RUN(xtext, encodes_and_decodes),
        RUN(xtext, is_refused_where_it_is_none),
        RUN(xtext, says_when_there_is_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
