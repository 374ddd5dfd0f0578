/* A group for mailboxes of our own: handed to the room that server/ wired in. */
#include "inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <string.h>

struct local_attempt {
    struct work *work;
    struct deliver *deliver;
    int64_t started_ms;
};

static void judge(struct outcome *outcome, enum result result, struct arena *arena,
                  const char *text)
{
    outcome->is_local = true;
    if (result == RESULT_OK) {
        outcome->verdict = VERDICT_DELIVERED;
        outcome->said = said_words(arena, CLASS_DELIVERED, 250, "2.0.0", "stored", NULL);
    } else if (result == RESULT_NOT_FOUND) {
        outcome->verdict = VERDICT_FAILED;
        outcome->said = said_words(arena, CLASS_BAD_MAILBOX, 550, "5.1.1",
                                   "there is no such user", NULL);
    } else {
        outcome->verdict = VERDICT_DEFERRED;
        outcome->said =
            said_words(arena, result == RESULT_NO_SPACE ? CLASS_QUOTA : CLASS_OTHER, 451,
                       result == RESULT_NO_SPACE ? "4.2.2" : "4.3.0",
                       text && text[0] ? text : result_text(result), NULL);
    }
}

static void on_stored(void *owner, const enum result *results, const char *text)
{
    struct local_attempt *attempt = owner;
    struct work *work = attempt->work;
    struct destination *destination = work->destination;
    struct settle_facts facts = {.started_ms = attempt->started_ms};
    uint32_t count = work->lease->group.recipient_count;
    struct outcome *outcomes;
    struct arena arena;

    arena_init(&arena, 4 << 20);
    outcomes = arena_alloc(&arena, (count + 1) * sizeof *outcomes);
    CHECK(outcomes);
    for (uint32_t i = 0; i < count; i++)
        judge(&outcomes[i], results[i], &arena, text);
    attempt->deliver->statistics.attempts_running--;
    memory_free(attempt);
    settle_start(work, outcomes, &facts);
    arena_clear(&arena);
    destination_ended(destination);
}

void local_attempt_start(struct work *work)
{
    struct local_attempt *attempt = NEW(struct local_attempt);
    struct deliver *deliver = work->destination->deliver;

    attempt->work = work;
    attempt->deliver = deliver;
    attempt->started_ms = deliver_now(deliver);
    deliver->statistics.attempts_running++;
    deliver->rooms.deliver_local(deliver->rooms.local, deliver->rooms.queue, work->lease,
                                 on_stored, attempt);
}
