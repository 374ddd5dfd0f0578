/* One key after the other: who has thousands waits a little, and the order is theirs. */
#include "smtpd/sign/check.h"

#include "key_set.h"
#include "record.h"
#include "smtpd/base/check.h"
#include "smtpd/mail/address.h"

#include <stdio.h>
#include <string.h>

struct asking {
    struct loop *loop;
    struct resolver *resolver;
    const struct sign_key *key;
    char name[RECORD_NAME];
    struct bytes public_key;
    struct check_problem problems[CHECK_PROBLEMS_MAX];
    size_t problem_count;
};

const char *check_code_name(enum check_code code)
{
    static const char *const names[] = {
        [CHECK_LOOKUP_FAILED] = "lookup-failed",
        [CHECK_MISSING] = "missing",
        [CHECK_SEVERAL] = "several-records",
        [CHECK_MALFORMED] = "malformed",
        [CHECK_VERSION] = "version",
        [CHECK_REVOKED] = "revoked",
        [CHECK_OTHER_KEY] = "other-key",
        [CHECK_KEY_TYPE] = "key-type",
        [CHECK_NO_SHA256] = "no-sha256",
        [CHECK_TESTING] = "testing",
        [CHECK_NOT_EMAIL] = "not-email",
    };

    _Static_assert(sizeof names / sizeof *names == CHECK_CODE_COUNT, "a name for each");
    return names[code];
}

static void add_problem(struct asking *asking, enum check_code code, const char *text)
{
    struct check_problem *problem = &asking->problems[asking->problem_count++];

    problem->code = code;
    (void)snprintf(problem->text, sizeof problem->text, "%s", text);
}

static void on_answer(void *owner, const struct dns_answer *answer)
{
    struct asking *asking = owner;

    loop_stop(asking->loop);
    if (answer->result == RESULT_DNS_NXDOMAIN || answer->result == RESULT_DNS_NODATA)
        add_problem(asking, CHECK_MISSING, "there is no TXT record");
    else if (answer->result != RESULT_OK)
        add_problem(asking, CHECK_LOOKUP_FAILED, answer->text);
    else if (answer->txt_count > 1)
        add_problem(asking, CHECK_SEVERAL,
                    "there are several TXT records; a verifier may take any of them");
    else
        asking->problem_count =
            record_judge(answer->txt[0], private_key_kind(asking->key->private_key),
                         bytes_view(&asking->public_key), asking->problems);
}

static void ask(struct asking *asking)
{
    asking->problem_count = 0;
    bytes_clear(&asking->public_key);
    if (!record_name(asking->key->domain, asking->key->selector, asking->name) ||
        private_key_public(asking->key->private_key, &asking->public_key) != RESULT_OK) {
        add_problem(asking, CHECK_MALFORMED, "selector and domain are too long for a name");
        return;
    }
    (void)lookup_start(asking->resolver, LOOKUP_TXT, asking->name, on_answer, asking);
    loop_run(asking->loop);
}

static void tell(const struct asking *asking, const struct check_request *request)
{
    const struct sign_key *key = asking->key;
    struct bytes wanted;
    char text[RECORD_MAX] = "";

    bytes_init(&wanted, sizeof text - 1);
    if (record_write(key->private_key, &wanted) != RESULT_OK ||
        !slice_copy_text(bytes_view(&wanted), text, sizeof text))
        text[0] = '\0';
    bytes_fini(&wanted);
    request->each(request->owner,
                  &(struct check_verdict){
                      .domain = key->domain,
                      .selector = key->selector,
                      .file = key->file,
                      .name = asking->name,
                      .kind = key_kind_name(private_key_kind(key->private_key)),
                      .bits = private_key_bits(key->private_key),
                      .wanted = text,
                      .problems = asking->problems,
                      .problem_count = asking->problem_count,
                  });
}

static bool is_meant(const struct sign_key *key, const struct check_request *request)
{
    return (!request->domain || strcmp(key->domain, request->domain) == 0) &&
           (!request->selector || strcmp(key->selector, request->selector) == 0);
}

/* Returns how many keys were meant. */
static size_t ask_all(struct asking *asking, const struct check_request *request,
                      size_t *wrong)
{
    size_t found = 0;

    for (const struct sign_domain *at = request->keys->domains; at; at = at->next)
        for (size_t i = 0; i < at->count; i++) {
            asking->key = &at->keys[i];
            if (!is_meant(asking->key, request))
                continue;
            found++;
            ask(asking);
            *wrong += asking->problem_count > 0;
            tell(asking, request);
        }
    return found;
}

enum result check_run(const struct check_request *request, size_t *wrong,
                      struct fault *fault)
{
    struct asking asking = {.loop = loop_new()};
    enum result result =
        resolver_new(asking.loop, request->resolver, &asking.resolver, fault);

    *wrong = 0;
    bytes_init(&asking.public_key, RECORD_MAX);
    if (result == RESULT_OK && ask_all(&asking, request, wrong) == 0)
        result = fault_set(fault, RESULT_NOT_FOUND, "there is no such key");
    bytes_fini(&asking.public_key);
    resolver_free(asking.resolver);
    loop_free(asking.loop);
    return result;
}
