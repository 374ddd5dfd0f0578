#include "sts_fetch.h"

#include "smtpd/base/memory.h"
#include "smtpd/net/https.h"

#include <stdio.h>

enum { TEXT = 400 };

struct sts_fetch {
    struct deliver *deliver;
    struct plan_settings *settings;
    struct lookup *lookup;
    struct https *get;
    struct timer deadline; /* of the look-up: HTTPS has its own */
    int64_t until_ms;      /* monotonic */
    char host[300];        /* one that is too long for the DNS does not exist there */
    sts_fetch_end_fn *on_end;
    void *owner;
};

void sts_fetch_cancel(struct sts_fetch *fetch)
{
    if (!fetch)
        return;
    if (fetch->lookup)
        lookup_cancel(fetch->lookup);
    https_cancel(fetch->get);
    timer_cancel(&fetch->deadline);
    settings_unref(fetch->settings);
    memory_free(fetch);
}

static void end(struct sts_fetch *fetch, enum deliver_sts_fetch result,
                struct sts_policy *policy, const char *text)
{
    sts_fetch_end_fn *on_end = fetch->on_end;
    void *owner = fetch->owner;
    char words[TEXT];

    (void)snprintf(words, sizeof words, "%.399s", text);
    sts_fetch_cancel(fetch);
    on_end(owner, result, policy, words);
}

static void on_got(void *owner, enum https_result got, struct slice body,
                   const struct fault *fault)
{
    static const enum deliver_sts_fetch results[] = {
        [HTTPS_NO_CONNECTION] = DELIVER_STS_NO_CONNECTION,
        [HTTPS_NO_TLS] = DELIVER_STS_NO_TLS,
        [HTTPS_NO_ANSWER] = DELIVER_STS_NO_ANSWER};
    struct sts_fetch *fetch = owner;
    struct sts_policy *policy;
    char text[160] = "";

    fetch->get = NULL;
    if (got != HTTPS_OK) {
        end(fetch, fault->code == RESULT_BUSY ? DELIVER_STS_BUSY : results[got], NULL,
            fault->text);
        return;
    }
    policy = sts_policy_parse(body, text);
    end(fetch, policy ? DELIVER_STS_FETCHED : DELIVER_STS_INVALID, policy, text);
}

static size_t take_addresses(const struct sts_fetch *fetch, const struct dns_answer *answer,
                             struct endpoint addresses[LIMIT_HOST_ADDRESSES])
{
    const struct deliver_settings *values = &fetch->settings->values;
    size_t count = 0;

    for (size_t i = 0; i < answer->address_count && count < LIMIT_HOST_ADDRESSES; i++)
        if (values->allow_private_networks || !ip_is_private(&answer->addresses[i]))
            addresses[count++] =
                (struct endpoint){answer->addresses[i], values->mta_sts_port};
    return count;
}

static void on_address(void *owner, const struct dns_answer *answer)
{
    struct sts_fetch *fetch = owner;
    struct endpoint addresses[LIMIT_HOST_ADDRESSES];
    struct https_request request = {
        .addresses = addresses,
        .host = fetch->host,
        .path = "/.well-known/mta-sts.txt",
        .media_type = "text/plain",
        .body_max = STS_BODY_MAX,
        .deadline_ms = fetch->until_ms - loop_now_ms(fetch->deliver->rooms.loop),
        .tls = fetch->settings->tls,
    };
    char text[TEXT];

    fetch->lookup = NULL;
    timer_cancel(&fetch->deadline);
    request.address_count = take_addresses(fetch, answer, addresses);
    if (request.address_count > 0) {
        fetch->get = https_start(fetch->deliver->rooms.net, &request, on_got, fetch);
        return;
    }
    (void)snprintf(text, sizeof text, "%.200s: %.160s", fetch->host,
                   answer->address_count > 0 ? "private addresses only "
                                               "(delivery.allow_private_networks)"
                   : answer->text[0]         ? answer->text
                                             : result_text(answer->result));
    end(fetch, DELIVER_STS_NO_ADDRESS, NULL, text);
}

static void on_deadline(void *owner)
{
    struct sts_fetch *fetch = owner;
    char text[TEXT];

    (void)snprintf(text, sizeof text, "%.200s: the DNS gave no address in time",
                   fetch->host);
    end(fetch, DELIVER_STS_NO_ADDRESS, NULL, text);
}

static void ask(struct sts_fetch *fetch)
{
    fetch->lookup = lookup_start(fetch->deliver->rooms.resolver, LOOKUP_ADDRESS,
                                 fetch->host, on_address, fetch);
}

struct sts_fetch *sts_fetch_start(struct deliver *deliver, const char *domain,
                                  int64_t deadline_ms, sts_fetch_end_fn *on_end,
                                  void *owner)
{
    struct sts_fetch *fetch = NEW(struct sts_fetch);

    fetch->deliver = deliver;
    fetch->settings = settings_ref(deliver->settings);
    fetch->until_ms = loop_now_ms(deliver->rooms.loop) + deadline_ms;
    fetch->on_end = on_end;
    fetch->owner = owner;
    (void)snprintf(fetch->host, sizeof fetch->host, "mta-sts.%s", domain);
    timer_init(&fetch->deadline, deliver->rooms.loop, on_deadline, fetch);
    timer_start(&fetch->deadline, deadline_ms);
    ask(fetch);
    return fetch;
}

void sts_fetch_ask_again(struct sts_fetch *fetch)
{
    if (!fetch || !fetch->lookup)
        return;
    lookup_cancel(fetch->lookup);
    ask(fetch);
}
