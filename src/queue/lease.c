/* Leases: loading a group, settling it, giving it back. A lease lives in memory only: a
 * crash turns it into waiting. */
#include "inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { REST_MS = 60000, UNTRIED_MS = 3600000 };

struct held { /* a lease and its memory */
    struct lease lease;
    struct link link;
    struct queue *queue;
    struct bytes envelope;
    struct bytes record;
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
};

struct lease_load {
    struct link link;
    struct queue *queue;
    struct domain_queue *domain_queue;
    struct queue_entry entry;
    lease_fn *on_end;
    void *owner;
    struct held *held;
    enum result result;
    struct reading *reading;
    struct deferred loaded;
};

static struct held *held_of(struct lease *lease)
{
    return CONTAINER_OF(lease, struct held, lease);
}

static void held_free(struct held *held)
{
    list_remove(&held->queue->leases, &held->link);
    bytes_fini(&held->envelope);
    bytes_fini(&held->record);
    memory_free(held);
}

/* ---- loading ---- */

static enum result decode(struct held *held, const struct queue_entry *entry)
{
    uint32_t groups;
    enum result result = record_decode_envelope(bytes_view(&held->envelope), entry->id,
                                                &held->lease.envelope, &groups);

    if (result == RESULT_OK)
        result = record_decode_group(bytes_view(&held->record), entry->group,
                                     &held->lease.group, held->recipients);
    return result;
}

/* The entry rests for a minute: the record may be readable later, and nobody spins. Nothing was
 * tried (G6). */
static void put_aside(struct lease_load *load)
{
    struct queue_entry again = load->entry;
    char id[ID_TEXT];

    id_print(load->entry.id, id);
    log_message(LOG_ERROR, "queue.unreadable", "message %s, group %u: %s", id,
                load->entry.group, result_text(load->result));
    again.next_attempt_ms = loop_wall_ms(load->queue->loop) + REST_MS;
    waiting_end_untried(load->domain_queue, load->entry.id, load->entry.group, &again);
}

static void load_end(void *owner)
{
    struct lease_load *load = owner;
    struct held *held = load->held;
    lease_fn *on_end = load->on_end;
    void *told = load->owner;
    enum result result;

    if (load->result == RESULT_OK)
        load->result = decode(held, &load->entry);
    result = load->result;
    if (result == RESULT_OK) {
        held->lease.entry = load->entry;
        held->lease.domain_queue = load->domain_queue;
        held->lease.is_first_since_start =
            !waiting_was_tried(load->queue->waiting, load->entry.id, load->entry.group);
    } else {
        if (result == RESULT_NOT_FOUND)
            waiting_end_lease(load->domain_queue, load->entry.id, load->entry.group, NULL);
        else
            put_aside(load);
        held_free(held);
        held = NULL;
    }
    list_remove(&load->queue->loads, &load->link);
    memory_free(load);
    on_end(told, held ? &held->lease : NULL, result);
}

struct load_input { /* touched by the pool */
    uint64_t id;
    uint32_t group;
    struct bytes envelope;
    struct bytes record;
    enum result result;
};

static void load_run(struct store *store, void *argument)
{
    struct load_input *input = argument;

    input->result =
        store_read_group(store, input->id, input->group, &input->envelope, &input->record);
}

static void load_drop(void *argument)
{
    struct load_input *input = argument;

    bytes_fini(&input->envelope);
    bytes_fini(&input->record);
    memory_free(input);
}

static void load_read(void *owner, void *argument)
{
    struct lease_load *load = owner;
    struct load_input *input = argument;

    load->reading = NULL;
    load->held->envelope = input->envelope;
    load->held->record = input->record;
    load->result = input->result;
    memory_free(input);
    load_end(load);
}

static const struct reading_kind load_kind = {load_run, load_read, load_drop};

static void start_reading(struct lease_load *load)
{
    struct load_input *input = NEW(struct load_input);

    input->id = load->entry.id;
    input->group = load->entry.group;
    input->result = RESULT_IO;
    bytes_init(&input->envelope, RECORD_MAX);
    bytes_init(&input->record, RECORD_MAX);
    load->reading = reading_start(load->queue->line, &load_kind, input, load);
}

