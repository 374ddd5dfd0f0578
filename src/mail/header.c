/* The header section (RFC 5322 2.2): one linear walk, and the fields that we add. */
#include "smtpd/mail/header.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/moment.h"
#include "smtpd/base/pen.h"

#include <stdio.h>
#include <string.h>

enum { FOLD_COLUMN = 78 };

/* Length of the line at the front, its CR LF included; the rest when there is none. */
static size_t line_length(struct slice text)
{
    size_t at = 0;

    while (at < text.length) {
        const char *cr = memchr(text.data + at, '\r', text.length - at);

        if (!cr)
            return text.length;
        at = (size_t)(cr - text.data) + 1;
        if (at < text.length && text.data[at] == '\n')
            return at + 1;
    }
    return text.length;
}

static bool is_continuation(struct slice text)
{
    return text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t');
}

static bool is_end(struct slice text)
{
    return text.length == 0 ||
           (text.length >= 2 && text.data[0] == '\r' && text.data[1] == '\n');
}

/* RFC 5322 2.2: printable US-ASCII without the colon; blanks before it are tolerated (4.5).
 */
static bool take_name(struct slice line, struct slice *name)
{
    size_t colon = slice_find(line, ':');

    /* A line that begins with a blank goes on with a field: the first one has none. */
    if (colon == 0 || colon >= line.length || is_continuation(line))
        return false;
    *name = slice_trim(slice_part(line, 0, colon));
    for (size_t i = 0; i < name->length; i++)
        if (name->data[i] < '!' || name->data[i] > '~')
            return false;
    return name->length > 0;
}

bool header_next_field(struct slice *rest, struct slice *name, struct slice *field)
{
    size_t length;

    if (is_end(*rest))
        return false;
    length = line_length(*rest);
    if (!take_name(slice_part(*rest, 0, length), name))
        return false;
    while (is_continuation(slice_from(*rest, length)))
        length += line_length(slice_from(*rest, length));
    *field = slice_part(*rest, 0, length);
    *rest = slice_from(*rest, length);
    return true;
}

size_t header_section_length(struct slice message)
{
    static const char empty_line[] = "\r\n\r\n";
    const char *end;

    if (is_end(message))
        return message.length > 0 ? 2 : 0; /* no fields at all */
    end = memmem(message.data, message.length, empty_line, sizeof empty_line - 1);
    return end ? (size_t)(end - message.data) + sizeof empty_line - 1 : message.length;
}

/* The value without the blanks and line ends around it: it may begin on a folded line. */
static struct slice field_value(struct slice field)
{
    static const char around[] = " \t\r\n";
    struct slice value = slice_from(field, slice_find(field, ':') + 1);

    while (value.length > 0 && memchr(around, value.data[0], sizeof around - 1))
        value = slice_from(value, 1);
    while (value.length > 0 &&
           memchr(around, value.data[value.length - 1], sizeof around - 1))
        value.length--;
    return value;
}

void header_scan(struct slice section, struct header_scan *scan)
{
    struct slice rest = section;
    struct slice name;
    struct slice field;

    memset(scan, 0, sizeof *scan);
    scan->has_8bit = slice_has_8bit(section);
    while (header_next_field(&rest, &name, &field)) {
        scan->field_count++;
        scan->received_count += slice_equal_text_fold(name, "Received");
        scan->date_count += slice_equal_text_fold(name, "Date");
        scan->from_count += slice_equal_text_fold(name, "From");
        if (!slice_equal_text_fold(name, "Message-ID"))
            continue;
        if (scan->message_id_count++ == 0)
            scan->message_id = field_value(field);
    }
    scan->is_malformed = !is_end(rest);
}

enum result header_copy_without(struct slice section, const char *const *names,
                                struct bytes *into)
{
    struct slice rest = section;
    struct slice name;
    struct slice field;
    enum result added = RESULT_OK;

    while (added == RESULT_OK && header_next_field(&rest, &name, &field)) {
        bool is_dropped = false;

        for (const char *const *each = names; *each && !is_dropped; each++)
            is_dropped = slice_equal_text_fold(name, *each);
        if (!is_dropped)
            added = bytes_add(into, field);
    }
    /* The empty line, or what is no field: as it stands. */
    return added == RESULT_OK ? bytes_add(into, rest) : added;
}

