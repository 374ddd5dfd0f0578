/* The door to the DNS. A look-up is what a caller started; a job is what the look-ups of
 * one question share: one or two exchanges (an address is A and AAAA) and one deadline. A
 * job whose look-ups were all cancelled goes on if it was asked already: its answer is
 * worth keeping.
 *
 * Answers that are known at once (from the cache, or of names that cannot be) get a look-up
 * without a job, delivered on the next turn of the loop. */
#include "smtpd/net/resolver.h"

#include "dns_cache.h"
#include "dns_client.h"
#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { DEFAULT_DEADLINE_MS = 30000, HALVES = 2, KEY_BYTES = 1 + DNS_WIRE_NAME };

struct resolver {
    struct loop *loop;
    struct dns_client *client;
    struct dns_cache *cache;
    struct map *jobs_by_key;
    struct list jobs;
    struct list known; /* look-ups whose answer is known */
    int64_t deadline_ms;
    struct resolver_statistics statistics;
    struct dns_space space; /* for answers that do not come from the client just now */
};

struct lookup {
    struct link link;
    struct list *list; /* where it stands */
    struct resolver *resolver;
    struct job *job; /* NULL: its answer is known */
    lookup_end_fn *on_end;
    void *owner;
    struct deferred deferred;
    struct dns_packed *packed; /* known, from the cache */
    enum result result;        /* known, without records */
    const char *text;
};

/* One exchange and what remains of its answer while the other one is not there. */
struct half {
    struct job *job;
    struct dns_exchange *exchange; /* NULL: over */
    enum result result;
    int64_t ttl_ms;
    bool is_authentic;
    size_t address_count;
    struct ip addresses[DNS_ANSWER_ADDRESSES];
    char text[128];
};

struct job {
    struct link link;
    struct resolver *resolver;
    enum lookup_kind kind;
    struct list lookups;
    struct timer deadline;
    char *canonical; /* of the first half that had one; NULL: none */
    size_t key_length;
    char key[KEY_BYTES]; /* the kind as a letter, the name */
    size_t half_count;
    struct half halves[];
};

/* What each kind asks for. */
static const struct kind {
    char letter;
    const char *name;
    size_t half_count;
    enum record_type types[HALVES];
} kinds[] = {
    [LOOKUP_MX] = {'M', "MX", 1, {RECORD_MX}},
    [LOOKUP_IPV4] = {'4', "A", 1, {RECORD_A}},
    [LOOKUP_ADDRESS] = {'A', "addresses", 2, {RECORD_AAAA, RECORD_A}},
    [LOOKUP_PTR] = {'P', "PTR", 1, {RECORD_PTR}},
    [LOOKUP_TXT] = {'T', "TXT", 1, {RECORD_TXT}},
    [LOOKUP_CNAME] = {'C', "CNAME", 1, {RECORD_CNAME}},
    [LOOKUP_TLSA] = {'S', "TLSA", 1, {RECORD_TLSA}},
};

/* ---- look-ups and jobs ---- */

static void lookup_move(struct lookup *lookup, struct list *list)
{
    if (lookup->list)
        list_remove(lookup->list, &lookup->link);
    lookup->list = list;
    list_push_back(list, &lookup->link);
}

static void lookup_free(struct lookup *lookup)
{
    list_remove(lookup->list, &lookup->link);
    deferred_cancel(lookup->resolver->loop, &lookup->deferred);
    dns_packed_free(lookup->packed);
    memory_free(lookup);
}

static struct slice job_key(const struct job *job)
{
    return (struct slice){job->key, job->key_length};
}

static void job_free(struct job *job)
{
    for (size_t i = 0; i < job->half_count; i++)
        if (job->halves[i].exchange)
            dns_exchange_cancel(job->halves[i].exchange);
    timer_cancel(&job->deadline);
    (void)map_remove(job->resolver->jobs_by_key, job_key(job));
    list_remove(&job->resolver->jobs, &job->link);
    memory_free(job->canonical);
    memory_free(job);
}

static void count_answer(struct resolver_statistics *statistics, enum result result)
{
    if (result == RESULT_OK)
        statistics->answers_ok++;
    else if (result == RESULT_DNS_FAILURE)
        statistics->answers_failed++;
    else
        statistics->answers_negative++;
}

