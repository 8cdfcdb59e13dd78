#include "protocol/value_priv.h"

#include <math.h>
#include <string.h>

#include "server/base/alloc.h"

static const struct pl_codec_ops *ops_of(const struct pl_writer *w)
{
    return pl_codec__ops(w->codec);
}

void pl_writer_init(struct pl_writer *w, enum pl_codec codec, struct pl_buf *out)
{
    w->codec = codec;
    w->out = out;
    w->depth = 0;
}

/* Before anything is put: is it allowed here, and what separates it from what came before? */
static void begin(struct pl_writer *w, bool is_key)
{
    enum pl_codec_place place = PL_PLACE_ELEMENT;
    bool first;

    if (w->depth == 0) {
        PL_ASSERT(!is_key);
        return;
    }
    if (w->stack[w->depth - 1].is_map) {
        place = w->stack[w->depth - 1].left % 2 == 0 ? PL_PLACE_KEY : PL_PLACE_MEMBER_VALUE;
    }
    PL_ASSERT(is_key == (place == PL_PLACE_KEY));
    first = !w->stack[w->depth - 1].started;
    w->stack[w->depth - 1].started = 1;
    if (ops_of(w)->separate) {
        ops_of(w)->separate(w->out, place, first);
    }
}

/* After anything that is whole: the containers it filled are whole too. */
static void end(struct pl_writer *w)
{
    while (w->depth > 0) {
        w->stack[w->depth - 1].left--;
        if (w->stack[w->depth - 1].left > 0) {
            return;
        }
        w->depth--;
        if (ops_of(w)->close) {
            ops_of(w)->close(w->out, w->stack[w->depth].is_map);
        }
    }
}

static void open_container(struct pl_writer *w, size_t items, bool is_map)
{
    if (items == 0) {
        if (ops_of(w)->close) {
            ops_of(w)->close(w->out, is_map);
        }
        end(w);
        return;
    }
    PL_ASSERT(items <= UINT32_MAX);
    PL_ASSERT(w->depth < sizeof(w->stack) / sizeof(w->stack[0]));
    w->stack[w->depth].left = (uint32_t)items;
    w->stack[w->depth].is_map = is_map;
    w->stack[w->depth].started = 0;
    w->depth++;
}

void pl_write_map(struct pl_writer *w, size_t member_count)
{
    PL_ASSERT(member_count <= UINT32_MAX / 2);
    begin(w, false);
    ops_of(w)->map(w->out, member_count);
    open_container(w, 2 * member_count, true);
}

void pl_write_array(struct pl_writer *w, size_t count)
{
    begin(w, false);
    ops_of(w)->array(w->out, count);
    open_container(w, count, false);
}

void pl_write_key_str(struct pl_writer *w, struct pl_str key)
{
    begin(w, true);
    ops_of(w)->str(w->out, key);
    end(w);
}

void pl_write_key(struct pl_writer *w, const char *key)
{
    pl_write_key_str(w, (struct pl_str){key, strlen(key)});
}

void pl_write_str(struct pl_writer *w, struct pl_str s)
{
    begin(w, false);
    ops_of(w)->str(w->out, s);
    end(w);
}

void pl_write_cstr(struct pl_writer *w, const char *s)
{
    pl_write_str(w, (struct pl_str){s, strlen(s)});
}

void pl_write_int(struct pl_writer *w, int64_t n)
{
    PL_ASSERT(n >= -PL_INT_MAX && n <= PL_INT_MAX);
    begin(w, false);
    ops_of(w)->integer(w->out, n);
    end(w);
}

void pl_write_real(struct pl_writer *w, double d)
{
    PL_ASSERT(isfinite(d));
    begin(w, false);
    ops_of(w)->real(w->out, d);
    end(w);
}

void pl_write_bool(struct pl_writer *w, bool b)
{
    begin(w, false);
    ops_of(w)->boolean(w->out, b);
    end(w);
}

void pl_write_null(struct pl_writer *w)
{
    begin(w, false);
    ops_of(w)->null(w->out);
    end(w);
}

void pl_write_raw(struct pl_writer *w, const void *bytes, size_t len)
{
    begin(w, false);
    pl_buf_append(w->out, bytes, len);
    end(w);
}

static void write_array_value(struct pl_writer *w, const struct pl_value *v)
{
    pl_write_array(w, v->u.array.count);
    for (size_t i = 0; i < v->u.array.count; i++) {
        pl_write_value(w, &v->u.array.items[i]);
    }
}

static void write_map_value(struct pl_writer *w, const struct pl_value *v)
{
    pl_write_map(w, v->u.map.count);
    for (size_t i = 0; i < v->u.map.count; i++) {
        pl_write_key_str(w, v->u.map.members[i].key);
        pl_write_value(w, &v->u.map.members[i].value);
    }
}

void pl_write_value(struct pl_writer *w, const struct pl_value *v)
{
    switch (v->type) {
    case PL_NULL:
        pl_write_null(w);
        break;
    case PL_BOOL:
        pl_write_bool(w, v->u.boolean);
        break;
    case PL_INT_VALUE:
        pl_write_int(w, v->u.integer);
        break;
    case PL_REAL:
        pl_write_real(w, v->u.real);
        break;
    case PL_STRING:
        pl_write_str(w, v->u.string);
        break;
    case PL_ARRAY:
        write_array_value(w, v);
        break;
    case PL_MAP:
        write_map_value(w, v);
        break;
    }
}
