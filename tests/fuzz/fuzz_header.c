/* Header sections from anywhere. The walk over the fields loses no byte and adds none; the
 * scan, the copy and the end of the section agree with it and with a plain search by lines;
 * and our trace field stays one field, whatever the client called itself. */
#include "smtpd/mail/header.h"

#include "smtpd/base/check.h"
#include "smtpd/mail/section.h"

#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 8000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct slice part, struct slice whole)
{
    return part.length == 0 || (part.data >= whole.data &&
                                part.data + part.length <= whole.data + whole.length);
}

static bool starts_line(struct slice text)
{
    return text.length >= 2 && text.data[0] == '\r' && text.data[1] == '\n';
}

/* A line of a field ends with CR LF, and the next begins with a blank; nothing else does.
 */
static void check_field(struct slice name, struct slice field, struct slice input)
{
    CHECK(lies_in(name, field) && lies_in(field, input));
    CHECK(name.data == field.data && name.length > 0 && name.length < field.length);
    for (size_t i = 0; i < name.length; i++)
        CHECK(name.data[i] > ' ' && name.data[i] <= '~' && name.data[i] != ':');
    for (size_t i = 0; i + 2 < field.length; i++)
        if (starts_line(slice_from(field, i)))
            CHECK(field.data[i + 2] == ' ' || field.data[i + 2] == '\t');
}

struct counts {
    unsigned fields, received, dates, ids, froms;
};

static void check_walk(struct slice input, struct slice *rest, struct counts *counts)
{
    struct slice name;
    struct slice field;

    *rest = input;
    while (header_next_field(rest, &name, &field)) {
        check_field(name, field, input);
        CHECK(field.data + field.length == rest->data); /* no gap */
        counts->fields++;
        counts->received += slice_equal_text_fold(name, "received");
        counts->dates += slice_equal_text_fold(name, "date");
        counts->ids += slice_equal_text_fold(name, "message-id");
        counts->froms += slice_equal_text_fold(name, "from");
    }
    CHECK(rest->data + rest->length == input.data + input.length);
}

static void check_scan(struct slice input)
{
    struct counts counts = {0};
    struct header_scan scan;
    struct slice rest;
    bool has_8bit = false;

    check_walk(input, &rest, &counts);
    header_scan(input, &scan);
    for (size_t i = 0; i < input.length; i++)
        has_8bit |= (unsigned char)input.data[i] > 0x7f;
    CHECK(scan.field_count == counts.fields && scan.received_count == counts.received);
    CHECK(scan.date_count == counts.dates && scan.from_count == counts.froms);
    CHECK(scan.message_id_count == counts.ids && scan.has_8bit == has_8bit);
    CHECK(scan.is_malformed == (rest.length > 0 && !starts_line(rest)));
    CHECK(lies_in(scan.message_id, input));
    if (scan.message_id.length > 0) {
        char first = scan.message_id.data[0];
        char last = scan.message_id.data[scan.message_id.length - 1];

        CHECK(counts.ids > 0 && !strchr(" \t\r\n", first ? first : 'x'));
        CHECK(!strchr(" \t\r\n", last ? last : 'x'));
    }
}

static void check_copy(struct slice input)
{
    static const char *const names[] = {"BCC", "Received", NULL};
    static const char *const none[] = {NULL};
    struct bytes copy;
    struct slice rest;
    struct slice name;
    struct slice field;

    bytes_init(&copy, INPUT_MAX);
    CHECK(header_copy_without(input, none, &copy) == RESULT_OK);
    CHECK(slice_equal(bytes_view(&copy), input));
    bytes_clear(&copy);
    CHECK(header_copy_without(input, names, &copy) == RESULT_OK);
    CHECK(copy.length <= input.length);
    rest = bytes_view(&copy);
    while (header_next_field(&rest, &name, &field))
        CHECK(!slice_equal_text_fold(name, "bcc") &&
              !slice_equal_text_fold(name, "received"));
    bytes_fini(&copy);
}

/* Where the first empty line ends; the whole length when there is none. */
static size_t model_section(struct slice message)
{
    if (starts_line(message))
        return 2;
    for (size_t i = 0; i + 4 <= message.length; i++)
        if (starts_line(slice_from(message, i)) && starts_line(slice_from(message, i + 2)))
            return i + 4;
    return message.length;
}

/* The end is found by pieces: each look sees a block that ends with what has come. */
static enum section_end find_by_pieces(struct slice input, size_t step, size_t *length)
{
    enum section_end end = SECTION_OPEN;
    struct section section;
    size_t come = 0;

    section_init(&section);
    while (end == SECTION_OPEN && come < input.length) {
        char *block;

        come = come + step < input.length ? come + step : input.length;
        block = malloc(come);
        CHECK(block);
        memcpy(block, input.data, come);
        end = section_find(&section, (struct slice){block, come}, length);
        CHECK(end == SECTION_OPEN || *length <= come);
        free(block);
    }
    return end;
}

static void check_section(struct slice input)
{
    static const size_t steps[] = {1, 2, 7, 100};
    struct counts counts = {0};
    struct slice rest;
    size_t length = 0;
    size_t length_again = 0;
    enum section_end end = find_by_pieces(input, INPUT_MAX, &length);

    CHECK(header_section_length(input) == model_section(input));
    for (size_t i = input.length > 500 ? 3 : 0; i < 4; i++) {
        CHECK(find_by_pieces(input, steps[i], &length_again) == end);
        CHECK(length_again == length);
    }
    if (end == SECTION_OPEN)
        return;
    CHECK(length <= header_section_length(input));
    CHECK(end != SECTION_EMPTY_LINE || length == header_section_length(input));
    /* What it found, the walk takes whole: fields, and the empty line if there is one. */
    check_walk(slice_part(input, 0, length), &rest, &counts);
    CHECK(rest.length == (end == SECTION_EMPTY_LINE ? 2U : 0U));
}

/* A field of ours with the client's words in it: one field, in short lines where it can. */
static void check_trace(struct slice input)
{
    char helo[256];
    struct trace trace = {.helo = helo,
                          .peer_name = helo,
                          .peer_address = "192.0.2.1",
                          .hostname = "mx.example",
                          .protocol = "ESMTP",
                          .id = "aaaaaaaaaaaab",
                          .wall_ms = 1700000000000};
    struct bytes written;
    struct slice rest;
    struct slice name;
    struct slice field;

    if (!slice_copy_text(slice_part(input, 0, sizeof helo - 1), helo, sizeof helo))
        return;
    bytes_init(&written, 4096);
    CHECK(header_add_received(&written, &trace) == RESULT_OK);
    rest = bytes_view(&written);
    CHECK(header_next_field(&rest, &name, &field) && rest.length == 0);
    CHECK(slice_equal_text(name, "Received"));
    check_field(name, field, bytes_view(&written));
    CHECK(memmem(field.data, field.length, "\r\n", 2));
    CHECK(field.data[field.length - 2] == '\r' && field.data[field.length - 1] == '\n');
    for (size_t i = 0; i < field.length; i++)
        CHECK(field.data[i] != '\n' || field.data[i - 1] == '\r');
    bytes_fini(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};

    if (size > INPUT_MAX)
        return 0;
    check_scan(input);
    check_copy(input);
    check_section(input);
    check_trace(input);
    return 0;
}
