/* Option types: text -> value -> text. Every message says what would be right. */
#include "type.h"

#include "options.h"
#include "smtpd/base/moment.h"
#include "smtpd/base/quota.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FIELD_NAME_MAX = 76, FIELD_MAX = 900 }; /* bytes */

static enum result wrong(struct type_context *context, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static enum result wrong(struct type_context *context, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(context->wrong, sizeof context->wrong, format, arguments);
    va_end(arguments);
    return RESULT_INVALID;
}

static void add(struct bytes *into, const char *text)
{
    /* The documents have generous ceilings; at one, output ends early and the caller, who
     * checks the last addition, says so. */
    if (bytes_add_text(into, text) != RESULT_OK)
        return;
}

static int shown(struct slice text)
{
    return (int)(text.length < 60 ? text.length : 60);
}

/* ---- bool, count, size, duration ---- */

static enum result bool_parse(struct type_context *context, struct slice text, void *value)
{
    bool is_true = slice_equal_text(text, "true");

    if (!is_true && !slice_equal_text(text, "false"))
        return wrong(context, "\"%.*s\" is not true or false", shown(text), text.data);
    *(bool *)value = is_true;
    return RESULT_OK;
}

static void bool_print(const struct option *option, const void *value, struct bytes *into)
{
    (void)option;
    add(into, *(const bool *)value ? "true" : "false");
}

static enum result count_parse(struct type_context *context, struct slice text, void *value)
{
    uint64_t number = 0;

    if (slice_to_u64(text, UINT32_MAX, &number) != RESULT_OK)
        return wrong(context, "\"%.*s\" is not a whole number", shown(text), text.data);
    *(unsigned *)value = (unsigned)number;
    return RESULT_OK;
}

static void count_print(const struct option *option, const void *value, struct bytes *into)
{
    (void)option;
    if (bytes_format(into, "%u", *(const unsigned *)value) != RESULT_OK)
        return;
}

static int count_compare(const void *a, const void *b)
{
    unsigned left = *(const unsigned *)a;
    unsigned right = *(const unsigned *)b;

    return (left > right) - (left < right);
}

static enum result weight_parse(struct type_context *context, struct slice text,
                                void *value)
{
    bool is_negative = text.length > 0 && text.data[0] == '-';
    struct slice digits = is_negative ? slice_from(text, 1) : text;
    uint64_t number;

    if (slice_to_u64(digits, 1000000, &number) != RESULT_OK)
        return wrong(context, "\"%.*s\" is not a whole number, as 3 or -2", shown(text),
                     text.data);
    *(int *)value = is_negative ? -(int)number : (int)number;
    return RESULT_OK;
}

static void weight_print(const struct option *option, const void *value, struct bytes *into)
{
    char text[16];

    (void)option;
    (void)snprintf(text, sizeof text, "%d", *(const int *)value);
    add(into, text);
}

static int weight_compare(const void *a, const void *b)
{
    int left = *(const int *)a;
    int right = *(const int *)b;

    return (left > right) - (left < right);
}

static enum result size_option_parse(struct type_context *context, struct slice text,
                                     void *value)
{
    if (size_parse(text, value) != RESULT_OK)
        return wrong(
            context,
            "\"%.*s\" is not a size; write a number and a unit, as \"64KiB\", \"25MiB\" "
            "or \"1GiB\"",
            shown(text), text.data);
    return RESULT_OK;
}

static void size_option_print(const struct option *option, const void *value,
                              struct bytes *into)
{
    char text[MOMENT_TEXT];

    (void)option;
    size_print(*(const uint64_t *)value, text);
    add(into, text);
}

/* "auto" is 0. */
static enum result size_or_auto_parse(struct type_context *context, struct slice text,
                                      void *value)
{
    if (slice_equal_text(text, "auto")) {
        *(uint64_t *)value = 0;
        return RESULT_OK;
    }
    return size_option_parse(context, text, value);
}

static void size_or_auto_print(const struct option *option, const void *value,
                               struct bytes *into)
{
    if (*(const uint64_t *)value == 0)
        add(into, "auto");
    else
        size_option_print(option, value, into);
}

static int size_compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static enum result duration_option_parse(struct type_context *context, struct slice text,
                                         void *value)
{
    if (duration_parse(text, value) != RESULT_OK)
        return wrong(
            context,
            "\"%.*s\" is not a duration; write a number and a unit, as \"30s\", \"5m\", "
            "\"2h\" or \"4d\"",
            shown(text), text.data);
    return RESULT_OK;
}

static void duration_option_print(const struct option *option, const void *value,
                                  struct bytes *into)
{
    char text[MOMENT_TEXT];

    (void)option;
    duration_print(*(const int64_t *)value, text);
    add(into, text);
}

static int duration_compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static enum result duration_or_off_parse(struct type_context *context, struct slice text,
                                         void *value)
{
    if (slice_equal_text(text, "off")) {
        *(int64_t *)value = 0;
        return RESULT_OK;
    }
    if (duration_parse(text, value) != RESULT_OK || *(int64_t *)value == 0)
        return wrong(context, "\"%.*s\" is neither \"off\" nor a duration such as \"4h\"",
                     shown(text), text.data);
    return RESULT_OK;
}

static void duration_or_off_print(const struct option *option, const void *value,
                                  struct bytes *into)
{
    if (*(const int64_t *)value == 0)
        add(into, "off");
    else
        duration_option_print(option, value, into);
}

/* ---- texts ---- */

static enum result keep_text(struct type_context *context, struct slice text, void *value)
{
    const char *copy = arena_text(context->arena, text);

    if (!copy)
        return wrong(context, "the file is too large");
    *(const char **)value = copy;
    return RESULT_OK;
}

static void text_print(const struct option *option, const void *value, struct bytes *into)
{
    const char *text = *(const char *const *)value;

    (void)option;
    add(into, text ? text : "");
}

static enum result text_parse(struct type_context *context, struct slice text, void *value)
{
    size_t i;

    for (i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return wrong(context, "the text has a control character in it");
    return keep_text(context, text, value);
}

static enum result path_parse(struct type_context *context, struct slice text, void *value)
{
    if (text.length == 0)
        return wrong(context, "the path is empty");
    return text_parse(context, text, value);
}

static enum result mailbox_parse(struct type_context *context, struct slice text,
                                 void *value)
{
    struct address address;

    if (address_parse_mailbox(text, &address) != RESULT_OK)
        return wrong(context, "\"%.*s\" is not a mailbox; write it as \"user@example.com\"",
                     shown(text), text.data);
    return keep_text(context, slice_of(address.text), value);
}

/* RFC 5322 2.2: visible ASCII but the colon. Our own trace is not to be touched. */
static size_t field_name_length(struct slice text)
{
    size_t length = 0;

    while (length < text.length && text.data[length] > ' ' && text.data[length] < 0x7f &&
           text.data[length] != ':')
        length++;
    return slice_equal_text_fold(slice_part(text, 0, length), "Received") ? 0 : length;
}

static enum result field_name_parse(struct type_context *context, struct slice text,
                                    void *value)
{
    if (text.length == 0 || text.length > FIELD_NAME_MAX ||
        field_name_length(text) != text.length)
        return wrong(
            context,
            "\"%.*s\" is not the name of a header field that may be changed; write "
            "it as \"X-Mailer\"",
            shown(text), text.data);
    return keep_text(context, text, value);
}

static bool is_one_line(struct slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] < ' ' && text.data[i] != '\t')
            return false;
    return text.length <= FIELD_MAX;
}

