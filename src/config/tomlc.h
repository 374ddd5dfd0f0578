/* A C face over toml++ for reading: a tree of nodes, each with its place in the file. */
#ifndef SMTPD_CONFIG_TOMLC_H
#define SMTPD_CONFIG_TOMLC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct toml_document;
struct toml_node; /* belongs to the document */

enum toml_kind {
    TOML_KIND_TABLE,
    TOML_KIND_ARRAY,
    TOML_KIND_STRING,
    TOML_KIND_INTEGER,
    TOML_KIND_FLOAT,
    TOML_KIND_BOOLEAN,
    TOML_KIND_DATE
};

struct toml_place {
    unsigned line;
    unsigned column;
};

struct toml_error {
    struct toml_place place;
    char text[256];
};

/* NULL: `error` says where and why. */
struct toml_document *toml_read(const char *text, size_t length, struct toml_error *error);
void toml_document_free(struct toml_document *document);
const struct toml_node *toml_root(const struct toml_document *document);

enum toml_kind toml_node_kind(const struct toml_node *node);
struct toml_place toml_node_place(const struct toml_node *node);
/* Of a table or an array; 0 for others. */
size_t toml_node_count(const struct toml_node *node);
/* The i-th item. For a table its key and the key's place too (in order of the keys). */
const struct toml_node *toml_node_item(const struct toml_node *node, size_t index,
                                       const char **key, struct toml_place *key_place);
const char *toml_node_string(const struct toml_node *node, size_t *length);
int64_t toml_node_integer(const struct toml_node *node);
bool toml_node_boolean(const struct toml_node *node);

#ifdef __cplusplus
}
#endif

#endif
