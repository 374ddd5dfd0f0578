/* Types of what rules say of a reply: the room that matches them knows what can be used. */
#include "smtpd/deliver/classify.h"
#include "type.h"

#include <stdio.h>

static enum result keep(struct type_context *context, struct slice text, const char *why,
                        void *value)
{
    const char *copy = why ? NULL : arena_text(context->arena, text);

    if (copy) {
        *(const char **)value = copy;
        return RESULT_OK;
    }
    (void)snprintf(context->wrong, sizeof context->wrong, "%s",
                   why ? why : "the file is too large");
    return RESULT_INVALID;
}

static enum result code_parse(struct type_context *context, struct slice text, void *value)
{
    return keep(context, text, class_code_complaint(text), value);
}

static enum result status_parse(struct type_context *context, struct slice text,
                                void *value)
{
    return keep(context, text, class_status_complaint(text), value);
}

static enum result text_parse(struct type_context *context, struct slice text, void *value)
{
    return keep(context, text, class_text_complaint(text), value);
}

static void print(const struct option *option, const void *value, struct bytes *into)
{
    const char *text = *(const char *const *)value;
    enum result added = RESULT_OK;

    (void)option;
    for (; text && *text && added == RESULT_OK; text++)
        added =
            bytes_format(into, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    (void)added; /* at the ceiling: see type.c */
}

/* clang-format off */
const struct option_type type_reply_code = {"reply code", "in quotes: \"550\", or \"55x\" or \"5xx\" for all that begin so", sizeof(char *), true, code_parse, print, NULL};
const struct option_type type_reply_status = {"status", "in quotes: \"5.7.1\"; a part may be \"*\", as in \"*.1.1\"", sizeof(char *), true, status_parse, print, NULL};
const struct option_type type_reply_text = {"reply text", "in quotes, at most 200 bytes; `*` stands for anything between, at most 8 pieces", sizeof(char *), true, text_parse, print, NULL};
/* clang-format on */
