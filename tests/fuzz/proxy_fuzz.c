#include <stdlib.h>
#include <string.h>

#include "protocol/http.h"
#include "protocol/proxy_header.h"
#include "protocol/status.h"
#include "server/base/alloc.h"

/* What a proxy says of a client: the header that begins a connection, which must be understood alike whole and byte by
 * byte, and the same bytes as a value of X-Forwarded-For. */

static int parse_bytewise(const char *bytes, size_t len, struct pl_proxy_header *ret)
{
    int status = PL_PROXY_MORE;

    for (size_t have = 0; status == PL_PROXY_MORE && have <= len; have++) {
        status = pl_proxy_header_parse(bytes, have, ret, NULL);
    }
    return status;
}

static void check_header(const char *bytes, size_t len)
{
    struct pl_proxy_header whole = {0}, pieces = {0};
    const char *reason = NULL;
    const int status = pl_proxy_header_parse(bytes, len, &whole, &reason);

    PL_ASSERT(status == PL_OK || status == PL_PROXY_MORE || status == PL_ERR_PROTOCOL);
    PL_ASSERT((status < 0) == (reason != NULL));
    PL_ASSERT(parse_bytewise(bytes, len, &pieces) == status);
    PL_ASSERT(status != PL_PROXY_MORE || len < PL_PROXY_MAX_V2);
    PL_ASSERT(memcmp(&whole, &pieces, sizeof(whole)) == 0);
    PL_ASSERT(whole.size <= len);
}

static void check_forwarded(const char *bytes, size_t len)
{
    struct pl_network items[1];
    const struct pl_networks trusted = {items, 1};
    struct pl_http_head h = {.headers = {{PL_LIT("X-Forwarded-For"), {bytes, len}},
                                         {PL_LIT("X-Forwarded-For"), PL_LIT("10.0.0.1")}},
                             .header_count = 2};
    struct pl_address a;
    char text[PL_ADDRESS_TEXT];

    PL_ASSERT(pl_network_parse("10.0.0.0/8", 10, &items[0]));
    PL_ASSERT(pl_http_forwarded_for(&h, &trusted, &a));
    pl_address_text(&a, text);
    PL_ASSERT(strlen(text) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of its exact size, so that a read beyond it is seen. */
    char *bytes = malloc(size > 0 ? size : 1);

    if (size > 0) {
        memcpy(bytes, data, size);
    }
    check_header(bytes, size);
    check_forwarded(bytes, size);
    free(bytes);
    return 0;
}
