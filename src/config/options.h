/* The tables that everything about the configuration comes from. */
#ifndef SMTPD_CONFIG_OPTIONS_H
#define SMTPD_CONFIG_OPTIONS_H

#include "type.h"

enum option_flags {
    OPTION_RELOADABLE = 1,
    OPTION_RESTART = 2, /* takes effect at the next start only */
    OPTION_SECRET = 4,  /* never printed */
    OPTION_REQUIRED = 8,
    OPTION_LIST = 16 /* the value is a struct value_list of the type */
};

struct option {
    const char
        *key; /* "limits.message_size"; in a repeated table without the table's name */
    const struct option_type *type;
    size_t offset; /* in struct config, or in the element */
    /* In the language of the file (items of a list by ", "); NULL: none, stays empty.
     * "@delivery.connections": as that option says. */
    const char *default_text;
    const char *least;
    const char *most;
    unsigned flags;
    const char *choices; /* "none|starttls|implicit" */
    const char *sentence;
};

struct option_table { /* a repeated table: [[listen]] */
    const char *name;
    size_t offset; /* of its struct value_list in struct config */
    size_t element_bytes;
    size_t most_elements;
    const struct option *rows;
    size_t row_count;
    const char *sentence;
    const char *example; /* lines of the example file */
};

struct option_rule {
    const char *table; /* NULL: of the whole file; else asked for each element */
    const char *key;   /* where to point at */
    bool (*holds)(const struct config *config, const void *element);
    const char *sentence; /* what is wrong, and what would be right */
    const char *also;     /* an option of the sections that it looks at, or NULL */
};

extern const struct option config_options[];
extern const size_t config_option_count;
extern const struct option_table config_tables[];
extern const size_t config_table_count;
extern const struct option_rule config_rules[];
extern const size_t config_rule_count;

/* Sections in order of the file, with a sentence each. */
struct option_section {
    const char *name;
    const char *sentence;
};
extern const struct option_section config_sections[];
extern const size_t config_section_count;
bool option_section_is_known(const char *name);

/* The value as it stands in the file: quotes, brackets, "" for none. Secrets are masked. */
void option_print(const struct option *option, const void *base, struct bytes *into);
/* Parses `text` (items by ", " for a list) into base + offset. */
enum result option_set_default(const struct option *option, const char *text, void *base,
                               struct type_context *context);
const struct option *option_find(const struct option *options, size_t count,
                                 const char *key);

#endif
