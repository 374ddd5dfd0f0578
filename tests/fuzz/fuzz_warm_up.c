/* The file of the warm-up against any bytes: what is taken prints again to what is taken. The sum is put
 * right, or hardly any input would come so far. */
#include "deliver/warm_up_file.h"
#include "smtpd/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
    struct bytes text;
    struct sealed sealed;
};

static void add(void *owner, const struct warm_up_line *line)
{
    struct again *again = owner;

    CHECK(deliver_source_name_is_valid(slice_of(line->name)) && line->day >= 0);
    CHECK(warm_up_file_add(&again->text, &again->sealed, line) == RESULT_OK);
}

static void put_right(struct bytes *text, struct slice lines)
{
    struct sealed sealed;

    CHECK(warm_up_file_begin(text, &sealed) == RESULT_OK);
    CHECK(bytes_add(text, lines) == RESULT_OK);
    sealed_note(&sealed, lines);
    CHECK(warm_up_file_end(text, &sealed) == RESULT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};
    struct again again;
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, size + 4096);
    bytes_init(&again.text, 4 * size + 65536);
    CHECK(warm_up_file_begin(&again.text, &again.sealed) == RESULT_OK);
    result = warm_up_file_parse(input, NULL, NULL, &fault);
    CHECK(result == RESULT_OK || result == RESULT_CORRUPT);
    put_right(&text, input);
    if (warm_up_file_parse(bytes_view(&text), add, &again, &fault) == RESULT_OK) {
        CHECK(warm_up_file_end(&again.text, &again.sealed) == RESULT_OK);
        CHECK(warm_up_file_parse(bytes_view(&again.text), NULL, NULL, &fault) == RESULT_OK);
    }
    bytes_fini(&text);
    bytes_fini(&again.text);
    return 0;
}
