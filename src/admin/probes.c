/* What Kubernetes and load balancers ask: is the loop alive, may clients come, has the
 * start ended. The body says why not, in words. */
#include "request.h"

#include <stdio.h>

static void answer(struct request *request, bool is_good, const char *text)
{
    char line[512];

    (void)snprintf(line, sizeof line, "%s\n", text);
    request_answer_bytes(request, is_good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                         "text/plain; charset=utf-8", slice_of(line));
}

/* That it is answered is the answer: it comes from the loop. */
void probe_handle_live(struct request *request)
{
    answer(request, true, "ok");
}

const char *probe_not_ready(const struct admin_rooms *rooms)
{
    struct admin_facts facts = {0};
    enum result commits = queue_can_commit(rooms->queue);
    enum result room = queue_has_room(rooms->queue);

    rooms->facts(rooms->owner, &facts);
    if (!facts.is_listening)
        return "not ready: the listeners do not accept yet";
    if (facts.is_draining)
        return "not ready: the server is leaving";
    if (commits == RESULT_TIMEOUT)
        return "not ready: the store cannot commit: a commit does not end; look at the "
               "disk";
    if (commits != RESULT_OK)
        return "not ready: the store cannot commit: the last commit failed; look at the "
               "disk and at the log";
    if (room == RESULT_NO_SPACE)
        return "not ready: less room than queue.min_free_space: new mail gets 452 4.3.1";
    if (room != RESULT_OK)
        return "not ready: the output of the log does not take what must be written";
    return NULL;
}

void probe_handle_ready(struct request *request)
{
    const char *why_not = probe_not_ready(request->rooms);

    answer(request, !why_not, why_not ? why_not : "ok");
}

void probe_handle_startup(struct request *request)
{
    struct admin_facts facts = {0};
    struct queue_statistics queue;
    char text[160] = "ok";

    request->rooms->facts(request->rooms->owner, &facts);
    queue_statistics(request->rooms->queue, &queue);
    if (!facts.is_listening)
        (void)snprintf(text, sizeof text, "the listeners do not accept yet");
    else if (queue.is_rebuilding)
        (void)snprintf(text, sizeof text,
                       "ok: mail is accepted; the index is being rebuilt, %llu groups so "
                       "far",
                       (unsigned long long)queue.rebuilt_groups);
    answer(request, facts.is_listening, text);
}
