#include <string.h>

#include "server/base/metrics.h"
#include "server/core/queue_priv.h"

/* The messages that are made for one queue; those shared by many are the events' own frames
 * (event.c). */

static const struct {
    const char *name;
    enum pl_series series;
} catchups[] = {
    [PL_CATCHUP_TRIMMED] = {"trimmed", PL_S_CATCHUP_TRIMMED},
    [PL_CATCHUP_EPOCH] = {"epoch", PL_S_CATCHUP_EPOCH},
    [PL_CATCHUP_AHEAD] = {"ahead", PL_S_CATCHUP_AHEAD},
    [PL_CATCHUP_GAP] = {"gap", PL_S_CATCHUP_GAP},
    [PL_CATCHUP_EXPIRED] = {"expired", PL_S_CATCHUP_EXPIRED},
};

static void write_membership(struct pl_queue *q, struct pl_writer *w, bool with_op)
{
    pl_write_map(w, with_op ? 4 : 3);
    if (with_op) {
        pl_write_key(w, "op");
        pl_write_cstr(w, "signal");
    }
    pl_write_key(w, "type");
    pl_write_cstr(w, "membership");
    pl_write_key(w, "communities");
    pl_user_write_communities(q->user, w);
    pl_write_key(w, "last_event_id");
    pl_write_int(w, q->hub->applied);
}

static void write_status(struct pl_queue *q, struct pl_writer *w, bool with_op)
{
    pl_write_map(w, with_op ? 3 : 2);
    if (with_op) {
        pl_write_key(w, "op");
        pl_write_cstr(w, "signal");
    }
    pl_write_key(w, "type");
    pl_write_cstr(w, "status");
    pl_write_key(w, "state");
    pl_write_cstr(w, q->hub->degraded ? "degraded" : "ok");
}

static void write_goaway(struct pl_queue *q, struct pl_writer *w, bool with_op)
{
    struct pl_hub *h = q->hub;
    int64_t after_ms = pl_queue__after_ms(q);

    /* A poll has been held until its slot. */
    if (h->drain_since_ms != 0 && q->link->ops->one_answer) {
        after_ms = 0;
    }
    pl_write_map(w, with_op ? 4 : 3);
    if (with_op) {
        pl_write_key(w, "op");
        pl_write_cstr(w, "goaway");
    }
    pl_write_key(w, "reason");
    pl_write_cstr(w, h->goaway_reason);
    pl_write_key(w, "reconnect_after_ms");
    pl_write_int(w, after_ms);
    pl_write_key(w, "transports");
    pl_hub_write_transports(h, pl_user_id(q->user), w);
}

static void write_events(struct pl_writer *w, enum pl_codec codec, const struct pl_batch *b)
{
    pl_write_key(w, "op");
    pl_write_cstr(w, "events");
    pl_write_key(w, "events");
    pl_write_array(w, b->count);
    for (uint32_t i = 0; i < b->count; i++) {
        struct pl_str bytes = pl_event__bytes(b->events[i], codec);

        pl_write_raw(w, bytes.s, bytes.len);
    }
    pl_write_key(w, "last_event_id");
    pl_write_int(w, b->last_event_id);
}

struct pl_frame *pl_outbox__batch(enum pl_codec codec, const struct pl_batch *b)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, codec, &out);
    pl_write_map(&w, 3);
    write_events(&w, codec, b);
    return pl_frame_new(codec, &out);
}

struct pl_frame *pl_outbox__events(struct pl_queue *q, const struct pl_batch *b)
{
    enum pl_codec codec = q->link->codec;
    struct pl_buf out = {0};
    struct pl_writer w;
    uint8_t due = q->link->ops->one_answer ? q->due : 0;
    unsigned signals = !!(due & PL_DUE_MEMBERSHIP) + !!(due & PL_DUE_STATUS);
    unsigned extras = (signals > 0) + !!(due & PL_DUE_GOAWAY) + !!(due & PL_DUE_TRANSPORTS);

    pl_writer_init(&w, codec, &out);
    pl_write_map(&w, 3 + extras);
    write_events(&w, codec, b);
    if (signals > 0) {
        pl_write_key(&w, "signals");
        pl_write_array(&w, signals);
    }
    if (due & PL_DUE_STATUS) {
        write_status(q, &w, false);
    }
    if (due & PL_DUE_MEMBERSHIP) {
        write_membership(q, &w, false);
    }
    if (due & PL_DUE_GOAWAY) {
        pl_write_key(&w, "goaway");
        write_goaway(q, &w, false);
    }
    if (due & PL_DUE_TRANSPORTS) {
        pl_write_key(&w, "transports");
        pl_hub_write_transports(q->hub, pl_user_id(q->user), &w);
    }
    return pl_frame_new(codec, &out);
}

struct pl_frame *pl_outbox__catchup(struct pl_queue *q, int64_t last_event_id,
                                    const struct pl_sub *const *lost, size_t lost_count)
{
    struct pl_buf out = {0};
    struct pl_writer w;
    size_t communities = 0;

    for (size_t i = 0; i < lost_count; i++) {
        communities += pl_channel__community(lost[i]->channel) >= 0;
    }
    /* A loss outside communities cannot be named there, so then nothing is: all of it. */
    if (communities < lost_count) {
        communities = 0;
    }
    pl_writer_init(&w, q->link->codec, &out);
    pl_write_map(&w, 4 + (communities > 0));
    pl_write_key(&w, "op");
    pl_write_cstr(&w, "catchup_required");
    pl_write_key(&w, "catchup_required");
    pl_write_bool(&w, true);
    pl_write_key(&w, "reason");
    pl_write_cstr(&w, catchups[q->catchup].name);
    pl_write_key(&w, "last_event_id");
    pl_write_int(&w, last_event_id);
    if (communities > 0) {
        pl_write_key(&w, "communities");
        pl_write_array(&w, communities);
        for (size_t i = 0; i < lost_count; i++) {
            pl_write_int(&w, pl_channel__community(lost[i]->channel));
        }
    }
    return pl_frame_new(q->link->codec, &out);
}

void pl_outbox__count_catchup(const struct pl_queue *q)
{
    pl_metric_add(catchups[q->catchup].series, 1);
}

struct pl_frame *pl_outbox__due(struct pl_queue *q, uint8_t *due)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    *due &= (uint8_t)~PL_DUE_TRANSPORTS; /* a WebSocket hears of it by goaway, if it must */
    pl_writer_init(&w, q->link->codec, &out);
    if (*due & PL_DUE_STATUS) {
        *due &= (uint8_t)~PL_DUE_STATUS;
        write_status(q, &w, true);
    } else if (*due & PL_DUE_MEMBERSHIP) {
        *due &= (uint8_t)~PL_DUE_MEMBERSHIP;
        write_membership(q, &w, true);
    } else if (*due & PL_DUE_GOAWAY) {
        *due &= (uint8_t)~PL_DUE_GOAWAY;
        write_goaway(q, &w, true);
    } else {
        return NULL;
    }
    return pl_frame_new(q->link->codec, &out);
}
