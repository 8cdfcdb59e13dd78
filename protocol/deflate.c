#include "protocol/deflate_priv.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "protocol/status.h"
#include "server/base/alloc.h"

enum {
    LEVEL = 6,
    MEM_LEVEL = 8,
    WINDOW_BITS = -15, /* raw deflate, 32 KiB */
    SCRATCH_KEPT = 64 * 1024,
    AT_BLOCK_START = 128, /* in inflate's data_type: between two blocks */
};

static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};

/* No message needs the context of another, so one of each serves all connections, and none of
 * them costs zlib's 300 KB. */
struct engine {
    z_stream z;
    bool ready;
    uint8_t *out;
    size_t cap;
};
static struct engine deflater, inflater;

/* A buffer that one unusual message made large is given back before the next. */
static void give_back(struct engine *e)
{
    if (e->cap > SCRATCH_KEPT) {
        free(e->out);
        e->out = NULL;
        e->cap = 0;
    }
}

static bool grow(struct engine *e, size_t cap)
{
    uint8_t *out;

    if (cap <= e->cap) {
        return true;
    }
    out = pl_try_realloc(e->out, cap);
    if (out == NULL) {
        return false;
    }
    e->out = out;
    e->cap = cap;
    return true;
}

static bool begin_deflate(void)
{
    struct engine *e = &deflater;

    give_back(e);
    if (!e->ready) {
        e->ready = deflateInit2(&e->z, LEVEL, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL,
                                Z_DEFAULT_STRATEGY) == Z_OK;
        return e->ready;
    }
    return deflateReset(&e->z) == Z_OK;
}

bool pl_deflate__message(const void *data, size_t len, struct pl_bytes *ret)
{
    z_stream *z = &deflater.z;
    const size_t room = len + sizeof(tail); /* what fills it is no gain */

    if (room > UINT_MAX || !begin_deflate() || !grow(&deflater, room)) {
        return false;
    }
    z->next_in = (z_const Bytef *)data;
    z->avail_in = (uInt)len;
    z->next_out = deflater.out;
    z->avail_out = (uInt)room;
    if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_out == 0) {
        return false;
    }
    *ret = (struct pl_bytes){deflater.out, room - z->avail_out - sizeof(tail)};
    return true;
}

/* RFC 1952: no name, no time, unknown system. */
static const uint8_t gzip_head[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
static const uint8_t last_block[] = {0x03, 0x00}; /* empty, with fixed codes, and the final one */

static uint8_t *put(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static uint8_t *put_number(uint8_t *at, uint32_t n)
{
    for (int i = 0; i < 4; i++) {
        *at++ = (uint8_t)(n >> 8 * i);
    }
    return at;
}

size_t pl_deflate__gzip_size(size_t deflated_len)
{
    return sizeof(gzip_head) + deflated_len + sizeof(tail) + sizeof(last_block) + 8;
}

void pl_deflate__gzip(struct pl_bytes plain, struct pl_bytes deflated, uint8_t *out)
{
    out = put(out, gzip_head, sizeof(gzip_head));
    out = put(out, deflated.data, deflated.len);
    out = put(out, tail, sizeof(tail));
    out = put(out, last_block, sizeof(last_block));
    out = put_number(out, (uint32_t)crc32(0, plain.data, (uInt)plain.len));
    (void)put_number(out, (uint32_t)plain.len);
}

static bool begin_inflate(void)
{
    struct engine *e = &inflater;

    give_back(e);
    if (!e->ready) {
        e->ready = inflateInit2(&e->z, WINDOW_BITS) == Z_OK;
        return e->ready;
    }
    return inflateReset(&e->z) == Z_OK;
}

/* Points zlib at room behind `size` bytes of output, which are fewer than limit. */
static bool offer_room(struct engine *e, size_t size, size_t limit)
{
    size_t room;

    if (size == e->cap || e->cap == 0) {
        const size_t cap = e->cap > 0 ? 2 * e->cap : SCRATCH_KEPT / 4;

        if (!grow(e, cap < limit ? cap : limit)) {
            return false;
        }
    }
    room = (e->cap < limit ? e->cap : limit) - size;
    e->z.next_out = e->out + size;
    e->z.avail_out = room < UINT_MAX ? (uInt)room : UINT_MAX;
    return true;
}

/* Inflates all of data behind *size bytes of output; *ended: exactly at the end of a final
 * block. A final block need not be the last (RFC 7692, 7.2.3.4); what follows it begins without
 * history. */
static int inflate_all(const void *data, size_t len, size_t limit, size_t *size, bool *ended)
{
    struct engine *e = &inflater;
    int err;

    e->z.next_in = (z_const Bytef *)data;
    e->z.avail_in = (uInt)len;
    do {
        if (!offer_room(e, *size, limit)) {
            return PL_ERR_NOMEM;
        }
        err = inflate(&e->z, Z_SYNC_FLUSH);
        *size = (size_t)(e->z.next_out - e->out);
        if (*size == limit) {
            return PL_ERR_TOO_BIG;
        }
        *ended = err == Z_STREAM_END && e->z.avail_in == 0;
        if (err == Z_STREAM_END && !*ended) {
            err = inflateReset(&e->z);
        }
        if (err == Z_MEM_ERROR) {
            return PL_ERR_NOMEM;
        }
        if (err != Z_OK && err != Z_BUF_ERROR && err != Z_STREAM_END) {
            return PL_ERR_MALFORMED;
        }
    } while (!*ended && (e->z.avail_in > 0 || e->z.avail_out == 0));
    return PL_OK;
}

/* The tail is an empty stored block. In a message that stops inside a block it becomes data, or
 * leaves zlib waiting. */
static int inflate_tail(size_t limit, size_t *size)
{
    const size_t before = *size;
    bool ended;
    int err = inflate_all(tail, sizeof(tail), limit, size, &ended);

    if (err != 0) {
        return err == PL_ERR_TOO_BIG ? PL_ERR_MALFORMED : err;
    }
    if (*size != before) {
        return PL_ERR_MALFORMED;
    }
    return ended || (inflater.z.data_type & AT_BLOCK_START) ? PL_OK : PL_ERR_MALFORMED;
}

int pl_inflate(const void *data, size_t len, size_t max, struct pl_bytes *ret)
{
    size_t size = 0;
    bool ended = false;
    int err;

    PL_ASSERT(max < SIZE_MAX);
    if (len > UINT_MAX) {
        return PL_ERR_TOO_BIG;
    }
    if (!begin_inflate()) {
        return PL_ERR_NOMEM;
    }
    err = inflate_all(data, len, max + 1, &size, &ended);
    if (err == 0 && !ended) {
        err = inflate_tail(max + 1, &size);
    }
    if (err != 0) {
        return err;
    }
    *ret = (struct pl_bytes){inflater.out, size};
    return PL_OK;
}

size_t pl_deflate__scratch(void)
{
    return deflater.cap + inflater.cap;
}

void pl_deflate_done(void)
{
    if (deflater.ready) {
        deflateEnd(&deflater.z);
    }
    if (inflater.ready) {
        inflateEnd(&inflater.z);
    }
    free(deflater.out);
    free(inflater.out);
    deflater = (struct engine){0};
    inflater = (struct engine){0};
}
