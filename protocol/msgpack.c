#include <math.h>
#include <string.h>

#include <msgpack.h>

#include "protocol/status.h"
#include "protocol/utf8.h"
#include "protocol/value_priv.h"
#include "server/base/alloc.h"

/* Reading is our own: msgpack-c's unpacker allocates what an array or map declares before the items
 * are there, so five bytes ask for gigabytes, and it accepts ext, bin and duplicate keys. Writing
 * is msgpack-c's. */

struct reader {
    const uint8_t *start, *at, *end;
    /* Values that may still be declared. Every value takes a byte at least, so all containers
     * together cannot hold more than the message has bytes: that bounds the memory of nested
     * promises too. */
    size_t values_left;
    unsigned depth;
    struct pl_arena *arena;
    struct pl_decode_error *err;
};

static int read_value(struct reader *r, struct pl_value *ret);

static int fail(const struct reader *r, int status, const char *text)
{
    return pl_decode__fail(r->err, status, (size_t)(r->at - r->start), text);
}

static size_t left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

/* A big-endian number of 0, 1, 2, 4 or 8 bytes; the caller has checked that they are there. */
static uint64_t take_number(struct reader *r, unsigned size)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < size; i++) {
        n = n << 8 | *r->at++;
    }
    return n;
}

/* The shapes of MessagePack. n is the number behind the type byte, or the one inside it. */
typedef int read_fn(struct reader *r, uint64_t n, struct pl_value *ret);

static int read_null(struct reader *r, uint64_t n, struct pl_value *ret)
{
    (void)r, (void)n;
    ret->type = PL_NULL;
    return 0;
}

static int read_bool(struct reader *r, uint64_t n, struct pl_value *ret)
{
    (void)r;
    ret->type = PL_BOOL;
    ret->u.boolean = n != 0;
    return 0;
}

static int set_int(struct reader *r, int64_t n, struct pl_value *ret)
{
    if (n < -PL_INT_MAX || n > PL_INT_MAX) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_INTEGER);
    }
    ret->type = PL_INT_VALUE;
    ret->u.integer = n;
    return 0;
}

static int read_uint(struct reader *r, uint64_t n, struct pl_value *ret)
{
    return set_int(r, n > (uint64_t)PL_INT_MAX ? INT64_MAX : (int64_t)n, ret);
}

static int read_int8(struct reader *r, uint64_t n, struct pl_value *ret)
{
    return set_int(r, (int8_t)n, ret);
}

static int read_int16(struct reader *r, uint64_t n, struct pl_value *ret)
{
    return set_int(r, (int16_t)n, ret);
}

static int read_int32(struct reader *r, uint64_t n, struct pl_value *ret)
{
    return set_int(r, (int32_t)n, ret);
}

static int read_int64(struct reader *r, uint64_t n, struct pl_value *ret)
{
    return set_int(r, (int64_t)n, ret);
}

static int set_real(struct reader *r, double d, struct pl_value *ret)
{
    if (!isfinite(d)) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_REAL);
    }
    ret->type = PL_REAL;
    ret->u.real = d;
    return 0;
}

static int read_float32(struct reader *r, uint64_t n, struct pl_value *ret)
{
    const uint32_t bits = (uint32_t)n;
    float f;

    memcpy(&f, &bits, sizeof(f));
    return set_real(r, (double)f, ret);
}

static int read_float64(struct reader *r, uint64_t n, struct pl_value *ret)
{
    double d;

    memcpy(&d, &n, sizeof(d));
    return set_real(r, d, ret);
}

static int read_str(struct reader *r, uint64_t n, struct pl_value *ret)
{
    size_t valid;
    char *copy;

    if (n > left(r)) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_SHORT);
    }
    valid = pl_utf8_valid_prefix((const char *)r->at, n);
    if (valid != n) {
        r->at += valid;
        return fail(r, PL_ERR_UTF8, PL_TEXT_UTF8);
    }
    copy = pl_arena_alloc(r->arena, n);
    memcpy(copy, r->at, n);
    r->at += n;
    ret->type = PL_STRING;
    ret->u.string = (struct pl_str){copy, n};
    return 0;
}

static int read_key(struct reader *r, struct pl_str *ret)
{
    struct pl_value key;
    int status = read_value(r, &key);

    if (status != 0) {
        return status;
    }
    if (key.type != PL_STRING) {
        return fail(r, PL_ERR_MALFORMED, "a key is not a str");
    }
    if (memchr(key.u.string.s, '\0', key.u.string.len)) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_NUL_KEY);
    }
    *ret = key.u.string;
    return 0;
}

/* Every container passes here before memory is taken for its items. */
static int enter(struct reader *r, uint64_t values)
{
    if (r->depth == PL_MAX_DEPTH) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_DEPTH);
    }
    if (values > r->values_left || values > left(r)) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_SHORT);
    }
    r->values_left -= values;
    r->depth++;
    return 0;
}

static int read_array(struct reader *r, uint64_t n, struct pl_value *ret)
{
    int status = enter(r, n);

    if (status != 0) {
        return status;
    }
    ret->type = PL_ARRAY;
    ret->u.array.count = n;
    ret->u.array.items = pl_arena_alloc(r->arena, n * sizeof(*ret->u.array.items));
    for (size_t i = 0; i < n && status == 0; i++) {
        status = read_value(r, &ret->u.array.items[i]);
    }
    r->depth--;
    return status;
}

