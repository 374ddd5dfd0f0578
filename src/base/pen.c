#include "smtpd/base/pen.h"

#include "smtpd/base/check.h"

#include <string.h>

enum { DIGITS_MOST = 20 };

struct pen pen_on(char *memory, size_t bytes)
{
    CHECK(bytes > 0);
    memory[0] = '\0';
    return (struct pen){memory, memory + bytes - 1};
}

void pen_slice(struct pen *pen, struct slice text)
{
    size_t room = (size_t)(pen->end - pen->at);
    size_t length = text.length < room ? text.length : room;

    if (length > 0)
        memcpy(pen->at, text.data, length);
    pen->at += length;
    *pen->at = '\0';
}

void pen_text(struct pen *pen, const char *text)
{
    pen_slice(pen, slice_of(text));
}

void pen_byte(struct pen *pen, char byte)
{
    pen_slice(pen, (struct slice){&byte, 1});
}

void pen_padded(struct pen *pen, uint64_t value, unsigned width)
{
    char digits[DIGITS_MOST];
    size_t first = DIGITS_MOST;

    CHECK(width <= DIGITS_MOST);
    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (DIGITS_MOST - first < width)
        digits[--first] = '0';
    pen_slice(pen, (struct slice){digits + first, DIGITS_MOST - first});
}

void pen_number(struct pen *pen, uint64_t value)
{
    pen_padded(pen, value, 1);
}
