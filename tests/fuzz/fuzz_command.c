/* Command lines from anywhere, given to every parser of arguments. What is accepted is
 * within its limits, points into the line, and says the same again when it is written as a
 * client writes it; that line has one CR LF, at its end. What is refused is refused with
 * words. */
#include "smtpd/smtp/command.h"

#include "smtpd/base/check.h"

#include <inttypes.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct slice part, struct slice whole)
{
    return part.length == 0 || (part.data >= whole.data &&
                                part.data + part.length <= whole.data + whole.length);
}

static bool is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static void check_split(struct slice line, struct slice *rest)
{
    struct slice verb;

    if (!command_split(line, &verb, rest))
        return;
    CHECK(verb.length >= 3 && verb.length <= 12 && verb.data == line.data);
    CHECK(lies_in(*rest, line));
    for (size_t i = 0; i < verb.length; i++)
        CHECK(is_letter(verb.data[i]));
    CHECK(verb.length == line.length || line.data[verb.length] == ' ');
    CHECK(rest->length == 0 || (rest->data[0] != ' ' && rest->data[0] != '\t'));
}

static void check_error(enum result result, const struct command_error *error)
{
    CHECK(result == RESULT_INVALID);
    CHECK(memchr(error->text, '\0', sizeof error->text) && error->text[0]);
}

static void check_xtext(const char *text, size_t most)
{
    struct bytes plain;

    CHECK(strlen(text) <= most);
    bytes_init(&plain, most);
    CHECK(xtext_decode(slice_of(text), &plain) == RESULT_OK);
    for (size_t i = 0; i < plain.length; i++)
        CHECK((unsigned char)plain.data[i] >= ' ' && plain.data[i] != 0x7f);
    bytes_fini(&plain);
}

/* One line with its CR LF: gives what stands behind the verb. */
static struct slice written_rest(const struct bytes *written, const char *verb)
{
    struct slice line = bytes_view(written);
    struct slice found;
    struct slice rest;

    CHECK(line.length > 2 && line.data[line.length - 2] == '\r');
    CHECK(slice_find(line, '\r') == line.length - 2);
    CHECK(slice_find(line, '\n') == line.length - 1);
    line.length -= 2;
    CHECK(command_split(line, &found, &rest) && slice_equal_text(found, verb));
    return rest;
}

static void check_mail_again(const struct mail_command *command)
{
    struct envelope envelope = {.header_bytes = command->size,
                                .envid = command->envid[0] ? command->envid : NULL,
                                .dsn_return = command->dsn_return,
                                .body_type = command->body_type,
                                .smtputf8 = command->smtputf8};
    struct mail_line line = {.sender = command->sender.text,
                             .offers_size = command->has_size,
                             .offers_8bitmime = true,
                             .offers_smtputf8 = true,
                             .offers_dsn = true,
                             .envelope = &envelope};
    struct mail_command again;
    struct command_error error;
    struct bytes written;

    bytes_init(&written, 4096);
    CHECK(command_add_mail(&written, &line) == RESULT_OK);
    CHECK(command_parse_mail(written_rest(&written, "MAIL"), &again, &error) == RESULT_OK);
    CHECK(strcmp(again.sender.text, command->sender.text) == 0);
    CHECK(again.has_size == command->has_size && again.size == command->size);
    CHECK(again.body_type == command->body_type && again.smtputf8 == command->smtputf8);
    CHECK(again.dsn_return == command->dsn_return);
    CHECK(strcmp(again.envid, command->envid) == 0);
    bytes_fini(&written);
}

static void check_mail(struct slice rest)
{
    struct mail_command command;
    struct command_error error;
    enum result result = command_parse_mail(rest, &command, &error);

    if (result != RESULT_OK) {
        check_error(result, &error);
        return;
    }
    CHECK(command.has_size || command.size == 0);
    check_xtext(command.envid, LIMIT_ENVID);
    check_xtext(command.auth, LIMIT_ORCPT);
    check_mail_again(&command);
}

static void check_rcpt(struct slice rest)
{
    struct rcpt_command command;
    struct rcpt_command again;
    struct command_error error;
    enum result result = command_parse_rcpt(rest, &command, &error);
    struct recipient recipient = {command.recipient.text,
                                  command.orcpt[0] ? command.orcpt : NULL, command.notify};
    struct bytes written;

    if (result != RESULT_OK) {
        check_error(result, &error);
        return;
    }
    CHECK(!command.recipient.is_null && command.recipient.text[0]);
    CHECK(!(command.notify & NOTIFY_NEVER) || command.notify == NOTIFY_NEVER);
    if (recipient.orcpt) {
        const char *semicolon = strchr(command.orcpt, ';');

        CHECK(semicolon && semicolon > command.orcpt);
        check_xtext(semicolon + 1, LIMIT_ORCPT);
    }
    bytes_init(&written, 4096);
    CHECK(command_add_rcpt(&written, &recipient, true) == RESULT_OK);
    CHECK(command_parse_rcpt(written_rest(&written, "RCPT"), &again, &error) == RESULT_OK);
    CHECK(strcmp(again.recipient.text, command.recipient.text) == 0);
    CHECK(again.notify == command.notify && strcmp(again.orcpt, command.orcpt) == 0);
    bytes_fini(&written);
}

static void check_bdat(struct slice rest)
{
    uint64_t bytes = 0;
    uint64_t again = 0;
    bool is_last;
    bool is_last_again;
    struct bytes written;

    if (command_parse_bdat(rest, &bytes, &is_last) != RESULT_OK)
        return;
    CHECK(bytes <= UINT64_MAX / 4); /* adding some of them up cannot overflow */
    bytes_init(&written, 64);
    CHECK(bytes_format(&written, "%" PRIu64 "%s", bytes, is_last ? " LAST" : "") ==
          RESULT_OK);
    CHECK(command_parse_bdat(bytes_view(&written), &again, &is_last_again) == RESULT_OK);
    CHECK(again == bytes && is_last_again == is_last);
    bytes_fini(&written);
}

static void check_helo(struct slice rest)
{
    char name[DOMAIN_TEXT];

    if (command_parse_helo(rest, name) != RESULT_OK)
        return;
    CHECK(name[0] && slice_equal_text(rest, name));
    for (const char *at = name; *at; at++)
        CHECK((unsigned char)*at > 0x7f || is_letter(*at) || (*at >= '0' && *at <= '9') ||
              strchr("-_.:[]", *at));
}

static void check_auth(struct slice rest)
{
    char mechanism[24];
    struct slice initial;
    bool has_initial;

    if (command_parse_auth(rest, mechanism, &initial, &has_initial) != RESULT_OK)
        return;
    CHECK(mechanism[0] && strlen(mechanism) < sizeof mechanism);
    for (const char *at = mechanism; *at; at++)
        CHECK((*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '-' ||
              *at == '_');
    CHECK(slice_starts_fold(slice_trim(rest), mechanism));
    CHECK(lies_in(initial, rest));
    CHECK(initial.length == 0 || has_initial);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice line = {(const char *)data, size};
    struct slice rest = line;

    check_split(line, &rest);
    check_mail(rest);
    check_rcpt(rest);
    check_bdat(rest);
    check_helo(rest);
    check_auth(rest);
    return 0;
}
