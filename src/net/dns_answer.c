/* The parser of DNS answers. Written by hand, not with udns's dns_nextrr(): that takes
 * aliases only in order, prints odd bytes of host names as escapes, and cannot be fuzzed
 * apart from the library. Work is bounded: LIMIT_DNS_ANSWER_RECORDS records,
 * LIMIT_DNS_CNAMES aliases, LIMIT_DNS_NAME_JUMPS pointers in a name, and pointers only lead
 * backwards. */
#include "dns_answer.h"

#include <stdio.h>
#include <string.h>

/* RFC 1035 4.1.1 */
enum { FLAG_RESPONSE = 0x8000, FLAG_TRUNCATED = 0x0200, FLAG_AUTHENTIC = 0x0020 };
enum { MASK_OPCODE = 0x7800, MASK_RCODE = 0x000f };
enum { RCODE_OK = 0, RCODE_NXDOMAIN = 3 };

struct wire_name {
    size_t length; /* with the root label */
    uint8_t bytes[DNS_WIRE_NAME];
};

struct reader {
    const uint8_t *data;
    size_t length;
    size_t at;
};

struct record {
    struct wire_name owner;
    unsigned type;
    unsigned class;
    uint32_t ttl_s;
    size_t data_at;
    size_t data_length;
};

struct parse {
    struct reader packet;
    const struct dns_question *question;
    struct dns_space *space;
    struct wire_name wanted; /* the name asked for, then what it is an alias of */
    unsigned alias_count;
    unsigned answer_count;
    unsigned skipped_count;
    uint32_t ttl_s;
};

static bool read16(struct reader *reader, unsigned *value)
{
    if (reader->length - reader->at < 2)
        return false;
    *value = (unsigned)reader->data[reader->at] << 8 | reader->data[reader->at + 1];
    reader->at += 2;
    return true;
}

static bool read_ttl(struct reader *reader, uint32_t *ttl_s)
{
    unsigned high;
    unsigned low;

    if (!read16(reader, &high) || !read16(reader, &low))
        return false;
    /* RFC 2181 8: with the top bit set it means 0. */
    *ttl_s = high & 0x8000 ? 0 : (uint32_t)high << 16 | low;
    return true;
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

/* Copies the label at `at`, whose length byte is `length`. */
static bool add_label(const struct reader *packet, size_t at, size_t length,
                      struct wire_name *name)
{
    if (packet->length - at < 1 + length || name->length + 1 + length + 1 > DNS_WIRE_NAME)
        return false;
    name->bytes[name->length++] = (uint8_t)length;
    for (size_t i = 0; i < length; i++)
        name->bytes[name->length++] = lower(packet->data[at + 1 + i]);
    return true;
}

/* A name, decompressed, in lower case; the reader then stands behind it (RFC 1035 4.1.4).
 */
static bool read_name(struct reader *reader, struct wire_name *name)
{
    size_t at = reader->at;
    unsigned jumps = 0;

    name->length = 0;
    while (at < reader->length) {
        size_t length = reader->data[at];
        size_t target;

        if (length == 0) {
            name->bytes[name->length++] = 0;
            if (jumps == 0)
                reader->at = at + 1;
            return true;
        }
        if (length <= DNS_LABEL) {
            if (!add_label(reader, at, length, name))
                return false;
            at += 1 + length;
            continue;
        }
        if (length < 0xc0 || reader->length - at < 2)
            return false;
        target = (length & 0x3f) << 8 | reader->data[at + 1];
        /* Backwards only: with the limit of jumps this ends, whatever the packet holds. */
        if (target >= at || target < DNS_HEADER_BYTES || ++jumps > LIMIT_DNS_NAME_JUMPS)
            return false;
        if (jumps == 1)
            reader->at = at + 2;
        at = target;
    }
    return false;
}

static bool name_equals(const struct wire_name *name, const uint8_t *bytes, size_t length)
{
    return name->length == length && memcmp(name->bytes, bytes, length) == 0;
}

static bool is_host_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
           byte == '_';
}

/* False if it is no sane host name. The root is "". */
static bool name_to_host(const struct wire_name *name, char host[256])
{
    size_t length = 0;

    for (size_t at = 0; name->bytes[at] != 0; at += 1U + name->bytes[at]) {
        if (length > 0)
            host[length++] = '.';
        for (size_t i = 1; i <= name->bytes[at]; i++) {
            if (!is_host_byte(name->bytes[at + i]))
                return false;
            host[length++] = (char)name->bytes[at + i];
        }
    }
    host[length] = '\0';
    return true;
}

static bool read_record(struct reader *reader, struct record *record)
{
    unsigned length;

    if (!read_name(reader, &record->owner) || !read16(reader, &record->type) ||
        !read16(reader, &record->class) || !read_ttl(reader, &record->ttl_s) ||
        !read16(reader, &length) || reader->length - reader->at < length)
        return false;
    record->data_at = reader->at;
    record->data_length = length;
    reader->at += length;
    return true;
}

