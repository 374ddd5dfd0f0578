/* The tables -> smtpd.toml.example, docs/configuration.md and the effective values. CI
 * fails when the two files in the tree differ from what this prints. */
#include "smtpd/config/config.h"

#include "destinations.h"
#include "options.h"

#include <string.h>

enum { DOCUMENT_VALUE_MAX = 1 << 20 };

static bool is_in_section(const struct option *option, const char *section)
{
    size_t length = strlen(section);

    return strncmp(option->key, section, length) == 0 && option->key[length] == '.';
}

/* Words of `text` in lines of at most 88 columns, each with `prefix`. */
static enum result add_wrapped(struct bytes *into, const char *prefix, const char *text)
{
    struct slice rest = slice_of(text);
    struct slice word = slice_next_word(&rest);
    size_t column = 0;
    enum result added = RESULT_OK;

    while (word.length > 0 && added == RESULT_OK) {
        if (column == 0 || column + 1 + word.length > 88) {
            added = bytes_format(into, "%s%s", column ? "\n" : "", prefix);
            column = strlen(prefix);
        }
        if (added == RESULT_OK)
            added = bytes_format(into, "%s%.*s", column ? " " : "", (int)word.length,
                                 word.data);
        column += 1 + word.length;
        word = slice_next_word(&rest);
    }
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

/* The default as the file would have it; "" when there is none. */
static enum result add_default(struct bytes *into, const struct option *option)
{
    union {
        struct config config;
        char bytes[sizeof(struct config)];
    } scratch = {.bytes = {0}};
    struct option at_zero = *option;
    struct arena arena;
    struct type_context context = {.arena = &arena};
    enum result set;

    if (!option->default_text || option->default_text[0] == '@')
        return bytes_add_text(into, option->flags & OPTION_LIST ? "[]" : "\"\"");
    arena_init(&arena, 1 << 20);
    at_zero.offset = 0;
    set = option_set_default(&at_zero, option->default_text, scratch.bytes, &context);
    if (set == RESULT_OK)
        option_print(&at_zero, scratch.bytes, into);
    arena_clear(&arena);
    return set;
}

static enum result example_option(struct bytes *into, const struct option *option)
{
    const char *name = strchr(option->key, '.') + 1;
    enum result added = add_wrapped(into, "#", option->sentence);

    if (added == RESULT_OK)
        added = bytes_format(into, "# %s = ", name);
    if (added == RESULT_OK)
        added = add_default(into, option);
    return added == RESULT_OK ? bytes_add_text(into, "\n\n") : added;
}

static enum result example_section(struct bytes *into, const struct option_section *section)
{
    enum result added = bytes_format(into, "[%s]\n", section->name);

    for (size_t i = 0; i < config_option_count && added == RESULT_OK; i++)
        if (is_in_section(&config_options[i], section->name))
            added = example_option(into, &config_options[i]);
    return added;
}

enum result config_document_example(struct bytes *into)
{
    enum result added = bytes_add_text(into, "# The configuration of smtpd. Written by "
                                             "`smtpd document example`: do not edit here.\n"
                                             "# A line that begins with \"# name =\" shows "
                                             "the default. All options, with their\n"
                                             "# ranges, stand in docs/configuration.md. "
                                             "Check a file with: smtpd check FILE\n\n");

    for (size_t i = 0; i < config_section_count && added == RESULT_OK; i++)
        added = example_section(into, &config_sections[i]);
    for (size_t i = 0; i < config_table_count && added == RESULT_OK; i++) {
        added = add_wrapped(into, "#", config_tables[i].sentence);
        if (added == RESULT_OK)
            added = bytes_format(into, "%s\n", config_tables[i].example);
    }
    return added;
}

/* ---- the manual ---- */

static enum result manual_facts(struct bytes *into, const struct option *option)
{
    enum result added =
        bytes_format(into, "- %s", option->flags & OPTION_LIST ? "list of " : "");

    if (added == RESULT_OK && option->choices)
        added = bytes_format(into, "one of `%s`", option->choices);
    else if (added == RESULT_OK)
        added = bytes_format(into, "%s: %s", option->type->name, option->type->how);
    if (added == RESULT_OK)
        added = bytes_add_text(into, "\n- default: ");
    if (added == RESULT_OK && option->flags & OPTION_REQUIRED)
        added = bytes_add_text(into, "none, required");
    else if (added == RESULT_OK && option->default_text && option->default_text[0] == '@')
        added = bytes_format(into, "as `%s`", option->default_text + 1);
    else if (added == RESULT_OK && option->default_text) {
        added = bytes_add_text(into, "`");
        if (added == RESULT_OK)
            added = add_default(into, option);
        if (added == RESULT_OK)
            added = bytes_add_text(into, "`");
    } else if (added == RESULT_OK)
        added = bytes_add_text(into, "none");
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

static enum result manual_option(struct bytes *into, const struct option *option)
{
    const char *dot = strchr(option->key, '.');
    enum result added = bytes_format(into, "### `%s`\n\n%s\n\n",
                                     dot ? dot + 1 : option->key, option->sentence);

