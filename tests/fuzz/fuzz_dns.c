/* The parser of DNS answers against bytes from anywhere: the first byte picks the type that
 * was asked of mail.test, the rest is the packet. What it accepts must keep the promises of
 * dns_answer.h, and survive the packing of the cache. */
#include "net/dns_cache.h"

#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_host(const char *host)
{
    for (const char *at = host; *at; at++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.", *at) ||
            (*at == '.' && (at == host || at[1] == '.' || at[1] == '\0')))
            return false;
    return strlen(host) <= 253;
}

static void check_answer(const struct dns_answer *answer)
{
    size_t records = answer->mx_count + answer->address_count + (answer->name != NULL) +
                     answer->txt_count + answer->tlsa_count;

    CHECK(answer->mx_count <= LIMIT_DNS_ANSWER_MX);
    CHECK(answer->address_count <= DNS_ANSWER_ADDRESSES);
    for (size_t i = 0; i < answer->mx_count; i++)
        CHECK(is_host(answer->mx[i].host));
    CHECK(answer->txt_count <= LIMIT_DNS_ANSWER_TXT);
    CHECK(answer->tlsa_count <= LIMIT_DNS_ANSWER_TLSA);
    CHECK(!answer->canonical || is_host(answer->canonical));
    CHECK(!answer->name || (is_host(answer->name) && answer->name[0]));
    switch ((int)answer->result) {
    case RESULT_OK:
        CHECK(records > 0 && answer->ttl_ms >= 0);
        break;
    case RESULT_DNS_NXDOMAIN:
    case RESULT_DNS_NODATA:
        CHECK(records == 0);
        break;
    default:
        CHECK(answer->result == RESULT_DNS_FAILURE && records == 0 && answer->text[0]);
    }
}

static void check_packing(const struct dns_answer *answer)
{
    static struct dns_space again;
    struct dns_packed *packed = dns_pack(answer, answer->ttl_ms);

    dns_unpack(packed, 0, &again);
    dns_packed_free(packed);
    CHECK(again.answer.result == answer->result && again.answer.ttl_ms == answer->ttl_ms);
    CHECK(again.answer.mx_count == answer->mx_count);
    for (size_t i = 0; i < answer->mx_count; i++)
        CHECK(again.mx[i].preference == answer->mx[i].preference &&
              strcmp(again.mx[i].host, answer->mx[i].host) == 0);
    CHECK(again.answer.address_count == answer->address_count);
    for (size_t i = 0; i < answer->address_count; i++)
        CHECK(ip_equal(&again.addresses[i], &answer->addresses[i]));
    CHECK(again.answer.txt_count == answer->txt_count);
    for (size_t i = 0; i < answer->txt_count; i++)
        CHECK(slice_equal(again.answer.txt[i], answer->txt[i]));
    CHECK(again.answer.tlsa_count == answer->tlsa_count);
    for (size_t i = 0; i < answer->tlsa_count; i++)
        CHECK(again.tlsa[i].usage == answer->tlsa[i].usage &&
              again.tlsa[i].selector == answer->tlsa[i].selector &&
              again.tlsa[i].matching == answer->tlsa[i].matching &&
              slice_equal(again.tlsa[i].data, answer->tlsa[i].data));
    CHECK(!answer->canonical == !again.answer.canonical);
    CHECK(!answer->canonical || strcmp(answer->canonical, again.answer.canonical) == 0);
    CHECK(!answer->name == !again.answer.name);
    CHECK(!answer->name || strcmp(answer->name, again.answer.name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum record_type types[] = {RECORD_MX,  RECORD_A,   RECORD_AAAA,
                                             RECORD_PTR, RECORD_TXT, RECORD_CNAME,
                                             RECORD_TLSA};
    static struct dns_space space;
    struct dns_question question;

    if (size < 1)
        return 0;
    CHECK(dns_question_set(&question, "mail.test", types[data[0] % 7]) == RESULT_OK);
    dns_answer_parse((struct slice){(const char *)data + 1, size - 1}, &question, &space);
    check_answer(&space.answer);
    check_packing(&space.answer);
    return 0;
}
