/* Sections, repeated tables, lists and values, as the option tables have them. */
#include "tree.h"

#include <stdio.h>
#include <string.h>

/* ---- one value ---- */

static enum result scalar_text(const struct toml_node *node, char *buffer,
                               size_t buffer_bytes, struct slice *text)
{
    size_t length = 0;

    switch (toml_node_kind(node)) {
    case TOML_KIND_STRING:
        text->data = toml_node_string(node, &length);
        text->length = length;
        return memchr(text->data, 0, length) ? RESULT_INVALID : RESULT_OK;
    case TOML_KIND_INTEGER:
        (void)snprintf(buffer, buffer_bytes, "%lld", (long long)toml_node_integer(node));
        break;
    case TOML_KIND_BOOLEAN:
        (void)snprintf(buffer, buffer_bytes, "%s",
                       toml_node_boolean(node) ? "true" : "false");
        break;
    case TOML_KIND_TABLE:
    case TOML_KIND_ARRAY:
    case TOML_KIND_FLOAT:
    case TOML_KIND_DATE:
    default:
        return RESULT_INVALID;
    }
    *text = slice_of(buffer);
    return RESULT_OK;
}

static bool check_bound(struct loader *loader, const struct option *option,
                        const void *value, const char *bound, int wrong_sign)
{
    uint64_t limit = 0; /* as large as any type with an order */
    struct type_context context = {.arena = &loader->config->arena, .option = option};
    int order;

    if (!bound || !option->type->compare)
        return true;
    if (option->type->parse(&context, slice_of(bound), &limit) != RESULT_OK)
        return true; /* the test of the table finds this */
    order = option->type->compare(value, &limit);
    return wrong_sign < 0 ? order >= 0 : order <= 0;
}

/* A number is no path, and true is no name, though both could be written as a text. */
static bool kind_fits(const struct option *option, const struct toml_node *node)
{
    if (toml_node_kind(node) == TOML_KIND_INTEGER)
        return option->type->compare != NULL;
    return toml_node_kind(node) != TOML_KIND_BOOLEAN || option->type == &type_bool;
}

/* Parses one node into `value`; complains by itself. */
static bool read_item(struct loader *loader, const char *name, const struct option *option,
                      const struct toml_node *node, void *value)
{
    struct type_context context = {.arena = &loader->config->arena, .option = option};
    struct toml_place place = toml_node_place(node);
    struct slice text;
    char buffer[32];

    if (!kind_fits(option, node) ||
        scalar_text(node, buffer, sizeof buffer, &text) != RESULT_OK) {
        complain(loader, place, "%s: expected a %s: %s%s", name, option->type->name,
                 option->choices ? "in quotes, one of " : option->type->how,
                 option->choices ? option->choices : "");
        return false;
    }
    if (option->type->parse(&context, text, value) != RESULT_OK) {
        if (option->flags & OPTION_SECRET)
            complain(loader, place, "%s: not a usable text", name);
        else
            complain(loader, place, "%s: %s", name, context.wrong);
        return false;
    }
    if (!check_bound(loader, option, value, option->least, -1)) {
        complain(loader, place, "%s: too small; the least is %s", name, option->least);
        return false;
    }
    if (!check_bound(loader, option, value, option->most, 1)) {
        complain(loader, place, "%s: too large; the most is %s", name, option->most);
        return false;
    }
    return true;
}

static void read_list(struct loader *loader, const char *name, const struct option *option,
                      const struct toml_node *node, void *value)
{
    bool is_array = toml_node_kind(node) == TOML_KIND_ARRAY;
    size_t count = is_array ? toml_node_count(node) : 1; /* one text is fine too */
    size_t item_bytes = option->type->value_bytes;
    struct value_list list = {arena_alloc(&loader->config->arena, (count + 1) * item_bytes),
                              0};
    size_t i;

    if (!list.items) {
        complain(loader, toml_node_place(node), "%s: the list is too long", name);
        return;
    }
    for (i = 0; i < count; i++) {
        const struct toml_node *item =
            is_array ? toml_node_item(node, i, NULL, NULL) : node;

        if (read_item(loader, name, option, item,
                      (char *)list.items + list.count * item_bytes))
            list.count++;
    }
    memcpy(value, &list, sizeof list);
}

