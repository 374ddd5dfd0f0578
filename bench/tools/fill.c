/* A data folder with N sleeping messages, in the real format, through the store itself: records by
 * record.c, chunks, tables and ids by store.c, many messages in one commit. Not through SMTP: ten
 * million messages would take the better part of an hour that way, and what is measured afterwards
 * is the backlog, not how it came.
 *
 *   fill FOLDER COUNT [AGE_S NEXT_S [BIG_PERCENT DOMAINS]]
 *
 * Message i arrived AGE_S seconds ago and is due in NEXT_S (default: an hour ago, in six days).
 * BIG_PERCENT of them (default 50) go to ten large domains, the others to DOMAINS (default 20,000),
 * of three tenants; 100,000 senders. 400 bytes to 1 KB each, header section included. */
#include "record.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { A_COMMIT = 4000, TEXT = 2048, SENDERS = 100000, TENANTS = 3, BIG = 10 };
enum { LEAST_BYTES = 400, MOST_BYTES = 1024 };

struct wish {
    uint64_t count;
    int64_t arrival_ms;
    int64_t next_ms;
    uint32_t spread_ms; /* of what is not due at once: an hour */
    uint32_t big_percent;
    uint32_t domains;
};

struct filled { /* one message and its memory */
    struct bytes envelope;
    struct bytes group;
    struct slice record;
    struct slice text;
    char memory[MOST_BYTES];
};

struct fill {
    struct loop *loop;
    struct store *store;
    struct wish wish;
    struct filled *filled;
    struct store_message *messages;
    uint64_t next_id;
    uint32_t random;
    bool is_ended;
    enum result result;
};

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "fill: %s\n", what);
    exit(1);
}

static uint32_t some(struct fill *fill, uint32_t most)
{
    fill->random = fill->random * 1664525U + 1013904223U;
    return (uint32_t)(((uint64_t)fill->random * most) >> 32);
}

static void pick_lane(struct fill *fill, char lane[LANE_TEXT])
{
    if (some(fill, 100) < fill->wish.big_percent)
        (void)snprintf(lane, LANE_TEXT, "big%u.test", some(fill, BIG));
    else
        (void)snprintf(lane, LANE_TEXT, "d%u.test", some(fill, fill->wish.domains));
}

static size_t write_text(struct fill *fill, char *text, const char *address)
{
    size_t bytes = LEAST_BYTES + some(fill, MOST_BYTES - LEAST_BYTES);
    int length =
        snprintf(text, MOST_BYTES,
                 "Received: from bench.test by relay.bench.test; fill\r\n"
                 "From: <sender@bench.test>\r\nTo: <%s>\r\nSubject: it sleeps\r\n\r\n",
                 address);

    for (size_t at = (size_t)length; at < bytes; at++)
        text[at] = (char)((at % 72) < 70  ? 'a' + (int)(at % 23)
                          : at % 72 == 70 ? '\r'
                                          : '\n');
    memcpy(text + bytes - 2, "\r\n", 2);
    return bytes;
}

static void make(struct fill *fill, struct filled *filled, struct store_message *message)
{
    char lane[LANE_TEXT];
    char sender[64];
    char tenant[16];
    char address[LANE_TEXT + 32];
    struct recipient recipient = {.address = address};
    struct envelope envelope = {.id = fill->next_id++,
                                .sender = sender,
                                .tenant = tenant,
                                .user = tenant,
                                .session = "fill",
                                .arrival_ms = fill->wish.arrival_ms,
                                .longest_line = 72};
    struct group group = {.lane = lane,
                          .next_attempt_ms =
                              fill->wish.next_ms + some(fill, fill->wish.spread_ms),
                          .last_attempt_ms = fill->wish.arrival_ms,
                          .attempts = 1,
                          .recipient_count = 1,
                          .recipients = &recipient,
                          .last_code = 451,
                          .last_status = "4.3.0",
                          .last_text = "try again later",
                          .last_host = "mx.bench.test"};

    pick_lane(fill, lane);
    (void)snprintf(sender, sizeof sender, "s%u@bench.test", some(fill, SENDERS));
    (void)snprintf(tenant, sizeof tenant, "tenant%u", some(fill, TENANTS));
    (void)snprintf(address, sizeof address, "r%llu@%s", (unsigned long long)envelope.id,
                   lane);
    filled->text =
        (struct slice){filled->memory, write_text(fill, filled->memory, address)};
    envelope.header_bytes =
        (uint64_t)(strstr(filled->memory, "\r\n\r\n") + 4 - filled->memory);
    envelope.body_bytes = filled->text.length - envelope.header_bytes;
    bytes_clear(&filled->envelope);
    bytes_clear(&filled->group);
    must(record_encode_envelope(&envelope, 1, &filled->envelope) == RESULT_OK &&
             record_encode_group(&group, &filled->group) == RESULT_OK,
         "a record does not fit");
    filled->record = bytes_view(&filled->group);
    *message = (struct store_message){.id = envelope.id,
                                      .envelope = bytes_view(&filled->envelope),
                                      .groups = &filled->record,
                                      .group_count = 1,
                                      .runs = {{0, &filled->text, 1}},
                                      .run_count = 1};
}