struct lease_load *queue_lease_load(struct domain_queue *domain_queue,
                                    const struct queue_entry *entry, lease_fn *on_end,
                                    void *owner)
{
    struct lease_load *load = NEW(struct lease_load);
    struct queue *queue = domain_queue_owner(domain_queue);
    struct held *held = NEW(struct held);
    struct slice envelope;
    struct slice record;

    load->queue = queue;
    load->domain_queue = domain_queue;
    load->entry = *entry;
    load->on_end = on_end;
    load->owner = owner;
    load->held = held;
    held->queue = queue;
    bytes_init(&held->envelope, RECORD_MAX);
    bytes_init(&held->record, RECORD_MAX);
    list_push_back(&queue->leases, &held->link);
    list_push_back(&queue->loads, &load->link);
    if (cache_records(queue->cache, entry->id, entry->group, &envelope, &record) !=
        RESULT_OK) {
        start_reading(load);
        return load;
    }
    CHECK(bytes_add(&held->envelope, envelope) == RESULT_OK &&
          bytes_add(&held->record, record) == RESULT_OK);
    loop_defer(queue->loop, &load->loaded, load_end, load);
    return load;
}

struct lease *lease_of_records(struct domain_queue *domain_queue,
                               const struct queue_entry *entry, struct slice envelope,
                               struct slice record)
{
    struct held *held = NEW(struct held);

    held->queue = domain_queue_owner(domain_queue);
    bytes_init(&held->envelope, RECORD_MAX);
    bytes_init(&held->record, RECORD_MAX);
    list_push_back(&held->queue->leases, &held->link);
    /* They were decoded before, to find the domain queue. */
    CHECK(bytes_add(&held->envelope, envelope) == RESULT_OK &&
          bytes_add(&held->record, record) == RESULT_OK &&
          decode(held, entry) == RESULT_OK);
    held->lease.entry = *entry;
    held->lease.entry.arrival_s = (uint32_t)(held->lease.envelope.arrival_ms / 1000);
    held->lease.domain_queue = domain_queue;
    return &held->lease;
}

static void load_free(struct lease_load *load)
{
    deferred_cancel(load->queue->loop, &load->loaded);
    if (load->reading)
        reading_cancel(load->reading);
    list_remove(&load->queue->loads, &load->link);
    held_free(load->held);
    memory_free(load);
}

void lease_load_cancel(struct lease_load *load)
{
    domain_queue_give_back(load->domain_queue, &load->entry);
    load_free(load);
}

void lease_release(struct lease *lease)
{
    domain_queue_give_back(lease->domain_queue, &lease->entry);
    held_free(held_of(lease));
}

void lease_postpone(struct lease *lease)
{
    const struct queue *queue = held_of(lease)->queue;
    int64_t now_ms = loop_wall_ms(queue->loop);
    struct queue_entry again = lease->entry;

    again.next_attempt_ms =
        record_due_ms(&lease->group, lease->envelope.arrival_ms + queue->expire_ms);
    if (again.next_attempt_ms <= now_ms)
        again.next_attempt_ms = now_ms + UNTRIED_MS;
    again.is_held = true;
    waiting_end_lease(lease->domain_queue, again.id, again.group, &again);
    held_free(held_of(lease));
}

/* ---- settling ---- */

struct settling {
    struct operation operation;
    struct lease *lease;
    struct bytes record;    /* of what stays */
    struct bytes regrouped; /* records of the new groups */
    struct slice *groups;
    char (*lanes)[LANE_TEXT];
    size_t group_count;
    struct message *reports;
    struct store_message *store_reports;
    size_t report_count;
    int64_t next_attempt_ms;
    bool counts_attempt;
    queue_end_fn *on_end;
    void *owner;
};

static void settling_free(struct operation *operation)
{
    struct settling *settling = CONTAINER_OF(operation, struct settling, operation);

    for (size_t i = 0; i < settling->report_count; i++)
        message_fini(&settling->reports[i]);
    memory_free(settling->reports);
    memory_free(settling->store_reports);
    bytes_fini(&settling->record);
    bytes_fini(&settling->regrouped);
    memory_free(settling->groups);
    memory_free(settling->lanes);
    memory_free(settling);
}

static struct settling *settling_new(struct lease *lease, queue_end_fn *on_end, void *owner)
{
    struct settling *settling = NEW(struct settling);

