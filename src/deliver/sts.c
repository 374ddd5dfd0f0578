/* TXT record -> [cache] -> [TLSA records of every host] -> fetch -> cache
 *
 * All who ask for a domain at the same time wait for one inquiry; it goes on without them, and what
 * it finds is kept. */
#include "sts.h"

#include "dane.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "sts_cache.h"
#include "sts_fetch.h"
#include "tls_report.h"

#include <stdio.h>
#include <string.h>

enum {
    BUSY_AGAIN_MS = 1000,
    FETCH_MS = 60000,
    TIDY_MS = 60000,
    INQUIRIES_MAX = LIMIT_DOMAIN_QUEUES
};

struct sts {
    struct deliver *deliver;
    struct sts_cache *cache;
    bool is_loaded;
    struct map *inquiries;
    struct list all;     /* struct inquiry */
    struct list waiting; /* for their turn to fetch */
    unsigned fetching;
    unsigned refreshing; /* in the background */
    int64_t patience_ms; /* for a turn, and again for the fetch */
    struct timer tidy;
};

struct inquiry {
    struct link link;
    struct link turn; /* in sts->waiting */
    struct sts *sts;
    struct list asks;
    char domain[STS_DOMAIN_TEXT];
    char id[STS_ID_TEXT]; /* "": the DNS has none */
    bool is_refresh;
    bool wants_dane;
    struct plan plan; /* its hosts, when DANE is wanted */
    size_t host_at;
    struct lookup *lookup;
    struct dane *dane;
    struct sts_fetch *fetch;
    struct timer patience;
    struct timer again; /* we had no room for its handshake */
    int64_t until_ms;   /* monotonic: of the turn, and of others when we had no room */
};

struct sts_ask {
    struct link link; /* in its inquiry */
    struct inquiry *inquiry;
    struct deferred none; /* there is nothing to ask */
    char *domain; /* or no room to: what is known of it holds; NULL: nothing can be */
    struct sts *sts;
    sts_end_fn *on_end;
    void *owner;
};

/* ---- ends ---- */

static void fetch_next(struct sts *sts);

static void inquiry_free(struct inquiry *inquiry)
{
    struct sts *sts = inquiry->sts;

    (void)map_remove(sts->inquiries, slice_of(inquiry->domain));
    list_remove(&sts->all, &inquiry->link);
    list_remove(&sts->waiting, &inquiry->turn);
    if (inquiry->lookup)
        lookup_cancel(inquiry->lookup);
    dane_free(inquiry->dane);
    if (inquiry->fetch)
        sts->fetching--;
    sts_fetch_cancel(inquiry->fetch);
    timer_cancel(&inquiry->patience);
    timer_cancel(&inquiry->again);
    sts->refreshing -= inquiry->is_refresh;
    plan_fini(&inquiry->plan);
    memory_free(inquiry);
}

static void answer(struct sts_ask *ask, enum sts_answer how,
                   const struct sts_policy *policy)
{
    sts_end_fn *on_end = ask->on_end;
    void *owner = ask->owner;

    memory_free(ask->domain);
    memory_free(ask);
    on_end(owner, how, policy);
}

static void end(struct inquiry *inquiry, enum sts_answer how,
                const struct sts_policy *known)
{
    struct sts *sts = inquiry->sts;
    struct sts_policy *policy = sts_policy_ref(known);
    struct link *link;

    while ((link = list_pop_front(&inquiry->asks)))
        answer(CONTAINER_OF(link, struct sts_ask, link), how,
               policy && sts_policy_mode(policy) != STS_NONE ? policy : NULL);
    inquiry_free(inquiry);
    fetch_next(sts);
    sts_policy_unref(policy);
}

