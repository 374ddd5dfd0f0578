/* The rules, with their texts in one pattern set: a reply is searched once, then the rules are
 * gone through in their order. */
#include "smtpd/deliver/classify.h"

#include "pattern.h"
#include "smtpd/base/arena.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/mail/address.h"
#include "smtpd/queue/queue.h"

#include <string.h>

enum { RULES_MAX = 3 * CLASS_RULES_MAX, ARENA_MAX = 8 << 20, NO_TEXT = -1 };

_Static_assert((int)RULES_MAX <= (int)PATTERNS_MAX, "a rule has one pattern at most");

struct compiled {
    unsigned code_least; /* 0: any */
    unsigned code_most;
    int text; /* index of its pattern */
};

struct classifier {
    unsigned references;
    struct arena arena;
    struct class_rule *rules;
    struct compiled *compiled;
    size_t count;
    struct pattern_set *set;
    size_t text_count;
};

/* clang-format off */
static const char *const class_names[CLASS_COUNT] = {
    [CLASS_DELIVERED] = "delivered",
    [CLASS_RELAYED] = "relayed",
    [CLASS_BAD_MAILBOX] = "bad-mailbox",
    [CLASS_BAD_DOMAIN] = "bad-domain",
    [CLASS_INACTIVE_MAILBOX] = "inactive-mailbox",
    [CLASS_QUOTA] = "quota",
    [CLASS_POLICY] = "policy",
    [CLASS_REPUTATION] = "reputation",
    [CLASS_AUTHENTICATION] = "authentication",
    [CLASS_CONTENT] = "content",
    [CLASS_RATE] = "rate",
    [CLASS_GREYLISTED] = "greylisted",
    [CLASS_SIZE] = "size",
    [CLASS_PROTOCOL] = "protocol",
    [CLASS_CONNECTION] = "connection",
    [CLASS_DNS] = "dns",
    [CLASS_TLS] = "tls",
    [CLASS_ROUTING] = "routing",
    [CLASS_RELAYING] = "relaying",
    [CLASS_EXPIRED] = "expired",
    [CLASS_OPERATOR] = "operator",
    [CLASS_SUPPRESSED] = "suppressed",
    [CLASS_OTHER] = "other",
};
/* clang-format on */

const char *deliver_class_name(enum deliver_class class)
{
    return class_names[class];
}

bool deliver_class_parse(struct slice name, enum deliver_class *class)
{
    for (int i = CLASS_BAD_MAILBOX; i < CLASS_COUNT; i++) {
        if (!slice_equal_text(name, class_names[i]))
            continue;
        *class = (enum deliver_class)i;
        return true;
    }
    return false;
}

enum deliver_class deliver_class_of_result(enum result code)
{
    switch ((int)code) {
    case RESULT_TIMEOUT:
    case RESULT_REFUSED:
    case RESULT_UNREACHABLE:
    case RESULT_CLOSED:
        return CLASS_CONNECTION;
    case RESULT_TLS:
    case RESULT_UNTRUSTED:
        return CLASS_TLS;
    case RESULT_DNS_NXDOMAIN:
    case RESULT_DNS_NODATA:
    case RESULT_DNS_FAILURE:
        return CLASS_DNS;
    case RESULT_INVALID:
    case RESULT_TOO_LARGE:
        return CLASS_PROTOCOL;
    case RESULT_DENIED:
        return CLASS_RELAYING;
    default:
        return CLASS_OTHER;
    }
}

/* ---- one rule ---- */

/* "550", "55x", "5xx": the least and the most that it stands for. */
static bool read_code(struct slice code, unsigned *least, unsigned *most)
{
    *least = *most = 0;
    if (code.length != 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        bool is_any = code.data[i] == 'x' || code.data[i] == 'X';
        unsigned digit = (unsigned)(unsigned char)code.data[i] - '0';

        if (is_any ? i == 0 : digit > 9)
            return false;
        /* Behind an x there is no digit. */
        if (!is_any && i == 2 && (code.data[1] == 'x' || code.data[1] == 'X'))
            return false;
        *least = *least * 10 + (is_any ? 0 : digit);
        *most = *most * 10 + (is_any ? 9 : digit);
    }
    return *least >= 400 && *most <= 599;
}

const char *class_code_complaint(struct slice code)
{
    unsigned least;
    unsigned most;

    return read_code(code, &least, &most) ? NULL
                                          : "a code is \"550\", or \"55x\" or \"5xx\" for "
                                            "all that begin so; 4xx or 5xx";
}

const char *class_status_complaint(struct slice status)
{
    static const char wrong[] =
        "a status is \"5.7.1\"; a part of it may be \"*\", as in \"5.7.*\" or \"*.1.1\"";
    int parts = 1;
    size_t length = 0;

    for (size_t i = 0; i < status.length; i++) {
        char byte = status.data[i];
        bool ends = i + 1 == status.length || status.data[i + 1] == '.';

        if (byte == '.') {
            if (length == 0)
                return wrong;
            parts++;
            length = 0;
            continue;
        }
        length++;
        if (byte == '*' ? length != 1 || !ends : byte < '0' || byte > '9')
            return wrong;
        if (length > (parts == 1 ? 1 : 3) ||
            (parts == 1 && byte != '*' && byte != '4' && byte != '5'))
            return wrong;
    }
    return parts == 3 && length > 0 ? NULL : wrong;
}

