#include "server/app/workplace.h"

#include <fcntl.h>
#include <unistd.h>

#include "server/api/api.h"
#include "server/base/log.h"

enum {
    LOOK_MS = 250, /* how often the slot is brought up to date */
    WAIT_MS = 5,   /* and how often a worker that does not accept yet looks if it may */
    /* How long it waits for its bus: then it takes part in saying so. */
    PATIENCE_MS = 10000,
    LONELY_PATIENCE_MS = 1000, /* if nobody else would answer */
};

bool pl_workplace_init(struct pl_workplace *p, const struct pl_inherited *in)
{
    p->board = pl_board_open(in->board);
    if (p->board == NULL) {
        return false;
    }
    close(in->board);
    (void)fcntl(in->control, F_SETFD, FD_CLOEXEC);
    p->number = (unsigned)in->slot;
    p->slot = &p->board->slots[in->slot];
    p->control = in->control;
    p->waits = in->wait != 0;
    pl_life_hold(&p->slot->life);
    pl_metrics_use(&p->slot->metrics);
    return true;
}

/* ---- how it is ---- */

static void update(struct pl_workplace *p)
{
    pl_api_set_gauges(p->node);
    p->slot->ready = p->accepting && pl_api_is_fit(p->node);
    p->slot->draining = p->node->draining;
}

static void accept_now(struct pl_workplace *p)
{
    p->accepting = true;
    pl_net_accept(p->net);
    update(p);
    (void)!write(p->control, "+", 1);
    pl_log(PL_LOG_INFO, "accepting", PL_INT("worker", p->number),
           PL_INT("after_ms", pl_hub_mono_ms(p->node->hub) - p->began_ms));
}

static void on_look(struct pl_timer *t)
{
    struct pl_workplace *p = pl_container_of(t, struct pl_workplace, look);
    uint64_t now = pl_hub_mono_ms(p->node->hub);

    if (!p->accepting && !p->node->draining &&
        (pl_api_is_fit(p->node) ||
         now - p->began_ms >= (p->waits ? PATIENCE_MS : LONELY_PATIENCE_MS))) {
        accept_now(p);
    }
    update(p);
    pl_timer_set(p->node->wheel, t, now + (p->accepting ? LOOK_MS : WAIT_MS));
}

/* ---- what the edges ask ---- */

static void together(const struct pl_node *n, struct pl_together *ret)
{
    struct pl_workplace *p = n->workplace;
    struct pl_board_sums sums;

    update(p);
    pl_board_sum(p->board, &sums);
    *ret = (struct pl_together){
        .workers = p->board->wanted,
        .ready = sums.ready,
        .renewed = sums.renewed,
        .queues = sums.queues,
        .pending_polls = sums.pending_polls,
        .stopping = p->board->stopping != 0,
    };
}

static void export_metrics(const struct pl_node *n, struct pl_buf *out)
{
    const struct pl_workplace *p = n->workplace;

    pl_board_export(p->board, out);
}

/* ---- life ---- */

static void on_line(uv_poll_t *line, int status, int events)
{
    struct pl_workplace *p = pl_container_of(line, struct pl_workplace, line);
    char bytes[16];

    (void)events;
    if (status < 0 || read(p->control, bytes, sizeof(bytes)) == 0) {
        uv_poll_stop(line);
        pl_log(PL_LOG_ERROR, "master_gone", PL_INT("worker", p->number));
        p->orphaned(p->arg);
    }
}

void pl_workplace_begin(struct pl_workplace *p, struct pl_node *n, struct pl_net *net,
                        void (*orphaned)(void *arg), void *arg)
{
    p->node = n;
    p->net = net;
    p->orphaned = orphaned;
    p->arg = arg;
    p->began_ms = pl_hub_mono_ms(n->hub);
    n->workplace = p;
    n->running = &p->board->running;
    n->together = together;
    n->export_metrics = export_metrics;
    uv_poll_init(pl_net_loop(net), &p->line, p->control);
    uv_poll_start(&p->line, UV_READABLE | UV_DISCONNECT, on_line);
    pl_timer_init(&p->look, on_look);
    on_look(&p->look);
}

bool pl_workplace_is_closing(const struct pl_workplace *p)
{
    return p->board->stopping != 0;
}

void pl_workplace_leave(struct pl_workplace *p)
{
    pl_timer_cancel(p->node->wheel, &p->look);
    uv_close((uv_handle_t *)&p->line, NULL);
}