    if (added == RESULT_OK)
        added = manual_facts(into, option);
    if (added == RESULT_OK && (option->least || option->most))
        added =
            bytes_format(into, "- range: %s to %s\n", option->least ? option->least : "any",
                         option->most ? option->most : "any");
    if (added == RESULT_OK && option->flags & OPTION_RESTART)
        added = bytes_add_text(into, "- takes effect at the next start\n");
    if (added == RESULT_OK && option->flags & OPTION_SECRET)
        added = bytes_add_text(into, "- secret: never printed\n");
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

static enum result manual_section(struct bytes *into, const struct option_section *section)
{
    enum result added =
        bytes_format(into, "## [%s]\n\n%s\n\n", section->name, section->sentence);

    for (size_t i = 0; i < config_option_count && added == RESULT_OK; i++)
        if (is_in_section(&config_options[i], section->name))
            added = manual_option(into, &config_options[i]);
    return added;
}

static enum result manual_table(struct bytes *into, const struct option_table *table)
{
    enum result added = bytes_format(into, "## [[%s]]\n\n%s May stand up to %zu times.\n\n",
                                     table->name, table->sentence, table->most_elements);

    for (size_t i = 0; i < table->row_count && added == RESULT_OK; i++)
        added = manual_option(into, &table->rows[i]);
    return added;
}

static enum result manual_users(struct bytes *into)
{
    size_t count;
    const struct right_key *keys = rights_keys(&count);
    enum result added =
        bytes_add_text(into, "## The users file\n\n"
                             "`auth.users_file` holds a line per user, "
                             "`name:hash:key=value key=value`, written by\n"
                             "`smtpd user add` and `smtpd user set` and read again when it "
                             "changes. What is not given is\n"
                             "not limited there. See [limits](limits.md).\n\n"
                             "| key | what it does | how it is written |\n|---|---|---|\n");

    for (size_t i = 0; i < count && added == RESULT_OK; i++)
        added = bytes_format(into, "| `%s` | %s | %s |\n", keys[i].name, keys[i].sentence,
                             keys[i].how);
    return added == RESULT_OK ? bytes_add_text(into, "\n") : added;
}

enum result config_document_manual(struct bytes *into)
{
    enum result added =
        bytes_add_text(into, "# Configuration\n\n"
                             "Written by `smtpd document manual`: do not edit here.\n\n"
                             "One TOML 1.0 file, `/etc/smtpd/smtpd.toml` unless `--config` "
                             "names another. `smtpd check`\n"
                             "says for every error in it the line, the column, what is "
                             "wrong and what would be right;\n"
                             "`smtpd check --effective` prints every value and where it "
                             "comes from. SIGHUP applies all of\n"
                             "the file or nothing. Where nothing else is said, a change "
                             "takes effect then, for new\n"
                             "sessions and new attempts.\n\n");