static enum result field_parse(struct type_context *context, struct slice text, void *value)
{
    size_t name = field_name_length(text);

    if (name == 0 || name > FIELD_NAME_MAX || name == text.length ||
        text.data[name] != ':' || !is_one_line(text) ||
        slice_trim(slice_from(text, name + 1)).length == 0)
        return wrong(context,
                     "\"%.*s\" is not a header field; write it as \"X-Tag: some text\", on "
                     "one line of at most %d bytes",
                     shown(text), text.data, FIELD_MAX);
    return keep_text(context, text, value);
}

static enum result domain_parse(struct type_context *context, struct slice text,
                                void *value)
{
    char normal[DOMAIN_TEXT];

    if (domain_normalise(text, normal) != RESULT_OK)
        return wrong(context, "\"%.*s\" is not a domain; write it as \"example.com\"",
                     shown(text), text.data);
    return keep_text(context, slice_of(normal), value);
}

static enum result pattern_parse(struct type_context *context, struct slice text,
                                 void *value)
{
    char normal[DOMAIN_TEXT + 2] = "*.";
    bool is_wild = slice_starts_fold(text, "*.");

    if (slice_equal_text(text, "*"))
        return keep_text(context, text, value);
    if (domain_normalise(is_wild ? slice_from(text, 2) : text, normal + 2) != RESULT_OK)
        return wrong(
            context,
            "\"%.*s\" is not a pattern; write \"example.com\", \"*.example.com\" or \"*\"",
            shown(text), text.data);
    return keep_text(context, slice_of(is_wild ? normal : normal + 2), value);
}

