/* Additive increase, multiplicative decrease; rates that are slowed and recover; suspension. */
#include "pace.h"

#include "clock.h"

#include "smtpd/base/log.h"

#include <stdio.h>
#include <string.h>

enum {
    WINDOW_FIRST = 5,
    OBJECTION_MS = 1000,    /* what is on its way then says the same once more */
    OPENING_MOST_MS = 5000, /* so early a connection is opened for a token to come */
    SLOWED_MS = 10000,      /* the same for rates, which show in longer times */
    PERMILLE_LEAST = 10,
    STEPS = 10,
    MINUTE_MS = 60000
};

/* ---- events ---- */

static const char *const whats[DELIVER_PACE_WHATS] = {"connections", "rate", "suspended",
                                                      "bounce"};

struct change {
    enum deliver_pace_what what;
    const char *from;
    const char *to;
    bool is_down;
};

/* It is written; see keeper.h. */
static void changed(struct pace *pace, const struct pace_time *time)
{
    pace->changed_ms = time->wall_ms;
    if (pace->on_changed)
        pace->on_changed(pace->owner);
}

static void note(struct pace *pace, const struct change *change,
                 const struct pace_cause *cause, const struct pace_time *time)
{
    struct log_line line;
    enum log_level level = change->is_down ? LOG_NOTICE : LOG_INFO;

    if (change->is_down)
        pace->counts->down[change->what]++;
    else
        pace->counts->up[change->what]++;
    log_start(&line, level, "deliver.pace_changed");
    log_text(&line, "scope", pace->scope);
    log_text(&line, "source", pace->source[0] ? pace->source : NULL);
    log_text(&line, "what", whats[change->what]);
    log_text(&line, "old", change->from);
    log_text(&line, "new", change->to);
    log_text(&line, "cause", cause->kind);
    log_text(&line, "message", cause->text && cause->text[0] ? cause->text : NULL);
    log_end(&line);
    changed(pace, time);
}

static void set_window(struct pace *pace, unsigned window, const struct pace_cause *cause,
                       const struct pace_time *time)
{
    char from[16];
    char to[16];
    bool is_down = window < pace->window;

    if (window == pace->window)
        return;
    (void)snprintf(from, sizeof from, "%u", pace->window);
    (void)snprintf(to, sizeof to, "%u", window);
    pace->window = window;
    pace->successes = 0;
    note(pace, &(struct change){DELIVER_PACE_CONNECTIONS, from, to, is_down}, cause, time);
}

/* ---- limits ---- */

void pace_init(struct pace *pace, const char *scope, const char *source,
               struct deliver_pace_changes *counts, const struct pace_time *time)
{
    *pace = (struct pace){.scope = scope,
                          .source = source,
                          .counts = counts,
                          .permille = BUCKET_FULL_RATE,
                          .shrunk_ms = time->now_ms - OBJECTION_MS,
                          .started_ms = time->now_ms};
    bucket_init(&pace->messages, time->now_ms);
    bucket_init(&pace->new_connections, time->now_ms);
}

static const struct quota *rate(const struct pace *pace)
{
    if (pace->limits.messages.count > 0 || pace->permille == BUCKET_FULL_RATE)
        return &pace->limits.messages;
    return &pace->measured;
}

static void set_rates(struct pace *pace, int64_t since_ms, const struct pace_time *time)
{
    bucket_set_rate(&pace->messages, rate(pace), pace->permille, since_ms, time->now_ms);
    bucket_set_rate(&pace->new_connections, &pace->limits.new_connections, BUCKET_FULL_RATE,
                    since_ms, time->now_ms);
}

void pace_set_limits(struct pace *pace, const struct pace_limits *limits, int64_t since_ms,
                     const struct pace_time *time)
{
    unsigned first =
        limits->connections < WINDOW_FIRST ? limits->connections : WINDOW_FIRST;

    pace->limits = *limits;
    if (pace->window == 0)
        pace->window = first;
    if (pace->window > limits->connections)
        set_window(pace, limits->connections, &(struct pace_cause){"settings", NULL}, time);
    set_rates(pace, since_ms, time);
}

/* ---- what ends by itself ---- */

static void print_rate(const struct pace *pace, char text[QUOTA_TEXT + 16])
{
    char words[QUOTA_TEXT] = "no limit";

    if (rate(pace)->count > 0)
        quota_print(rate(pace), words);
    if (pace->permille == BUCKET_FULL_RATE)
        (void)snprintf(text, QUOTA_TEXT + 16, "%s", words);
    else
        (void)snprintf(text, QUOTA_TEXT + 16, "%u%% of %s", pace->permille / 10, words);
}

