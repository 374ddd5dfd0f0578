/* A subject is one user or address in one kind of count. All subjects stand in one list; a walk
 * over it, a portion at a time, writes the file and drops what is empty. */
#include "smtpd/policy/limits.h"

#include "limits_portion.h"
#include "smtpd/base/check.h"
#include "smtpd/base/file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    SUBJECTS_MAX = 100000, /* of a kind */
    WRITE_MS = 5000,
    DAY_MS = 86400000
};

struct limits_subject {
    struct link link;
    struct limits_record record;
    uint64_t reserved;
};

struct limits {
    struct loop *loop;
    struct offload *offload;
    char *path;
    struct limits_settings settings;
    struct map *maps[LIMITS_KINDS]; /* name -> subject */
    struct list subjects;
    struct link *cursor; /* of the walk: the next one; NULL: at the end */
    struct job *job;
    struct timer timer;
    bool is_writing;
    bool is_changed;
    bool is_write_broken; /* said already */
    struct limits_statistics statistics;
};

/* ---- subjects ---- */

static void subject_free(struct limits *limits, struct limits_subject *subject)
{
    if (limits->cursor == &subject->link)
        limits->cursor = list_next(&limits->subjects, &subject->link);
    (void)map_remove(limits->maps[subject->record.kind], slice_of(subject->record.name));
    list_remove(&limits->subjects, &subject->link);
    memory_free(subject);
}

static struct limits_subject *subject_new(struct limits *limits, enum limits_kind kind,
                                          const char *name)
{
    struct limits_subject *subject;

    if (map_count(limits->maps[kind]) >= SUBJECTS_MAX)
        return NULL;
    subject = NEW(struct limits_subject);
    subject->record.kind = kind;
    CHECK(
        slice_copy_text(slice_of(name), subject->record.name, sizeof subject->record.name));
    CHECK(map_set(limits->maps[kind], slice_of(name), subject) == RESULT_OK);
    list_push_back(&limits->subjects, &subject->link);
    return subject;
}

static bool is_empty(struct limits_subject *subject, int64_t now_ms)
{
    struct limits_record *record = &subject->record;

    for (size_t i = 0; i < record->window_count; i++) {
        window_advance(&record->windows[i], now_ms);
        if (window_sum(&record->windows[i]) > 0)
            return false;
    }
    return subject->reserved == 0;
}

/* The windows that the quotas want; counts of those that were there stay. */
static void fit(struct limits_record *record, const struct quotas *quotas, int64_t now_ms)
{
    struct window before[QUOTAS_MAX];
    size_t count = record->window_count;

    memcpy(before, record->windows, sizeof before);
    record->window_count = quotas->count;
    for (size_t i = 0; i < quotas->count; i++) {
        size_t at = 0;

        while (at < count && before[at].window_ms != quotas->items[i].window_ms)
            at++;
        if (at < count)
            record->windows[i] = before[at];
        else
            window_init(&record->windows[i], quotas->items[i].window_ms, now_ms);
        window_advance(&record->windows[i], now_ms);
    }
}

/* ---- who, and how much ---- */

static bool is_of_user(enum limits_kind kind)
{
    return kind == LIMITS_USER_MESSAGES || kind == LIMITS_USER_RECIPIENTS;
}

static const struct quotas *quotas_of(const struct limits *limits, enum limits_kind kind,
                                      const struct limits_client *client)
{
    const struct quotas *own = NULL;

    if (client->rights && kind == LIMITS_USER_MESSAGES)
        own = &client->rights->messages;
    else if (client->rights && kind == LIMITS_USER_RECIPIENTS)
        own = &client->rights->recipient_rate;
    return own && own->count > 0 ? own : &limits->settings.quotas[kind];
}

/* A /64 is one client: its owner may take any address in it. */
static void print_peer(const struct ip *peer, char name[LIMITS_NAME + 1])
{
    struct ip network = *peer;

    if (!ip_is_v4(peer))
        memset(network.bytes + 8, 0, 8);
    ip_print(&network, name);
}

