/* A broken promise of our own: say where, and end. See check.h. */
#include "smtpd/base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr, "smtpd: %s:%d: this must hold and does not: %s\n", file, line,
                  condition);
    abort();
}
