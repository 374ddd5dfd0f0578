/* Replies of providers who say that they want less, and what is done about it. */
#include "reaction.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
#define GOOGLE "*.google.com", "*.googlemail.com"
#define MICROSOFT "*.outlook.com", "*.hotmail.com", "*.mx.microsoft"
static const char *const google[] = {GOOGLE};
static const char *const microsoft[] = {MICROSOFT};
static const char *const yahoo[] = {"*.yahoodns.net"};
static const char *const apple[] = {"*.icloud.com"};
static const char *const comcast[] = {"*.comcast.net"};
static const char *const gmx[] = {"*.gmx.net", "*.gmx.com", "*.web.de", "*.1and1.com", "*.kundenserver.de"};
#define AT(hosts) hosts, sizeof(hosts) / sizeof *(hosts)
#define MINUTES(n) ((int64_t)(n) * 60000)

static const struct reaction shipped[] = {
    /* Google: an unusual rate of unsolicited mail, from the address, its network or the domain. */
    {"4xx", "4.7.28", NULL, AT(google), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    {"421", "4.7.0", "unusual rate", AT(google), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    {"421", "4.7.0", "Try again later, closing connection", AT(google), MINUTES(5), 0, REACTION_BACK_OFF, 0, 0},
    /* Yahoo, AOL: TSS04 unexpected volume or complaints; the others are its harder brothers. */
    {"4xx", NULL, "[TSS04]", AT(yahoo), MINUTES(30), 0, REACTION_BACK_OFF, 0, 0},
    {"4xx", NULL, "[TSS0*]", AT(yahoo), MINUTES(60), 0, REACTION_BACK_OFF, 0, 0},
    {NULL, NULL, "[TSS1*]", AT(yahoo), MINUTES(240), 0, REACTION_SUSPEND, 0, 0},
    /* Microsoft: 4.7.500 to 4.7.699 are throttles of Exchange Online; RP-001 to 003 of Outlook.com. */
    {"451", "4.7.650", NULL, AT(microsoft), MINUTES(15), 0, REACTION_BACK_OFF, 0, 0},
    {"451", "4.7.5*", NULL, AT(microsoft), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "RP-00", AT(microsoft), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    /* Apple, Comcast (RL: rate limit), GMX and web.de. */
    {"4xx", "4.7.*", "rate", AT(apple), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "too many messages", AT(apple), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "RL0000", AT(comcast), MINUTES(60), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "too many messages", AT(gmx), MINUTES(15), 0, REACTION_BACK_OFF, 0, 0},
    /* Whoever says it in words. */
    {"4xx", NULL, "rate limit", NULL, 0, MINUTES(30), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "ratelimit", NULL, 0, MINUTES(30), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "throttl", NULL, 0, MINUTES(30), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "sending too fast", NULL, 0, MINUTES(30), 0, REACTION_SLOW, 50, 0},
    {"4xx", NULL, "temporarily deferred due to", NULL, 0, MINUTES(15), 0, REACTION_BACK_OFF, 0, 0},
};
/* clang-format on */

const struct reaction *reaction_shipped(size_t *count)
{
    *count = sizeof shipped / sizeof *shipped;
    return shipped;
}

bool reaction_code_matches(const char *pattern, unsigned code)
{
    char text[8];

    (void)snprintf(text, sizeof text, "%03u", code % 1000);
    for (int i = 0; i < 3; i++)
        if (pattern[i] != text[i] && pattern[i] != 'x')
            return false;
    return pattern[3] == '\0';
}

static char lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

/* Goes back to the last star only, which is enough: at most pattern x text steps. */
static bool glob(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *behind = NULL;

    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            behind = text;
        } else if (lower(*pattern) == lower(*text)) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++behind;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool reaction_text_matches(const char *pattern, const char *text)
{
    char anywhere[REACTION_PATTERN_MAX + 3];

    (void)snprintf(anywhere, sizeof anywhere, "*%.*s*", REACTION_PATTERN_MAX, pattern);
    return glob(anywhere, text);
}

static bool is_at(const struct reaction *reaction, const char *host, const char *domain)
{
    for (size_t i = 0; i < reaction->match_count; i++)
        if (domain_matches(reaction->match[i], host) ||
            domain_matches(reaction->match[i], domain))
            return true;
    return reaction->match_count == 0;
}

/* It is judged once, and only for a table that asks. */
struct judged {
    const struct plan_settings *settings;
    const struct reply *reply;
    const char *host;
    bool is_known;
    enum deliver_class class;
};

static bool has_class(struct judged *judged, uint32_t classes)
{
    if (classes == 0)
        return true;
    if (!judged->is_known)
        judged->class = classifier_match_reply(judged->settings->values.classifier,
                                               judged->reply, judged->host)
                            .class;
    judged->is_known = true;
    return (classes & UINT32_C(1) << judged->class) != 0;
}

static const struct reaction *first(const struct reaction *table, size_t count,
                                    struct judged *judged, const char *domain)
{
    const struct reply *reply = judged->reply;
    char status[16];

    reply_status(reply, status);
    for (size_t i = 0; i < count; i++) {
        const struct reaction *one = &table[i];

        if ((!one->code || reaction_code_matches(one->code, reply->code)) &&
            (!one->status || glob(one->status, status)) &&
            is_at(one, judged->host, domain) &&
            (!one->text || reaction_text_matches(one->text, reply->text)) &&
            has_class(judged, one->classes))
            return one;
    }
    return NULL;
}

const struct reaction *reaction_find(const struct plan_settings *settings,
                                     const struct reply *reply, const char *host,
                                     const char *domain)
{
    const struct deliver_settings *values = &settings->values;
    struct judged judged = {.settings = settings, .reply = reply, .host = host};
    const struct reaction *found;

    if (!reply_is_transient(reply) && !reply_is_permanent(reply))
        return NULL;
    found = first(values->reactions, values->reaction_count, &judged, domain);
    if (!found && values->shipped_reactions)
        found = first(shipped, sizeof shipped / sizeof *shipped, &judged, domain);
    return found && found->action != REACTION_NONE ? found : NULL;
}
