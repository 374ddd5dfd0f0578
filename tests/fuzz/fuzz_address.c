/* Paths, mailboxes, domains and xtext from anywhere. What is accepted must be bounded, must
 * lie in the input, must be free of what could end a command or a field, and must parse
 * again to itself; a normal domain is a domain, and normal. */
#include "smtpd/mail/address.h"

#include "smtpd/base/check.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_domain(struct slice domain)
{
    char normal[DOMAIN_TEXT];
    char again[DOMAIN_TEXT];
    size_t length;

    if (domain_normalise(domain, normal) != RESULT_OK)
        return;
    length = strlen(normal);
    CHECK(length > 0 && length < DOMAIN_TEXT);
    CHECK(normal[length - 1] != '.');
    for (const char *at = normal; *at; at++) {
        CHECK(*at > ' ' && *at < 0x7f && !(*at >= 'A' && *at <= 'Z'));
        CHECK(normal[0] == '[' || strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.", *at));
        CHECK(normal[0] == '[' || *at != '.' || (at > normal && at[1] != '.'));
    }
    CHECK(domain_normalise(slice_of(normal), again) == RESULT_OK);
    CHECK(strcmp(normal, again) == 0);
    CHECK(domain_matches(normal, normal) && domain_matches("*", normal));
}

static void check_mailbox(const struct address *address)
{
    struct slice text = slice_of(address->text);
    struct slice local = address_local(address);
    struct slice domain = address_domain(address);
    struct address again;
    bool is_quoted = local.length > 0 && local.data[0] == '"';
    bool has_8bit = false;

    CHECK(text.length <= LIMIT_ADDRESS);
    CHECK(local.length > 0 && local.length <= LIMIT_LOCAL_PART);
    CHECK(domain.length > 0 && domain.length <= LIMIT_DOMAIN);
    CHECK(text.length == local.length + 1 + domain.length &&
          text.data[local.length] == '@');
    CHECK(address->is_literal == (domain.data[0] == '['));
    CHECK(!address->is_null && !address->is_bare_postmaster);
    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.data[i];

        CHECK(byte >= ' ' && byte != 0x7f);
        has_8bit |= byte > 0x7f;
        /* Outside of quotes nothing can end a path or begin a parameter. */
        CHECK((is_quoted && i < local.length) || !strchr(" <>()\",;\\", byte));
    }
    CHECK(address->needs_smtputf8 == has_8bit);
    CHECK(address_parse_mailbox(text, &again) == RESULT_OK);
    CHECK(strcmp(again.text, address->text) == 0);
    CHECK(again.local_length == address->local_length);
    CHECK(again.is_literal == address->is_literal);
    CHECK(again.needs_smtputf8 == address->needs_smtputf8);
    check_domain(domain);
}

/* Written as "<text>" it is the same path, and what follows is left alone. */
static void check_printed(const struct address *address)
{
    struct bytes printed;
    struct address again;
    struct slice rest;

    bytes_init(&printed, LIMIT_ADDRESS + 16);
    CHECK(bytes_format(&printed, "<%s> X=<1>", address->text) == RESULT_OK);
    rest = bytes_view(&printed);
    CHECK(address_parse_path(&rest, &again) == RESULT_OK);
    CHECK(slice_equal_text(rest, " X=<1>"));
    CHECK(strcmp(again.text, address->text) == 0);
    CHECK(again.is_null == address->is_null);
    CHECK(again.is_bare_postmaster == address->is_bare_postmaster);
    bytes_fini(&printed);
}

static void check_path(struct slice input)
{
    struct slice rest = input;
    struct address address;

    if (address_parse_path(&rest, &address) != RESULT_OK)
        return;
    CHECK(input.data[0] == '<');
    CHECK(rest.length < input.length &&
          rest.data + rest.length == input.data + input.length);
    CHECK(rest.data[-1] == '>');
    check_printed(&address);
    if (address.is_null)
        CHECK(address.text[0] == '\0' && rest.length + 2 == input.length);
    else if (address.is_bare_postmaster)
        CHECK(slice_equal_text_fold(address_local(&address), "postmaster") &&
              address_domain(&address).length == 0);
    else
        check_mailbox(&address);
}

static void check_xtext(struct slice input)
{
    struct bytes encoded;
    struct bytes plain;
    struct bytes again;

    bytes_init(&encoded, 3 * input.length + 1);
    bytes_init(&plain, input.length + 1);
    bytes_init(&again, 3 * input.length + 1);
    CHECK(xtext_encode(input, &encoded) == RESULT_OK);
    for (size_t i = 0; i < encoded.length; i++)
        CHECK(encoded.data[i] > ' ' && encoded.data[i] < 0x7f && encoded.data[i] != '=');
    CHECK(xtext_decode(bytes_view(&encoded), &plain) == RESULT_OK);
    CHECK(slice_equal(bytes_view(&plain), input));
    bytes_clear(&plain);
    if (xtext_decode(input, &plain) == RESULT_OK) {
        bytes_clear(&encoded);
        CHECK(xtext_encode(bytes_view(&plain), &encoded) == RESULT_OK);
        CHECK(xtext_decode(bytes_view(&encoded), &again) == RESULT_OK);
        CHECK(slice_equal(bytes_view(&again), bytes_view(&plain)));
    }
    bytes_fini(&again);
    bytes_fini(&plain);
    bytes_fini(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};
    struct address address;

    check_path(input);
    if (address_parse_mailbox(input, &address) == RESULT_OK) {
        CHECK(slice_equal_text(input, address.text));
        check_mailbox(&address);
        check_printed(&address);
    }
    check_domain(input);
    check_xtext(input);
    return 0;
}
