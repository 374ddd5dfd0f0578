/* Of a field that stands twice the first counts. A tenant that is no name refuses the message: whoever
 * may name tenants is a program, and its mail would silently go at the cost of another tenant. A
 * priority that is none may come from any mail program, and is normal. */
#include "tenancy.h"

#include "smtpd/base/arena.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/mail/header.h"
#include "transaction.h"

#include <stdio.h>
#include <string.h>

enum { PRIORITY_MOST = 9 };

struct names {
    char **items;
    size_t count;
};

struct tenancy {
    char *tenant_header;
    struct names users;
    char *priority_header;
    char *pool_header;
    struct names pool_users;
    struct pool_rule *rules; /* their texts are in: */
    size_t rule_count;
    struct arena arena;
};

enum { RULES_MAX_BYTES = 64 << 20 };

static char *copy(const char *text)
{
    return text ? memory_text(text) : NULL;
}

static struct names copy_names(const char *const *from, size_t count)
{
    struct names names = {NEW_ARRAY(char *, count + 1), count};

    for (size_t i = 0; i < count; i++)
        names.items[i] = memory_text(from[i]);
    return names;
}

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        memory_free(names->items[i]);
    memory_free(names->items);
}

static const char *const *copy_texts(struct arena *arena, const char *const *from,
                                     size_t count)
{
    const char **texts = arena_alloc(arena, (count + 1) * sizeof *texts);

    CHECK(texts);
    for (size_t i = 0; i < count; i++)
        texts[i] = arena_text(arena, slice_of(from[i]));
    return texts;
}

static void copy_rules(struct tenancy *tenancy, const struct tenancy_settings *settings)
{
    struct arena *arena = &tenancy->arena;

    tenancy->rules =
        arena_alloc(arena, (settings->pool_rule_count + 1) * sizeof *tenancy->rules);
    CHECK(tenancy->rules);
    for (size_t i = 0; i < settings->pool_rule_count; i++) {
        const struct pool_rule *from = &settings->pool_rules[i];

        tenancy->rules[i] = (struct pool_rule){
            arena_text(arena, slice_of(from->pool)),
            copy_texts(arena, from->senders, from->sender_count),
            from->sender_count,
            copy_texts(arena, from->sender_domains, from->sender_domain_count),
            from->sender_domain_count,
            copy_texts(arena, from->tenants, from->tenant_count),
            from->tenant_count};
        tenancy->rule_count++;
    }
}

struct tenancy *tenancy_new(const struct tenancy_settings *settings)
{
    struct tenancy *tenancy = NEW(struct tenancy);

    tenancy->tenant_header = copy(settings->tenant_header);
    tenancy->priority_header = copy(settings->priority_header);
    tenancy->pool_header = copy(settings->pool_header);
    tenancy->users = copy_names(settings->tenant_users, settings->tenant_user_count);
    tenancy->pool_users = copy_names(settings->pool_users, settings->pool_user_count);
    arena_init(&tenancy->arena, RULES_MAX_BYTES);
    copy_rules(tenancy, settings);
    return tenancy;
}

void tenancy_free(struct tenancy *tenancy)
{
    if (!tenancy)
        return;
    names_free(&tenancy->users);
    names_free(&tenancy->pool_users);
    arena_clear(&tenancy->arena);
    memory_free(tenancy->tenant_header);
    memory_free(tenancy->priority_header);
    memory_free(tenancy->pool_header);
    memory_free(tenancy);
}

size_t tenancy_headers(const struct tenancy *tenancy,
                       const char *names[TENANCY_HEADERS_MAX])
{
    size_t count = 0;

    if (tenancy->tenant_header)
        names[count++] = tenancy->tenant_header;
    if (tenancy->pool_header)
        names[count++] = tenancy->pool_header;
    return count;
}

