#include "tls_report_send.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/header.h"
#include "smtpd/net/https.h"
#include "tally_json.h"
#include "tls_report_mail.h"
#include "tls_report_record.h"

#include <stdio.h>
#include <string.h>

enum { TEXT = 400, ANSWER_MAX = 65536, PLACE_MS = 30000, MESSAGE_MAX = 3 * TALLY_JSON_MAX };

struct tls_report_send {
    struct link link;
    struct deliver *deliver;
    struct plan_settings *settings;
    struct tally_domain *domain;
    tls_report_sent_fn *on_end;
    void *owner;
    struct deferred again; /* the next place, from the loop */
    struct timer deadline; /* of a look-up */
    int64_t until_ms;      /* monotonic: of all look-ups and servers */
    struct lookup *lookup;
    bool asks_address;
    struct tls_report_place places[TLS_REPORT_PLACES_MAX];
    size_t place_count;
    size_t place_at;
    struct https *https;
    void *signing;
    struct draft *draft;
    struct commit *commit;
    struct bytes json;
    struct bytes message;
    size_t header_bytes;
    char id[TALLY_DOMAIN_TEXT + 64];
    char text[TEXT]; /* why the last place did not take it */
};

static void try_place(void *owner);

/* ---- ends ---- */

void tls_report_send_cancel(struct tls_report_send *send)
{
    if (send->lookup)
        lookup_cancel(send->lookup);
    https_cancel(send->https);
    if (send->signing)
        send->deliver->rooms.signing.cancel(send->signing);
    if (send->draft)
        draft_discard(send->draft);
    if (send->commit)
        commit_cancel(send->commit);
    timer_cancel(&send->deadline);
    deferred_cancel(send->deliver->rooms.loop, &send->again);
    bytes_fini(&send->json);
    bytes_fini(&send->message);
    settings_unref(send->settings);
    memory_free(send);
}

const struct tally_domain *tls_report_send_domain(const struct tls_report_send *send)
{
    return send->domain;
}

struct link *tls_report_send_link(struct tls_report_send *send)
{
    return &send->link;
}

struct tls_report_send *tls_report_send_of_link(struct link *link)
{
    return CONTAINER_OF(link, struct tls_report_send, link);
}

/* The owner takes it out of its list, and cancels it. */
static void end(struct tls_report_send *send, enum deliver_tls_report result)
{
    send->on_end(send->owner, send->domain, result, send->text);
}

static void place_failed(struct tls_report_send *send, const char *text)
{
    (void)snprintf(send->text, sizeof send->text, "%.399s", text);
    send->place_at++;
    loop_defer(send->deliver->rooms.loop, &send->again, try_place, send);
}

/* Of the next look-up or server: one of them must not have it all. */
static int64_t time_left(const struct tls_report_send *send)
{
    int64_t left_ms = send->until_ms - loop_now_ms(send->deliver->rooms.loop);

    return left_ms < PLACE_MS ? left_ms : PLACE_MS;
}

static void on_deadline(void *owner)
{
    static const char text[] = "the DNS did not answer in time";
    struct tls_report_send *send = owner;

    lookup_cancel(send->lookup);
    send->lookup = NULL;
    if (send->asks_address) {
        place_failed(send, text);
        return;
    }
    (void)snprintf(send->text, sizeof send->text, "%s", text);
    end(send, DELIVER_TLS_REPORT_FAILED);
}

/* ---- by mail ---- */

static void on_room(void *owner)
{
    (void)owner; /* all of it was taken at once */
}

static void on_committed(void *owner, enum result result)
{
    struct tls_report_send *send = owner;

    send->commit = NULL;
    if (result != RESULT_OK) {
        place_failed(send, "the queue does not take it");
        return;
    }
    (void)snprintf(send->text, sizeof send->text, "mailto:%s",
                   send->places[send->place_at].address);
    end(send, DELIVER_TLS_REPORT_SENT);
}

static uint32_t longest_line(struct slice text)
{
    size_t longest = 0;

    while (text.length > 0) {
        size_t end = slice_find(text, '\n');

        if (end + 1 > longest)
            longest = end + 1;
        text = slice_from(text, end < text.length ? end + 1 : end);
    }
    return (uint32_t)longest;
}

