/* What the room sign reads of strangers: bodies and fields in their canonical forms, the
 * author, the records of the DNS. The first byte says where the body is cut into pieces; the
 * rest is a message. The hash of the body must be that of a slow and simple canonicaliser,
 * wherever the pieces end. */
#include "sign/canon.h"

#include "sign/record.h"
#include "sign/signature.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/author.h"
#include "smtpd/mail/header.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MAX = 1 << 20 };

static const char test_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";

/* ---- the reference: one line after the other, all of it in memory ---- */

static size_t line_end(struct slice text)
{
    const char *at = memmem(text.data, text.length, "\r\n", 2);

    return at ? (size_t)(at - text.data) : text.length;
}

static void add(struct bytes *into, struct slice text)
{
    CHECK(bytes_add(into, text) == RESULT_OK);
}

static void add_line(struct slice line, enum canon canon, struct bytes *into)
{
    size_t at = 0;

    if (canon == CANON_SIMPLE) {
        add(into, line);
        return;
    }
    while (line.length > 0 && strchr(" \t", line.data[line.length - 1]) &&
           line.data[line.length - 1])
        line.length--;
    while (at < line.length) {
        size_t begin = at;

        while (line.data[at] == ' ' || line.data[at] == '\t')
            at++;
        if (at > begin)
            add(into, SLICE(" "));
        else
            add(into, slice_part(line, at++, 1));
    }
}

static void reference(struct slice body, enum canon canon, struct bytes *into)
{
    while (body.length > 0) {
        size_t length = line_end(body);

        add_line(slice_part(body, 0, length), canon, into);
        add(into, SLICE("\r\n"));
        body = slice_from(body, length + 2 < body.length ? length + 2 : body.length);
    }
    while (into->length >= 4 && memcmp(into->data + into->length - 4, "\r\n\r\n", 4) == 0)
        into->length -= 2;
    if (into->length == 2 && canon == CANON_RELAXED)
        into->length = 0;
    if (into->length == 0 && canon == CANON_SIMPLE)
        add(into, SLICE("\r\n"));
}

static void check_body(struct slice body, enum canon canon, size_t cut)
{
    struct digest *digest = digest_new();
    uint8_t expected[DIGEST_BYTES];
    uint8_t hash[DIGEST_BYTES];
    struct canon_body streamed;
    struct bytes canonical;

    bytes_init(&canonical, OUTPUT_MAX);
    reference(body, canon, &canonical);
    digest_add(digest, bytes_view(&canonical));
    digest_finish(digest, expected);
    bytes_fini(&canonical);
    canon_body_init(&streamed, canon);
    while (body.length > 0) {
        size_t length = cut < body.length ? cut : body.length;

        canon_body_add(&streamed, slice_part(body, 0, length));
        body = slice_from(body, length);
    }
    canon_body_finish(&streamed, hash);
    CHECK(memcmp(hash, expected, DIGEST_BYTES) == 0);
}

/* ---- fields ---- */

/* RFC 6376 3.4.2: one line, in lower case up to the colon, no two blanks. */
static void check_field(struct slice field)
{
    struct bytes relaxed;
    struct bytes again;
    struct slice text;

    bytes_init(&relaxed, OUTPUT_MAX);
    bytes_init(&again, OUTPUT_MAX);
    CHECK(canon_field(CANON_RELAXED, field, &relaxed) == RESULT_OK);
    text = bytes_view(&relaxed);
    CHECK(text.length >= 3 && memcmp(text.data + text.length - 2, "\r\n", 2) == 0);
    CHECK(!memchr(text.data, '\t', text.length) &&
          !memmem(text.data, text.length, "  ", 2));
    CHECK(line_end(text) == text.length - 2);
    CHECK(canon_field(CANON_RELAXED, text, &again) == RESULT_OK);
    CHECK(slice_equal(bytes_view(&again), text));
    bytes_fini(&again);
    bytes_fini(&relaxed);
}

static void check_lines(struct slice field)
{
    CHECK(slice_starts_fold(field, "DKIM-Signature: v=1;"));
    while (field.length > 0) {
        size_t end = line_end(field);

        CHECK(end < field.length && end > 0 && end < 78);
        field = slice_from(field, end + 2);
    }
}

static void check_signature(struct slice section, const struct sign_key *key)
{
    struct signature_input input = {.section = section, .header = CANON_RELAXED};
    struct signature_base base;
    struct bytes field;

    bytes_init(&field, SIGNATURE_FIELD_MAX);
    CHECK(signature_prepare(&base, &input) == RESULT_OK);
    CHECK(signature_add(&base, key, &field) == RESULT_OK);
    check_lines(bytes_view(&field));
    signature_fini(&base);
    bytes_fini(&field);
}

static void check_record(struct slice text)
{
    struct check_problem problems[CHECK_PROBLEMS_MAX];
    size_t count = record_judge(text, KEY_RSA, SLICE("key"), problems);

    CHECK(count > 0 && count <= CHECK_PROBLEMS_MAX); /* nobody guesses the key "key" */
    for (size_t i = 0; i < count; i++)
        CHECK(problems[i].text[0] && check_code_name(problems[i].code)[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sign_key key;
    struct slice message = {(const char *)data + 1, size - 1};
    char domain[DOMAIN_TEXT];
    struct slice rest;
    struct slice name;
    struct slice field;
    size_t section;

    if (size < 1)
        return 0;
    if (!key.private_key) {
        secure_init();
        key.domain = "a.test";
        key.selector = "s";
        CHECK(private_key_parse(test_key, "key", &key.private_key, NULL) == RESULT_OK);
    }
    section = header_section_length(message);
    for (int canon = CANON_SIMPLE; canon <= CANON_RELAXED; canon++)
        check_body(slice_from(message, section), (enum canon)canon, 1U + data[0]);
    rest = slice_part(message, 0, section);
    while (header_next_field(&rest, &name, &field))
        check_field(field);
    check_signature(slice_part(message, 0, section), &key);
    if (author_domain(slice_part(message, 0, section), domain))
        CHECK(domain[0]);
    if (message.length < 3 || !memmem(message.data, message.length, "a2V5", 4))
        check_record(message);
    return 0;
}
