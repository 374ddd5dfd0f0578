/* Reports of TLS: where a domain wants them, and the file of what was counted. The first byte picks
 * which. What a file is taken for prints to a text that is the same. */
#include "deliver/tally_file.h"
#include "deliver/tls_report_record.h"

#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_record(struct slice text)
{
    struct tls_report_place places[TLS_REPORT_PLACES_MAX];
    size_t count = tls_report_record(&text, 1, places);

    CHECK(count <= TLS_REPORT_PLACES_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *text_of = places[i].is_mail ? places[i].address : places[i].path;

        CHECK(text_of[0] != '\0');
        for (; *text_of; text_of++)
            CHECK(*text_of > ' ' && *text_of <= '~');
        CHECK(places[i].is_mail || (places[i].host[0] && places[i].port > 0));
    }
}

static void read_file(struct slice text)
{
    struct tally *tally = tally_new();
    struct tally *again = tally_new();
    struct fault fault;
    struct bytes first;
    struct bytes second;

    bytes_init(&first, TALLY_FILE_MAX);
    bytes_init(&second, TALLY_FILE_MAX);
    if (tally_file_parse(text, tally, &fault) == RESULT_OK) {
        CHECK(tally_file_print(tally, &first) == RESULT_OK);
        CHECK(tally_file_parse(bytes_view(&first), again, &fault) == RESULT_OK);
        CHECK(tally_file_print(again, &second) == RESULT_OK);
        CHECK(slice_equal(bytes_view(&first), bytes_view(&second)));
    }
    bytes_fini(&first);
    bytes_fini(&second);
    tally_free(tally);
    tally_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text;

    if (size < 1)
        return 0;
    text = (struct slice){(const char *)data + 1, size - 1};
    if (data[0] % 2 == 0)
        read_record(text);
    else
        read_file(text);
    return 0;
}
