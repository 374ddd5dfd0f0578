/* The file of paces against any bytes: what is taken prints again to what is taken. The sum is put
 * right, or hardly any input would come so far. */
#include "deliver/paces_file.h"
#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
    struct bytes text;
    struct sealed sealed;
};

static void add(void *owner, const struct pace *pace)
{
    struct again *again = owner;

    CHECK(pace->scope[0] && pace->window > 0 && pace->permille > 0);
    CHECK(pace->backoffs <= PACE_BACKOFFS_MAX && pace->bounce.left <= PACE_BOUNCED_MAX);
    CHECK(paces_file_add(&again->text, &again->sealed, pace) == RESULT_OK);
}

/* Head, the given lines, an end that fits them. */
static void put_right(struct bytes *text, const char *heading, const uint8_t *data,
                      size_t size)
{
    struct sealed sealed;

    CHECK(sealed_begin(&sealed, heading, text) == RESULT_OK);
    CHECK(bytes_add(text, (struct slice){(const char *)data, size}) == RESULT_OK);
    sealed_note(&sealed, (struct slice){(const char *)data, size});
    CHECK(paces_file_end(text, &sealed) == RESULT_OK);
}

/* As lines of one version. */
static void read_lines(const char *heading, const uint8_t *data, size_t size)
{
    struct again again;
    struct bytes text;
    struct fault fault;

    bytes_init(&text, size + 4096);
    bytes_init(&again.text, 4 * size + 65536);
    CHECK(paces_file_begin(&again.text, &again.sealed) == RESULT_OK);
    put_right(&text, heading, data, size);
    if (paces_file_parse(bytes_view(&text), add, &again, &fault) == RESULT_OK) {
        CHECK(paces_file_end(&again.text, &again.sealed) == RESULT_OK);
        CHECK(paces_file_parse(bytes_view(&again.text), NULL, NULL, &fault) == RESULT_OK);
    }
    bytes_fini(&text);
    bytes_fini(&again.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fault fault;
    enum result result =
        paces_file_parse((struct slice){(const char *)data, size}, NULL, NULL, &fault);

    CHECK(result == RESULT_OK || result == RESULT_CORRUPT);
    read_lines("smtpd-paces 1", data, size);
    read_lines("smtpd-paces 2", data, size);
    return 0;
}
