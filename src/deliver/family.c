/* Address families that fail while the other one works. */
#include "family.h"

#include "clock.h"

#include "smtpd/base/ip.h"
#include "smtpd/base/log.h"

#include <stddef.h>

static const char *const names[FAMILIES] = {"ipv4", "ipv6"};

enum family family_of(const struct ip *ip)
{
    return ip_is_v4(ip) ? FAMILY_IPV4 : FAMILY_IPV6;
}

bool family_stands_behind(const struct family_memory *memory, enum family family,
                          int64_t now_ms)
{
    return memory->of[family].behind_until_ms > now_ms;
}

void family_probe(struct family_memory *memory, enum family family, int64_t now_ms)
{
    int64_t until_ms = memory->of[family].behind_until_ms;

    if (until_ms != 0 && until_ms <= now_ms)
        memory->of[family].behind_until_ms = now_ms + FAMILY_BEHIND_MS;
}

bool family_failed(struct family_memory *memory, enum family family, const void *host,
                   int64_t now_ms)
{
    unsigned most = host ? FAMILY_ALL_FAILURES : FAMILY_HOST_FAILURES;

    if (memory->of[family].behind_until_ms != 0)
        return false;
    if (host && memory->of[family].last == host)
        return false;
    memory->of[family].last = host;
    if (++memory->of[family].failures < most)
        return false;
    memory->of[family].behind_until_ms = now_ms + FAMILY_BEHIND_MS;
    return true;
}

bool family_works(struct family_memory *memory, enum family family)
{
    bool was_behind = memory->of[family].behind_until_ms != 0;

    memory->of[family].failures = 0;
    memory->of[family].behind_until_ms = 0;
    memory->of[family].last = NULL;
    return was_behind;
}

/* ---- events ---- */

void family_move_clock(struct family_memory *memory, int64_t by_ms)
{
    for (int family = 0; family < FAMILIES; family++)
        clock_move(&memory->of[family].behind_until_ms, by_ms);
}

void family_log_behind(enum family family, const char *host)
{
    struct log_line line;

    log_start(&line, LOG_WARNING, "deliver.family_demoted");
    log_text(&line, "family", names[family]);
    log_text(&line, "host", host);
    log_text(&line, "message",
             host ? "it failed again and again at this host, where the other one works"
                  : "it failed at one host after the other, where the other one works");
    log_seconds(&line, "wait", FAMILY_BEHIND_MS);
    log_end(&line);
}

void family_log_back(enum family family, const char *host)
{
    struct log_line line;

    log_start(&line, LOG_NOTICE, "deliver.family_restored");
    log_text(&line, "family", names[family]);
    log_text(&line, "host", host);
    log_end(&line);
}
