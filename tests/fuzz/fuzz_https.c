/* An answer of HTTP, whole and in pieces of a size that the first byte picks: both are read the
 * same, and within the limits. */
#include "net/https_answer.h"

#include "smtpd/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 512 };

static enum https_step read_by(struct https_answer *answer, struct slice text, size_t piece,
                               bool is_whole)
{
    https_answer_init(answer, "text/plain", BODY_MAX);
    while (text.length > 0) {
        struct slice part = slice_part(text, 0, text.length < piece ? text.length : piece);

        text = slice_from(text, part.length);
        (void)https_answer_read(answer, part);
    }
    return https_answer_end(answer, is_whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct https_answer whole;
    struct https_answer pieces;
    struct slice text;
    enum https_step step;

    if (size < 1)
        return 0;
    text = (struct slice){(const char *)data + 1, size - 1};
    step = read_by(&whole, text, size, data[0] % 2 == 1);
    CHECK(step == HTTPS_DONE || step == HTTPS_BAD);
    CHECK((step == HTTPS_BAD) == (whole.text[0] != '\0'));
    CHECK(step == HTTPS_BAD || (whole.status == 200 && whole.body.length <= BODY_MAX));
    CHECK(read_by(&pieces, text, 1 + data[0] / 2, data[0] % 2 == 1) == step);
    CHECK(step == HTTPS_BAD ||
          slice_equal(bytes_view(&whole.body), bytes_view(&pieces.body)));
    https_answer_fini(&whole);
    https_answer_fini(&pieces);
    return 0;
}