/* NULL: no limit, or (is_full) no room to count one more. */
static struct limits_subject *find_subject(struct limits *limits, enum limits_kind kind,
                                           const struct limits_client *client,
                                           bool *is_full)
{
    const struct quotas *quotas = quotas_of(limits, kind, client);
    char name[LIMITS_NAME + 1];
    struct limits_subject *subject;

    *is_full = false;
    if (quotas->count == 0 || (is_of_user(kind) && !client->user))
        return NULL;
    if (is_of_user(kind))
        CHECK(slice_copy_text(slice_of(client->user), name, sizeof name));
    else
        print_peer(&client->peer, name);
    subject = map_get(limits->maps[kind], slice_of(name));
    if (!subject)
        subject = subject_new(limits, kind, name);
    *is_full = !subject;
    if (subject)
        fit(&subject->record, quotas, loop_wall_ms(limits->loop));
    return subject;
}

/* ---- taking ---- */

struct refusal {
    enum limits_kind kind;
    struct quota quota;
    int64_t free_ms; /* 0: none */
    bool is_full;
};

static int64_t free_again_ms(struct window *window, uint64_t limit, uint64_t reserved)
{
    window_note_full(window);
    /* What is reserved may be counted in a moment: then this is when it leaves. */
    return reserved < limit ? window_falls_to_ms(window, limit - 1 - reserved)
                            : window_forgets_ms(window);
}

/* The window that frees last is the one to name. */
static void judge(struct limits_subject *subject, const struct quotas *quotas,
                  int64_t now_ms, struct refusal *refusal)
{
    struct limits_record *record = &subject->record;

    for (size_t i = 0; i < record->window_count; i++) {
        struct window *window = &record->windows[i];
        uint64_t limit = quotas->items[i].count;
        int64_t free_ms;

        if (window_sum(window) + subject->reserved >= limit)
            free_ms = free_again_ms(window, limit, subject->reserved);
        else if (window->counts[0] + subject->reserved >=
                 window_pace(window, limit, now_ms))
            free_ms = now_ms + 1;
        else
            continue;
        if (free_ms <= refusal->free_ms)
            continue;
        refusal->kind = record->kind;
        refusal->quota = quotas->items[i];
        refusal->free_ms = free_ms;
    }
}

static void print_refusal(const struct limits *limits, const struct refusal *refusal,
                          char why[LIMITS_TEXT])
{
    static const char *const subjects[LIMITS_KINDS] = {
        [LIMITS_USER_MESSAGES] = "messages of this user",
        [LIMITS_USER_RECIPIENTS] = "recipients of this user",
        [LIMITS_ADDRESS_MESSAGES] = "messages from your address",
        [LIMITS_ADDRESS_RECIPIENTS] = "recipients from your address",
    };
    int64_t minute_ms = (refusal->free_ms + 59999) / 60000 * 60000;
    char quota[QUOTA_TEXT];
    char moment[MOMENT_TEXT];
    bool is_today = minute_ms / DAY_MS == loop_wall_ms(limits->loop) / DAY_MS;

    if (refusal->is_full) {
        (void)snprintf(why, LIMITS_TEXT, "Too many senders are counted: try again later");
        return;
    }
    quota_print(&refusal->quota, quota);
    moment_rfc3339(minute_ms * 1000, moment); /* 2026-11-25T14:05:00.000000Z */
    (void)snprintf(why, LIMITS_TEXT,
                   "Too many %s: limit %s reached, free again at %.*s%s%.5s UTC",
                   subjects[refusal->kind], quota, is_today ? 0 : 10, moment,
                   is_today ? "" : " ", moment + 11);
}

static void note_change(struct limits *limits)
{
    limits->is_changed = true;
    if (!limits->is_writing && !timer_is_waiting(&limits->timer))
        timer_start(&limits->timer, WRITE_MS);
}

