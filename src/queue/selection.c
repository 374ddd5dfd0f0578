/* Text -> a selection; a selection against a group. */
#include "smtpd/queue/selection.h"

#include "smtpd/base/moment.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *const selection_names[SELECTION_NAMES] = {"domain", "sender", "recipient",
                                                      "user",   "tenant", "pool",
                                                      "source", "state",  "older_than"};

static enum result set_text(const char *name, const char *value, char *into,
                            size_t into_bytes, struct fault *fault)
{
    if (slice_copy_text(slice_of(value), into, into_bytes) && into[0])
        return RESULT_OK;
    return fault_set(fault, RESULT_INVALID, "%s is empty or too long", name);
}

/* Domains have no case, and may be typed in any script; the name of a route stays as it is. */
static enum result set_domain(const char *value, char domain[LANE_TEXT],
                              struct fault *fault)
{
    char normal[DOMAIN_TEXT];
    size_t star;

    if (set_text("domain", value, domain, LANE_TEXT, fault) != RESULT_OK)
        return RESULT_INVALID;
    star = strncmp(domain, "*.", 2) == 0 ? 2 : 0;
    if (domain_normalise(slice_of(domain + star), normal) == RESULT_OK)
        (void)snprintf(domain + star, LANE_TEXT - star, "%s", normal);
    return RESULT_OK;
}

static enum result set_state(const char *value, enum selection_state *state,
                             struct fault *fault)
{
    static const char *const names[] = {"any", "waiting", "active", "held"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(value, names[i]) == 0) {
            *state = (enum selection_state)i;
            return RESULT_OK;
        }
    }
    return fault_set(fault, RESULT_INVALID, "state is one of any, waiting, active, held");
}

enum result selection_set(struct selection *selection, const char *name, const char *value,
                          struct fault *fault)
{
    if (strcmp(name, "domain") == 0)
        return set_domain(value, selection->domain, fault);
    if (strcmp(name, "sender") == 0)
        return set_text(name, value, selection->sender, sizeof selection->sender, fault);
    if (strcmp(name, "recipient") == 0)
        return set_text(name, value, selection->recipient, sizeof selection->recipient,
                        fault);
    if (strcmp(name, "user") == 0)
        return set_text(name, value, selection->user, sizeof selection->user, fault);
    if (strcmp(name, "tenant") == 0)
        return set_text(name, value, selection->tenant, sizeof selection->tenant, fault);
    if (strcmp(name, "pool") == 0)
        return set_text(name, value, selection->pool, sizeof selection->pool, fault);
    if (strcmp(name, "source") == 0)
        return set_text(name, value, selection->source, sizeof selection->source, fault);
    if (strcmp(name, "state") == 0)
        return set_state(value, &selection->state, fault);
    if (duration_parse(slice_of(value), &selection->older_than_ms) == RESULT_OK)
        return RESULT_OK;
    return fault_set(fault, RESULT_INVALID,
                     "older_than is a duration, as \"30m\", \"2h\" or \"1d\"");
}

/* A recipient of the group is in the domain: lanes of routes hold several. */
static bool domain_fits(const struct selection *selection, const struct group *group)
{
    if (!selection->domain[0] || domain_matches(selection->domain, group->lane))
        return true;
    for (uint32_t i = 0; i < group->recipient_count; i++) {
        const char *at = strrchr(group->recipients[i].address, '@');
        char normal[DOMAIN_TEXT];

        if (at && domain_normalise(slice_of(at + 1), normal) == RESULT_OK &&
            domain_matches(selection->domain, normal))
            return true;
    }
    return false;
}

static bool recipient_fits(const struct selection *selection, const struct group *group)
{
    if (!selection->recipient[0])
        return true;
    for (uint32_t i = 0; i < group->recipient_count; i++)
        if (strcasecmp(group->recipients[i].address, selection->recipient) == 0)
            return true;
    return false;
}

static bool sender_fits(const struct selection *selection, const struct envelope *envelope)
{
    if (!selection->sender[0])
        return true;
    if (strcmp(selection->sender, "<>") == 0)
        return !envelope->sender[0];
    return strcasecmp(selection->sender, envelope->sender) == 0;
}

static bool text_fits(const char *wanted, const char *value)
{
    return !wanted[0] || (value && strcmp(wanted, value) == 0);
}

static bool state_fits(enum selection_state state, struct queue *queue, int64_t now_ms,
                       const struct envelope *envelope, const struct group *group)
{
    bool is_active;

    if (state == SELECTION_ANY)
        return true;
    if (state == SELECTION_HELD)
        return group_is_held(group, now_ms);
    is_active = queue && queue_is_leased(queue, envelope->id, group->number);
    return state == SELECTION_ACTIVE ? is_active
                                     : !is_active && !group_is_held(group, now_ms);
}

bool selection_fits(const struct selection *selection, struct queue *queue, int64_t now_ms,
                    const struct envelope *envelope, const struct group *group)
{
    if (selection->older_than_ms &&
        now_ms - envelope->arrival_ms < selection->older_than_ms)
        return false;
    return sender_fits(selection, envelope) && text_fits(selection->user, envelope->user) &&
           text_fits(selection->tenant, envelope->tenant) &&
           text_fits(selection->pool, envelope->pool) && domain_fits(selection, group) &&
           recipient_fits(selection, group) &&
           state_fits(selection->state, queue, now_ms, envelope, group);
}