static void on_end(void *owner, struct store_op *op)
{
    struct fill *fill = owner;

    fill->result = op->result;
    fill->is_ended = true;
}

static void commit(struct fill *fill, size_t count)
{
    struct store_op op = {.kind = STORE_ACCEPT,
                          .on_end = on_end,
                          .owner = fill,
                          .messages = fill->messages,
                          .message_count = count};

    fill->is_ended = false;
    store_submit(fill->store, &op);
    while (!fill->is_ended)
        loop_run_for(fill->loop, 1);
    must(fill->result == RESULT_OK, "a commit failed (is the disk full?)");
}

static void run(struct fill *fill)
{
    uint64_t left = fill->wish.count;

    while (left > 0) {
        size_t count = left < A_COMMIT ? (size_t)left : A_COMMIT;

        store_use_id(fill->store, fill->next_id + count);
        while (store_id_limit(fill->store) < fill->next_id + count)
            loop_run_for(fill->loop, 1);
        for (size_t i = 0; i < count; i++)
            make(fill, &fill->filled[i], &fill->messages[i]);
        commit(fill, count);
        left -= count;
    }
}

static uint64_t number(int argc, char **argv, int at, uint64_t otherwise)
{
    uint64_t value = otherwise;

    if (at < argc)
        must(slice_to_u64(slice_of(argv[at]), UINT32_MAX, &value) == RESULT_OK, argv[at]);
    return value;
}

int main(int argc, char **argv)
{
    struct fill fill = {.random = 1};
    struct store_settings settings = {0};
    struct fault fault = {0};
    int64_t now_ms;

    must(argc >= 3, "usage: fill FOLDER COUNT [AGE_S NEXT_S [BIG_PERCENT DOMAINS]]");
    fill.loop = loop_new();
    now_ms = loop_wall_ms(fill.loop);
    fill.wish = (struct wish){number(argc, argv, 2, 0),
                              now_ms - (int64_t)number(argc, argv, 3, 3600) * 1000,
                              now_ms + (int64_t)number(argc, argv, 4, 6 * 86400) * 1000,
                              number(argc, argv, 4, 1) ? 3600000 : 0,
                              (uint32_t)number(argc, argv, 5, 50),
                              (uint32_t)number(argc, argv, 6, 20000)};
    (void)mkdir(argv[1], 0700);
    settings.loop = fill.loop;
    settings.directory = argv[1];
    must(store_open(&settings, &fill.store, &fill.next_id, &fault) == RESULT_OK,
         fault.text);
    fill.filled = NEW_ARRAY(struct filled, A_COMMIT);
    fill.messages = NEW_ARRAY(struct store_message, A_COMMIT);
    for (size_t i = 0; i < A_COMMIT; i++) {
        bytes_init(&fill.filled[i].envelope, RECORD_MAX);
        bytes_init(&fill.filled[i].group, RECORD_MAX);
    }
    run(&fill);
    store_close(fill.store);
    for (size_t i = 0; i < A_COMMIT; i++) {
        bytes_fini(&fill.filled[i].envelope);
        bytes_fini(&fill.filled[i].group);
    }
    memory_free(fill.filled);
    memory_free(fill.messages);
    loop_free(fill.loop);
    return 0;
}
