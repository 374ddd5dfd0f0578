/* [[source]] and [[pool]].
 *
 * Promises  pure; what is made lives in the config's memory.
 */
#ifndef SMTPD_CONFIG_SOURCES_H
#define SMTPD_CONFIG_SOURCES_H

#include "smtpd/config/config.h"

/* Rules between options: see rules.c. */
bool source_is_named(const struct config *config, const void *element);
bool source_has_address(const struct config *config, const void *element);
bool source_warms_up(const struct config *config, const void *element);
bool pool_is_named(const struct config *config, const void *element);
bool pool_has_sources(const struct config *config, const void *element);
bool pool_has_senders(const struct config *config, const void *element);
bool delivery_has_pool(const struct config *config, const void *element);
bool destination_has_pool(const struct config *config, const void *element);
bool route_has_pool(const struct config *config, const void *element);
bool pool_header_has_users(const struct config *config, const void *element);
bool pool_header_is_own(const struct config *config, const void *element);

void sources_add(struct config *config, struct deliver_settings *settings);
/* All pools, in their order. */
const struct pool_rule *sources_pool_rules(struct config *config, size_t *count);

#endif
