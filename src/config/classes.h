/* The rule files of failures: delivery.classes_file, and the one that is compiled in. */
#ifndef SMTPD_CONFIG_CLASSES_H
#define SMTPD_CONFIG_CLASSES_H

#include "problems.h"

#define CLASSES_SHIPPED "classes.toml"

/* src/config/classes.toml, as CMake wrote it into a file of C. */
extern const unsigned char classes_shipped[];
extern const size_t classes_shipped_bytes;

/* Reads delivery.classes_file where there is one, and looks at all [[class]] tables. */
void classes_read(struct loader *loader);

#endif
