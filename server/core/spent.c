#include <stddef.h>
#include <stdlib.h>

#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

#define OPTION(name) offsetof(struct pl_config, limits_##name)

/* A rate, where its option is, and what counts those over it. */
struct limit {
    size_t option; /* offset of an int64_t in struct pl_config; 0: there is none */
    enum pl_series refused;
};

static const struct {
    struct limit of_queue, of_user;
} limits[PL_USE_COUNT] = {
    [PL_USE_MESSAGES] = {{OPTION(messages_per_s), PL_S_LIMITED_MESSAGES},
                         {OPTION(user_messages_per_s), PL_S_LIMITED_USER_MESSAGES}},
    [PL_USE_BYTES] = {{OPTION(bytes_per_s), PL_S_LIMITED_BYTES},
                      {OPTION(user_bytes_per_s), PL_S_LIMITED_USER_BYTES}},
    [PL_USE_POLLS] = {{OPTION(polls_per_s), PL_S_LIMITED_POLLS}, {0, 0}},
    [PL_USE_PUBLISHES] = {{OPTION(publishes_per_s), PL_S_LIMITED_PUBLISHES},
                          {OPTION(user_publishes_per_s), PL_S_LIMITED_USER_PUBLISHES}},
};

static uint32_t per_s(const struct pl_hub *h, const struct limit *l)
{
    return l->option == 0 ? 0 : (uint32_t) * (const int64_t *)((const char *)h->cfg + l->option);
}

/* Twice the rate; of bytes, one message at least. */
static uint32_t burst(const struct pl_hub *h, enum pl_use use, uint32_t rate)
{
    const uint32_t message = (uint32_t)h->cfg->limits_message_bytes;

    return use == PL_USE_BYTES && 2 * rate < message ? message : 2 * rate;
}

static bool take(struct pl_hub *h, struct pl_spent **owner, enum pl_use use, size_t count,
                 uint32_t rate)
{
    struct pl_spent *s = *owner;

    if (s == NULL) {
        s = *owner = pl_alloc(sizeof(*s));
        s->owner = owner;
    } else {
        pl_list_remove(&s->node);
    }
    pl_list_append(&h->spent, &s->node);
    return pl_rate_take(&s->rates[use], count < UINT32_MAX ? (uint32_t)count : UINT32_MAX, rate,
                        burst(h, use, rate), h->mono_ms);
}

bool pl_queue_take(struct pl_queue *q, enum pl_use use, size_t count)
{
    struct pl_hub *h = q->hub;
    const uint32_t queue_rate = per_s(h, &limits[use].of_queue);
    const uint32_t user_rate = per_s(h, &limits[use].of_user);
    struct pl_rate before = {0};

    if (q->spent != NULL) {
        before = q->spent->rates[use];
    }
    if (queue_rate > 0 && !take(h, &q->spent, use, count, queue_rate)) {
        pl_metric_add(limits[use].of_queue.refused, 1);
        return false;
    }
    if (user_rate > 0 && !take(h, &q->user->spent, use, count, user_rate)) {
        if (queue_rate > 0) {
            q->spent->rates[use] = before;
        }
        pl_metric_add(limits[use].of_user.refused, 1);
        return false;
    }
    return true;
}

void pl_spent__forget(struct pl_spent *s)
{
    if (s != NULL) {
        *s->owner = NULL;
        pl_list_remove(&s->node);
        free(s);
    }
}

static bool is_full(const struct pl_spent *s, uint64_t now_ms)
{
    for (size_t i = 0; i < PL_USE_COUNT; i++) {
        if (!pl_rate_is_full(&s->rates[i], now_ms)) {
            return false;
        }
    }
    return true;
}

/* Those in use come after those that are not, so whoever is not full yet keeps the rest waiting, but
 * never for longer than a bucket takes to fill. */
void pl_spent__sweep(struct pl_hub *h)
{
    while (!pl_list_empty(&h->spent)) {
        struct pl_spent *s = pl_container_of(h->spent.next, struct pl_spent, node);

        if (!is_full(s, h->mono_ms)) {
            return;
        }
        pl_spent__forget(s);
    }
}