static enum result host_parse(struct type_context *context, struct slice text, void *value)
{
    struct ip ip;

    if (ip_parse(text, &ip) == RESULT_OK)
        return keep_text(context, text, value);
    if (domain_parse(context, text, value) != RESULT_OK)
        return wrong(context, "\"%.*s\" is neither a host name nor an IP address",
                     shown(text), text.data);
    return RESULT_OK;
}

/* ---- choices ---- */

static bool choice_at(const char *choices, int index, struct slice *name)
{
    struct slice rest = slice_of(choices);
    int i;

    for (i = 0;; i++) {
        size_t end = slice_find(rest, '|');

        *name = slice_part(rest, 0, end);
        if (i == index)
            return true;
        if (end >= rest.length)
            return false;
        rest = slice_from(rest, end + 1);
    }
}

static enum result choice_parse(struct type_context *context, struct slice text,
                                void *value)
{
    struct slice name;
    int i;

    for (i = 0; choice_at(context->option->choices, i, &name); i++) {
        if (slice_equal(name, text)) {
            *(int *)value = i;
            return RESULT_OK;
        }
    }
    return wrong(context, "\"%.*s\" is none of %s", shown(text), text.data,
                 context->option->choices);
}

static void choice_print(const struct option *option, const void *value, struct bytes *into)
{
    struct slice name = SLICE_NONE;

    if (choice_at(option->choices, *(const int *)value, &name) &&
        bytes_add(into, name) != RESULT_OK)
        return;
}

/* ---- addresses of the network ---- */

static enum result endpoint_option_parse(struct type_context *context, struct slice text,
                                         void *value)
{
    struct endpoint *endpoint = value;

    if (endpoint_parse(text, endpoint) != RESULT_OK || endpoint->port == 0)
        return wrong(
            context,
            "\"%.*s\" is not an address with a port; write \"0.0.0.0:587\" or \"[::]:587\"",
            shown(text), text.data);
    return RESULT_OK;
}

static enum result dns_server_parse(struct type_context *context, struct slice text,
                                    void *value)
{
    struct endpoint *endpoint = value;

    endpoint->port = 53;
    if (ip_parse(text, &endpoint->ip) == RESULT_OK ||
        (endpoint_parse(text, endpoint) == RESULT_OK && endpoint->port > 0))
        return RESULT_OK;
    return wrong(context,
                 "\"%.*s\" is not an address; write \"192.0.2.1\" or \"127.0.0.1:5353\"",
                 shown(text), text.data);
}

static void endpoint_option_print(const struct option *option, const void *value,
                                  struct bytes *into)
{
    char text[IP_TEXT];

    (void)option;
    endpoint_print(value, text);
    add(into, text);
}

static enum result network_option_parse(struct type_context *context, struct slice text,
                                        void *value)
{
    if (network_parse(text, value) != RESULT_OK)
        return wrong(
            context,
            "\"%.*s\" is not a network; write \"192.0.2.0/24\", \"2001:db8::/32\" or one "
            "address (bits behind the prefix must be zero)",
            shown(text), text.data);
    return RESULT_OK;
}

static void network_option_print(const struct option *option, const void *value,
                                 struct bytes *into)
{
    char text[IP_TEXT];

    (void)option;
    network_print(value, text);
    add(into, text);
}

static enum result rate_parse(struct type_context *context, struct slice text, void *value)
{
    if (quota_parse(text, value) != RESULT_OK)
        return wrong(context,
                     "\"%.*s\" is not a rate; write a number (at least 1) and a time, as "
                     "\"10/m\", \"1000/h\", \"5000/d\" or \"20/10m\"",
                     shown(text), text.data);
    return RESULT_OK;
}

static void rate_print(const struct option *option, const void *value, struct bytes *into)
{
    char text[QUOTA_TEXT];

    (void)option;
    quota_print(value, text);
    add(into, text);
}