static void set_permille(struct pace *pace, unsigned permille,
                         const struct pace_cause *cause, const struct pace_time *time)
{
    char from[QUOTA_TEXT + 16];
    char to[QUOTA_TEXT + 16];
    bool is_down = permille < pace->permille;

    print_rate(pace, from);
    pace->permille = permille;
    print_rate(pace, to);
    set_rates(pace, time->now_ms, time);
    note(pace, &(struct change){DELIVER_PACE_RATE, from, to, is_down}, cause, time);
}

static const struct pace_cause its_time = {"recovery", "its time is over"};

static void recover(struct pace *pace, const struct pace_time *time)
{
    unsigned permille = pace->permille;

    if (pace->bounce.until_ms > 0 && pace->bounce.until_ms <= time->wall_ms) {
        pace->bounce = (struct pace_bounce){.left = pace->bounce.left};
        changed(pace, time);
        pace_bounce_no_more(pace, &its_time, time);
    }
    if (pace->suspended_until_ms > 0 && pace->suspended_until_ms <= time->wall_ms)
        pace_resume(pace, &its_time, time);
    if (permille == BUCKET_FULL_RATE || pace->next_step_ms > time->wall_ms)
        return;
    while (permille < BUCKET_FULL_RATE && pace->next_step_ms <= time->wall_ms) {
        permille += pace->step;
        pace->next_step_ms += pace->step_ms;
    }
    if (permille > BUCKET_FULL_RATE)
        permille = BUCKET_FULL_RATE;
    set_permille(pace, permille, &(struct pace_cause){"recovery", pace->slowness}, time);
}

/* ---- whose turn ---- */

/* Without an idle connection it starts early by the time that a new one takes. One that has started
 * and hangs is not waited for: as long ago as a token takes, and the next may start. */
static int64_t token_wait(struct pace *pace, bool has_idle, const struct pace_time *time)
{
    struct bucket *bucket = &pace->messages;
    int64_t again_ms = pace->started_ms + bucket_interval_ms(bucket) - time->now_ms;
    int64_t first_ms = bucket_wait_ms(bucket, 0, time->now_ms);
    int64_t wait_ms = bucket_wait_ms(bucket, pace->promised_messages, time->now_ms);

    if (!has_idle)
        wait_ms -= pace->opening_ms;
    if (again_ms < first_ms)
        again_ms = first_ms;
    if (again_ms < wait_ms)
        wait_ms = again_ms;
    return wait_ms > 0 ? wait_ms : 0;
}

unsigned pace_connections(const struct pace *pace)
{
    return pace->running - pace->riding;
}

static bool is_suspended(struct pace *pace, const struct pace_time *time, int64_t *until_ms)
{
    recover(pace, time);
    *until_ms = 0;
    if (pace->suspended_until_ms == 0)
        return false;
    *until_ms = time->now_ms + pace->suspended_until_ms - time->wall_ms;
    return true;
}

enum pace_hold pace_look_behind(struct pace *pace, const struct pace_time *time,
                                int64_t *until_ms)
{
    int64_t wait_ms;

    if (is_suspended(pace, time, until_ms))
        return PACE_SUSPENDED;
    wait_ms = token_wait(pace, true, time);
    if (wait_ms == 0)
        return PACE_GOES;
    *until_ms = time->now_ms + wait_ms;
    return PACE_MESSAGES;
}

enum pace_hold pace_look(struct pace *pace, bool has_idle, const struct pace_time *time,
                         int64_t *until_ms)
{
    int64_t wait_ms;

    if (is_suspended(pace, time, until_ms))
        return PACE_SUSPENDED;
    if (pace_connections(pace) >= pace->window)
        return PACE_CONNECTIONS;
    /* Another connection would hear the same. */
    if (!has_idle && time->now_ms - pace->shrunk_ms < OBJECTION_MS) {
        *until_ms = pace->shrunk_ms + OBJECTION_MS;
        return PACE_CONNECTIONS;
    }
    wait_ms = token_wait(pace, has_idle, time);
    if (wait_ms > 0) {
        *until_ms = time->now_ms + wait_ms;
        return PACE_MESSAGES;
    }
    wait_ms = has_idle ? 0
                       : bucket_wait_ms(&pace->new_connections, pace->promised_connections,
                                        time->now_ms);
    if (wait_ms > 0) {
        *until_ms = time->now_ms + wait_ms;
        return PACE_NEW_CONNECTIONS;
    }
    return PACE_GOES;
}

void pace_start(struct pace *pace, bool has_idle, struct pace_claim *claim,
                const struct pace_time *time)
{
    pace->started_ms = time->now_ms;
    *claim = (struct pace_claim){
        .is_running = true, .has_message = true, .has_connection = !has_idle};
    pace->running++;
    pace->promised_messages++;
    pace->promised_connections += !has_idle;
}

static void use_message(struct pace *pace, struct pace_claim *claim)
{
    pace->promised_messages -= claim->has_message;
    claim->has_message = false;
}

