#ifndef PL_PROTOCOL_VALUE_PRIV_H
#define PL_PROTOCOL_VALUE_PRIV_H

#include "protocol/value.h"

/* A codec is one of these tables. json.c and msgpack.c are the only ones who implement it; value.c
 * (decoding) and writer.c (encoding) the only ones who call it.
 *
 * The writer keeps the counts; a codec only puts bytes. What separates and closes (JSON's commas,
 * colons and brackets) is asked of it before each item and after each full container; NULL means
 * nothing is needed. */
enum pl_codec_place {
    PL_PLACE_ELEMENT,
    PL_PLACE_KEY,
    PL_PLACE_MEMBER_VALUE
};

struct pl_codec_ops {
    int (*decode)(const uint8_t *data, size_t len, struct pl_arena *a, const struct pl_value **ret,
                  struct pl_decode_error *err);

    void (*separate)(struct pl_buf *out, enum pl_codec_place place, bool first);
    void (*close)(struct pl_buf *out, bool is_map);
    void (*map)(struct pl_buf *out, size_t member_count);
    void (*array)(struct pl_buf *out, size_t count);
    void (*str)(struct pl_buf *out, struct pl_str s);
    void (*integer)(struct pl_buf *out, int64_t n);
    void (*real)(struct pl_buf *out, double d);
    void (*boolean)(struct pl_buf *out, bool b);
    void (*null)(struct pl_buf *out);
};

extern const struct pl_codec_ops pl_codec__json;
extern const struct pl_codec_ops pl_codec__msgpack;
const struct pl_codec_ops *pl_codec__ops(enum pl_codec codec);

/* What both decoders refuse, in the same words. */
#define PL_TEXT_DEPTH   "nested deeper than 32"
#define PL_TEXT_INTEGER "an integer beyond 2^53-1"
#define PL_TEXT_REAL    "a number that is not finite"
#define PL_TEXT_KEY     "a key appears twice in one map"
#define PL_TEXT_NUL_KEY "a key holds U+0000"
#define PL_TEXT_UTF8    "text is not valid UTF-8"
#define PL_TEXT_SHORT   "the message ends before its value does"
#define PL_TEXT_LONG    "bytes follow the value"

/* Fills *err and returns status. */
int pl_decode__fail(struct pl_decode_error *err, int status, size_t offset, const char *text);

/* Are the keys unique? O(n log n) whatever the keys are; scratch comes from the arena. */
bool pl_value__unique_keys(const struct pl_member *members, size_t count, struct pl_arena *a);

#endif
