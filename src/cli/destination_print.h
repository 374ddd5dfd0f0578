/* How paces and suspensions look: of `smtpd destination`, and of `smtpd explain`. */
#ifndef SMTPD_CLI_DESTINATION_PRINT_H
#define SMTPD_CLI_DESTINATION_PRINT_H

#include "print.h"

enum { DESTINATION_TEXT = 1024 };

int64_t print_now_ms(void);
/* "50% of 500/m"; "-": no limit. */
void print_rate(const json_t *pace, char text[PRINT_TEXT]);
/* "suspended until ... (in 2h) by an operator: their wish"; "": nothing holds it. */
void print_hold(const json_t *destination, int64_t now_ms, char text[DESTINATION_TEXT]);
/* Lines behind `title`: limits, what was learned, what holds. */
void print_pace(const char *title, const json_t *pace, int64_t now_ms);
void print_suspension(const json_t *suspension, int64_t now_ms,
                      char text[DESTINATION_TEXT]);

#endif