static void read_value(struct loader *loader, const char *name, const struct option *option,
                       const struct toml_node *node, void *base)
{
    void *value = (char *)base + option->offset;

    if (option->flags & OPTION_LIST)
        read_list(loader, name, option, node, value);
    else if (toml_node_kind(node) == TOML_KIND_ARRAY)
        complain(loader, toml_node_place(node), "%s: one value is expected, not a list",
                 name);
    else
        (void)read_item(loader, name, option, node, value);
}

/* ---- sections and repeated tables ---- */

static void read_section(struct loader *loader, const char *section,
                         const struct toml_node *node)
{
    size_t i;

    for (i = 0; i < toml_node_count(node); i++) {
        struct toml_place place = {0};
        const char *key = NULL;
        const struct toml_node *item = toml_node_item(node, i, &key, &place);
        struct nearest nearest = {.wanted = key};
        char name[160];
        const struct option *option;

        (void)snprintf(name, sizeof name, "%s.%s", section, key);
        option = option_find(config_options, config_option_count, name);
        if (option) {
            size_t index = (size_t)(option - config_options);
            size_t before = problems_so_far(loader);

            loader->config->lines[index] = place.line;
            loader->config->columns[index] = place.column;
            read_value(loader, name, option, item, loader->config);
            loader->is_bad[index] = problems_so_far(loader) > before;
            continue;
        }
        for (size_t k = 0; k < config_option_count; k++)
            if (strncmp(config_options[k].key, name, strlen(section) + 1) == 0)
                nearest_offer(&nearest, config_options[k].key + strlen(section) + 1);
        complain_unknown(loader, place, section, key, &nearest);
    }
}

static void read_row(struct loader *loader, const struct option_table *table, void *element,
                     const struct toml_node *node, size_t at)
{
    struct config_element *place_of = element;
    struct toml_place place = {0};
    const char *key = NULL;
    const struct toml_node *item = toml_node_item(node, at, &key, &place);
    const struct option *option = option_find(table->rows, table->row_count, key);
    struct nearest nearest = {.wanted = key};
    char name[160];

    (void)snprintf(name, sizeof name, "%s.%s", table->name, key);
    if (option) {
        place_of->lines[option - table->rows] = place.line;
        place_of->columns[option - table->rows] = place.column;
        read_value(loader, name, option, item, element);
        return;
    }
    for (size_t k = 0; k < table->row_count; k++)
        nearest_offer(&nearest, table->rows[k].key);
    complain_unknown(loader, place, table->name, key, &nearest);
}

static void inherit(struct loader *loader, const struct option *option, void *element)
{
    const struct option *from =
        option_find(config_options, config_option_count, option->default_text + 1);

    if (from)
        memcpy((char *)element + option->offset,
               (const char *)loader->config + from->offset,
               option->flags & OPTION_LIST ? sizeof(struct value_list)
                                           : option->type->value_bytes);
}

static void set_defaults(struct loader *loader, const struct option *rows, size_t row_count,
                         void *base)
{
    struct type_context context = {.arena = &loader->config->arena};
    size_t i;

    for (i = 0; i < row_count; i++) {
        if (!rows[i].default_text)
            continue;
        if (rows[i].default_text[0] == '@')
            inherit(loader, &rows[i], base);
        else if (option_set_default(&rows[i], rows[i].default_text, base, &context) !=
                 RESULT_OK)
            complain(loader, (struct toml_place){0}, "%s: bad default", rows[i].key);
    }
}

static void read_element(struct loader *loader, const struct option_table *table,
                         const struct toml_node *node, void *element)
{
    struct arena *arena = &loader->config->arena;
    struct config_element *place_of = element;
    size_t before = problems_so_far(loader);
    size_t i;

    place_of->line = toml_node_place(node).line;
    place_of->column = toml_node_place(node).column;
    place_of->lines = arena_alloc(arena, table->row_count * sizeof *place_of->lines);
    place_of->columns = arena_alloc(arena, table->row_count * sizeof *place_of->columns);
    set_defaults(loader, table->rows, table->row_count, element);
    for (i = 0; i < toml_node_count(node); i++)
        read_row(loader, table, element, node, i);
    for (i = 0; i < table->row_count; i++)
        if (table->rows[i].flags & OPTION_REQUIRED && place_of->lines[i] == 0)
            complain(loader, toml_node_place(node), "[[%s]] needs \"%s\" (%s)", table->name,
                     table->rows[i].key, table->rows[i].type->how);
    place_of->is_bad = problems_so_far(loader) > before;
}

