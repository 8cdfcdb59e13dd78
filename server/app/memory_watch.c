#include "server/app/memory_watch.h"

#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/memory.h"

enum {
    LOOK_MS = 1000,
    TRIM_MS = 10000,
    TRIM_SHORT_MS = 5000,
    WORTH_BYTES = 1 << 20, /* so much that is free is given back */
};

static const char *const names[] = {
    [PL_MEMORY_ENOUGH] = "enough",
    [PL_MEMORY_SHORT] = "short",
    [PL_MEMORY_OUT] = "out",
};

/* What is free in the process's own hands is resident, too: it goes before anybody is refused, and
 * while somebody is. */
static uint64_t resident(struct pl_memory_watch *w, uint64_t now, uint64_t limit)
{
    uint64_t bytes = pl_memory_resident();
    const bool is_over = limit > 0 && bytes >= limit - limit / 16;

    if (now - w->trimmed_ms >= (is_over ? TRIM_SHORT_MS : TRIM_MS)) {
        w->trimmed_ms = now;
        if (pl_alloc_trim(is_over ? 0 : WORTH_BYTES)) {
            bytes = pl_memory_resident();
        }
    }
    return bytes;
}

static void on_timer(struct pl_timer *t)
{
    struct pl_memory_watch *w = pl_container_of(t, struct pl_memory_watch, timer);
    const uint64_t now = pl_hub_mono_ms(w->node->hub);
    const uint64_t limit = (uint64_t)w->node->cfg->limits_memory;
    const enum pl_memory was = pl_memory_state;
    const uint64_t bytes = resident(w, now, limit);

    pl_memory_judge(bytes, limit);
    if (pl_memory_state != was) {
        pl_log(pl_memory_state > was ? PL_LOG_WARN : PL_LOG_INFO, "memory",
               PL_STR("state", names[pl_memory_state]), PL_INT("resident_bytes", bytes),
               PL_INT("limit_bytes", limit));
    }
    pl_timer_set(w->node->wheel, t, now + LOOK_MS);
}

void pl_memory_watch_begin(struct pl_memory_watch *w, const struct pl_node *n)
{
    w->node = n;
    w->trimmed_ms = pl_hub_mono_ms(n->hub);
    pl_timer_init(&w->timer, on_timer);
    pl_timer_set(n->wheel, &w->timer, w->trimmed_ms + LOOK_MS);
}

void pl_memory_watch_end(struct pl_memory_watch *w)
{
    pl_timer_cancel(w->node->wheel, &w->timer);
}
