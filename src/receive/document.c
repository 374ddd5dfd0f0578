/* docs/verbs.md: the verb table and the words of the reply table, as people read them. */
#include "verbs.h"

static const char *const state_names[STATE_COUNT] = {
    [STATE_FRESH] = "before EHLO",    [STATE_GREETED] = "after EHLO",
    [STATE_MAIL] = "after MAIL",      [STATE_RCPT] = "after RCPT",
    [STATE_CHUNKS] = "between BDATs",
};

static enum result add_states(struct bytes *into, const struct verb *verb)
{
    enum result added = RESULT_OK;
    bool is_first = true;

    if (verb->allowed == (1U << STATE_COUNT) - 1)
        return bytes_add_text(into, "anywhere");
    for (int state = 0; state < STATE_COUNT && added == RESULT_OK; state++) {
        if (!(verb->allowed & IN(state)))
            continue;
        added = bytes_format(into, "%s%s", is_first ? "" : ", ", state_names[state]);
        is_first = false;
    }
    return added;
}

/* A bar would end the cell. */
static enum result add_cell(struct bytes *into, const char *text)
{
    enum result added = RESULT_OK;

    for (; *text && added == RESULT_OK; text++)
        added =
            *text == '|' ? bytes_add_text(into, "\\|") : bytes_format(into, "%c", *text);
    return added;
}

static enum result add_verb(struct bytes *into, const struct verb *verb)
{
    enum result added = bytes_add_text(into, "| `");

    if (added == RESULT_OK)
        added = add_cell(into, verb->usage);
    if (added == RESULT_OK)
        added = bytes_add_text(into, "` | ");
    if (added == RESULT_OK)
        added = add_states(into, verb);
    if (added == RESULT_OK)
        added = bytes_format(into, " | %s | %s | %s | %s |\n",
                             verb->flags & BEFORE_TLS ? "yes" : "no",
                             verb->flags & BEFORE_AUTH ? "yes" : "no",
                             verb->flags & ENDS_BATCH ? "yes" : "no", verb->summary);
    return added;
}

static enum result add_reply_row(struct bytes *into, enum reply_name name)
{
    struct reply reply;
    char text[LIMIT_REPLY_TEXT + 64];

    reply_named(&reply, name, "...");
    reply_print(&reply, text, sizeof text);
    return bytes_format(into, "| %s | `%s` |\n", reply_name_text(name), text);
}

enum result receive_document_verbs(struct bytes *into)
{
    size_t count;
    const struct verb *verbs = verbs_table(&count);
    enum result added = bytes_add_text(
        into,
        "<!-- Written by `smtpd document verbs` from the tables. Do not edit. -->\n"
        "# The SMTP server\n\n## Commands\n\n"
        "\"In clear\" and \"before log-in\" matter on submission listeners only.\n\n"
        "| command | allowed | in clear | before log-in | ends a batch | what it does |\n"
        "|---|---|---|---|---|---|\n");

    for (size_t i = 0; i < count && added == RESULT_OK; i++)
        added = add_verb(into, &verbs[i]);
    if (added == RESULT_OK)
        added = bytes_add_text(into, "\nElsewhere a command gets `503 5.5.1`, in clear "
                                     "`530 5.7.0`, before the log-in `530 5.7.0`.\n\n"
                                     "## Replies\n\n| name | reply |\n|---|---|\n");
    for (int name = 0; name < REPLY_NAME_COUNT && added == RESULT_OK; name++)
        added = add_reply_row(into, (enum reply_name)name);
    return added;
}
