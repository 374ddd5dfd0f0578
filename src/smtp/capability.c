/* EHLO keywords: one row an extension, for both directions. */
#include "smtpd/smtp/capability.h"

#include "smtpd/smtp/reply.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct keyword {
    const char *name;
    size_t offset; /* of its bool in struct capabilities */
};

#define KEYWORD(name, field)                                                               \
    {                                                                                      \
        name, offsetof(struct capabilities, field)                                         \
    }
static const struct keyword keywords[] = {
    KEYWORD("PIPELINING", pipelining),
    KEYWORD("SIZE", size),
    KEYWORD("8BITMIME", eightbitmime),
    KEYWORD("SMTPUTF8", smtputf8),
    KEYWORD("ENHANCEDSTATUSCODES", enhancedstatuscodes),
    KEYWORD("DSN", dsn),
    KEYWORD("CHUNKING", chunking),
    KEYWORD("STARTTLS", starttls),
    KEYWORD("REQUIRETLS", requiretls),
    KEYWORD("AUTH", auth),
};
enum { KEYWORDS = sizeof keywords / sizeof *keywords };

static bool *field(struct capabilities *capabilities, const struct keyword *keyword)
{
    return (bool *)((char *)capabilities + keyword->offset);
}

static void read_mechanisms(struct capabilities *capabilities, struct slice rest)
{
    struct slice word;

    while ((word = slice_next_word(&rest)).length > 0) {
        capabilities->auth_plain |= slice_equal_text_fold(word, "PLAIN");
        capabilities->auth_login |= slice_equal_text_fold(word, "LOGIN");
    }
}

void capability_read(struct capabilities *capabilities, struct slice line)
{
    struct slice rest = line;
    struct slice word = slice_next_word(&rest);

    /* "AUTH=LOGIN" is what some old servers write. */
    if (slice_starts_fold(word, "AUTH=")) {
        capabilities->auth = true;
        read_mechanisms(capabilities, slice_from(slice_trim(line), 5));
        return;
    }
    for (size_t i = 0; i < KEYWORDS; i++)
        if (slice_equal_text_fold(word, keywords[i].name))
            *field(capabilities, &keywords[i]) = true;
    if (slice_equal_text_fold(word, "SIZE") &&
        slice_to_u64(slice_next_word(&rest), UINT64_MAX, &capabilities->size_limit) !=
            RESULT_OK)
        capabilities->size_limit = 0;
    if (slice_equal_text_fold(word, "AUTH"))
        read_mechanisms(capabilities, rest);
}

enum result capability_offer(struct bytes *into, const char *hostname, const char *peer,
                             const struct capabilities *ours)
{
    char texts[KEYWORDS + 1][400];
    struct slice lines[KEYWORDS + 1];
    size_t count = 0;

    (void)snprintf(texts[count], sizeof texts[count], "%.250s greets %.100s", hostname,
                   peer);
    /* The client may not know UTF-8, and would get back what it said. */
    for (char *at = texts[count]; *at; at++)
        if ((unsigned char)*at > 0x7f)
            *at = '?';
    lines[count] = slice_of(texts[count]);
    count++;
    for (size_t i = 0; i < KEYWORDS; i++) {
        struct capabilities copy = *ours;

        if (!*field(&copy, &keywords[i]))
            continue;
        if (strcmp(keywords[i].name, "SIZE") == 0)
            (void)snprintf(texts[count], sizeof texts[count], "SIZE %llu",
                           (unsigned long long)ours->size_limit);
        else if (strcmp(keywords[i].name, "AUTH") == 0)
            (void)snprintf(texts[count], sizeof texts[count], "AUTH%s%s",
                           ours->auth_plain ? " PLAIN" : "",
                           ours->auth_login ? " LOGIN" : "");
        else
            (void)snprintf(texts[count], sizeof texts[count], "%s", keywords[i].name);
        lines[count] = slice_of(texts[count]);
        count++;
    }
    return reply_add_lines(into, 250, lines, count);
}
