/* Lists below a map of domains. The failures of a policy are few kinds, so a walk finds one. */
#include "tally.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { DOMAIN_BYTES = 300, POLICY_BYTES = 120, FAILURE_BYTES = 160 }; /* beside the texts */

struct tally {
    struct map *by_domain; /* of those that are being counted */
    struct list open;
    struct list closed;
    size_t bytes;
    size_t ceiling;
};

/* ---- words ---- */

const char *tally_type_name(enum tally_type type)
{
    static const char *const names[TALLY_TYPES] = {
        [TALLY_NO_POLICY] = "no-policy-found", [TALLY_STS] = "sts", [TALLY_TLSA] = "tlsa"};

    return names[type];
}

const char *tally_result_name(enum tally_result result)
{
    static const char *const names[TALLY_RESULTS] = {
        [TALLY_SUCCESS] = "success",
        [TALLY_NO_STARTTLS] = "starttls-not-supported",
        [TALLY_EXPIRED] = "certificate-expired",
        [TALLY_NAME_MISMATCH] = "certificate-host-mismatch",
        [TALLY_UNTRUSTED] = "certificate-not-trusted",
        [TALLY_VALIDATION] = "validation-failure",
        [TALLY_TLSA_INVALID] = "tlsa-invalid",
        [TALLY_DNSSEC_INVALID] = "dnssec-invalid",
        [TALLY_DANE_REQUIRED] = "dane-required",
        [TALLY_STS_FETCH] = "sts-policy-fetch-error",
        [TALLY_STS_INVALID] = "sts-policy-invalid",
        [TALLY_STS_WEBPKI] = "sts-webpki-invalid"};

    return names[result];
}

/* Cut, and printable: it goes into a file of lines, and into JSON. */
static void clean(const char *text, char *into, size_t into_bytes)
{
    size_t length = 0;

    for (; text && *text && length + 1 < into_bytes; text++) {
        unsigned char byte = (unsigned char)*text;

        into[length++] = (char)(byte >= ' ' && byte <= '~' ? byte : '?');
    }
    into[length] = '\0';
}

/* ---- life ---- */

static size_t failure_bytes(const struct tally_failure *failure)
{
    size_t bytes = FAILURE_BYTES;

    for (int i = 0; i < TALLY_TEXTS; i++)
        bytes += strlen(failure->texts[i]) + 1;
    return bytes;
}

static void failure_free(struct tally *tally, struct tally_failure *failure)
{
    tally->bytes -= failure_bytes(failure);
    for (int i = 0; i < TALLY_TEXTS; i++)
        memory_free(failure->texts[i]);
    memory_free(failure);
}

static void forget_policies(struct tally *tally, struct tally_domain *domain)
{
    struct link *link;
    struct link *kind;

    while ((link = list_pop_front(&domain->policies))) {
        struct tally_policy *policy = CONTAINER_OF(link, struct tally_policy, link);

        while ((kind = list_pop_front(&policy->kinds)))
            failure_free(tally, CONTAINER_OF(kind, struct tally_failure, link));
        tally->bytes -= POLICY_BYTES + strlen(policy->text);
        memory_free(policy->text);
        memory_free(policy);
    }
}

static void domain_free(struct tally *tally, struct tally_domain *domain)
{
    if (domain->end_ms == 0)
        (void)map_remove(tally->by_domain, slice_of(domain->domain));
    list_remove(domain->end_ms == 0 ? &tally->open : &tally->closed, &domain->link);
    forget_policies(tally, domain);
    tally->bytes -= DOMAIN_BYTES + strlen(domain->domain);
    memory_free(domain->domain);
    memory_free(domain);
}

struct tally *tally_new(void)
{
    struct tally *tally = NEW(struct tally);

    tally->by_domain = map_new(LIMIT_TLS_REPORT_DOMAINS);
    tally->ceiling = LIMIT_TLS_REPORT_BYTES;
    list_init(&tally->open);
    list_init(&tally->closed);
    return tally;
}

void tally_free(struct tally *tally)
{
    struct link *link;

    if (!tally)
        return;
    while ((link = list_first(&tally->open)) || (link = list_first(&tally->closed)))
        domain_free(tally, CONTAINER_OF(link, struct tally_domain, link));
    map_free(tally->by_domain);
    memory_free(tally);
}

void tally_set_ceiling(struct tally *tally, size_t bytes)
{
    tally->ceiling = bytes;
}

struct list *tally_open(struct tally *tally)
{
    return &tally->open;
}

struct list *tally_closed(struct tally *tally)
{
    return &tally->closed;
}

const struct tally_domain *tally_find(const struct tally *tally, const char *domain)
{
    return map_get(tally->by_domain, slice_of(domain));
}

/* ---- what is put there ---- */

static bool has_room(const struct tally *tally)
{
    return tally->bytes < tally->ceiling;
}

struct tally_domain *tally_put_domain(struct tally *tally, const char *domain,
                                      int64_t begin_ms, int64_t end_ms)
{
    struct tally_domain *put;
    char name[TALLY_DOMAIN_TEXT];

    clean(domain, name, sizeof name);
    if (!has_room(tally) ||
        tally->open.count + tally->closed.count >= LIMIT_TLS_REPORT_DOMAINS ||
        (end_ms == 0 && map_get(tally->by_domain, slice_of(name))))
        return NULL;
    put = NEW(struct tally_domain);
    put->domain = memory_text(name);
    put->begin_ms = begin_ms;
    put->end_ms = end_ms;
    list_init(&put->policies);
    tally->bytes += DOMAIN_BYTES + strlen(name);
    list_push_back(end_ms == 0 ? &tally->open : &tally->closed, &put->link);
    if (end_ms == 0 && map_set(tally->by_domain, slice_of(put->domain), put) != RESULT_OK) {
        domain_free(tally, put);
        return NULL;
    }
    return put;
}

