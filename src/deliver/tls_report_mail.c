#include "tls_report_mail.h"

#include "smtpd/mail/header.h"

#include <stdarg.h>
#include <stdio.h>

enum { LINE_MAX_BYTES = 2048, ENCODED_BYTES = 57 }; /* 76 letters of base64 */

/* Remembers its first failure: only the end is asked. */
struct writer {
    struct bytes *into;
    enum result result;
};

static void __attribute__((format(printf, 2, 3)))
add(struct writer *writer, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (writer->result == RESULT_OK)
        writer->result = bytes_add_text(writer->into, line);
    if (writer->result == RESULT_OK)
        writer->result = bytes_add_text(writer->into, "\r\n");
}

static void add_head(struct writer *writer, const struct tls_report_letter *letter)
{
    if (writer->result == RESULT_OK)
        writer->result = header_add_date(writer->into, letter->now_ms);
    if (writer->result == RESULT_OK)
        writer->result = header_add_message_id(writer->into, letter->message_id,
                                               letter->now_ms, letter->submitter);
    add(writer, "From: <%s>", letter->contact);
    add(writer, "To: <%s>", letter->to);
    add(writer, "Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>",
        letter->domain, letter->submitter, letter->id);
    add(writer, "TLS-Report-Domain: %s", letter->domain);
    add(writer, "TLS-Report-Submitter: %s", letter->submitter);
    add(writer, "TLS-Required: No");
    add(writer, "Auto-Submitted: auto-generated");
    add(writer, "MIME-Version: 1.0");
    add(writer,
        "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"%s\"",
        letter->boundary);
    add(writer, "%s", "");
}

/* RFC 5322 2.3 and RFC 6152: the name of an organisation that is no ASCII has no place here. */
static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

static void add_words(struct writer *writer, const struct tls_report_letter *letter)
{
    add(writer, "--%s", letter->boundary);
    add(writer, "Content-Type: text/plain; charset=us-ascii");
    add(writer, "%s", "");
    add(writer, "This is a report of how mail for the domain");
    add(writer, "    %s", letter->domain);
    add(writer, "met TLS on its way from");
    add(writer, "    %s%s%s%s", letter->submitter,
        is_ascii(letter->organization) ? " (" : "",
        is_ascii(letter->organization) ? letter->organization : "",
        is_ascii(letter->organization) ? ")" : "");
    add(writer, "as RFC 8460 has it. Programs read its other part.");
    add(writer, "%s", "");
}

static void add_report(struct writer *writer, const struct tls_report_letter *letter)
{
    struct slice rest = letter->json;

    add(writer, "--%s", letter->boundary);
    add(writer, "Content-Type: application/tlsrpt+json");
    add(writer, "Content-Transfer-Encoding: base64");
    /* RFC 8460 5.1: who sends, about whom, from when to when. */
    add(writer, "Content-Disposition: attachment;\r\n filename=\"%s!%s!%lld!%lld.json\"",
        letter->submitter, letter->domain, (long long)(letter->begin_ms / 1000),
        (long long)(letter->end_ms / 1000));
    add(writer, "%s", "");
    while (rest.length > 0 && writer->result == RESULT_OK) {
        struct slice part = slice_part(rest, 0, ENCODED_BYTES);

        rest = slice_from(rest, part.length);
        writer->result = bytes_add_base64(writer->into, part);
        if (writer->result == RESULT_OK)
            writer->result = bytes_add_text(writer->into, "\r\n");
    }
    add(writer, "--%s--", letter->boundary);
}

enum result tls_report_mail(const struct tls_report_letter *letter, struct bytes *into)
{
    struct writer writer = {into, RESULT_OK};

    add_head(&writer, letter);
    add_words(&writer, letter);
    add_report(&writer, letter);
    return writer.result;
}
