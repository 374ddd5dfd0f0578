/* Recipients that get no mail (docs/suppression.md): asked of the policy before an attempt, and
 * told to it behind one. The list itself is not known here. */
#include "inner.h"

#include "smtpd/base/check.h"

#include <string.h>

enum { ARENA_MAX = 4 << 20 };

static struct outcome suppressed(const struct deliver *deliver, const struct lease *lease,
                                 uint32_t at, struct arena *arena)
{
    const struct deliver_policy *policy = &deliver->rooms.policy;
    struct outcome outcome = {.verdict = VERDICT_OPEN};
    char why[DELIVER_WHY_MAX];
    bool wants_report = true;

    if (!policy->is_suppressed ||
        !policy->is_suppressed(policy->owner, &lease->envelope,
                               lease->group.recipients[at].address, why, &wants_report))
        return outcome;
    outcome.verdict = VERDICT_FAILED;
    outcome.said = said_words(arena, CLASS_SUPPRESSED, 550, "5.7.1", why, NULL);
    outcome.is_suppressed = true;
    outcome.is_untried = true;
    outcome.is_silent = !wants_report;
    return outcome;
}

void suppress_recipients(const struct deliver *deliver, const struct lease *lease,
                         struct outcome *outcomes, struct arena *arena)
{
    for (uint32_t i = 0;
         deliver->rooms.policy.is_suppressed && i < lease->group.recipient_count; i++)
        if (outcomes[i].verdict == VERDICT_OPEN)
            outcomes[i] = suppressed(deliver, lease, i, arena);
}

bool suppress_lease(struct deliver *deliver, struct lease *lease)
{
    uint32_t count = lease->group.recipient_count;
    struct outcome *outcomes;
    struct arena arena;
    uint32_t failed = 0;

    if (!deliver->rooms.policy.is_suppressed)
        return false;
    arena_init(&arena, ARENA_MAX);
    outcomes = arena_alloc(&arena, (count + 1) * sizeof *outcomes);
    CHECK(outcomes);
    while (failed < count) {
        outcomes[failed] = suppressed(deliver, lease, failed, &arena);
        if (outcomes[failed].verdict == VERDICT_OPEN)
            break;
        failed++;
    }
    if (failed == count)
        settle_decided(deliver, lease, &(struct decision){.outcomes = outcomes});
    arena_clear(&arena);
    return failed == count;
}

/* RFC 3463: there is no such mailbox (X.1.1, X.1.6, X.1.10), or it is closed (X.2.1). Texts say more
 * than codes: what they tell of the sender or the moment is no reason to give an address up, whatever
 * the code. X.1.7 and X.1.8 are of the sender's address, whose faults have the same words. */
static bool says_so(const struct said *said)
{
    static const char *const statuses[] = {"5.1.1", "5.1.6", "5.1.10", "5.2.1"};

    if (strcmp(said->status, "5.1.7") == 0 || strcmp(said->status, "5.1.8") == 0)
        return false;
    if (said->class == CLASS_BAD_MAILBOX)
        return true;
    if (said->class != CLASS_INACTIVE_MAILBOX && said->class != CLASS_OTHER)
        return false;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (strcmp(said->status, statuses[i]) == 0)
            return true;
    return false;
}

static bool is_hard(const struct outcome *outcome)
{
    if (outcome->verdict != VERDICT_FAILED || outcome->is_expired ||
        outcome->is_suppressed || outcome->is_operator || !outcome->is_about_it ||
        !outcome->said || !outcome->said->is_remote)
        return false;
    return says_so(outcome->said);
}

void suppress_note(const struct deliver *deliver, const struct lease *lease,
                   const struct outcome *outcomes)
{
    const struct deliver_policy *policy = &deliver->rooms.policy;

    for (uint32_t i = 0; policy->on_hard_bounce && i < lease->group.recipient_count; i++)
        if (is_hard(&outcomes[i]))
            policy->on_hard_bounce(policy->owner, &lease->envelope,
                                   lease->group.recipients[i].address,
                                   outcomes[i].said->text);
}
