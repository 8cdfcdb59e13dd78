#ifndef PL_TESTS_VALUES_H
#define PL_TESTS_VALUES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/value.h"
#include "server/base/alloc.h"

/* What tests and fuzzers of the codecs share. */

/* Decodes from a block of exactly len bytes that is gone afterwards, so that a sanitizer sees a byte read
 * beyond the end and a string that was not copied. */
static inline int decode_exactly(enum pl_codec codec, const void *data, size_t len,
                                 struct pl_arena *a, const struct pl_value **ret,
                                 struct pl_decode_error *err)
{
    char *copy = malloc(len > 0 ? len : 1);
    char *start = copy + (len > 0 ? 0 : 1);
    int status;

    PL_ASSERT(copy != NULL);
    if (len > 0) {
        memcpy(start, data, len);
    }
    status = pl_decode(codec, start, len, a, ret, err);
    free(copy);
    return status;
}

static inline void encode(enum pl_codec codec, const struct pl_value *v, struct pl_buf *out)
{
    struct pl_writer w;

    pl_writer_init(&w, codec, out);
    pl_write_value(&w, v);
}

static inline bool value_equal(const struct pl_value *a, const struct pl_value *b);

static inline bool arrays_equal(const struct pl_value *a, const struct pl_value *b)
{
    if (a->u.array.count != b->u.array.count) {
        return false;
    }
    for (size_t i = 0; i < a->u.array.count; i++) {
        if (!value_equal(&a->u.array.items[i], &b->u.array.items[i])) {
            return false;
        }
    }
    return true;
}

static inline bool maps_equal(const struct pl_value *a, const struct pl_value *b)
{
    if (a->u.map.count != b->u.map.count) {
        return false;
    }
    for (size_t i = 0; i < a->u.map.count; i++) {
        if (!pl_str_eq(a->u.map.members[i].key, b->u.map.members[i].key) ||
            !value_equal(&a->u.map.members[i].value, &b->u.map.members[i].value)) {
            return false;
        }
    }
    return true;
}

/* Equal in type, value and order. */
static inline bool value_equal(const struct pl_value *a, const struct pl_value *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case PL_NULL:
        return true;
    case PL_BOOL:
        return a->u.boolean == b->u.boolean;
    case PL_INT_VALUE:
        return a->u.integer == b->u.integer;
    case PL_REAL:
        return memcmp(&a->u.real, &b->u.real, sizeof(a->u.real)) == 0;
    case PL_STRING:
        return pl_str_eq(a->u.string, b->u.string);
    case PL_ARRAY:
        return arrays_equal(a, b);
    case PL_MAP:
        return maps_equal(a, b);
    }
    return false;
}

#endif
