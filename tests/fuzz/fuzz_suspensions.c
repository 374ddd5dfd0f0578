/* The file of suspensions against any bytes: what is taken prints again to what is taken. The sum is put
 * right, or hardly any input would come so far. */
#include "deliver/suspensions_file.h"
#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
    struct bytes text;
    struct sealed sealed;
};

static void add(void *owner, const struct suspension_view *view)
{
    struct again *again = owner;

    CHECK(view->name[0] && view->reach < REACH_COUNT);
    CHECK(suspensions_file_add(&again->text, &again->sealed, view) == RESULT_OK);
}

/* Head, the given lines, an end that fits them. */
static void put_right(struct bytes *text, const uint8_t *data, size_t size)
{
    struct sealed sealed;

    CHECK(suspensions_file_begin(text, &sealed) == RESULT_OK);
    CHECK(bytes_add(text, (struct slice){(const char *)data, size}) == RESULT_OK);
    sealed_note(&sealed, (struct slice){(const char *)data, size});
    CHECK(suspensions_file_end(text, &sealed) == RESULT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct again again;
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, size + 4096);
    bytes_init(&again.text, 4 * size + 65536);
    CHECK(suspensions_file_begin(&again.text, &again.sealed) == RESULT_OK);
    result = suspensions_file_parse((struct slice){(const char *)data, size}, NULL, NULL,
                                    &fault);
    CHECK(result == RESULT_OK || result == RESULT_CORRUPT);
    put_right(&text, data, size);
    if (suspensions_file_parse(bytes_view(&text), add, &again, &fault) == RESULT_OK) {
        CHECK(suspensions_file_end(&again.text, &again.sealed) == RESULT_OK);
        CHECK(suspensions_file_parse(bytes_view(&again.text), NULL, NULL, &fault) ==
              RESULT_OK);
    }
    bytes_fini(&text);
    bytes_fini(&again.text);
    return 0;
}
