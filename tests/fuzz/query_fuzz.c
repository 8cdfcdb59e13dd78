#include <stdlib.h>
#include <string.h>

#include "protocol/http.h"
#include "protocol/utf8.h"
#include "server/base/alloc.h"

/* Query strings as a poll has them: a value that is found and not bad is clean text, no longer than what was
 * sent; and an Origin, whatever it is, is the same host only of itself. */

static void check_value(struct pl_str query, const char *name)
{
    struct pl_arena arena = {0};
    struct pl_str value = {0};
    bool bad = false;

    if (pl_http_query_get(query, name, &arena, &value, &bad) && !bad) {
        PL_ASSERT(value.len <= query.len);
        PL_ASSERT(pl_utf8_valid(value.s, value.len));
        for (size_t i = 0; i < value.len; i++) {
            PL_ASSERT((unsigned char)value.s[i] >= 0x20 && value.s[i] != 0x7f);
        }
    }
    pl_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of its exact size, so that a read beyond it is seen. */
    char *bytes = malloc(size > 0 ? size : 1);
    struct pl_str text = {bytes, size};

    if (size > 0) {
        memcpy(bytes, data, size);
    }
    check_value(text, "queue_id");
    check_value(text, "last_event_id");
    check_value(text, "a");
    if (pl_http_origin_same_host(text, PL_LIT("a.b"))) {
        PL_ASSERT(size == strlen("http://a.b") || size == strlen("https://a.b"));
    }
    (void)pl_http_origin_is_localhost(text);
    free(bytes);
    return 0;
}
