/* One pass over the tokens of RFC 5322 3.2. Of an element (what stands between two commas) its
 * words and the text between angle brackets are kept apart; then one of them is the address. */
#include "smtpd/mail/mailboxes.h"

#include <string.h>

/* Blanks, comments and folds at the front are skipped; false: a comment without an end. */
static bool skip_comment(struct slice *rest)
{
    size_t depth = 0;
    size_t at = 0;

    do {
        if (at >= rest->length)
            return false;
        if (rest->data[at] == '\\')
            at++;
        else if (rest->data[at] == '(')
            depth++;
        else if (rest->data[at] == ')')
            depth--;
        at++;
    } while (depth > 0);
    if (at > rest->length)
        return false;
    *rest = slice_from(*rest, at);
    return true;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static bool is_one_of(char byte, const char *marks)
{
    return byte && strchr(marks, byte);
}

static bool skip_blanks(struct slice *rest)
{
    while (rest->length > 0) {
        if (is_blank(rest->data[0]))
            *rest = slice_from(*rest, 1);
        else if (rest->data[0] != '(')
            return true;
        else if (!skip_comment(rest))
            return false;
    }
    return true;
}

/* Length of a quoted string at the front, its quotes included; 0: it has no end. */
static size_t quoted_length(struct slice text)
{
    for (size_t at = 1; at < text.length; at++) {
        if (text.data[at] == '"')
            return at + 1;
        if (text.data[at] == '\\')
            at++;
    }
    return 0;
}

/* A run of bytes up to a blank, a comment or one of `,;:<>`; quoted strings and address
 * literals are part of it. 0: something has no end. */
static size_t word_length(struct slice text)
{
    size_t at = 0;

    while (at < text.length && !is_blank(text.data[at]) &&
           !is_one_of(text.data[at], "(,;:<>")) {
        struct slice here = slice_from(text, at);
        size_t step = 1;

        if (here.data[0] == '"')
            step = quoted_length(here);
        else if (here.data[0] == '[')
            step = slice_find(here, ']') + 1;
        if (step == 0 || step > here.length)
            return 0;
        at += step;
    }
    return at;
}

struct element {
    struct slice word; /* the first */
    size_t words;
    bool has_at; /* an unquoted @ in any of the words */
    struct slice angle;
    bool has_angle;
};

static bool has_unquoted_at(struct slice word)
{
    size_t quoted = word.data[0] == '"' ? quoted_length(word) : 0;

    return slice_find(slice_from(word, quoted), '@') < word.length - quoted;
}

static bool take_word(struct slice *rest, struct element *element)
{
    size_t length = word_length(*rest);
    struct slice word = slice_part(*rest, 0, length);

    if (length == 0 || element->has_angle)
        return false; /* nothing but a comment stands behind the brackets */
    if (element->words++ == 0)
        element->word = word;
    element->has_at = element->has_at || has_unquoted_at(word);
    *rest = slice_from(*rest, length);
    return true;
}

/* "<local@domain>", a source route included: address_parse_path() judges it. */
static bool take_angle(struct slice *rest, struct element *element)
{
    size_t at = 1;

    if (element->has_angle)
        return false;
    while (at < rest->length && rest->data[at] != '>') {
        size_t step = rest->data[at] == '"' ? quoted_length(slice_from(*rest, at)) : 1;

        if (step == 0)
            return false;
        at += step;
    }
    if (at >= rest->length)
        return false;
    element->angle = slice_part(*rest, 0, at + 1);
    element->has_angle = true;
    *rest = slice_from(*rest, at + 1);
    return true;
}

static bool parse_element(const struct element *element, struct address *address)
{
    struct slice angle = element->angle;

    if (!element->has_angle)
        return element->words == 1 &&
               address_parse_mailbox(element->word, address) == RESULT_OK;
    return !element->has_at && address_parse_path(&angle, address) == RESULT_OK &&
           angle.length == 0 && !address->is_null && !address->is_bare_postmaster;
}

enum mark { MARK_END, MARK_COMMA, MARK_GROUP, MARK_GROUP_END, MARK_WRONG };

/* Words and brackets up to the mark that ends the element. */
static enum mark take_element(struct slice *rest, struct element *element)
{
    for (;;) {
        bool is_fine = skip_blanks(rest);
        char byte;

        if (!is_fine)
            return MARK_WRONG;
        if (rest->length == 0)
            return MARK_END;
        byte = rest->data[0];
        if (byte == '<')
            is_fine = take_angle(rest, element);
        else if (!is_one_of(byte, ",;:"))
            is_fine = take_word(rest, element);
        else {
            *rest = slice_from(*rest, 1);
            return byte == ',' ? MARK_COMMA : byte == ':' ? MARK_GROUP : MARK_GROUP_END;
        }
        if (!is_fine)
            return MARK_WRONG;
    }
}

/* Whether the mark may stand there; opens and closes groups. */
static bool take_mark(struct mailboxes *walk, enum mark mark, const struct element *element)
{
    if (mark == MARK_GROUP) {
        if (walk->is_group || element->words == 0 || element->has_angle || element->has_at)
            return false;
        walk->is_group = true;
    } else if (mark == MARK_GROUP_END) {
        if (!walk->is_group)
            return false;
        walk->is_group = false;
    }
    return mark != MARK_WRONG && (mark != MARK_END || !walk->is_group);
}

void mailboxes_init(struct mailboxes *walk, struct slice value)
{
    *walk = (struct mailboxes){.rest = value};
}

bool mailboxes_next(struct mailboxes *walk, struct address *address)
{
    while (!walk->is_wrong && walk->rest.length > 0) {
        struct element element = {0};
        enum mark mark = take_element(&walk->rest, &element);
        bool is_empty = element.words == 0 && !element.has_angle;

        walk->is_wrong = !take_mark(walk, mark, &element);
        if (walk->is_wrong)
            return false;
        /* Empty ones between commas are old but harmless (RFC 5322 4.4). */
        if (mark == MARK_GROUP || is_empty)
            continue;
        walk->is_wrong = !parse_element(&element, address);
        return !walk->is_wrong;
    }
    return false;
}