/* What is known holds; if nothing is, there is no policy. */
static void end_with_known(struct inquiry *inquiry)
{
    struct sts_cache *cache = inquiry->sts->cache;
    const struct sts_record *record = sts_cache_find(cache, inquiry->domain);

    if (record && inquiry->asks.count > 0)
        sts_cache_touch(cache, inquiry->domain);
    end(inquiry, STS_IS_KNOWN, record ? record->policy : NULL);
}

/* RFC 8461 5: without a policy mail goes as it can; but not because we had no room to ask. */
static void end_without_place(struct inquiry *inquiry)
{
    if (sts_cache_find(inquiry->sts->cache, inquiry->domain))
        end_with_known(inquiry);
    else
        end(inquiry, STS_HAD_NO_PLACE, NULL);
}

/* ---- the fetch ---- */

static void log_fetched(const struct inquiry *inquiry, const struct sts_policy *policy)
{
    static const char *const modes[] = {"none", "testing", "enforce"};
    struct log_line line;

    log_start(&line, LOG_INFO, "deliver.sts_fetched");
    log_text(&line, "domain", inquiry->domain);
    log_text(&line, "id", inquiry->id);
    log_text(&line, "mode", modes[sts_policy_mode(policy)]);
    log_seconds(&line, "max_age", sts_policy_max_age_ms(policy));
    log_number(&line, "mx", (int64_t)sts_policy_mx_count(policy));
    log_end(&line);
}

static void log_failed(const struct inquiry *inquiry, const char *text, int64_t wait_ms)
{
    struct sts_cache *cache = inquiry->sts->cache;
    bool is_known = sts_cache_find(cache, inquiry->domain) != NULL;
    struct log_line line;

    /* A DNS that has no words for such names, and a domain without a policy: nobody cares. */
    log_start(&line, is_known || inquiry->id[0] ? LOG_WARNING : LOG_INFO,
              "deliver.sts_fetch_failed");
    log_text(&line, "domain", inquiry->domain);
    log_text(&line, "message", text);
    log_number(&line, "failures", sts_cache_failures(cache, inquiry->domain));
    log_seconds(&line, "wait", wait_ms);
    log_bool(&line, "known", is_known);
    log_end(&line);
}

/* The cache has a clock of its own: what a step moves is moved first. */
static bool fetch_failed(const struct sts *sts, const char *domain)
{
    (void)deliver_now(sts->deliver);
    return sts_cache_has_failure(sts->cache, domain);
}

static void note_failure(struct inquiry *inquiry, const char *text)
{
    (void)deliver_now(inquiry->sts->deliver);
    log_failed(inquiry, text, sts_cache_note_failure(inquiry->sts->cache, inquiry->domain));
}

/* RFC 8460 4.3.2.2: of mail that waited for it. */
static void tally_failure(const struct inquiry *inquiry, enum deliver_sts_fetch result,
                          const char *text)
{
    struct tally_session session = {.domain = inquiry->domain,
                                    .type = TALLY_STS,
                                    .policy = "",
                                    .result =
                                        result == DELIVER_STS_NO_TLS    ? TALLY_STS_WEBPKI
                                        : result == DELIVER_STS_INVALID ? TALLY_STS_INVALID
                                                                        : TALLY_STS_FETCH,
                                    .texts = {[TALLY_REASON] = text}};

    if (inquiry->asks.count > 0)
        tls_report_count(inquiry->sts->deliver->tls_report, &session);
}

/* Too many handshakes of our own are no answer: as long as nothing is known. */
static bool wants_again(const struct inquiry *inquiry, enum deliver_sts_fetch result)
{
    return result == DELIVER_STS_BUSY &&
           !sts_cache_find(inquiry->sts->cache, inquiry->domain) &&
           inquiry->until_ms - loop_now_ms(inquiry->sts->deliver->rooms.loop) >
               (int64_t)2 * BUSY_AGAIN_MS;
}

static void on_fetched(void *owner, enum deliver_sts_fetch result,
                       struct sts_policy *policy, const char *text)
{
    struct inquiry *inquiry = owner;
    struct sts *sts = inquiry->sts;