static void use_connection(struct pace *pace, struct pace_claim *claim)
{
    pace->promised_connections -= claim->has_connection;
    claim->has_connection = false;
}

void pace_rides(struct pace *pace, struct pace_claim *claim, bool rides)
{
    if (claim->rides == rides)
        return;
    claim->rides = rides;
    if (rides)
        pace->riding++;
    else
        pace->riding--;
}

void pace_end(struct pace *pace, struct pace_claim *claim)
{
    pace_rides(pace, claim, false);
    use_message(pace, claim);
    use_connection(pace, claim);
    pace->running -= claim->is_running;
    claim->is_running = false;
}

static void count_message(struct pace *pace, const struct pace_time *time)
{
    int64_t minute = time->now_ms / MINUTE_MS;

    if (minute != pace->minute) {
        pace->counted[1] = minute == pace->minute + 1 ? pace->counted[0] : 0;
        pace->counted[0] = 0;
        pace->minute = minute;
    }
    pace->counted[0]++;
}

int64_t pace_take_message(struct pace *pace, struct pace_claim *claim,
                          const struct pace_time *time)
{
    if (!bucket_take(&pace->messages, time->now_ms))
        return bucket_wait_ms(&pace->messages, 0, time->now_ms);
    use_message(pace, claim);
    use_connection(pace, claim); /* it had one that was there, after all */
    count_message(pace, time);
    return 0;
}

bool pace_take_spare(struct pace *pace, const struct pace_time *time)
{
    return bucket_wait_ms(&pace->messages, pace->promised_messages, time->now_ms) == 0 &&
           bucket_take(&pace->messages, time->now_ms);
}

int64_t pace_take_connection(struct pace *pace, struct pace_claim *claim,
                             const struct pace_time *time)
{
    if (!bucket_take(&pace->new_connections, time->now_ms))
        return bucket_wait_ms(&pace->new_connections, 0, time->now_ms);
    use_connection(pace, claim);
    claim->has_token = bucket_is_limited(&pace->new_connections);
    return 0;
}

void pace_return_connection(struct pace *pace, struct pace_claim *claim,
                            const struct pace_time *time)
{
    if (claim->has_token) /* it began empty, if there was no limit then */
        bucket_put_back(&pace->new_connections, time->now_ms);
    claim->has_token = false;
}

/* ---- what it learns ---- */

void pace_opened(struct pace *pace, int64_t took_ms)
{
    if (took_ms > OPENING_MOST_MS)
        took_ms = OPENING_MOST_MS;
    pace->opening_ms += (took_ms - pace->opening_ms) / 4;
}

void pace_works(struct pace *pace, const struct pace_time *time)
{
    pace->successes++;
    if (pace->backoffs > 0) {
        pace->backoffs = 0;
        changed(pace, time);
    }
    if (pace_connections(pace) < pace->window || pace->window >= pace->limits.connections)
        return; /* more would not be used */
    if (pace->has_shrunk && pace->successes < pace->window)
        return;
    set_window(pace, pace->window + 1, &(struct pace_cause){"success", NULL}, time);
}

void pace_objects(struct pace *pace, const struct pace_cause *cause,
                  const struct pace_time *time)
{
    if (time->now_ms - pace->shrunk_ms < OBJECTION_MS)
        return;
    pace->shrunk_ms = time->now_ms;
    pace->has_shrunk = true;
    pace->successes = 0;
    set_window(pace, pace->window > 1 ? pace->window / 2 : 1, cause, time);
}

/* ---- reactions ---- */

void pace_suspend(struct pace *pace, int64_t until_ms, const struct pace_cause *cause,
                  const struct pace_time *time)
{
    char from[32] = "no";
    char to[32];

    /* The answers to what was on its way are no new reason. */
    if (until_ms <= time->wall_ms ||
        (pace->suspended_until_ms > 0 &&
         until_ms - pace->suspended_until_ms < (until_ms - time->wall_ms) / 10 + 1000))
        return;
    if (pace->suspended_until_ms > time->wall_ms)
        (void)snprintf(from, sizeof from, "%lld s",
                       (long long)(pace->suspended_until_ms - time->wall_ms) / 1000);
    (void)snprintf(to, sizeof to, "%lld s", (long long)(until_ms - time->wall_ms) / 1000);
    pace->suspended_until_ms = until_ms;
    (void)snprintf(pace->suspension, sizeof pace->suspension, "%s",
                   cause->text ? cause->text : cause->kind);
    note(pace, &(struct change){DELIVER_PACE_SUSPENSION, from, to, true}, cause, time);
}

