/* How things look: columns, colour, ages and sizes. */
#ifndef SMTPD_CLI_PRINT_H
#define SMTPD_CLI_PRINT_H

#include "smtpd/cli/cli.h"

#include <jansson.h>
#include <stdint.h>

enum { PRINT_TEXT = 64 };

bool print_is_terminal(void);
/* "" into a pipe or with NO_COLOR. */
const char *print_bold(void);
const char *print_dim(void);
const char *print_warn(void);
const char *print_plain(void);
void print_age(int64_t ms, char text[PRINT_TEXT]);      /* "3m", "2h", "5d" */
void print_count(int64_t bytes, char text[PRINT_TEXT]); /* "12.3K" */
void print_until(int64_t wall_ms, int64_t now_ms,
                 char text[PRINT_TEXT]); /* "in 5m", "now" */
int print_json(const json_t *json);
/* Members of an object, "" or 0 when absent. */
const char *get_text(const json_t *object, const char *name);
int64_t get_number(const json_t *object, const char *name);

#endif