static enum result rate_or_off_parse(struct type_context *context, struct slice text,
                                     void *value)
{
    if (slice_equal_text(text, "off")) {
        *(struct quota *)value = (struct quota){0};
        return RESULT_OK;
    }
    if (quota_parse(text, value) != RESULT_OK)
        return wrong(context,
                     "\"%.*s\" is neither \"off\" nor a rate; write a number (at least 1) "
                     "and a time, as \"60/s\", \"500/m\", \"1000/h\" or \"20/10m\"",
                     shown(text), text.data);
    return RESULT_OK;
}

static void rate_or_off_print(const struct option *option, const void *value,
                              struct bytes *into)
{
    if (((const struct quota *)value)->count == 0)
        add(into, "off");
    else
        rate_print(option, value, into);
}

#define TEXT_BYTES sizeof(const char *)
#define DURATIONS "a number and a unit: \"250ms\", \"30s\", \"5m\", \"2h\", \"4d\""

/* clang-format off */
const struct option_type type_bool = {"boolean", "true or false", sizeof(bool), false, bool_parse, bool_print, NULL};
const struct option_type type_count = {"number", "a whole number", sizeof(unsigned), false, count_parse, count_print, count_compare};
const struct option_type type_weight = {"weight", "a whole number, also below 0", sizeof(int), false, weight_parse, weight_print, weight_compare};
const struct option_type type_size = {"size", "a number and a unit: \"64KiB\", \"25MiB\", \"1GiB\"", sizeof(uint64_t), true, size_option_parse, size_option_print, size_compare};
const struct option_type type_size_or_auto = {"size or \"auto\"", "\"512MiB\", \"4GiB\", or \"auto\"", sizeof(uint64_t), true, size_or_auto_parse, size_or_auto_print, size_compare};
const struct option_type type_duration = {"duration", DURATIONS, sizeof(int64_t), true, duration_option_parse, duration_option_print, duration_compare};
const struct option_type type_duration_or_off = {"duration or \"off\"", DURATIONS ", or \"off\"", sizeof(int64_t), true, duration_or_off_parse, duration_or_off_print, duration_compare};
const struct option_type type_text = {"text", "any text", TEXT_BYTES, true, text_parse, text_print, NULL};
const struct option_type type_path = {"path", "a file or folder", TEXT_BYTES, true, path_parse, text_print, NULL};
const struct option_type type_mailbox = {"mailbox", "\"user@example.com\"", TEXT_BYTES, true, mailbox_parse, text_print, NULL};
const struct option_type type_field_name = {"name of a header field", "\"X-Mailer\"", TEXT_BYTES, true, field_name_parse, text_print, NULL};
const struct option_type type_field = {"header field", "\"X-Tag: some text\"", TEXT_BYTES, true, field_parse, text_print, NULL};
const struct option_type type_domain = {"domain", "\"example.com\"", TEXT_BYTES, true, domain_parse, text_print, NULL};
const struct option_type type_pattern = {"pattern", "\"example.com\", \"*.example.com\" (what is below it) or \"*\"", TEXT_BYTES, true, pattern_parse, text_print, NULL};
const struct option_type type_host = {"host", "a host name or an IP address", TEXT_BYTES, true, host_parse, text_print, NULL};
const struct option_type type_choice = {"choice", "one of the words given", sizeof(int), true, choice_parse, choice_print, NULL};
const struct option_type type_endpoint = {"address and port", "\"0.0.0.0:587\" or \"[::]:587\"", sizeof(struct endpoint), true, endpoint_option_parse, endpoint_option_print, NULL};
const struct option_type type_dns_server = {"address", "\"192.0.2.1\" or \"127.0.0.1:5353\"", sizeof(struct endpoint), true, dns_server_parse, endpoint_option_print, NULL};
const struct option_type type_network = {"network", "\"192.0.2.0/24\", \"2001:db8::/32\" or one address", sizeof(struct network), true, network_option_parse, network_option_print, NULL};
const struct option_type type_rate = {"rate", "a number and a time: \"10/m\", \"1000/h\", \"5000/d\", \"20/10m\"", sizeof(struct quota), true, rate_parse, rate_print, NULL};
const struct option_type type_rate_or_off = {"rate or \"off\"", "a number and a time: \"60/s\", \"500/m\", \"1000/h\", \"20/10m\", or \"off\"", sizeof(struct quota), true, rate_or_off_parse, rate_or_off_print, NULL};
/* clang-format on */
