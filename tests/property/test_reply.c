/* Thousands of random replies, of one line or many: written as a server writes them, cut
 * into pieces of any size on the way, they are read as what was written; and what
 * capabilities we offer is what a client reads. The seed is printed; SMTPD_SEED sets it. */
#include "smtpd/smtp/reply.h"

#include "smtpd/smtp/capability.h"
#include "smtpd/smtp/framing.h"
#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5000, ROOM = 16384, LINES = 20, LINE = 60, READ_MAX = 64 };

static uint64_t seed = 20261124;

/* xorshift64*: the same numbers everywhere. */
static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (seed * UINT64_C(2685821657736338717)) >> 8;
}

/* Words with single blanks between them, ASCII and UTF-8, none like an enhanced code. */
static void any_text(char text[LINE])
{
    static const char *const words[] = {
        "no",   "such user", "\303\244\303\266", "<a@b.example>",
        "(#5)", "again;",    "\342\202\254",     "5.1"};
    size_t length = 0;

    text[0] = '\0';
    for (uint64_t left = any() % 4; left > 0; left--) {
        const char *word = words[any() % 8];

        if (length > 0)
            text[length++] = ' ';
        memcpy(text + length, word, strlen(word) + 1);
        length += strlen(word);
    }
}

static unsigned any_code(void)
{
    return 200 + (unsigned)(any() % 400);
}

/* The connection: bytes come in pieces, lines go to the reader. Its events are in order. */
struct wire {
    struct bytes bytes;
    struct reply_reader reader;
    struct reply replies[READ_MAX];
    int reply_count;
};

static void take_line(struct wire *wire, struct slice line)
{
    enum reply_event event = reply_reader_line(&wire->reader, line, NULL);

    if (event == REPLY_BAD)
        fail_msg("not a reply: %.*s", (int)line.length, line.data);
    if (event == REPLY_COMPLETE && wire->reply_count < READ_MAX)
        wire->replies[wire->reply_count++] = wire->reader.reply;
}

static void read_all(struct wire *wire)
{
    struct framing framing;
    size_t held = 0;
    size_t most = 1 + any() % 100;

    framing_init(&framing, LIMIT_REPLY_LINE);
    reply_reader_init(&wire->reader);
    wire->reply_count = 0;
    for (size_t at = 0; at < wire->bytes.length;) {
        size_t left = wire->bytes.length - at;
        size_t more = 1 + any() % most;
        struct slice input;
        struct slice out;
        enum framing_event event;

        more = more < left ? more : left;
        input = slice_part(bytes_view(&wire->bytes), at - held, held + more);
        at += more;
        while ((event = framing_next(&framing, &input, &out)) != FRAMING_MORE) {
            assert_int_equal(event, FRAMING_LINE);
            take_line(wire, out);
        }
        held = input.length;
    }
    assert_int_equal(held, 0);
}

static void check_equal(const struct reply *read, const struct reply *written)
{
    char is[LIMIT_REPLY_TEXT + 32];
    char should[LIMIT_REPLY_TEXT + 32];

    reply_print(read, is, sizeof is);
    reply_print(written, should, sizeof should);
    if (strcmp(is, should) != 0 || read->code != written->code ||
        strcmp(read->text, written->text) != 0)
        fail_msg("%s -> %s", should, is);
}

TEST(property, replies_in_a_row_read_back_for_any_split)
{
    static struct reply written[LINES];
    static struct wire wire;

    bytes_init(&wire.bytes, ROOM);
    for (int round = 0; round < ROUNDS; round++) {
        int count = 1 + (int)(any() % LINES);

        bytes_clear(&wire.bytes);
        for (int i = 0; i < count; i++) {
            struct reply *reply = &written[i];
            char text[LINE];

            any_text(text);
            reply_set(reply, any_code(), NULL, "%s", text);
            if (any() % 2 && !reply_is_intermediate(reply)) {
                reply->enhanced.class_digit = (uint8_t)(reply->code / 100);
                reply->enhanced.subject = (uint16_t)(any() % 1000);
                reply->enhanced.detail = (uint16_t)(any() % 1000);
            }
            assert_int_equal(reply_add(&wire.bytes, reply), RESULT_OK);
        }
        read_all(&wire);
        assert_int_equal(wire.reply_count, count);
        for (int i = 0; i < count; i++)
            check_equal(&wire.replies[i], &written[i]);
    }
    bytes_fini(&wire.bytes);
}

