/* A broken promise of our own: say where, and end. See check.h. */
#include "smtpd/base/check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void (*_Atomic before_end)(void);

void check_before_end(void (*fn)(void))
{
    atomic_store(&before_end, fn);
}

void check_end(void)
{
    void (*fn)(void) = atomic_exchange(&before_end, NULL); /* it may fail in its turn */

    if (fn)
        fn();
    abort();
}

void check_failed(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr, "smtpd: %s:%d: this must hold and does not: %s\n", file, line,
                  condition);
    check_end();
}