static bool take(struct limits *limits, const struct limits_client *client,
                 const enum limits_kind kinds[2], struct limits_claim *claim,
                 char why[LIMITS_TEXT])
{
    struct limits_subject *found[2];
    struct refusal refusal = {0};

    for (int i = 0; i < 2; i++) {
        bool is_full;

        found[i] = find_subject(limits, kinds[i], client, &is_full);
        refusal.is_full = refusal.is_full || is_full;
        if (found[i])
            judge(found[i], quotas_of(limits, kinds[i], client), loop_wall_ms(limits->loop),
                  &refusal);
    }
    if (refusal.is_full || refusal.free_ms > 0) {
        if (refusal.is_full) {
            limits->statistics.full++;
            note_change(limits); /* the walk that writes makes room, too */
        } else {
            limits->statistics.reached[refusal.kind]++;
        }
        print_refusal(limits, &refusal, why);
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (!found[i])
            continue;
        found[i]->reserved++;
        claim->subjects[kinds[i]] = found[i];
        claim->counts[kinds[i]]++;
    }
    return true;
}

static const enum limits_kind message_kinds[2] = {LIMITS_USER_MESSAGES,
                                                  LIMITS_ADDRESS_MESSAGES};
static const enum limits_kind recipient_kinds[2] = {LIMITS_USER_RECIPIENTS,
                                                    LIMITS_ADDRESS_RECIPIENTS};

bool limits_take_message(struct limits *limits, const struct limits_client *client,
                         struct limits_claim *claim, char why[LIMITS_TEXT])
{
    return take(limits, client, message_kinds, claim, why);
}

bool limits_take_recipient(struct limits *limits, const struct limits_client *client,
                           struct limits_claim *claim, char why[LIMITS_TEXT])
{
    return take(limits, client, recipient_kinds, claim, why);
}

static void give_back(struct limits_claim *claim, enum limits_kind kind, uint32_t count)
{
    if (!claim->subjects[kind])
        return;
    CHECK(claim->subjects[kind]->reserved >= count && claim->counts[kind] >= count);
    claim->subjects[kind]->reserved -= count;
    claim->counts[kind] -= count;
    if (claim->counts[kind] == 0)
        claim->subjects[kind] = NULL;
}

void limits_return_recipient(struct limits *limits, struct limits_claim *claim)
{
    (void)limits;
    for (int i = 0; i < 2; i++)
        if (claim->counts[recipient_kinds[i]] > 0)
            give_back(claim, recipient_kinds[i], 1);
}

void limits_release(struct limits *limits, struct limits_claim *claim)
{
    (void)limits;
    for (int kind = 0; kind < LIMITS_KINDS; kind++)
        give_back(claim, (enum limits_kind)kind, claim->counts[kind]);
}

void limits_keep(struct limits *limits, struct limits_claim *claim)
{
    int64_t now_ms = loop_wall_ms(limits->loop);

    for (int kind = 0; kind < LIMITS_KINDS; kind++) {
        struct limits_subject *subject = claim->subjects[kind];

        if (!subject)
            continue;
        for (size_t i = 0; i < subject->record.window_count; i++) {
            window_advance(&subject->record.windows[i], now_ms);
            window_add(&subject->record.windows[i], claim->counts[kind]);
        }
        note_change(limits);
    }
    limits_release(limits, claim);
}

/* ---- the file ---- */

/* Copies the next records; what is empty goes. */
static void fill(struct limits *limits, struct portion *portion)
{
    int64_t now_ms = loop_wall_ms(limits->loop);
    size_t looked_at = 0;

    portion->count = 0;
    while (limits->cursor && looked_at++ < PORTION_RECORDS) {
        struct limits_subject *subject =
            CONTAINER_OF(limits->cursor, struct limits_subject, link);

        limits->cursor = list_next(&limits->subjects, limits->cursor);
        if (is_empty(subject, now_ms))
            subject_free(limits, subject);
        else
            portion->records[portion->count++] = subject->record;
    }
    portion->is_last = !limits->cursor;
}

static void log_failure(const struct portion *portion)
{
    log_message(
        LOG_ERROR, "policy.limits_unwritable",
        "counts of limits cannot be written to %s and would be lost at a restart: %s",
        portion->path, strerror(portion->error));
}

static void end_round(struct limits *limits, const struct portion *portion)
{
    limits->is_writing = false;
    if (portion->has_failed) {
        limits->statistics.writes_failed++;
        limits->is_changed = true;
        if (!limits->is_write_broken)
            log_failure(portion);
    }
    limits->is_write_broken = portion->has_failed;
    if (limits->is_changed)
        timer_start(&limits->timer, WRITE_MS);
}

