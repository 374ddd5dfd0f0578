/* Instances of a field are signed from the bottom up (RFC 6376 5.4.2). Of fields that are to
 * stand once at most, the lowest few are enough: who writes forty of them signs for the
 * others with nothing. */
#include "signature.h"

#include "smtpd/mail/header.h"

#include <string.h>

enum { INSTANCES_MAX = 16, FOLD_COLUMN = 76, BASE64_LINE = 72, NAMES_MAX = 16384 };

struct signed_name {
    const char *name;
    bool is_over_signed; /* one more in h= than there are */
};

/* RFC 6376 5.4.1, RFC 8058 4 (both List-Unsubscribe fields), and what a reader is shown. */
/* clang-format off */
static const struct signed_name signed_names[] = {
    {"from", true},
    {"to", true},
    {"cc", true},
    {"subject", true},
    {"date", true},
    {"message-id", true},
    {"reply-to", true},
    {"sender", true},
    {"mime-version", true},
    {"content-type", true},
    {"content-transfer-encoding", true},
    {"in-reply-to", false},
    {"references", false},
    {"list-id", false},
    {"list-help", false},
    {"list-post", false},
    {"list-subscribe", false},
    {"list-unsubscribe", false},
    {"list-unsubscribe-post", false},
    {"list-owner", false},
    {"list-archive", false},
    {"auto-submitted", false},
    {"feedback-id", false},
};
/* clang-format on */

enum { SIGNED_NAMES = sizeof signed_names / sizeof *signed_names };

/* The lowest instances of each name, in a ring. */
struct instances {
    size_t count;
    struct slice last[INSTANCES_MAX];
};

static void find_instances(struct slice section, struct instances instances[SIGNED_NAMES])
{
    struct slice name;
    struct slice field;

    while (header_next_field(&section, &name, &field))
        for (size_t i = 0; i < SIGNED_NAMES; i++)
            if (slice_equal_text_fold(name, signed_names[i].name))
                instances[i].last[instances[i].count++ % INSTANCES_MAX] = field;
}

static enum result add_name(struct signature_base *base, const char *name)
{
    return bytes_format(&base->names, "%s%s", base->names.length > 0 ? ":" : "", name);
}

static enum result add_instances(struct signature_base *base, const char *name,
                                 const struct instances *instances)
{
    struct bytes canonical;
    enum result result = RESULT_OK;
    size_t signed_count =
        instances->count < INSTANCES_MAX ? instances->count : INSTANCES_MAX;

    bytes_init(&canonical, base->input->section.length + 2);
    for (size_t i = 1; i <= signed_count && result == RESULT_OK; i++) {
        struct slice field = instances->last[(instances->count - i) % INSTANCES_MAX];

        result = canon_field(base->input->header, field, &canonical);
        digest_add(base->fields, bytes_view(&canonical));
        bytes_clear(&canonical);
        if (result == RESULT_OK)
            result = add_name(base, name);
    }
    bytes_fini(&canonical);
    return result;
}

enum result signature_prepare(struct signature_base *base,
                              const struct signature_input *input)
{
    struct instances instances[SIGNED_NAMES] = {0};
    enum result result = RESULT_OK;

    base->input = input;
    base->fields = digest_new();
    bytes_init(&base->names, NAMES_MAX);
    find_instances(input->section, instances);
    for (size_t i = 0; i < SIGNED_NAMES && result == RESULT_OK; i++) {
        result = add_instances(base, signed_names[i].name, &instances[i]);
        /* RFC 6376 5.4.2: one name more stands for a field that is not there; with more of them than
         * are signed it would stand for the next one. */
        if (result == RESULT_OK && signed_names[i].is_over_signed &&
            instances[i].count <= INSTANCES_MAX)
            result = add_name(base, signed_names[i].name);
    }
    if (result != RESULT_OK)
        signature_fini(base);
    return result;
}

void signature_fini(struct signature_base *base)
{
    digest_free(base->fields);
    base->fields = NULL;
    bytes_fini(&base->names);
}

/* ---- the text of the field ---- */

/* Tags joined by "; ", folded where a line grows too long. Sticky: after a failure nothing
 * is added any more. */
struct tag_writer {
    struct bytes *into;
    size_t column;
    enum result result;
};

static void write_text(struct tag_writer *writer, struct slice text)
{
    if (writer->result == RESULT_OK)
        writer->result = bytes_add(writer->into, text);
    writer->column += text.length;
}

static void fold(struct tag_writer *writer)
{
    write_text(writer, SLICE("\r\n\t"));
    writer->column = 8;
}

static void write_tag(struct tag_writer *writer, const char *name, const char *value)
{
    if (writer->column + 3 + strlen(name) + strlen(value) > FOLD_COLUMN)
        fold(writer);
    else
        write_text(writer, SLICE(" "));
    write_text(writer, slice_of(name));
    write_text(writer, SLICE("="));
    write_text(writer, slice_of(value));
    write_text(writer, SLICE(";"));
}