/* With the null sender: what cannot be delivered is not reported to anybody. */
static void commit(struct tls_report_send *send, struct slice signature)
{
    struct slice message = bytes_view(&send->message);
    struct recipient recipient = {.address = send->places[send->place_at].address,
                                  .notify = NOTIFY_NEVER};
    struct envelope envelope = {.id = draft_id(send->draft),
                                .sender = "",
                                .tls_wish = TLS_WISH_WAIVED,
                                .arrival_ms = deliver_now(send->deliver),
                                .longest_line = longest_line(message)};
    struct submission submission = {
        .envelope = &envelope, .recipients = &recipient, .recipient_count = 1};
    struct bytes header;
    struct draft *draft = send->draft;

    bytes_init(&header, LIMIT_HEADER_SECTION);
    send->draft = NULL;
    if (bytes_add(&header, signature) != RESULT_OK ||
        bytes_add(&header, slice_part(message, 0, send->header_bytes)) != RESULT_OK) {
        draft_discard(draft);
        place_failed(send, "its header section is too large");
    } else {
        submission.header = bytes_view(&header);
        send->commit = draft_commit(draft, &submission, on_committed, send);
    }
    bytes_fini(&header);
}

static void on_signed(void *owner, enum result result, struct slice fields)
{
    struct tls_report_send *send = owner;

    send->signing = NULL;
    if (result == RESULT_OK) {
        commit(send, fields);
        return;
    }
    draft_discard(send->draft);
    send->draft = NULL;
    place_failed(send, "it cannot be signed now");
}

static bool write_mail(struct tls_report_send *send)
{
    const struct deliver_settings *values = &send->settings->values;
    char message_id[ID_TEXT];
    char boundary[ID_TEXT];
    uint64_t random;
    enum result written;
    struct tls_report_letter letter = {.domain = send->domain->domain,
                                       .submitter = values->hostname,
                                       .organization = values->tls_report_organization,
                                       .contact = values->tls_report_contact,
                                       .to = send->places[send->place_at].address,
                                       .id = send->id,
                                       .message_id = message_id,
                                       .boundary = boundary,
                                       .begin_ms = send->domain->begin_ms,
                                       .end_ms = send->domain->end_ms - 1000,
                                       .now_ms = deliver_now(send->deliver),
                                       .json = bytes_view(&send->json)};

    id_print(draft_id(send->draft), message_id);
    secure_random(&random, sizeof random);
    id_print(random, boundary);
    bytes_clear(&send->message);
    if (tls_report_mail(&letter, &send->message) != RESULT_OK)
        return false;
    send->header_bytes = header_section_length(bytes_view(&send->message));
    written = draft_write(send->draft,
                          slice_from(bytes_view(&send->message), send->header_bytes));
    return written == RESULT_OK || written == RESULT_AGAIN;
}

static void try_mail(struct tls_report_send *send)
{
    const struct deliver_signing *signing = &send->deliver->rooms.signing;
    struct slice message;

    if (queue_has_room(send->deliver->rooms.queue) != RESULT_OK) {
        place_failed(send, "the queue has no room");
        return;
    }
    send->draft = queue_draft_open(send->deliver->rooms.queue, on_room, send);
    if (!write_mail(send)) {
        draft_discard(send->draft);
        send->draft = NULL;
        place_failed(send, "the queue does not take it");
        return;
    }
    message = bytes_view(&send->message);
    if (signing->start)
        send->signing = signing->start(
            signing->owner,
            &(struct deliver_unsigned){slice_part(message, 0, send->header_bytes),
                                       slice_from(message, send->header_bytes),
                                       draft_id(send->draft)},
            on_signed, send);
    if (!send->signing)
        commit(send, SLICE_NONE); /* no key is its author's */
}

/* ---- by HTTPS ---- */

static void on_posted(void *owner, enum https_result result, struct slice body,
                      const struct fault *fault)
{
    struct tls_report_send *send = owner;
    const struct tls_report_place *place = &send->places[send->place_at];

    (void)body;
    send->https = NULL;
    if (result != HTTPS_OK) {
        place_failed(send, fault->text);
        return;
    }
    (void)snprintf(send->text, sizeof send->text, "https://%.200s%.150s", place->host,
                   place->path);
    end(send, DELIVER_TLS_REPORT_SENT);
}

