/* smtpd dkim keygen and smtpd dkim check. */
#include "print.h"
#include "smtpd/mail/address.h"
#include "smtpd/sign/check.h"
#include "smtpd/sign/keygen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: smtpd dkim keygen DOMAIN SELECTOR [--type rsa|ed25519] [--bits 2048]\n"
    "                         [--directory DIR]\n"
    "       smtpd dkim check [DOMAIN [SELECTOR]] [--directory DIR]\n"
    "\n"
    "keygen writes DIR/DOMAIN/SELECTOR.key (DIR: signing.key_directory unless given), "
    "never\n"
    "over another file, and prints the record for the DNS. check looks up the records of "
    "the\n"
    "keys that are configured, or of those in DIR, and says what differs.\n";

struct arguments {
    const char *names[2];
    int name_count;
    const char *type;
    const char *bits;
    const char *directory;
};

static int usage_error(void)
{
    (void)fputs(usage, stderr);
    return CLI_USAGE;
}

static int failed(const struct fault *fault)
{
    (void)fprintf(stderr, "smtpd: %s\n", fault->text);
    return CLI_FAILED;
}

/* false: a word that nobody knows, or a value that is missing. */
static bool read_arguments(int argc, char **argv, struct arguments *arguments)
{
    for (int i = 1; i < argc; i++) {
        const char **value = NULL;

        if (strcmp(argv[i], "--type") == 0)
            value = &arguments->type;
        else if (strcmp(argv[i], "--bits") == 0)
            value = &arguments->bits;
        else if (strcmp(argv[i], "--directory") == 0)
            value = &arguments->directory;
        else if (argv[i][0] == '-' || arguments->name_count == 2)
            return false;
        else
            arguments->names[arguments->name_count++] = argv[i];
        if (value && i + 1 == argc)
            return false;
        if (value)
            *value = argv[++i];
    }
    return true;
}

/* ---- keygen ---- */

static bool read_request(const struct arguments *arguments, struct keygen_request *request)
{
    uint64_t bits = 2048;

    if (arguments->name_count != 2)
        return false;
    if (arguments->type && strcmp(arguments->type, "ed25519") == 0)
        request->kind = KEY_ED25519;
    else if (arguments->type && strcmp(arguments->type, "rsa") != 0)
        return false;
    if (arguments->bits &&
        (request->kind != KEY_RSA ||
         slice_to_u64(slice_of(arguments->bits), KEYGEN_MOST_BITS, &bits) != RESULT_OK))
        return false;
    request->bits = (unsigned)bits;
    request->domain = arguments->names[0];
    request->selector = arguments->names[1];
    return true;
}

static int show_key(const struct keygen_request *request, const struct keygen_result *made,
                    bool wants_json)
{
    json_t *object;
    int code;

    if (!wants_json) {
        (void)fprintf(stderr, "wrote %s\nThe record for the DNS:\n\n", made->path);
        (void)printf("%s\n", made->zone);
        return CLI_DONE;
    }
    object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "domain", request->domain,
                       "selector", request->selector, "file", made->path, "name",
                       made->name, "record", made->record, "zone", made->zone);
    code = print_json(object);
    json_decref(object);
    return code;
}

static int keygen(const struct cli_dkim *context, const struct arguments *arguments)
{
    struct keygen_request request = {.directory = arguments->directory};
    static struct keygen_result made;
    struct fault fault;

    if (!read_request(arguments, &request))
        return usage_error();
    if (!request.directory && context->signing)
        request.directory = context->signing->key_directory;
    if (!request.directory) {
        (void)fprintf(stderr, "smtpd: where to? Say --directory DIR, or set "
                              "signing.key_directory\n");
        return CLI_FAILED;
    }
    if (keygen_run(&request, &made, &fault) != RESULT_OK)
        return failed(&fault);
    return show_key(&request, &made, context->wants_json);
}

/* ---- check ---- */

static void show_verdict(void *owner, const struct check_verdict *verdict)
{
    bool is_good = verdict->problem_count == 0;

    (void)owner;
    (void)printf("%s%s%s  %s (%s, %u bits, %s)\n", is_good ? print_bold() : print_warn(),
                 is_good ? "good " : "WRONG", print_plain(), verdict->name, verdict->kind,
                 verdict->bits, verdict->file);
    for (size_t i = 0; i < verdict->problem_count; i++)
        (void)printf("       %s\n", verdict->problems[i].text);
    if (!is_good)
        (void)printf("       it should be: %s\n", verdict->wanted);
}

static void print_verdict_json(void *owner, const struct check_verdict *verdict)
{
    json_t *problems = json_array();
    json_t *object;
    char *text;

    (void)owner;
    for (size_t i = 0; i < verdict->problem_count; i++)
        (void)json_array_append_new(problems,
                                    json_pack("{s:s, s:s}", "code",
                                              check_code_name(verdict->problems[i].code),
                                              "text", verdict->problems[i].text));
    object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:s, s:o}", "domain",
                       verdict->domain, "selector", verdict->selector, "file",
                       verdict->file, "name", verdict->name, "type", verdict->kind, "bits",
                       (int)verdict->bits, "good", verdict->problem_count == 0, "wanted",
                       verdict->wanted, "problems", problems);
    text = json_dumps(object, JSON_COMPACT);
    (void)printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(object);
}

static int run_check(const struct cli_dkim *context, const struct sign_keys *keys,
                     const struct arguments *arguments)
{
    struct check_request request = {
        .keys = keys,
        .selector = arguments->names[1],
        .resolver = context->resolver,
        .each = context->wants_json ? print_verdict_json : show_verdict,
    };
    char domain[DOMAIN_TEXT];
    const char *wanted = arguments->names[0];
    struct fault fault;
    size_t wrong = 0;

    if (wanted && domain_normalise(slice_of(wanted), domain) == RESULT_OK)
        wanted = domain;
    request.domain = wanted;
    if (check_run(&request, &wrong, &fault) != RESULT_OK)
        return failed(&fault);
    return wrong == 0 ? CLI_DONE : CLI_FAILED;
}

static int check(const struct cli_dkim *context, const struct arguments *arguments)
{
    struct sign_settings settings = {.key_directory = arguments->directory};
    struct sign_keys *keys = NULL;
    struct fault fault;
    int code;

    if (arguments->type || arguments->bits)
        return usage_error();
    if (!context->signing)
        return CLI_FAILED; /* why, the problems of the file say */
    if (sign_keys_load(arguments->directory ? &settings : context->signing, &keys,
                       &fault) != RESULT_OK)
        return failed(&fault);
    code = run_check(context, keys, arguments);
    sign_keys_unref(keys);
    return code;
}

int cli_dkim(const struct cli_dkim *context, int argc, char **argv)
{
    struct arguments arguments = {0};

    if (argc < 1)
        return usage_error();
    if (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0) {
        (void)fputs(usage, stdout);
        return CLI_DONE;
    }
    if (!read_arguments(argc, argv, &arguments))
        return usage_error();
    if (strcmp(argv[0], "keygen") == 0)
        return keygen(context, &arguments);
    if (strcmp(argv[0], "check") == 0)
        return check(context, &arguments);
    return usage_error();
}
