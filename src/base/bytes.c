/* Slices and growing buffers. A buffer grows by doubling, never past its ceiling. */
#include "smtpd/base/bytes.h"

#include "smtpd/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char fold(char byte)
{
    static const char lower[] = "abcdefghijklmnopqrstuvwxyz";

    if (byte >= 'A' && byte <= 'Z')
        return lower[byte - 'A'];
    return byte;
}

static bool equal_fold(const char *a, const char *b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (fold(a[i]) != fold(b[i]))
            return false;
    return true;
}

struct slice slice_of(const char *text)
{
    return text ? (struct slice){text, strlen(text)} : SLICE_NONE;
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

bool slice_equal_text(struct slice a, const char *text)
{
    return slice_equal(a, slice_of(text));
}

bool slice_equal_fold(struct slice a, struct slice b)
{
    return a.length == b.length && equal_fold(a.data, b.data, a.length);
}

bool slice_equal_text_fold(struct slice a, const char *text)
{
    return slice_equal_fold(a, slice_of(text));
}

bool slice_starts_fold(struct slice a, const char *prefix)
{
    size_t length = strlen(prefix);

    return a.length >= length && equal_fold(a.data, prefix, length);
}

bool slice_ends_fold(struct slice a, const char *suffix)
{
    size_t length = strlen(suffix);

    return a.length >= length &&
           slice_equal_text_fold(slice_from(a, a.length - length), suffix);
}

struct slice slice_from(struct slice a, size_t offset)
{
    if (offset >= a.length)
        return (struct slice){a.data ? a.data + a.length : NULL, 0};
    return (struct slice){a.data + offset, a.length - offset};
}

struct slice slice_part(struct slice a, size_t offset, size_t length)
{
    struct slice rest = slice_from(a, offset);

    if (length < rest.length)
        rest.length = length;
    return rest;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

struct slice slice_trim(struct slice a)
{
    while (a.length > 0 && is_blank(a.data[0]))
        a = slice_from(a, 1);
    while (a.length > 0 && is_blank(a.data[a.length - 1]))
        a.length--;
    return a;
}

bool slice_has_8bit(struct slice a)
{
    for (size_t i = 0; i < a.length; i++)
        if ((unsigned char)a.data[i] > 0x7f)
            return true;
    return false;
}

size_t slice_find(struct slice a, char byte)
{
    const char *found = a.length ? memchr(a.data, byte, a.length) : NULL;

    return found ? (size_t)(found - a.data) : a.length;
}

struct slice slice_next_word(struct slice *rest)
{
    struct slice word = *rest;
    size_t length = 0;

    while (word.length > 0 && is_blank(word.data[0]))
        word = slice_from(word, 1);
    while (length < word.length && !is_blank(word.data[length]))
        length++;
    *rest = slice_from(word, length);
    word.length = length;
    return word;
}

enum result slice_to_u64(struct slice a, uint64_t most, uint64_t *value)
{
    uint64_t number = 0;

    if (a.length == 0)
        return RESULT_INVALID;
    for (size_t i = 0; i < a.length; i++)
        if (a.data[i] < '0' || a.data[i] > '9')
            return RESULT_INVALID;
    for (size_t i = 0; i < a.length; i++) {
        uint64_t digit = (uint64_t)(a.data[i] - '0');

        if (number > (most - digit) / 10 || digit > most)
            return RESULT_TOO_LARGE;
        number = number * 10 + digit;
    }
    *value = number;
    return RESULT_OK;
}

bool slice_copy_text(struct slice a, char *into, size_t into_bytes)
{
    into[0] = '\0';
    if (a.length >= into_bytes || slice_find(a, '\0') < a.length)
        return false;
    if (a.length)
        memcpy(into, a.data, a.length);
    into[a.length] = '\0';
    return true;
}

void slice_copy_start(struct slice a, char *into, size_t into_bytes)
{
    size_t length = a.length;

    if (length >= into_bytes) {
        length = into_bytes - 1;
        while (length > 0 && ((unsigned char)a.data[length] & 0xc0) == 0x80)
            length--;
    }
    if (length > 0)
        memcpy(into, a.data, length);
    into[length] = '\0';
}

char *slice_to_text(struct slice a)
{
    char *text = memory_new(a.length + 1);

    if (a.length)
        memcpy(text, a.data, a.length);
    return text;
}

/* ---- buffers ---- */

void bytes_init(struct bytes *bytes, size_t ceiling)
{
    *bytes = (struct bytes){.ceiling = ceiling};
}

void bytes_fini(struct bytes *bytes)
{
    bytes_release(bytes);
}

struct slice bytes_view(const struct bytes *bytes)
{
    return (struct slice){bytes->data ? bytes->data : "", bytes->length};
}

char *bytes_reserve(struct bytes *bytes, size_t more)
{
    size_t capacity = bytes->capacity ? bytes->capacity : 256;

    if (more > bytes->ceiling || bytes->length > bytes->ceiling - more)
        return NULL;
    if (bytes->data && bytes->capacity - bytes->length >= more)
        return bytes->data + bytes->length;
    while (capacity - bytes->length < more)
        capacity *= 2;
    if (capacity > bytes->ceiling)
        capacity = bytes->ceiling;
    bytes->data = memory_resize(bytes->data, capacity);
    bytes->capacity = capacity;
    return bytes->data + bytes->length;
}

enum result bytes_add(struct bytes *bytes, struct slice more)
{
    char *room;

