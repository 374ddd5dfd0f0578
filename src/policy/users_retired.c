/* Rejected: a pool thread that frees (sessions on the loop count references of the same
 * accounts), and one free at the change (a second of a standing loop for a large file). */
#include "users_retired.h"

#include "smtpd/base/list.h"
#include "smtpd/base/memory.h"
#include "users_table.h"

/* What is deferred runs up to LOOP_DEFERRED_ROUNDS times in a turn: some 750 accounts, two
 * milliseconds. */
enum { PORTION = 250 };

struct users_retired {
    struct loop *loop;
    struct list tables; /* struct old_table; the first is being freed */
    struct deferred turn;
    size_t count;
};

struct old_table {
    struct link link;
    struct map *accounts;
    size_t position; /* of the walk */
};

static void table_free(struct users_retired *retired, struct old_table *table)
{
    list_remove(&retired->tables, &table->link);
    users_table_free(table->accounts);
    memory_free(table);
}

static void free_some(struct old_table *table, size_t most)
{
    struct slice name;
    struct account *account;

    for (size_t i = 0; i < most && map_count(table->accounts) > 0; i++) {
        account = map_next(table->accounts, &table->position, &name);
        if (!account) { /* those that a removal moved round the end */
            table->position = 0;
            continue;
        }
        (void)map_remove(table->accounts, name);
        account_unref(account);
    }
}

static void on_turn(void *owner)
{
    struct users_retired *retired = owner;
    struct old_table *table =
        CONTAINER_OF(list_first(&retired->tables), struct old_table, link);
    size_t before = map_count(table->accounts);

    free_some(table, PORTION);
    retired->count -= before - map_count(table->accounts);
    if (map_count(table->accounts) == 0)
        table_free(retired, table);
    if (list_first(&retired->tables))
        loop_defer(retired->loop, &retired->turn, on_turn, retired);
}

struct users_retired *users_retired_new(struct loop *loop)
{
    struct users_retired *retired = NEW(struct users_retired);

    retired->loop = loop;
    list_init(&retired->tables);
    return retired;
}

void users_retired_take(struct users_retired *retired, struct map *table)
{
    struct old_table *old;

    if (!table)
        return;
    old = NEW(struct old_table);
    old->accounts = table;
    retired->count += map_count(table);
    if (!list_first(&retired->tables))
        loop_defer(retired->loop, &retired->turn, on_turn, retired);
    list_push_back(&retired->tables, &old->link);
}

size_t users_retired_count(const struct users_retired *retired)
{
    return retired->count;
}

void users_retired_free(struct users_retired *retired)
{
    struct link *link;

    if (!retired)
        return;
    deferred_cancel(retired->loop, &retired->turn);
    while ((link = list_first(&retired->tables)))
        table_free(retired, CONTAINER_OF(link, struct old_table, link));
    memory_free(retired);
}
