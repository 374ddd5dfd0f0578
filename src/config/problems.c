/* The list of complaints: to add, to sort, to print; and what was probably meant. */
#include "problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void complain(struct loader *loader, struct toml_place place, const char *format, ...)
{
    struct config_problems *problems = loader->problems;
    struct config_problem *problem;
    va_list arguments;

    if (problems->count == CONFIG_PROBLEMS_MAX) {
        problems->left_out++;
        return;
    }
    problem = &problems->items[problems->count++];
    problem->line = place.line;
    problem->column = place.column;
    va_start(arguments, format);
    (void)vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
}

/* ---- the nearest known name ---- */

enum { NAME_MAX_COMPARED = 64 };

static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_COMPARED + 1];
    size_t a_length = strlen(a);
    size_t b_length = strlen(b);
    size_t i;
    size_t j;

    if (a_length > NAME_MAX_COMPARED || b_length > NAME_MAX_COMPARED)
        return UINT32_MAX;
    for (j = 0; j <= b_length; j++)
        row[j] = (unsigned)j;
    for (i = 1; i <= a_length; i++) {
        unsigned corner = row[0];

        row[0] = (unsigned)i;
        for (j = 1; j <= b_length; j++) {
            unsigned change = corner + (a[i - 1] != b[j - 1]);
            unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

            corner = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[b_length];
}

void nearest_offer(struct nearest *nearest, const char *name)
{
    unsigned found = distance(nearest->wanted, name);

    if (!nearest->name || found < nearest->distance) {
        nearest->name = name;
        nearest->distance = found;
    }
}

void complain_unknown(struct loader *loader, struct toml_place place, const char *section,
                      const char *key, const struct nearest *nearest)
{
    const char *dot = section ? "." : "";

    complain(loader, place, "unknown key \"%s%s%s\"; did you mean \"%s\"?",
             section ? section : "", dot, key, nearest->name);
}

static int by_place(const void *a, const void *b)
{
    const struct config_problem *left = a;
    const struct config_problem *right = b;

    /* What is missing has no place: it comes last. */
    if (left->line != right->line)
        return left->line - 1U < right->line - 1U ? -1 : 1;
    return (left->column > right->column) - (left->column < right->column);
}

void problems_sort(struct config_problems *problems)
{
    qsort(problems->items, problems->count, sizeof *problems->items, by_place);
}

void config_problems_print(const struct config_problems *problems, const char *path,
                           struct bytes *into)
{
    enum result added = RESULT_OK;

    for (size_t i = 0; i < problems->count && added == RESULT_OK; i++) {
        const struct config_problem *problem = &problems->items[i];

        if (problem->line)
            added = bytes_format(into, "%s:%u:%u: %s\n", path, problem->line,
                                 problem->column, problem->text);
        else
            added = bytes_format(into, "%s: %s\n", path, problem->text);
    }
    if (problems->left_out && added == RESULT_OK)
        added = bytes_format(into, "%s: and %zu more\n", path, problems->left_out);
    (void)added;
}

size_t problems_so_far(const struct loader *loader)
{
    return loader->problems->count + loader->problems->left_out;
}
