#ifndef PL_TESTS_REQUESTS_H
#define PL_TESTS_REQUESTS_H

/* What tests of requests share: a value from JSON, and an arena and an error to parse it with. Included after
 * cmocka. */
#include <string.h>

#include "protocol/request.h"
#include "protocol/status.h"
#include "server/base/alloc.h"

static struct pl_arena arena;
static struct pl_request_error why;
static const struct pl_request_limits limits = {.channels = 4, .topics = 3, .recipients = 3};

static inline const struct pl_value *value(const char *json)
{
    const struct pl_value *v = NULL;

    assert_int_equal(pl_decode(PL_JSON, json, strlen(json), &arena, &v, NULL), 0);
    why.text[0] = '\0';
    return v;
}

static inline int free_arena(void **state)
{
    (void)state;
    pl_arena_done(&arena);
    return 0;
}

#define assert_str(actual, expected)                             \
    do {                                                         \
        assert_int_equal((actual).len, strlen(expected));        \
        assert_memory_equal((actual).s, expected, (actual).len); \
    } while (0)

#endif
