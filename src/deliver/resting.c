/* How many destinations rest. A few are counted when somebody asks; with many, a count goes
 * round in the background, a piece each turn of the loop, and the last one is told. */
#include "resting.h"

enum { RESTING_AT_ONCE = 2000 };

static bool rests(const struct link *link, int64_t now_ms)
{
    return CONTAINER_OF(link, struct destination, link)->until_ms > now_ms;
}

uint64_t resting_count(const struct deliver *deliver)
{
    int64_t now_ms = deliver_now(deliver);
    uint64_t count = 0;

    if (deliver->all_destinations.count > RESTING_AT_ONCE)
        return deliver->resting.told;
    for (const struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link))
        count += rests(link, now_ms);
    return count;
}

static void on_turn(void *owner)
{
    struct deliver *deliver = owner;
    int64_t now_ms = deliver_now(deliver);

    for (int i = 0; i < RESTING_AT_ONCE && deliver->resting.at; i++) {
        deliver->resting.count += rests(deliver->resting.at, now_ms);
        deliver->resting.at = list_next(&deliver->all_destinations, deliver->resting.at);
    }
    if (deliver->resting.at) {
        loop_defer(deliver->rooms.loop, &deliver->resting.turn, on_turn, deliver);
        return;
    }
    deliver->resting.told = deliver->resting.count;
}

void resting_go_round(struct deliver *deliver)
{
    if (deliver->resting.at || deliver->all_destinations.count <= RESTING_AT_ONCE)
        return;
    deliver->resting.at = list_first(&deliver->all_destinations);
    deliver->resting.count = 0;
    loop_defer(deliver->rooms.loop, &deliver->resting.turn, on_turn, deliver);
}

void resting_forget(struct destination *destination)
{
    struct deliver *deliver = destination->deliver;

    if (deliver->resting.at == &destination->link)
        deliver->resting.at = list_next(&deliver->all_destinations, &destination->link);
}

void resting_stop(struct deliver *deliver)
{
    deferred_cancel(deliver->rooms.loop, &deliver->resting.turn);
}
