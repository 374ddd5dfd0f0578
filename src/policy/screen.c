/* All lists are asked at once, beside the name; when every answer is there and the weights
 * are enough to reject, the heaviest list is asked for its words. Lists answer with an
 * address of 127.0.0.0/8 (RFC 5782); 127.255.255.0/24 is how they refuse to answer, to a
 * public resolver for instance, and no listing. */
#include "smtpd/policy/screen.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { TELL_MS = 10 * 60 * 1000, QUERY_NAME = 320 };

struct kept_list {
    char *zone;
    int weight;
    struct network *answers;
    size_t answer_count;
    int64_t told_ms; /* that it failed; 0: never */
};

struct set { /* of settings; lives as long as a screening that began with it */
    unsigned references;
    size_t list_count;
    int reject_weight;
    bool wants_name;
    struct kept_list lists[SCREEN_LISTS_MAX];
};

struct screen {
    struct loop *loop;
    struct resolver *resolver;
    struct set *set;
    struct list running;
    struct screen_statistics statistics;
};

struct question {
    struct screening *screening;
    struct lookup *lookup; /* NULL: answered */
};

struct screening {
    struct link link;
    struct screen *screen;
    struct set *set;
    struct ip peer;
    screening_end_fn *on_end;
    void *owner;
    struct timer deadline;
    size_t open; /* look-ups that run */
    struct question lists[SCREEN_LISTS_MAX];
    struct lookup *name; /* PTR, then its addresses */
    struct lookup *words;
    int heaviest; /* weight of result.zone */
    bool has_words;
    struct screen_result result;
};

/* ---- settings ---- */

static void set_unref(struct set *set)
{
    if (!set || --set->references > 0)
        return;
    for (size_t i = 0; i < set->list_count; i++) {
        memory_free(set->lists[i].zone);
        memory_free(set->lists[i].answers);
    }
    memory_free(set);
}

struct screen *screen_new(struct loop *loop, struct resolver *resolver)
{
    struct screen *screen = NEW(struct screen);

    screen->loop = loop;
    screen->resolver = resolver;
    list_init(&screen->running);
    return screen;
}

void screen_free(struct screen *screen)
{
    if (!screen)
        return;
    CHECK(screen->running.count == 0);
    set_unref(screen->set);
    memory_free(screen);
}

void screen_apply(struct screen *screen, const struct screen_settings *settings)
{
    struct set *set = NEW(struct set);

    CHECK(settings->list_count <= SCREEN_LISTS_MAX);
    set->references = 1;
    set->list_count = settings->list_count;
    set->reject_weight = settings->reject_weight;
    set->wants_name = settings->wants_name;
    for (size_t i = 0; i < settings->list_count; i++) {
        const struct screen_list *from = &settings->lists[i];

        set->lists[i].zone = memory_text(from->zone);
        set->lists[i].weight = from->weight;
        set->lists[i].answers =
            memory_copy(from->answers, from->answer_count * sizeof *from->answers);
        set->lists[i].answer_count = from->answer_count;
    }
    set_unref(screen->set);
    screen->set = set;
}

void screen_statistics(const struct screen *screen, struct screen_statistics *statistics)
{
    *statistics = (struct screen_statistics){0};
    if (screen)
        *statistics = screen->statistics;
}

/* ---- the end ---- */

static void cancel_lookups(struct screening *screening)
{
    for (size_t i = 0; i < screening->set->list_count; i++) {
        lookup_cancel(screening->lists[i].lookup);
        screening->lists[i].lookup = NULL;
    }
    lookup_cancel(screening->name);
    lookup_cancel(screening->words);
    screening->name = screening->words = NULL;
    screening->open = 0;
}

void screening_cancel(struct screening *screening)
{
    if (!screening)
        return;
    cancel_lookups(screening);
    timer_cancel(&screening->deadline);
    list_remove(&screening->screen->running, &screening->link);
    set_unref(screening->set);
    memory_free(screening);
}

static void finish(struct screening *screening)
{
    struct screen_result *result = &screening->result;
    struct screen_result kept;
    screening_end_fn *on_end = screening->on_end;
    void *owner = screening->owner;

    result->is_rejected =
        screening->heaviest > 0 && result->weight >= screening->set->reject_weight;
    kept = *result;
    screening_cancel(screening);
    on_end(owner, &kept);
}

