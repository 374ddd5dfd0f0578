/* The query of a request -> a selection. */
#include "selection.h"

#include "smtpd/deliver/deliver.h"

#include <string.h>

bool selection_read(struct request *request, struct selection *selection)
{
    struct fault fault;

    memset(selection, 0, sizeof *selection);
    for (size_t i = 0; i < SELECTION_NAMES; i++) {
        const char *value = request_query(request, selection_names[i]);

        if (!value ||
            selection_set(selection, selection_names[i], value, &fault) == RESULT_OK)
            continue;
        request_answer_error(request, MHD_HTTP_BAD_REQUEST, fault.text);
        return false;
    }
    if (selection->source[0] &&
        !deliver_has_source(request->rooms->deliver, selection->source)) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "source: the settings have no [[source]] of that name");
        return false;
    }
    return true;
}
