/* Tags are read as RFC 6376 3.2 writes them: blanks and folded lines around names and values
 * mean nothing, and of two tags with one name neither counts. */
#include "record.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TAGS_MAX = 32, KEY_BASE64_MAX = 2048 };

/* ---- writing ---- */

bool record_name(const char *domain, const char *selector, char name[RECORD_NAME])
{
    int length = snprintf(name, RECORD_NAME, "%s._domainkey.%s", selector, domain);

    return length > 0 && length < RECORD_NAME;
}

enum result record_write(const struct private_key *key, struct bytes *into)
{
    struct bytes public_key;
    enum result result;

    bytes_init(&public_key, RECORD_MAX);
    result = private_key_public(key, &public_key);
    if (result == RESULT_OK)
        result =
            bytes_format(into, "v=DKIM1; k=%s; p=", key_kind_name(private_key_kind(key)));
    if (result == RESULT_OK)
        result = bytes_add_base64(into, bytes_view(&public_key));
    bytes_fini(&public_key);
    return result;
}

enum result record_write_zone(const char *name, struct slice record, struct bytes *into)
{
    bool is_long = record.length > RECORD_STRING;
    enum result result = bytes_format(into, "%s. IN TXT%s", name, is_long ? " (" : "");

    while (record.length > 0 && result == RESULT_OK) {
        struct slice part = slice_part(
            record, 0, record.length < RECORD_STRING ? record.length : RECORD_STRING);

        result = bytes_format(into, "%s\"%.*s\"", is_long ? "\n    " : " ",
                              (int)part.length, part.data);
        record = slice_from(record, part.length);
    }
    if (result == RESULT_OK && is_long)
        result = bytes_add_text(into, " )");
    return result;
}

/* ---- judging ---- */

struct tag {
    struct slice name;
    struct slice value;
};

struct record {
    struct tag tags[TAGS_MAX];
    size_t count;
};

struct findings {
    struct check_problem *problems;
    size_t count;
};

static void find(struct findings *findings, enum check_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void find(struct findings *findings, enum check_code code, const char *format, ...)
{
    struct check_problem *problem;
    va_list arguments;

    if (findings->count == CHECK_PROBLEMS_MAX)
        return;
    problem = &findings->problems[findings->count++];
    problem->code = code;
    va_start(arguments, format);
    (void)vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; /* FWS */
}

static struct slice trim(struct slice text)
{
    while (text.length > 0 && is_blank(text.data[0]))
        text = slice_from(text, 1);
    while (text.length > 0 && is_blank(text.data[text.length - 1]))
        text.length--;
    return text;
}

/* false: it is no list of tags. */
static bool read_tags(struct slice text, struct record *record)
{
    record->count = 0;
    while (text.length > 0) {
        size_t end = slice_find(text, ';');
        struct slice tag = trim(slice_part(text, 0, end));
        size_t equals = slice_find(tag, '=');

        text = slice_from(text, end < text.length ? end + 1 : end);
        if (tag.length == 0)
            continue;
        if (equals == 0 || equals == tag.length || record->count == TAGS_MAX)
            return false;
        record->tags[record->count++] = (struct tag){trim(slice_part(tag, 0, equals)),
                                                     trim(slice_from(tag, equals + 1))};
    }
    return record->count > 0;
}

static const struct tag *find_tag(const struct record *record, const char *name)
{
    for (size_t i = 0; i < record->count; i++)
        if (slice_equal_text(record->tags[i].name, name))
            return &record->tags[i];
    return NULL;
}

static bool has_twice(const struct record *record)
{
    for (size_t i = 0; i < record->count; i++)
        for (size_t k = 0; k < i; k++)
            if (slice_equal(record->tags[i].name, record->tags[k].name))
                return true;
    return false;
}

/* Words separated by colons. */
static bool has_word(struct slice list, const char *word)
{
    while (list.length > 0) {
        size_t end = slice_find(list, ':');

        if (slice_equal_text(trim(slice_part(list, 0, end)), word))
            return true;
        list = slice_from(list, end < list.length ? end + 1 : end);
    }
    return false;
}

static int shown(struct slice text)
{
    return (int)(text.length < 80 ? text.length : 80);
}

static bool same_key(struct slice base64, struct slice public_key)
{
    char text[KEY_BASE64_MAX];
    struct bytes decoded;
    size_t length = 0;
    bool is_same;

    for (size_t i = 0; i < base64.length; i++) {
        if (is_blank(base64.data[i]))
            continue;
        if (length == sizeof text)
            return false;
        text[length++] = base64.data[i];
    }
    bytes_init(&decoded, sizeof text);
    is_same =
        bytes_add_base64_decoded(&decoded, (struct slice){text, length}) == RESULT_OK &&
        slice_equal(bytes_view(&decoded), public_key);
    bytes_fini(&decoded);
    return is_same;
}

static void judge_key(const struct record *record, enum key_kind kind,
                      struct slice public_key, struct findings *findings)
{
    const struct tag *key = find_tag(record, "p");
    const struct tag *type = find_tag(record, "k");
    struct slice found = type ? type->value : SLICE("rsa"); /* the default */

    if (!slice_equal_text(found, key_kind_name(kind)))
        find(findings, CHECK_KEY_TYPE, "k= says %.*s%s, but the key is %s", shown(found),
             found.data, type ? "" : " (by default)", key_kind_name(kind));
    if (!key)
        find(findings, CHECK_MALFORMED, "the record has no p=, and so no key");
    else if (key->value.length == 0)
        find(findings, CHECK_REVOKED,
             "p= is empty: the key is revoked, and every signature by it fails");
    else if (!same_key(key->value, public_key))
        find(findings, CHECK_OTHER_KEY, "p= is another key than the one that signs");
}

static void judge_uses(const struct record *record, struct findings *findings)
{
    const struct tag *hashes = find_tag(record, "h");
    const struct tag *services = find_tag(record, "s");
    const struct tag *flags = find_tag(record, "t");

    if (hashes && !has_word(hashes->value, "sha256"))
        find(findings, CHECK_NO_SHA256,
             "h= is %.*s and does not allow sha256, which the signatures use",
             shown(hashes->value), hashes->value.data);
    if (services && !has_word(services->value, "*") && !has_word(services->value, "email"))
        find(findings, CHECK_NOT_EMAIL, "s= is %.*s and does not allow email",
             shown(services->value), services->value.data);
    if (flags && has_word(flags->value, "y"))
        find(findings, CHECK_TESTING,
             "t=y says that the domain only tries DKIM: verifiers treat its mail as "
             "unsigned");
}

size_t record_judge(struct slice text, enum key_kind kind, struct slice public_key,
                    struct check_problem problems[CHECK_PROBLEMS_MAX])
{
    struct findings findings = {problems, 0};
    const struct tag *version;
    struct record record;

    if (!read_tags(text, &record) || has_twice(&record)) {
        find(&findings, CHECK_MALFORMED, "the record is no list of tags, each once");
        return findings.count;
    }
    version = find_tag(&record, "v");
    /* RFC 6376 3.6.1: DKIM1, and in front, if it is there at all. */
    if (version && (version != record.tags || !slice_equal_text(version->value, "DKIM1")))
        find(&findings, CHECK_VERSION, "v=DKIM1 must be the first tag, or be left out");
    judge_key(&record, kind, public_key, &findings);
    judge_uses(&record, &findings);
    return findings.count;
}
