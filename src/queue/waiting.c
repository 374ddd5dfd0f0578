/* Domain queues and when they are due. No schedule on disk: it would cost two random pages
 * for each deferral (docs/queue.md), and a scan rebuilds this index in seconds.
 *
 * Two levels of heaps: the entries of a domain queue, and the domain queues by their
 * earliest entry. A domain queue that its watcher holds is in no timer heap: a destination
 * that is down costs nothing however much waits for it. */
#include "waiting.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/memory.h"
#include "waiting_inner.h"

#include <string.h>

/* What is done in one turn of the loop takes a fraction of a millisecond. A sweep over many
 * domain queues is many short ones. */
enum { DUE_A_TURN = 32, OLDEST_SCAN = 1 << 20 };
enum { EXPIRY_SCAN = 1024, EXPIRY_SCAN_MOST = 16384, EXPIRY_PARTS = 64 };
enum { SWEEP_MS = 1000, SWEEP_STEP_MS = 20, SWEEP_QUEUES = 500 };
enum { CLOCK_LOOK_MS = 10000 };

static const int64_t EMPTY_GOES_MS = 3600000;
/* After a start or a step of the clock: long enough for each destination to be tried. */
static const int64_t UNTRIED_MS = 3600000;
static const int64_t NEVER_MS = INT64_MAX;

/* ---- our clock ---- */

/* After a step nothing has been tried yet, as after a start. */
static void forget_tries(struct waiting *waiting)
{
    size_t position = 0;
    struct leased *leased;

    for (size_t i = 0; i < waiting->count; i++)
        for (size_t k = 0; k < waiting->all[i]->heap.count; k++)
            waiting->all[i]->heap.entries[k].may_expire = 0;
    while ((leased = map_next(waiting->leased, &position, NULL)))
        leased->entry.may_expire = 0;
}

int64_t waiting_now(struct waiting *waiting)
{
    int64_t wall_ms = loop_wall_ms(waiting->loop);
    int64_t offset_ms = wall_ms - loop_now_ms(waiting->loop);
    uint32_t steps = loop_clock_steps(waiting->loop);

    if (steps != waiting->steps) {
        waiting->skew_ms += offset_ms - waiting->offset_ms;
        waiting->steps = steps;
        waiting->stepped_ms = loop_now_ms(waiting->loop);
        forget_tries(waiting);
    }
    waiting->offset_ms = offset_ms;
    return wall_ms - waiting->skew_ms;
}

/* Whoever hands us a time of day has looked at the clock: a step shows here first. */
int64_t waiting_from_wall(struct waiting *waiting, int64_t wall_ms)
{
    (void)waiting_now(waiting);
    return wall_ms == NEVER_MS ? NEVER_MS : wall_ms - waiting->skew_ms;
}

int64_t waiting_to_wall(struct waiting *waiting, int64_t our_ms)
{
    (void)waiting_now(waiting);
    return our_ms == NEVER_MS ? NEVER_MS : our_ms + waiting->skew_ms;
}

/* ---- the timer heap of domain queues ---- */

static void place(struct waiting *waiting, size_t at, struct domain_queue *domain_queue)
{
    waiting->timers[at] = domain_queue;
    domain_queue->timer_index = at + 1;
}

