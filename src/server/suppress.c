/* The suppression list between its rooms: policy keeps it, deliver asks by a callback and tells of
 * mailboxes that do not exist. The tenant of a message is what it is counted for, else its
 * user. */
#include "inner.h"

#include "smtpd/base/memory.h"

#include <string.h>

_Static_assert((int)SUPPRESSION_TEXT <= (int)DELIVER_WHY_MAX, "one is copied to the other");

enum result suppress_open(struct server *server, struct fault *fault)
{
    char *path = memory_format("%s/suppression", server->config->data_dir);
    enum result result =
        suppression_open(server->loop, server->offload, path, &server->suppression, fault);

    memory_free(path);
    return result;
}

static const char *tenant_of(const struct envelope *envelope)
{
    return envelope->tenant ? envelope->tenant : envelope->user;
}

static bool is_suppressed(void *owner, const struct envelope *envelope, const char *address,
                          char why[DELIVER_WHY_MAX], bool *wants_report)
{
    const struct server *server = owner;
    const struct suppression_message message = {
        .tenant = tenant_of(envelope),
        .is_named_late = envelope->tenant && envelope->user &&
                         strcmp(envelope->tenant, envelope->user) != 0};

    *wants_report = suppression_wants_report(server->suppression);
    return suppression_drops(server->suppression, &message, address, why);
}

static void on_hard_bounce(void *owner, const struct envelope *envelope,
                           const char *address, const char *said)
{
    const struct server *server = owner;

    suppression_note_bounce(server->suppression, tenant_of(envelope), address, said);
}

struct deliver_policy suppress_policy(struct server *server)
{
    return (struct deliver_policy){is_suppressed, on_hard_bounce, server};
}