/* ---- answers ---- */

static void keep_printable(char *into, struct slice text)
{
    size_t length = 0;

    for (size_t i = 0; i < text.length && length < SCREEN_TEXT - 1; i++)
        into[length++] = text.data[i] < 0x20 || text.data[i] > 0x7e ? '?' : text.data[i];
    into[length] = '\0';
}

static void tell_failure(struct screen *screen, struct kept_list *list, const char *why)
{
    struct log_line line;
    int64_t now_ms = loop_now_ms(screen->loop);

    screen->statistics.failed++;
    if (list->told_ms && now_ms < list->told_ms + TELL_MS)
        return;
    list->told_ms = now_ms > 0 ? now_ms : 1;
    log_start(&line, LOG_WARNING, "policy.dnsbl_failed");
    log_text(&line, "zone", list->zone);
    log_text(&line, "message", why);
    log_end(&line);
}

static bool is_refusal(const struct ip *ip)
{
    return ip_is_v4(ip) && ip->bytes[12] == 127 && ip->bytes[13] == 255 &&
           ip->bytes[14] == 255;
}

static bool counts(const struct kept_list *list, const struct dns_answer *answer)
{
    for (size_t i = 0; i < answer->address_count; i++)
        for (size_t k = 0; k < list->answer_count; k++)
            if (!is_refusal(&answer->addresses[i]) &&
                network_contains(&list->answers[k], &answer->addresses[i]))
                return true;
    return false;
}

static bool refuses(const struct dns_answer *answer)
{
    for (size_t i = 0; i < answer->address_count; i++)
        if (is_refusal(&answer->addresses[i]))
            return true;
    return false;
}

static void take_listing(struct screening *screening, const struct kept_list *list)
{
    struct screen_result *result = &screening->result;
    size_t length = strlen(result->lists);

    result->weight += list->weight;
    (void)snprintf(result->lists + length, sizeof result->lists - length, "%s%s=%d",
                   length > 0 ? " " : "", list->zone, list->weight);
    if (list->weight <= screening->heaviest)
        return;
    screening->heaviest = list->weight;
    (void)snprintf(result->zone, sizeof result->zone, "%s", list->zone);
}

static void query_name(const struct ip *ip, const char *zone, char name[QUERY_NAME])
{
    size_t length = 0;

    if (ip_is_v4(ip)) {
        (void)snprintf(name, QUERY_NAME, "%u.%u.%u.%u.%.255s", ip->bytes[15], ip->bytes[14],
                       ip->bytes[13], ip->bytes[12], zone);
        return;
    }
    for (int i = 15; i >= 0; i--)
        length += (size_t)snprintf(name + length, QUERY_NAME - length, "%x.%x.",
                                   ip->bytes[i] & 15u, ip->bytes[i] >> 4);
    (void)snprintf(name + length, QUERY_NAME - length, "%.255s", zone);
}

static void on_words(void *owner, const struct dns_answer *answer);

/* Nothing runs any more: the words of the list, or the end. */
static void step(struct screening *screening)
{
    char name[QUERY_NAME];

    if (screening->open > 0)
        return;
    if (screening->has_words || screening->heaviest <= 0 ||
        screening->result.weight < screening->set->reject_weight) {
        finish(screening);
        return;
    }
    screening->has_words = true;
    screening->open = 1;
    query_name(&screening->peer, screening->result.zone, name);
    screening->words =
        lookup_start(screening->screen->resolver, LOOKUP_TXT, name, on_words, screening);
}

static void on_words(void *owner, const struct dns_answer *answer)
{
    struct screening *screening = owner;

    screening->words = NULL;
    screening->open--;
    if (answer->result == RESULT_OK && answer->txt_count > 0)
        keep_printable(screening->result.reason, answer->txt[0]);
    step(screening);
}