    if (more.length == 0)
        return RESULT_OK;
    room = bytes_reserve(bytes, more.length);
    if (!room)
        return RESULT_TOO_LARGE;
    memcpy(room, more.data, more.length);
    bytes->length += more.length;
    return RESULT_OK;
}

enum result bytes_add_text(struct bytes *bytes, const char *text)
{
    return bytes_add(bytes, slice_of(text));
}

enum result bytes_format(struct bytes *bytes, const char *format, ...)
{
    char small[512];
    char *large = NULL;
    va_list arguments;
    int length;
    enum result result;

    va_start(arguments, format);
    length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length > bytes->ceiling)
        return RESULT_TOO_LARGE;
    /* Not straight into the buffer: the NUL behind the text may be above the ceiling. */
    if ((size_t)length >= sizeof small) {
        large = memory_new((size_t)length + 1);
        va_start(arguments, format);
        (void)vsnprintf(large, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    result = bytes_add(bytes, (struct slice){large ? large : small, (size_t)length});
    memory_free(large);
    return result;
}

void bytes_drop_front(struct bytes *bytes, size_t count)
{
    if (count >= bytes->length) {
        bytes->length = 0;
        return;
    }
    memmove(bytes->data, bytes->data + count, bytes->length - count);
    bytes->length -= count;
}

void bytes_clear(struct bytes *bytes)
{
    bytes->length = 0;
}

void bytes_release(struct bytes *bytes)
{
    memory_free(bytes->data);
    bytes->data = NULL;
    bytes->length = bytes->capacity = 0;
}

/* ---- base64 ---- */

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
enum { PADDING = 64 }; /* its place in the alphabet */

enum result bytes_add_base64(struct bytes *bytes, struct slice plain)
{
    size_t length = (plain.length + 2) / 3 * 4;
    char *room = bytes_reserve(bytes, length);

    if (!room)
        return RESULT_TOO_LARGE;
    for (size_t i = 0; i < plain.length; i += 3) {
        size_t left = plain.length - i;
        uint32_t three = (uint32_t)(uint8_t)plain.data[i] << 16;

        three |= left > 1 ? (uint32_t)(uint8_t)plain.data[i + 1] << 8 : 0;
        three |= left > 2 ? (uint32_t)(uint8_t)plain.data[i + 2] : 0;
        *room++ = alphabet[three >> 18];
        *room++ = alphabet[three >> 12 & 63];
        *room++ = alphabet[left > 1 ? three >> 6 & 63 : PADDING];
        *room++ = alphabet[left > 2 ? three & 63 : PADDING];
    }
    bytes->length += length;
    return RESULT_OK;
}

static int sextet(char letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - '0' + 52;
    if (letter == '+')
        return 62;
    return letter == '/' ? 63 : -1;
}

enum result bytes_add_base64_decoded(struct bytes *bytes, struct slice encoded)
{
    size_t padding = 0;
    size_t letters = encoded.length;
    uint32_t held = 0;
    unsigned bits = 0;
    char *room;

    if (encoded.length % 4 != 0)
        return RESULT_INVALID;
    while (padding < 2 && letters > 0 && encoded.data[letters - 1] == '=') {
        padding++;
        letters--;
    }
    room = bytes_reserve(bytes, encoded.length / 4 * 3 - padding);
    if (!room)
        return RESULT_TOO_LARGE;
    for (size_t i = 0; i < letters; i++) {
        int value = sextet(encoded.data[i]);

        if (value < 0)
            return RESULT_INVALID;
        held = held << 6 | (uint32_t)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *room++ = (char)(held >> bits & 0xff);
        }
    }
    if (held & ((UINT32_C(1) << bits) - 1))
        return RESULT_INVALID; /* bits that no encoder sets */
    bytes->length += encoded.length / 4 * 3 - padding;
    return RESULT_OK;
}
