/* By which sources waiting mail may leave: what an operator selects by. */
#include "pool.h"

#include <stdio.h>
#include <string.h>

/* Without a question to the DNS. The hosts are what was last known of them: the rules may be others now. */
static void guess(const struct plan_settings *settings, const char *lane,
                  const struct destination *last, struct plan *plan)
{
    const struct route *route = strncmp(lane, "route:", 6) == 0
                                    ? settings_route_by_name(settings, lane + 6)
                                    : settings_find_route(settings, lane);
    const char *hosts[LIMIT_MX_HOSTS];
    size_t count = 0;

    *plan = (struct plan){.kind = PLAN_HOSTS, .rule = -1};
    if (route) {
        plan->is_route = true;
        (void)snprintf(plan->route_name, sizeof plan->route_name, "%s", route->name);
    } else if (settings_is_local(settings, lane)) {
        plan->kind = PLAN_LOCAL;
    } else {
        if (last && last->plan.kind == PLAN_HOSTS && !last->plan.is_route)
            for (; count < last->plan.host_count && count < LIMIT_MX_HOSTS; count++)
                hosts[count] = last->plan.hosts[count].name;
        plan->rule = settings_find_rule(settings, lane, hosts, count);
    }
}

bool deliver_has_source(const struct deliver *deliver, const char *name)
{
    return settings_source(deliver->settings, name) != NULL;
}

bool deliver_may_leave_by(const struct deliver *deliver, const char *source,
                          const char *lane, const struct envelope *of)
{
    const struct lane *found = lane_find(deliver, lane, of);
    const struct plan *plan = found && found->has_plan ? &found->plan : NULL;
    const struct deliver_pool *pool;
    const char *name;
    struct plan guessed;

    if (!plan) {
        guess(deliver->settings, lane, found ? found->destination : NULL, &guessed);
        plan = &guessed;
    }
    name = plan->kind == PLAN_HOSTS ? pool_name(deliver->settings, plan, of->pool) : NULL;
    pool = name ? pool_find(deliver->settings, name) : NULL;
    for (size_t i = 0; pool && i < pool->member_count; i++)
        if (strcmp(pool->members[i].source, source) == 0)
            return true;
    return false;
}