    for (size_t i = 0; i < config_section_count && added == RESULT_OK; i++)
        added = manual_section(into, &config_sections[i]);
    for (size_t i = 0; i < config_table_count && added == RESULT_OK; i++)
        added = manual_table(into, &config_tables[i]);
    if (added == RESULT_OK)
        added = manual_users(into);
    if (added == RESULT_OK)
        added = bytes_add_text(into, "## What must fit together\n\n");
    for (size_t i = 0; i < config_rule_count && added == RESULT_OK; i++)
        added = bytes_format(into, "- `%s%s%s`: %s\n",
                             config_rules[i].table ? config_rules[i].table : "",
                             config_rules[i].table ? "." : "", config_rules[i].key,
                             config_rules[i].sentence);
    return added;
}

/* ---- the effective values ---- */

static bool has_value(const struct option *option, const void *base)
{
    struct bytes text;
    bool is_there;

    bytes_init(&text, DOCUMENT_VALUE_MAX);
    option_print(option, base, &text);
    is_there = !slice_equal_text(bytes_view(&text), "\"\"");
    bytes_fini(&text);
    return is_there;
}

enum result config_document_destinations(struct bytes *into)
{
    return bytes_add(into, (struct slice){(const char *)destinations_shipped,
                                          destinations_shipped_bytes});
}

static enum result effective_row(struct bytes *into, const struct option *option,
                                 const void *base, unsigned line, const char *path)
{
    const char *dot = strchr(option->key, '.');
    size_t start = into->length;
    /* Nothing stands there, and "" need not be a value: a comment, so that what is printed
     * can be read again. */
    bool is_missing = line == 0 && !has_value(option, base);
    enum result added =
        bytes_format(into, "%s%s = ", is_missing ? "# " : "", dot ? dot + 1 : option->key);
    size_t width;

    option_print(option, base, into);
    width = into->length - start;
    if (added == RESULT_OK)
        added = bytes_format(into, "%*s  # ", width < 48 ? (int)(48 - width) : 0, "");
    if (added != RESULT_OK)
        return added;
    return line ? bytes_format(into, "%s:%u\n", path, line)
                : bytes_add_text(into, "default\n");
}

static enum result effective_table(struct bytes *into, const struct config *config,
                                   const struct option_table *table, const char *path)
{
    enum result added = RESULT_OK;
    struct value_list list;

    memcpy(&list, (const char *)config + table->offset, sizeof list);
    for (size_t n = 0; n < list.count && added == RESULT_OK; n++) {
        const void *element = (const char *)list.items + n * table->element_bytes;
        const struct config_element *place = element;

        added = bytes_format(into, "\n[[%s]]\n", table->name);
        for (size_t i = 0; i < table->row_count && added == RESULT_OK; i++) {
            bool is_shipped =
                place->lines[i] == 0 && place->shipped_lines && place->shipped_lines[i] > 0;

            added = effective_row(into, &table->rows[i], element,
                                  is_shipped ? place->shipped_lines[i] : place->lines[i],
                                  is_shipped ? DESTINATIONS_SHIPPED : path);
        }
    }
    return added;
}

/* What they set: the rest is as in [delivery]. */
static enum result effective_shipped(struct bytes *into, const struct config *config)
{
    const struct config_destination *shipped = config->shipped_destination.items;
    const struct option_table *table = config_tables;
    enum result added = RESULT_OK;

    while (strcmp(table->name, "destination") != 0)
        table++;
    for (size_t n = 0; n < config->shipped_destination.count; n++) {
        if (shipped[n].is_replaced)
            continue;
        if (added == RESULT_OK)
            added = bytes_add_text(into, "\n[[destination]]  # shipped\n");
        for (size_t i = 0; i < table->row_count && added == RESULT_OK; i++)
            if (shipped[n].element.lines[i] > 0)
                added = effective_row(into, &table->rows[i], &shipped[n],
                                      shipped[n].element.lines[i], DESTINATIONS_SHIPPED);
    }
    return added;
}

enum result config_print_effective(const struct config *config, const char *path,
                                   struct bytes *into)
{
    enum result added = RESULT_OK;

    for (size_t s = 0; s < config_section_count && added == RESULT_OK; s++) {
        added = bytes_format(into, "%s[%s]\n", s ? "\n" : "", config_sections[s].name);
        for (size_t i = 0; i < config_option_count && added == RESULT_OK; i++)
            if (is_in_section(&config_options[i], config_sections[s].name))
                added =
                    effective_row(into, &config_options[i], config, config->lines[i], path);
    }
    for (size_t i = 0; i < config_table_count && added == RESULT_OK; i++)
        added = effective_table(into, config, &config_tables[i], path);
    return added == RESULT_OK ? effective_shipped(into, config) : added;
}

/* ---- the differences of a reload ---- */

struct comparison {
    struct bytes before;
    struct bytes after;
    config_change_fn *each;
    void *owner;
};

static const char *as_text(struct bytes *bytes)
{
    return bytes_add(bytes, (struct slice){"", 1}) == RESULT_OK ? bytes->data : "";
}

static void report_if_different(struct comparison *comparison, const char *key,
                                bool needs_restart)
{
    if (!slice_equal(bytes_view(&comparison->before), bytes_view(&comparison->after)))
        comparison->each(comparison->owner, key, as_text(&comparison->before),
                         as_text(&comparison->after), needs_restart);
    bytes_clear(&comparison->before);
    bytes_clear(&comparison->after);
}

static void print_elements(const struct config *config, const struct option_table *table,
                           struct bytes *into)
{
    struct value_list list;

