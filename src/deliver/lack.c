/* What a message needs and a next hop does not offer: pure. */
#include "lack.h"

static bool needs_smtputf8(const struct lease *lease)
{
    const struct envelope *envelope = &lease->envelope;

    if (!envelope->smtputf8)
        return false;
    for (uint32_t i = 0; i < lease->group.recipient_count; i++)
        if (slice_has_8bit(slice_of(lease->group.recipients[i].address)))
            return true;
    return slice_has_8bit(slice_of(envelope->sender)) || envelope->has_8bit;
}

enum lack lack_of(const struct lease *lease, const struct capabilities *theirs,
                  bool is_trusted)
{
    const struct envelope *envelope = &lease->envelope;
    uint64_t size = envelope->header_bytes + envelope->body_bytes;

    if (needs_smtputf8(lease) && !theirs->smtputf8)
        return LACK_SMTPUTF8;
    if (envelope->tls_wish == TLS_WISH_REQUIRED && (!theirs->requiretls || !is_trusted))
        return LACK_REQUIRETLS;
    if (envelope->has_8bit && !theirs->eightbitmime)
        return LACK_8BITMIME;
    if (theirs->size && theirs->size_limit && size > theirs->size_limit)
        return LACK_SIZE;
    return LACK_NOTHING;
}

const struct said *lack_said(enum lack lack, struct arena *arena, const char *host)
{
    static const struct {
        enum deliver_class class;
        unsigned code;
        const char *status;
        const char *text;
    } words[] = {
        [LACK_SMTPUTF8] = {CLASS_PROTOCOL, 553, "5.6.7",
                           "the message needs SMTPUTF8 (RFC 6531), which the next hop does "
                           "not offer"},
        [LACK_REQUIRETLS] = {CLASS_TLS, 550, "5.7.30",
                             "the message asks for REQUIRETLS (RFC 8689), and the next hop "
                             "does not offer it over TLS that can be verified"},
        [LACK_8BITMIME] = {CLASS_PROTOCOL, 554, "5.6.3",
                           "the message has 8-bit content, and the next hop does not offer "
                           "8BITMIME"},
        [LACK_SIZE] = {CLASS_SIZE, 552, "5.3.4",
                       "the message is larger than the next hop takes"},
    };

    return said_words(arena, words[lack].class, words[lack].code, words[lack].status,
                      words[lack].text, host);
}
