/* Both versions start with bytes that no SMTP client and no TLS client sends, so the first
 * byte decides which parser runs. Version 1 is a line of text; version 2 a fixed head, an
 * address block and extensions (TLVs) that we skip: their checksum guards against our own
 * balancer's memory only. */
#include "smtpd/net/proxy_protocol.h"

#include <string.h>

enum {
    V1_LINE_MAX = 107, /* with CR LF, as the specification counts */
    V1_WORDS = 6,
    V2_HEAD = 16,
    V2_INET = 12, /* two addresses, two ports */
    V2_INET6 = 36,
    V2_LOCAL = 0x20,
    V2_PROXY = 0x21,
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21
};

static const unsigned char v2_signature[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                             0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

/* ---- version 1 ---- */

/* As the specification has it: decimal, no sign, no leading zero. */
static bool take_port(struct slice text, uint16_t *port)
{
    unsigned long value = 0;

    if (text.length == 0 || text.length > 5 || (text.length > 1 && text.data[0] == '0'))
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (unsigned long)(text.data[i] - '0');
    }
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

static bool take_endpoint(struct slice address, struct slice port, bool wants_v4,
                          struct endpoint *endpoint)
{
    return ip_parse(address, &endpoint->ip) == RESULT_OK &&
           ip_is_v4(&endpoint->ip) == wants_v4 && take_port(port, &endpoint->port);
}

/* Exactly one blank stands between two words. */
static size_t split(struct slice line, struct slice words[V1_WORDS])
{
    size_t count = 0;

    while (count < V1_WORDS) {
        size_t end = slice_find(line, ' ');

        words[count++] = slice_part(line, 0, end);
        if (end == line.length)
            return count;
        line = slice_from(line, end + 1);
    }
    return V1_WORDS + 1;
}

static enum result take_line(struct slice line, struct proxy_header *header)
{
    struct slice words[V1_WORDS];
    size_t count = split(line, words);
    bool is_v4;

    if (count < 2 || !slice_equal_text(words[0], "PROXY"))
        return RESULT_INVALID;
    if (slice_equal_text(words[1], "UNKNOWN"))
        return RESULT_OK; /* what follows is to be ignored */
    is_v4 = slice_equal_text(words[1], "TCP4");
    if (count != V1_WORDS || (!is_v4 && !slice_equal_text(words[1], "TCP6")))
        return RESULT_INVALID;
    header->has_client = take_endpoint(words[2], words[4], is_v4, &header->client) &&
                         take_endpoint(words[3], words[5], is_v4, &header->server);
    return header->has_client ? RESULT_OK : RESULT_INVALID;
}

static bool begins_as_line(struct slice bytes)
{
    static const char word[] = "PROXY ";
    size_t length = bytes.length < sizeof word - 1 ? bytes.length : sizeof word - 1;

    return memcmp(bytes.data, word, length) == 0;
}

static enum result parse_line(struct slice bytes, struct proxy_header *header)
{
    size_t end = slice_find(slice_part(bytes, 0, V1_LINE_MAX), '\n');

    if (!begins_as_line(bytes))
        return RESULT_INVALID;
    if (end == bytes.length && end < V1_LINE_MAX) {
        header->length = bytes.length + 1;
        return RESULT_AGAIN;
    }
    if (end >= V1_LINE_MAX || end == 0 || bytes.data[end - 1] != '\r')
        return RESULT_INVALID;
    header->length = end + 1;
    return take_line(slice_part(bytes, 0, end - 1), header);
}

/* ---- version 2 ---- */

static uint16_t number(const char *at)
{
    return (uint16_t)((unsigned char)at[0] << 8 | (unsigned char)at[1]);
}

static void take_v4(const char *block, struct proxy_header *header)
{
    uint8_t address[4];

    memcpy(address, block, sizeof address);
    header->client = (struct endpoint){ip_from_v4(address), number(block + 8)};
    memcpy(address, block + 4, sizeof address);
    header->server = (struct endpoint){ip_from_v4(address), number(block + 10)};
    header->has_client = true;
}

static void take_v6(const char *block, struct proxy_header *header)
{
    memcpy(header->client.ip.bytes, block, 16);
    memcpy(header->server.ip.bytes, block + 16, 16);
    header->client.port = number(block + 32);
    header->server.port = number(block + 34);
    header->has_client = true;
}

static enum result parse_binary(struct slice bytes, struct proxy_header *header)
{
    size_t known = bytes.length < sizeof v2_signature ? bytes.length : sizeof v2_signature;
    unsigned char command;
    unsigned char family;
    size_t block;

    if (memcmp(bytes.data, v2_signature, known) != 0)
        return RESULT_INVALID;
    header->length = V2_HEAD;
    if (bytes.length < V2_HEAD)
        return RESULT_AGAIN;
    command = (unsigned char)bytes.data[12];
    family = (unsigned char)bytes.data[13];
    block = number(bytes.data + 14);
    header->length = V2_HEAD + block;
    if ((command != V2_LOCAL && command != V2_PROXY) || header->length > PROXY_HEADER_MAX)
        return RESULT_INVALID;
    if (bytes.length < header->length)
        return RESULT_AGAIN;
    if (command == V2_LOCAL)
        return RESULT_OK;
    if ((family == V2_TCP4 && block < V2_INET) || (family == V2_TCP6 && block < V2_INET6))
        return RESULT_INVALID;
    if (family == V2_TCP4)
        take_v4(bytes.data + V2_HEAD, header);
    else if (family == V2_TCP6)
        take_v6(bytes.data + V2_HEAD, header);
    return RESULT_OK;
}

enum result proxy_header_parse(struct slice bytes, struct proxy_header *header)
{
    *header = (struct proxy_header){.length = 1};
    if (bytes.length == 0)
        return RESULT_AGAIN;
    return bytes.data[0] == 'P' ? parse_line(bytes, header) : parse_binary(bytes, header);
}
