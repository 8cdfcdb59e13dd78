#include <string.h>

#include "server/bus/redis_conn.h"

void pl_redis_args_done(struct pl_redis_args *a)
{
    pl_buf_done(&a->bytes);
    a->count = 0;
}

void pl_redis_arg(struct pl_redis_args *a, const void *bytes, size_t len)
{
    pl_buf_printf(&a->bytes, "$%zu\r\n", len);
    pl_buf_append(&a->bytes, bytes, len);
    pl_buf_append(&a->bytes, "\r\n", 2);
    a->count++;
}

void pl_redis_arg_str(struct pl_redis_args *a, struct pl_str s)
{
    pl_redis_arg(a, s.s, s.len);
}

void pl_redis_arg_cstr(struct pl_redis_args *a, const char *s)
{
    pl_redis_arg(a, s, strlen(s));
}

void pl_redis_arg_int(struct pl_redis_args *a, int64_t n)
{
    struct pl_buf text = {0};

    pl_buf_printf(&text, "%lld", (long long)n);
    pl_redis_arg(a, text.data, text.len);
    pl_buf_done(&text);
}
