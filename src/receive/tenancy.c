/* Of a field that stands twice the first counts. A tenant that is no name refuses the message: whoever
 * may name tenants is a program, and its mail would silently go at the cost of another tenant. A
 * priority that is none may come from any mail program, and is normal. */
#include "tenancy.h"

#include "smtpd/base/memory.h"
#include "smtpd/mail/header.h"
#include "transaction.h"

#include <stdio.h>
#include <string.h>

enum { PRIORITY_MOST = 9 };

struct tenancy {
    char *tenant_header;
    char **users;
    size_t user_count;
    char *priority_header;
};

static char *copy(const char *text)
{
    return text ? memory_text(text) : NULL;
}

struct tenancy *tenancy_new(const struct tenancy_settings *settings)
{
    struct tenancy *tenancy = NEW(struct tenancy);

    tenancy->tenant_header = copy(settings->tenant_header);
    tenancy->priority_header = copy(settings->priority_header);
    tenancy->users = NEW_ARRAY(char *, settings->tenant_user_count + 1);
    tenancy->user_count = settings->tenant_user_count;
    for (size_t i = 0; i < tenancy->user_count; i++)
        tenancy->users[i] = memory_text(settings->tenant_users[i]);
    return tenancy;
}

void tenancy_free(struct tenancy *tenancy)
{
    if (!tenancy)
        return;
    for (size_t i = 0; i < tenancy->user_count; i++)
        memory_free(tenancy->users[i]);
    memory_free(tenancy->users);
    memory_free(tenancy->tenant_header);
    memory_free(tenancy->priority_header);
    memory_free(tenancy);
}

const char *tenancy_header(const struct tenancy *tenancy)
{
    return tenancy->tenant_header;
}

static bool may_name(const struct tenancy *tenancy, const char *user)
{
    for (size_t i = 0; i < tenancy->user_count; i++)
        if (strcmp(tenancy->users[i], "*") == 0 || strcmp(tenancy->users[i], user) == 0)
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

bool tenancy_apply(struct session *session, struct slice section, char why[GRANTS_TEXT])
{
    const struct tenancy *tenancy = session->profile->tenancy;
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    struct slice value;

    if (!session->user)
        return true;
    envelope->tenant = envelope->user;
    if (find_field(section, tenancy->priority_header, &value))
        envelope->priority = read_priority(value);
    if (!may_name(tenancy, session->user) ||
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