static void on_portion(void *owner, void *input);

static void start_portion(struct limits *limits, struct portion *portion)
{
    fill(limits, portion);
    if (job_start(limits->offload, POOL_FILE, portion_run, on_portion, portion_free,
                  portion, limits, &limits->job) == RESULT_OK)
        return;
    portion->has_failed = true;
    portion->error = EBUSY;
    end_round(limits, portion);
    portion_free(portion);
}

static void on_portion(void *owner, void *input)
{
    struct limits *limits = owner;
    struct portion *portion = input;

    limits->job = NULL;
    portion->is_first = false;
    if (!portion->has_failed && !portion->is_last) {
        start_portion(limits, portion);
        return;
    }
    end_round(limits, portion);
    portion_free(portion);
}

static void on_timer(void *owner)
{
    struct limits *limits = owner;

    limits->is_changed = false;
    limits->is_writing = true;
    limits->cursor = list_first(&limits->subjects);
    start_portion(limits, portion_new(limits->path));
}

/* At the end nobody waits for the loop any more. */
static void write_now(struct limits *limits)
{
    struct portion *portion = portion_new(limits->path);

    limits->cursor = list_first(&limits->subjects);
    do {
        fill(limits, portion);
        portion_run(portion);
        portion->is_first = false;
    } while (!portion->is_last && !portion->has_failed);
    if (portion->has_failed)
        log_failure(portion);
    portion_free(portion);
}

/* A window that ran out while the server was away takes no place. */
static void restore(void *owner, const struct limits_record *record)
{
    struct limits *limits = owner;
    struct window window = record->windows[0];
    struct limits_subject *subject;

    window_advance(&window, loop_wall_ms(limits->loop));
    if (window_sum(&window) == 0)
        return;
    subject = map_get(limits->maps[record->kind], slice_of(record->name));
    if (!subject)
        subject = subject_new(limits, record->kind, record->name);
    if (subject && subject->record.window_count < QUOTAS_MAX)
        subject->record.windows[subject->record.window_count++] = window;
}

static void load(struct limits *limits)
{
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, LIMITS_FILE_MAX);
    result = file_read(limits->path, &text, &fault);
    if (result == RESULT_OK)
        result = limits_file_parse(bytes_view(&text), restore, limits, &fault);
    bytes_fini(&text);
    if (result != RESULT_OK && result != RESULT_NOT_FOUND)
        log_message(LOG_WARNING, "policy.limits_unreadable",
                    "counts of limits begin anew: %s: %s", limits->path, fault.text);
}

/* ---- life ---- */

struct limits *limits_open(struct loop *loop, struct offload *offload, const char *path)
{
    struct limits *limits = NEW(struct limits);

    limits->loop = loop;
    limits->offload = offload;
    limits->path = memory_text(path);
    list_init(&limits->subjects);
    for (int kind = 0; kind < LIMITS_KINDS; kind++)
        limits->maps[kind] = map_new(SUBJECTS_MAX);
    timer_init(&limits->timer, loop, on_timer, limits);
    load(limits);
    return limits;
}

void limits_apply(struct limits *limits, const struct limits_settings *settings)
{
    limits->settings = *settings;
}

void limits_stop(struct limits *limits)
{
    if (!limits)
        return;
    timer_cancel(&limits->timer);
    if (limits->job)
        job_cancel(limits->job);
    limits->job = NULL;
}

void limits_close(struct limits *limits)
{
    struct link *link;

    if (!limits)
        return;
    if (limits->is_changed || limits->is_writing)
        write_now(limits);
    while ((link = list_first(&limits->subjects)))
        subject_free(limits, CONTAINER_OF(link, struct limits_subject, link));
    for (int kind = 0; kind < LIMITS_KINDS; kind++)
        map_free(limits->maps[kind]);
    memory_free(limits->path);
    memory_free(limits);
}

void limits_statistics(const struct limits *limits, struct limits_statistics *statistics)
{
    *statistics = limits->statistics;
    for (int kind = 0; kind < LIMITS_KINDS; kind++)
        statistics->counted[kind] = map_count(limits->maps[kind]);
}