static void on_list(void *owner, const struct dns_answer *answer)
{
    struct question *question = owner;
    struct screening *screening = question->screening;
    struct screen *screen = screening->screen;
    struct kept_list *list = &screening->set->lists[question - screening->lists];

    question->lookup = NULL;
    screening->open--;
    if (answer->result == RESULT_DNS_FAILURE) {
        tell_failure(screen, list, answer->text);
    } else if (answer->result == RESULT_OK && counts(list, answer)) {
        screen->statistics.listed++;
        take_listing(screening, list);
    } else if (answer->result == RESULT_OK && refuses(answer)) {
        tell_failure(screen, list, "the list refuses to answer (127.255.255.0/24)");
    } else {
        screen->statistics.clear++;
    }
    step(screening);
}

static void on_forward(void *owner, const struct dns_answer *answer)
{
    struct screening *screening = owner;
    struct screen_result *result = &screening->result;

    screening->name = NULL;
    screening->open--;
    result->state =
        answer->result == RESULT_DNS_FAILURE ? SCREEN_NAME_FAILED : SCREEN_NAME_UNCONFIRMED;
    for (size_t i = 0; i < answer->address_count; i++)
        if (ip_equal(&answer->addresses[i], &screening->peer))
            result->state = SCREEN_NAME_CONFIRMED;
    if (result->state != SCREEN_NAME_CONFIRMED)
        result->name[0] = '\0';
    step(screening);
}

static void on_reverse(void *owner, const struct dns_answer *answer)
{
    struct screening *screening = owner;
    struct screen_result *result = &screening->result;

    if (answer->result == RESULT_OK && answer->name) {
        keep_printable(result->name, slice_of(answer->name));
        screening->name = lookup_start(screening->screen->resolver, LOOKUP_ADDRESS,
                                       result->name, on_forward, screening);
        return;
    }
    screening->name = NULL;
    screening->open--;
    result->state =
        answer->result == RESULT_DNS_FAILURE ? SCREEN_NAME_FAILED : SCREEN_NAME_NONE;
    step(screening);
}

/* What has not answered counts nothing. */
static void on_deadline(void *owner)
{
    struct screening *screening = owner;
    struct set *set = screening->set;

    for (size_t i = 0; i < set->list_count; i++)
        if (screening->lists[i].lookup)
            tell_failure(screening->screen, &set->lists[i], "no answer within 10 s");
    if (screening->name) {
        screening->result.state = SCREEN_NAME_FAILED;
        screening->result.name[0] = '\0';
    }
    finish(screening);
}

/* ---- the beginning ---- */

static void ask(struct screening *screening)
{
    struct resolver *resolver = screening->screen->resolver;
    struct set *set = screening->set;
    char name[QUERY_NAME];

    screening->result = (struct screen_result){.weight = 0};
    screening->heaviest = 0;
    screening->has_words = false;
    for (size_t i = 0; i < set->list_count; i++) {
        query_name(&screening->peer, set->lists[i].zone, name);
        screening->lists[i].screening = screening;
        screening->lists[i].lookup =
            lookup_start(resolver, LOOKUP_IPV4, name, on_list, &screening->lists[i]);
    }
    if (set->wants_name)
        screening->name =
            lookup_start_ptr(resolver, &screening->peer, on_reverse, screening);
    screening->open = set->list_count + set->wants_name;
}

void screen_set_resolver(struct screen *screen, struct resolver *resolver)
{
    screen->resolver = resolver;
    for (struct link *link = list_first(&screen->running); link;
         link = list_next(&screen->running, link)) {
        struct screening *screening = CONTAINER_OF(link, struct screening, link);

        cancel_lookups(screening);
        ask(screening);
    }
}

struct screening *screening_start(struct screen *screen, const struct ip *peer,
                                  screening_end_fn *on_end, void *owner)
{
    struct screening *screening;

    if (!screen || !screen->set ||
        (screen->set->list_count == 0 && !screen->set->wants_name))
        return NULL;
    screening = NEW(struct screening);
    screening->screen = screen;
    screening->set = screen->set;
    screening->set->references++;
    screening->peer = *peer;
    screening->on_end = on_end;
    screening->owner = owner;
    list_push_back(&screen->running, &screening->link);
    timer_init(&screening->deadline, screen->loop, on_deadline, screening);
    timer_start(&screening->deadline, SCREEN_MS);
    ask(screening);
    return screening;
}
