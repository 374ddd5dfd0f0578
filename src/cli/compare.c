/* smtpd check --diff: the file goes to the server as text, its answer is printed. */
#include "client.h"
#include "print.h"

#include <stdio.h>
#include <string.h>

/* They change by a reload, unless an old socket is in the way of a new one. */
static bool holds_port(const char *option)
{
    return strcmp(option, "listen") == 0 || strcmp(option, "admin.listen") == 0;
}

static void print_difference(const json_t *difference)
{
    bool needs_restart = json_is_true(json_object_get(difference, "needs_restart"));

    (void)printf("%s%s%s\n    now    %s\n    then   %s\n", print_bold(),
                 get_text(difference, "option"), print_plain(),
                 get_text(difference, "before"), get_text(difference, "after"));
    if (needs_restart && holds_port(get_text(difference, "option")))
        (void)printf("    %sneeds a restart: our own socket holds the port, and SIGHUP is "
                     "refused%s\n",
                     print_warn(), print_plain());
    else if (needs_restart)
        (void)printf("    %sneeds a restart: SIGHUP leaves it as it is%s\n", print_warn(),
                     print_plain());
}

static int print_differences(const struct cli_context *context, const json_t *differences)
{
    if (context->wants_json)
        return print_json(differences);
    if (json_array_size(differences) == 0)
        (void)printf("SIGHUP would change nothing\n");
    for (size_t i = 0; i < json_array_size(differences); i++)
        print_difference(json_array_get(differences, i));
    return CLI_DONE;
}

int cli_compare(const struct cli_context *context, const char *text, size_t length)
{
    json_t *body = json_pack("{s:s%}", "text", text, length);
    json_t *answer = NULL;
    int code;

    if (!body) {
        (void)fprintf(stderr, "smtpd: the file is no UTF-8 text\n");
        return CLI_FAILED;
    }
    code = client_ask(context, "/v1/config/compare", body, &answer);
    if (code == CLI_DONE)
        code = print_differences(context, json_object_get(answer, "differences"));
    json_decref(answer);
    json_decref(body);
    return code;
}