static void read_table(struct loader *loader, const struct option_table *table,
                       const struct toml_node *node, struct toml_place key_place)
{
    size_t count = toml_node_count(node);
    struct value_list list = {0};
    size_t i;

    if (toml_node_kind(node) != TOML_KIND_ARRAY) {
        complain(loader, key_place, "write [[%s]] with two brackets: there may be several",
                 table->name);
        return;
    }
    if (count > table->most_elements) {
        complain(loader, key_place, "too many [[%s]] tables; the most is %zu", table->name,
                 table->most_elements);
        return;
    }
    list.items = arena_alloc(&loader->config->arena, (count + 1) * table->element_bytes);
    for (i = 0; i < count && list.items; i++) {
        const struct toml_node *item = toml_node_item(node, i, NULL, NULL);

        if (toml_node_kind(item) == TOML_KIND_TABLE)
            read_element(loader, table, item,
                         (char *)list.items + list.count++ * table->element_bytes);
        else
            complain(loader, toml_node_place(item), "[[%s]] must be a table", table->name);
    }
    memcpy((char *)loader->config + table->offset, &list, sizeof list);
}

static bool read_known_section(struct loader *loader, const char *key,
                               struct toml_place place, const struct toml_node *node)
{
    for (size_t k = 0; k < config_section_count; k++) {
        if (strcmp(config_sections[k].name, key) != 0)
            continue;
        if (toml_node_kind(node) == TOML_KIND_TABLE)
            read_section(loader, key, node);
        else
            complain(loader, place, "write [%s] and its keys below it", key);
        return true;
    }
    return false;
}

static bool read_known_table(struct loader *loader, const char *key,
                             struct toml_place place, const struct toml_node *node)
{
    for (size_t k = 0; k < config_table_count; k++) {
        if (strcmp(config_tables[k].name, key) != 0)
            continue;
        read_table(loader, &config_tables[k], node, place);
        return true;
    }
    return false;
}

static void complain_unknown_section(struct loader *loader, const char *key,
                                     struct toml_place place)
{
    struct nearest nearest = {.wanted = key};

    for (size_t k = 0; k < config_section_count; k++)
        nearest_offer(&nearest, config_sections[k].name);
    for (size_t k = 0; k < config_table_count; k++)
        nearest_offer(&nearest, config_tables[k].name);
    complain_unknown(loader, place, NULL, key, &nearest);
}

/* Sections first: repeated tables take defaults from [delivery]. */
static void read_root(struct loader *loader, const struct toml_node *root)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < toml_node_count(root); i++) {
            struct toml_place place = {0};
            const char *key = NULL;
            const struct toml_node *node = toml_node_item(root, i, &key, &place);

            if (pass == 0)
                (void)read_known_section(loader, key, place, node);
            else if (!option_section_is_known(key) &&
                     !read_known_table(loader, key, place, node))
                complain_unknown_section(loader, key, place);
        }
    }
}

void tree_read_table(struct loader *loader, const struct option_table *table,
                     const struct toml_node *root)
{
    for (size_t i = 0; i < toml_node_count(root); i++) {
        struct toml_place place = {0};
        const char *key = NULL;
        const struct toml_node *node = toml_node_item(root, i, &key, &place);
        struct nearest nearest = {.wanted = key};

        nearest_offer(&nearest, table->name);
        if (strcmp(key, table->name) == 0)
            read_table(loader, table, node, place);
        else
            complain_unknown(loader, place, NULL, key, &nearest);
    }
}

void tree_defaults(struct loader *loader)
{
    set_defaults(loader, config_options, config_option_count, loader->config);
}

void tree_read(struct loader *loader, const struct toml_node *root)
{
    tree_defaults(loader);
    read_root(loader, root);
}