/* ---- what we add ---- */

/* Parts joined by a blank, or by a folded line where the line grows too long. */
struct folder {
    struct bytes *into;
    size_t column;
    enum result result;
};

static void add_part(struct folder *folder, const char *part)
{
    size_t length = strlen(part);
    bool folds = folder->column + 1 + length > FOLD_COLUMN;

    if (folder->result == RESULT_OK)
        folder->result = bytes_add_text(folder->into, folds ? "\r\n\t" : " ");
    if (folder->result == RESULT_OK)
        folder->result = bytes_add_text(folder->into, part);
    folder->column = folds ? 8 + length : folder->column + 1 + length;
}

/* Nothing that a client says may end the field or its comments, or bring 8-bit bytes into the
 * header of a message that has none: a next hop may not take them (RFC 5322 2.2). */
static void clean(const char *text, char *into, size_t into_bytes)
{
    size_t length = 0;

    for (; *text && length + 1 < into_bytes; text++) {
        unsigned char byte = (unsigned char)*text;

        into[length++] =
            byte <= 0x20 || byte >= 0x7f || strchr("()\\;\"", byte) ? '_' : *text;
    }
    into[length] = '\0';
}

static void add_from(struct folder *folder, const struct trace *trace)
{
    char helo[300];
    char name[300] = "";
    char part[700];
    struct pen pen;

    clean(trace->helo && trace->helo[0] ? trace->helo : "unknown", helo, sizeof helo);
    if (trace->peer_name)
        clean(trace->peer_name, name, sizeof name);
    pen = pen_on(part, sizeof part);
    pen_text(&pen, "from ");
    pen_text(&pen, helo);
    add_part(folder, part);
    pen = pen_on(part, sizeof part);
    pen_byte(&pen, '(');
    pen_text(&pen, name);
    pen_text(&pen, name[0] ? " [" : "[");
    pen_text(&pen, trace->peer_address);
    pen_text(&pen, "])");
    add_part(folder, part);
}

static struct slice start_of(const char *text, size_t most)
{
    struct slice whole = slice_of(text);

    return slice_part(whole, 0, whole.length < most ? whole.length : most);
}

enum result header_add_received(struct bytes *into, const struct trace *trace)
{
    struct folder folder = {into, sizeof "Received:" - 1, RESULT_OK};
    char part[700];
    char date[MOMENT_TEXT];
    struct pen pen;

    folder.result = bytes_add_text(into, "Received:");
    if (trace->peer_address)
        add_from(&folder, trace);
    pen = pen_on(part, sizeof part);
    pen_text(&pen, "by ");
    pen_slice(&pen, start_of(trace->hostname, 300));
    add_part(&folder, part);
    if (trace->tls_version) {
        (void)snprintf(part, sizeof part, "(%.20s %.80s)", trace->tls_version,
                       trace->tls_cipher ? trace->tls_cipher : "");
        add_part(&folder, part);
    }
    pen = pen_on(part, sizeof part);
    pen_text(&pen, "with ");
    pen_slice(&pen, start_of(trace->protocol, 20));
    pen_text(&pen, " id ");
    pen_slice(&pen, start_of(trace->id, 20));
    pen_text(&pen, trace->recipient ? "" : ";");
    add_part(&folder, part);
    if (trace->recipient) {
        pen = pen_on(part, sizeof part);
        pen_text(&pen, "for <");
        pen_slice(&pen, start_of(trace->recipient, 400));
        pen_text(&pen, ">;");
        add_part(&folder, part);
    }
    moment_rfc5322(trace->wall_ms, date);
    add_part(&folder, date);
    return folder.result == RESULT_OK ? bytes_add_text(into, "\r\n") : folder.result;
}

enum result header_add_date(struct bytes *into, int64_t wall_ms)
{
    char date[MOMENT_TEXT];

    moment_rfc5322(wall_ms, date);
    return bytes_format(into, "Date: %s\r\n", date);
}

enum result header_add_message_id(struct bytes *into, const char *id, int64_t wall_ms,
                                  const char *hostname)
{
    return bytes_format(into, "Message-ID: <%lld.%s@%s>\r\n", (long long)wall_ms, id,
                        hostname);
}
