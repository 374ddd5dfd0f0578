/* The file -> struct config, collecting every problem with its place. The tree comes from
 * toml++ (tomlc.cpp); after a syntax error there is no tree, so that one comes alone. */
#include "smtpd/config/config.h"

#include "options.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/nearest.h"
#include "smtpd/base/secure.h"
#include "tomlc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 16 << 20, CONFIG_ARENA = 64 << 20, PASSWORD_FILE_MAX = 4096 };

struct loader {
    struct config *config;
    struct config_problems *problems;
};

static void complain(struct loader *loader, struct toml_place place, const char *format,
                     ...) __attribute__((format(printf, 3, 4)));

static void complain(struct loader *loader, struct toml_place place, const char *format,
                     ...)
{
    struct config_problems *problems = loader->problems;
    struct config_problem *problem;
    va_list arguments;

    if (problems->count == CONFIG_PROBLEMS_MAX) {
        problems->left_out++;
        return;
    }
    problem = &problems->items[problems->count++];
    problem->line = place.line;
    problem->column = place.column;
    va_start(arguments, format);
    (void)vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
}

/* A key of `section` (NULL: a section or repeated table itself). */
static void complain_unknown(struct loader *loader, struct toml_place place,
                             const char *section, const char *key, struct nearest *nearest)
{
    const char *dot = section ? "." : "";

    complain(loader, place, "unknown key \"%s%s%s\"; did you mean \"%s\"?",
             section ? section : "", dot, key, nearest->name);
}

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

