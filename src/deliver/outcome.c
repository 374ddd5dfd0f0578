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

/* NOLINTNEXTLINE(readability-function-size): a reply has so many parts */
struct said *said_words(struct arena *arena, enum deliver_class class, unsigned code,
                        const char *status, const char *text, const char *host)
{
    struct said *said = arena_alloc(arena, sizeof *said);

    if (!said)
        return NULL;
    said->class = class;
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
    said = said_words(arena, CLASS_OTHER, reply->code, "", text, host);
    if (!said)
        return NULL;
    reply_status(reply, said->status);
    said->is_remote = true;
    return said;
}

enum deliver_class settings_classify(const struct plan_settings *settings,
                                     const struct class_reply *reply)
{
    return classifier_match(settings->values.classifier, reply).class;
}

enum deliver_class deliver_classify(const struct deliver *deliver,
                                    const struct class_reply *reply)
{
    return settings_classify(deliver->settings, reply);
}

enum deliver_class verdict_class(const struct outcome *outcome)
{
    if (outcome->is_expired)
        return CLASS_EXPIRED;
    if (outcome->is_operator)
        return CLASS_OPERATOR;
    if (outcome->is_suppressed)
        return CLASS_SUPPRESSED;
    if (outcome->verdict == VERDICT_DELIVERED)
        return outcome->is_relayed ? CLASS_RELAYED : CLASS_DELIVERED;
    return outcome->said ? outcome->said->class : CLASS_OTHER;
}
