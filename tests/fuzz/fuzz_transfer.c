/* The object of a moved message's file from bytes of anyone: what is taken can be stored as
 * records, and said again it is the same message. */
#include "queue/transfer.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* What an import does with it. */
static void check_records(const struct transfer *transfer)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    CHECK(record_encode_envelope(&transfer->envelope, (uint32_t)transfer->group_count,
                                 &record) == RESULT_OK);
    for (size_t i = 0; i < transfer->group_count; i++) {
        enum result result;

        bytes_clear(&record);
        result = record_encode_group(&transfer->groups[i].group, &record);
        CHECK(result == RESULT_OK || result == RESULT_TOO_LARGE); /* an import refuses it */
    }
    bytes_fini(&record);
}

static void check_same(const struct transfer *one, const struct transfer *other)
{
    const struct envelope *a = &one->envelope;
    const struct envelope *b = &other->envelope;

    CHECK(a->id == b->id && a->arrival_ms == b->arrival_ms && a->priority == b->priority);
    CHECK(is_same(a->sender, b->sender) && is_same(a->envid, b->envid));
    CHECK(is_same(a->user, b->user) && is_same(a->tenant, b->tenant));
    CHECK(a->header_bytes == b->header_bytes && a->body_bytes == b->body_bytes);
    CHECK(one->group_count == other->group_count);
    for (size_t i = 0; i < one->group_count; i++) {
        const struct group *left = &one->groups[i].group;
        const struct group *right = &other->groups[i].group;

        CHECK(left->number == right->number && left->attempts == right->attempts);
        CHECK(left->recipient_count == right->recipient_count);
        CHECK(is_same(left->lane, right->lane));
        for (uint32_t k = 0; k < left->recipient_count; k++)
            CHECK(is_same(left->recipients[k].address, right->recipients[k].address) &&
                  left->recipients[k].notify == right->recipients[k].notify);
    }
}

static void check_again(const struct transfer *transfer)
{
    struct transfer_writer writer;
    struct transfer again;
    struct fault fault;
    size_t length;
    size_t digest_at;
    char *text;

    transfer_begin(&writer);
    transfer_set_envelope(&writer, 7, &transfer->envelope);
    for (size_t i = 0; i < transfer->group_count; i++)
        transfer_add_group(&writer, &transfer->groups[i].group);
    text = transfer_end(&writer, &length, &digest_at);
    CHECK(text && digest_at > 0 && digest_at + 64 < length);
    CHECK(transfer_decode((struct slice){text, length}, &again, &fault) == RESULT_OK);
    check_same(transfer, &again);
    transfer_fini(&again);
    memory_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct transfer transfer;
    struct fault fault;

    if (transfer_decode((struct slice){(const char *)data, size}, &transfer, &fault) ==
        RESULT_OK) {
        check_records(&transfer);
        check_again(&transfer);
    }
    transfer_fini(&transfer);
    return 0;
}