/* The name that begins `offset` bytes into the record's data and ends with it. */
static bool read_data_name(const struct parse *parse, const struct record *record,
                           size_t offset, struct wire_name *name)
{
    struct reader reader = parse->packet;

    reader.at = record->data_at + offset;
    return record->data_length > offset && read_name(&reader, name) &&
           reader.at == record->data_at + record->data_length;
}

static bool take_mx(struct parse *parse, const struct record *record)
{
    struct dns_answer *answer = &parse->space->answer;
    const uint8_t *data = parse->packet.data + record->data_at;
    struct dns_mx *mx = &parse->space->mx[answer->mx_count];
    struct wire_name name;

    if (!read_data_name(parse, record, 2, &name))
        return false;
    if (answer->mx_count == LIMIT_DNS_ANSWER_MX)
        return true; /* more than that says nothing new */
    if (!name_to_host(&name, mx->host))
        return false;
    mx->preference = (uint16_t)(data[0] << 8 | data[1]);
    answer->mx_count++;
    return true;
}

static bool take_address(struct parse *parse, const struct record *record)
{
    struct dns_answer *answer = &parse->space->answer;
    const uint8_t *data = parse->packet.data + record->data_at;
    struct ip ip;

    if (record->type == RECORD_A) {
        if (record->data_length != 4)
            return false;
        ip = ip_from_v4(data);
    } else {
        if (record->data_length != sizeof ip.bytes)
            return false;
        memcpy(ip.bytes, data, sizeof ip.bytes);
    }
    for (size_t i = 0; i < answer->address_count; i++)
        if (ip_equal(&parse->space->addresses[i], &ip))
            return true;
    if (answer->address_count < DNS_ANSWER_ADDRESSES)
        parse->space->addresses[answer->address_count++] = ip;
    return true;
}

static bool take_name(struct parse *parse, const struct record *record)
{
    struct wire_name name;
    char host[256];

    if (!read_data_name(parse, record, 0, &name) || !name_to_host(&name, host) || !*host)
        return false;
    if (!parse->space->answer.name) { /* the first one stands */
        memcpy(parse->space->name, host, sizeof host);
        parse->space->answer.name = parse->space->name;
    }
    return true;
}

/* RFC 1035 3.3.14: one or more strings, each with its length in front. A record that does
 * not fit any more is passed over. */
static bool take_txt(struct parse *parse, const struct record *record)
{
    struct dns_space *space = parse->space;
    const uint8_t *data = parse->packet.data + record->data_at;
    size_t begin = space->txt_length;
    size_t end = begin;

    if (record->data_length == 0)
        return false;
    for (size_t at = 0; at < record->data_length; at += 1U + data[at])
        if (record->data_length - at < 1U + data[at])
            return false;
    if (space->answer.txt_count == LIMIT_DNS_ANSWER_TXT ||
        record->data_length > sizeof space->txt_bytes - begin)
        return true;
    for (size_t at = 0; at < record->data_length; at += 1U + data[at]) {
        memcpy(space->txt_bytes + end, data + at + 1, data[at]);
        end += data[at];
    }
    space->txt_length = end;
    space->txt[space->answer.txt_count++] =
        (struct slice){space->txt_bytes + begin, end - begin};
    return true;
}

/* RFC 6698 2.1. What is too large to be kept must still be known to be there: a host with a
 * TLSA record is never sent to in clear. */
static bool take_tlsa(struct parse *parse, const struct record *record)
{
    enum { HEAD = 3 };
    struct dns_space *space = parse->space;
    const uint8_t *data = parse->packet.data + record->data_at;
    size_t length = record->data_length - HEAD;
    struct tlsa *tlsa = &space->tlsa[space->answer.tlsa_count];

    if (record->data_length < HEAD)
        return false;
    if (space->answer.tlsa_count == LIMIT_DNS_ANSWER_TLSA)
        return true;
    if (length > sizeof space->txt_bytes - space->txt_length)
        length = 0;
    *tlsa = (struct tlsa){
        data[0], data[1], data[2], {space->txt_bytes + space->txt_length, length}};
    memcpy(space->txt_bytes + space->txt_length, data + HEAD, length);
    space->txt_length += length;
    space->answer.tlsa_count++;
    return true;
}

static bool take(struct parse *parse, const struct record *record)
{
    switch (parse->question->type) {
    case RECORD_MX:
        return take_mx(parse, record);
    case RECORD_A:
    case RECORD_AAAA:
        return take_address(parse, record);
    case RECORD_PTR:
    case RECORD_CNAME:
        return take_name(parse, record);
    case RECORD_TXT:
        return take_txt(parse, record);
    case RECORD_TLSA:
        return take_tlsa(parse, record);
    }
    return false;
}

static bool has_records(const struct parse *parse)
{
    const struct dns_answer *answer = &parse->space->answer;

    return answer->mx_count > 0 || answer->address_count > 0 || answer->name != NULL ||
           answer->txt_count > 0 || answer->tlsa_count > 0;
}

