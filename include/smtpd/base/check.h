/* CHECK(cond): we are wrong. On in release too: prints the place and aborts, which G1-G6 of
 * docs/queue.md make safe. Never used for what a peer or the world can do. */
#ifndef SMTPD_BASE_CHECK_H
#define SMTPD_BASE_CHECK_H

#define CHECK(condition)                                                                   \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

/* Ends the process as CHECK does, for what has no condition: calls the function, once, and
 * aborts. */
_Noreturn void check_end(void);
/* NULL: none. It runs in any thread, which may hold any lock: it must wait for nothing. */
void check_before_end(void (*fn)(void));
_Noreturn void check_failed(const char *file, int line, const char *condition);

#endif