static int read_map(struct reader *r, uint64_t n, struct pl_value *ret)
{
    int status = enter(r, 2 * n); /* n is of 32 bits at most */
    struct pl_member *members;

    if (status != 0) {
        return status;
    }
    members = pl_arena_alloc(r->arena, n * sizeof(*members));
    for (size_t i = 0; i < n && status == 0; i++) {
        status = read_key(r, &members[i].key);
        if (status == 0) {
            status = read_value(r, &members[i].value);
        }
    }
    if (status == 0 && !pl_value__unique_keys(members, n, r->arena)) {
        status = fail(r, PL_ERR_MALFORMED, PL_TEXT_KEY);
    }
    ret->type = PL_MAP;
    ret->u.map.members = members;
    ret->u.map.count = n;
    r->depth--;
    return status;
}

static int refuse(struct reader *r, uint64_t n, struct pl_value *ret)
{
    (void)n, (void)ret;
    return fail(r, PL_ERR_MALFORMED, "bin and ext are not accepted");
}

/* The type byte: which values it may have, how many bytes of a number follow, and which of its own
 * bits are the number if none do. */
static const struct type_row {
    uint8_t first, last;
    uint8_t number_size;
    uint8_t inner_mask;
    read_fn *read;
} types[] = {
    {0x00, 0x7f, 0, 0x7f, read_uint},    {0x80, 0x8f, 0, 0x0f, read_map},
    {0x90, 0x9f, 0, 0x0f, read_array},   {0xa0, 0xbf, 0, 0x1f, read_str},
    {0xc0, 0xc0, 0, 0x00, read_null},    {0xc1, 0xc1, 0, 0x00, NULL}, /* never used */
    {0xc2, 0xc3, 0, 0x01, read_bool},    {0xc4, 0xc9, 0, 0x00, refuse},
    {0xca, 0xca, 4, 0x00, read_float32}, {0xcb, 0xcb, 8, 0x00, read_float64},
    {0xcc, 0xcc, 1, 0x00, read_uint},    {0xcd, 0xcd, 2, 0x00, read_uint},
    {0xce, 0xce, 4, 0x00, read_uint},    {0xcf, 0xcf, 8, 0x00, read_uint},
    {0xd0, 0xd0, 1, 0x00, read_int8},    {0xd1, 0xd1, 2, 0x00, read_int16},
    {0xd2, 0xd2, 4, 0x00, read_int32},   {0xd3, 0xd3, 8, 0x00, read_int64},
    {0xd4, 0xd8, 0, 0x00, refuse},       {0xd9, 0xd9, 1, 0x00, read_str},
    {0xda, 0xda, 2, 0x00, read_str},     {0xdb, 0xdb, 4, 0x00, read_str},
    {0xdc, 0xdc, 2, 0x00, read_array},   {0xdd, 0xdd, 4, 0x00, read_array},
    {0xde, 0xde, 2, 0x00, read_map},     {0xdf, 0xdf, 4, 0x00, read_map},
    {0xe0, 0xff, 0, 0xff, read_int8},
};

static int read_value(struct reader *r, struct pl_value *ret)
{
    const struct type_row *type = types;
    uint8_t byte;

    if (r->at == r->end) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_SHORT);
    }
    byte = *r->at;
    while (byte > type->last) { /* the rows cover every byte, in order */
        type++;
    }
    if (!type->read) {
        return fail(r, PL_ERR_MALFORMED, "not MessagePack");
    }
    r->at++;
    if (type->number_size == 0) {
        return type->read(r, byte & type->inner_mask, ret);
    }
    if (left(r) < type->number_size) {
        return fail(r, PL_ERR_MALFORMED, PL_TEXT_SHORT);
    }
    return type->read(r, take_number(r, type->number_size), ret);
}

static int decode(const uint8_t *data, size_t len, struct pl_arena *a, const struct pl_value **ret,
                  struct pl_decode_error *err)
{
    struct reader r = {
        .start = data, .at = data, .end = data + len, .values_left = len, .arena = a, .err = err};
    struct pl_value *root = pl_arena_alloc(a, sizeof(*root));
    int status = read_value(&r, root);

    if (status != 0) {
        return status;
    }
    if (r.at != r.end) {
        return fail(&r, PL_ERR_MALFORMED, PL_TEXT_LONG);
    }
    *ret = root;
    return 0;
}

static int append(void *out, const char *bytes, size_t len)
{
    pl_buf_append(out, bytes, len);
    return 0;
}

static msgpack_packer packer(struct pl_buf *out)
{
    return (msgpack_packer){.data = out, .callback = append};
}

static void put_map(struct pl_buf *out, size_t member_count)
{
    msgpack_packer p = packer(out);

    (void)msgpack_pack_map(&p, member_count);
}

static void put_array(struct pl_buf *out, size_t count)
{
    msgpack_packer p = packer(out);

    (void)msgpack_pack_array(&p, count);
}

static void put_str(struct pl_buf *out, struct pl_str s)
{
    msgpack_packer p = packer(out);

    (void)msgpack_pack_str(&p, s.len);
    (void)msgpack_pack_str_body(&p, s.s, s.len);
}

static void put_integer(struct pl_buf *out, int64_t n)
{
    msgpack_packer p = packer(out);

    (void)msgpack_pack_int64(&p, n);
}

static void put_real(struct pl_buf *out, double d)
{
    msgpack_packer p = packer(out);

    (void)msgpack_pack_double(&p, d);
}

static void put_boolean(struct pl_buf *out, bool b)
{
    msgpack_packer p = packer(out);

    (void)(b ? msgpack_pack_true(&p) : msgpack_pack_false(&p));
}

static void put_null(struct pl_buf *out)
{
    msgpack_packer p = packer(out);

    (void)msgpack_pack_nil(&p);
}

const struct pl_codec_ops pl_codec__msgpack = {
    .decode = decode,
    .map = put_map,
    .array = put_array,
    .str = put_str,
    .integer = put_integer,
    .real = put_real,
    .boolean = put_boolean,
    .null = put_null,
};
