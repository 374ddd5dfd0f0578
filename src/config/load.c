/* The file -> struct config, collecting every problem with its place. The tree comes from
 * toml++ (tomlc.cpp); after a syntax error there is no tree, so that one comes alone. */
#include "smtpd/config/config.h"

#include "classes.h"
#include "destinations.h"
#include "options.h"
#include "problems.h"
#include "smtpd/base/file.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "tomlc.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 16 << 20, CONFIG_ARENA = 64 << 20, PASSWORD_FILE_MAX = 4096 };

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

/* Rules look at values: where one is bad, another complaint would only be noise. */
static bool looks_at_bad(const struct loader *loader, const struct option_rule *rule,
                         const void *element)
{
    const char *keys[] = {rule->table ? NULL : rule->key, rule->also};

    if (element && ((const struct config_element *)element)->is_bad)
        return true;
    for (int i = 0; i < 2; i++) {
        const struct option *option =
            keys[i] ? option_find(config_options, config_option_count, keys[i]) : NULL;

        if (option && loader->is_bad[option - config_options])
            return true;
    }
    return false;
}

static void check_rule(struct loader *loader, const struct option_rule *rule,
                       const struct option_table *table, const void *element)
{
    if (!looks_at_bad(loader, rule, element) && !rule->holds(loader->config, element))
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
    classifier_unref(config->classifier);
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
    classes_read(loader);
    destinations_read(loader);
    check_rules(loader);
    problems_sort(loader->problems);
}

struct config *config_defaults(void)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct loader loader = {.config = config_new(), .problems = problems};

    tree_defaults(&loader);
    memory_free(problems);
    return loader.config;
}

/* What can be understood, with whatever problems; NULL: it is no TOML. */
static struct config *read_text(struct slice text, struct config_problems *problems)
{
    struct loader loader = {.config = config_new(), .problems = problems};
    struct toml_error error;
    struct toml_document *document = toml_read(text.data, text.length, &error);

    problems->count = problems->left_out = 0;
    if (!document) {
        complain(&loader, error.place, "not TOML 1.0: %s", error.text);
        config_free(loader.config);
        return NULL;
    }
    loader.is_bad =
        arena_alloc(&loader.config->arena, config_option_count * sizeof *loader.is_bad);
    tree_read(&loader, toml_root(document));
    finish(&loader);
    toml_document_free(document);
    return loader.config;
}

struct config *config_load_text(struct slice text, const char *name,
                                struct config_problems *problems)
{
    struct config *config = read_text(text, problems);

    if (problems->count == 0) {
        config->path = arena_text(&config->arena, slice_of(name));
        return config;
    }
    config_free(config);
    return NULL;
}

struct config *config_load(const char *path, struct config_problems *problems)
{
    struct config *config = NULL;
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, FILE_MAX);
    result = file_read(path, &text, &fault);
    if (result == RESULT_OK) {
        config = config_load_text(bytes_view(&text), path, problems);
    } else {
        problems->count = 1;
        problems->left_out = 0;
        problems->items[0].line = problems->items[0].column = 0;
        problems->items[0].file[0] = '\0';
        (void)snprintf(problems->items[0].text, sizeof problems->items[0].text,
                       "cannot read the file: %.200s%s", fault.text,
                       result == RESULT_NOT_FOUND
                           ? "; \"smtpd document example\" prints one to begin "
                             "with, a container wants it mounted there"
                           : "");
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

    bytes_init(&text, FILE_MAX);
    if (file_read(path, &text, NULL) == RESULT_OK)
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
