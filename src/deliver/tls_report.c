/* A look each second: the day's end, what may be sent now, what is to be written. */
#include "smtpd/deliver/tls_report.h"

#include "smtpd/base/file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "tally_file.h"
#include "tally_json.h"
#include "tls_report.h"
#include "tls_report_send.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Be all servers as slow as they like, each domain has its try in its day. */
_Static_assert((int64_t)LIMIT_TLS_REPORT_DOMAINS / LIMIT_TLS_REPORTS * TLS_REPORT_SEND_MS <
                   INT64_C(86400000) - 4 * INT64_C(3600000),
               "a round of reports takes longer than a day");

enum { LOOK_MS = 1000, WRITE_MS = 30000, JITTER_MS = 4 * 3600000, RETRY_MS = 3600000 };

struct writing { /* the input of a job */
    char *path;
    char *beside;
    struct bytes text;
    pthread_mutex_t lock;
    bool is_outdated; /* under the lock: a newer one takes the place */
    struct fault fault;
    enum result result;
};

struct tls_report {
    struct deliver *deliver;
    struct tally *tally;
    struct list sendings; /* struct tls_report_send */
    struct timer look;
    struct job *job;
    struct writing *writing; /* its */
    int64_t changed_ms;      /* monotonic, since the last writing; 0: nothing is */
    bool is_broken;          /* said already */
    bool is_stopped;
};

static bool is_on(const struct deliver *deliver)
{
    return deliver->settings && deliver->settings->values.tls_report_organization &&
           deliver->settings->values.tls_report_contact;
}

static void note_change(struct tls_report *report)
{
    if (report->changed_ms == 0)
        report->changed_ms = loop_now_ms(report->deliver->rooms.loop) + 1;
}

/* ---- the file ---- */

static void write_file(void *input)
{
    struct writing *writing = input;
    enum result result =
        file_write(writing->beside, bytes_view(&writing->text), &writing->fault);

    (void)pthread_mutex_lock(&writing->lock);
    if (result == RESULT_OK && !writing->is_outdated &&
        rename(writing->beside, writing->path) != 0)
        result = fault_set(&writing->fault, RESULT_IO, "%s", strerror(errno));
    (void)pthread_mutex_unlock(&writing->lock);
    if (result == RESULT_OK)
        result = file_sync_parent(writing->path, &writing->fault);
    writing->result = result;
}

static void writing_free(void *input)
{
    struct writing *writing = input;

    bytes_fini(&writing->text);
    (void)pthread_mutex_destroy(&writing->lock);
    memory_free(writing->path);
    memory_free(writing->beside);
    memory_free(writing);
}

static char *path_of(const struct tls_report *report, const char *suffix)
{
    return memory_format("%s/tls-report%s", report->deliver->rooms.data_dir, suffix);
}

static struct writing *writing_new(struct tls_report *report, const char *suffix)
{
    struct writing *writing = NEW(struct writing);

    writing->path = path_of(report, "");
    writing->beside = path_of(report, suffix);
    (void)pthread_mutex_init(&writing->lock, NULL);
    bytes_init(&writing->text, TALLY_FILE_MAX);
    writing->result = tally_file_print(report->tally, &writing->text);
    return writing;
}

static void judge_writing(struct tls_report *report, const struct writing *writing)
{
    bool is_broken = writing->result != RESULT_OK;

    if (is_broken && !report->is_broken)
        log_message(LOG_ERROR, "deliver.tls_report_unwritable",
                    "what is counted for TLS reports cannot be written to %s and would be "
                    "lost at a restart: %s",
                    writing->path,
                    writing->fault.text[0] ? writing->fault.text : "it is too large");
    report->is_broken = is_broken;
    if (is_broken)
        note_change(report);
}

static void on_written(void *owner, void *input)
{
    struct tls_report *report = owner;

    report->job = NULL;
    report->writing = NULL;
    judge_writing(report, input);
    writing_free(input);
}

static void write_later(struct tls_report *report)
{
    struct writing *writing = writing_new(report, ".new");

    report->changed_ms = 0;
    if (writing->result == RESULT_OK &&
        job_start(report->deliver->rooms.offload, POOL_FILE, write_file, on_written,
                  writing_free, writing, report, &report->job) == RESULT_OK) {
        report->writing = writing;
        return;
    }
    note_change(report);
    writing_free(writing);
}

static bool keeps(const struct tls_report *report)
{
    return report->deliver->rooms.data_dir && report->deliver->rooms.offload;
}

static void load(struct tls_report *report)
{
    char *path = path_of(report, "");
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, TALLY_FILE_MAX);
    result = file_read(path, &text, &fault);
    if (result == RESULT_OK)
        result = tally_file_parse(bytes_view(&text), report->tally, &fault);
    bytes_fini(&text);
    if (result != RESULT_OK && result != RESULT_NOT_FOUND) {
        tally_free(report->tally);
        report->tally = tally_new();
        log_message(LOG_WARNING, "deliver.tls_report_unreadable",
                    "what was counted for TLS reports is lost, and counted anew: %s: %s",
                    path, fault.text);
    }
    memory_free(path);
}