const char *class_text_complaint(struct slice text)
{
    return pattern_complaint(text);
}

static bool status_fits(const char *pattern, const char *status)
{
    while (*pattern && *status) {
        if (*pattern == '*') {
            status += strcspn(status, ".");
            pattern++;
        } else if (*pattern++ != *status++) {
            return false;
        }
    }
    return !*pattern && !*status;
}

static bool fits(const struct class_rule *rule, const struct compiled *compiled,
                 const struct class_reply *reply, const bool *hits)
{
    if (rule->code &&
        (reply->code < compiled->code_least || reply->code > compiled->code_most))
        return false;
    if (rule->status && !(reply->status && status_fits(rule->status, reply->status)))
        return false;
    if (compiled->text != NO_TEXT && !hits[compiled->text])
        return false;
    return !rule->host || (reply->host && domain_matches(rule->host, reply->host));
}

/* ---- all of them ---- */

static const char *copy_text(struct arena *arena, const char *text)
{
    return text ? arena_text(arena, slice_of(text)) : NULL;
}

static bool add_rule(struct classifier *classifier, const struct class_rule *rule,
                     struct pattern *patterns)
{
    struct class_rule *copy = &classifier->rules[classifier->count];
    struct compiled *compiled = &classifier->compiled[classifier->count++];

    *copy = *rule;
    copy->code = copy_text(&classifier->arena, rule->code);
    copy->status = copy_text(&classifier->arena, rule->status);
    copy->text = copy_text(&classifier->arena, rule->text);
    copy->host = copy_text(&classifier->arena, rule->host);
    copy->file = copy_text(&classifier->arena, rule->file);
    compiled->text = NO_TEXT;
    if (rule->text) {
        compiled->text = (int)classifier->text_count;
        patterns[classifier->text_count++] = (struct pattern){rule->text, PATTERN_WITHIN};
    }
    return (!rule->code ||
            read_code(slice_of(rule->code), &compiled->code_least, &compiled->code_most)) &&
           (!rule->status || !class_status_complaint(slice_of(rule->status)));
}

struct classifier *classifier_new(const struct class_rule *rules, size_t count)
{
    struct classifier *classifier;
    struct pattern *patterns;
    bool is_good = true;

    if (count > RULES_MAX)
        return NULL;
    classifier = NEW(struct classifier);
    classifier->references = 1;
    arena_init(&classifier->arena, ARENA_MAX);
    classifier->rules = NEW_ARRAY(struct class_rule, count + 1);
    classifier->compiled = NEW_ARRAY(struct compiled, count + 1);
    patterns = NEW_ARRAY(struct pattern, count + 1);
    for (size_t i = 0; i < count && is_good; i++)
        is_good = add_rule(classifier, &rules[i], patterns);
    if (is_good)
        classifier->set = pattern_set_new(patterns, classifier->text_count);
    memory_free(patterns);
    if (classifier->set)
        return classifier;
    classifier_unref(classifier);
    return NULL;
}

struct classifier *classifier_ref(struct classifier *classifier)
{
    if (classifier)
        classifier->references++;
    return classifier;
}

void classifier_unref(struct classifier *classifier)
{
    if (!classifier || --classifier->references > 0)
        return;
    pattern_set_free(classifier->set);
    memory_free(classifier->rules);
    memory_free(classifier->compiled);
    arena_clear(&classifier->arena);
    memory_free(classifier);
}

struct class_match classifier_match(const struct classifier *classifier,
                                    const struct class_reply *reply)
{
    struct class_match match = {.class = CLASS_OTHER};
    bool *hits;

    if (!classifier)
        return match;
    hits = NEW_ARRAY(bool, classifier->text_count + 1);
    pattern_set_match(classifier->set, slice_of(reply->text), hits);
    for (size_t i = 0; i < classifier->count && !match.rule; i++)
        if (fits(&classifier->rules[i], &classifier->compiled[i], reply, hits))
            match = (struct class_match){classifier->rules[i].class, &classifier->rules[i]};
    memory_free(hits);
    return match;
}

struct class_match classifier_match_reply(const struct classifier *classifier,
                                          const struct reply *reply, const char *host)
{
    char whole[LIMIT_REPLY_TEXT + 64];
    char text[GROUP_REPLY_TEXT]; /* what a queue's entry keeps of it */
    char status[16];
    struct class_reply wanted = {reply->code, status, text, host};

    reply_print(reply, whole, sizeof whole);
    slice_copy_start(slice_of(whole), text, sizeof text);
    reply_status(reply, status);
    return classifier_match(classifier, &wanted);
}

size_t classifier_count(const struct classifier *classifier)
{
    return classifier->count;
}

const struct class_rule *classifier_rule(const struct classifier *classifier, size_t at)
{
    return &classifier->rules[at];
}