    inquiry->fetch = NULL;
    sts->fetching--;
    sts->deliver->statistics.sts_fetches[result]++;
    if (wants_again(inquiry, result)) {
        timer_start(&inquiry->again, BUSY_AGAIN_MS);
        fetch_next(sts);
        return;
    }
    if (policy) {
        log_fetched(inquiry, policy);
        sts_cache_put(sts->cache, inquiry->domain, inquiry->id, policy);
    } else if (result == DELIVER_STS_BUSY) { /* whose fault is ours */
        end_without_place(inquiry);
        return;
    } else {
        tally_failure(inquiry, result, text);
        note_failure(inquiry, text);
    }
    end_with_known(inquiry);
}

static void fetch(struct inquiry *inquiry)
{
    struct sts *sts = inquiry->sts;

    timer_cancel(&inquiry->patience);
    sts->fetching++;
    /* All of the time, however long the turn took: what ends early is taken for the domain's own fault. */
    inquiry->fetch = sts_fetch_start(sts->deliver, inquiry->domain, sts->patience_ms,
                                     on_fetched, inquiry);
}

static void on_again(void *owner)
{
    struct inquiry *inquiry = owner;
    struct sts *sts = inquiry->sts;

    timer_start(&inquiry->patience,
                inquiry->until_ms - loop_now_ms(sts->deliver->rooms.loop) - 1);
    list_push_front(&sts->waiting, &inquiry->turn);
    fetch_next(sts);
}

static void fetch_next(struct sts *sts)
{
    struct link *link;

    while (sts->fetching < LIMIT_STS_FETCHES && (link = list_pop_front(&sts->waiting)))
        fetch(CONTAINER_OF(link, struct inquiry, turn));
}

/* Its turn did not come: servers of others hold all the places. That is no failure of its own. */
static void on_patience(void *owner)
{
    struct inquiry *inquiry = owner;

    if (link_is_in_list(&inquiry->turn))
        end_without_place(inquiry);
    else
        end_with_known(inquiry);
}

static void wait_for_turn(struct inquiry *inquiry)
{
    struct sts *sts = inquiry->sts;

    inquiry->until_ms = loop_now_ms(sts->deliver->rooms.loop) + sts->patience_ms;
    timer_start(&inquiry->patience, sts->patience_ms - 1);
    list_push_back(&sts->waiting, &inquiry->turn);
    fetch_next(sts);
}

/* ---- usable DANE goes before (RFC 8461 2) ---- */

static void ask_dane(struct inquiry *inquiry);

static void on_dane(void *owner)
{
    struct inquiry *inquiry = owner;
    enum dane_wish wish = dane_wish(inquiry->dane);

    dane_free(inquiry->dane);
    inquiry->dane = NULL;
    if (wish != DANE_WANTS_MATCH) {
        wait_for_turn(inquiry);
        return;
    }
    inquiry->host_at++;
    ask_dane(inquiry);
}

static void ask_dane(struct inquiry *inquiry)
{
    struct dane_request request = {.domain = inquiry->domain, .port = inquiry->plan.port};

    if (inquiry->host_at == inquiry->plan.host_count) {
        end(inquiry, STS_LEFT_TO_DANE, NULL);
        return;
    }
    request.host = inquiry->plan.hosts[inquiry->host_at].name;
    inquiry->dane = dane_start(inquiry->sts->deliver, &request, on_dane, inquiry);
}

/* ---- the TXT record ---- */

static void judge_id(struct inquiry *inquiry)
{
    struct sts_cache *cache = inquiry->sts->cache;
    const struct sts_record *record = sts_cache_find(cache, inquiry->domain);
    bool is_new = !record || strcmp(record->id, inquiry->id) != 0;

    if (inquiry->id[0] == '\0' || fetch_failed(inquiry->sts, inquiry->domain) ||
        (!is_new && !inquiry->is_refresh))
        end_with_known(inquiry);
    else if (inquiry->wants_dane && inquiry->plan.host_count > 0)
        ask_dane(inquiry);
    else
        wait_for_turn(inquiry);
}

