#ifndef PL_TEST_HTTP_HELPER_H
#define PL_TEST_HTTP_HELPER_H

#include <stdlib.h>
#include <string.h>

#include "protocol/http.h"

/* What the tests of HTTP share. Include it behind cmocka.h. */

/* A copy that ends where its memory ends, so that a sanitizer sees the first byte read too far. */
static inline char *exact_copy(const char *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return copy;
}

/* A head that must be fine; *ret points into request, which outlives it. */
static inline void parse_good(const char *request, struct pl_http_head *ret)
{
    const char *reason = "";
    size_t size = 0;
    const int err = pl_http_parse_head(request, strlen(request), 0, 65536, ret, &size, &reason);

    if (err != 0) {
        print_error("refused (%d, %s): %s\n", err, reason, request);
    }
    assert_int_equal(err, 0);
    assert_int_equal(size, strlen(request));
}

static inline void assert_str(struct pl_str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.s, expected, s.len);
}

#endif
