/* The heap, with the one answer to its end. */
#include "smtpd/base/memory.h"

#include "smtpd/base/check.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must_have(void *memory, size_t bytes)
{
    if (memory)
        return memory;
    (void)fprintf(stderr,
                  "smtpd: out of memory (%zu bytes wanted); the queue is safe on disk\n",
                  bytes);
    check_end();
}

void *memory_new(size_t bytes)
{
    return must_have(calloc(1, bytes ? bytes : 1), bytes);
}

void *memory_new_array(size_t count, size_t item_bytes)
{
    return must_have(calloc(count ? count : 1, item_bytes ? item_bytes : 1), item_bytes);
}

void *memory_resize(void *memory, size_t bytes)
{
    return must_have(realloc(memory, bytes ? bytes : 1), bytes);
}

void *memory_copy(const void *from, size_t bytes)
{
    void *copy = must_have(malloc(bytes ? bytes : 1), bytes);

    if (bytes)
        memcpy(copy, from, bytes);
    return copy;
}

char *memory_text(const char *text)
{
    return text ? memory_copy(text, strlen(text) + 1) : NULL;
}

char *memory_format(const char *format, ...)
{
    char none[1]; /* the first pass only counts */
    va_list arguments;
    va_list again;
    char *text;
    int length;

    va_start(arguments, format);
    va_copy(again, arguments);
    length = vsnprintf(none, sizeof none, format, arguments);
    va_end(arguments);
    CHECK(length >= 0);
    text = memory_new((size_t)length + 1);
    (void)vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void memory_free(void *memory)
{
    free(memory);
}

void memory_trim(void)
{
    (void)malloc_trim(0);
}
