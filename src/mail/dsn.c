/* Reports: RFC 3464 inside RFC 6522, RFC 6533 where the mail is SMTPUTF8. Whatever comes
 * from outside is cleaned of control characters before it is put into a field. */
#include "smtpd/mail/dsn.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/moment.h"
#include "smtpd/mail/address.h"

#include <string.h>

enum { FOLD_AT = 72, FOLD_ANYWHERE_AT = 700 };

/* A writer that remembers its first failure: only the end is asked. */
struct writer {
    struct bytes *into;
    enum result result;
};

static void add(struct writer *writer, const char *text)
{
    if (writer->result == RESULT_OK)
        writer->result = bytes_add_text(writer->into, text);
}

static void add_slice(struct writer *writer, struct slice text)
{
    if (writer->result == RESULT_OK)
        writer->result = bytes_add(writer->into, text);
}

/* What is kept of a text: so much, and no half of a character in UTF-8. */
static struct slice kept(const char *text)
{
    struct slice all = slice_of(text);
    struct slice part = slice_part(all, 0, LIMIT_REPLY_TEXT);

    if (part.length == all.length)
        return part;
    while (part.length > 0 && ((unsigned char)part.data[part.length - 1] & 0xc0) == 0x80)
        part.length--;
    if (part.length > 0 && (unsigned char)part.data[part.length - 1] >= 0xc0)
        part.length--;
    return part;
}

/* Whether a line may end before `rest`: never inside of a character in UTF-8, and never so
 * that nothing but blanks stands on the next line. */
static bool may_fold(struct slice rest, char clean, size_t column)
{
    if (clean == ' ')
        return column > FOLD_AT && rest.length > 1 && (unsigned char)rest.data[1] > ' ' &&
               rest.data[1] != 0x7f;
    return column > FOLD_ANYWHERE_AT && ((unsigned char)clean & 0xc0) != 0x80;
}

/* Control characters (CR and LF among them) become blanks; without SMTPUTF8 what is not
 * ASCII becomes a question mark. Long texts are folded at blanks (RFC 5322 2.2.3), and
 * anywhere before a line grows longer than SMTP carries (RFC 5321 4.5.3.1.6). */
static void add_clean(struct writer *writer, const char *text, bool allows_utf8,
                      size_t column)
{
    for (struct slice rest = kept(text); rest.length > 0; rest = slice_from(rest, 1)) {
        unsigned char byte = (unsigned char)rest.data[0];
        char clean = rest.data[0];

        if (byte < 0x20 || byte == 0x7f)
            clean = ' ';
        else if (byte > 0x7f && !allows_utf8)
            clean = '?';
        if (may_fold(rest, clean, column)) {
            add(writer, "\r\n ");
            column = 1;
            if (clean == ' ')
                continue;
        }
        add_slice(writer, (struct slice){&clean, 1});
        column++;
    }
}

static void add_field(struct writer *writer, const struct dsn *dsn, const char *name,
                      const char *value)
{
    add(writer, name);
    add(writer, ": ");
    add_clean(writer, value, dsn->envelope->smtputf8, strlen(name) + 2);
    add(writer, "\r\n");
}

static void add_time(struct writer *writer, const char *name, int64_t wall_ms)
{
    char date[MOMENT_TEXT];

    moment_rfc5322(wall_ms, date);
    add(writer, name);
    add(writer, ": ");
    add(writer, date);
    add(writer, "\r\n");
}

const char *dsn_action_name(enum dsn_action action)
{
    static const char *const names[] = {"failed", "delayed", "delivered", "relayed",
                                        "expanded"};

    return names[action];
}

static const char *subject(enum dsn_action action)
{
    static const char *const subjects[] = {
        "Undelivered mail returned to sender", "Delayed mail (still being tried)",
        "Successful mail delivery report", "Mail relayed onwards",
        "Mail expanded to a list"};

    return subjects[action];
}

static const char *first_words(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
        return "Your message could not be delivered to the recipients below. It will not "
               "be\r\n"
               "tried again. What the receiving server said tells why.\r\n";
    case DSN_DELAYED:
        return "Your message has not been delivered to the recipients below yet. You "
               "need\r\n"
               "not do anything: it will be tried again.\r\n";
    case DSN_DELIVERED:
        return "Your message was delivered to the recipients below.\r\n";
    case DSN_RELAYED:
        return "Your message was handed on to a server that does not report further. It "
               "was\r\n"
               "accepted there for the recipients below.\r\n";
    case DSN_EXPANDED:
    default:
        return "Your message was sent on to the members of a list.\r\n";
    }
}

