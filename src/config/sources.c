/* [[source]] and [[pool]]: what holds between them, and the settings that they make. */
#include "sources.h"

#include "options.h"

#include <string.h>

enum { WEIGHT_MOST = 1000 };

/* "NAME" or "NAME=WEIGHT"; the weight is 0 where there is none. */
static bool read_member(const char *text, struct slice *name, unsigned *weight)
{
    struct slice whole = slice_of(text);
    size_t equals = slice_find(whole, '=');
    uint64_t number = 0;

    *name = slice_trim(slice_part(whole, 0, equals));
    *weight = 0;
    if (equals == whole.length)
        return true;
    if (slice_to_u64(slice_trim(slice_from(whole, equals + 1)), WEIGHT_MOST, &number) !=
            RESULT_OK ||
        number == 0)
        return false;
    *weight = (unsigned)number;
    return true;
}

/* ---- rules ---- */

bool source_is_named(const struct config *config, const void *element)
{
    const struct config_source *mine = element;
    const struct config_source *other = config->source.items;

    for (; other < mine; other++)
        if (!other->element.is_bad && strcmp(other->name, mine->name) == 0)
            return false;
    return deliver_source_name_is_valid(slice_of(mine->name));
}

bool source_has_address(const struct config *config, const void *element)
{
    struct ip ip;

    (void)config;
    return ip_parse(slice_of(((const struct config_source *)element)->address), &ip) ==
           RESULT_OK;
}

bool source_warms_up(const struct config *config, const void *element)
{
    (void)config;
    return ((const struct config_source *)element)->warm_up.count <= DELIVER_WARM_UP_DAYS;
}

bool pool_is_named(const struct config *config, const void *element)
{
    const struct config_pool *mine = element;
    const struct config_pool *other = config->pool.items;

    for (; other < mine; other++)
        if (!other->element.is_bad && strcmp(other->name, mine->name) == 0)
            return false;
    return deliver_source_name_is_valid(slice_of(mine->name)) &&
           strcmp(mine->name, DELIVER_NO_POOL) != 0;
}

static bool has_source(const struct config *config, struct slice name)
{
    const struct config_source *source = config->source.items;

    for (size_t i = 0; i < config->source.count; i++)
        if (source[i].name && slice_equal_text(name, source[i].name))
            return true;
    return false;
}

bool pool_has_sources(const struct config *config, const void *element)
{
    const struct config_pool *pool = element;
    const char *const *sources = pool->sources.items;

    for (size_t i = 0; i < pool->sources.count; i++) {
        struct slice name;
        unsigned weight;

        if (!read_member(sources[i], &name, &weight) || !has_source(config, name))
            return false;
        for (size_t k = 0; k < i; k++) {
            struct slice other;

            if (read_member(sources[k], &other, &weight) && slice_equal(other, name))
                return false;
        }
    }
    return pool->sources.count > 0 && pool->sources.count <= DELIVER_POOL_MEMBERS_MAX;
}

bool pool_has_senders(const struct config *config, const void *element)
{
    const struct config_pool *pool = element;
    const char *const *senders = pool->senders.items;
    struct address address;

    (void)config;
    for (size_t i = 0; i < pool->senders.count; i++)
        if (address_parse_mailbox(slice_of(senders[i]), &address) != RESULT_OK)
            return false;
    return true;
}

static bool has_pool(const struct config *config, const char *name, bool may_be_none)
{
    const struct config_pool *pool = config->pool.items;

    if (!name || (may_be_none && strcmp(name, DELIVER_NO_POOL) == 0))
        return true;
    for (size_t i = 0; i < config->pool.count; i++)
        if (pool[i].name && strcmp(pool[i].name, name) == 0)
            return true;
    return false;
}

bool delivery_has_pool(const struct config *config, const void *element)
{
    (void)element;
    return has_pool(config, config->delivery.pool, false);
}

bool destination_has_pool(const struct config *config, const void *element)
{
    return has_pool(config, ((const struct config_destination *)element)->transfer.pool,
                    true);
}

bool route_has_pool(const struct config *config, const void *element)
{
    return has_pool(config, ((const struct config_route *)element)->transfer.pool, true);
}

bool pool_header_has_users(const struct config *config, const void *element)
{
    (void)element;
    return !config->pool_header == (config->pool_users.count == 0);
}

static bool equal_fields(const char *left, const char *right)
{
    return left && right && slice_equal_text_fold(slice_of(left), right);
}

bool pool_header_is_own(const struct config *config, const void *element)
{
    (void)element;
    return !equal_fields(config->pool_header, config->tenant_header) &&
           !equal_fields(config->pool_header, config->priority_header);
}

/* ---- settings ---- */

static void add_sources(struct config *config, struct deliver_settings *settings)
{
    const struct config_source *from = config->source.items;
    struct deliver_source *sources =
        arena_alloc(&config->arena, (config->source.count + 1) * sizeof *sources);

    if (!sources)
        return;
    settings->sources = sources;
    for (size_t i = 0; i < config->source.count; i++) {
        struct deliver_source *source = &sources[i];

        *source = (struct deliver_source){.name = from[i].name,
                                          .ehlo = from[i].ehlo,
                                          .weight = from[i].weight,
                                          .warm_up = from[i].warm_up.items,
                                          .warm_up_count = from[i].warm_up.count};
        if (ip_parse(slice_of(from[i].address), &source->ip) == RESULT_OK)
            settings->source_count++; /* the rules have seen to it */
    }
}

static struct deliver_pool_member *pool_members(struct config *config,
                                                const struct config_pool *pool)
{
    const char *const *from = pool->sources.items;
    struct deliver_pool_member *members =
        arena_alloc(&config->arena, (pool->sources.count + 1) * sizeof *members);

    for (size_t i = 0; members && i < pool->sources.count; i++) {
        struct slice name;

        (void)read_member(from[i], &name, &members[i].weight);
        members[i].source = arena_text(&config->arena, name);
        if (!members[i].source)
            return NULL;
    }
    return members;
}

void sources_add(struct config *config, struct deliver_settings *settings)
{
    const struct config_pool *from = config->pool.items;
    struct deliver_pool *pools =
        arena_alloc(&config->arena, (config->pool.count + 1) * sizeof *pools);

    add_sources(config, settings);
    for (size_t i = 0; pools && i < config->pool.count; i++) {
        struct deliver_pool_member *members = pool_members(config, &from[i]);

        pools[i] = (struct deliver_pool){from[i].name, members,
                                         members ? from[i].sources.count : 0};
    }
    settings->pool_rules = sources_pool_rules(config, &settings->pool_rule_count);
    settings->pools = pools;
    settings->pool_count = pools ? config->pool.count : 0;
}

const struct pool_rule *sources_pool_rules(struct config *config, size_t *count)
{
    const struct config_pool *from = config->pool.items;
    struct pool_rule *rules =
        arena_alloc(&config->arena, (config->pool.count + 1) * sizeof *rules);

    *count = rules ? config->pool.count : 0;
    for (size_t i = 0; i < *count; i++)
        rules[i] = (struct pool_rule){from[i].name,
                                      from[i].senders.items,
                                      from[i].senders.count,
                                      from[i].sender_domains.items,
                                      from[i].sender_domains.count,
                                      from[i].tenants.items,
                                      from[i].tenants.count};
    return rules;
}
