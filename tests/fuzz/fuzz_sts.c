/* MTA-STS: the record and the policy. The first byte picks which; records stand between NULs. What
 * is taken for a policy prints to a text that is the same policy. */
#include "deliver/sts_policy.h"

#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_records(struct slice text)
{
    struct slice records[16];
    size_t count = 0;
    char id[STS_ID_TEXT];
    bool is_found;

    while (count < 16) {
        size_t end = slice_find(text, '\0');

        records[count++] = slice_part(text, 0, end);
        if (end == text.length)
            break;
        text = slice_from(text, end + 1);
    }
    is_found = sts_record_id(records, count, id);
    CHECK(is_found == (id[0] != '\0') && strlen(id) < STS_ID_TEXT);
}

static void read_policy(struct slice text)
{
    char why[160] = "";
    struct sts_policy *policy = sts_policy_parse(text, why);
    struct sts_policy *again;
    struct bytes first;
    struct bytes second;

    CHECK((policy != NULL) == (why[0] == '\0'));
    if (!policy)
        return;
    CHECK(sts_policy_mx_count(policy) <= STS_MX_MAX);
    CHECK(sts_policy_mx_count(policy) > 0 || sts_policy_mode(policy) == STS_NONE);
    CHECK(sts_policy_max_age_ms(policy) >= 0 &&
          sts_policy_max_age_ms(policy) <= STS_MAX_AGE_S * INT64_C(1000));
    CHECK(!sts_policy_matches(policy, ""));
    bytes_init(&first, STS_BODY_MAX);
    bytes_init(&second, STS_BODY_MAX);
    CHECK(sts_policy_print(policy, &first) == RESULT_OK);
    again = sts_policy_parse(bytes_view(&first), why);
    CHECK(again && sts_policy_print(again, &second) == RESULT_OK);
    CHECK(slice_equal(bytes_view(&first), bytes_view(&second)));
    bytes_fini(&first);
    bytes_fini(&second);
    sts_policy_unref(again);
    sts_policy_unref(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text;

    if (size < 1)
        return 0;
    text = (struct slice){(const char *)data + 1, size - 1};
    if (data[0] % 2 == 0)
        read_records(text);
    else
        read_policy(text);
    return 0;
}
