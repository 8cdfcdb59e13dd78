#ifndef PL_TESTS_CODEC_FUZZ_H
#define PL_TESTS_CODEC_FUZZ_H

#include "tests/unit/protocol/values.h"

/* Whatever decodes must survive both codecs unchanged. */
static inline void check_round_trip(enum pl_codec codec, const struct pl_value *v)
{
    struct pl_arena arena = {0};
    struct pl_buf bytes = {0};
    const struct pl_value *again = NULL;

    encode(codec, v, &bytes);
    PL_ASSERT(decode_exactly(codec, bytes.data, bytes.len, &arena, &again, NULL) == 0);
    PL_ASSERT(value_equal(v, again));
    pl_buf_done(&bytes);
    pl_arena_done(&arena);
}

static inline void fuzz_codec(enum pl_codec codec, const uint8_t *data, size_t len)
{
    struct pl_arena arena = {0};
    struct pl_decode_error err = {0};
    const struct pl_value *v;

    if (pl_decode(codec, data, len, &arena, &v, &err) == 0) {
        check_round_trip(PL_JSON, v);
        check_round_trip(PL_MSGPACK, v);
    } else {
        PL_ASSERT(err.offset <= len && err.text[0] != '\0');
    }
    pl_arena_done(&arena);
}

#endif
