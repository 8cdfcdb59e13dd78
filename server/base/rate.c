#include "server/base/rate.h"

enum {
    NS_PER_MS = 1000000
};

static uint64_t cost_ns(uint32_t count, uint32_t per_s)
{
    return (uint64_t)count * 1000 * NS_PER_MS / per_s;
}

bool pl_rate_take(struct pl_rate *r, uint32_t count, uint32_t per_s, uint32_t burst,
                  uint64_t now_ms)
{
    uint64_t now_ns = now_ms * NS_PER_MS;
    uint64_t full_at_ns = r->full_at_ns > now_ns ? r->full_at_ns : now_ns;
    uint64_t next_ns = full_at_ns + cost_ns(count < burst ? count : burst, per_s);

    if (next_ns > now_ns + cost_ns(burst, per_s)) {
        return false;
    }
    r->full_at_ns = next_ns;
    return true;
}

bool pl_rate_is_full(const struct pl_rate *r, uint64_t now_ms)
{
    return r->full_at_ns <= now_ms * NS_PER_MS;
}