/* Keeps the answer, gives it to all that wait for it, and is gone. */
static void job_finish(struct job *job, struct dns_space *space)
{
    struct resolver *resolver = job->resolver;
    struct dns_answer *answer = &space->answer;
    struct list lookups;
    struct link *link;

    answer->ttl_ms = dns_cache_ttl_ms(answer->result, answer->ttl_ms);
    if (answer->result == RESULT_DNS_FAILURE) {
        char reason[sizeof answer->text];

        memcpy(reason, answer->text, sizeof reason);
        (void)snprintf(answer->text, sizeof answer->text, "DNS, %s of %.60s: %.75s",
                       kinds[job->kind].name, job->key + 1, reason);
    }
    dns_cache_put(resolver->cache, job_key(job), answer, loop_now_ms(resolver->loop));
    count_answer(&resolver->statistics, answer->result);

    /* A callback may cancel its neighbours, or ask again: so the job is gone before the
     * first call, and those not called yet stand in a list. */
    list_init(&lookups);
    while ((link = list_first(&job->lookups))) {
        struct lookup *lookup = CONTAINER_OF(link, struct lookup, link);

        lookup->job = NULL;
        lookup_move(lookup, &lookups);
    }
    job_free(job);
    while ((link = list_first(&lookups))) {
        struct lookup *lookup = CONTAINER_OF(link, struct lookup, link);
        lookup_end_fn *on_end = lookup->on_end;
        void *owner = lookup->owner;

        lookup_free(lookup);
        on_end(owner, answer);
    }
}

/* ---- two answers make one ---- */

static void half_keep(struct half *half, const struct dns_answer *answer)
{
    half->result = answer->result;
    half->ttl_ms = answer->ttl_ms;
    half->is_authentic = answer->is_authentic;
    half->address_count = answer->address_count;
    if (answer->address_count > 0)
        memcpy(half->addresses, answer->addresses,
               answer->address_count * sizeof(struct ip));
    (void)snprintf(half->text, sizeof half->text, "%.120s", answer->text);
    if (answer->canonical && !half->job->canonical)
        half->job->canonical = memory_text(answer->canonical);
}

static enum result merged_result(enum result a, enum result b)
{
    if (a == RESULT_OK || b == RESULT_OK)
        return RESULT_OK;
    if (a == RESULT_DNS_FAILURE || b == RESULT_DNS_FAILURE)
        return RESULT_DNS_FAILURE;
    /* Where one says that the name exists, it does. */
    return a == b ? a : RESULT_DNS_NODATA;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void add_addresses(struct dns_space *space, const struct half *half, size_t most)
{
    size_t count = smaller(half->address_count, most);

    if (count > 0)
        memcpy(space->addresses + space->answer.address_count, half->addresses,
               count * sizeof(struct ip));
    space->answer.address_count += count;
}

/* A family that failed has no say: who sits on the way can make it fail, and must not make us
 * take the other for less than it is. */
static bool merged_is_authentic(const struct half *six, const struct half *four)
{
    if (six->result == RESULT_DNS_FAILURE)
        return four->is_authentic;
    return six->is_authentic && (four->is_authentic || four->result == RESULT_DNS_FAILURE);
}

static void merge(const struct half *six, const struct half *four, struct dns_space *space)
{
    const char *canonical = six->job->canonical;
    const struct half *failed = six->result == RESULT_DNS_FAILURE ? six : four;

    dns_space_reset(space, merged_result(six->result, four->result), NULL);
    if (space->answer.result == RESULT_DNS_FAILURE)
        (void)snprintf(space->answer.text, sizeof space->answer.text, "%s", failed->text);
    /* Neither family may push out the other. */
    add_addresses(space, six,
                  DNS_ANSWER_ADDRESSES -
                      smaller(four->address_count, LIMIT_HOST_ADDRESSES));
    add_addresses(space, four, DNS_ANSWER_ADDRESSES - space->answer.address_count);
    space->answer.is_authentic = merged_is_authentic(six, four);
    if (canonical) {
        (void)snprintf(space->canonical, sizeof space->canonical, "%s", canonical);
        space->answer.canonical = space->canonical;
    }
    if (six->result == RESULT_OK && four->result == RESULT_OK)
        space->answer.ttl_ms = six->ttl_ms < four->ttl_ms ? six->ttl_ms : four->ttl_ms;
    else if (failed->result != RESULT_DNS_FAILURE) /* else 0: the least that is kept */
        space->answer.ttl_ms = six->result == RESULT_OK ? six->ttl_ms : four->ttl_ms;
}

static void on_exchange_end(void *owner, struct dns_space *space)
{
    struct half *half = owner;
    struct job *job = half->job;

    half->exchange = NULL;
    if (job->half_count == HALVES) {
        half_keep(half, &space->answer);
        if (job->halves[0].exchange || job->halves[1].exchange)
            return;
        merge(&job->halves[0], &job->halves[1], space);
    }
    job_finish(job, space);
}

static void on_deadline(void *owner)
{
    struct job *job = owner;
    struct resolver *resolver = job->resolver;
    struct dns_space *space = &resolver->space;
    char text[64];

    (void)snprintf(text, sizeof text, "no answer within %lld ms",
                   (long long)resolver->deadline_ms);
    dns_space_reset(space, RESULT_DNS_FAILURE, text);
    for (size_t i = 0; i < job->half_count; i++) {
        struct half *half = &job->halves[i];

        if (!half->exchange)
            continue;
        dns_exchange_cancel(half->exchange);
        half->exchange = NULL;
        half_keep(half, &space->answer);
    }
    if (job->half_count == HALVES)
        merge(&job->halves[0], &job->halves[1], space);
    job_finish(job, space);
}

static struct job *job_new(struct resolver *resolver, enum lookup_kind kind,
                           struct slice key, const struct dns_question *questions)
{
    const struct kind *about = &kinds[kind];
    struct job *job = memory_new(sizeof *job + about->half_count * sizeof(struct half));

