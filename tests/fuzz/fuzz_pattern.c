/* Patterns and texts from anywhere: a set of all lines but the last, matched against the last, says
 * of each pattern what a plain search says. */
#include "deliver/pattern.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { MOST = 32, MOST_TEXT = 60 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char fold(char byte)
{
    if (byte == '\t')
        return ' ';
    return byte >= 'A' && byte <= 'Z' ? (char)(byte + ('a' - 'A')) : byte;
}

/* In small letters, runs of blanks as one. */
static char *plain(struct slice text)
{
    char *copy = memory_new(text.length + 1);
    size_t length = 0;

    for (size_t i = 0; i < text.length; i++) {
        char byte = fold(text.data[i]);

        if (byte != ' ' || length == 0 || copy[length - 1] != ' ')
            copy[length++] = byte;
    }
    copy[length] = '\0';
    return copy;
}

/* After each byte of the pattern, which beginnings of the text it matches: plain to see that it is
 * right, and no slower for many stars (a search that goes back at each takes years for twelve). */
static bool glob(const char *pattern, const char *text)
{
    size_t length = strlen(text);
    bool matched[MOST_TEXT + 1] = {true};

    CHECK(length <= MOST_TEXT);
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            for (size_t i = 1; i <= length; i++)
                matched[i] |= matched[i - 1];
        } else {
            for (size_t i = length; i > 0; i--)
                matched[i] = matched[i - 1] && text[i - 1] == *pattern;
            matched[0] = false;
        }
    }
    return matched[length];
}

static bool is_found(const char *pattern, enum pattern_kind kind, const char *text)
{
    char *wide = memory_format("*%s*", pattern);
    bool hit = glob(kind == PATTERN_WHOLE ? pattern : wide, text);

    memory_free(wide);
    return hit;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size < 400 ? size : 400};
    struct pattern patterns[MOST];
    char *texts[MOST];
    bool hits[MOST];
    struct pattern_set *set;
    size_t count = 0;
    char *text;

    if (memchr(rest.data ? rest.data : "", 0, rest.length))
        return 0;
    for (size_t end; (end = slice_find(rest, '\n')) < rest.length && count < MOST;
         rest = slice_from(rest, end + 1)) {
        struct slice line = slice_part(rest, 0, end < 40 ? end : 40);
        enum pattern_kind kind = end % 2 ? PATTERN_WHOLE : PATTERN_WITHIN;

        if (pattern_complaint(line))
            continue;
        texts[count] = slice_to_text(line);
        patterns[count] = (struct pattern){texts[count], kind};
        count++;
    }
    set = pattern_set_new(patterns, count);
    CHECK(set);
    rest = slice_part(rest, 0, rest.length < MOST_TEXT ? rest.length : MOST_TEXT);
    pattern_set_match(set, rest, hits);
    text = plain(rest);
    for (size_t i = 0; i < count; i++) {
        char *pattern = plain(slice_of(texts[i]));

        CHECK(hits[i] == is_found(pattern, patterns[i].kind, text));
        memory_free(pattern);
        memory_free(texts[i]);
    }
    memory_free(text);
    pattern_set_free(set);
    return 0;
}
