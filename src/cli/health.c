/* smtpd health: the health check of a container, by the binary itself: the image has no
 * other HTTP client. Docker knows the exit codes 0 and 1 only. */
#include "client.h"
#include "print.h"

#include <stdio.h>
#include <string.h>

int cli_health(const struct cli_context *context, int argc, char **argv)
{
    bool asks_ready = argc == 1 && strcmp(argv[0], "--ready") == 0;
    struct bytes text;
    unsigned status = 0;
    bool is_good;

    if (argc > 0 && !asks_ready) {
        (void)fprintf(stderr, "usage: smtpd health [--ready]\n");
        return CLI_FAILED;
    }
    bytes_init(&text, CLIENT_PROBE_MAX);
    is_good = client_probe(context, asks_ready ? "/readyz" : "/livez", &text, &status) ==
                  CLI_DONE &&
              status == 200;
    if (context->wants_json && status != 0) {
        json_t *json = json_pack("{s:b,s:s#}", "healthy", (int)is_good, "text", text.data,
                                 (int)(text.length > 0 ? text.length - 1 : 0));

        (void)print_json(json);
        json_decref(json);
    } else if (status != 0) {
        (void)fwrite(text.data, 1, text.length, is_good ? stdout : stderr);
    }
    bytes_fini(&text);
    return is_good ? CLI_DONE : CLI_FAILED;
}