void pace_back_off(struct pace *pace, int64_t for_ms, const struct pace_cause *cause,
                   const struct pace_time *time)
{
    if (pace->suspended_until_ms > time->wall_ms)
        return;
    pace_suspend(pace, time->wall_ms + for_ms * ((int64_t)1 << pace->backoffs), cause,
                 time);
    if (pace->backoffs < PACE_BACKOFFS_MAX)
        pace->backoffs++;
}

void pace_bounce(struct pace *pace, int64_t for_ms, unsigned most,
                 const struct pace_cause *cause, const struct pace_time *time)
{
    char to[32];

    if (pace->bounce.until_ms > time->wall_ms)
        return;
    pace->bounce = (struct pace_bounce){
        .until_ms = time->wall_ms + for_ms, .before_ms = time->wall_ms, .left = most};
    (void)snprintf(pace->bounce.text, sizeof pace->bounce.text, "%s",
                   cause->text ? cause->text : cause->kind);
    (void)snprintf(to, sizeof to, "at most %u", most);
    note(pace, &(struct change){DELIVER_PACE_BOUNCE, "no", to, true}, cause, time);
}

void pace_move_clock(struct pace *pace, int64_t by_ms)
{
    clock_move(&pace->changed_ms, by_ms);
    clock_move(&pace->suspended_until_ms, by_ms);
    clock_move(&pace->slowed_ms, by_ms);
    clock_move(&pace->next_step_ms, by_ms);
    clock_move(&pace->bounce.until_ms, by_ms);
    /* What arrives from now on is newer, whatever it says. */
    clock_move(&pace->bounce.before_ms, by_ms);
}

bool pace_take_bounce(struct pace *pace, int64_t arrival_ms, const struct pace_time *time)
{
    struct pace_bounce *bounce = &pace->bounce;

    if (bounce->left == 0 || bounce->until_ms <= time->wall_ms ||
        arrival_ms >= bounce->before_ms)
        return false;
    bounce->left--;
    changed(pace, time);
    return true;
}

void pace_bounce_no_more(struct pace *pace, const struct pace_cause *cause,
                         const struct pace_time *time)
{
    if (pace->bounce.left == 0)
        return;
    pace->bounce.left = 0;
    note(pace, &(struct change){DELIVER_PACE_BOUNCE, "yes", "no", false}, cause, time);
}

void pace_resume(struct pace *pace, const struct pace_cause *cause,
                 const struct pace_time *time)
{
    if (pace->suspended_until_ms == 0)
        return;
    pace->suspended_until_ms = 0;
    note(pace, &(struct change){DELIVER_PACE_SUSPENSION, "yes", "no", false}, cause, time);
    pace->suspension[0] = '\0';
}

static void measure(struct pace *pace)
{
    uint32_t most =
        pace->counted[0] > pace->counted[1] ? pace->counted[0] : pace->counted[1];

    if (pace->permille == BUCKET_FULL_RATE)
        pace->measured = (struct quota){most > 0 ? most : 1, MINUTE_MS};
}

void pace_slow(struct pace *pace, unsigned permille, int64_t recovery_ms,
               const struct pace_cause *cause, const struct pace_time *time)
{
    unsigned slower = pace->permille * permille / BUCKET_FULL_RATE;

    if (time->wall_ms - pace->slowed_ms < SLOWED_MS && time->wall_ms >= pace->slowed_ms)
        return;
    pace->slowed_ms = time->wall_ms;
    measure(pace);
    if (slower < PERMILLE_LEAST)
        slower = PERMILLE_LEAST;
    pace->step = (BUCKET_FULL_RATE - slower + STEPS - 1) / STEPS;
    pace->step_ms = recovery_ms / STEPS > 0 ? recovery_ms / STEPS : 1;
    pace->next_step_ms = time->wall_ms + pace->step_ms;
    (void)snprintf(pace->slowness, sizeof pace->slowness, "%s",
                   cause->text ? cause->text : cause->kind);
    set_permille(pace, slower, cause, time);
}

bool pace_is_plain(const struct pace *pace)
{
    return pace->suspended_until_ms == 0 && pace->permille == BUCKET_FULL_RATE &&
           !pace->has_shrunk && pace->backoffs == 0 && pace->bounce.until_ms == 0;
}

void pace_restore(struct pace *pace, const struct pace *kept)
{
    pace->window = kept->window;
    pace->has_shrunk = true;
    pace->changed_ms = kept->changed_ms;
    pace->permille = kept->permille;
    pace->step = kept->step;
    pace->step_ms = kept->step_ms;
    pace->next_step_ms = kept->next_step_ms;
    pace->measured = kept->measured;
    pace->suspended_until_ms = kept->suspended_until_ms;
    memcpy(pace->suspension, kept->suspension, sizeof pace->suspension);
    memcpy(pace->slowness, kept->slowness, sizeof pace->slowness);
    pace->backoffs = kept->backoffs;
    pace->bounce = kept->bounce;
}
