/* Which address of a host is tried first. Only what failed while another one worked is held against
 * an address or a family: when nothing works it is the host that is at fault. */
#include "dialing.h"

#include "address_memory.h"
#include "family.h"
#include "source.h"
#include "smtpd/base/log.h"

#include <string.h>

enum { CONNECT_MS = 30000 };

enum rank { RANK_GOOD, RANK_BEHIND, RANK_DEAD, RANKS };

static bool has_both(const struct destination *destination, const struct plan_host *host)
{
    if (destination->source)
        return false; /* its own is the only one that counts */
    for (size_t i = 1; i < host->address_count; i++)
        if (family_of(&host->addresses[i]) != family_of(&host->addresses[0]))
            return true;
    return false;
}

/* At the host, or everywhere. A probe of one is none while the family stands behind in the other. */
static bool stands_behind(struct destination *destination, const struct plan_host *host,
                          enum family family)
{
    struct family_memory *all = &destination->deliver->families;
    struct host_memory *memory = host_find(destination, host->name);
    int64_t now_ms = deliver_now(destination->deliver);

    if (family_stands_behind(all, family, now_ms) ||
        (memory && family_stands_behind(&memory->families, family, now_ms)))
        return true;
    family_probe(all, family, now_ms);
    if (memory)
        family_probe(&memory->families, family, now_ms);
    return false;
}

static void find_behind(struct destination *destination, const struct plan_host *host,
                        bool behind[FAMILIES])
{
    behind[FAMILY_IPV4] = stands_behind(destination, host, FAMILY_IPV4);
    behind[FAMILY_IPV6] = stands_behind(destination, host, FAMILY_IPV6);
    if (behind[FAMILY_IPV4] && behind[FAMILY_IPV6])
        behind[FAMILY_IPV4] = behind[FAMILY_IPV6] = false;
}

static bool is_reached(const struct destination *destination, const struct ip *address)
{
    const struct source *source = destination->source;

    return !source || family_of(address) == family_of(&source->ip);
}

size_t dialing_order(struct destination *destination, const struct plan_host *host,
                     struct endpoint addresses[LIMIT_HOST_ADDRESSES])
{
    struct deliver *deliver = destination->deliver;
    bool behind[FAMILIES] = {false, false};
    enum rank ranks[LIMIT_HOST_ADDRESSES];
    size_t count = 0;

    if (has_both(destination, host))
        find_behind(destination, host, behind);
    for (size_t i = 0; i < host->address_count; i++) {
        struct endpoint address = {host->addresses[i], destination->plan.port};

        ranks[i] = behind[family_of(&address.ip)] ? RANK_BEHIND : RANK_GOOD;
        if (address_is_dead(deliver->addresses, &address, deliver_now(deliver)))
            ranks[i] = RANK_DEAD;
    }
    for (enum rank rank = RANK_GOOD; rank < RANKS; rank++) {
        size_t from = count;

        for (size_t i = 0; i < host->address_count; i++)
            if (ranks[i] == rank && is_reached(destination, &host->addresses[i]))
                addresses[count++] =
                    (struct endpoint){host->addresses[i], destination->plan.port};
        dial_interleave(addresses + from, count - from, behind[FAMILY_IPV6]);
    }
    return count;
}

/* ---- what is learned ---- */

static void learn_address(struct destination *destination, const struct plan_host *host,
                          const struct endpoint *address)
{
    struct deliver *deliver = destination->deliver;
    int64_t wait_ms = address_failed(deliver->addresses, address, deliver_now(deliver));
    char text[IP_TEXT];
    struct log_line line;

    if (wait_ms == 0)
        return;
    endpoint_print(address, text);
    log_start(&line, LOG_INFO, "deliver.address_failed");
    log_text(&line, "peer", text);
    log_text(&line, "host", host->name);
    log_seconds(&line, "wait", wait_ms);
    log_end(&line);
}

static void learn_family_failed(const struct dialing *dialing, enum family family)
{
    struct deliver *deliver = dialing->destination->deliver;
    struct host_memory *memory = host_find(dialing->destination, dialing->host->name);
    int64_t now_ms = deliver_now(deliver);

    if (!memory)
        return;
    if (family_failed(&memory->families, family, NULL, now_ms))
        family_log_behind(family, dialing->host->name);
    if (family_failed(&deliver->families, family, memory, now_ms))
        family_log_behind(family, NULL);
}

static void learn_family_works(const struct dialing *dialing, enum family family)
{
    struct deliver *deliver = dialing->destination->deliver;
    struct host_memory *memory = host_find(dialing->destination, dialing->host->name);

    if (memory && family_works(&memory->families, family))
        family_log_back(family, dialing->host->name);
    if (family_works(&deliver->families, family))
        family_log_back(family, NULL);
}

static void learn(const struct dialing *dialing, const struct endpoint *winner)
{
    bool failed[FAMILIES] = {false, false};
    enum family family = family_of(&winner->ip);

    for (size_t i = 0; i < dialing->failed_count; i++) {
        failed[family_of(&dialing->failed[i].ip)] = true;
        learn_address(dialing->destination, dialing->host, &dialing->failed[i]);
    }
    address_works(dialing->destination->deliver->addresses, winner);
    learn_family_works(dialing, family);
    family = family == FAMILY_IPV4 ? FAMILY_IPV6 : FAMILY_IPV4;
    if (failed[family])
        learn_family_failed(dialing, family);
}

void dialing_tried(void *owner, const struct endpoint *address, enum dial_outcome outcome)
{
    struct dialing *dialing = owner;

    if (outcome == DIAL_WON)
        learn(dialing, address);
    else if (dialing->failed_count < LIMIT_HOST_ADDRESSES)
        dialing->failed[dialing->failed_count++] = *address;
}

void dialing_blame(struct destination *destination, const struct plan_host *host,
                   const struct endpoint *address)
{
    if (host->address_count > 1)
        learn_address(destination, host, address);
}

/* ---- the dial ---- */

struct dial *dialing_start(struct dialing *dialing, const struct deliver_timeouts *timeouts,
                           dial_end_fn *on_end, void *owner)
{
    struct endpoint addresses[LIMIT_HOST_ADDRESSES];
    const struct source *source = dialing->destination->source;
    bool is_v4 = source && ip_is_v4(&source->ip);
    struct dial_sources sources = {is_v4 ? &source->ip : NULL,
                                   source && !is_v4 ? &source->ip : NULL};
    struct dial_request request = {
        .addresses = addresses,
        .count = dialing_order(dialing->destination, dialing->host, addresses),
        .sources = source ? &sources : NULL,
        .delay_ms = timeouts->attempt_delay,
        .timeout_ms = timeouts->connect ? timeouts->connect : CONNECT_MS,
        .on_tried = dialing_tried,
        .tried_owner = dialing};

    dialing->failed_count = 0;
    return dial_start(dialing->destination->deliver->rooms.net, &request, on_end, owner);
}