/* ---- sending ---- */

static void forget_sending(struct tls_report *report, const struct tally_domain *domain)
{
    for (struct link *link = list_first(&report->sendings); link;
         link = list_next(&report->sendings, link)) {
        struct tls_report_send *send = tls_report_send_of_link(link);

        if (tls_report_send_domain(send) != domain)
            continue;
        list_remove(&report->sendings, link);
        tls_report_send_cancel(send);
        return;
    }
}

static void log_sent(const struct tally_domain *domain, const char *place)
{
    struct log_line line;

    log_start(&line, LOG_INFO, "deliver.tls_report_sent");
    log_text(&line, "domain", domain->domain);
    log_text(&line, "to", place);
    log_number(&line, "sessions", (int64_t)tally_sessions(domain));
    log_end(&line);
}

/* 0: it is not tried again. */
static void log_failed(const struct tally_domain *domain, const char *text, int64_t wait_ms)
{
    struct log_line line;

    log_start(&line, LOG_WARNING, "deliver.tls_report_failed");
    log_text(&line, "domain", domain->domain);
    log_text(&line, "message", text);
    log_number(&line, "sessions", (int64_t)tally_sessions(domain));
    if (wait_ms > 0)
        log_seconds(&line, "wait", wait_ms);
    log_end(&line);
}

static bool is_too_late(const struct tls_report *report, const struct tally_domain *domain)
{
    return deliver_now(report->deliver) > domain->end_ms + TALLY_DAY_MS;
}

static void on_sent(void *owner, struct tally_domain *domain,
                    enum deliver_tls_report result, const char *text)
{
    struct tls_report *report = owner;
    bool is_over = result != DELIVER_TLS_REPORT_FAILED || is_too_late(report, domain);

    if (result == DELIVER_TLS_REPORT_SENT)
        log_sent(domain, text);
    else if (result == DELIVER_TLS_REPORT_FAILED)
        log_failed(domain, text, is_over ? 0 : RETRY_MS);
    report->deliver->statistics.tls_reports[result]++;
    forget_sending(report, domain);
    domain->is_sending = false;
    domain->tries++;
    domain->not_before_ms = deliver_now(report->deliver) + RETRY_MS;
    if (is_over)
        tally_remove(report->tally, domain);
    else
        tally_move_back(report->tally, domain);
    note_change(report);
}

static void send_one(struct tls_report *report, struct tally_domain *domain)
{
    struct tls_report_send *send =
        tls_report_send_start(report->deliver, domain, TLS_REPORT_SEND_MS, on_sent, report);

    domain->is_sending = true;
    list_push_back(&report->sendings, tls_report_send_link(send));
}

static void send_some(struct tls_report *report)
{
    struct list *closed = tally_closed(report->tally);
    int64_t now_ms = deliver_now(report->deliver);
    struct link *next;

    for (struct link *link = list_first(closed); link; link = next) {
        struct tally_domain *domain = CONTAINER_OF(link, struct tally_domain, link);

        next = list_next(closed, link);
        if (domain->not_before_ms == 0)
            domain->not_before_ms = now_ms + secure_random_below(JITTER_MS);
        /* Of a day that ended long ago: the machine was off. */
        if (now_ms > domain->end_ms + JITTER_MS && domain->tries == 0)
            domain->not_before_ms = now_ms;
        if (!is_on(report->deliver) && !domain->is_sending)
            tally_remove(report->tally, domain);
        else if (!domain->is_sending && domain->not_before_ms <= now_ms &&
                 report->sendings.count < LIMIT_TLS_REPORTS)
            send_one(report, domain);
    }
}

static void on_look(void *owner)
{
    struct tls_report *report = owner;
    int64_t now_ms = deliver_now(report->deliver);
    size_t open = tally_open(report->tally)->count;

    timer_start(&report->look, LOOK_MS);
    tally_close_day(report->tally, now_ms - now_ms % TALLY_DAY_MS);
    if (tally_open(report->tally)->count != open)
        note_change(report);
    if (!report->is_stopped)
        send_some(report);
    if (keeps(report) && !report->job && report->changed_ms > 0 &&
        loop_now_ms(report->deliver->rooms.loop) - report->changed_ms >= WRITE_MS)
        write_later(report);
}

/* ---- the inner door ---- */

void tls_report_count(struct tls_report *report, const struct tally_session *session)
{
    struct deliver_statistics *statistics = &report->deliver->statistics;

    if (!is_on(report->deliver))
        return;
    if (!tally_count(report->tally, session, deliver_now(report->deliver))) {
        statistics->tls_sessions_uncounted++;
        return;
    }
    statistics->tls_sessions[session->type][session->result != TALLY_SUCCESS]++;
    note_change(report);
}

void tls_report_ask_again(struct tls_report *report)
{
    for (struct link *link = list_first(&report->sendings); link;
         link = list_next(&report->sendings, link))
        tls_report_send_ask_again(tls_report_send_of_link(link));
}

