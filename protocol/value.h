#ifndef PL_PROTOCOL_VALUE_H
#define PL_PROTOCOL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"

/* The data model both codecs share: JSON's, with integers apart from reals. A decoded value is a
 * tree in an arena and is freed with it, whole. Strings are UTF-8 without a terminator and may hold
 * U+0000. */

enum {
    PL_MAX_DEPTH = 32
};                                           /* maps and arrays nested, the outermost counts 1 */
#define PL_INT_MAX INT64_C(9007199254740991) /* 2^53 - 1 */

/* A piece of somebody else's bytes. */
struct pl_str {
    const char *s;
    size_t len;
};
#define PL_LIT(literal) ((struct pl_str){(literal), sizeof(literal) - 1})
bool pl_str_eq(struct pl_str a, struct pl_str b);
/* By bytes, a prefix before what it begins; < 0, 0 or > 0. */
int pl_str_compare(struct pl_str a, struct pl_str b);
int pl_str_order(const void *a, const void *b); /* the same, for qsort and bsearch */

enum pl_value_type {
    PL_NULL,
    PL_BOOL,
    PL_INT_VALUE,
    PL_REAL,
    PL_STRING,
    PL_ARRAY,
    PL_MAP
};

struct pl_member;
struct pl_value {
    enum pl_value_type type;
    union {
        bool boolean;
        int64_t integer; /* |n| <= PL_INT_MAX */
        double real;     /* finite */
        struct pl_str string;
        struct {
            struct pl_value *items;
            size_t count;
        } array;
        struct {
            struct pl_member *members; /* in the order of the source; keys are unique */
            size_t count;
        } map;
    } u;
};
struct pl_member {
    struct pl_str key;
    struct pl_value value;
};

/* Memory for one decoded message. Chunks grow; nothing is freed before pl_arena_done. */
struct pl_arena {
    struct pl_arena_chunk *chunks;
};
void *pl_arena_alloc(struct pl_arena *a,
                     size_t size);      /* aligned for anything, not zeroed; cannot fail */
void pl_arena_done(struct pl_arena *a); /* harmless on {0} and twice */

/* NULL if v is no map or has no such member. */
const struct pl_value *pl_value_get(const struct pl_value *v, const char *key);
/* A member that is an integer; false: there is none, or it is something else. */
bool pl_value_int(const struct pl_value *v, const char *key, int64_t *ret);

enum pl_codec {
    PL_JSON,
    PL_MSGPACK,
    PL_CODEC_COUNT
};

struct pl_decode_error {
    size_t offset;  /* of the byte where it was noticed; len if only the whole showed it */
    char text[120]; /* "integer beyond 2^53-1", for the person who must fix it; holds no payload */
};

/* Decodes exactly one value that fills [data, data+len); anything left over is an error. Refused by
 * both: nesting deeper than PL_MAX_DEPTH, integers beyond +-PL_INT_MAX, non-finite numbers,
 * duplicate keys, U+0000 in keys, invalid UTF-8 (also surrogates and overlongs). JSON is RFC 8259;
 * a number without fraction and exponent is an integer. MessagePack: keys must be str; bin and ext
 * are refused; a declared length beyond the bytes present is refused before anything is allocated
 * for it; integers of any width and float32 are accepted. 0 and *ret in the arena (strings are
 * copies in the arena), or PL_ERR_MALFORMED, or PL_ERR_UTF8 when invalid UTF-8 is what is wrong, or
 * PL_ERR_NOMEM when the JSON library found memory short; then *err says what (err may be NULL).
 * What was put into the arena until then is freed with it. */
int pl_decode(enum pl_codec codec, const void *data, size_t len, struct pl_arena *a,
              const struct pl_value **ret, struct pl_decode_error *err);

/* Writes values in order, without building a tree. Counts are given ahead (MessagePack needs them);
 * the writer closes JSON brackets by itself when a container is full. Writing what the counts do
 * not allow, an integer beyond +-PL_INT_MAX or a real that is not finite is a bug (asserts); text
 * must be valid UTF-8. JSON is compact, with only the escapes RFC 8259 demands; reals in the
 * shortest form that reads back equal and always with a fraction or exponent, so that they stay
 * reals. MessagePack in the shortest form; reals are float64. */
struct pl_writer {
    enum pl_codec codec;
    struct pl_buf *out;
    uint8_t depth;
    struct {
        uint32_t left; /* values still to come; a map counts keys and values */
        uint8_t is_map;
        uint8_t started;
    } stack[PL_MAX_DEPTH + 8];
};
void pl_writer_init(struct pl_writer *w, enum pl_codec codec, struct pl_buf *out);
void pl_write_map(struct pl_writer *w, size_t member_count);
void pl_write_array(struct pl_writer *w, size_t count);
void pl_write_key(struct pl_writer *w, const char *key);
void pl_write_key_str(struct pl_writer *w, struct pl_str key);
void pl_write_str(struct pl_writer *w, struct pl_str s);
void pl_write_cstr(struct pl_writer *w, const char *s);
void pl_write_int(struct pl_writer *w, int64_t n);
void pl_write_real(struct pl_writer *w, double d);
void pl_write_bool(struct pl_writer *w, bool b);
void pl_write_null(struct pl_writer *w);
void pl_write_value(struct pl_writer *w, const struct pl_value *v);
/* One whole value already encoded in this codec. */
void pl_write_raw(struct pl_writer *w, const void *bytes, size_t len);

#endif
