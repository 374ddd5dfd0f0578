/* What a remote server may say: its bytes are cut into lines, and each line goes to the
 * reader of replies and, as a line of EHLO, to the reader of capabilities. However the
 * server behaves the reply stays within its limits, prints to lines that read back as the
 * same reply, and what we offer a client reads back as what was read. */
#include "smtpd/smtp/reply.h"

#include "smtpd/base/check.h"
#include "smtpd/smtp/capability.h"
#include "smtpd/smtp/framing.h"

#include <string.h>

enum { INPUT_MAX = 20000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct slice part, struct slice whole)
{
    return part.length == 0 || (part.data >= whole.data &&
                                part.data + part.length <= whole.data + whole.length);
}

/* Printable UTF-8 and nothing else: others put it into JSON and into reports. */
static void check_text(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    CHECK(memchr(text, '\0', LIMIT_REPLY_TEXT + 1));
    while (*at) {
        unsigned length = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;
        unsigned code = length == 1 ? *at : *at & (0x3fU >> (length - 1));

        CHECK(*at < 0x80 || (*at >= 0xc2 && *at <= 0xf4));
        for (at++; length > 1; length--, at++) {
            CHECK((*at & 0xc0) == 0x80);
            code = code << 6 | (*at & 0x3fU);
        }
        CHECK(code >= ' ' && (code < 0x7f || code > 0x9f) && code <= 0x10ffff);
        CHECK(code < 0xd800 || code > 0xdfff);
    }
}

static void check_kind(const struct reply *reply)
{
    int kinds = reply_is_positive(reply) + reply_is_intermediate(reply) +
                reply_is_transient(reply) + reply_is_permanent(reply);

    CHECK(reply->code >= 200 && reply->code <= 599 && kinds == 1);
}

/* The status of a report: of the class of the code, and well-formed. */
static void check_status(const struct reply *reply)
{
    struct enhanced_code enhanced;
    struct slice text;
    char status[16];

    reply_status(reply, status);
    text = slice_of(status);
    CHECK(enhanced_code_parse(&text, &enhanced) && text.length == 0);
    if (!reply_is_intermediate(reply))
        CHECK(enhanced.class_digit == reply->code / 100);
}

static void check_print(const struct reply *reply)
{
    char printed[LIMIT_REPLY_TEXT + 32];
    char cut[20];

    reply_print(reply, printed, sizeof printed);
    CHECK(slice_ends_fold(slice_of(printed), reply->text));
    CHECK(strlen(printed) + 1 < sizeof printed);
    reply_print(reply, cut, sizeof cut);
    CHECK(strncmp(cut, printed, sizeof cut - 1) == 0 && memchr(cut, '\0', sizeof cut));
}

/* Written as a server writes it, it is one line that reads as the same reply. */
static void check_again(const struct reply *reply)
{
    struct slice text = slice_of(reply->text);
    struct enhanced_code enhanced;
    struct reply_reader reader;
    struct slice line;
    struct bytes written;

    /* A text that begins like an enhanced code, in a reply that has none, becomes one. */
    if (!reply->enhanced.class_digit && enhanced_code_parse(&text, &enhanced))
        return;
    bytes_init(&written, LIMIT_REPLY_TEXT + 64);
    CHECK(reply_add(&written, reply) == RESULT_OK);
    line = bytes_view(&written);
    CHECK(slice_find(line, '\r') == line.length - 2 &&
          slice_find(line, '\n') == line.length - 1);
    line.length -= 2;
    reply_reader_init(&reader);
    CHECK(reply_reader_line(&reader, line, NULL) == REPLY_COMPLETE);
    CHECK(reader.reply.code == reply->code);
    CHECK(reader.reply.enhanced.class_digit == reply->enhanced.class_digit);
    CHECK(reader.reply.enhanced.subject == reply->enhanced.subject);
    CHECK(reader.reply.enhanced.detail == reply->enhanced.detail);
    /* Blanks between an enhanced code and its text are not text. */
    CHECK(slice_equal(slice_trim(slice_of(reader.reply.text)),
                      slice_trim(slice_of(reply->text))));
    bytes_fini(&written);
}

static void check_offer(const struct capabilities *read)
{
    struct capabilities again = {0};
    struct reply_reader reader;
    struct framing framing;
    struct bytes offered;
    struct slice input;
    struct slice line;
    struct slice text;
    unsigned count = 0;

    bytes_init(&offered, 8192);
    CHECK(capability_offer(&offered, "mx.example", "client.example", read) == RESULT_OK);
    input = bytes_view(&offered);
    framing_init(&framing, LIMIT_REPLY_LINE);
    reply_reader_init(&reader);
    while (framing_next(&framing, &input, &line) == FRAMING_LINE) {
        CHECK(reply_reader_line(&reader, line, &text) ==
              (input.length > 0 ? REPLY_MORE : REPLY_COMPLETE));
        if (count++ > 0)
            capability_read(&again, text);
    }
    CHECK(input.length == 0 && reader.reply.code == 250);
    CHECK(again.pipelining == read->pipelining && again.size == read->size);
    CHECK(!read->size || again.size_limit == read->size_limit);
    CHECK(again.eightbitmime == read->eightbitmime && again.smtputf8 == read->smtputf8);
    CHECK(again.enhancedstatuscodes == read->enhancedstatuscodes && again.dsn == read->dsn);
    CHECK(again.chunking == read->chunking && again.starttls == read->starttls);
    CHECK(again.auth == read->auth && again.auth_plain == read->auth_plain);
    CHECK(again.auth_login == read->auth_login);
    bytes_fini(&offered);
}

/* false: the reader gives the connection up. */
static bool check_line(struct reply_reader *reader, struct slice line,
                       struct capabilities *capabilities)
{
    struct slice text = SLICE_NONE;
    enum reply_event event = reply_reader_line(reader, line, &text);

    CHECK(reader->line_count <= LIMIT_REPLY_LINES + 1);
    CHECK(lies_in(text, line));
    check_text(reader->reply.text);
    if (event == REPLY_BAD)
        return false;
    CHECK(reader->line_count >= 1 && reader->line_count <= LIMIT_REPLY_LINES);
    CHECK(text.length == (line.length > 4 ? line.length - 4 : 0));
    CHECK(reader->is_complete == (event == REPLY_COMPLETE));
    check_kind(&reader->reply);
    capability_read(capabilities, text);
    if (event == REPLY_COMPLETE) {
        check_status(&reader->reply);
        check_print(&reader->reply);
        check_again(&reader->reply);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};
    struct capabilities capabilities = {0};
    struct reply_reader reader;
    struct framing framing;
    struct slice line;
    enum framing_event event;
    bool goes_on = true;

    if (size > INPUT_MAX)
        return 0;
    framing_init(&framing, LIMIT_REPLY_LINE);
    reply_reader_init(&reader);
    while (goes_on && (event = framing_next(&framing, &input, &line)) != FRAMING_MORE)
        goes_on =
            event == FRAMING_LINE_TOO_LONG || check_line(&reader, line, &capabilities);
    check_offer(&capabilities);
    return 0;
}
