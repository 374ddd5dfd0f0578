/* What holds a group is the first of these: an attempt has it; a hold; it is not in the index
 * yet; else the later of its own next attempt and what holds its lane. */
#include "why.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
static const char *const names[WHY_COUNT] = {
    [WHY_SCHEDULED] = "scheduled",
    [WHY_LEASED] = "active",
    [WHY_DNS] = "dns",
    [WHY_DESTINATION] = "destination",
    [WHY_CONNECTIONS] = "connections",
    [WHY_READY_FULL] = "ready_full",
    [WHY_DRAINING] = "draining",
    [WHY_NO_ROOM] = "no_room",
    [WHY_RATE] = "rate",
    [WHY_SUSPENDED] = "suspended",
    [WHY_SOURCE] = "source",
    [WHY_WARM_UP] = "warm_up",
    [WHY_HELD] = "held",
    [WHY_REBUILDING] = "rebuilding",
    [WHY_OVERFLOW] = "overflow",
};
/* clang-format on */

const char *why_name(enum why_kind kind)
{
    return names[kind];
}

int64_t why_held_until(const struct admin_rooms *rooms, const struct envelope *envelope,
                       const struct group *group)
{
    int64_t expiry_ms = envelope->arrival_ms + queue_expire_ms(rooms->queue);

    return group->not_before_ms < expiry_ms ? group->not_before_ms : expiry_ms;
}

static void set(struct why *why, enum why_kind kind, int64_t until_ms, const char *text)
{
    why->kind = kind;
    why->until_ms = until_ms;
    (void)snprintf(why->text, sizeof why->text, "%s", text);
}

static void judge(const struct admin_rooms *rooms, const struct envelope *envelope,
                  const struct group *group, struct why *why)
{
    int64_t now_ms = loop_wall_ms(rooms->loop);

    deliver_why(rooms->deliver, group->lane, envelope, why);
    if (queue_is_leased(rooms->queue, envelope->id, group->number)) {
        deliver_why_leased(rooms->deliver, group->lane, envelope,
                           &(struct queue_target){envelope->id, group->number}, why);
    } else if (group_is_held(group, now_ms)) {
        int64_t until_ms = why_held_until(rooms, envelope, group);

        set(why, WHY_HELD, until_ms,
            until_ms < group->not_before_ms
                ? "held by an operator until it expires: it will not be tried"
                : "held by an operator");
    } else if (!queue_is_indexed(rooms->queue, envelope->id)) {
        set(why, WHY_REBUILDING, 0, "the index is being rebuilt and has not come to it");
    } else if (!queue_find_domain_queue(rooms->queue, group->lane)) {
        set(why, WHY_OVERFLOW, 0, "too many domains wait at once: it comes in its turn");
    } else if (group->next_attempt_ms > now_ms && why->until_ms <= group->next_attempt_ms) {
        set(why, WHY_SCHEDULED, group->next_attempt_ms, "");
        (void)snprintf(why->text, sizeof why->text, "waits for its next attempt%s%s",
                       group->last_text[0] ? "; the last answer was: " : "",
                       group->last_text);
    }
}

json_t *why_json(const struct admin_rooms *rooms, const struct envelope *envelope,
                 const struct group *group)
{
    struct why why = {0};

    judge(rooms, envelope, group, &why);
    return json_pack("{s:s,s:o,s:o,s:I}", "kind", why_name(why.kind), "text",
                     request_text(why.text), "destination",
                     why.destination[0] ? request_text(why.destination) : json_null(),
                     "until_ms", (json_int_t)why.until_ms);
}
