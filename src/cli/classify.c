/* smtpd classify: replies of the command line, or a line each of standard input, and what the
 * rules make of them. */
#include "print.h"

#include "smtpd/base/memory.h"
#include "smtpd/mail/address.h"
#include "smtpd/smtp/reply.h"

#include <stdio.h>
#include <string.h>

struct classify {
    const struct cli_context *context;
    const struct classifier *classifier;
    const char *host; /* NULL: unknown */
    unsigned long line;
    int code;
};

static void print_match(const struct classify *classify, const char *reply,
                        const struct class_match *match)
{
    const struct class_rule *rule = match->rule;
    const char *class = deliver_class_name(match->class);

    if (classify->context->wants_json) {
        json_t *json = json_pack("{s:s,s:s,s:s?,s:o,s:s?}", "class", class, "reply", reply,
                                 "file", rule ? rule->file : NULL, "line",
                                 rule ? json_integer(rule->line) : json_null(), "text",
                                 rule ? rule->text : NULL);
        char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

        (void)printf("%s\n", text ? text : "null");
        memory_free(text);
        json_decref(json);
        return;
    }
    if (rule)
        (void)printf("%s%s%s  %s:%u  %s\n", print_bold(), class, print_plain(), rule->file,
                     rule->line, reply);
    else
        (void)printf("%s%s%s  no rule fits  %s\n", print_bold(), class, print_plain(),
                     reply);
}

static void judge(struct classify *classify, const struct reply *reply)
{
    struct class_match match =
        classifier_match_reply(classify->classifier, reply, classify->host);
    char text[LIMIT_REPLY_TEXT + 64];

    reply_print(reply, text, sizeof text);
    print_match(classify, text, &match);
}

/* True: the reply is whole. */
static bool read_line(struct classify *classify, struct reply_reader *reader,
                      struct slice line)
{
    enum reply_event event;

    classify->line++;
    while (line.length > 0 && (unsigned char)line.data[line.length - 1] < ' ')
        line.length--;
    line = slice_trim(line);
    if (line.length == 0)
        return false;
    event = reply_reader_line(reader, line, NULL);
    if (event != REPLY_BAD)
        return event == REPLY_COMPLETE;
    (void)fprintf(
        stderr,
        "smtpd: line %lu is no reply: it begins with a code, as \"550 5.1.1 No such "
        "user\"\n",
        classify->line);
    classify->code = CLI_FAILED;
    reply_reader_init(reader);
    return false;
}

static void end_text(struct classify *classify, struct reply_reader *reader)
{
    /* "550-5.1.1 ..." copied from a log, without the last line. */
    if (reader->line_count > 0 && !reader->is_complete)
        judge(classify, &reader->reply);
}

static void read_input(struct classify *classify)
{
    struct reply_reader reader;
    char line[LIMIT_REPLY_LINE];

    reply_reader_init(&reader);
    while (fgets(line, sizeof line, stdin))
        if (read_line(classify, &reader, slice_of(line)))
            judge(classify, &reader.reply);
    end_text(classify, &reader);
}

static void read_words(struct classify *classify, int argc, char **argv)
{
    struct reply_reader reader;
    struct bytes text;
    enum result added = RESULT_OK;
    struct slice rest;

    bytes_init(&text, 1 << 20);
    for (int i = 0; i < argc && added == RESULT_OK; i++)
        added = bytes_format(&text, "%s%s", i ? " " : "", argv[i]);
    reply_reader_init(&reader);
    for (rest = bytes_view(&text); rest.length > 0;) {
        size_t end = slice_find(rest, '\n');

        if (read_line(classify, &reader, slice_part(rest, 0, end)))
            judge(classify, &reader.reply);
        rest = end < rest.length ? slice_from(rest, end + 1) : SLICE_NONE;
    }
    end_text(classify, &reader);
    bytes_fini(&text);
}

int cli_classify(const struct cli_context *context, const struct classifier *classifier,
                 int argc, char **argv)
{
    struct classify classify = {context, classifier, NULL, 0, CLI_DONE};
    char host[DOMAIN_TEXT];

    if (argc > 0 && strcmp(argv[0], "--host") == 0) {
        if (argc < 2 || domain_normalise(slice_of(argv[1]), host) != RESULT_OK) {
            (void)fprintf(stderr, "smtpd: --host wants the name of a mail exchanger\n");
            return CLI_USAGE;
        }
        classify.host = host;
        argc -= 2;
        argv += 2;
    }
    if (argc > 0 && argv[0][0] == '-' && argv[0][1] == '-') {
        (void)fprintf(stderr, "usage: smtpd classify [--host HOST] [REPLY] [--json]\n");
        return CLI_USAGE;
    }
    if (argc == 0 || (argc == 1 && strcmp(argv[0], "-") == 0))
        read_input(&classify);
    else
        read_words(&classify, argc, argv);
    return fflush(stdout) == 0 ? classify.code : CLI_FAILED;
}
