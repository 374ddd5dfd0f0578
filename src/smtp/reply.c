/* Replies in both directions, and the table of every reply that this server gives. */
#include "smtpd/smtp/reply.h"

#include "smtpd/base/check.h"
#include "smtpd/base/pen.h"
#include "smtpd/smtp/framing.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool reply_is_positive(const struct reply *reply)
{
    return reply->code >= 200 && reply->code < 300;
}

bool reply_is_intermediate(const struct reply *reply)
{
    return reply->code >= 300 && reply->code < 400;
}

bool reply_is_transient(const struct reply *reply)
{
    return reply->code >= 400 && reply->code < 500;
}

bool reply_is_permanent(const struct reply *reply)
{
    return reply->code >= 500 && reply->code < 600;
}

/* ---- enhanced codes, RFC 3463 2 ---- */

static bool take_number(struct slice *text, unsigned digits_max, uint16_t *number)
{
    unsigned digits = 0;
    uint16_t value = 0;

    while (digits < text->length && digits < digits_max && text->data[digits] >= '0' &&
           text->data[digits] <= '9')
        value = (uint16_t)(value * 10 + (text->data[digits++] - '0'));
    if (digits == 0)
        return false;
    *text = slice_from(*text, digits);
    *number = value;
    return true;
}

static bool take_dot(struct slice *text)
{
    if (text->length == 0 || text->data[0] != '.')
        return false;
    *text = slice_from(*text, 1);
    return true;
}

bool enhanced_code_parse(struct slice *text, struct enhanced_code *enhanced)
{
    struct slice rest = *text;
    uint16_t class_digit;

    if (!take_number(&rest, 1, &class_digit) || !take_dot(&rest) ||
        !take_number(&rest, 3, &enhanced->subject) || !take_dot(&rest) ||
        !take_number(&rest, 3, &enhanced->detail) ||
        (class_digit != 2 && class_digit != 4 && class_digit != 5) ||
        (rest.length > 0 && rest.data[0] != ' '))
        return false;
    enhanced->class_digit = (uint8_t)class_digit;
    *text = slice_trim(rest);
    return true;
}

void reply_set(struct reply *reply, unsigned code, const char *enhanced, const char *format,
               ...)
{
    struct slice text = slice_of(enhanced);
    va_list arguments;

    reply->code = (uint16_t)code;
    reply->enhanced = (struct enhanced_code){0};
    CHECK(!enhanced || enhanced_code_parse(&text, &reply->enhanced));
    va_start(arguments, format);
    (void)vsnprintf(reply->text, sizeof reply->text, format, arguments);
    va_end(arguments);
}

static void put_enhanced(struct pen *pen, unsigned class_digit, unsigned subject,
                         unsigned detail)
{
    pen_number(pen, class_digit);
    pen_byte(pen, '.');
    pen_number(pen, subject);
    pen_byte(pen, '.');
    pen_number(pen, detail);
}

static void put_codes(struct pen *pen, const struct reply *reply)
{
    const struct enhanced_code *enhanced = &reply->enhanced;

    pen_number(pen, reply->code);
    if (!enhanced->class_digit)
        return;
    pen_byte(pen, ' ');
    put_enhanced(pen, enhanced->class_digit, enhanced->subject, enhanced->detail);
}

void reply_print(const struct reply *reply, char *into, size_t into_bytes)
{
    struct pen pen = pen_on(into, into_bytes);

    put_codes(&pen, reply);
    if (reply->text[0])
        pen_byte(&pen, ' ');
    pen_text(&pen, reply->text);
}

void reply_status(const struct reply *reply, char status[16])
{
    unsigned class_digit = reply->code / 100U;
    struct pen pen = pen_on(status, 16);

    /* A class that contradicts the code is not believed (RFC 2034 4). */
    if (reply->enhanced.class_digit && reply->enhanced.class_digit == class_digit)
        put_enhanced(&pen, class_digit, reply->enhanced.subject % 1000U,
                     reply->enhanced.detail % 1000U);
    else
        put_enhanced(&pen, class_digit == 2 || class_digit == 5 ? class_digit : 4, 0, 0);
}