static void post(struct tls_report_send *send, const struct dns_answer *answer)
{
    const struct tls_report_place *place = &send->places[send->place_at];
    struct endpoint addresses[LIMIT_HOST_ADDRESSES];
    struct https_request request = {.addresses = addresses,
                                    .host = place->host,
                                    .path = place->path,
                                    .body_type = "application/tlsrpt+json",
                                    .body = bytes_view(&send->json),
                                    .body_max = ANSWER_MAX,
                                    .deadline_ms = time_left(send),
                                    .tls = send->settings->tls};

    for (size_t i = 0; i < answer->address_count; i++)
        if (request.address_count < LIMIT_HOST_ADDRESSES &&
            (send->settings->values.allow_private_networks ||
             !ip_is_private(&answer->addresses[i])))
            addresses[request.address_count++] =
                (struct endpoint){answer->addresses[i], place->port};
    if (request.deadline_ms <= 0)
        place_failed(send, "the DNS took all the time");
    else if (request.address_count > 0)
        send->https = https_start(send->deliver->rooms.net, &request, on_posted, send);
    else
        place_failed(send, answer->address_count > 0
                               ? "the server has private addresses only "
                                 "(delivery.allow_private_networks)"
                               : "the server has no address");
}

/* ---- the DNS ---- */

static void write_id(struct tls_report_send *send)
{
    uint32_t random[2];

    secure_random(random, sizeof random);
    (void)snprintf(send->id, sizeof send->id, "%lld.%08x%08x@%.200s",
                   (long long)(send->domain->begin_ms / 1000), random[0], random[1],
                   send->settings->values.hostname);
}

static void begin(struct tls_report_send *send)
{
    const struct deliver_settings *values = &send->settings->values;
    struct tally_reporter reporter = {.organization = values->tls_report_organization,
                                      .contact = values->tls_report_contact,
                                      .id = send->id};

    write_id(send);
    if (tally_json(send->domain, &reporter, &send->json) == RESULT_OK) {
        try_place(send);
        return;
    }
    (void)snprintf(send->text, sizeof send->text, "it is too large");
    end(send, DELIVER_TLS_REPORT_FAILED);
}

static void on_answer(void *owner, const struct dns_answer *answer)
{
    struct tls_report_send *send = owner;

    send->lookup = NULL;
    timer_cancel(&send->deadline);
    if (send->asks_address) {
        post(send, answer);
        return;
    }
    if (answer->result == RESULT_DNS_FAILURE) {
        (void)snprintf(send->text, sizeof send->text, "%s",
                       answer->text[0] ? answer->text : "DNS look-up failed");
        end(send, DELIVER_TLS_REPORT_FAILED);
        return;
    }
    if (answer->result == RESULT_OK)
        send->place_count = tls_report_record(answer->txt, answer->txt_count, send->places);
    if (send->place_count > 0)
        begin(send);
    else
        end(send, DELIVER_TLS_REPORT_UNWANTED);
}

static void ask(struct tls_report_send *send)
{
    struct resolver *resolver = send->deliver->rooms.resolver;
    char name[TALLY_DOMAIN_TEXT + 16];

    (void)snprintf(name, sizeof name, "_smtp._tls.%s", send->domain->domain);
    timer_start(&send->deadline, time_left(send) > 0 ? time_left(send) : 0);
    if (send->asks_address)
        send->lookup = lookup_start(resolver, LOOKUP_ADDRESS,
                                    send->places[send->place_at].host, on_answer, send);
    else
        send->lookup = lookup_start(resolver, LOOKUP_TXT, name, on_answer, send);
}

/* RFC 8460 3: one that takes it will do. Mail is ours to take, and needs no time. */
static void try_place(void *owner)
{
    struct tls_report_send *send = owner;

    while (send->place_at < send->place_count && !send->places[send->place_at].is_mail &&
           time_left(send) <= 0)
        send->place_at++;
    if (send->place_at >= send->place_count) {
        end(send, DELIVER_TLS_REPORT_FAILED);
    } else if (send->places[send->place_at].is_mail) {
        try_mail(send);
    } else {
        send->asks_address = true;
        ask(send);
    }
}

void tls_report_send_ask_again(struct tls_report_send *send)
{
    if (!send->lookup)
        return;
    lookup_cancel(send->lookup);
    ask(send);
}

struct tls_report_send *tls_report_send_start(struct deliver *deliver,
                                              struct tally_domain *domain, int64_t time_ms,
                                              tls_report_sent_fn *on_end, void *owner)
{
    struct tls_report_send *send = NEW(struct tls_report_send);

    send->deliver = deliver;
    send->settings = settings_ref(deliver->settings);
    send->domain = domain;
    send->until_ms = loop_now_ms(deliver->rooms.loop) + time_ms;
    send->on_end = on_end;
    send->owner = owner;
    bytes_init(&send->json, TALLY_JSON_MAX);
    bytes_init(&send->message, MESSAGE_MAX);
    timer_init(&send->deadline, deliver->rooms.loop, on_deadline, send);
    ask(send);
    return send;
}
