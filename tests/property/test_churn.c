/* The queue's file under churn: mail of all sizes comes in, is deferred, is delivered; backlogs come
 * and drain. After every batch the file is held against the bound of docs/queue.md, which knows
 * only what was alive at the worst moment; and once backlogs have come and gone, it grows only as
 * that does.
 *
 * SMTPD_CHURN is how many messages come in (an hour at 300/s: 1080000), SMTPD_SEED what they are. */
#include "queue/store_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MESSAGES = 40000,
    BACKLOGS = 10,
    BATCH = 400, /* operations submitted together */
    LARGEST = 2 << 20,
    DRAFTED = 256 << 10, /* from here on a message is streamed */
    RECORD_LEAST = 60,
    RECORD_MOST = 400,
    GROUPS = 3,
    PATH = 256
};

static uint64_t seed = 20261129;

/* xorshift64*: the same numbers everywhere. */
static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

static size_t between(size_t least, size_t most)
{
    return least + any() % (most - least + 1);
}

/* Most are small, one in a hundred is large. */
static size_t any_size(void)
{
    uint64_t kind = any() % 100;

    if (kind == 0)
        return between(100000, LARGEST);
    return kind <= 10 ? between(10000, 75000) : between(200, 8000);
}

/* ---- the bound of docs/queue.md ---- */

struct live {              /* what must be in the file */
    uint64_t chunks;       /* 4,080 bytes of a body or its rest: a page at most */
    uint64_t record_bytes; /* of envelopes and groups */
    uint64_t records;
};

enum { PAGE = 4096, COMMIT_BYTES = 8 << 20, ROW_BYTES = 40 };

/* Chunks have a page each. Rows stand in pages that are at least a quarter full: a chunk's place, a
 * record. A twentieth is for the list of free pages and what it needs in one piece. Pages that the
 * last commits gave up wait for two further ones; a commit changes 8 MiB of bodies and one message
 * more, and the rows of them. */
static uint64_t bound_bytes(const struct live *most)
{
    uint64_t rows = most->chunks + most->records;
    uint64_t bytes = most->chunks * PAGE + 4 * (rows * ROW_BYTES + most->record_bytes);

    return bytes + bytes / 20 + 4 * (uint64_t)(COMMIT_BYTES + LARGEST);
}

/* ---- what is alive ---- */

struct mail {
    uint64_t id;
    size_t bytes;
    size_t record_bytes[GROUPS]; /* 0: it is settled */
    size_t envelope_bytes;
    unsigned groups;
    unsigned left;
};

struct world {
    struct loop *loop;
    struct store *store;
    char folder[PATH];
    uint64_t next_id;
    struct mail *mail;
    size_t count;
    size_t most_count;
    struct live live;
    struct live most;
    size_t running; /* operations at the store */
    uint64_t file_pages;
    char *text;
};

static uint64_t chunks_of(size_t bytes)
{
    return (bytes + LIMIT_CHUNK_BYTES - 1) / LIMIT_CHUNK_BYTES;
}

static void count_most(struct world *world)
{
    struct live *most = &world->most;
    const struct live *live = &world->live;

    most->chunks = live->chunks > most->chunks ? live->chunks : most->chunks;
    most->records = live->records > most->records ? live->records : most->records;
    if (live->record_bytes > most->record_bytes)
        most->record_bytes = live->record_bytes;
}

/* ---- operations ---- */

struct operation {
    struct store_op op;
    struct world *world;
    struct store_message message;
    struct slice records[GROUPS];
    struct slice parts[2];
};

static void on_end(void *owner, struct store_op *op)
{
    struct operation *operation = owner;

    CHECK(op->result == RESULT_OK);
    operation->world->running--;
    memory_free(operation);
}

static struct operation *operation_new(struct world *world, enum store_kind kind,
                                       uint64_t id)
{
    struct operation *operation = NEW(struct operation);

    operation->world = world;
    operation->op.kind = kind;
    operation->op.id = id;
    operation->op.on_end = on_end;
    operation->op.owner = operation;
    return operation;
}

