#include "protocol/frame.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/deflate_priv.h"
#include "server/base/alloc.h"
#include "server/base/buf.h"

enum {
    MAX_HEADER = 10,
    FIN = 0x80,
    RSV1 = 0x40,
    OPCODE_TEXT = 1,
    OPCODE_BINARY = 2,
    LEN_16 = 126, /* in the second byte: a length of 16 or 64 bits follows */
    LEN_64 = 127,
};

/* Room, WebSocket header and payload in one piece, so that a ready frame is one write. */
struct block {
    size_t header_len, payload_len;
    uint8_t bytes[];
};

struct pl_frame {
    unsigned refs;
    enum pl_codec codec;
    bool deflate_tried;
    struct block *plain;
    struct block *deflated; /* NULL: not tried, or no gain */
    struct block *gzip;     /* the same as a body of HTTP; NULL: not asked for */
};

size_t pl_websocket_header(uint8_t out[10], uint8_t opcode, bool rsv1, size_t len)
{
    const size_t len_bytes = len < LEN_16 ? 0 : len <= UINT16_MAX ? 2 : 8;

    out[0] = (uint8_t)(FIN | (rsv1 ? RSV1 : 0) | opcode);
    out[1] = (uint8_t)(len_bytes == 0 ? len : len_bytes == 2 ? LEN_16 : LEN_64);
    for (size_t i = 0; i < len_bytes; i++) {
        out[2 + i] = (uint8_t)((uint64_t)len >> (8 * (len_bytes - 1 - i)));
    }
    return 2 + len_bytes;
}

static struct block *block_new(enum pl_codec codec, bool deflated, struct pl_bytes payload)
{
    const uint8_t opcode = codec == PL_JSON ? OPCODE_TEXT : OPCODE_BINARY;
    uint8_t header[MAX_HEADER];
    const size_t header_len = pl_websocket_header(header, opcode, deflated, payload.len);
    struct block *b = pl_alloc(sizeof(*b) + PL_FRAME_ROOM + header_len + payload.len);

    b->header_len = header_len;
    b->payload_len = payload.len;
    memcpy(b->bytes + PL_FRAME_ROOM, header, header_len);
    if (payload.len > 0) {
        memcpy(b->bytes + PL_FRAME_ROOM + header_len, payload.data, payload.len);
    }
    return b;
}

static struct pl_bytes block_frame(const struct block *b)
{
    return (struct pl_bytes){b->bytes + PL_FRAME_ROOM, b->header_len + b->payload_len};
}

static struct pl_bytes block_payload(const struct block *b)
{
    return (struct pl_bytes){b->bytes + PL_FRAME_ROOM + b->header_len, b->payload_len};
}

static size_t block_memory(const struct block *b)
{
    return b == NULL ? 0 : sizeof(*b) + PL_FRAME_ROOM + b->header_len + b->payload_len;
}

struct pl_frame *pl_frame_new(enum pl_codec codec, struct pl_buf *payload)
{
    struct pl_frame *f = pl_alloc(sizeof(*f));

    f->refs = 1;
    f->codec = codec;
    f->plain = block_new(codec, false, (struct pl_bytes){payload->data, payload->len});
    pl_buf_done(payload);
    return f;
}

struct pl_frame *pl_frame_ref(struct pl_frame *f)
{
    PL_ASSERT(f->refs < UINT32_MAX);
    f->refs++;
    return f;
}

void pl_frame_unref(struct pl_frame *f)
{
    if (f == NULL || --f->refs > 0) {
        return;
    }
    free(f->plain);
    free(f->deflated);
    free(f->gzip);
    free(f);
}

enum pl_codec pl_frame_codec(const struct pl_frame *f)
{
    return f->codec;
}

struct pl_bytes pl_frame_payload(const struct pl_frame *f)
{
    return block_payload(f->plain);
}

struct pl_bytes pl_frame_websocket(const struct pl_frame *f)
{
    return block_frame(f->plain);
}

/* NULL: too small, or no gain. */
static const struct block *deflated(struct pl_frame *f, size_t min)
{
    if (f->plain->payload_len < min) {
        return NULL;
    }
    if (!f->deflate_tried) {
        const struct pl_bytes payload = block_payload(f->plain);
        struct pl_bytes shorter;

        f->deflate_tried = true;
        if (pl_deflate__message(payload.data, payload.len, &shorter)) {
            f->deflated = block_new(f->codec, true, shorter);
        }
    }
    return f->deflated;
}

struct pl_bytes pl_frame_websocket_deflated(struct pl_frame *f, size_t min)
{
    const struct block *b = deflated(f, min);

    return block_frame(b != NULL ? b : f->plain);
}

bool pl_frame_gzip(struct pl_frame *f, size_t min, struct pl_bytes *ret)
{
    const struct block *b = deflated(f, min);
    size_t size;

    if (b == NULL) {
        return false;
    }
    if (f->gzip == NULL) {
        size = pl_deflate__gzip_size(b->payload_len);
        f->gzip = pl_alloc(sizeof(*f->gzip) + PL_FRAME_ROOM + size);
        f->gzip->payload_len = size;
        pl_deflate__gzip(block_payload(f->plain), block_payload(b), f->gzip->bytes + PL_FRAME_ROOM);
    }
    *ret = block_payload(f->gzip);
    return true;
}

size_t pl_frame_memory(const struct pl_frame *f)
{
    return sizeof(*f) + block_memory(f->plain) + block_memory(f->deflated) + block_memory(f->gzip);
}
