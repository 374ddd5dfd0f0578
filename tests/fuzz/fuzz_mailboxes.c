/* Address fields from anywhere: every mailbox found lies in the field, prints as an address of
 * its own, and the walk ends. */
#include "smtpd/base/check.h"
#include "smtpd/mail/mailboxes.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mailboxes walk;
    struct address address;
    struct address again;
    size_t count = 0;

    mailboxes_init(&walk, (struct slice){(const char *)data, size});
    while (mailboxes_next(&walk, &address)) {
        struct slice text = slice_of(address.text);

        CHECK(++count <= size);
        CHECK(!walk.is_wrong && !address.is_null);
        CHECK(address_parse_mailbox(text, &again) == RESULT_OK);
        CHECK(memmem(data, size, text.data, text.length));
    }
    CHECK(walk.is_wrong || walk.rest.length == 0);
    return 0;
}
