/* Keys for mail of our own: sign knows them, deliver writes it (reports of TLS), and this file knows
 * both. */
#include "inner.h"

static void *start(void *owner, const struct deliver_unsigned *mail,
                   deliver_signed_fn *on_end, void *end_owner)
{
    const struct server *server = owner;
    struct signing *signing = signing_start(server->signer);

    if (!signing)
        return NULL;
    signing_add(signing, mail->body);
    if (signing_choose(signing, mail->section) == 0) {
        signing_cancel(signing);
        return NULL;
    }
    signing_finish(signing, mail->section, mail->id, on_end, end_owner);
    return signing;
}

static void cancel(void *signing)
{
    signing_cancel(signing);
}

struct deliver_signing sign_own(struct server *server)
{
    return (struct deliver_signing){start, cancel, server};
}
