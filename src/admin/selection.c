/* The query of a request -> a selection; a selection against a group. */
#include "selection.h"

#include "smtpd/base/moment.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool read_text(struct request *request, const char *name, char *into,
                      size_t into_bytes)
{
    const char *value = request_query(request, name);
    char text[128];

    into[0] = '\0';
    if (!value)
        return true;
    if (slice_copy_text(slice_of(value), into, into_bytes) && into[0])
        return true;
    (void)snprintf(text, sizeof text, "%s is empty or too long", name);
    request_answer_error(request, MHD_HTTP_BAD_REQUEST, text);
    return false;
}

/* Domains have no case, and may be typed in any script; the name of a route stays as it is. */
static bool read_domain(struct request *request, char domain[LANE_TEXT])
{
    char normal[DOMAIN_TEXT];
    size_t star;

    if (!read_text(request, "domain", domain, LANE_TEXT))
        return false;
    star = strncmp(domain, "*.", 2) == 0 ? 2 : 0;
    if (domain_normalise(slice_of(domain + star), normal) == RESULT_OK)
        (void)snprintf(domain + star, LANE_TEXT - star, "%s", normal);
    return true;
}

static bool read_state(struct request *request, enum selection_state *state)
{
    static const char *const names[] = {"any", "waiting", "active", "held"};
    const char *value = request_query(request, "state");

    *state = SELECTION_ANY;
    for (int i = 0; value && i < 4; i++) {
        if (strcmp(value, names[i]) == 0) {
            *state = (enum selection_state)i;
            return true;
        }
    }
    if (value)
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "state is one of any, waiting, active, held");
    return !value;
}

static bool read_age(struct request *request, int64_t *ms)
{
    const char *value = request_query(request, "older_than");

    *ms = 0;
    if (!value || duration_parse(slice_of(value), ms) == RESULT_OK)
        return true;
    request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                         "older_than is a duration, as \"30m\", \"2h\" or \"1d\"");
    return false;
}

bool selection_read(struct request *request, struct selection *selection)
{
    return read_domain(request, selection->domain) &&
           read_text(request, "sender", selection->sender, sizeof selection->sender) &&
           read_text(request, "recipient", selection->recipient,
                     sizeof selection->recipient) &&
           read_text(request, "user", selection->user, sizeof selection->user) &&
           read_text(request, "tenant", selection->tenant, sizeof selection->tenant) &&
           read_state(request, &selection->state) &&
           read_age(request, &selection->older_than_ms);
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
    is_active = queue_is_leased(queue, envelope->id, group->number);
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
           domain_fits(selection, group) && recipient_fits(selection, group) &&
           state_fits(selection->state, queue, now_ms, envelope, group);
}