static void write_time(struct tag_writer *writer, const char *name, int64_t seconds)
{
    struct bytes text;
    char value[24];

    bytes_init(&text, sizeof value);
    if (bytes_format(&text, "%lld", (long long)seconds) == RESULT_OK &&
        slice_copy_text(bytes_view(&text), value, sizeof value))
        write_tag(writer, name, value);
    bytes_fini(&text);
}

/* "h=from:from:to;" with line ends behind colons. */
static void write_names(struct tag_writer *writer, struct slice names)
{
    fold(writer);
    write_text(writer, SLICE("h="));
    while (names.length > 0) {
        size_t end = slice_find(names, ':');
        struct slice name = slice_part(names, 0, end < names.length ? end + 1 : end);

        if (writer->column + name.length > FOLD_COLUMN)
            fold(writer);
        write_text(writer, name);
        names = slice_from(names, name.length);
    }
    write_text(writer, SLICE(";"));
}

static void write_base64(struct tag_writer *writer, struct slice plain)
{
    struct bytes text;
    struct slice rest;

    bytes_init(&text, SIGNATURE_FIELD_MAX);
    if (writer->result == RESULT_OK)
        writer->result = bytes_add_base64(&text, plain);
    for (rest = bytes_view(&text); rest.length > 0;) {
        struct slice line =
            slice_part(rest, 0, rest.length < BASE64_LINE ? rest.length : BASE64_LINE);

        if (writer->column + line.length > FOLD_COLUMN + 2)
            line.length = FOLD_COLUMN + 2 - writer->column;
        write_text(writer, line);
        rest = slice_from(rest, line.length);
        if (rest.length > 0)
            fold(writer);
    }
    bytes_fini(&text);
}

static void write_canon(struct tag_writer *writer, const struct signature_input *input)
{
    static const char *const names[2][2] = {
        [CANON_SIMPLE] = {"simple/simple", "simple/relaxed"},
        [CANON_RELAXED] = {"relaxed/simple", "relaxed/relaxed"},
    };

    write_tag(writer, "c", names[input->header][input->body]);
}

/* Up to the b= whose value is still missing. */
static void write_field(struct tag_writer *writer, const struct signature_base *base,
                        const struct sign_key *key)
{
    const struct signature_input *input = base->input;

    write_text(writer, SLICE("DKIM-Signature:"));
    write_tag(writer, "v", "1");
    write_tag(writer, "a", key_kind_algorithm(private_key_kind(key->private_key)));
    write_canon(writer, input);
    write_tag(writer, "d", key->domain);
    write_tag(writer, "s", key->selector);
    write_time(writer, "t", input->now_s);
    if (input->expires_s > 0)
        write_time(writer, "x", input->expires_s);
    write_names(writer, bytes_view(&base->names));
    fold(writer);
    write_text(writer, SLICE("bh="));
    write_base64(writer, (struct slice){(const char *)input->body_hash, DIGEST_BYTES});
    write_text(writer, SLICE(";"));
    fold(writer);
    write_text(writer, SLICE("b="));
}

/* RFC 6376 3.7: the field itself is hashed last, with an empty b= and without its line end.
 */
static enum result hash_field(const struct signature_base *base, struct slice field,
                              uint8_t hash[DIGEST_BYTES])
{
    struct digest *digest = digest_copy(base->fields);
    struct bytes canonical;
    struct slice text;
    enum result result;

    bytes_init(&canonical, field.length + 2);
    result = canon_field(base->input->header, field, &canonical);
    text = bytes_view(&canonical);
    if (text.length >= 2 && text.data[text.length - 1] == '\n')
        text.length -= 2;
    digest_add(digest, text);
    digest_finish(digest, hash);
    bytes_fini(&canonical);
    return result;
}

enum result signature_add(const struct signature_base *base, const struct sign_key *key,
                          struct bytes *into)
{
    uint8_t signature[SIGNATURE_BYTES_MAX];
    uint8_t hash[DIGEST_BYTES];
    struct bytes field;
    struct tag_writer writer = {.into = &field};
    size_t length = 0;

    bytes_init(&field, SIGNATURE_FIELD_MAX);
    write_field(&writer, base, key);
    if (writer.result == RESULT_OK)
        writer.result = hash_field(base, bytes_view(&field), hash);
    if (writer.result == RESULT_OK)
        writer.result = private_key_sign(key->private_key, hash, signature, &length);
    if (writer.result == RESULT_OK)
        write_base64(&writer, (struct slice){(const char *)signature, length});
    write_text(&writer, SLICE("\r\n"));
    if (writer.result == RESULT_OK)
        writer.result = bytes_add(into, bytes_view(&field));
    bytes_fini(&field);
    return writer.result;
}