static void submit(struct operation *operation)
{
    operation->world->running++;
    store_submit(operation->world->store, &operation->op);
}

static void wait_for_all(struct world *world)
{
    while (world->running > 0)
        loop_run_for(world->loop, 1);
}

static struct slice any_record(struct world *world, size_t *bytes)
{
    *bytes = between(RECORD_LEAST, RECORD_MOST);
    return (struct slice){world->text, *bytes};
}

/* Its body first, as a draft, and its header section with the message. */
static void stream(struct world *world, struct operation *accept, size_t bytes)
{
    struct operation *write = operation_new(world, STORE_DRAFT_WRITE, accept->op.id);

    write->parts[0] = (struct slice){world->text, bytes};
    write->op.chunks = (struct store_run){STORE_BODY_CHUNK, write->parts, 1};
    submit(write);
    accept->message.was_draft = true;
    accept->message.runs[0] = (struct store_run){0, accept->parts, 1};
    accept->parts[0] = (struct slice){world->text, LIMIT_CHUNK_BYTES};
}

static void accept_one(struct world *world)
{
    struct operation *accept = operation_new(world, STORE_ACCEPT, world->next_id);
    struct mail *mail = &world->mail[world->count++];

    store_use_id(world->store, world->next_id);
    *mail = (struct mail){.id = world->next_id++, .bytes = any_size()};
    mail->groups = mail->left = (unsigned)between(1, GROUPS);
    accept->message.id = mail->id;
    accept->message.envelope = any_record(world, &mail->envelope_bytes);
    for (unsigned i = 0; i < mail->groups; i++) {
        accept->records[i] = any_record(world, &mail->record_bytes[i]);
        world->live.record_bytes += mail->record_bytes[i];
    }
    accept->message.groups = accept->records;
    accept->message.group_count = mail->groups;
    accept->message.run_count = 1;
    if (mail->bytes >= DRAFTED) {
        stream(world, accept, mail->bytes);
        world->live.chunks++;
    } else {
        accept->parts[0] = (struct slice){world->text, mail->bytes};
        accept->message.runs[0] = (struct store_run){0, accept->parts, 1};
    }
    world->live.chunks += chunks_of(mail->bytes);
    world->live.record_bytes += mail->envelope_bytes;
    world->live.records += 1 + mail->groups;
    accept->op.messages = &accept->message;
    accept->op.message_count = 1;
    submit(accept);
    count_most(world);
}

static void forget(struct world *world, size_t at)
{
    struct mail *mail = &world->mail[at];

    world->live.chunks -= chunks_of(mail->bytes) + (mail->bytes >= DRAFTED);
    world->live.record_bytes -= mail->envelope_bytes;
    world->live.records--;
    *mail = world->mail[--world->count];
}

/* One group of any message: delivered, or deferred with another answer. */
static void settle_one(struct world *world, bool is_deferred)
{
    size_t at = any() % world->count;
    struct mail *mail = &world->mail[at];
    struct operation *settle = operation_new(world, STORE_SETTLE, mail->id);
    unsigned group = 0;

    while (mail->record_bytes[group] == 0)
        group++;
    settle->op.group = group;
    world->live.record_bytes -= mail->record_bytes[group];
    mail->record_bytes[group] = 0;
    if (is_deferred) {
        settle->op.record = any_record(world, &mail->record_bytes[group]);
        world->live.record_bytes += mail->record_bytes[group];
    } else {
        world->live.records--;
        if (--mail->left == 0)
            forget(world, at);
    }
    submit(settle);
    count_most(world);
}

/* A client that went away in the middle of a large message. */
static void drop_one(struct world *world)
{
    uint64_t id = world->next_id++;
    struct operation *write = operation_new(world, STORE_DRAFT_WRITE, id);
    size_t bytes = between(DRAFTED, LARGEST);

    write->parts[0] = (struct slice){world->text, bytes};
    write->op.chunks = (struct store_run){STORE_BODY_CHUNK, write->parts, 1};
    world->live.chunks += chunks_of(bytes);
    count_most(world);
    submit(write);
    submit(operation_new(world, STORE_DRAFT_DROP, id));
    world->live.chunks -= chunks_of(bytes);
}