static void write_head(struct writer *writer, const struct dsn *dsn, bool has_8bit_parts)
{
    add(writer, "From: Mail Delivery System <MAILER-DAEMON@");
    add(writer, dsn->reporting_mta);
    add(writer, ">\r\nTo: <");
    add_clean(writer, dsn->to, dsn->envelope->smtputf8, 5);
    add(writer, ">\r\nSubject: ");
    add(writer, subject(dsn->action));
    add(writer, "\r\n");
    add_time(writer, "Date", dsn->now_ms);
    add(writer, "Message-ID: <");
    add(writer, dsn->report_id);
    add(writer, "@");
    add(writer, dsn->reporting_mta);
    add(writer, ">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
                "Content-Type: multipart/report; report-type=");
    add(writer, dsn->envelope->smtputf8 ? "global-delivery-status" : "delivery-status");
    add(writer, ";\r\n\tboundary=\"report-");
    add(writer, dsn->boundary);
    add(writer, "\"\r\n");
    if (has_8bit_parts) /* RFC 2045 6.4: the whole says what its parts are */
        add(writer, "Content-Transfer-Encoding: 8bit\r\n");
    add(writer, "\r\n");
}

static void write_boundary(struct writer *writer, const struct dsn *dsn, const char *end)
{
    add(writer, "\r\n--report-");
    add(writer, dsn->boundary);
    add(writer, end);
    add(writer, "\r\n");
}

/* For people: who, what the server said, what happens next. */
static void write_words(struct writer *writer, const struct dsn *dsn)
{
    write_boundary(writer, dsn, "");
    add(writer,
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "This is the mail server at ");
    add(writer, dsn->reporting_mta);
    add(writer, ".\r\n\r\n");
    add(writer, first_words(dsn->action));
    if (dsn->action == DSN_DELAYED && dsn->expires_ms) {
        char date[MOMENT_TEXT];

        moment_rfc5322(dsn->expires_ms, date);
        add(writer, "It will be tried until ");
        add(writer, date);
        add(writer, ".\r\n");
    }
    for (size_t i = 0; i < dsn->recipient_count; i++) {
        const struct dsn_recipient *recipient = &dsn->recipients[i];

        add(writer, "\r\n<");
        add_clean(writer, recipient->address, true, 1);
        add(writer, ">\r\n    ");
        if (recipient->diagnostic && recipient->remote_mta) {
            add_clean(writer, recipient->remote_mta, true, 4);
            add(writer, " said: ");
        }
        if (recipient->diagnostic)
            add_clean(writer, recipient->diagnostic, true, 40);
        else if (recipient->explanation)
            add_clean(writer, recipient->explanation, true, 4);
        else
            add(writer, dsn_action_name(dsn->action));
        add(writer, "\r\n");
    }
}

static const char *address_type(const struct dsn *dsn, const char *address)
{
    return dsn->envelope->smtputf8 && slice_has_8bit(slice_of(address)) ? "utf-8; "
                                                                        : "rfc822; ";
}

/* ORCPT is "type;xtext": the type stays, the rest is decoded (RFC 3464 2.3.1). */
static void write_original_recipient(struct writer *writer, const struct dsn *dsn,
                                     const char *orcpt)
{
    struct slice all = slice_of(orcpt);
    size_t semicolon = slice_find(all, ';');
    char zero = '\0';
    struct bytes plain;

    if (semicolon >= all.length)
        return;
    bytes_init(&plain, LIMIT_ORCPT + 1);
    if (xtext_decode(slice_from(all, semicolon + 1), &plain) == RESULT_OK &&
        bytes_add(&plain, (struct slice){&zero, 1}) == RESULT_OK) {
        add(writer, "Original-Recipient: ");
        for (size_t i = 0; i < semicolon; i++)
            if (all.data[i] > ' ' && all.data[i] < 0x7f)
                add_slice(writer, slice_part(all, i, 1));
        add(writer, "; ");
        add_clean(writer, plain.data, dsn->envelope->smtputf8, 30);
        add(writer, "\r\n");
    }
    bytes_fini(&plain);
}

