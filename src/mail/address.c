/* Mailboxes and domains, strictly by RFC 5321 4.1.2 with RFC 6531 3.3: what a parser lets
 * through here is put into commands and reports later, so nothing odd may pass. */
#include "smtpd/mail/address.h"

#include "smtpd/base/ip.h"

#include <idn2.h>
#include <string.h>

static bool is_utf8_tail(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Length of the UTF-8 sequence at the front (RFC 3629), 0 when it is none. */
static size_t utf8_length(struct slice text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    size_t length;

    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (length > text.length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if (!is_utf8_tail(at[i]))
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

static bool is_alnum(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9');
}

static bool is_atext(char byte)
{
    return is_alnum(byte) || (byte && strchr("!#$%&'*+-/=?^_`{|}~", byte));
}

/* Each takes its construct off the front: its length, or 0. */

static size_t dot_string_length(struct slice text)
{
    size_t length = 0;
    bool after_dot = true;

    while (length < text.length) {
        size_t step = utf8_length(slice_from(text, length));

        if (text.data[length] == '.') {
            if (after_dot)
                return 0;
            after_dot = true;
            length++;
            continue;
        }
        if (step == 0 || (step == 1 && !is_atext(text.data[length])))
            break;
        after_dot = false;
        length += step;
    }
    return after_dot ? 0 : length;
}

static size_t quoted_string_length(struct slice text)
{
    size_t length = 1;

    while (length < text.length && text.data[length] != '"') {
        size_t step = utf8_length(slice_from(text, length));

        if (text.data[length] == '\\') {
            length++;
            if (length >= text.length)
                return 0;
            step = 1;
        }
        if (step == 0 || (step == 1 && ((unsigned char)text.data[length] < 0x20 ||
                                        (unsigned char)text.data[length] > 0x7e)))
            return 0;
        length += step;
    }
    return length < text.length ? length + 1 : 0; /* RFC 5321 4.1.2: "" is one too */
}

static size_t local_part_length(struct slice text)
{
    if (text.length == 0)
        return 0;
    return text.data[0] == '"' ? quoted_string_length(text) : dot_string_length(text);
}

static size_t literal_length(struct slice text)
{
    size_t end = slice_find(text, ']');
    struct slice inside = slice_part(text, 1, end > 1 ? end - 1 : 0);
    struct ip ip;
    bool is_v6 = slice_starts_fold(inside, "IPv6:");

    if (end >= text.length)
        return 0;
    if (is_v6)
        inside = slice_from(inside, 5);
    /* "IPv6:" stands before IPv6 addresses, and before nothing else. */
    if (ip_parse(inside, &ip) != RESULT_OK ||
        (slice_find(inside, ':') < inside.length) != is_v6)
        return 0;
    return end + 1;
}

/* Labels of letters, digits, hyphens inside (and underscores, which exist), or UTF-8. */
static size_t domain_length(struct slice text)
{
    size_t length = 0;
    size_t label = 0;

    if (text.length > 0 && text.data[0] == '[')
        return literal_length(text);
    while (length < text.length) {
        size_t step = utf8_length(slice_from(text, length));
        char byte = text.data[length];

        if (byte == '.') {
            if (label == 0 || text.data[length - 1] == '-')
                return 0;
            label = 0;
            length++;
            continue;
        }
        if (step == 0 ||
            (step == 1 && !is_alnum(byte) && byte != '_' && (byte != '-' || label == 0)))
            break;
        label += step;
        length += step;
    }
    return label > 0 && text.data[length - 1] != '-' ? length : 0;
}

/* "@one,@two:" is accepted and dropped (RFC 5321 4.1.1.3, appendix C). */
static bool skip_source_route(struct slice *rest)
{
    bool is_route = false;

    while (rest->length > 0 && rest->data[0] == '@') {
        size_t length = domain_length(slice_from(*rest, 1));

        if (length == 0)
            return false;
        *rest = slice_from(*rest, 1 + length);
        if (rest->length > 0 && rest->data[0] == ':') {
            *rest = slice_from(*rest, 1);
            return true;
        }
        if (rest->length == 0 || rest->data[0] != ',')
            return false;
        *rest = slice_from(*rest, 1);
        is_route = true;
    }
    return !is_route; /* behind a comma stands one host more */
}

/* The mailbox off the front of *rest. */
static enum result take_mailbox(struct slice *rest, struct address *address)
{
    size_t local = local_part_length(*rest);
    size_t domain;

    if (local == 0 || local > LIMIT_LOCAL_PART)
        return RESULT_INVALID;
    if (local == rest->length || rest->data[local] != '@')
        return RESULT_INVALID;
    domain = domain_length(slice_from(*rest, local + 1));
    if (domain == 0 || domain > LIMIT_DOMAIN ||
        !slice_copy_text(slice_part(*rest, 0, local + 1 + domain), address->text,
                         sizeof address->text))
        return RESULT_INVALID;
    address->local_length = (uint16_t)local;
    address->is_literal = rest->data[local + 1] == '[';
    address->needs_smtputf8 = slice_has_8bit(slice_part(*rest, 0, local + 1 + domain));
    *rest = slice_from(*rest, local + 1 + domain);
    return RESULT_OK;
}

enum result address_parse_mailbox(struct slice text, struct address *address)
{
    memset(address, 0, sizeof *address);
    if (take_mailbox(&text, address) != RESULT_OK || text.length > 0)
        return RESULT_INVALID;
    return RESULT_OK;
}

static bool take_byte(struct slice *rest, char byte)
{
    if (rest->length == 0 || rest->data[0] != byte)
        return false;
    *rest = slice_from(*rest, 1);
    return true;
}

enum result address_parse_path(struct slice *rest, struct address *address)
{
    static const char postmaster[] = "postmaster";

    memset(address, 0, sizeof *address);
    if (!take_byte(rest, '<'))
        return RESULT_INVALID;
    if (take_byte(rest, '>')) {
        address->is_null = true;
        return RESULT_OK;
    }
    if (slice_starts_fold(*rest, "postmaster>")) {
        address->is_bare_postmaster = true;
        address->local_length = sizeof postmaster - 1;
        memcpy(address->text, rest->data, sizeof postmaster - 1);
        *rest = slice_from(*rest, sizeof postmaster);
        return RESULT_OK;
    }
    if (!skip_source_route(rest) || take_mailbox(rest, address) != RESULT_OK ||
        !take_byte(rest, '>'))
        return RESULT_INVALID;
    return RESULT_OK;
}

struct slice address_local(const struct address *address)
{
    return (struct slice){address->text, address->local_length};
}

struct slice address_domain(const struct address *address)
{
    if (address->is_null || address->is_bare_postmaster)
        return SLICE_NONE;
    return slice_of(address->text + address->local_length + 1);
}

/* ---- domains ---- */

static void fold_text(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text + ('a' - 'A'));
}

/* "a" of "a.": fully qualified, the same domain. */
static struct slice without_root(struct slice domain)
{
    if (domain.length > 1 && domain.data[domain.length - 1] == '.')
        domain.length--;
    return domain;
}

static enum result to_a_labels(const char *given, char normal[DOMAIN_TEXT])
{
    uint8_t *converted = NULL;
    enum result result = RESULT_INVALID;

    /* RFC 5891, lookup form; emoji and the like of UTS 46 are mapped, never transitional.
     */
    if (idn2_lookup_u8((const uint8_t *)given, &converted,
                       IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK) {
        struct slice ascii = without_root(slice_of((const char *)converted));

        /* Wide forms are mapped to ASCII: dots, but brackets and blanks as well. */
        if (ascii.length > 0 && ascii.data[0] != '[' &&
            domain_length(ascii) == ascii.length &&
            slice_copy_text(ascii, normal, DOMAIN_TEXT))
            result = RESULT_OK;
    }
    idn2_free(converted);
    return result;
}

enum result domain_normalise(struct slice domain, char normal[DOMAIN_TEXT])
{
    char given[DOMAIN_TEXT * 2];
    size_t label = 0;

    domain = without_root(domain);
    if (domain_length(domain) != domain.length || domain.length == 0 ||
        !slice_copy_text(domain, given, sizeof given))
        return RESULT_INVALID;
    if (given[0] == '[') {
        if (!slice_copy_text(domain, normal, DOMAIN_TEXT))
            return RESULT_INVALID;
    } else if (slice_has_8bit(domain)) {
        if (to_a_labels(given, normal) != RESULT_OK)
            return RESULT_INVALID;
    } else if (!slice_copy_text(domain, normal, DOMAIN_TEXT)) {
        return RESULT_INVALID;
    }
    fold_text(normal);
    for (const char *at = normal; normal[0] != '[' && *at; at++) {
        label = *at == '.' ? 0 : label + 1;
        if (label > 63)
            return RESULT_INVALID; /* RFC 1035 2.3.4 */
    }
    return RESULT_OK;
}

bool domain_matches(const char *pattern, const char *domain)
{
    if (strcmp(pattern, "*") == 0)
        return true;
    if (strncmp(pattern, "*.", 2) == 0) {
        size_t tail = strlen(pattern) - 1;
        size_t length = strlen(domain);

        return length > tail && strcmp(domain + (length - tail), pattern + 1) == 0;
    }
    return strcmp(pattern, domain) == 0;
}

/* ---- xtext, RFC 3461 4 ---- */

static int hex_value(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    return letter >= 'A' && letter <= 'F' ? letter - 'A' + 10 : -1;
}

enum result xtext_decode(struct slice xtext, struct bytes *plain)
{
    enum result added = RESULT_OK;

    for (size_t i = 0; i < xtext.length && added == RESULT_OK; i++) {
        char byte = xtext.data[i];

        if (byte == '+') {
            int high = i + 2 < xtext.length ? hex_value(xtext.data[i + 1]) : -1;
            int low = high >= 0 ? hex_value(xtext.data[i + 2]) : -1;

            if (high < 0 || low < 0)
                return RESULT_INVALID;
            byte = (char)(high * 16 + low);
            i += 2;
        } else if (byte < '!' || byte > '~' || byte == '=') {
            return RESULT_INVALID;
        }
        added = bytes_add(plain, (struct slice){&byte, 1});
    }
    return added;
}

enum result xtext_encode(struct slice plain, struct bytes *xtext)
{
    enum result added = RESULT_OK;

    for (size_t i = 0; i < plain.length && added == RESULT_OK; i++) {
        unsigned char byte = (unsigned char)plain.data[i];

        if (byte < '!' || byte > '~' || byte == '+' || byte == '=')
            added = bytes_format(xtext, "+%02X", byte);
        else
            added = bytes_add(xtext, slice_part(plain, i, 1));
    }
    return added;
}
