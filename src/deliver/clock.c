/* See clock.h. Waits could be kept by the clock that never steps instead, and be converted wherever one
 * is said, logged or written: a hundred places, against one walk for a thing that happens once in years. */
#include "clock.h"

#include "address_memory.h"
#include "host.h"
#include "inner.h"
#include "scope.h"
#include "source.h"
#include "sts.h"

void clock_start(struct deliver *deliver)
{
    const struct loop *loop = deliver->rooms.loop;

    deliver->clock.offset_ms = loop_wall_ms(loop) - loop_now_ms(loop);
    deliver->clock.steps = loop_clock_steps(loop);
    deliver->clock.runs = true;
}

void clock_stop(struct deliver *deliver)
{
    deliver->clock.runs = false;
}

static void move_lanes(struct deliver *deliver, int64_t by_ms)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position))) {
        struct lane *lane = domain_queue_attachment(domain_queue);

        if (!lane)
            continue;
        clock_move(&lane->until_ms, by_ms);
        clock_move(&lane->policy_until_ms, by_ms);
        clock_move(&lane->room_until_ms, by_ms);
        clock_move(&lane->plan.expires_ms, by_ms);
    }
}

static void move_destinations(struct deliver *deliver, int64_t by_ms)
{
    for (struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link))
        clock_move(&CONTAINER_OF(link, struct destination, link)->until_ms, by_ms);
}

static void move_all(struct deliver *deliver, int64_t by_ms)
{
    move_lanes(deliver, by_ms);
    move_destinations(deliver, by_ms);
    hosts_move_clock(deliver->hosts, by_ms);
    family_move_clock(&deliver->families, by_ms);
    address_memory_move_clock(deliver->addresses, by_ms);
    scopes_move_clock(deliver->scopes, by_ms);
    sources_move_clock(deliver->sources, by_ms);
    sts_move_clock(deliver->sts, by_ms);
}

int64_t deliver_now(const struct deliver *deliver)
{
    struct deliver *mine = (struct deliver *)(uintptr_t)deliver; /* logically const */
    const struct loop *loop = deliver->rooms.loop;
    int64_t now_ms = loop_wall_ms(loop);
    int64_t offset_ms = now_ms - loop_now_ms(loop);
    int64_t by_ms = offset_ms - deliver->clock.offset_ms;
    bool has_stepped =
        deliver->clock.runs && loop_clock_steps(loop) != deliver->clock.steps;

    mine->clock.offset_ms = offset_ms;
    mine->clock.steps = loop_clock_steps(loop);
    if (has_stepped)
        move_all(mine, by_ms);
    return now_ms;
}
