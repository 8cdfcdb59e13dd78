#ifndef PL_BASE_RATE_H
#define PL_BASE_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* A rate limit in one number (GCRA, the leaky bucket of ITU-T I.371): the time at which the bucket
 * would be full again. Holds no clock and no configuration, so a changed limit counts at once. */
struct pl_rate {
    uint64_t full_at_ns; /* monotonic; 0: untouched */
};

/* Takes `count` and returns true, or takes none and returns false. count: > 0; what is more than a
 * burst counts as one. per_s: the sustained rate, > 0; burst: how many at once, > 0. A clock that
 * goes backwards gives nothing: what it had given is given again only once it has caught up. */
bool pl_rate_take(struct pl_rate *r, uint32_t count, uint32_t per_s, uint32_t burst,
                  uint64_t now_ms);

/* Then it is as good as one that was never used. */
bool pl_rate_is_full(const struct pl_rate *r, uint64_t now_ms);

#endif