static void on_txt(void *owner, const struct dns_answer *answer)
{
    struct inquiry *inquiry = owner;

    inquiry->lookup = NULL;
    if (answer->result == RESULT_OK)
        (void)sts_record_id(answer->txt, answer->txt_count, inquiry->id);
    /* It would be asked again by every message; with a policy that is known it is. */
    if (answer->result == RESULT_DNS_FAILURE &&
        !fetch_failed(inquiry->sts, inquiry->domain))
        note_failure(inquiry, answer->text[0] ? answer->text : "DNS look-up failed");
    judge_id(inquiry);
}

static void ask_id(struct inquiry *inquiry)
{
    char name[sizeof inquiry->domain + 16];

    (void)snprintf(name, sizeof name, "_mta-sts.%s", inquiry->domain);
    inquiry->lookup = lookup_start(inquiry->sts->deliver->rooms.resolver, LOOKUP_TXT, name,
                                   on_txt, inquiry);
}

static void begin(struct inquiry *inquiry)
{
    if (fetch_failed(inquiry->sts, inquiry->domain))
        timer_start(&inquiry->patience, 0); /* what is known, from the loop */
    else
        ask_id(inquiry);
}

static struct inquiry *inquiry_new(struct sts *sts, const char *domain)
{
    struct inquiry *inquiry = NEW(struct inquiry);

    (void)snprintf(inquiry->domain, sizeof inquiry->domain, "%s", domain);
    if (map_set(sts->inquiries, slice_of(inquiry->domain), inquiry) != RESULT_OK) {
        memory_free(inquiry);
        return NULL;
    }
    inquiry->sts = sts;
    list_init(&inquiry->asks);
    timer_init(&inquiry->patience, sts->deliver->rooms.loop, on_patience, inquiry);
    timer_init(&inquiry->again, sts->deliver->rooms.loop, on_again, inquiry);
    list_push_back(&sts->all, &inquiry->link);
    return inquiry;
}

/* ---- who asks ---- */

static void copy_plan(struct inquiry *inquiry, const struct plan *plan)
{
    inquiry->wants_dane = true;
    inquiry->plan.port = plan->port;
    inquiry->plan.host_count = plan->host_count;
    inquiry->plan.hosts =
        plan->host_count > 0
            ? memory_copy(plan->hosts, plan->host_count * sizeof *plan->hosts)
            : NULL;
}

static void on_none(void *owner)
{
    struct sts_ask *ask = owner;
    const struct sts_record *record =
        ask->domain ? sts_cache_find(ask->sts->cache, ask->domain) : NULL;
    struct sts_policy *policy = record ? sts_policy_ref(record->policy) : NULL;

    answer(ask, record || !ask->domain ? STS_IS_KNOWN : STS_HAD_NO_PLACE,
           policy && sts_policy_mode(policy) != STS_NONE ? policy : NULL);
    sts_policy_unref(policy);
}

struct sts_ask *sts_ask_start(struct sts *sts, const char *domain, const struct plan *plan,
                              sts_end_fn *on_end, void *owner)
{
    struct sts_ask *ask = NEW(struct sts_ask);
    struct inquiry *inquiry = map_get(sts->inquiries, slice_of(domain));

    ask->sts = sts;
    ask->on_end = on_end;
    ask->owner = owner;
    if (!inquiry && sts_is_domain(domain) && (inquiry = inquiry_new(sts, domain))) {
        if (plan)
            copy_plan(inquiry, plan);
        if (sts->is_loaded)
            begin(inquiry);
    }
    if (inquiry) {
        ask->inquiry = inquiry;
        list_push_back(&inquiry->asks, &ask->link);
    } else {
        ask->domain = sts_is_domain(domain) ? memory_text(domain) : NULL;
        loop_defer(sts->deliver->rooms.loop, &ask->none, on_none, ask);
    }
    return ask;
}

