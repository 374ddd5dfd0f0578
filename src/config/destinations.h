/* The [[destination]] blocks of large providers that are compiled in, and what the file makes of them. */
#ifndef SMTPD_CONFIG_DESTINATIONS_H
#define SMTPD_CONFIG_DESTINATIONS_H

#include "problems.h"

#define DESTINATIONS_SHIPPED "destinations.toml"

/* src/config/destinations.toml, as CMake wrote it into a file of C. */
extern const unsigned char destinations_shipped[];
extern const size_t destinations_shipped_bytes;

/* Reads them, unless delivery.shipped_destinations = false. A block of the file with the name of one
 * takes what it does not set from there, and its place. */
void destinations_read(struct loader *loader);

#endif
