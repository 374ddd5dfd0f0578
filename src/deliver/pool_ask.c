/* By which sources waiting mail may leave: what an operator selects by. */
#include "pool.h"

#include <stdio.h>
#include <string.h>

/* Without a question to the DNS. */
static void guess(const struct plan_settings *settings, const char *lane, struct plan *plan)
{
    const struct route *route = strncmp(lane, "route:", 6) == 0
                                    ? settings_route_by_name(settings, lane + 6)
                                    : settings_find_route(settings, lane);

    *plan = (struct plan){.kind = PLAN_HOSTS, .rule = -1};
    if (route) {
        plan->is_route = true;
        (void)snprintf(plan->route_name, sizeof plan->route_name, "%s", route->name);
    } else if (settings_is_local(settings, lane)) {
        plan->kind = PLAN_LOCAL;
    } else {
        plan->rule = settings_find_rule(settings, lane, NULL, 0);
    }
}

/* That of a lane whose mail was looked at. NULL: none, or its hosts could not be found. */
static const struct plan *known(const struct lane *lane)
{
    const struct plan *plan = NULL;

    if (lane && lane->has_plan)
        plan = &lane->plan;
    else if (lane && lane->destination)
        plan = &lane->destination->plan;
    return plan && (plan->kind == PLAN_HOSTS || plan->kind == PLAN_LOCAL) ? plan : NULL;
}

bool deliver_has_source(const struct deliver *deliver, const char *name)
{
    return settings_source(deliver->settings, name) != NULL;
}

bool deliver_may_leave_by(const struct deliver *deliver, const char *source,
                          const char *lane, const struct envelope *of)
{
    const struct plan *plan = known(lane_find(deliver, lane, of));
    const struct deliver_pool *pool;
    const char *name;
    struct plan guessed;

    if (!plan) {
        guess(deliver->settings, lane, &guessed);
        plan = &guessed;
    }
    name = plan->kind == PLAN_HOSTS ? pool_name(deliver->settings, plan, of->pool) : NULL;
    pool = name ? pool_find(deliver->settings, name) : NULL;
    for (size_t i = 0; pool && i < pool->member_count; i++)
        if (strcmp(pool->members[i].source, source) == 0)
            return true;
    return false;
}