    settling->operation.queue = held_of(lease)->queue;
    settling->operation.free = settling_free;
    settling->operation.op.id = lease->envelope.id;
    settling->operation.op.group = lease->group.number;
    settling->operation.op.owner = settling;
    settling->lease = lease;
    settling->on_end = on_end;
    settling->owner = owner;
    bytes_init(&settling->record, RECORD_MAX);
    bytes_init(&settling->regrouped, (size_t)LIMIT_GROUP_RECIPIENTS * RECORD_MAX);
    return settling;
}

static void settling_tell(struct settling *settling, enum result result)
{
    queue_end_fn *on_end = settling->on_end;
    void *owner = settling->owner;

    settling_free(&settling->operation);
    on_end(owner, result);
}

static void on_settled(void *owner, struct store_op *op)
{
    struct settling *settling = owner;
    struct lease *lease = settling->lease;
    struct queue *queue = settling->operation.queue;
    enum result result = op->result;
    struct queue_entry again = lease->entry;

    operation_end(&settling->operation);
    if (result == RESULT_OK) {
        again.next_attempt_ms = settling->next_attempt_ms;
        again.is_held = false;
        cache_forget_group(queue->cache, lease->entry.id, lease->entry.group);
        if (settling->record.length > 0 && !settling->counts_attempt)
            waiting_end_untried(lease->domain_queue, again.id, again.group, &again);
        else
            waiting_end_lease(lease->domain_queue, again.id, again.group,
                              settling->record.length > 0 ? &again : NULL);
        for (size_t i = 0; i < settling->report_count; i++)
            message_publish(&settling->reports[i]);
        held_free(held_of(lease));
    }
    settling_tell(settling, result);
}

/* The recipients that stay, with what is new about the group. */
static enum result encode_rest(struct settling *settling,
                               const struct settlement *settlement)
{
    const struct group *before = &settling->lease->group;
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group = *before;

    group.recipient_count = 0;
    group.recipients = recipients;
    group.is_held = false; /* it was taken: a hold was over */
    group.not_before_ms = 0;
    for (uint32_t i = 0; i < before->recipient_count; i++)
        if (!settlement->is_settled[i])
            recipients[group.recipient_count++] = before->recipients[i];
    if (group.recipient_count == 0)
        return RESULT_OK;
    group.next_attempt_ms = settlement->next_attempt_ms;
    group.attempts += settlement->counts_attempt;
    group.delay_notified = settlement->delay_notified;
    group.last_code = settlement->last_code;
    group.last_status = settlement->last_status ? settlement->last_status : "";
    group.last_text = settlement->last_text ? settlement->last_text : "";
    group.last_host = settlement->last_host ? settlement->last_host : "";
    if (settlement->counts_attempt)
        group.last_attempt_ms = loop_wall_ms(settling->operation.queue->loop);
    settling->next_attempt_ms = settlement->next_attempt_ms;
    settling->counts_attempt = settlement->counts_attempt;
    return record_encode_group(&group, &settling->record);
}

static enum result build_reports(struct settling *settling,
                                 const struct settlement *settlement)
{
    enum result result = RESULT_OK;

    settling->reports = NEW_ARRAY(struct message, settlement->report_count + 1);
    settling->store_reports = NEW_ARRAY(struct store_message, settlement->report_count + 1);
    for (size_t i = 0; i < settlement->report_count && result == RESULT_OK; i++) {
        const struct report *report = &settlement->reports[i];
        struct envelope envelope = report->envelope;
        struct message_source source = {.envelope = &envelope,
                                        .header = report->header,
                                        .recipients = &report->recipient,
                                        .recipient_count = 1};

        envelope.id = report->id;
        envelope.header_bytes = report->header.length;
        envelope.body_bytes = report->body.length;
        envelope.is_streamed = false;
        source.body =
            pieces_of(settling->operation.queue, report->body, &source.body_count);
        result = message_build(&settling->reports[i], settling->operation.queue, &source);
        memory_free(source.body);
        settling->store_reports[i] = settling->reports[i].store;
        settling->report_count++;
    }
    return result;
}