/* Parses one node into `value`; complains by itself. */
static bool read_item(struct loader *loader, const char *name, const struct option *option,
                      const struct toml_node *node, void *value)
{
    struct type_context context = {.arena = &loader->config->arena, .option = option};
    struct toml_place place = toml_node_place(node);
    struct slice text;
    char buffer[32];

    if (scalar_text(node, buffer, sizeof buffer, &text) != RESULT_OK) {
        complain(loader, place, "%s: expected a %s: %s", name, option->type->name,
                 option->type->how);
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

            loader->config->lines[index] = place.line;
            loader->config->columns[index] = place.column;
            read_value(loader, name, option, item, loader->config);
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
               (const char *)loader->config + from->offset, option->type->value_bytes);
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

/* ---- what the tables cannot say ---- */

static void take_system_hostname(struct config *config)
{
    char name[256] = "";
    char normal[DOMAIN_TEXT];

    if (config->hostname)
        return;
    if (gethostname(name, sizeof name - 1) == 0 &&
        domain_normalise(slice_of(name), normal) == RESULT_OK)
        config->hostname = arena_text(&config->arena, slice_of(normal));
}

/* Where an option of an element stands; where it does not, the element. */
static struct toml_place place_in(const char *name, const struct config_element *element,
                                  const char *key)
{
    struct toml_place place = {element->line, element->column};

    for (size_t i = 0; i < config_table_count; i++) {
        const struct option_table *table = &config_tables[i];
        const struct option *row = option_find(table->rows, table->row_count, key);

        if (strcmp(table->name, name) == 0 && row && element->lines[row - table->rows])
            place = (struct toml_place){element->lines[row - table->rows],
                                        element->columns[row - table->rows]};
    }
    return place;
}

static void read_password_file(struct loader *loader, struct config_route *route)
{
    struct toml_place place = place_in("route", &route->element, "password_file");
    char text[PASSWORD_FILE_MAX];
    int fd = open(route->password_file, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof text) : -1;
    int error = errno;
    size_t end = 0;

    if (fd >= 0)
        (void)close(fd);
    if (length < 0) {
        complain(loader, place, "route.password_file: cannot read %s: %s",
                 route->password_file, strerror(error));
        return;
    }
    while (end < (size_t)length && text[end] >= ' ')
        end++;
    if (end == 0)
        complain(loader, place, "route.password_file: the first line of %s is empty",
                 route->password_file);
    route->secret = arena_text(&loader->config->arena, (struct slice){text, end});
    secure_wipe(text, sizeof text);
}

static void finish_route(struct loader *loader, struct config_route *route)
{
    const char *secret;

    if (!route->name)
        route->name = route->host ? route->host : "";
    route->secret = route->password;
    if (route->password_file) {
        read_password_file(loader, route);
    } else if (route->password_env) {
        secret = getenv(route->password_env);
        if (!secret || !*secret)
            complain(loader, place_in("route", &route->element, "password_env"),
                     "route.password_env: the environment has no %s", route->password_env);
        else
            route->secret = arena_text(&loader->config->arena, slice_of(secret));
    }
}

static struct toml_place rule_place(const struct loader *loader,
                                    const struct option_rule *rule,
                                    const struct option_table *table, const void *element)
{
    const struct config_element *place_of = element;
    const struct option *rows = table ? table->rows : config_options;
    const struct option *option =
        option_find(rows, table ? table->row_count : config_option_count, rule->key);
    struct toml_place place = {0};

    if (table && option && place_of->lines[option - rows])
        return (struct toml_place){place_of->lines[option - rows],
                                   place_of->columns[option - rows]};
    if (table)
        return (struct toml_place){place_of->line, place_of->column};
    if (option) {
        place.line = loader->config->lines[option - rows];
        place.column = loader->config->columns[option - rows];
    }
    return place;
}

static void check_rule(struct loader *loader, const struct option_rule *rule,
                       const struct option_table *table, const void *element)
{
    if (!rule->holds(loader->config, element))
        complain(loader, rule_place(loader, rule, table, element), "%s%s%s: %s",
                 table ? table->name : "", table ? "." : "", rule->key, rule->sentence);
}

static void check_rules(struct loader *loader)
{
    for (size_t i = 0; i < config_rule_count; i++) {
        const struct option_rule *rule = &config_rules[i];

        if (!rule->table) {
            check_rule(loader, rule, NULL, NULL);
            continue;
        }
        for (size_t k = 0; k < config_table_count; k++) {
            const struct option_table *table = &config_tables[k];
            struct value_list list;

            if (strcmp(table->name, rule->table) != 0)
                continue;
            memcpy(&list, (const char *)loader->config + table->offset, sizeof list);
            for (size_t n = 0; n < list.count; n++)
                check_rule(loader, rule, table,
                           (char *)list.items + n * table->element_bytes);
        }
    }
}

static int by_place(const void *a, const void *b)
{
    const struct config_problem *left = a;
    const struct config_problem *right = b;

    if (left->line != right->line)
        return left->line < right->line ? -1 : 1;
    return (left->column > right->column) - (left->column < right->column);
}

static struct config *config_new(void)
{
    struct config *config = NEW(struct config);

    arena_init(&config->arena, CONFIG_ARENA);
    config->lines =
        arena_alloc(&config->arena, config_option_count * sizeof *config->lines);
    config->columns =
        arena_alloc(&config->arena, config_option_count * sizeof *config->columns);
    return config;
}

static void wipe(const char *secret)
{
    if (secret)
        secure_wipe((char *)(uintptr_t)secret,
                    strlen(secret)); /* our own copy, in the arena */
}

void config_free(struct config *config)
{
    struct config_route *routes;

    if (!config)
        return;
    routes = config->route.items;
    for (size_t i = 0; i < config->route.count; i++) {
        wipe(routes[i].password);
        wipe(routes[i].secret);
    }
    arena_clear(&config->arena);
    memory_free(config);
}

static void finish(struct loader *loader)
{
    struct config_route *routes;

    take_system_hostname(loader->config);
    routes = loader->config->route.items;
    for (size_t i = 0; i < loader->config->route.count; i++)
        finish_route(loader, &routes[i]);
    /* Rules look at values: with a bad one about, they would only add noise. */
    if (loader->problems->count == 0)
        check_rules(loader);
    qsort(loader->problems->items, loader->problems->count, sizeof *loader->problems->items,
          by_place);
}

/* What can be understood, with whatever problems; NULL: it is no TOML. */
static struct config *read_text(struct slice text, struct config_problems *problems)
{
    struct loader loader = {config_new(), problems};
    struct toml_error error;
    struct toml_document *document = toml_read(text.data, text.length, &error);

    problems->count = problems->left_out = 0;
    if (!document) {
        complain(&loader, error.place, "not TOML 1.0: %s", error.text);
        config_free(loader.config);
        return NULL;
    }
    set_defaults(&loader, config_options, config_option_count, loader.config);
    read_root(&loader, toml_root(document));
    finish(&loader);
    toml_document_free(document);
    return loader.config;
}

struct config *config_load_text(struct slice text, const char *name,
                                struct config_problems *problems)
{
    struct config *config = read_text(text, problems);

    (void)name;
    if (problems->count == 0)
        return config;
    config_free(config);
    return NULL;
}

static bool read_file(const char *path, struct bytes *text, int *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_read = fd >= 0;

    while (is_read) {
        char *room = bytes_reserve(text, 65536);
        ssize_t got = room ? read(fd, room, 65536) : -1;

        if (!room)
            errno = EFBIG;
        if (got <= 0) {
            is_read = got == 0;
            break;
        }
        text->length += (size_t)got;
    }
    *error = errno;
    if (fd >= 0)
        (void)close(fd);
    return is_read;
}

struct config *config_load(const char *path, struct config_problems *problems)
{
    struct config *config = NULL;
    struct bytes text;
    int error = 0;

    bytes_init(&text, FILE_MAX);
    if (read_file(path, &text, &error)) {
        config = config_load_text(bytes_view(&text), path, problems);
    } else {
        problems->count = 1;
        problems->left_out = 0;
        problems->items[0].line = problems->items[0].column = 0;
        (void)snprintf(problems->items[0].text, sizeof problems->items[0].text,
                       "cannot read the file: %s", strerror(error));
    }
    if (text.length)
        secure_wipe(text.data, text.length);
    bytes_fini(&text);
    return config;
}

char *config_data_dir(const char *path)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct config *config = NULL;
    struct bytes text;
    char *folder = NULL;
    int error;

    bytes_init(&text, FILE_MAX);
    if (read_file(path, &text, &error))
        config = read_text(bytes_view(&text), problems);
    if (config && config->data_dir)
        folder = memory_text(config->data_dir);
    if (text.length)
        secure_wipe(text.data, text.length);
    bytes_fini(&text);
    config_free(config);
    memory_free(problems);
    return folder;
}

void config_problems_print(const struct config_problems *problems, const char *path,
                           struct bytes *into)
{
    enum result added = RESULT_OK;

    for (size_t i = 0; i < problems->count && added == RESULT_OK; i++) {
        const struct config_problem *problem = &problems->items[i];

        if (problem->line)
            added = bytes_format(into, "%s:%u:%u: %s\n", path, problem->line,
                                 problem->column, problem->text);
        else
            added = bytes_format(into, "%s: %s\n", path, problem->text);
    }
    if (problems->left_out && added == RESULT_OK)
        added = bytes_format(into, "%s: and %zu more\n", path, problems->left_out);
    (void)added;
}