void sts_ask_cancel(struct sts_ask *ask)
{
    if (!ask)
        return;
    if (ask->inquiry)
        list_remove(&ask->inquiry->asks, &ask->link);
    deferred_cancel(ask->sts->deliver->rooms.loop, &ask->none);
    memory_free(ask->domain);
    memory_free(ask);
}

void sts_ask_again(struct sts *sts)
{
    for (struct link *link = list_first(&sts->all); link;
         link = list_next(&sts->all, link)) {
        struct inquiry *inquiry = CONTAINER_OF(link, struct inquiry, link);

        if (inquiry->lookup) {
            lookup_cancel(inquiry->lookup);
            ask_id(inquiry);
        }
        sts_fetch_ask_again(inquiry->fetch); /* DANE's are asked again by themselves */
    }
}

const struct sts_record *sts_known(struct sts *sts, const char *domain, bool *has_failed)
{
    *has_failed = fetch_failed(sts, domain);
    return sts_cache_find(sts->cache, domain);
}

void sts_set_patience(struct sts *sts, int64_t patience_ms)
{
    sts->patience_ms = patience_ms;
}

size_t sts_count(const struct sts *sts)
{
    return sts_cache_count(sts->cache);
}

/* ---- upkeep ---- */

static bool refresh(void *owner, const struct sts_record *record)
{
    struct sts *sts = owner;
    struct inquiry *inquiry;

    if (sts->refreshing >= LIMIT_STS_REFRESHES)
        return false;
    if (map_get(sts->inquiries, slice_of(record->domain)))
        return true;
    inquiry = inquiry_new(sts, record->domain);
    if (!inquiry)
        return false;
    inquiry->is_refresh = true;
    sts->refreshing++;
    begin(inquiry);
    return true;
}

static void on_tidy(void *owner)
{
    struct sts *sts = owner;

    timer_start(&sts->tidy, TIDY_MS);
    if (!sts->is_loaded || sts->deliver->is_draining || !sts->deliver->settings)
        return;
    sts_cache_tidy(sts->cache);
    sts_cache_each_stale(sts->cache, refresh, sts);
}

static void on_loaded(void *owner)
{
    struct sts *sts = owner;

    sts->is_loaded = true;
    for (struct link *link = list_first(&sts->all); link; link = list_next(&sts->all, link))
        begin(CONTAINER_OF(link, struct inquiry, link));
}

void sts_move_clock(struct sts *sts, int64_t by_ms)
{
    sts_cache_move_clock(sts->cache, by_ms);
}

struct sts *sts_new(struct deliver *deliver)
{
    struct sts *sts = NEW(struct sts);
    char *folder = memory_format("%s/mta-sts",
                                 deliver->rooms.data_dir ? deliver->rooms.data_dir : ".");

    sts->deliver = deliver;
    sts->patience_ms = FETCH_MS;
    sts->inquiries = map_new(INQUIRIES_MAX);
    list_init(&sts->all);
    list_init(&sts->waiting);
    timer_init(&sts->tidy, deliver->rooms.loop, on_tidy, sts);
    timer_start(&sts->tidy, TIDY_MS);
    sts->cache = sts_cache_new(deliver->rooms.loop,
                               deliver->rooms.data_dir ? deliver->rooms.offload : NULL,
                               folder, on_loaded, sts);
    memory_free(folder);
    return sts;
}

/* Whoever asked has cancelled: lanes go first. */
void sts_free(struct sts *sts)
{
    struct link *link;

    if (!sts)
        return;
    while ((link = list_first(&sts->all)))
        inquiry_free(CONTAINER_OF(link, struct inquiry, link));
    timer_cancel(&sts->tidy);
    sts_cache_free(sts->cache);
    map_free(sts->inquiries);
    memory_free(sts);
}
