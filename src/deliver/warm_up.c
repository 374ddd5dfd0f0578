/* Counting ahead: a block is on disk before the first message of it goes. */
#include "warm_up.h"

enum { BLOCKS_A_DAY = 20, BLOCK_LEAST = 10 };
static const int64_t DAY_MS = 86400000;

int64_t warm_up_day(int64_t wall_ms)
{
    return wall_ms / DAY_MS;
}

int64_t warm_up_next_day_ms(const struct warm_up *warm, int64_t wall_ms)
{
    int64_t day = warm_up_day(wall_ms);

    return ((day > warm->day ? day : warm->day) + 1) * DAY_MS;
}

bool warm_up_is_limited(const struct warm_up *warm)
{
    return warm->step < warm->days;
}

uint32_t warm_up_quota(const struct warm_up *warm)
{
    return warm->schedule[warm->step];
}

/* A day without mail is no step: the receivers saw nothing. */
static void begin_day(struct warm_up *warm, int64_t wall_ms)
{
    int64_t day = warm_up_day(wall_ms);

    if (day <= warm->day || !warm_up_is_limited(warm))
        return;
    if (warm->day > 0 && warm->used > 0 && warm->used < UINT32_MAX) /* damaged: anew */
        warm->step++;
    warm->day = day;
    warm->used = warm->kept = 0;
}

enum warm_up_state warm_up_look(struct warm_up *warm, int64_t wall_ms)
{
    uint64_t spoken_for = (uint64_t)warm->promised;

    begin_day(warm, wall_ms);
    if (!warm_up_is_limited(warm))
        return WARM_UP_GOES;
    if (warm->used >= warm_up_quota(warm))
        return WARM_UP_IS_FULL;
    spoken_for += warm->used;
    return spoken_for >= warm_up_quota(warm) || spoken_for >= warm->kept ? WARM_UP_WAITS
                                                                         : WARM_UP_GOES;
}

uint32_t warm_up_wants(const struct warm_up *warm)
{
    uint64_t quota = warm_up_is_limited(warm) ? warm_up_quota(warm) : 0;
    uint64_t block =
        quota / BLOCKS_A_DAY > BLOCK_LEAST ? quota / BLOCKS_A_DAY : BLOCK_LEAST;
    uint64_t spoken_for = (uint64_t)warm->used + warm->promised;
    uint64_t wanted = (warm->kept > spoken_for ? warm->kept : spoken_for) + block;

    if (warm->kept >= quota || warm->kept > spoken_for + block / 2)
        return 0;
    return (uint32_t)(wanted < quota ? wanted : quota);
}

void warm_up_promise(struct warm_up *warm)
{
    warm->promised++;
}

void warm_up_break(struct warm_up *warm)
{
    warm->promised--;
}

bool warm_up_may_take(struct warm_up *warm, bool was_promised, int64_t wall_ms)
{
    begin_day(warm, wall_ms);
    if (!warm_up_is_limited(warm))
        return true;
    if (warm->used >= warm_up_quota(warm) || warm->used >= warm->kept)
        return false;
    /* What was promised to others is theirs. */
    return was_promised || warm_up_look(warm, wall_ms) == WARM_UP_GOES;
}

bool warm_up_take(struct warm_up *warm, bool was_promised, int64_t wall_ms)
{
    if (!warm_up_may_take(warm, was_promised, wall_ms))
        return false;
    warm->used += warm_up_is_limited(warm);
    return true;
}
