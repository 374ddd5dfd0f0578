/* A handful of rules, walked for each message: a rule that names no listener and no user
 * fits everybody. */
#include "header_rules.h"

#include "smtpd/base/memory.h"
#include "smtpd/smtp/framing.h"

#include <string.h>

struct header_rules {
    struct header_rule *rules;
    size_t count;
};

static const char *const *copy_texts(const char *const *texts, size_t count)
{
    const char **copies = NEW_ARRAY(const char *, count + 1);

    for (size_t i = 0; i < count; i++)
        copies[i] = memory_text(texts[i]);
    return copies;
}

static void free_texts(const char *const *texts, size_t count)
{
    const void *array = texts;

    for (size_t i = 0; i < count; i++)
        memory_free((char *)(uintptr_t)texts[i]); /* our copy */
    memory_free((void *)(uintptr_t)array);
}

struct header_rules *header_rules_new(const struct header_rule *rules, size_t count)
{
    struct header_rules *copy = NEW(struct header_rules);

    copy->rules = NEW_ARRAY(struct header_rule, count + 1);
    copy->count = count;
    for (size_t i = 0; i < count; i++) {
        const struct header_rule *from = &rules[i];

        copy->rules[i] =
            (struct header_rule){copy_texts(from->listeners, from->listener_count),
                                 from->listener_count,
                                 copy_texts(from->users, from->user_count),
                                 from->user_count,
                                 copy_texts(from->remove, from->remove_count),
                                 from->remove_count,
                                 copy_texts(from->add, from->add_count),
                                 from->add_count};
    }
    return copy;
}

void header_rules_free(struct header_rules *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < rules->count; i++) {
        const struct header_rule *rule = &rules->rules[i];

        free_texts(rule->listeners, rule->listener_count);
        free_texts(rule->users, rule->user_count);
        free_texts(rule->remove, rule->remove_count);
        free_texts(rule->add, rule->add_count);
    }
    memory_free(rules->rules);
    memory_free(rules);
}

static bool names_user(const struct header_rule *rule, const char *user)
{
    if (rule->user_count == 0)
        return true;
    for (size_t i = 0; user && i < rule->user_count; i++)
        if (strcmp(rule->users[i], "*") == 0 || strcmp(rule->users[i], user) == 0)
            return true;
    return false;
}

static bool fits(const struct header_rule *rule, const struct session *session)
{
    bool is_named = rule->listener_count == 0;

    for (size_t i = 0; i < rule->listener_count && !is_named; i++)
        is_named = strcmp(rule->listeners[i], session->listener) == 0;
    return is_named && names_user(rule, session->user);
}

size_t header_rules_removed(const struct header_rules *rules, const struct session *session,
                            const char **names, size_t most)
{
    size_t count = 0;

    for (size_t i = 0; i < rules->count; i++) {
        const struct header_rule *rule = &rules->rules[i];

        for (size_t k = 0; fits(rule, session) && k < rule->remove_count; k++)
            if (count < most)
                names[count++] = rule->remove[k];
    }
    return count;
}

enum result header_rules_add(const struct header_rules *rules,
                             const struct session *session, struct bytes *into)
{
    enum result result = RESULT_OK;

    for (size_t i = 0; i < rules->count; i++) {
        const struct header_rule *rule = &rules->rules[i];

        if (!fits(rule, session))
            continue;
        for (size_t k = 0; k < rule->add_count && result == RESULT_OK; k++)
            result = framing_add_line(into, slice_of(rule->add[k]));
    }
    return result;
}