    job->resolver = resolver;
    job->kind = kind;
    list_init(&job->lookups);
    job->key_length = key.length;
    memcpy(job->key, key.data, key.length);
    CHECK(map_set(resolver->jobs_by_key, key, job) == RESULT_OK);
    list_push_back(&resolver->jobs, &job->link);
    timer_init(&job->deadline, resolver->loop, on_deadline, job);
    timer_start(&job->deadline, resolver->deadline_ms);
    job->half_count = about->half_count;
    for (size_t i = 0; i < job->half_count; i++) {
        job->halves[i].job = job;
        job->halves[i].exchange = dns_exchange_start(resolver->client, &questions[i],
                                                     on_exchange_end, &job->halves[i]);
    }
    return job;
}

/* ---- look-ups whose answer is known ---- */

static void on_known(void *owner)
{
    struct lookup *lookup = owner;
    struct resolver *resolver = lookup->resolver;
    lookup_end_fn *on_end = lookup->on_end;
    void *on_end_owner = lookup->owner;

    if (lookup->packed) {
        dns_unpack(lookup->packed, loop_now_ms(resolver->loop), &resolver->space);
    } else {
        dns_space_reset(&resolver->space, lookup->result, lookup->text);
        resolver->space.answer.ttl_ms = dns_cache_ttl_ms(lookup->result, 0);
    }
    lookup_free(lookup);
    on_end(on_end_owner, &resolver->space.answer);
}

static void lookup_know(struct lookup *lookup, enum result result, const char *text)
{
    struct resolver *resolver = lookup->resolver;

    lookup->result = result;
    lookup->text = text;
    lookup_move(lookup, &resolver->known);
    loop_defer(resolver->loop, &lookup->deferred, on_known, lookup);
}

/* ---- door ---- */

enum result resolver_new(struct loop *loop, const struct resolver_settings *settings,
                         struct resolver **resolver, struct fault *fault)
{
    struct resolver *made = NEW(struct resolver);
    enum result result = dns_client_open(loop, settings, &made->client, fault);