static void cancel_all(struct tls_report *report)
{
    struct link *link;

    while ((link = list_pop_front(&report->sendings)))
        tls_report_send_cancel(tls_report_send_of_link(link));
}

void tls_report_stop(struct tls_report *report)
{
    report->is_stopped = true;
}

struct tls_report *tls_report_new(struct deliver *deliver)
{
    struct tls_report *report = NEW(struct tls_report);

    report->deliver = deliver;
    report->tally = tally_new();
    list_init(&report->sendings);
    timer_init(&report->look, deliver->rooms.loop, on_look, report);
    timer_start(&report->look, LOOK_MS);
    if (keeps(report))
        load(report);
    return report;
}

/* A job that runs goes on, and its text is older than what is written now. */
static void outdate(struct tls_report *report)
{
    (void)pthread_mutex_lock(&report->writing->lock);
    report->writing->is_outdated = true;
    (void)pthread_mutex_unlock(&report->writing->lock);
    job_cancel(report->job); /* its text is dropped by the job */
}

void tls_report_free(struct tls_report *report)
{
    struct writing *writing;

    cancel_all(report);
    timer_cancel(&report->look);
    if (keeps(report) && (report->changed_ms > 0 || report->job)) {
        if (report->job)
            outdate(report);
        writing = writing_new(report, ".end"); /* the job may still write its own */
        if (writing->result == RESULT_OK)
            write_file(writing);
        judge_writing(report, writing);
        writing_free(writing);
    }
    tally_free(report->tally);
    memory_free(report);
}

/* ---- the operator ---- */

static void tell(const struct tally_domain *domain, deliver_tls_report_fn *each,
                 void *owner)
{
    for (struct link *link = list_first(&domain->policies); link;
         link = list_next(&domain->policies, link)) {
        const struct tally_policy *policy = CONTAINER_OF(link, struct tally_policy, link);
        struct tls_report_item item = {.domain = domain->domain,
                                       .policy = tally_type_name(policy->type),
                                       .successes = policy->successes,
                                       .failures = policy->failures,
                                       .dropped = policy->dropped,
                                       .begin_ms = domain->begin_ms,
                                       .end_ms = domain->end_ms,
                                       .tries = domain->tries,
                                       .not_before_ms = domain->not_before_ms};

        each(owner, &item);
    }
}

size_t deliver_tls_report_walk(const struct deliver *deliver, size_t first, size_t most,
                               deliver_tls_report_fn *each, void *owner)
{
    struct tally *tally = deliver->tls_report->tally;
    const struct list *lists[] = {tally_closed(tally), tally_open(tally)};
    size_t at = 0;

    for (size_t i = 0; i < 2; i++)
        for (struct link *link = list_first(lists[i]); link;
             link = list_next(lists[i], link), at++) {
            if (at >= first + most)
                return most;
            if (at >= first)
                tell(CONTAINER_OF(link, struct tally_domain, link), each, owner);
        }
    return at > first ? at - first : 0;
}

bool deliver_tls_report_is_on(const struct deliver *deliver)
{
    return is_on(deliver);
}

enum result deliver_tls_report_json(const struct deliver *deliver, const char *domain,
                                    struct bytes *into)
{
    const struct deliver_settings *values = &deliver->settings->values;
    const struct tally_domain *counted = tally_find(deliver->tls_report->tally, domain);
    struct tally_reporter reporter = {.organization = values->tls_report_organization,
                                      .contact = values->tls_report_contact,
                                      .id = "not-sent",
                                      .end_ms = deliver_now(deliver)};

    if (!counted || !is_on(deliver))
        return RESULT_NOT_FOUND;
    return tally_json(counted, &reporter, into);
}

static void hurry(struct tls_report *report, const char *domain)
{
    struct list *closed = tally_closed(report->tally);

    for (struct link *link = list_first(closed); link; link = list_next(closed, link)) {
        struct tally_domain *each = CONTAINER_OF(link, struct tally_domain, link);

        if (!domain || strcmp(each->domain, domain) == 0)
            each->not_before_ms = 1;
    }
}

size_t deliver_tls_report_send(struct deliver *deliver, const char *domain)
{
    struct tls_report *report = deliver->tls_report;
    int64_t now_ms = deliver_now(deliver);
    size_t count = 0;
    size_t left = tally_open(report->tally)->count;
    struct link *link;

    if (!is_on(deliver))
        return 0;
    if (domain)
        count = tally_close(report->tally, domain, now_ms) != NULL;
    /* Who is closed is counted anew, behind those that are still to come. */
    for (; !domain && left > 0; left--) {
        link = list_first(tally_open(report->tally));
        list_remove(tally_open(report->tally), link);
        list_push_back(tally_open(report->tally), link);
        count += tally_close(report->tally,
                             CONTAINER_OF(link, struct tally_domain, link)->domain,
                             now_ms) != NULL;
    }
    hurry(report, domain);
    note_change(report);
    if (!report->is_stopped)
        send_some(report);
    return count;
}
