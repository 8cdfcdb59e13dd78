#include "server/transport/longpoll.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/list.h"
#include "server/base/metrics.h"

enum {
    SETTLE_MS = 1000
};

/* A held poll: all that one client costs while it waits, beside its connection and its queue. */
struct poll {
    struct pl_waiting waiting; /* the connection's user pointer */
    struct pl_link link;
    struct pl_timer timer;
    uint64_t since_ms;
    struct pl_http_to to;
    char origin[];
};

/* Phase websocket says that polling is on its way out (RFC 9745, RFC 8594); the answer is the same.
 */
static void write_lines(const struct pl_node *n, bool compressed, char *out, size_t size)
{
    static const char always[] = "X-Accel-Buffering: no\r\n";
    static const char gzip[] = "X-Accel-Buffering: no\r\nContent-Encoding: gzip\r\n"
                               "Vary: Accept-Encoding\r\n";
    const char *sunset = n->cfg->transport_sunset;
    /* Only what fits a header line; a date does. */
    bool dated = sunset[0] != '\0' && strlen(sunset) < 64 && strpbrk(sunset, "\r\n") == NULL;

    if (n->cfg->transport_phase != PL_PHASE_WEBSOCKET) {
        memcpy(out, compressed ? gzip : always, compressed ? sizeof(gzip) : sizeof(always));
        return;
    }
    (void)snprintf(out, size,
                   "%sDeprecation: @%lld\r\n%s%s%sLink: </realtime/ws>; "
                   "rel=\"successor-version\"\r\n",
                   compressed ? gzip : always, (long long)(n->phase_since_ms / 1000),
                   dated ? "Sunset: " : "", dated ? sunset : "", dated ? "\r\n" : "");
}

static void poll_free(struct poll *p)
{
    pl_timer_cancel(p->to.node->wheel, &p->timer);
    free(p);
}

static void on_closed(struct pl_waiting *w)
{
    struct poll *p = pl_container_of(w, struct poll, waiting);

    pl_link_detach(&p->link);
    poll_free(p);
}

static void on_timeout(struct pl_timer *t)
{
    pl_queue_answer_empty(pl_container_of(t, struct poll, timer)->link.queue);
}

static bool poll_send(struct pl_link *l, struct pl_frame *f, uint32_t events)
{
    struct poll *p = pl_container_of(l, struct poll, link);
    const struct pl_config *cfg = p->to.node->cfg;
    struct pl_bytes body = pl_frame_payload(f);
    bool compressed = p->to.gzip && cfg->longpoll_compression &&
                      pl_frame_gzip(f, (size_t)cfg->longpoll_compression_min, &body);
    char lines[320];

    pl_metric_observe_us(events > 0 ? PL_S_POLL_EVENTS : PL_S_POLL_EMPTY,
                         (pl_hub_mono_ms(p->to.node->hub) - p->since_ms) * 1000, 1);
    write_lines(p->to.node, compressed, lines, sizeof(lines));
    if (p->to.node->draining && pl_queue_slot_ms(l->queue) > 0) {
        pl_http_stay(p->to.conn); /* it leaves in its slot, not with the first event */
    }
    pl_http_set_user(p->to.conn, NULL);
    pl_http_answer(&p->to, 200, body, lines);
    return true;
}

static void poll_spent(struct pl_link *l)
{
    poll_free(pl_container_of(l, struct poll, link));
}

static void poll_end(struct pl_link *l, int status)
{
    struct poll *p = pl_container_of(l, struct poll, link);

    pl_http_set_user(p->to.conn, NULL);
    /* An unregistered queue is an ended one, for the poll that still waits on it. */
    pl_http_answer_error(&p->to, status != PL_OK ? status : PL_ERR_QUEUE_NOT_FOUND, NULL);
    poll_free(p);
}

static const struct pl_link_ops poll_ops = {
    .transport = PL_TRANSPORT_LONGPOLL,
    .one_answer = true,
    .send = poll_send,
    .end = poll_end,
    .spent = poll_spent,
};

static struct poll *poll_new(const struct pl_http_to *to)
{
    struct poll *p = pl_alloc(sizeof(*p) + pl_http_to_room(to));

    p->waiting.closed = on_closed;
    p->link.ops = &poll_ops;
    p->link.codec = (uint8_t)to->codec;
    pl_timer_init(&p->timer, on_timeout);
    pl_http_to_keep(&p->to, to, p->origin);
    pl_http_set_user(to->conn, &p->waiting);
    return p;
}

void pl_longpoll_start(const struct pl_http_to *to, struct pl_queue *q, int64_t position,
                       int64_t hold_ms)
{
    struct poll *p = poll_new(to);

    p->since_ms = pl_hub_mono_ms(to->node->hub);
    pl_timer_set(to->node->wheel, &p->timer, pl_hub_mono_ms(to->node->hub) + (uint64_t)hold_ms);
    pl_queue_attach(q, &p->link, position);
    pl_queue_writable(q);
    /* Unless it has been answered. What is on its way from the bus is worth a moment. */
    if (hold_ms == 0 && pl_queue_answer_settled(q)) {
        pl_timer_set(to->node->wheel, &p->timer, pl_hub_mono_ms(to->node->hub) + SETTLE_MS);
    }
}