/* The texts of all lines, empty ones left out, joined by a blank. */
static void join(char texts[LINES][LINE], size_t count, char *into)
{
    size_t length = 0;

    into[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (length > 0 && texts[i][0])
            into[length++] = ' ';
        memcpy(into + length, texts[i], strlen(texts[i]) + 1);
        length += strlen(texts[i]);
    }
}

TEST(property, lines_of_one_reply_are_joined_for_any_split)
{
    static struct wire wire;
    char texts[LINES][LINE];
    char joined[LINES * (LINE + 1)];

    bytes_init(&wire.bytes, ROOM);
    for (int round = 0; round < ROUNDS; round++) {
        size_t count = 1 + any() % LINES;
        struct slice lines[LINES];
        unsigned code = any_code();

        for (size_t i = 0; i < count; i++) {
            any_text(texts[i]);
            lines[i] = slice_of(texts[i]);
        }
        join(texts, count, joined);
        joined[strlen(joined) < LIMIT_REPLY_TEXT ? strlen(joined) : LIMIT_REPLY_TEXT] =
            '\0';
        bytes_clear(&wire.bytes);
        assert_int_equal(reply_add_lines(&wire.bytes, code, lines, count), RESULT_OK);
        read_all(&wire);
        assert_int_equal(wire.reply_count, 1);
        assert_int_equal(wire.replies[0].code, code);
        if (strlen(joined) < LIMIT_REPLY_TEXT)
            assert_string_equal(wire.replies[0].text, joined);
        else
            assert_memory_equal(wire.replies[0].text, joined, strlen(wire.replies[0].text));
    }
    bytes_fini(&wire.bytes);
}

static struct capabilities any_capabilities(void)
{
    uint64_t bits = any();

    return (struct capabilities){
        .pipelining = bits & 1,
        .size = bits & 2,
        .size_limit = bits & 2 ? any() : 0,
        .eightbitmime = bits & 4,
        .smtputf8 = bits & 8,
        .enhancedstatuscodes = bits & 16,
        .dsn = bits & 32,
        .chunking = bits & 64,
        .starttls = bits & 128,
        .auth = bits & 256,
        .auth_plain = (bits & 256) && (bits & 512),
        .auth_login = (bits & 256) && (bits & 1024),
    };
}

TEST(property, what_is_offered_is_what_is_read)
{
    struct bytes offer;

    bytes_init(&offer, ROOM);
    for (int round = 0; round < ROUNDS; round++) {
        struct capabilities ours = any_capabilities();
        struct capabilities theirs = {0};
        struct framing framing;
        struct slice input;
        struct slice line;

        bytes_clear(&offer);
        assert_int_equal(capability_offer(&offer, "mx.example", "[192.0.2.1]", &ours),
                         RESULT_OK);
        input = bytes_view(&offer);
        framing_init(&framing, LIMIT_REPLY_LINE);
        assert_int_equal(framing_next(&framing, &input, &line), FRAMING_LINE);
        while (framing_next(&framing, &input, &line) == FRAMING_LINE)
            capability_read(&theirs, slice_from(line, 4));
        assert_int_equal(theirs.pipelining, ours.pipelining);
        assert_int_equal(theirs.size, ours.size);
        assert_true(theirs.size_limit == ours.size_limit);
        assert_int_equal(theirs.eightbitmime, ours.eightbitmime);
        assert_int_equal(theirs.smtputf8, ours.smtputf8);
        assert_int_equal(theirs.enhancedstatuscodes, ours.enhancedstatuscodes);
        assert_int_equal(theirs.dsn, ours.dsn);
        assert_int_equal(theirs.chunking, ours.chunking);
        assert_int_equal(theirs.starttls, ours.starttls);
        assert_int_equal(theirs.auth, ours.auth);
        assert_int_equal(theirs.auth_plain, ours.auth_plain);
        assert_int_equal(theirs.auth_login, ours.auth_login);
    }
    bytes_fini(&offer);
}

static int set_up(void **state)
{
    const char *wanted = getenv("SMTPD_SEED");

    (void)state;
    if (wanted)
        seed = strtoull(wanted, NULL, 10) | 1;
    printf("SMTPD_SEED=%" PRIu64 "\n", seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(property, replies_in_a_row_read_back_for_any_split),
        RUN(property, lines_of_one_reply_are_joined_for_any_split),
        RUN(property, what_is_offered_is_what_is_read),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
