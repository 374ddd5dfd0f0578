/* The tree of a file -> the values of struct config. */
#ifndef SMTPD_CONFIG_TREE_H
#define SMTPD_CONFIG_TREE_H

#include "options.h"
#include "problems.h"

/* Defaults first, then what the file says; complains of what it cannot take. */
void tree_read(struct loader *loader, const struct toml_node *root);
/* A file of one repeated table alone. */
void tree_read_table(struct loader *loader, const struct option_table *table,
                     const struct toml_node *root);
void tree_defaults(struct loader *loader);

#endif