static void write_recipient(struct writer *writer, const struct dsn *dsn,
                            const struct dsn_recipient *recipient)
{
    add(writer, "\r\n");
    if (recipient->orcpt)
        write_original_recipient(writer, dsn, recipient->orcpt);
    add(writer, "Final-Recipient: ");
    add(writer, address_type(dsn, recipient->address));
    add_clean(writer, recipient->address, dsn->envelope->smtputf8, 30);
    add(writer, "\r\n");
    add_field(writer, dsn, "Action", dsn_action_name(dsn->action));
    add_field(writer, dsn, "Status", recipient->status);
    if (recipient->remote_mta && recipient->remote_mta[0]) {
        add(writer, "Remote-MTA: dns; ");
        add_clean(writer, recipient->remote_mta, false, 17);
        add(writer, "\r\n");
    }
    if (recipient->diagnostic && recipient->diagnostic[0]) {
        add(writer, "Diagnostic-Code: smtp; ");
        add_clean(writer, recipient->diagnostic, dsn->envelope->smtputf8, 23);
        add(writer, "\r\n");
    }
    if (recipient->last_attempt_ms)
        add_time(writer, "Last-Attempt-Date", recipient->last_attempt_ms);
    if (dsn->action == DSN_DELAYED && dsn->expires_ms)
        add_time(writer, "Will-Retry-Until", dsn->expires_ms);
    if (recipient->class) { /* RFC 3464 2.3, 2.4: an extension field */
        add(writer, "X-Smtpd-Class: ");
        add(writer, recipient->class);
        add(writer, "\r\n");
    }
}

static void write_status(struct writer *writer, const struct dsn *dsn)
{
    struct bytes envid;
    char zero = '\0';

    write_boundary(writer, dsn, "");
    add(writer, dsn->envelope->smtputf8 ? "Content-Type: message/global-delivery-status\r\n"
                                          "Content-Transfer-Encoding: 8bit\r\n\r\n"
                                        : "Content-Type: message/delivery-status\r\n\r\n");
    if (dsn->envelope->envid) {
        bytes_init(&envid, LIMIT_ENVID + 1);
        if (xtext_decode(slice_of(dsn->envelope->envid), &envid) == RESULT_OK &&
            bytes_add(&envid, (struct slice){&zero, 1}) == RESULT_OK)
            add_field(writer, dsn, "Original-Envelope-Id", envid.data);
        bytes_fini(&envid);
    }
    add(writer, "Reporting-MTA: dns; ");
    add(writer, dsn->reporting_mta);
    add(writer, "\r\n");
    add_time(writer, "Arrival-Date", dsn->envelope->arrival_ms);
    for (size_t i = 0; i < dsn->recipient_count; i++)
        write_recipient(writer, dsn, &dsn->recipients[i]);
}

static const char *original_type(const struct dsn *dsn, bool is_whole)
{
    if (dsn->envelope->smtputf8)
        return is_whole ? "message/global" : "message/global-headers";
    return is_whole ? "message/rfc822" : "text/rfc822-headers";
}

/* A line of the original that is our boundary would end the part: it is random, so that no
 * sender can put it there. */
static void write_original(struct writer *writer, const struct dsn *dsn)
{
    bool is_whole = dsn->original_body.length > 0;

    write_boundary(writer, dsn, "");
    add(writer, "Content-Type: ");
    add(writer, original_type(dsn, is_whole));
    if (dsn->envelope->has_8bit || dsn->envelope->smtputf8)
        add(writer, "\r\nContent-Transfer-Encoding: 8bit");
    add(writer, "\r\n\r\n");
    add_slice(writer, dsn->original_header);
    if (is_whole)
        add_slice(writer, dsn->original_body);
}

static void write_parts(struct writer *writer, const struct dsn *dsn)
{
    add(writer, "This is a delivery report in MIME format.\r\n");
    write_words(writer, dsn);
    write_status(writer, dsn);
    write_original(writer, dsn);
    write_boundary(writer, dsn, "--");
}

/* Whether a part has 8 bits is known when all are written; then the head must say so. */
enum result dsn_write(const struct dsn *dsn, struct bytes *message)
{
    struct writer writer = {message, RESULT_OK};
    size_t head_bytes;

    write_head(&writer, dsn, false);
    head_bytes = message->length;
    write_parts(&writer, dsn);
    if (writer.result != RESULT_OK ||
        !slice_has_8bit(slice_from(bytes_view(message), head_bytes)))
        return writer.result;
    bytes_clear(message);
    write_head(&writer, dsn, true);
    write_parts(&writer, dsn);
    return writer.result;
}
