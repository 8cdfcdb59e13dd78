#include "protocol/value_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"

const struct pl_codec_ops *pl_codec__ops(enum pl_codec codec)
{
    static const struct pl_codec_ops *const ops[PL_CODEC_COUNT] = {
        [PL_JSON] = &pl_codec__json,
        [PL_MSGPACK] = &pl_codec__msgpack,
    };

    PL_ASSERT((unsigned)codec < PL_CODEC_COUNT);
    return ops[codec];
}

bool pl_str_eq(struct pl_str a, struct pl_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.s, b.s, a.len) == 0);
}

int pl_str_compare(struct pl_str a, struct pl_str b)
{
    const size_t common = a.len < b.len ? a.len : b.len;
    const int order = common > 0 ? memcmp(a.s, b.s, common) : 0;

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

int pl_str_order(const void *a, const void *b)
{
    return pl_str_compare(*(const struct pl_str *)a, *(const struct pl_str *)b);
}

struct pl_arena_chunk {
    struct pl_arena_chunk *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char bytes[];
};

/* A chunk holds most messages whole, and malloc has one of this size at hand (more than 1032 bytes
 * would be cut from the heap, and what is made meanwhile would stand in its hole); a big message
 * doubles its way up to chunk_max. */
static const size_t chunk_min = 1024 - sizeof(struct pl_arena_chunk);
static const size_t chunk_max = (size_t)64 * 1024;

static struct pl_arena_chunk *add_chunk(struct pl_arena *a, size_t need)
{
    size_t size = a->chunks ? 2 * a->chunks->size : chunk_min;
    struct pl_arena_chunk *chunk;

    if (size > chunk_max) {
        size = chunk_max;
    }
    if (size < need) {
        size = need;
    }
    chunk = pl_realloc(NULL, sizeof(*chunk) + size); /* not pl_alloc: no need to zero it */
    chunk->used = 0;
    chunk->size = size;
    chunk->next = a->chunks;
    a->chunks = chunk;
    return chunk;
}

void *pl_arena_alloc(struct pl_arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    struct pl_arena_chunk *chunk = a->chunks;
    void *ret;

    PL_ASSERT(size <= SIZE_MAX / 4);
    size = (size + align - 1) / align * align;
    if (!chunk || chunk->size - chunk->used < size) {
        chunk = add_chunk(a, size);
    }
    ret = chunk->bytes + chunk->used;
    chunk->used += size;
    return ret;
}

void pl_arena_done(struct pl_arena *a)
{
    while (a->chunks) {
        struct pl_arena_chunk *chunk = a->chunks;

        a->chunks = chunk->next;
        free(chunk);
    }
}

const struct pl_value *pl_value_get(const struct pl_value *v, const char *key)
{
    const struct pl_str wanted = {key, strlen(key)};

    if (!v || v->type != PL_MAP) {
        return NULL;
    }
    for (size_t i = 0; i < v->u.map.count; i++) {
        if (pl_str_eq(v->u.map.members[i].key, wanted)) {
            return &v->u.map.members[i].value;
        }
    }
    return NULL;
}

bool pl_value_int(const struct pl_value *v, const char *key, int64_t *ret)
{
    const struct pl_value *member = pl_value_get(v, key);

    if (member == NULL || member->type != PL_INT_VALUE) {
        return false;
    }
    *ret = member->u.integer;
    return true;
}

int pl_decode(enum pl_codec codec, const void *data, size_t len, struct pl_arena *a,
              const struct pl_value **ret, struct pl_decode_error *err)
{
    struct pl_decode_error ignored;

    /* An empty body may come without an address. */
    return pl_codec__ops(codec)->decode(len > 0 ? data : "", len, a, ret, err ? err : &ignored);
}

int pl_decode__fail(struct pl_decode_error *err, int status, size_t offset, const char *text)
{
    err->offset = offset;
    (void)snprintf(err->text, sizeof(err->text), "%s", text);
    return status;
}

/* Any total order will do; length first spares most of the memcmp. */
static int compare_keys(const void *left, const void *right)
{
    const struct pl_str *a = left, *b = right;

    if (a->len != b->len) {
        return a->len < b->len ? -1 : 1;
    }
    return a->len == 0 ? 0 : memcmp(a->s, b->s, a->len);
}

static bool unique_among_few(const struct pl_member *members, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (pl_str_eq(members[i].key, members[j].key)) {
                return false;
            }
        }
    }
    return true;
}

bool pl_value__unique_keys(const struct pl_member *members, size_t count, struct pl_arena *a)
{
    struct pl_str *keys;

    if (count <= 16) {
        return unique_among_few(members, count);
    }
    keys = pl_arena_alloc(a, count * sizeof(*keys));
    for (size_t i = 0; i < count; i++) {
        keys[i] = members[i].key;
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (compare_keys(&keys[i - 1], &keys[i]) == 0) {
            return false;
        }
    }
    return true;
}
