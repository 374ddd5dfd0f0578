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
    problem->is_warning = false;
    (void)snprintf(problem->file, sizeof problem->file, "%s",
                   loader->file ? loader->file : "");
    va_start(arguments, format);
    (void)vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
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

    /* Its own complaints first; what is missing has no place: it comes last. */
    if (strcmp(left->file, right->file) != 0)
        return strcmp(left->file, right->file);
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
        const char *file = problem->file[0] ? problem->file : path;

        if (problem->line)
            added = bytes_format(into, "%s:%u:%u: %s\n", file, problem->line,
                                 problem->column, problem->text);
        else
            added = bytes_format(into, "%s: %s%s\n", file,
                                 problem->is_warning ? "warning: " : "", problem->text);
    }
    if (problems->left_out && added == RESULT_OK)
        added = bytes_format(into, "%s: and %zu more\n", path, problems->left_out);
    (void)added;
}

static enum result add_json_text(struct bytes *into, const char *text)
{
    enum result added = bytes_add_text(into, "\"");

    for (; *text && added == RESULT_OK; text++)
        if ((unsigned char)*text >= 0x20)
            added = bytes_format(into, "%s%c", *text == '"' || *text == '\\' ? "\\" : "",
                                 *text);
    return added == RESULT_OK ? bytes_add_text(into, "\"") : added;
}

void config_problems_print_json(const struct config_problems *problems, const char *path,
                                struct bytes *into)
{
    enum result added = bytes_add_text(into, "[");

    for (size_t i = 0; i < problems->count && added == RESULT_OK; i++) {
        const struct config_problem *problem = &problems->items[i];

        added = bytes_format(into, "%s{\"file\":", i ? "," : "");
        if (added == RESULT_OK)
            added = add_json_text(into, problem->file[0] ? problem->file : path);
        if (added == RESULT_OK)
            added =
                bytes_format(into, ",\"line\":%u,\"column\":%u,\"text\":", problem->line,
                             problem->column);
        if (added == RESULT_OK)
            added = add_json_text(into, problem->text);
        if (added == RESULT_OK)
            added = bytes_format(into, ",\"warning\":%s}",
                                 problem->is_warning ? "true" : "false");
    }
    if (added == RESULT_OK)
        added = bytes_add_text(into, "]\n");
    (void)added;
}

size_t problems_so_far(const struct loader *loader)
{
    return loader->problems->count + loader->problems->left_out;
}

size_t config_problems_errors(const struct config_problems *problems)
{
    size_t count = problems->left_out;

    for (size_t i = 0; i < problems->count; i++)
        count += !problems->items[i].is_warning;
    return count;
}