/* NULL, or what is wrong. */
static const char *use_record(struct parse *parse, const struct record *record)
{
    bool is_wanted = record->type == (unsigned)parse->question->type;

    if (record->class != DNS_CLASS_IN || (!is_wanted && record->type != RECORD_CNAME) ||
        !name_equals(&record->owner, parse->wanted.bytes, parse->wanted.length))
        return NULL;
    if (is_wanted) {
        if (!take(parse, record))
            parse->skipped_count++;
    } else if (!has_records(parse)) {
        if (++parse->alias_count > LIMIT_DNS_CNAMES)
            return "too many aliases";
        if (!read_data_name(parse, record, 0, &parse->wanted))
            return "malformed answer";
    }
    if (record->ttl_s < parse->ttl_s)
        parse->ttl_s = record->ttl_s;
    return NULL;
}

/* Once over the answer section. NULL, or what is wrong. */
static const char *scan(struct parse *parse)
{
    struct reader reader = parse->packet;

    for (unsigned i = 0; i < parse->answer_count && i < LIMIT_DNS_ANSWER_RECORDS; i++) {
        struct record record;
        const char *wrong;

        if (!read_record(&reader, &record))
            return "malformed answer";
        wrong = use_record(parse, &record);
        if (wrong)
            return wrong;
    }
    return NULL;
}

/* Aliases mostly stand in order, and one pass finds all; where they do not, each pass gets
 * at least one alias further, so LIMIT_DNS_CNAMES bounds the passes too. */
static void collect(struct parse *parse)
{
    struct dns_space *space = parse->space;
    unsigned aliases_before;
    const char *wrong;

    do {
        aliases_before = parse->alias_count;
        wrong = scan(parse);
    } while (!wrong && !has_records(parse) && parse->skipped_count == 0 &&
             parse->alias_count > aliases_before);

    if (!wrong && !has_records(parse) && parse->skipped_count > 0)
        wrong = "malformed records only";
    if (wrong) {
        dns_space_reset(space, RESULT_DNS_FAILURE, wrong);
        return;
    }
    if (parse->alias_count > 0 && name_to_host(&parse->wanted, space->canonical))
        space->answer.canonical = space->canonical;
    if (!has_records(parse)) {
        space->answer.result = RESULT_DNS_NODATA;
        return;
    }
    space->answer.result = RESULT_OK;
    space->answer.ttl_ms = (int64_t)parse->ttl_s * 1000;
}

static void judge_rcode(unsigned rcode, struct dns_space *space)
{
    static const char *const names[] = {"NOERROR",  "FORMERR", "SERVFAIL",
                                        "NXDOMAIN", "NOTIMP",  "REFUSED"};
    char text[64];

    if (rcode < sizeof names / sizeof names[0])
        (void)snprintf(text, sizeof text, "the server answered %s", names[rcode]);
    else
        (void)snprintf(text, sizeof text, "the server answered rcode %u", rcode);
    dns_space_reset(space, RESULT_DNS_FAILURE, text);
}

void dns_space_reset(struct dns_space *space, enum result result, const char *text)
{
    memset(&space->answer, 0, sizeof space->answer);
    space->answer.result = result;
    space->answer.mx = space->mx;
    space->answer.addresses = space->addresses;
    space->answer.txt = space->txt;
    space->answer.tlsa = space->tlsa;
    space->txt_length = 0;
    if (text)
        (void)snprintf(space->answer.text, sizeof space->answer.text, "%s", text);
}

void dns_answer_parse(struct slice packet, const struct dns_question *question,
                      struct dns_space *space)
{
    struct parse parse = {
        .packet = {(const uint8_t *)packet.data, packet.length, 2}, /* behind the id */
        .question = question,
        .space = space,
        .ttl_s = UINT32_MAX};
    unsigned flags;
    unsigned question_count;
    unsigned type;
    unsigned class;

    dns_space_reset(space, RESULT_DNS_FAILURE, "malformed answer");
    if (packet.length < DNS_HEADER_BYTES || !read16(&parse.packet, &flags) ||
        !read16(&parse.packet, &question_count) ||
        !read16(&parse.packet, &parse.answer_count))
        return;
    parse.packet.at = DNS_HEADER_BYTES;
    if (!(flags & FLAG_RESPONSE) || (flags & MASK_OPCODE) || question_count != 1)
        return;
    if (!read_name(&parse.packet, &parse.wanted) || !read16(&parse.packet, &type) ||
        !read16(&parse.packet, &class))
        return;
    if (!name_equals(&parse.wanted, question->name, question->name_length) ||
        type != (unsigned)question->type || class != DNS_CLASS_IN) {
        dns_space_reset(space, RESULT_DNS_FAILURE, "an answer to another question");
        return;
    }
    if ((flags & MASK_RCODE) != RCODE_OK && (flags & MASK_RCODE) != RCODE_NXDOMAIN) {
        judge_rcode(flags & MASK_RCODE, space);
        return;
    }
    if (flags & FLAG_TRUNCATED) {
        dns_space_reset(space, RESULT_DNS_FAILURE, "truncated answer");
        return;
    }
    dns_space_reset(space, RESULT_DNS_NXDOMAIN, NULL);
    if ((flags & MASK_RCODE) == RCODE_OK)
        collect(&parse);
    space->answer.is_authentic = (flags & FLAG_AUTHENTIC) != 0;
}
