/* Fields go first, so that a rule may replace what a client wrote; what is missing then is
 * added; the operator's own fields come last. */
#include "fix_ups.h"

#include "header_rules.h"
#include "smtpd/mail/header.h"
#include "tenancy.h"
#include "transaction.h"

enum {
    MESSAGE_ID_LOGGED = 200,
    FIX_UP_NAMES_MAX = 5 + HEADER_RULES_REMOVED_MAX /* with the NULL at the end */
};

static bool has_field(struct slice section, const char *const *names)
{
    struct slice name;
    struct slice field;

    while (header_next_field(&section, &name, &field))
        for (const char *const *each = names; *each; each++)
            if (slice_equal_text_fold(name, *each))
                return true;
    return false;
}

/* Return-Path is written by whoever delivers last (RFC 5321 4.4); Bcc is what nobody else
 * may see (RFC 5322 3.6.3). */
static size_t name_removed(const struct session *session,
                           const char *names[FIX_UP_NAMES_MAX])
{
    static const char *const hidden[] = {"Bcc", "Resent-Bcc"};
    size_t count = 0;

    names[count++] = "Return-Path";
    if (session->mode == MODE_SUBMISSION && session->profile->settings.remove_bcc)
        for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
            names[count++] = hidden[i];
    if (session->user)
        count += tenancy_headers(session->profile->tenancy, names + count);
    count += header_rules_removed(session->profile->header_rules, session, names + count,
                                  FIX_UP_NAMES_MAX - 1 - count);
    names[count] = NULL;
    return count;
}

static enum result remove_fields(struct session *session)
{
    struct transaction *transaction = session->transaction;
    const char *names[FIX_UP_NAMES_MAX];
    struct bytes cleaned;
    enum result result;

    (void)name_removed(session, names);
    if (!has_field(transaction_section(transaction), names))
        return RESULT_OK;
    bytes_init(&cleaned, transaction->header.ceiling);
    result = bytes_add(&cleaned, slice_part(bytes_view(&transaction->header), 0,
                                            transaction->trace_bytes));
    if (result == RESULT_OK)
        result = header_copy_without(transaction_section(transaction), names, &cleaned);
    bytes_fini(&transaction->header);
    transaction->header = cleaned;
    return result;
}

static void keep_message_id(struct transaction *transaction, struct slice section)
{
    struct header_scan scan;

    header_scan(section, &scan);
    if (scan.message_id.length > 0)
        transaction->message_id = arena_text(
            &transaction->arena, slice_part(scan.message_id, 0, MESSAGE_ID_LOGGED));
}

/* RFC 6409 8: a submission server completes what the author's program left out. */
static enum result add_fields(struct session *session, const struct header_scan *scan)
{
    struct transaction *transaction = session->transaction;
    int64_t wall_ms = loop_wall_ms(session->receive->rooms.loop);
    size_t before = transaction->header.length;
    enum result result = RESULT_OK;
    char id[ID_TEXT];

    if (session->mode != MODE_SUBMISSION || !session->profile->settings.add_missing_headers)
        return RESULT_OK;
    if (scan->date_count == 0)
        result = header_add_date(&transaction->header, wall_ms);
    if (result == RESULT_OK && scan->message_id_count == 0) {
        id_print(transaction->envelope.id, id);
        result = header_add_message_id(&transaction->header, id, wall_ms,
                                       session->profile->settings.hostname);
        keep_message_id(transaction, slice_from(bytes_view(&transaction->header), before));
    }
    return result;
}

enum result fix_ups_apply(struct session *session)
{
    struct transaction *transaction = session->transaction;
    struct header_scan scan;
    enum result result = remove_fields(session);

    if (result != RESULT_OK)
        return result;
    header_scan(transaction_section(transaction), &scan);
    if (scan.message_id_count > 0)
        keep_message_id(transaction, transaction_section(transaction));
    result = add_fields(session, &scan);
    if (result == RESULT_OK)
        result =
            header_rules_add(session->profile->header_rules, session, &transaction->header);
    return result;
}
