/* Configurations as text: a good one to add to, and what is complained about in a bad one. */
#ifndef SMTPD_TESTS_CONFIG_TEXTS_H
#define SMTPD_TESTS_CONFIG_TEXTS_H

#include "options.h"

#include "smtpd/base/memory.h"
#include "smtpd/config/config.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ten lines; what a test adds begins on line 11. */
#define GOOD                                                                               \
    "[server]\n"                                                                           \
    "hostname = \"relay.test\"\n"                                                          \
    "postmaster = \"ops@relay.test\"\n"                                                    \
    "[auth]\n"                                                                             \
    "users_file = \"/nowhere/users\"\n"                                                    \
    "allow_clear_on_loopback = true\n"                                                     \
    "[[listen]]\n"                                                                         \
    "address = \"127.0.0.1:2587\"\n"                                                       \
    "tls = \"none\"\n"                                                                     \
    "# end\n"

static struct config_problems problems;

static inline struct config *load(const char *text)
{
    memset(&problems, 0, sizeof problems);
    return config_load_text(slice_of(text), "test.toml", &problems);
}

/* Loads without a problem, or says the first. */
static inline struct config *load_good(const char *text)
{
    struct config *config = load(text);

    if (!config)
        fail_msg("%u:%u: %s", problems.items[0].line, problems.items[0].column,
                 problems.items[0].text);
    assert_int_equal(problems.count, 0);
    return config;
}

/* The text is refused, and one complaint at this place has these words. */
static inline void refused(const char *text, unsigned line, unsigned column,
                           const char *words)
{
    struct config *config = load(text);

    assert_null(config);
    for (size_t i = 0; i < problems.count; i++)
        if (problems.items[i].line == line && problems.items[i].column == column &&
            strstr(problems.items[i].text, words))
            return;
    for (size_t i = 0; i < problems.count; i++)
        print_error("%u:%u: %s\n", problems.items[i].line, problems.items[i].column,
                    problems.items[i].text);
    fail_msg("nothing at %u:%u says: %s", line, column, words);
}

#endif