    *resolver = NULL;
    if (result != RESULT_OK) {
        memory_free(made);
        return result;
    }
    made->loop = loop;
    made->deadline_ms =
        settings->deadline_ms > 0 ? settings->deadline_ms : DEFAULT_DEADLINE_MS;
    made->cache = dns_cache_new(LIMIT_DNS_CACHE);
    made->jobs_by_key = map_new(LIMIT_DNS_WAITING + LIMIT_DNS_IN_FLIGHT);
    list_init(&made->jobs);
    list_init(&made->known);
    *resolver = made;
    return RESULT_OK;
}

static void lookups_free(struct list *lookups)
{
    struct link *link;

    while ((link = list_first(lookups)))
        lookup_free(CONTAINER_OF(link, struct lookup, link));
}

void resolver_free(struct resolver *resolver)
{
    struct link *link;

    if (!resolver)
        return;
    while ((link = list_first(&resolver->jobs))) {
        struct job *job = CONTAINER_OF(link, struct job, link);

        lookups_free(&job->lookups);
        job_free(job);
    }
    lookups_free(&resolver->known);
    dns_client_close(resolver->client);
    dns_cache_free(resolver->cache);
    map_free(resolver->jobs_by_key);
    memory_free(resolver);
}

/* The questions of a kind, and the key that stands for them. False: no such name can exist.
 */
static bool prepare(enum lookup_kind kind, const char *name, struct dns_question *questions,
                    char key[KEY_BYTES])
{
    for (size_t i = 0; i < kinds[kind].half_count; i++)
        if (dns_question_set(&questions[i], name, kinds[kind].types[i]) != RESULT_OK)
            return false;
    key[0] = kinds[kind].letter;
    (void)snprintf(key + 1, KEY_BYTES - 1, "%s", name);
    for (char *at = key + 1; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at + ('a' - 'A'));
    return true;
}

bool resolver_knows(struct resolver *resolver, enum lookup_kind kind, const char *name)
{
    struct dns_question questions[HALVES];
    char text[KEY_BYTES];

    return !prepare(kind, name, questions, text) ||
           dns_cache_get(resolver->cache, slice_of(text), loop_now_ms(resolver->loop));
}

struct lookup *lookup_start(struct resolver *resolver, enum lookup_kind kind,
                            const char *name, lookup_end_fn *on_end, void *owner)
{
    struct lookup *lookup = NEW(struct lookup);
    struct dns_question questions[HALVES];
    const struct dns_packed *cached;
    char text[KEY_BYTES];
    struct slice key;

    lookup->resolver = resolver;
    lookup->on_end = on_end;
    lookup->owner = owner;
    if (!prepare(kind, name, questions, text)) {
        lookup_know(lookup, RESULT_DNS_NXDOMAIN, NULL);
        return lookup;
    }
    key = slice_of(text);
    cached = dns_cache_get(resolver->cache, key, loop_now_ms(resolver->loop));
    if (cached) {
        resolver->statistics.cache_hits++;
        lookup->packed = dns_packed_copy(cached);
        lookup_know(lookup, RESULT_OK, NULL);
        return lookup;
    }
    lookup->job = map_get(resolver->jobs_by_key, key);
    if (!lookup->job) {
        if (!dns_client_has_room(resolver->client, kinds[kind].half_count)) {
            lookup_know(lookup, RESULT_DNS_FAILURE, "too many DNS questions are waiting");
            return lookup;
        }
        lookup->job = job_new(resolver, kind, key, questions);
    }
    lookup_move(lookup, &lookup->job->lookups);
    return lookup;
}

struct lookup *lookup_start_ptr(struct resolver *resolver, const struct ip *ip,
                                lookup_end_fn *on_end, void *owner)
{
    char name[DNS_REVERSE_NAME];

    dns_question_reverse_name(ip, name);
    return lookup_start(resolver, LOOKUP_PTR, name, on_end, owner);
}

static bool is_asked(const struct job *job)
{
    for (size_t i = 0; i < job->half_count; i++)
        if (!job->halves[i].exchange || !dns_exchange_is_waiting(job->halves[i].exchange))
            return true;
    return false;
}

void lookup_cancel(struct lookup *lookup)
{
    struct job *job;

    if (!lookup)
        return;
    job = lookup->job;
    lookup_free(lookup);
    if (job && job->lookups.count == 0 && !is_asked(job))
        job_free(job);
}

void resolver_statistics(const struct resolver *resolver,
                         struct resolver_statistics *statistics)
{
    *statistics = resolver->statistics;
    dns_client_statistics(resolver->client, statistics);
    statistics->cache_entries = dns_cache_count(resolver->cache);
}
