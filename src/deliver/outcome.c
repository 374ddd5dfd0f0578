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

/* RFC 5321 4.5.3.1.10: 452 (some say 552) behind accepted ones is "too many in this one", if
 * its enhanced code does not say something else: 452 4.2.2 is a full mailbox. */
bool verdict_is_too_many(const struct reply *reply)
{
    const struct enhanced_code *enhanced = &reply->enhanced;
    bool is_protocol =
        enhanced->subject == 5 && (enhanced->detail == 3 || !enhanced->detail);

    if (reply->code == 552)
        return is_protocol;
    return reply->code == 452 && (enhanced->class_digit == 0 || is_protocol);
}

struct said *said_words(struct arena *arena, unsigned code, const char *status,
                        const char *text, const char *host)
{
    struct said *said = arena_alloc(arena, sizeof *said);

    if (!said)
        return NULL;
    said->code = (uint16_t)code;
    (void)slice_copy_text(slice_of(status), said->status, sizeof said->status);
    slice_copy_start(slice_of(text), said->text, sizeof said->text);
    slice_copy_start(slice_of(host), said->host, sizeof said->host);
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

/* clang-format off */
static const char *const class_names[CLASS_COUNT] = {
    [CLASS_DELIVERED] = "delivered",
    [CLASS_RELAYED] = "relayed",
    [CLASS_EXPIRED] = "message-expired",
    [CLASS_OPERATOR] = "operator",
    [CLASS_ROUTING] = "routing-errors",
    [CLASS_BAD_MAILBOX] = "bad-mailbox",
    [CLASS_QUOTA] = "quota-issues",
    [CLASS_INACTIVE_MAILBOX] = "inactive-mailbox",
    [CLASS_PROTOCOL] = "protocol-errors",
    [CLASS_CONTENT] = "content-related",
    [CLASS_POLICY] = "policy-related",
    [CLASS_OTHER] = "other",
};
/* clang-format on */

const char *deliver_class_name(enum deliver_class class)
{
    return class_names[class];
}

/* RFC 3463 3: the subject tells what it is about. */
static enum deliver_class class_of_status(const char *status)
{
    switch (status[0] ? status[2] : '\0') {
    case '1':
        return CLASS_BAD_MAILBOX;
    case '2':
        return status[4] == '2' ? CLASS_QUOTA : CLASS_INACTIVE_MAILBOX;
    case '5':
        return CLASS_PROTOCOL;
    case '6':
        return CLASS_CONTENT;
    case '7':
        return CLASS_POLICY;
    default:
        return CLASS_OTHER;
    }
}

enum deliver_class verdict_class(const struct outcome *outcome)
{
    if (outcome->is_expired)
        return CLASS_EXPIRED;
    if (outcome->is_operator)
        return CLASS_OPERATOR;
    if (outcome->verdict == VERDICT_DELIVERED)
        return outcome->is_relayed ? CLASS_RELAYED : CLASS_DELIVERED;
    if (!outcome->said)
        return CLASS_OTHER;
    return outcome->said->is_remote ? class_of_status(outcome->said->status)
                                    : CLASS_ROUTING;
}
