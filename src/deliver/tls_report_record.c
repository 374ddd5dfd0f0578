#include "tls_report_record.h"

#include <string.h>

static const uint16_t HTTPS_PORT = 443;

static int hex(char byte)
{
    static const char digits[] = "0123456789abcdef";
    const char *at;

    if (byte >= 'A' && byte <= 'F')
        byte = (char)(byte - 'A' + 'a');
    at = byte ? strchr(digits, byte) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* RFC 3986 2.1. False: it does not fit, or holds what is no letter of a URI. */
static bool decode(struct slice text, char *into, size_t into_bytes)
{
    size_t length = 0;

    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.data[i];

        if (byte == '%') {
            int high = i + 2 < text.length ? hex(text.data[i + 1]) : -1;
            int low = i + 2 < text.length ? hex(text.data[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            byte = (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (byte <= ' ' || byte > '~' || length + 1 >= into_bytes)
            return false;
        into[length++] = (char)byte;
    }
    into[length] = '\0';
    return true;
}

/* RFC 6068 2: one address; header fields behind "?" are not ours to set. */
static bool read_mailto(struct slice rest, struct tls_report_place *place)
{
    struct address address;
    char normal[DOMAIN_TEXT];

    place->is_mail = true;
    return decode(slice_part(rest, 0, slice_find(rest, '?')), place->address,
                  sizeof place->address) &&
           address_parse_mailbox(slice_of(place->address), &address) == RESULT_OK &&
           domain_normalise(address_domain(&address), normal) == RESULT_OK;
}

static bool is_path(struct slice path)
{
    for (size_t i = 0; i < path.length; i++)
        if (path.data[i] <= ' ' || path.data[i] > '~')
            return false;
    return true;
}

/* "//HOST[:PORT]/PATH"; no user, no address literal, no fragment. */
static bool read_https(struct slice rest, struct tls_report_place *place)
{
    struct slice authority = slice_part(rest, 0, slice_find(rest, '/'));
    struct slice path = slice_from(rest, authority.length);
    size_t colon = slice_find(authority, ':');
    uint64_t port = HTTPS_PORT;

    place->is_mail = false;
    if (slice_find(authority, '@') < authority.length ||
        domain_normalise(slice_part(authority, 0, colon), place->host) != RESULT_OK)
        return false;
    if (colon < authority.length &&
        (slice_to_u64(slice_from(authority, colon + 1), UINT16_MAX, &port) != RESULT_OK ||
         port == 0))
        return false;
    place->port = (uint16_t)port;
    path = slice_part(path, 0, slice_find(path, '#'));
    return is_path(path) && slice_copy_text(path.length > 0 ? path : SLICE("/"),
                                            place->path, sizeof place->path);
}

static bool read_place(struct slice text, struct tls_report_place *place)
{
    memset(place, 0, sizeof *place);
    if (slice_starts_fold(text, "mailto:"))
        return read_mailto(slice_from(text, sizeof "mailto:" - 1), place);
    return slice_starts_fold(text, "https://") &&
           read_https(slice_from(text, sizeof "https://" - 1), place);
}

static size_t read_places(struct slice list,
                          struct tls_report_place places[TLS_REPORT_PLACES_MAX])
{
    size_t count = 0;

    while (list.length > 0 && count < TLS_REPORT_PLACES_MAX) {
        size_t end = slice_find(list, ',');

        count += read_place(slice_trim(slice_part(list, 0, end)), &places[count]);
        list = slice_from(list, end < list.length ? end + 1 : end);
    }
    return count;
}

static bool is_record(struct slice text)
{
    static const struct slice version = {"v=TLSRPTv1", sizeof "v=TLSRPTv1" - 1};
    struct slice rest;

    if (text.length <= version.length ||
        !slice_equal(slice_part(text, 0, version.length), version))
        return false;
    rest = slice_trim(slice_from(text, version.length));
    return rest.length > 0 && rest.data[0] == ';';
}

/* RFC 8460 3: several are none. */
static const struct slice *choose(const struct slice *records, size_t count)
{
    const struct slice *chosen = NULL;

    for (size_t i = 0; i < count; i++) {
        if (!is_record(records[i]))
            continue;
        if (chosen)
            return NULL;
        chosen = &records[i];
    }
    return chosen;
}

size_t tls_report_record(const struct slice *records, size_t count,
                         struct tls_report_place places[TLS_REPORT_PLACES_MAX])
{
    const struct slice *record = choose(records, count);
    struct slice rest = record ? *record : SLICE_NONE;

    while (rest.length > 0) {
        size_t end = slice_find(rest, ';');
        struct slice field = slice_trim(slice_part(rest, 0, end));

        if (slice_starts_fold(field, "rua="))
            return read_places(slice_from(field, sizeof "rua=" - 1), places);
        rest = slice_from(rest, end < rest.length ? end + 1 : end);
    }
    return 0;
}