static void timer_up(struct waiting *waiting, size_t at, struct domain_queue *domain_queue)
{
    while (at > 0 && domain_queue->wake_ms < waiting->timers[(at - 1) / 2]->wake_ms) {
        place(waiting, at, waiting->timers[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(waiting, at, domain_queue);
}

static void timer_down(struct waiting *waiting, size_t at,
                       struct domain_queue *domain_queue)
{
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= waiting->timer_count)
            break;
        if (child + 1 < waiting->timer_count &&
            waiting->timers[child + 1]->wake_ms < waiting->timers[child]->wake_ms)
            child++;
        if (waiting->timers[child]->wake_ms >= domain_queue->wake_ms)
            break;
        place(waiting, at, waiting->timers[child]);
        at = child;
    }
    place(waiting, at, domain_queue);
}

static void timer_remove(struct domain_queue *domain_queue)
{
    struct waiting *waiting = domain_queue->waiting;
    size_t at = domain_queue->timer_index;
    struct domain_queue *last;

    if (at == 0)
        return;
    domain_queue->timer_index = 0;
    last = waiting->timers[--waiting->timer_count];
    if (last == domain_queue)
        return;
    if (at > 1 && last->wake_ms < waiting->timers[(at - 2) / 2]->wake_ms)
        timer_up(waiting, at - 1, last);
    else
        timer_down(waiting, at - 1, last);
}

/* At most CLOCK_LOOK_MS ahead: the offset of the wall's clock may drift. */
static void arm_timer(struct waiting *waiting, int64_t now_ms)
{
    int64_t delay_ms;

    if (waiting->timer_count == 0 || !waiting->on_due) {
        timer_cancel(&waiting->timer);
        return;
    }
    delay_ms = waiting->timers[0]->wake_ms - now_ms;
    timer_start(&waiting->timer, delay_ms < CLOCK_LOOK_MS ? delay_ms : CLOCK_LOOK_MS);
}

static int64_t wake_time(const struct domain_queue *domain_queue)
{
    int64_t wake_ms;

    if (domain_queue->is_held || domain_queue->heap.count == 0)
        return NEVER_MS;
    wake_ms = domain_queue->heap.entries[0].next_ms;
    return wake_ms > domain_queue->not_before_ms ? wake_ms : domain_queue->not_before_ms;
}

void domain_queue_arm(struct domain_queue *domain_queue)
{
    struct waiting *waiting = domain_queue->waiting;
    int64_t wake_ms = wake_time(domain_queue);

    if (domain_queue->timer_index && domain_queue->wake_ms == wake_ms)
        return;
    timer_remove(domain_queue);
    if (wake_ms == NEVER_MS)
        return; /* a timer that fires for nothing is armed anew then */
    domain_queue->wake_ms = wake_ms;
    timer_up(waiting, waiting->timer_count++, domain_queue);
    if (waiting->timers[0] == domain_queue)
        arm_timer(waiting, waiting_now(waiting));
}

static void on_timer(void *owner)
{
    struct waiting *waiting = owner;
    int64_t now_ms = waiting_now(waiting);

    for (int i = 0; i < DUE_A_TURN && waiting->timer_count > 0; i++) {
        struct domain_queue *domain_queue = waiting->timers[0];

        if (domain_queue->wake_ms > now_ms)
            break;
        timer_remove(domain_queue);
        domain_queue->is_held = true;
        waiting->on_due(waiting->owner, domain_queue);
    }
    arm_timer(waiting, now_ms);
}

/* ---- domain queues ---- */

/* lane NUL tenant NUL priority pool NUL; no tenant differs from an empty one. Names have bounds far
 * below this. */
enum { KEY_BYTES = LANE_TEXT + LIMIT_USER_NAME + LIMIT_POOL_NAME + 5 };

static struct slice key_of(const struct waiting_key *key, char memory[KEY_BYTES])
{
    size_t lane = strnlen(key->lane, LANE_TEXT);
    size_t tenant = key->tenant ? strnlen(key->tenant, LIMIT_USER_NAME) + 1 : 0;
    size_t pool = key->pool ? strnlen(key->pool, LIMIT_POOL_NAME) : 0;
    size_t length;

    memcpy(memory, key->lane, lane);
    memory[lane] = 0;
    if (tenant)
        memcpy(memory + lane + 1, key->tenant, tenant - 1);
    memory[lane + tenant] = 0;
    memory[lane + 1 + tenant] = (char)key->priority;
    length = lane + 1 + tenant + 1;
    memcpy(memory + length, key->pool ? key->pool : "", pool);
    memory[length + pool] = 0;
    return (struct slice){memory, length + pool + 1};
}

static struct slice lane_of(const struct domain_queue *domain_queue)
{
    return slice_of(domain_queue->key);
}

static void join_lane(struct domain_queue *domain_queue)
{
    struct map *by_lane = domain_queue->waiting->by_lane;
    struct domain_queue *other = map_get(by_lane, lane_of(domain_queue));

    if (!other) {
        domain_queue->lane_next = domain_queue->lane_before = domain_queue;
        CHECK(map_set(by_lane, lane_of(domain_queue), domain_queue) == RESULT_OK);
        return;
    }
    domain_queue->lane_next = other->lane_next;
    domain_queue->lane_before = other;
    other->lane_next->lane_before = domain_queue;
    other->lane_next = domain_queue;
}

static void leave_lane(struct domain_queue *domain_queue)
{
    struct map *by_lane = domain_queue->waiting->by_lane;

    if (domain_queue->lane_next == domain_queue) {
        (void)map_remove(by_lane, lane_of(domain_queue));
        return;
    }
    domain_queue->lane_before->lane_next = domain_queue->lane_next;
    domain_queue->lane_next->lane_before = domain_queue->lane_before;
    CHECK(map_set(by_lane, lane_of(domain_queue), domain_queue->lane_next) == RESULT_OK);
}

static void grow(struct waiting *waiting)
{
    if (waiting->count < waiting->capacity)
        return;
    waiting->capacity = waiting->capacity ? waiting->capacity * 2 : 64;
    waiting->all =
        memory_resize(waiting->all, waiting->capacity * sizeof(struct domain_queue *));
    waiting->timers =
        memory_resize(waiting->timers, waiting->capacity * sizeof(struct domain_queue *));
}

static struct domain_queue *find_or_make(struct waiting *waiting,
                                         const struct waiting_key *key)
{
    char memory[KEY_BYTES];
    struct slice text = key_of(key, memory);
    struct domain_queue *domain_queue = map_get(waiting->by_key, text);

    if (domain_queue || waiting->count >= waiting->most_queues)
        return domain_queue;
    domain_queue = memory_new(sizeof *domain_queue + text.length);
    memcpy(domain_queue->key, text.data, text.length);
    domain_queue->key_length = text.length;
    domain_queue->waiting = waiting;
    domain_queue->tenant = key->tenant ? domain_queue->key + strlen(key->lane) + 1 : NULL;
    domain_queue->priority = key->priority;
    if (key->pool && key->pool[0]) /* the last text of the key */
        domain_queue->pool =
            domain_queue->key + text.length - 1 - strnlen(key->pool, LIMIT_POOL_NAME);
    domain_queue->position = waiting->count;
    domain_queue->empty_since_ms = loop_now_ms(waiting->loop);
    CHECK(map_set(waiting->by_key, text, domain_queue) == RESULT_OK);
    join_lane(domain_queue);
    grow(waiting);
    waiting->all[waiting->count++] = domain_queue;
    return domain_queue;
}

static void domain_queue_free(struct domain_queue *domain_queue)
{
    heap_fini(&domain_queue->heap);
    memory_free(domain_queue);
}

static void forget(struct domain_queue *domain_queue)
{
    struct waiting *waiting = domain_queue->waiting;
    struct domain_queue *last = waiting->all[--waiting->count];

    if (waiting->on_gone)
        waiting->on_gone(waiting->owner, domain_queue);
    timer_remove(domain_queue);
    waiting->all[domain_queue->position] = last;
    last->position = domain_queue->position;
    leave_lane(domain_queue);
    (void)map_remove(waiting->by_key,
                     (struct slice){domain_queue->key, domain_queue->key_length});
    domain_queue_free(domain_queue);
}

void domain_queue_count_in(struct domain_queue *domain_queue, const struct entry *entry)
{
    struct waiting *waiting = domain_queue->waiting;

    waiting->entry_count++;
    if (entry->is_held) {
        domain_queue->held++;
        waiting->held_count++;
    } else {
        waiting->by_reason[domain_queue->reason]++;
    }
}

void domain_queue_count_out(struct domain_queue *domain_queue, const struct entry *entry)
{
    struct waiting *waiting = domain_queue->waiting;

    waiting->entry_count--;
    if (entry->is_held) {
        domain_queue->held--;
        waiting->held_count--;
    } else {
        waiting->by_reason[domain_queue->reason]--;
    }
}

void domain_queue_note(struct domain_queue *domain_queue, unsigned reason)
{
    uint64_t *counts = domain_queue->waiting->by_reason;
    size_t count = domain_queue->heap.count - domain_queue->held;

    CHECK(reason < QUEUE_REASONS);
    counts[domain_queue->reason] -= count;
    counts[reason] += count;
    domain_queue->reason = (uint8_t)reason;
}

void domain_queue_push(struct domain_queue *domain_queue, const struct entry *entry)
{
    if (domain_queue->heap.count == 0 || entry->arrival_s <= domain_queue->oldest_s) {
        domain_queue->oldest_s = entry->arrival_s;
        domain_queue->is_oldest_exact = true;
    }
    if (entry->arrival_s < domain_queue->waiting->oldest_s)
        domain_queue->waiting->oldest_s = entry->arrival_s;
    heap_push(&domain_queue->heap, entry);
    domain_queue_count_in(domain_queue, entry);
    domain_queue_arm(domain_queue);
}

static struct entry inner_entry(struct waiting *waiting, const struct queue_entry *entry)
{
    struct entry inner = {.id = entry->id, .arrival_s = entry->arrival_s};

    inner.group = entry->group & ENTRY_GROUP_MAX;
    inner.is_held = entry->is_held;
    inner.next_ms = waiting_from_wall(waiting, entry->next_attempt_ms);
    return inner;
}

static void overflow_push(struct waiting *waiting, const struct entry *entry)
{
    heap_push(&waiting->overflow, entry);
    waiting->entry_count++;
}

void waiting_add(struct waiting *waiting, const struct waiting_key *key,
                 const struct queue_entry *entry, bool may_expire)
{
    struct domain_queue *domain_queue = find_or_make(waiting, key);
    struct entry inner = inner_entry(waiting, entry);

    inner.may_expire = may_expire;
    if (domain_queue)
        domain_queue_push(domain_queue, &inner);
    else
        overflow_push(waiting, &inner);
}

struct domain_queue *waiting_find(struct waiting *waiting, const struct waiting_key *key)
{
    char memory[KEY_BYTES];

    return map_get(waiting->by_key, key_of(key, memory));
}

struct domain_queue *waiting_find_lane(struct waiting *waiting, const char *lane)
{
    struct domain_queue *plain = waiting_find(waiting, &(struct waiting_key){.lane = lane});

    return plain ? plain : map_get(waiting->by_lane, slice_of(lane));
}

struct domain_queue *waiting_next(struct waiting *waiting, size_t *position)
{
    return *position < waiting->count ? waiting->all[(*position)++] : NULL;
}

size_t waiting_queue_count(const struct waiting *waiting)
{
    return waiting->count;
}

/* ---- the sweep: empty domain queues go, the oldest is found, overflow gets room ---- */

static bool is_forgotten(const struct domain_queue *domain_queue, int64_t now_ms)
{
    return domain_queue->heap.count == 0 && !domain_queue->is_held &&
           domain_queue->pins == 0 &&
           now_ms - domain_queue->empty_since_ms >= EMPTY_GOES_MS;
}

static void on_sweep(void *owner)
{
    struct waiting *waiting = owner;
    int64_t now_ms = loop_now_ms(waiting->loop);
    int64_t our_ms = waiting_now(waiting);

    for (int i = 0; i < SWEEP_QUEUES && waiting->sweep_at < waiting->count; i++) {
        struct domain_queue *domain_queue = waiting->all[waiting->sweep_at];

        if (domain_queue->heap.count > 0 &&
            domain_queue->oldest_s < waiting->sweep_oldest_s)
            waiting->sweep_oldest_s = domain_queue->oldest_s;
        if (!domain_queue->is_held && domain_queue->not_before_ms <= our_ms)
            domain_queue_note(domain_queue, 0);
        if (is_forgotten(domain_queue, now_ms))
            forget(domain_queue);
        else
            waiting->sweep_at++;
    }
    if (waiting->sweep_at >= waiting->count) {
        waiting->oldest_s = waiting->sweep_oldest_s;
        waiting->sweep_oldest_s = UINT32_MAX;
        waiting->sweep_at = 0;
    }
    if (waiting->overflow.count > 0 && waiting->on_overflow &&
        now_ms - waiting->overflow_ms >= SWEEP_MS) {
        waiting->overflow_ms = now_ms;
        waiting->on_overflow(waiting->overflow_owner);
    }
    timer_start(&waiting->sweep, waiting->sweep_at > 0 ? SWEEP_STEP_MS : SWEEP_MS);
}

void waiting_on_overflow(struct waiting *waiting, loop_fn *fn, void *owner)
{
    waiting->on_overflow = fn;
    waiting->overflow_owner = owner;
}

size_t waiting_overflow_take(struct waiting *waiting, struct queue_entry *entries,
                             size_t most)
{
    size_t count = 0;

    while (count < most && waiting->overflow.count > 0) {
        struct entry entry = heap_remove(&waiting->overflow, 0);

        waiting->entry_count--;
        entries[count++] = waiting_outer_entry(waiting, &entry);
    }
    return count;
}

void waiting_overflow_put(struct waiting *waiting, const struct queue_entry *entry)
{
    struct entry inner = inner_entry(waiting, entry);

    overflow_push(waiting, &inner);
}

/* ---- life ---- */

struct waiting *waiting_new(struct loop *loop, struct queue *queue, size_t most_queues)
{
    struct waiting *waiting = NEW(struct waiting);

    waiting->loop = loop;
    waiting->queue = queue;
    waiting->most_queues = most_queues;
    waiting->most_leases = LIMIT_LEASED_GROUPS;
    waiting->by_key = map_new(most_queues);
    waiting->by_lane = map_new(most_queues);
    /* Operators may lease what they change beyond it: 64 commits at once. */
    waiting->leased = map_new(LIMIT_LEASED_GROUPS + 64 * LIMIT_CHANGE_TARGETS);
    waiting->changing = map_new(LIMIT_LEASED_GROUPS);
    waiting->oldest_s = waiting->sweep_oldest_s = UINT32_MAX;
    waiting->steps = loop_clock_steps(loop);
    waiting->offset_ms = loop_wall_ms(loop) - loop_now_ms(loop);
    waiting->stepped_ms = loop_now_ms(loop);
    timer_init(&waiting->timer, loop, on_timer, waiting);
    timer_init(&waiting->sweep, loop, on_sweep, waiting);
    timer_start(&waiting->sweep, SWEEP_MS);
    return waiting;
}

void waiting_free(struct waiting *waiting)
{
    size_t position = 0;
    struct leased *leased;

    timer_cancel(&waiting->timer);
    timer_cancel(&waiting->sweep);
    while ((leased = map_next(waiting->leased, &position, NULL)))
        memory_free(leased);
    for (size_t i = 0; i < waiting->count; i++)
        domain_queue_free(waiting->all[i]);
    heap_fini(&waiting->overflow);
    map_free(waiting->by_key);
    map_free(waiting->by_lane);
    map_free(waiting->leased);
    map_free(waiting->changing);
    memory_free(waiting->all);
    memory_free(waiting->timers);
    memory_free(waiting);
}

void waiting_watch(struct waiting *waiting, queue_due_fn *on_due, queue_due_fn *on_gone,
                   void *owner)
{
    waiting->on_due = on_due;
    waiting->on_gone = on_gone;
    waiting->owner = owner;
    arm_timer(waiting, waiting_now(waiting));
}

void waiting_set_expire(struct waiting *waiting, int64_t expire_ms)
{
    waiting->expire_ms = expire_ms;
}

void waiting_read_numbers(struct waiting *waiting, struct waiting_numbers *numbers)
{
    numbers->waiting = waiting->entry_count - waiting->held_count;
    numbers->held = waiting->held_count;
    memcpy(numbers->by_reason, waiting->by_reason, sizeof numbers->by_reason);
    numbers->leased = map_count(waiting->leased);
    numbers->domain_queues = waiting->count;
    numbers->overflow = waiting->overflow.count;
    numbers->oldest_ms = waiting->entry_count > 0 && waiting->oldest_s != UINT32_MAX
                             ? (int64_t)waiting->oldest_s * 1000
                             : 0;
}

/* ---- the door ---- */

struct queue *domain_queue_owner(const struct domain_queue *domain_queue)
{
    return domain_queue->waiting->queue;
}

const char *domain_queue_lane(const struct domain_queue *domain_queue)
{
    return domain_queue->key;
}

struct waiting_key waiting_key_of(const struct domain_queue *domain_queue)
{
    return (struct waiting_key){domain_queue_lane(domain_queue), domain_queue->tenant,
                                domain_queue->priority, domain_queue->pool};
}

const char *domain_queue_pool(const struct domain_queue *domain_queue)
{
    return domain_queue->pool;
}

const char *domain_queue_tenant(const struct domain_queue *domain_queue)
{
    return domain_queue->tenant;
}

int domain_queue_priority(const struct domain_queue *domain_queue)
{
    return domain_queue->priority;
}

struct domain_queue *domain_queue_lane_next(const struct domain_queue *domain_queue)
{
    return domain_queue->lane_next;
}

size_t domain_queue_count(const struct domain_queue *domain_queue)
{
    return domain_queue->heap.count;
}

size_t domain_queue_held_count(const struct domain_queue *domain_queue)
{
    return domain_queue->held;
}

size_t domain_queue_due_count(const struct domain_queue *domain_queue, size_t most)
{
    return heap_due_count(&domain_queue->heap, waiting_now(domain_queue->waiting), most);
}

void *domain_queue_attachment(const struct domain_queue *domain_queue)
{
    return domain_queue->attachment;
}

void domain_queue_attach(struct domain_queue *domain_queue, void *attachment)
{
    domain_queue->attachment = attachment;
}

/* Taking the oldest leaves a bound that is too early: a full pass finds the truth, and pays
 * for itself, since it runs only when somebody wants to know after such a taking. Where it
 * would hold the loop for milliseconds the bound stands. */
static uint32_t find_oldest(struct domain_queue *domain_queue)
{
    const struct heap *heap = &domain_queue->heap;

    if (domain_queue->is_oldest_exact || heap->count == 0 || heap->count > OLDEST_SCAN)
        return domain_queue->oldest_s;
    domain_queue->oldest_s = UINT32_MAX;
    for (size_t i = 0; i < heap->count; i++)
        if (heap->entries[i].arrival_s < domain_queue->oldest_s)
            domain_queue->oldest_s = heap->entries[i].arrival_s;
    domain_queue->is_oldest_exact = true;
    return domain_queue->oldest_s;
}

int64_t domain_queue_oldest_ms(const struct domain_queue *domain_queue)
{
    if (domain_queue->heap.count == 0)
        return 0;
    /* A cache: logically const. */
    return (int64_t)find_oldest((struct domain_queue *)(uintptr_t)domain_queue) * 1000;
}

bool domain_queue_take(struct domain_queue *domain_queue, struct queue_entry *entry)
{
    int64_t now_ms = waiting_now(domain_queue->waiting);

    if (waiting_is_full(domain_queue->waiting))
        return false;
    while (domain_queue->heap.count > 0 && domain_queue->heap.entries[0].next_ms <= now_ms)
        if (waiting_lease(domain_queue, 0, entry)) {
            domain_queue_arm(domain_queue);
            return true;
        }
    return false;
}

/* A call looks at a part of a large domain queue, more of a larger one. */
static size_t expiry_looks(const struct heap *heap)
{
    size_t looks = heap->count / EXPIRY_PARTS;

    if (looks < EXPIRY_SCAN)
        return EXPIRY_SCAN;
    return looks < EXPIRY_SCAN_MOST ? looks : EXPIRY_SCAN_MOST;
}

/* From where the last call ended; nothing at all while the bound says that none can have
 * expired. */
bool domain_queue_take_expired(struct domain_queue *domain_queue, struct queue_entry *entry)
{
    struct waiting *waiting = domain_queue->waiting;
    struct heap *heap = &domain_queue->heap;
    int64_t before_s = (loop_wall_ms(waiting->loop) - waiting->expire_ms) / 1000;
    int64_t now_ms = waiting_now(waiting); /* first: a step makes all of them untried */
    bool tries_count = loop_now_ms(waiting->loop) - waiting->stepped_ms < UNTRIED_MS;

    (void)now_ms;
    if (heap->count == 0 || (int64_t)domain_queue->oldest_s > before_s ||
        waiting_is_full(waiting))
        return false;
    for (size_t i = expiry_looks(heap); i > 0 && heap->count > 0; i--) {
        const struct entry *at;

        if (domain_queue->scan >= heap->count) {
            domain_queue->scan = 0;
            domain_queue->is_oldest_exact = false;
            if ((int64_t)find_oldest(domain_queue) > before_s)
                return false;
        }
        at = &heap->entries[domain_queue->scan];
        if ((int64_t)at->arrival_s <= before_s && (at->may_expire || !tries_count) &&
            waiting_lease(domain_queue, domain_queue->scan, entry)) {
            domain_queue_arm(domain_queue);
            return true;
        }
        domain_queue->scan++;
    }
    return false;
}

void domain_queue_rest(struct domain_queue *domain_queue, int64_t not_before_ms)
{
    domain_queue->is_held = false;
    domain_queue->not_before_ms = waiting_from_wall(domain_queue->waiting, not_before_ms);
    if (domain_queue->heap.count == 0)
        domain_queue->empty_since_ms = loop_now_ms(domain_queue->waiting->loop);
    domain_queue_arm(domain_queue);
}

void domain_queue_wake(struct domain_queue *domain_queue)
{
    domain_queue->not_before_ms = 0;
    domain_queue_arm(domain_queue);
}

size_t domain_queue_hasten(struct domain_queue *domain_queue)
{
    size_t moved =
        heap_advance_all(&domain_queue->heap, waiting_now(domain_queue->waiting));

    if (moved > 0)
        domain_queue_arm(domain_queue);
    return moved;
}