/* ---- the file ---- */

static void hold_against_the_bound(struct world *world)
{
    MDB_envinfo info;
    uint64_t bound = bound_bytes(&world->most);

    (void)mdb_env_info(world->store->env, &info);
    world->file_pages = info.me_last_pgno + 1;
    if (world->file_pages * PAGE > bound)
        fail_msg("the file has %llu bytes, the bound is %llu",
                 (unsigned long long)world->file_pages * PAGE, (unsigned long long)bound);
}

/* One operation or two; false: there is nothing to do. */
static bool step(struct world *world, size_t *come, size_t stay)
{
    if (any() % 1000 == 0)
        drop_one(world);
    if (*come > 0 && any() % 3 == 0) {
        accept_one(world);
        --*come;
    } else if (world->count > stay) {
        settle_one(world, any() % 4 == 0);
    }
    return *come > 0 || world->count > stay;
}

/* `come` messages come, and of what is there groups are settled until `stay` messages stay. */
static void run(struct world *world, size_t come, size_t stay)
{
    bool goes_on = true;

    while (goes_on) {
        for (int i = 0; i < BATCH && goes_on; i++)
            goes_on = step(world, &come, stay);
        wait_for_all(world);
        hold_against_the_bound(world);
    }
}

/* ---- the test ---- */

static int set_up(void **state)
{
    struct world *world = NEW(struct world);
    struct store_settings settings = {.directory = world->folder};
    struct fault fault;
    const char *above = getenv("TMPDIR");

    (void)snprintf(world->folder, sizeof world->folder, "%s/smtpd-churn-XXXXXX",
                   above ? above : "/tmp");
    assert_non_null(mkdtemp(world->folder));
    settings.loop = world->loop = loop_new();
    assert_int_equal(store_open(&settings, &world->store, &world->next_id, &fault),
                     RESULT_OK);
    world->text = memory_new(LARGEST);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    char path[PATH + 16];

    wait_for_all(world);
    store_close(world->store);
    loop_free(world->loop);
    (void)snprintf(path, sizeof path, "%s/data.mdb", world->folder);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/lock.mdb", world->folder);
    (void)unlink(path);
    assert_int_equal(rmdir(world->folder), 0);
    memory_free(world->mail);
    memory_free(world->text);
    memory_free(world);
    return 0;
}

static size_t number_of(const char *name, size_t usual)
{
    const char *text = getenv(name);

    return text ? (size_t)strtoull(text, NULL, 10) : usual;
}

static void the_file_stays_within_its_bound_and_space_is_used_again(void **state)
{
    struct world *world = *state;
    size_t messages = number_of("SMTPD_CHURN", MESSAGES);
    size_t backlog = messages / BACKLOGS / 2;
    uint64_t before_bytes = 0;

    seed = number_of("SMTPD_SEED", seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    world->mail = NEW_ARRAY(struct mail, messages + 1);
    for (int i = 0; i < BACKLOGS; i++) {
        run(world, backlog, backlog * 3 / 4);
        run(world, backlog, backlog / 20); /* it drains while mail comes in */
        run(world, 0, 0);
        if (getenv("SMTPD_CHURN"))
            print_message("after backlog %d: file %llu MiB, bound %llu MiB\n", i + 1,
                          (unsigned long long)world->file_pages * PAGE >> 20,
                          (unsigned long long)bound_bytes(&world->most) >> 20);
        /* What the file may grow from here on: as much as what is alive at the worst moment. */
        if (i == BACKLOGS / 2)
            before_bytes = bound_bytes(&world->most) - world->file_pages * PAGE;
    }
    assert_int_equal(world->count, 0);
    assert_int_equal(world->live.chunks, 0);
    assert_int_equal(world->live.record_bytes, 0);
    assert_true(world->file_pages * PAGE + before_bytes <=
                bound_bytes(&world->most) + COMMIT_BYTES + LARGEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            the_file_stays_within_its_bound_and_space_is_used_again, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
