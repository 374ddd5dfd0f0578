/* What is wrong with a file: collected with its place, up to a maximum. */
#ifndef SMTPD_CONFIG_PROBLEMS_H
#define SMTPD_CONFIG_PROBLEMS_H

#include "smtpd/base/nearest.h"
#include "smtpd/config/config.h"
#include "tomlc.h"

/* One reading of a file. */
struct loader {
    struct config *config;
    struct config_problems *problems;
    const char *file; /* that is being read; NULL: the file itself */
    bool *is_bad;     /* per option of the sections: its value was complained about */
};

void complain(struct loader *loader, struct toml_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A key of `section` (NULL: a section or repeated table itself). */
void complain_unknown(struct loader *loader, struct toml_place place, const char *section,
                      const char *key, const struct nearest *nearest);

size_t problems_so_far(const struct loader *loader);
void problems_sort(struct config_problems *problems); /* by place */

#endif
