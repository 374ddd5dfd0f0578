/* [[class]] tables of smtpd.toml and of rule files -> the rules of a classifier. The shipped file
 * is read when somebody asks for the classifier: most commands do not. */
#include "classes.h"

#include "options.h"
#include "smtpd/base/check.h"
#include "smtpd/base/file.h"
#include "smtpd/base/memory.h"
#include "tree.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { FILE_MAX = 4 << 20 };

/* Where delivery.classes_file stands. */
static struct toml_place place_of_option(const struct config *config)
{
    const struct option *option =
        option_find(config_options, config_option_count, "delivery.classes_file");
    size_t at = (size_t)(option - config_options);

    return (struct toml_place){config->lines[at], config->columns[at]};
}

static struct option_table file_table(void)
{
    struct option_table table = {0};

    for (size_t i = 0; i < config_table_count; i++)
        if (strcmp(config_tables[i].name, "class") == 0)
            table = config_tables[i];
    table.offset = offsetof(struct config, file_class);
    return table;
}

static void check_parts(struct loader *loader, const struct value_list *list)
{
    const struct config_class *rules = list->items;

    for (size_t i = 0; i < list->count; i++)
        if (!rules[i].element.is_bad && !rules[i].code && !rules[i].status &&
            !rules[i].text && !rules[i].host)
            complain(loader,
                     (struct toml_place){rules[i].element.line, rules[i].element.column},
                     "[[class]] needs at least one of code, status, text and host, or it "
                     "would fit everything");
}

static void read_rules(struct loader *loader, struct slice text)
{
    struct option_table table = file_table();
    struct toml_error error;
    struct toml_document *document = toml_read(text.data, text.length, &error);

    if (!document) {
        complain(loader, error.place, "not TOML 1.0: %s", error.text);
        return;
    }
    tree_read_table(loader, &table, toml_root(document));
    check_parts(loader, &loader->config->file_class);
    toml_document_free(document);
}

void classes_read(struct loader *loader)
{
    const char *path = loader->config->classes_file;
    struct bytes text;
    struct fault fault;

    check_parts(loader, &loader->config->class);
    if (!path)
        return;
    bytes_init(&text, FILE_MAX);
    if (file_read(path, &text, &fault) == RESULT_OK) {
        loader->file = path;
        read_rules(loader, bytes_view(&text));
        loader->file = NULL;
    } else {
        complain(loader, place_of_option(loader->config),
                 "delivery.classes_file: cannot read %s: %s", path, fault.text);
    }
    bytes_fini(&text);
}

/* ---- the classifier ---- */

static void read_shipped(struct config *config)
{
    struct config_problems *problems = NEW(struct config_problems);
    struct loader loader = {
        .config = config, .problems = problems, .file = CLASSES_SHIPPED};

    read_rules(&loader,
               (struct slice){(const char *)classes_shipped, classes_shipped_bytes});
    CHECK(problems->count == 0);
    memory_free(problems);
}

static size_t add_rules(struct class_rule *rules, const struct value_list *list,
                        const char *file)
{
    const struct config_class *from = list->items;

    for (size_t i = 0; i < list->count; i++)
        rules[i] = (struct class_rule){
            .class = (enum deliver_class)(CLASS_BAD_MAILBOX + from[i].class),
            .code = from[i].code,
            .status = from[i].status,
            .text = from[i].text,
            .host = from[i].host,
            .file = file,
            .line = from[i].element.line,
        };
    return list->count;
}

struct classifier *config_classifier(struct config *config)
{
    struct class_rule *rules;
    size_t count;

    if (config->classifier)
        return config->classifier;
    if (!config->classes_file)
        read_shipped(config);
    rules =
        NEW_ARRAY(struct class_rule, config->class.count + config->file_class.count + 1);
    count = add_rules(rules, &config->class, config->path);
    count += add_rules(rules + count, &config->file_class,
                       config->classes_file ? config->classes_file : CLASSES_SHIPPED);
    config->classifier = classifier_new(rules, count);
    memory_free(rules);
    CHECK(config->classifier); /* each rule was looked at when it was read */
    return config->classifier;
}
