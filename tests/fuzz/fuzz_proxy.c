/* The PROXY header against bytes from anywhere: what it accepts lies within its bytes, any
 * prefix of an accepted header asks for more, and bytes behind it change nothing. */
#include "smtpd/base/check.h"
#include "smtpd/net/proxy_protocol.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_prefixes(struct slice bytes, const struct proxy_header *whole)
{
    struct proxy_header header;

    for (size_t length = 0; length < whole->length; length++) {
        CHECK(proxy_header_parse(slice_part(bytes, 0, length), &header) == RESULT_AGAIN);
        CHECK(header.length > length && header.length <= whole->length);
        CHECK(!header.has_client);
    }
    CHECK(proxy_header_parse(slice_part(bytes, 0, whole->length), &header) == RESULT_OK);
    CHECK(header.length == whole->length && header.has_client == whole->has_client);
    CHECK(endpoint_equal(&header.client, &whole->client));
    CHECK(endpoint_equal(&header.server, &whole->server));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = {(const char *)data, size};
    struct proxy_header header;
    enum result result = proxy_header_parse(bytes, &header);

    if (result == RESULT_OK) {
        CHECK(header.length <= size && header.length <= PROXY_HEADER_MAX);
        check_prefixes(bytes, &header);
    } else if (result == RESULT_AGAIN) {
        CHECK(header.length > size && header.length <= PROXY_HEADER_MAX);
    } else {
        CHECK(result == RESULT_INVALID);
    }
    return 0;
}
