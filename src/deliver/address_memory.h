/* Addresses that failed while another one of their host worked: they come last for a while (30 s
 * doubling to 15 min), so that a dead one costs one wait and not one for each message. */
#ifndef SMTPD_DELIVER_ADDRESS_MEMORY_H
#define SMTPD_DELIVER_ADDRESS_MEMORY_H

#include "smtpd/base/ip.h"

struct address_memory; /* bounded: full, others give way */

struct address_memory *address_memory_new(void);
void address_memory_free(struct address_memory *memory);
/* When its time is over, the first who asks is the probe, and the others hear "dead" for a while. */
bool address_is_dead(struct address_memory *memory, const struct endpoint *endpoint,
                     int64_t now_ms);
/* How long it comes last from now on, in ms; 0: it does already. */
int64_t address_failed(struct address_memory *memory, const struct endpoint *endpoint,
                       int64_t now_ms);
void address_works(struct address_memory *memory, const struct endpoint *endpoint);
/* The time of day stepped. */
void address_memory_move_clock(struct address_memory *memory, int64_t by_ms);
size_t address_memory_count(const struct address_memory *memory);

#endif
