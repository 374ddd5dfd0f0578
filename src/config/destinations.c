/* Shipped values are looked up by name, and never go beyond those of [delivery]. */
#include "destinations.h"

#include "options.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "tree.h"

#include <string.h>

static const struct option_table *file_table(void)
{
    for (size_t i = 0; i < config_table_count; i++)
        if (strcmp(config_tables[i].name, "destination") == 0)
            return &config_tables[i];
    return NULL;
}

static void read_shipped(struct loader *loader)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct loader own = {
        .config = loader->config, .problems = problems, .file = DESTINATIONS_SHIPPED};
    struct option_table table = *file_table();
    struct toml_error error;
    struct toml_document *document =
        toml_read((const char *)destinations_shipped, destinations_shipped_bytes, &error);

    CHECK(document);
    table.offset = offsetof(struct config, shipped_destination);
    tree_read_table(&own, &table, toml_root(document));
    CHECK(problems->count == 0);
    toml_document_free(document);
    memory_free(problems);
}

/* ---- not beyond [delivery] ---- */

static bool is_slower(const struct quota *a, const struct quota *b)
{
    if (a->count == 0 || b->count == 0)
        return a->count > 0;
    return (double)a->count * (double)b->window_ms <
           (double)b->count * (double)a->window_ms;
}

struct least {
    const char *key;
    void *value;
    const void *least;
    size_t bytes;
};

static void take_least(const struct option_table *table, struct config_element *element,
                       const struct least *taken)
{
    const struct option *row = option_find(table->rows, table->row_count, taken->key);

    memcpy(taken->value, taken->least, taken->bytes);
    element->lines[row - table->rows] = 0; /* it is that of [delivery] again */
}

static void keep_within(const struct option_table *table, const struct config *config,
                        struct config_destination *one)
{
    struct config_transfer *mine = &one->transfer;
    const struct config_transfer *all = &config->delivery;
    const struct {
        const char *key;
        unsigned *value;
        const unsigned *least;
    } counts[] = {
        {"connections", &mine->connections, &all->connections},
        {"messages_per_connection", &mine->messages_per_connection,
         &all->messages_per_connection},
        {"recipients_per_transaction", &mine->recipients_per_transaction,
         &all->recipients_per_transaction},
    };
    const struct {
        const char *key;
        struct quota *value;
        const struct quota *least;
    } rates[] = {
        {"message_rate", &mine->message_rate, &all->message_rate},
        {"connection_rate", &mine->connection_rate, &all->connection_rate},
    };

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (*counts[i].least < *counts[i].value)
            take_least(table, &one->element,
                       &(struct least){counts[i].key, counts[i].value, counts[i].least,
                                       sizeof *counts[i].value});
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (is_slower(rates[i].least, rates[i].value))
            take_least(table, &one->element,
                       &(struct least){rates[i].key, rates[i].value, rates[i].least,
                                       sizeof *rates[i].value});
}

/* ---- what the file says of one of them ---- */

static void fill_in(const struct option_table *table, struct config_destination *mine,
                    const struct config_destination *shipped)
{
    mine->element.shipped_lines = shipped->element.lines;
    for (size_t i = 0; i < table->row_count; i++) {
        const struct option *row = &table->rows[i];
        size_t bytes =
            row->flags & OPTION_LIST ? sizeof(struct value_list) : row->type->value_bytes;

        if (mine->element.lines[i] == 0 && shipped->element.lines[i] > 0)
            memcpy((char *)mine + row->offset, (const char *)shipped + row->offset, bytes);
    }
}

static void merge(const struct option_table *table, struct config *config,
                  struct config_destination *shipped)
{
    struct config_destination *mine = config->destination.items;

    for (size_t i = 0; i < config->destination.count; i++) {
        if (!mine[i].name || strcmp(mine[i].name, shipped->name) != 0)
            continue;
        fill_in(table, &mine[i], shipped);
        shipped->is_replaced = true;
    }
}

void destinations_read(struct loader *loader)
{
    const struct option_table *table = file_table();
    struct config *config = loader->config;
    struct config_destination *shipped;

    if (!config->shipped_destinations)
        return;
    read_shipped(loader);
    shipped = config->shipped_destination.items;
    for (size_t i = 0; i < config->shipped_destination.count; i++) {
        keep_within(table, config, &shipped[i]);
        merge(table, config, &shipped[i]);
    }
}
