/* What a reply means for a recipient: pure. */
#include "inner.h"

#include <stdio.h>
#include <string.h>

enum verdict verdict_of(const struct reply *reply)
{
    if (reply_is_positive(reply))
        return VERDICT_DELIVERED;
    return reply_is_permanent(reply) ? VERDICT_FAILED : VERDICT_DEFERRED;
}

struct said *said_words(struct arena *arena, unsigned code, const char *status,
                        const char *text, const char *host)
{
    struct said *said = arena_alloc(arena, sizeof *said);

    if (!said)
        return NULL;
    said->code = (uint16_t)code;
    (void)snprintf(said->status, sizeof said->status, "%s", status);
    slice_copy_start(slice_of(text), said->text, sizeof said->text);
    (void)snprintf(said->host, sizeof said->host, "%s", host ? host : "");
    return said;
}

struct said *said_reply(struct arena *arena, const struct reply *reply, const char *host)
{
    char text[LIMIT_REPLY_TEXT + 64];
    struct said *said;

    reply_print(reply, text, sizeof text);
    said = said_words(arena, reply->code, "", text, host);
    if (!said)
        return NULL;
    reply_status(reply, said->status);
    said->is_remote = true;
    return said;
}

const char *verdict_class(const struct outcome *outcome)
{
    if (outcome->is_expired)
        return "message-expired";
    if (outcome->verdict == VERDICT_DELIVERED)
        return outcome->is_relayed ? "relayed" : "delivered";
    if (!outcome->said)
        return "other";
    if (!outcome->said->is_remote)
        return "routing-errors";
    /* RFC 3463 3: the subject tells what it is about. */
    switch (outcome->said->status[2]) {
    case '1':
        return "bad-mailbox";
    case '2':
        return outcome->said->status[4] == '2' ? "quota-issues" : "inactive-mailbox";
    case '5':
        return "protocol-errors";
    case '6':
        return "content-related";
    case '7':
        return "policy-related";
    default:
        return "other";
    }
}
