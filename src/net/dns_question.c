/* Names and queries as the wire wants them.
 *
 * Not udns's dns_ptodn(): that reads backslashes as escapes, so that a name from a mail
 * address could become another one. Here each byte of a label is itself. */
#include "dns_question.h"

#include <stdio.h>
#include <string.h>

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

/* One label off the front of *text; false if it is none. */
static bool add_label(struct dns_question *question, const char **text)
{
    size_t length = strcspn(*text, ".");
    uint8_t *into = question->name + question->name_length;

    /* Room for its length byte and for the root at the end. */
    if (length < 1 || length > DNS_LABEL ||
        question->name_length + 1 + length + 1 > DNS_WIRE_NAME)
        return false;
    *into++ = (uint8_t)length;
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)(*text)[i];

        if (byte <= ' ' || byte >= 0x7f)
            return false;
        *into++ = lower(byte);
    }
    question->name_length += 1 + length;
    *text += length;
    return true;
}

enum result dns_question_set(struct dns_question *question, const char *name,
                             enum record_type type)
{
    question->type = type;
    question->name_length = 0;
    for (;;) {
        if (!add_label(question, &name))
            return RESULT_INVALID;
        if (!*name)
            break;
        name++; /* the dot: a label must follow */
    }
    question->name[question->name_length++] = 0;
    return RESULT_OK;
}

static uint8_t *put16(uint8_t *into, unsigned value)
{
    *into++ = (uint8_t)(value >> 8);
    *into++ = (uint8_t)value;
    return into;
}

size_t dns_question_write(const struct dns_question *question, uint16_t id,
                          uint8_t packet[DNS_QUERY_BYTES])
{
    enum { RECURSION_DESIRED = 0x0100, TYPE_OPT = 41, DNSSEC_OK = 0x8000 };
    uint8_t *at = packet;

    at = put16(at, id);
    at = put16(at, RECURSION_DESIRED);
    at = put16(at, 1); /* one question */
    at = put16(at, 0);
    at = put16(at, 0);
    at = put16(at, 1); /* one additional record: OPT, RFC 6891 6.1.2 */
    memcpy(at, question->name, question->name_length);
    at += question->name_length;
    at = put16(at, question->type);
    at = put16(at, DNS_CLASS_IN);
    *at++ = 0; /* the root owns OPT */
    at = put16(at, TYPE_OPT);
    at = put16(at, DNS_UDP_BYTES);
    at = put16(at, 0); /* extended rcode and version */
    at = put16(at, DNSSEC_OK);
    at = put16(at, 0); /* no options */
    return (size_t)(at - packet);
}

void dns_question_reverse_name(const struct ip *ip, char name[DNS_REVERSE_NAME])
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = ip->bytes;
    char *at = name;

    if (ip_is_v4(ip)) {
        (void)snprintf(name, DNS_REVERSE_NAME, "%u.%u.%u.%u.in-addr.arpa", b[15], b[14],
                       b[13], b[12]);
        return;
    }
    for (size_t i = sizeof ip->bytes; i-- > 0;) {
        *at++ = digits[b[i] & 0x0f];
        *at++ = '.';
        *at++ = digits[b[i] >> 4];
        *at++ = '.';
    }
    memcpy(at, "ip6.arpa", sizeof "ip6.arpa");
}
