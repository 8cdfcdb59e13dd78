#include "server/base/rate.h"

bool pl_rate_take(struct pl_rate *r, uint32_t per_s, uint32_t burst, uint64_t now_ms)
{
    uint64_t cost_us = UINT64_C(1000000) / per_s;
    uint64_t now_us = now_ms * 1000;
    uint64_t full_at_us = r->full_at_us > now_us ? r->full_at_us : now_us;

    if (full_at_us + cost_us > now_us + cost_us * burst) {
        return false;
    }
    r->full_at_us = full_at_us + cost_us;
    return true;
}
