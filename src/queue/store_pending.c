/* What waits at the store: given by the loop, taken by the store thread, first in, first out.
 * The thread comes at once for what somebody waits for. Nobody waits for what an attempt came to:
 * a commit of its own would only be in the way of the next message, so it rides along, or goes
 * after a short while (docs/decisions/008-results-wait-for-company.md). */
#include "store_inner.h"

#include "smtpd/base/check.h"

#include <time.h>

enum { PATIENT_MOST = 1000 };

static bool has_work(const struct store *store)
{
    return store->pending.count > 0 || store->is_stopping ||
           store->id_wanted > atomic_load(&store->id_limit);
}

static bool is_patient(const struct store_op *op)
{
    return op->kind == STORE_SETTLE && op->message_count == 0;
}

static bool may_wait(const struct store *store)
{
    return store->pending.count > 0 && store->pending.count < PATIENT_MOST &&
           store->urgent_count == 0 && !store->is_stopping;
}

/* With the lock. */
static void wait_for_company(struct store *store)
{
    int64_t until_us = store_now_us() + atomic_load(&store->patience_us);
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};

    while (may_wait(store) && store_now_us() < until_us) {
        (void)pthread_mutex_unlock(&store->lock);
        (void)bell_wait_until(&store->work, &until);
        (void)pthread_mutex_lock(&store->lock);
    }
}

bool store_pending_wait(struct store *store)
{
    struct timespec until;
    bool is_rung = true;
    bool goes_on = true;
    struct link *link;

    if (store->taken.count > 0)
        return true;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    (void)pthread_mutex_lock(&store->lock);
    while (is_rung && !has_work(store)) {
        (void)pthread_mutex_unlock(&store->lock);
        is_rung = bell_wait_until(&store->work, &until);
        (void)pthread_mutex_lock(&store->lock);
    }
    wait_for_company(store);
    goes_on = !store->is_stopping || store->pending.count > 0;
    store->urgent_count = 0;
    while ((link = list_pop_front(&store->pending)))
        list_push_back(&store->taken, link);
    (void)pthread_mutex_unlock(&store->lock);
    return goes_on;
}

void store_submit(struct store *store, struct store_op *op)
{
    bool wakes;

    (void)pthread_mutex_lock(&store->lock);
    CHECK(!store->is_stopping);
    list_push_back(&store->pending, &op->link);
    wakes = store->pending.count == 1 || store->pending.count == PATIENT_MOST;
    if (!is_patient(op))
        wakes |= store->urgent_count++ == 0;
    (void)pthread_mutex_unlock(&store->lock);
    if (wakes)
        bell_ring(&store->work);
}
