/* Whether the DNS says of each key what it should: smtpd dkim check.
 *
 * Promises  every key that was asked for gets one verdict, in order of domain and name.
 * Ignores   how the verdict is shown.
 */
#ifndef SMTPD_SIGN_CHECK_H
#define SMTPD_SIGN_CHECK_H

#include "smtpd/net/resolver.h"
#include "smtpd/sign/keys.h"

enum check_code {
    CHECK_LOOKUP_FAILED, /* nobody knows */
    CHECK_MISSING,
    CHECK_SEVERAL, /* more than one record: verifiers take any */
    CHECK_MALFORMED,
    CHECK_VERSION,   /* v= is not DKIM1 */
    CHECK_REVOKED,   /* an empty p= */
    CHECK_OTHER_KEY, /* p= is not this key's */
    CHECK_KEY_TYPE,  /* k= */
    CHECK_NO_SHA256, /* h= */
    CHECK_TESTING,   /* t=y */
    CHECK_NOT_EMAIL, /* s= */
    CHECK_CODE_COUNT
};
const char *check_code_name(enum check_code code); /* "other-key" */

enum { CHECK_PROBLEMS_MAX = 8 };

struct check_problem {
    enum check_code code;
    char text[400];
};

struct check_verdict {
    const char *domain;
    const char *selector;
    const char *file;
    const char *name; /* in the DNS */
    const char *kind; /* "rsa" */
    unsigned bits;
    const char *wanted; /* the text that should be there */
    const struct check_problem *problems;
    size_t problem_count; /* 0: all is well */
};
typedef void check_fn(void *owner, const struct check_verdict *verdict);

struct check_request {
    const struct sign_keys *keys;
    const char *domain;   /* NULL: every domain */
    const char *selector; /* NULL: every selector */
    const struct resolver_settings *resolver;
    check_fn *each;
    void *owner;
};

/* Blocking, with a loop of its own. RESULT_NOT_FOUND: there is no such key. `wrong` counts
 * the keys with problems. */
enum result MUST_CHECK check_run(const struct check_request *request, size_t *wrong,
                                 struct fault *fault);

#endif