void lease_settle(struct lease *lease, const struct settlement *settlement,
                  queue_end_fn *on_end, void *owner)
{
    struct settling *settling = settling_new(lease, on_end, owner);
    struct store_op *op = &settling->operation.op;

    /* Texts are cut to their limits by deliver: what does not fit here is a mistake of
     * ours. */
    CHECK(encode_rest(settling, settlement) == RESULT_OK);
    CHECK(build_reports(settling, settlement) == RESULT_OK);
    op->kind = STORE_SETTLE;
    op->record = bytes_view(&settling->record);
    op->messages = settling->store_reports;
    op->message_count = settling->report_count;
    op->on_end = on_settled;
    operation_submit(&settling->operation);
}

/* ---- regrouping ---- */

static void on_regrouped(void *owner, struct store_op *op)
{
    struct settling *settling = owner;
    struct lease *lease = settling->lease;
    struct queue *queue = settling->operation.queue;
    enum result result = op->result;

    operation_end(&settling->operation);
    if (result == RESULT_OK) {
        cache_forget_group(queue->cache, lease->entry.id, lease->entry.group);
        for (size_t i = 0; i < settling->group_count; i++) {
            struct waiting_key key = {settling->lanes[i], lease->envelope.tenant,
                                      lease->envelope.priority, lease->envelope.pool};
            struct queue_entry entry = lease->entry;

            entry.next_attempt_ms = loop_wall_ms(queue->loop); /* it was due */
            entry.group = op->first_group + (uint32_t)i;
            waiting_add(queue->waiting, &key, &entry, false);
        }
        waiting_end_lease(lease->domain_queue, lease->entry.id, lease->entry.group, NULL);
        held_free(held_of(lease));
    }
    settling_tell(settling, result);
}

/* One group for each distinct lane of the recipients. */
static void split_by_lane(struct settling *settling)
{
    struct queue *queue = settling->operation.queue;
    const struct group *before = &settling->lease->group;
    uint32_t count = before->recipient_count;
    char(*lane_of)[LANE_TEXT] = memory_new_array(count, LANE_TEXT);
    size_t *lengths = NEW_ARRAY(size_t, count + 1);

    settling->lanes = memory_new_array(count, LANE_TEXT);
    for (uint32_t i = 0; i < count; i++)
        queue->lane_of(queue->lane_owner, before->recipients[i].address, lane_of[i]);
    for (uint32_t i = 0; i < count; i++) {
        struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
        struct group group = *before;
        size_t start = settling->regrouped.length;

        group.recipient_count = 0;
        group.recipients = recipients;
        group.lane = settling->lanes[settling->group_count];
        for (uint32_t k = i; k < count; k++)
            if (lane_of[i][0] && strcmp(lane_of[k], lane_of[i]) == 0)
                recipients[group.recipient_count++] = before->recipients[k];
        if (group.recipient_count == 0)
            continue;
        memcpy(settling->lanes[settling->group_count], lane_of[i], LANE_TEXT);
        for (uint32_t k = count; k-- > i;)
            if (strcmp(lane_of[k], settling->lanes[settling->group_count]) == 0)
                lane_of[k][0] = '\0'; /* done */
        CHECK(record_encode_group(&group, &settling->regrouped) == RESULT_OK);
        lengths[settling->group_count++] = settling->regrouped.length - start;
    }
    settling->groups = NEW_ARRAY(struct slice, settling->group_count + 1);
    for (size_t i = 0, at = 0; i < settling->group_count; at += lengths[i], i++)
        settling->groups[i] = (struct slice){settling->regrouped.data + at, lengths[i]};
    memory_free(lengths);
    memory_free(lane_of);
}

void lease_regroup(struct lease *lease, queue_end_fn *on_end, void *owner)
{
    struct settling *settling = settling_new(lease, on_end, owner);
    struct store_op *op = &settling->operation.op;

    split_by_lane(settling);
    op->kind = STORE_REGROUP;
    op->groups = settling->groups;
    op->group_count = settling->group_count;
    op->on_end = on_regrouped;
    operation_submit(&settling->operation);
}

void leases_free(struct queue *queue)
{
    struct link *link;

    while ((link = list_first(&queue->loads)))
        load_free(CONTAINER_OF(link, struct lease_load, link));
    while ((link = list_first(&queue->leases)))
        held_free(CONTAINER_OF(link, struct held, link));
}