static bool may_name(const struct names *users, const char *user)
{
    for (size_t i = 0; i < users->count; i++)
        if (strcmp(users->items[i], "*") == 0 || strcmp(users->items[i], user) == 0)
            return true;
    return false;
}

/* The value of the first such field, without the end of its line. */
static bool find_field(struct slice section, const char *wanted, struct slice *value)
{
    struct slice name;
    struct slice field;

    while (wanted && header_next_field(&section, &name, &field)) {
        if (!slice_equal_text_fold(name, wanted))
            continue;
        field = slice_from(field, slice_find(field, ':') + 1);
        while (field.length > 0 && field.data[field.length - 1] < ' ' &&
               field.data[field.length - 1] >= 0)
            field.length--;
        *value = slice_trim(field);
        return true;
    }
    return false;
}

/* "-9" to "9", with a "+" as well; anything else is no number. */
static bool read_number(struct slice text, int8_t *number)
{
    bool is_negative = text.length == 2 && text.data[0] == '-';

    if (text.length == 2 && (is_negative || text.data[0] == '+'))
        text = slice_from(text, 1);
    if (text.length != 1 || text.data[0] < '0' || text.data[0] > '0' + PRIORITY_MOST)
        return false;
    *number = (int8_t)(text.data[0] - '0');
    if (is_negative)
        *number = (int8_t) - *number;
    return true;
}

static int8_t read_priority(struct slice text)
{
    static const struct {
        const char *name;
        int8_t priority;
    } names[] = {{"high", 4}, {"normal", 0}, {"low", -4}};
    int8_t number;

    if (read_number(text, &number))
        return number;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (slice_equal_text_fold(text, names[i].name))
            return names[i].priority;
    return 0;
}

/* False: the tenant is no name. */
static bool take_tenant(struct session *session, struct slice section,
                        char why[GRANTS_TEXT])
{
    const struct tenancy *tenancy = session->profile->tenancy;
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    struct slice value;

    envelope->tenant = envelope->user;
    if (!may_name(&tenancy->users, session->user) ||
        !find_field(section, tenancy->tenant_header, &value))
        return true;
    if (auth_user_name_is_valid(value))
        envelope->tenant = arena_text(&transaction->arena, value);
    else
        envelope->tenant = NULL;
    if (!envelope->tenant)
        (void)snprintf(why, GRANTS_TEXT,
                       "%.80s: names no tenant: 1 to 128 bytes, no blank, no colon",
                       tenancy->tenant_header);
    return envelope->tenant != NULL;
}

/* False: there is no such pool. It is kept with the message: rules that change hold for what comes. */
static bool take_pool(struct session *session, struct slice section, char why[GRANTS_TEXT])
{
    const struct tenancy *tenancy = session->profile->tenancy;
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    struct slice value;

    envelope->pool = pool_rule_choose(tenancy->rules, tenancy->rule_count, envelope->sender,
                                      envelope->tenant);
    if (session->user && may_name(&tenancy->pool_users, session->user) &&
        find_field(section, tenancy->pool_header, &value)) {
        envelope->pool = arena_text(&transaction->arena, value);
        if (!envelope->pool ||
            !pool_rule_has(tenancy->rules, tenancy->rule_count, envelope->pool)) {
            (void)snprintf(why, GRANTS_TEXT, "%.80s: names no pool that there is",
                           tenancy->pool_header);
            return false;
        }
    }
    if (envelope->pool) /* the settings may go before the message is stored */
        envelope->pool = arena_text(&transaction->arena, slice_of(envelope->pool));
    return true;
}

bool tenancy_apply(struct session *session, struct slice section, char why[GRANTS_TEXT])
{
    const struct tenancy *tenancy = session->profile->tenancy;
    struct slice value;

    if (session->user && find_field(section, tenancy->priority_header, &value))
        session->transaction->envelope.priority = read_priority(value);
    return (!session->user || take_tenant(session, section, why)) &&
           take_pool(session, section, why);
}
