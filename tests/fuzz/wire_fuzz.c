#include <stdlib.h>
#include <string.h>

#include "protocol/request.h"
#include "server/base/alloc.h"
#include "server/bus/redis_wire.h"

/* What comes out of Redis, from the announcement to the event the core is told: it can be encoded for clients, and
 * encoded for Redis it is the same again. */

static void check_lists(const struct pl_bus_event *e)
{
    PL_ASSERT(e->channel_count >= 1);
    for (size_t i = 1; i < e->channel_count; i++) {
        PL_ASSERT(pl_str_compare(e->channels[i - 1], e->channels[i]) < 0);
    }
    PL_ASSERT(e->has_subscribers || e->subscriber_count == 0);
    for (size_t i = 1; i < e->subscriber_count; i++) {
        PL_ASSERT(pl_str_compare(e->subscribers[i - 1], e->subscribers[i]) < 0);
    }
}

static void check_event(enum pl_redis_form form, struct pl_str payload)
{
    const struct pl_request_limits limits = {.channels = 1000, .recipients = 20000};
    struct pl_arena arena = {0};
    struct pl_buf out = {0}, again = {0};
    struct pl_bus_event e, copy;

    if (pl_redis_decode_event(form, payload, &limits, &arena, &e) == 0) {
        check_lists(&e);
        pl_event_encode(PL_JSON, 1, e.body, &again);
        pl_event_encode(PL_MSGPACK, 1, e.body, &again);
        again.len = 0;
        pl_redis_encode_event(&e, &out);
        PL_ASSERT(pl_redis_decode_event(PL_REDIS_EVENT,
                                        (struct pl_str){(const char *)out.data, out.len}, &limits,
                                        &arena, &copy) == 0);
        pl_redis_encode_event(&copy, &again);
        PL_ASSERT(out.len == again.len && memcmp(out.data, again.data, out.len) == 0);
    }
    pl_buf_done(&out);
    pl_buf_done(&again);
    pl_arena_done(&arena);
}

static void check_change(struct pl_str payload)
{
    struct pl_arena arena = {0};
    struct pl_buf out = {0};
    struct pl_bus_change c;

    if (pl_redis_decode_change(payload, &arena, &c) == 0) {
        PL_ASSERT((c.membership == NULL) == (c.kind == PL_CHANGE_DISCONNECT));
        pl_redis_encode_change(&c, &out);
        PL_ASSERT(pl_redis_decode_change((struct pl_str){(const char *)out.data, out.len}, &arena,
                                         &c) == 0);
    }
    pl_buf_done(&out);
    pl_arena_done(&arena);
}

static void check_news(struct pl_str message)
{
    struct pl_arena arena = {0};
    struct pl_redis_news n;

    if (pl_redis_parse_news(message, &arena, &n) == 0 && n.what != 0) {
        PL_ASSERT(n.id >= 0 && n.payload.len <= message.len);
        if (n.what == 'E' || n.what == 'J') {
            check_event(n.what == 'E' ? PL_REDIS_EVENT : PL_REDIS_JSON, n.payload);
        } else if (n.what == 'H') {
            check_change(n.payload);
        }
    }
    pl_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of its exact size, so that a read beyond it is seen. */
    char *bytes = malloc(size > 0 ? size : 1);
    struct pl_str text = {bytes, size};

    if (size > 0) {
        memcpy(bytes, data, size);
    }
    check_news(text);
    check_event(PL_REDIS_EVENT, text);
    check_event(PL_REDIS_JSON, text);
    check_change(text);
    free(bytes);
    return 0;
}