struct tally_policy *tally_put_policy(struct tally *tally, struct tally_domain *domain,
                                      enum tally_type type, const char *text)
{
    struct tally_policy *last = NULL;
    struct tally_policy *put;
    char lines[TALLY_POLICY_TEXT];

    clean(text, lines, sizeof lines);
    for (struct link *link = list_first(&domain->policies); link;
         link = list_next(&domain->policies, link)) {
        put = CONTAINER_OF(link, struct tally_policy, link);
        if (put->type != type)
            continue;
        if (strcmp(put->text, lines) == 0)
            return put;
        last = put;
    }
    if (last && (domain->policies.count >= TALLY_POLICIES_MAX || !has_room(tally)))
        return last;
    put = NEW(struct tally_policy);
    put->type = type;
    put->text = memory_text(has_room(tally) ? lines : "");
    list_init(&put->kinds);
    tally->bytes += POLICY_BYTES + strlen(put->text);
    list_push_back(&domain->policies, &put->link);
    return put;
}

bool tally_put_failure(struct tally *tally, struct tally_policy *policy,
                       const struct tally_failure *failure)
{
    struct tally_failure *put;
    char text[TALLY_FAILURE_TEXT];

    if (policy->kinds.count >= TALLY_FAILURES_MAX || !has_room(tally))
        return false;
    put = NEW(struct tally_failure);
    put->result = failure->result;
    put->count = failure->count;
    for (int i = 0; i < TALLY_TEXTS; i++) {
        clean(failure->texts[i], text, sizeof text);
        put->texts[i] = memory_text(text);
    }
    tally->bytes += failure_bytes(put);
    list_push_back(&policy->kinds, &put->link);
    return true;
}

/* ---- counting ---- */

static bool is_same(const struct tally_failure *failure,
                    const struct tally_session *session)
{
    char text[TALLY_FAILURE_TEXT];

    if (failure->result != session->result)
        return false;
    for (int i = 0; i < TALLY_TEXTS; i++) {
        clean(session->texts[i], text, sizeof text);
        if (strcmp(failure->texts[i], text) != 0)
            return false;
    }
    return true;
}

static void count_failure(struct tally *tally, struct tally_policy *policy,
                          const struct tally_session *session)
{
    struct tally_failure failure = {.result = session->result, .count = 1};

    policy->failures++;
    for (struct link *link = list_first(&policy->kinds); link;
         link = list_next(&policy->kinds, link)) {
        struct tally_failure *kind = CONTAINER_OF(link, struct tally_failure, link);

        if (is_same(kind, session)) {
            kind->count++;
            return;
        }
    }
    for (int i = 0; i < TALLY_TEXTS; i++)
        failure.texts[i] = (char *)(uintptr_t)session->texts[i]; /* it is copied */
    policy->dropped += !tally_put_failure(tally, policy, &failure);
}

bool tally_count(struct tally *tally, const struct tally_session *session, int64_t now_ms)
{
    struct tally_domain *domain = map_get(tally->by_domain, slice_of(session->domain));
    struct tally_policy *policy;

    if (!domain)
        domain =
            tally_put_domain(tally, session->domain, now_ms - now_ms % TALLY_DAY_MS, 0);
    if (!domain)
        return false;
    policy = tally_put_policy(tally, domain, session->type, session->policy);
    if (session->result == TALLY_SUCCESS)
        policy->successes++;
    else
        count_failure(tally, policy, session);
    return true;
}

uint64_t tally_sessions(const struct tally_domain *domain)
{
    uint64_t sessions = 0;

    for (const struct link *link = list_first(&domain->policies); link;
         link = list_next(&domain->policies, link)) {
        const struct tally_policy *policy =
            CONTAINER_OF((struct link *)(uintptr_t)link, struct tally_policy, link);

        sessions += policy->successes + policy->failures;
    }
    return sessions;
}

/* ---- the end of a day ---- */

static void shut(struct tally *tally, struct tally_domain *domain, int64_t end_ms)
{
    (void)map_remove(tally->by_domain, slice_of(domain->domain));
    list_remove(&tally->open, &domain->link);
    domain->end_ms = end_ms;
    list_push_back(&tally->closed, &domain->link);
}

void tally_close_day(struct tally *tally, int64_t end_ms)
{
    struct link *next;

    for (struct link *link = list_first(&tally->open); link; link = next) {
        struct tally_domain *domain = CONTAINER_OF(link, struct tally_domain, link);

        next = list_next(&tally->open, link);
        if (domain->begin_ms >= end_ms)
            continue;
        if (tally_sessions(domain) > 0)
            shut(tally, domain, end_ms);
        else
            domain_free(tally, domain);
    }
}

/* What is counted from now on must not be told as the whole day's. */
struct tally_domain *tally_close(struct tally *tally, const char *name, int64_t now_ms)
{
    struct tally_domain *domain = map_get(tally->by_domain, slice_of(name));

    if (!domain || tally_sessions(domain) == 0)
        return NULL;
    shut(tally, domain, now_ms);
    (void)tally_put_domain(tally, domain->domain, now_ms, 0);
    return domain;
}

void tally_move_back(struct tally *tally, struct tally_domain *closed)
{
    list_remove(&tally->closed, &closed->link);
    list_push_back(&tally->closed, &closed->link);
}

void tally_remove(struct tally *tally, struct tally_domain *closed)
{
    domain_free(tally, closed);
}
