/* The pages that come from the tables of the rooms. */
#include "smtpd/admin/admin.h"
#include "smtpd/receive/receive.h"
#include "smtpd/server/server.h"

#include <stdio.h>
#include <string.h>

enum { DOCUMENT_MAX = 4 << 20 };

enum result server_document(const char *page)
{
    enum result result = RESULT_NOT_FOUND;
    struct bytes text;

    bytes_init(&text, DOCUMENT_MAX);
    if (strcmp(page, "example") == 0)
        result = config_document_example(&text);
    else if (strcmp(page, "manual") == 0)
        result = config_document_manual(&text);
    else if (strcmp(page, "destinations") == 0)
        result = config_document_destinations(&text);
    else if (strcmp(page, "verbs") == 0)
        result = receive_document_verbs(&text);
    else if (strcmp(page, "metrics") == 0)
        result = admin_document_metrics(&text);
    if (result == RESULT_OK)
        (void)fwrite(text.data, 1, text.length, stdout);
    bytes_fini(&text);
    if (result == RESULT_OK && fflush(stdout) != 0)
        result = RESULT_IO;
    return result;
}
