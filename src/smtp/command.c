/* Command lines of RFC 5321 4.1.1 and its extensions. A parameter is a row: name, and the
 * function that takes its value. */
#include "smtpd/smtp/command.h"

#include "smtpd/smtp/framing.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PARAMETERS_MAX = 16 };

bool command_split(struct slice line, struct slice *verb, struct slice *rest)
{
    size_t length = slice_find(line, ' ');

    *verb = slice_part(line, 0, length);
    *rest = slice_trim(slice_from(line, length));
    if (verb->length < 3 || verb->length > 12)
        return false;
    for (size_t i = 0; i < verb->length; i++) {
        char letter = verb->data[i];

        if (!(letter >= 'a' && letter <= 'z') && !(letter >= 'A' && letter <= 'Z'))
            return false;
    }
    return true;
}

static enum result wrong(struct command_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static enum result wrong(struct command_error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return RESULT_INVALID;
}

/* ---- parameters ---- */

typedef enum result parameter_fn(void *command, struct slice value,
                                 struct command_error *error);

struct parameter {
    const char *name;
    bool takes_value;
    parameter_fn *take;
};

static enum result take_size(void *owner, struct slice value, struct command_error *error)
{
    struct mail_command *command = owner;

    if (value.length > 20 || slice_to_u64(value, UINT64_MAX, &command->size) != RESULT_OK)
        return wrong(error, "SIZE takes a number of octets"); /* RFC 1870 3 */
    command->has_size = true;
    return RESULT_OK;
}

static enum result take_body(void *owner, struct slice value, struct command_error *error)
{
    struct mail_command *command = owner;

    if (slice_equal_text_fold(value, "8BITMIME"))
        command->body_type = BODY_8BITMIME;
    else if (!slice_equal_text_fold(value, "7BIT"))
        return wrong(error, "BODY is 7BIT or 8BITMIME"); /* RFC 6152 2 */
    return RESULT_OK;
}

static enum result take_smtputf8(void *owner, struct slice value,
                                 struct command_error *error)
{
    struct mail_command *command = owner;

    (void)value;
    (void)error;
    command->smtputf8 = true;
    return RESULT_OK;
}

static enum result take_requiretls(void *owner, struct slice value,
                                   struct command_error *error)
{
    struct mail_command *command = owner;

    (void)value;
    (void)error;
    command->requires_tls = true;
    return RESULT_OK;
}

static enum result take_ret(void *owner, struct slice value, struct command_error *error)
{
    struct mail_command *command = owner;

    if (command->dsn_return != RETURN_UNSPECIFIED)
        return wrong(error, "RET is given twice");
    if (slice_equal_text_fold(value, "FULL"))
        command->dsn_return = RETURN_FULL;
    else if (slice_equal_text_fold(value, "HDRS"))
        command->dsn_return = RETURN_HEADERS;
    else
        return wrong(error, "RET is FULL or HDRS"); /* RFC 3461 4.3 */
    return RESULT_OK;
}

/* Well-formed xtext of at most `most` bytes. */
static bool is_xtext(struct slice value, size_t most)
{
    struct bytes plain;
    bool is_good;

    if (value.length == 0 || value.length > most)
        return false;
    bytes_init(&plain, most + 1);
    is_good = xtext_decode(value, &plain) == RESULT_OK;
    for (size_t i = 0; is_good && i < plain.length; i++)
        is_good = (unsigned char)plain.data[i] >= ' ' && plain.data[i] != 0x7f;
    bytes_fini(&plain);
    return is_good;
}

static enum result take_envid(void *owner, struct slice value, struct command_error *error)
{
    struct mail_command *command = owner;

    if (command->envid[0])
        return wrong(error, "ENVID is given twice");
    if (!is_xtext(value, LIMIT_ENVID) ||
        !slice_copy_text(value, command->envid, sizeof command->envid))
        return wrong(error, "ENVID takes xtext of at most 100 octets"); /* RFC 3461 4.4 */
    return RESULT_OK;
}

static enum result take_auth(void *owner, struct slice value, struct command_error *error)
{
    struct mail_command *command = owner;

    if (!is_xtext(value, LIMIT_ORCPT) ||
        !slice_copy_text(value, command->auth, sizeof command->auth))
        return wrong(error, "AUTH takes xtext"); /* RFC 4954 5 */
    return RESULT_OK;
}

static enum result take_notify(void *owner, struct slice value, struct command_error *error)
{
    static const struct {
        const char *name;
        uint8_t bit;
    } words[] = {{"NEVER", NOTIFY_NEVER},
                 {"SUCCESS", NOTIFY_SUCCESS},
                 {"FAILURE", NOTIFY_FAILURE},
                 {"DELAY", NOTIFY_DELAY}};
    struct rcpt_command *command = owner;
    size_t count = 0;

    if (command->notify)
        return wrong(error, "NOTIFY is given twice");
    for (;;) {
        size_t end = slice_find(value, ',');
        struct slice word = slice_part(value, 0, end);
        size_t i = 0;

        while (i < 4 && !slice_equal_text_fold(word, words[i].name))
            i++;
        if (i == 4 || ++count > 4)
            return wrong(error, "NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY");
        command->notify |= words[i].bit;
        if (end >= value.length)
            break;
        value = slice_from(value, end + 1);
    }
    if (command->notify & NOTIFY_NEVER && command->notify != NOTIFY_NEVER)
        return wrong(error, "NOTIFY=NEVER stands alone"); /* RFC 3461 4.1 */
    return RESULT_OK;
}

static bool is_type_name(struct slice name)
{
    if (name.length == 0 || name.length > 32)
        return false;
    for (size_t i = 0; i < name.length; i++) {
        char byte = name.data[i];

        if (!(byte >= 'a' && byte <= 'z') && !(byte >= 'A' && byte <= 'Z') &&
            !(byte >= '0' && byte <= '9') && byte != '-')
            return false;
    }
    return true;
}

static enum result take_orcpt(void *owner, struct slice value, struct command_error *error)
{
    struct rcpt_command *command = owner;
    size_t semicolon = slice_find(value, ';');

    if (command->orcpt[0])
        return wrong(error, "ORCPT is given twice");
    if (semicolon >= value.length || !is_type_name(slice_part(value, 0, semicolon)) ||
        !is_xtext(slice_from(value, semicolon + 1), LIMIT_ORCPT) ||
        !slice_copy_text(value, command->orcpt, sizeof command->orcpt))
        return wrong(error,
                     "ORCPT takes \"rfc822;\" and an address in xtext"); /* RFC 3461 4.2 */
    return RESULT_OK;
}

static const struct parameter mail_parameters[] = {
    {"SIZE", true, take_size},
    {"BODY", true, take_body},
    {"SMTPUTF8", false, take_smtputf8},
    {"RET", true, take_ret},
    {"ENVID", true, take_envid},
    {"AUTH", true, take_auth},
    {"REQUIRETLS", false, take_requiretls},
};

static const struct parameter rcpt_parameters[] = {
    {"NOTIFY", true, take_notify},
    {"ORCPT", true, take_orcpt},
};

static int shown(struct slice text)
{
    return (int)(text.length < 40 ? text.length : 40);
}

static enum result take_parameter(struct slice word, const struct parameter *rows,
                                  size_t count, void *command, struct command_error *error)
{
    size_t equals = slice_find(word, '=');
    struct slice name = slice_part(word, 0, equals);

    for (size_t i = 0; i < count; i++) {
        if (!slice_equal_text_fold(name, rows[i].name))
            continue;
        if (rows[i].takes_value != (equals < word.length))
            return wrong(error, "%s takes %s value", rows[i].name,
                         rows[i].takes_value ? "a" : "no");
        return rows[i].take(command, slice_from(word, equals + 1), error);
    }
    error->is_unknown_parameter = true;
    return wrong(error, "parameter %.*s is not known", shown(name), name.data);
}

static enum result take_parameters(struct slice rest, const struct parameter *rows,
                                   size_t count, void *command, struct command_error *error)
{
    enum result result = RESULT_OK;

    for (int i = 0; result == RESULT_OK; i++) {
        struct slice word = slice_next_word(&rest);

        if (word.length == 0)
            return RESULT_OK;
        if (i == PARAMETERS_MAX)
            return wrong(error, "too many parameters");
        result = take_parameter(word, rows, count, command, error);
    }
    return result;
}

/* "FROM:" or "TO:", and the path. A blank behind the colon is common and harmless. */
static enum result take_path(struct slice *rest, const char *keyword,
                             struct address *address, struct command_error *error)
{
    memset(error, 0, sizeof *error);
    if (!slice_starts_fold(*rest, keyword))
        return wrong(error, "write %s<user@example.com>", keyword);
    *rest = slice_trim(slice_from(*rest, strlen(keyword)));
    if (address_parse_path(rest, address) != RESULT_OK ||
        (rest->length > 0 && rest->data[0] != ' '))
        return wrong(error, "not a mailbox; write %s<user@example.com>", keyword);
    return RESULT_OK;
}

enum result command_parse_mail(struct slice rest, struct mail_command *command,
                               struct command_error *error)
{
    enum result result;

    memset(command, 0, sizeof *command);
    result = take_path(&rest, "FROM:", &command->sender, error);
    if (result != RESULT_OK)
        return result;
    return take_parameters(rest, mail_parameters,
                           sizeof mail_parameters / sizeof *mail_parameters, command,
                           error);
}

enum result command_parse_rcpt(struct slice rest, struct rcpt_command *command,
                               struct command_error *error)
{
    enum result result;

    memset(command, 0, sizeof *command);
    result = take_path(&rest, "TO:", &command->recipient, error);
    if (result != RESULT_OK)
        return result;
    if (command->recipient.is_null)
        return wrong(error, "a recipient cannot be empty");
    return take_parameters(rest, rcpt_parameters,
                           sizeof rcpt_parameters / sizeof *rcpt_parameters, command,
                           error);
}

enum result command_parse_bdat(struct slice rest, uint64_t *bytes, bool *is_last)
{
    struct slice number = slice_next_word(&rest);
    struct slice last = slice_next_word(&rest);

    *is_last = slice_equal_text_fold(last, "LAST");
    if (last.length > 0 && !*is_last)
        return RESULT_INVALID;
    if (slice_trim(rest).length > 0 || number.length > 20)
        return RESULT_INVALID;
    return slice_to_u64(number, UINT64_MAX / 4, bytes);
}

enum result command_parse_helo(struct slice rest, char name[DOMAIN_TEXT])
{
    if (rest.length == 0 || !slice_copy_text(rest, name, DOMAIN_TEXT))
        return RESULT_INVALID;
    for (; *name; name++) {
        unsigned char byte = (unsigned char)*name;
        bool is_alnum = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                        (byte >= '0' && byte <= '9');

        if (!is_alnum && byte < 0x80 && !strchr("-_.:[]", byte))
            return RESULT_INVALID;
    }
    return RESULT_OK;
}

enum result command_parse_auth(struct slice rest, char mechanism[24], struct slice *initial,
                               bool *has_initial)
{
    struct slice name = slice_next_word(&rest);

    *initial = slice_next_word(&rest);
    *has_initial = initial->length > 0;
    if (slice_trim(rest).length > 0 || name.length == 0 ||
        !slice_copy_text(name, mechanism, 24))
        return RESULT_INVALID;
    for (char *at = mechanism; *at; at++) {
        if (*at >= 'a' && *at <= 'z')
            *at = (char)(*at - ('a' - 'A'));
        if (!(*at >= 'A' && *at <= 'Z') && !(*at >= '0' && *at <= '9') && *at != '-' &&
            *at != '_')
            return RESULT_INVALID;
    }
    if (slice_equal_text(*initial, "="))
        *initial = SLICE_NONE; /* RFC 4954 4: an empty initial response */
    return RESULT_OK;
}

/* ---- what we say ---- */

enum result command_add_mail(struct bytes *into, const struct mail_line *line)
{
    const struct envelope *envelope = line->envelope;
    struct bytes text;
    enum result added;

    bytes_init(&text, 2048);
    added = bytes_format(&text, "MAIL FROM:<%s>", line->sender);
    if (added == RESULT_OK && line->offers_size)
        added = bytes_format(&text, " SIZE=%" PRIu64,
                             envelope->header_bytes + envelope->body_bytes);
    if (added == RESULT_OK && line->offers_8bitmime &&
        (envelope->body_type == BODY_8BITMIME || envelope->has_8bit))
        added = bytes_add_text(&text, " BODY=8BITMIME");
    if (added == RESULT_OK && line->offers_smtputf8 && envelope->smtputf8)
        added = bytes_add_text(&text, " SMTPUTF8");
    if (added == RESULT_OK && line->offers_dsn &&
        envelope->dsn_return != RETURN_UNSPECIFIED)
        added = bytes_format(&text, " RET=%s",
                             envelope->dsn_return == RETURN_FULL ? "FULL" : "HDRS");
    if (added == RESULT_OK && line->offers_dsn && envelope->envid)
        added = bytes_format(&text, " ENVID=%s", envelope->envid);
    if (added == RESULT_OK && line->offers_requiretls &&
        envelope->tls_wish == TLS_WISH_REQUIRED)
        added = bytes_add_text(&text, " REQUIRETLS");
    if (added == RESULT_OK)
        added = framing_add_line(into, bytes_view(&text));
    bytes_fini(&text);
    return added;
}

static enum result add_notify(struct bytes *text, uint8_t notify)
{
    static const char *const names[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
    const char *separator = " NOTIFY=";
    enum result added = RESULT_OK;

    for (unsigned i = 0; i < 4 && added == RESULT_OK; i++) {
        if (!(notify & 1U << i))
            continue;
        added = bytes_format(text, "%s%s", separator, names[i]);
        separator = ",";
    }
    return added;
}

enum result command_add_rcpt(struct bytes *into, const struct recipient *recipient,
                             bool offers_dsn)
{
    struct bytes text;
    enum result added;

    bytes_init(&text, 2048);
    added = bytes_format(&text, "RCPT TO:<%s>", recipient->address);
    if (added == RESULT_OK && offers_dsn)
        added = add_notify(&text, recipient->notify);
    if (added == RESULT_OK && offers_dsn && recipient->orcpt)
        added = bytes_format(&text, " ORCPT=%s", recipient->orcpt);
    if (added == RESULT_OK)
        added = framing_add_line(into, bytes_view(&text));
    bytes_fini(&text);
    return added;
}