    memcpy(&list, (const char *)config + table->offset, sizeof list);
    for (size_t n = 0; n < list.count; n++) {
        for (size_t i = 0; i < table->row_count; i++) {
            if (bytes_format(into, "%s%s = ", n || i ? ", " : "", table->rows[i].key) !=
                RESULT_OK)
                return;
            option_print(&table->rows[i],
                         (const char *)list.items + n * table->element_bytes, into);
        }
    }
}

static bool is_same_text(const void *before, const void *after)
{
    const char *a;
    const char *b;

    memcpy(&a, before, sizeof a);
    memcpy(&b, after, sizeof b);
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Secrets print alike, whatever they are; that one changed must be told all the same. */
static void note_other_secret(const struct config *before, const struct config *after,
                              const struct option_table *table, struct bytes *into)
{
    struct value_list old;
    struct value_list new;

    memcpy(&old, (const char *)before + table->offset, sizeof old);
    memcpy(&new, (const char *)after + table->offset, sizeof new);
    for (size_t n = 0; n < old.count && n < new.count; n++) {
        for (size_t i = 0; i < table->row_count; i++) {
            size_t at = n * table->element_bytes + table->rows[i].offset;

            if (!(table->rows[i].flags & OPTION_SECRET) ||
                is_same_text((const char *)old.items + at, (const char *)new.items + at))
                continue;
            if (bytes_format(into, " (another %s)", table->rows[i].key) != RESULT_OK)
                return;
        }
    }
}

/* A reload binds new sockets before it closes old ones: it cannot have a port on one address that is
 * bound on all, the other way round, or from listeners for those of admin.listen. */
static bool is_in_the_way(const struct config *before, const struct endpoint *wanted,
                          bool of_admin)
{
    const struct config_listen *listen = before->listen.items;
    const struct endpoint *admin = before->admin_listen.items;
    bool is_known = false;
    bool is_held = false;

    for (size_t i = 0; i < before->listen.count; i++) {
        const struct endpoint *own = listen[i].address.items;

        for (size_t k = 0; k < listen[i].address.count; k++) {
            is_known = is_known || (!of_admin && endpoint_equal(&own[k], wanted));
            is_held = is_held || endpoint_overlaps(&own[k], wanted) ||
                      (of_admin && endpoint_equal(&own[k], wanted));
        }
    }
    for (size_t i = 0; i < before->admin_listen.count; i++) {
        is_known = is_known || (of_admin && endpoint_equal(&admin[i], wanted));
        is_held = is_held || endpoint_overlaps(&admin[i], wanted) ||
                  (!of_admin && endpoint_equal(&admin[i], wanted));
    }
    return is_held && !is_known;
}

static bool listeners_need_restart(const struct config *before, const struct config *after)
{
    const struct config_listen *listen = after->listen.items;

    for (size_t i = 0; i < after->listen.count; i++) {
        const struct endpoint *wanted = listen[i].address.items;

        for (size_t k = 0; k < listen[i].address.count; k++)
            if (is_in_the_way(before, &wanted[k], false))
                return true;
    }
    return false;
}

static bool admin_needs_restart(const struct config *before, const struct config *after)
{
    const struct endpoint *wanted = after->admin_listen.items;

    for (size_t i = 0; i < after->admin_listen.count; i++)
        if (is_in_the_way(before, &wanted[i], true))
            return true;
    return false;
}

void config_compare(const struct config *before, const struct config *after,
                    config_change_fn *each, void *owner)
{
    struct comparison comparison = {.each = each, .owner = owner};

    bytes_init(&comparison.before, 1 << 20);
    bytes_init(&comparison.after, 1 << 20);
    for (size_t i = 0; i < config_option_count; i++) {
        option_print(&config_options[i], before, &comparison.before);
        option_print(&config_options[i], after, &comparison.after);
        report_if_different(&comparison, config_options[i].key,
                            (config_options[i].flags & OPTION_RESTART) != 0 ||
                                (strcmp(config_options[i].key, "admin.listen") == 0 &&
                                 admin_needs_restart(before, after)));
    }
    for (size_t i = 0; i < config_table_count; i++) {
        print_elements(before, &config_tables[i], &comparison.before);
        print_elements(after, &config_tables[i], &comparison.after);
        note_other_secret(before, after, &config_tables[i], &comparison.after);
        report_if_different(&comparison, config_tables[i].name,
                            strcmp(config_tables[i].name, "listen") == 0 &&
                                listeners_need_restart(before, after));
    }
    bytes_fini(&comparison.before);
    bytes_fini(&comparison.after);
}