/* ---- reading ---- */

void reply_reader_init(struct reply_reader *reader)
{
    memset(reader, 0, sizeof *reader);
}

/* Length of the printable character at the front in UTF-8 (RFC 3629 3), 0: there is none.
 */
static size_t character_length(struct slice text)
{
    static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};
    unsigned char first = (unsigned char)text.data[0];
    size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint32_t code = length == 1 ? first : first & (0x7fU >> length);

    if ((first >= 0x80 && first < 0xc0) || first >= 0xf8 || length > text.length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        unsigned char byte = (unsigned char)text.data[i];

        if ((byte & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (byte & 0x3fU);
    }
    if (code < least[length] || code == 0x7f || code > 0x10ffff ||
        (code >= 0xd800 && code <= 0xdfff))
        return 0;
    return length;
}

/* Printable characters as they are; any other byte becomes a question mark. */
static void keep_text(struct reply_reader *reader, struct slice text)
{
    char *into = reader->reply.text;

    if (reader->text_length > 0 && text.length > 0 &&
        reader->text_length < LIMIT_REPLY_TEXT)
        into[reader->text_length++] = ' ';
    while (text.length > 0) {
        size_t length = character_length(text);
        size_t taken = length > 0 ? length : 1;

        if (reader->text_length + taken > LIMIT_REPLY_TEXT)
            break;
        if (length == 0)
            into[reader->text_length] = '?';
        else
            memcpy(into + reader->text_length, text.data, length);
        reader->text_length += (uint32_t)taken;
        text = slice_from(text, taken);
    }
    into[reader->text_length] = '\0';
}

static bool read_code(struct slice line, unsigned *code)
{
    if (line.length < 3)
        return false;
    for (size_t i = 0; i < 3; i++)
        if (line.data[i] < '0' || line.data[i] > '9')
            return false;
    *code = (unsigned)(line.data[0] - '0') * 100 + (unsigned)(line.data[1] - '0') * 10 +
            (unsigned)(line.data[2] - '0');
    return *code >= 200 && *code <= 599;
}

/* RFC 2034 4 wants it in each line. Not all do it: the first one that comes is it, and another one is
 * part of the text. */
static bool takes_enhanced(struct reply_reader *reader, const struct enhanced_code *code)
{
    struct enhanced_code *kept = &reader->reply.enhanced;

    if (kept->class_digit == 0)
        *kept = *code;
    return kept->class_digit == code->class_digit && kept->subject == code->subject &&
           kept->detail == code->detail;
}

enum reply_event reply_reader_line(struct reply_reader *reader, struct slice line,
                                   struct slice *text)
{
    bool is_last = line.length == 3 || (line.length > 3 && line.data[3] == ' ');
    struct slice words = line.length > 4 ? slice_from(line, 4) : SLICE_NONE;
    struct slice behind = words;
    struct enhanced_code enhanced;
    unsigned code;

    if (reader->is_complete)
        reply_reader_init(reader);
    if (!read_code(line, &code) || (!is_last && line.data[3] != '-') ||
        (reader->line_count > 0 && code != reader->reply.code) ||
        ++reader->line_count > LIMIT_REPLY_LINES)
        return REPLY_BAD;
    reader->reply.code = (uint16_t)code;
    if (text)
        *text = words;
    if (enhanced_code_parse(&behind, &enhanced) && takes_enhanced(reader, &enhanced))
        words = behind;
    keep_text(reader, words);
    reader->is_complete = is_last;
    return is_last ? REPLY_COMPLETE : REPLY_MORE;
}

/* ---- what this server says ---- */

struct reply_row {
    const char *name;
    uint16_t code;
    const char *enhanced; /* NULL: none (RFC 2034 4: greeting, EHLO, 3xx) */
    const char *format;   /* at most one %s */
};

/* clang-format off */
static const struct reply_row rows[REPLY_NAME_COUNT] = {
    [REPLY_GREETING]               = {"greeting", 220, NULL, "%s ESMTP"},
    [REPLY_GREETING_BUSY]          = {"greeting-busy", 421, "4.3.2", "Too many connections here: try again later"},
    [REPLY_GREETING_BUSY_ADDRESS]  = {"greeting-busy-address", 421, "4.7.0", "Too many connections from your address"},
    [REPLY_GREETING_BUSY_NETWORK]  = {"greeting-busy-network", 421, "4.7.0", "Too many connections from your network"},
    [REPLY_GREETING_TOO_OFTEN]     = {"greeting-too-often", 421, "4.7.0", "Too many new connections from your address: try again later"},
    [REPLY_GREETING_TOO_OFTEN_NETWORK] = {"greeting-too-often-network", 421, "4.7.0", "Too many new connections from your network: try again later"},
    [REPLY_GREETING_BARRED]        = {"greeting-barred", 421, "4.7.0", "Too many errors from your address: try again later"},
    [REPLY_EARLY_TALKER]           = {"early-talker", 554, "5.5.1", "Wait for the greeting before you talk"},
    [REPLY_GREETING_MEMORY]        = {"greeting-memory", 421, "4.3.2", "Short of memory: try again later"},
    [REPLY_CLOSING]                = {"closing", 221, "2.0.0", "Bye"},
    [REPLY_SHUTTING_DOWN]          = {"shutting-down", 421, "4.3.2", "Leaving for maintenance: try again"},
    [REPLY_IDLE]                   = {"idle", 421, "4.4.2", "Nothing was said for too long"},
    [REPLY_TOO_MANY_ERRORS]        = {"too-many-errors", 421, "4.7.0", "Too many errors"},
    [REPLY_TLS_FAILED]             = {"tls-failed", 454, "4.7.0", "TLS is busy: try again"},
    [REPLY_OK]                     = {"ok", 250, "2.0.0", "OK"},
    [REPLY_HELLO]                  = {"hello", 250, NULL, "%s"},
    [REPLY_HELP]                   = {"help", 214, "2.0.0", "Commands: %s"},
    [REPLY_CANNOT_VRFY]            = {"cannot-vrfy", 252, "2.5.0", "Send a message: then it shows whether the user exists"},
    [REPLY_SENDER_OK]              = {"sender-ok", 250, "2.1.0", "Sender OK"},
    [REPLY_RECIPIENT_OK]           = {"recipient-ok", 250, "2.1.5", "Recipient OK"},
    [REPLY_START_DATA]             = {"start-data", 354, NULL, "Send the message; a dot on a line of its own ends it"},
    [REPLY_CHUNK_OK]               = {"chunk-ok", 250, "2.0.0", "%s octets received"},
    [REPLY_QUEUED]                 = {"queued", 250, "2.0.0", "OK: queued as %s"},
    [REPLY_READY_FOR_TLS]          = {"ready-for-tls", 220, "2.0.0", "Ready to start TLS"},
    [REPLY_AUTH_CONTINUE]          = {"auth-continue", 334, NULL, "%s"},
    [REPLY_AUTH_OK]                = {"auth-ok", 235, "2.7.0", "Logged in"},
    [REPLY_AUTH_FAILED]            = {"auth-failed", 535, "5.7.8", "User name or password is wrong"},
    [REPLY_AUTH_CANCELLED]         = {"auth-cancelled", 501, "5.7.0", "Log-in cancelled"},
    [REPLY_AUTH_BAD_BASE64]        = {"auth-bad-base64", 501, "5.5.2", "That is not base64 as the mechanism wants it"},
    [REPLY_AUTH_TOO_LONG]          = {"auth-too-long", 500, "5.5.6", "The log-in line is too long"},
    [REPLY_AUTH_UNKNOWN_MECHANISM] = {"auth-unknown-mechanism", 504, "5.5.4", "Mechanisms are PLAIN and LOGIN"},
    [REPLY_AUTH_BUSY]              = {"auth-busy", 454, "4.7.0", "Too many log-ins at once: try again"},
    [REPLY_AUTH_NEEDS_TLS]         = {"auth-needs-tls", 538, "5.7.11", "A password travels under TLS only: STARTTLS first"},
    [REPLY_AUTH_NOT_OFFERED]       = {"auth-not-offered", 503, "5.5.1", "There is no log-in here"},
    [REPLY_AUTH_ALREADY]           = {"auth-already", 503, "5.5.1", "You are logged in already"},
    [REPLY_LOGGED_OUT]             = {"logged-out", 421, "4.7.0", "The log-in holds no more: log in again"},
    [REPLY_LOCKED_OUT]             = {"locked-out", 421, "4.7.0", "Too many failed log-ins from your address: try again later"},
    [REPLY_TLS_REQUIRED]           = {"tls-required", 530, "5.7.0", "STARTTLS first"},
    [REPLY_AUTH_REQUIRED]          = {"auth-required", 530, "5.7.0", "Log in first"},
    [REPLY_TLS_NOT_AVAILABLE]      = {"tls-not-available", 454, "4.7.0", "TLS is not available here"},
    [REPLY_TLS_ALREADY]            = {"tls-already", 503, "5.5.1", "TLS is on already"},
    [REPLY_UNKNOWN_COMMAND]        = {"unknown-command", 500, "5.5.2", "No such command here: try HELP"},
    [REPLY_NOT_IMPLEMENTED]        = {"not-implemented", 502, "5.5.1", "This command is not served here"},
    [REPLY_LINE_TOO_LONG]          = {"line-too-long", 500, "5.5.2", "The line is too long"},
    [REPLY_BAD_LINE]               = {"bad-line", 500, "5.5.2", "A line ends with CR LF and holds no bare CR, LF or NUL"},
    [REPLY_SYNTAX]                 = {"syntax", 501, "5.5.4", "%s"},
    [REPLY_PARAMETER_UNKNOWN]      = {"parameter-unknown", 555, "5.5.4", "%s"},
    [REPLY_SEQUENCE]               = {"sequence", 503, "5.5.1", "%s"},
    [REPLY_PIPELINED]              = {"pipelined", 503, "5.5.0", "Wait for the reply to this command before sending more"},
    [REPLY_BAD_SENDER]             = {"bad-sender", 553, "5.1.7", "%s"},
    [REPLY_BAD_RECIPIENT]          = {"bad-recipient", 553, "5.1.3", "%s"},
    [REPLY_NEEDS_SMTPUTF8]         = {"needs-smtputf8", 553, "5.6.7", "That address needs SMTPUTF8 in MAIL"},
    [REPLY_UNKNOWN_RECIPIENT]      = {"unknown-recipient", 550, "5.1.1", "No such user here"},
    [REPLY_RELAY_DENIED]           = {"relay-denied", 550, "5.7.1", "Relaying denied: log in first, or send to a domain of this server"},
    [REPLY_SENDER_DENIED]          = {"sender-denied", 553, "5.7.1", "You may not send as this address"},
    [REPLY_HEADER_SENDER_DENIED]   = {"header-sender-denied", 550, "5.7.1", "%s"},
    [REPLY_BAD_TENANT]             = {"bad-tenant", 554, "5.6.0", "%s"},
    [REPLY_SUPPRESSED]             = {"suppressed", 550, "5.7.1", "%s"},
    [REPLY_LIMIT_REACHED]          = {"limit-reached", 450, "4.7.1", "%s"},
    [REPLY_TOO_MANY_UNKNOWN]       = {"too-many-unknown", 421, "4.7.0", "Too many unknown recipients"},
    [REPLY_LISTED]                 = {"listed", 554, "5.7.1", "%s"},
    [REPLY_NO_NAME]                = {"no-name", 550, "5.7.25", "Your address has no name that leads back to it"},
    [REPLY_NAME_UNKNOWN]           = {"name-unknown", 450, "4.7.25", "The name of your address cannot be looked up now: try again later"},
    [REPLY_BAD_HELO]               = {"bad-helo", 550, "5.7.1", "%s"},
    [REPLY_TOO_MANY_RECIPIENTS]    = {"too-many-recipients", 452, "4.5.3", "Too many recipients: send the rest in another message"},
    [REPLY_NO_RECIPIENTS]          = {"no-recipients", 554, "5.5.1", "No valid recipients"},
    [REPLY_TOO_LARGE]              = {"too-large", 552, "5.3.4", "The message is larger than this server takes"},
    [REPLY_HEADER_TOO_LARGE]       = {"header-too-large", 552, "5.3.4", "The header section is larger than 256 KiB"},
    [REPLY_NO_SPACE]               = {"no-space", 452, "4.3.1", "No room for mail just now: try again later"},
    [REPLY_SHORT_OF_MEMORY]        = {"short-of-memory", 452, "4.3.1", "Short of memory: try again later"},
    [REPLY_QUEUE_FAILED]           = {"queue-failed", 451, "4.3.0", "The message could not be stored: try again later"},
    [REPLY_SIGNING_FAILED]         = {"signing-failed", 451, "4.7.5", "The message could not be signed: try again later"},
    [REPLY_LOOP]                   = {"loop", 554, "5.4.6", "Too many Received lines: the message is in a loop"},
    [REPLY_BARE_LINE_END]          = {"bare-line-end", 550, "5.5.2", "The message has a bare CR or LF (RFC 5321 2.3.8)"},
    [REPLY_HAS_NUL]                = {"has-nul", 550, "5.6.0", "The message has a NUL byte"},
    [REPLY_OUT_OF_MEMORY]          = {"out-of-memory", 452, "4.3.1", "This message needs more memory than a session has"},
};
/* clang-format on */

void reply_named(struct reply *reply, enum reply_name name, const char *argument)
{
    const struct reply_row *row = &rows[name];
    struct slice format = slice_of(row->format);
    const char *place = strstr(row->format, "%s");
    size_t before = place ? (size_t)(place - row->format) : format.length;
    struct slice enhanced = slice_of(row->enhanced);
    struct pen pen = pen_on(reply->text, sizeof reply->text);

    reply->code = row->code;
    reply->enhanced = (struct enhanced_code){0};
    CHECK(!row->enhanced || enhanced_code_parse(&enhanced, &reply->enhanced));
    pen_slice(&pen, slice_part(format, 0, before));
    if (place && argument)
        pen_text(&pen, argument);
    if (place)
        pen_text(&pen, place + 2);
}

const char *reply_name_text(enum reply_name name)
{
    return rows[name].name;
}

uint16_t reply_name_code(enum reply_name name)
{
    return rows[name].code;
}

static enum result add_reply_line(struct bytes *into, const char *head, struct slice text)
{
    char line[LIMIT_REPLY_TEXT + 64];
    struct pen pen = pen_on(line, sizeof line);

    pen_text(&pen, head);
    pen_slice(&pen, text);
    /* What we say is printable; should an argument not be, the reply is still a reply. */
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    return framing_add_line(into, slice_of(line));
}

enum result reply_add(struct bytes *into, const struct reply *reply)
{
    char head[32];
    struct pen pen = pen_on(head, sizeof head);

    put_codes(&pen, reply);
    pen_byte(&pen, ' ');
    return add_reply_line(into, head, slice_of(reply->text));
}

enum result reply_add_lines(struct bytes *into, unsigned code, const struct slice *lines,
                            size_t line_count)
{
    enum result added = RESULT_OK;

    for (size_t i = 0; i < line_count && added == RESULT_OK; i++) {
        char head[8];

        (void)snprintf(head, sizeof head, "%u%c", code % 1000,
                       i + 1 < line_count ? '-' : ' ');
        added = add_reply_line(into, head, lines[i]);
    }
    return added;
}
