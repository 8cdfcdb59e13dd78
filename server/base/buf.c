#include "server/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"

enum {
    FIRST_CAP = 64
};

void pl_buf_done(struct pl_buf *b)
{
    free(b->data);
    *b = (struct pl_buf){0};
}

void pl_buf_reserve(struct pl_buf *b, size_t more)
{
    size_t cap = b->cap > 0 ? b->cap : FIRST_CAP;

    if (more <= b->cap - b->len) {
        return;
    }
    /* No object is larger than PTRDIFF_MAX, so below it doubling cannot overflow. */
    PL_ASSERT(more <= PTRDIFF_MAX - b->len);
    while (cap < b->len + more) {
        cap *= 2;
    }
    b->data = pl_realloc(b->data, cap);
    b->cap = cap;
}

void pl_buf_append(struct pl_buf *b, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    pl_buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void pl_buf_append_str(struct pl_buf *b, const char *s)
{
    pl_buf_append(b, s, strlen(s));
}

void pl_buf_append_byte(struct pl_buf *b, uint8_t byte)
{
    pl_buf_reserve(b, 1);
    b->data[b->len++] = byte;
}

void pl_buf_printf(struct pl_buf *b, const char *fmt, ...)
{
    va_list args;
    size_t room;
    int len;

    pl_buf_reserve(b, FIRST_CAP);
    room = b->cap - b->len;
    va_start(args, fmt);
    len = vsnprintf((char *)b->data + b->len, room, fmt, args);
    va_end(args);
    PL_ASSERT(len >= 0);

    if ((size_t)len >= room) {
        pl_buf_reserve(b, (size_t)len + 1);
        va_start(args, fmt);
        len = vsnprintf((char *)b->data + b->len, (size_t)len + 1, fmt, args);
        va_end(args);
    }
    b->len += (size_t)len;
}

void pl_buf_consume(struct pl_buf *b, size_t n)
{
    PL_ASSERT(n <= b->len);
    if (n == b->len) {
        pl_buf_done(b);
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

const char *pl_buf_cstr(struct pl_buf *b)
{
    if (b->len == 0) {
        return "";
    }
    pl_buf_reserve(b, 1);
    b->data[b->len] = '\0';
    return (const char *)b->data;
}
