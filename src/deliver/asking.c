/* See asking.h. Without it a hundred thousand names at once would fill what the resolver lets wait:
 * the rest would fail for a minute and more, and a lane that asks again as its TTL ends with them. */
#include "asking.h"

#include "inner.h"

/* While so many ask, one of that rank waits. */
static const unsigned most[ASKING_RANKS] = {[ASKING_KNOWN] = LIMIT_DNS_ASKING_KNOWN,
                                            [ASKING_NEW] = LIMIT_DNS_ASKING_NEW,
                                            [ASKING_FAILED] = LIMIT_DNS_ASKING_FAILED};

void asking_init(struct deliver *deliver)
{
    for (int i = 0; i < ASKING_RANKS; i++)
        list_init(&deliver->asking.waiting[i]);
}

void asking_fini(struct deliver *deliver)
{
    deferred_cancel(deliver->rooms.loop, &deliver->asking.turn);
}

static struct lane *next(struct asking *asking)
{
    struct link *link;

    for (int i = 0; i < ASKING_RANKS; i++)
        if (asking->running < most[i] && (link = list_pop_front(&asking->waiting[i])))
            return CONTAINER_OF(link, struct lane, asking.link);
    return NULL;
}

static void take(struct lane *lane)
{
    lane->asking.is_taken = true;
    lane->deliver->asking.running++;
}

static void on_turn(void *owner)
{
    struct deliver *deliver = owner;
    struct lane *lane;

    while (!deliver->is_draining && (lane = next(&deliver->asking))) {
        take(lane);
        lane_ask(lane);
    }
}

bool asking_start(struct lane *lane, enum asking_rank rank)
{
    struct asking *asking = &lane->deliver->asking;

    if (lane->asking.is_taken)
        return true;
    if (asking->running < most[rank] && asking->waiting[rank].count == 0) {
        take(lane);
        return true;
    }
    lane->asking.rank = rank;
    list_push_back(&asking->waiting[rank], &lane->asking.link);
    return false;
}

/* From the loop: whoever is next may be about to go too. */
void asking_end(struct lane *lane)
{
    struct deliver *deliver = lane->deliver;
    struct asking *asking = &deliver->asking;

    list_remove(&asking->waiting[lane->asking.rank], &lane->asking.link);
    if (!lane->asking.is_taken)
        return;
    lane->asking.is_taken = false;
    asking->running--;
    if (!link_is_in_list(&asking->turn.link))
        loop_defer(deliver->rooms.loop, &asking->turn, on_turn, deliver);
}
