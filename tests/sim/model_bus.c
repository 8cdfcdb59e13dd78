#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/model_bus_priv.h"

/* What a bus may do and a memory bus never does: everything takes time, answers and announcements overtake
 * each other (but announcements to one node keep their order), a node hears only of channels it has open, an
 * outcome gets lost. */

uint64_t model__delay(struct model_bus *b, uint32_t slow_percent)
{
    if (b->calm) {
        return sim_below(&b->rng, 8);
    }
    if (sim_chance(&b->rng, slow_percent)) {
        return 100 + sim_below(&b->rng, 1500);
    }
    return sim_below(&b->rng, 24);
}

static int64_t next_id(struct model_bus *b)
{
    int64_t by_clock = b->sim->unix_ms * 1024;

    return by_clock > b->sim->newest ? by_clock : b->sim->newest + 1;
}

/* ---- announcements ---- */

struct announcement *model__say(struct port *p, int kind, int64_t id, uint32_t index)
{
    struct announcement *a;
    uint64_t due = p->bus->sim->mono_ms + model__delay(p->bus, p->bus->sim->profile.slow_pipe);

    if (p->head + p->count == p->cap) {
        p->cap = p->count >= p->cap / 2 ? p->cap * 2 + 64 : p->cap;
        p->pipe = pl_realloc(p->pipe, p->cap * sizeof(*p->pipe));
        memmove(p->pipe, p->pipe + p->head, p->count * sizeof(*p->pipe));
        p->head = 0;
    }
    a = &p->pipe[p->head + p->count++];
    memset(a, 0, sizeof(*a));
    a->kind = (unsigned)kind;
    a->id = id;
    a->index = index;
    a->due_ms = p->last_due_ms = due > p->last_due_ms ? due : p->last_due_ms;
    if (!pl_timer_is_set(&p->timer) && p->feed == FEED_STREAM) {
        pl_timer_set(&p->bus->sim->wheel, &p->timer, a->due_ms);
    }
    return a;
}

void model__finish(struct call *c)
{
    pl_list_remove(&c->node);
    pl_timer_cancel(&c->port->bus->sim->wheel, &c->timer);
    model__call_kept_free(c);
    free(c->entries);
    free(c);
}

void model__answer(struct call *c, int status, const int64_t *ids, size_t count)
{
    pl_bus_done_fn *done = c->done;
    void *arg = c->arg;
    int64_t copy[CALL_EVENTS];

    memcpy(copy, ids, count * sizeof(*ids));
    model__finish(c);
    done(arg, status, copy, count);
}

static void hear_event(struct port *p, const struct announcement *a)
{
    struct sim *s = p->bus->sim;
    struct sim_wire_event *w = pl_alloc(sizeof(*w));

    sim_wire_event(s, a->index, w);
    sim_detail(s, "node % hears event % of channels #", p->node, a->id,
               s->events[a->index].channels);
    (void)pl_hub_bus_event(s->nodes[p->node].hub, a->id, &w->e, a->prevs);
    free(w);
}

static void hear_change(struct port *p, const struct announcement *a)
{
    struct sim *s = p->bus->sim;
    struct sim_node *n = &s->nodes[p->node];
    struct pl_bus_change c = sim_wire_change(&p->bus->changes[a->index].change);

    sim_detail(s, "node % hears change % of user %", p->node, a->id,
               p->bus->changes[a->index].change.user);
    sim_apply_change(n, a->id, &p->bus->changes[a->index].change);
    pl_hub_bus_change(n->hub, a->id, &c);
    sim_see_forgotten(n);
    if (a->origin != NULL) {
        model__answer(a->origin, a->origin->status, &a->id, 1);
    }
}

static void hear_of_queue(struct port *p, const struct announcement *a)
{
    struct sim *s = p->bus->sim;
    struct pl_hub *h = s->nodes[p->node].hub;
    struct pl_str id = {a->queue_id, PL_QUEUE_ID_SIZE - 1};
    struct sim_queue *q = sim_instance(s, p->node, a->queue_id);

    sim_detail(s, "node % hears that a queue is taken (%) or ended (%)", p->node, a->id, a->index);
    if (a->kind == SAY_TAKEN) {
        const struct pl_queue *left;

        pl_hub_bus_taken(h, id, a->id, a->came_ms);
        left = pl_queue_find(h, id);
        if (q != NULL && q->generation < a->id && left != NULL &&
            pl_queue_link_since_ms(left) <= a->came_ms) {
            sim_broken(s, NULL, "node %d goes on with a queue that it was told is taken", p->node);
        }
        return;
    }
    if (q != NULL) {
        q->kicked = true;
    }
    pl_hub_bus_end_queue(h, id, -(int)a->index);
}

void model__hear(struct port *p, const struct announcement *a)
{
    struct sim *s = p->bus->sim;

    if (a->kind == SAY_TAKEN || a->kind == SAY_END) {
        hear_of_queue(p, a);
        return;
    }
    if (a->kind == SAY_EVENT) {
        hear_event(p, a);
    } else if (a->kind == SAY_CHANGE) {
        hear_change(p, a);
    } else {
        sim_detail(s, "node % hears that % is applied", p->node, a->id, 0);
        pl_hub_bus_applied(s->nodes[p->node].hub, a->id);
    }
    p->at = a->id > p->at ? a->id : p->at;
}

void model__hear_pipe(struct port *p)
{
    struct sim *s = p->bus->sim;

    while (p->count > 0 && p->feed == FEED_STREAM && !p->stopped &&
           p->pipe[p->head].due_ms <= s->mono_ms) {
        struct announcement a = p->pipe[p->head];

        p->head++;
        p->count--;
        model__hear(p, &a);
        if (s->profile.kept && !p->bus->calm && a.origin == NULL && sim_chance(&p->bus->rng, 3)) {
            model__hear(p, &a); /* a copy is nothing */
        }
    }
    if (p->count > 0 && p->feed == FEED_STREAM && !p->stopped) {
        pl_timer_set(&s->wheel, &p->timer, p->pipe[p->head].due_ms);
    }
}

static void on_pipe(struct pl_timer *t)
{
    model__hear_pipe(pl_container_of(t, struct port, timer));
}

static bool hears(const struct port *p)
{
    return p->up && (p->feed == FEED_STREAM || p->feed == FEED_JOINS);
}

/* ---- sequencing ---- */

static void append(struct model_bus *b, int channel, int64_t id, uint32_t serial)
{
    struct bus_log *log = &b->logs[channel];
    size_t most = (size_t)b->sim->profile.log_entries;

    if (log->count == most) {
        log->floor = log->entries[0].id;
        memmove(log->entries, log->entries + 1, (most - 1) * sizeof(*log->entries));
        log->count--;
    }
    log->entries[log->count++] = (struct log_entry){id, log->last, serial};
    log->last = id;
}

/* Rarely one never gets there, though its connection lives. */
static bool gets_lost(struct port *p, uint32_t serial)
{
    struct model_bus *b = p->bus;

    if (!b->sim->profile.kept || b->calm || sim_below(&b->rng, 1000) >= 3) {
        return false;
    }
    sim_missed(&b->sim->nodes[p->node], serial);
    sim_detail(b->sim, "event % does not reach node %", (int64_t)serial, p->node, 0);
    return true;
}

static int64_t sequence_event(struct model_bus *b, uint32_t serial)
{
    const struct sim_event *e = &b->sim->events[serial];
    int64_t prevs[SIM_CHANNELS];
    int64_t id = next_id(b);
    size_t count = 0;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        if ((e->channels >> c & 1) != 0) {
            prevs[count++] = b->logs[c].last;
            append(b, c, id, serial);
        }
    }
    sim_event_sequenced(b->sim, serial, id);
    for (int n = 0; n < SIM_NODES; n++) {
        struct port *p = &b->ports[n];
        bool concerned = false;

        for (int c = 0; hears(p) && c < SIM_CHANNELS; c++) {
            concerned |= (e->channels >> c & 1) != 0 && p->open[c];
        }
        if (concerned && !gets_lost(p, serial)) {
            memcpy(model__say(p, SAY_EVENT, id, serial)->prevs, prevs, count * sizeof(*prevs));
        }
    }
    return id;
}

static size_t sequence_change(struct call *call)
{
    struct model_bus *b = call->port->bus;
    int64_t id = next_id(b);

    if (b->change_count == b->change_cap) {
        b->change_cap = b->change_cap > 0 ? b->change_cap * 2 : 64;
        b->changes = pl_realloc(b->changes, b->change_cap * sizeof(*b->changes));
    }
    b->changes[b->change_count].id = id;
    b->changes[b->change_count].change = call->change;
    sim_id_given(b->sim, id);
    for (int n = 0; n < SIM_NODES; n++) {
        if (hears(&b->ports[n])) {
            model__say(&b->ports[n], SAY_CHANGE, id, (uint32_t)b->change_count)->origin =
                n == call->port->node && !b->sim->profile.kept ? call : NULL;
        }
    }
    if (b->sim->profile.kept) {
        model__change_held(b, b->change_count);
    }
    call->ids[0] = id;
    call->count = 1;
    return b->change_count++;
}

/* ---- opening ---- */

/* What the log holds now; more may have happened when the answer gets there. */
static void read_log(struct call *c)
{
    const struct bus_log *log = &c->port->bus->logs[c->channel];
    size_t from = 0;

    while (from < log->count && log->entries[from].id <= c->after_id) {
        from++;
    }
    free(c->entries);
    c->entry_count = 0;
    while (from + c->entry_count < log->count &&
           log->entries[from + c->entry_count].id <= c->upto) {
        c->entry_count++;
    }
    c->entries = pl_alloc((c->entry_count + 1) * sizeof(*c->entries));
    memcpy(c->entries, log->entries + from, c->entry_count * sizeof(*c->entries));
    c->floor = log->floor > c->after_id ? log->floor : c->after_id;
}

static void answer_open(struct call *c)
{
    struct sim *s = c->port->bus->sim;
    struct pl_bus_log_entry *entries = pl_alloc((c->entry_count + 1) * sizeof(*entries));
    struct sim_wire_event *wires = pl_alloc((c->entry_count + 1) * sizeof(*wires));

    for (size_t i = 0; i < c->entry_count; i++) {
        sim_wire_event(s, c->entries[i].serial, &wires[i]);
        entries[i] = (struct pl_bus_log_entry){c->entries[i].id, c->entries[i].prev, &wires[i].e};
    }
    pl_list_remove(&c->node);
    pl_list_init(&c->node); /* it may be asked again from inside */
    sim_detail(s, "node % is answered an open or read of channel %, whole to %", c->port->node,
               c->channel, c->whole_to);
    if (c->kind == CALL_OPEN) {
        pl_hub_bus_opened(s->nodes[c->port->node].hub, (struct pl_str){c->name, c->name_len},
                          c->floor, entries, c->entry_count, c->whole_to);
    } else {
        pl_hub_bus_read(s->nodes[c->port->node].hub, (struct pl_str){c->name, c->name_len},
                        c->floor, entries, c->entry_count, c->upto);
    }
    free(entries);
    free(wires);
    model__finish(c);
}

/* ---- requests ---- */

static void on_call(struct pl_timer *t);

struct call *model__call_new(struct port *p, enum call_kind kind, pl_bus_done_fn *done, void *arg)
{
    struct call *c = pl_alloc(sizeof(*c));

    PL_ASSERT(p->up && !p->stopped);
    *c = (struct call){.port = p, .kind = kind, .done = done, .arg = arg, .user = SIM_NOBODY};
    c->upto = INT64_MAX;
    pl_timer_init(&c->timer, on_call);
    pl_list_init(&c->node);
    pl_list_append(&p->calls, &c->node);
    if (!p->commands) {
        c->waits = kind == CALL_OPEN;
        c->answering = !c->waits;
        c->status = c->waits ? PL_OK : PL_ERR_BUS;
    }
    if (!c->waits) {
        pl_timer_set(&p->bus->sim->wheel, &c->timer,
                     p->bus->sim->mono_ms + model__delay(p->bus, 4));
    }
    return c;
}

static bool may_fail(const struct model_bus *b, const struct call *c)
{
    switch ((int)c->kind) {
    case CALL_PUBLISH:
    case CALL_CHANGE:
        return true;
    case CALL_SAVE:
    case CALL_CLAIM:
    case CALL_USER:
        return b->sim->profile.kept;
    default:
        return false;
    }
}

/* The request reaches the bus; false: nothing comes back. */
static bool carry_out(struct call *c)
{
    struct model_bus *b = c->port->bus;

    switch ((int)c->kind) {
    case CALL_PUBLISH:
        for (size_t i = 0; i < c->count; i++) {
            c->ids[i] = sequence_event(b, c->serials[i]);
        }
        return true;
    case CALL_CHANGE:
        (void)sequence_change(c);
        if (b->sim->profile.kept) {
            c->user = c->change.user;
            model__held_copy(b, c->user, &c->held);
        }
        return b->sim->profile.kept;
    case CALL_SEQUENCE:
        c->ids[0] = b->sim->newest;
        c->count = 1;
        return true;
    case CALL_OPEN:
    case CALL_READ:
        c->whole_to = b->sim->newest;
        c->floor = c->after_id;
        if (c->channel != SIM_NOBODY) {
            read_log(c);
        }
        return true;
    default:
        return model__kept_arrive(c);
    }
}

void model__arrive(struct call *c)
{
    struct model_bus *b = c->port->bus;
    bool lost = !b->calm && may_fail(b, c) && sim_chance(&b->rng, 2);

    c->answering = true;
    if (lost) {
        c->status = PL_ERR_BUS;
    }
    if (lost && sim_chance(&b->rng, 50)) {
        c->count = 0; /* it never got there */
    } else if (!carry_out(c)) {
        return;
    }
    pl_timer_set(&b->sim->wheel, &c->timer, b->sim->mono_ms + model__delay(b, 4));
}

static void give_answer(struct call *c)
{
    if (c->kind == CALL_OPEN || (c->kind == CALL_READ && c->status == PL_OK)) {
        answer_open(c);
    } else if (c->kind >= CALL_READ ||
               (c->kind == CALL_CHANGE && c->port->bus->sim->profile.kept)) {
        model__kept_answer(c);
    } else {
        model__answer(c, c->status, c->ids, c->status == PL_OK ? c->count : 0);
    }
}

/* One connection, one at a time: requests get there and answers come back in the order they were asked. */
static void arrive_in_order(struct call *c)
{
    pl_list_foreach_safe(n, &c->port->calls) {
        struct call *before = pl_container_of(n, struct call, node);

        if (!before->answering && !before->waits) {
            model__arrive(before);
        }
        if (before == c) {
            return;
        }
    }
}

static struct call *first_answer(struct port *p)
{
    pl_list_foreach(n, &p->calls) {
        struct call *c = pl_container_of(n, struct call, node);

        if (!c->waits) {
            return c->ready ? c : NULL;
        }
    }
    return NULL;
}

static void on_call(struct pl_timer *t)
{
    struct call *c = pl_container_of(t, struct call, timer);
    struct port *p = c->port;

    if (!p->bus->sim->profile.kept) {
        if (c->answering) {
            give_answer(c);
        } else {
            model__arrive(c);
        }
        return;
    }
    if (!c->answering) {
        arrive_in_order(c);
        return;
    }
    c->ready = true;
    /* Stopped: nobody reads it, its connection is given up in the end. */
    while (!p->stopped && (c = first_answer(p)) != NULL) {
        give_answer(c);
    }
}

static void bus_publish(void *bus, const struct pl_bus_event *events, size_t count,
                        const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    struct port *p = bus;
    struct call *c = model__call_new(p, CALL_PUBLISH, done, arg);

    (void)key;
    PL_ASSERT(count > 0 && count <= CALL_EVENTS);
    for (size_t i = 0; i < count; i++) {
        c->serials[i] = sim_wire_serial(p->bus->sim, &events[i]);
    }
    c->count = count;
}

static void bus_change(void *bus, const struct pl_bus_change *change, pl_bus_done_fn *done,
                       void *arg)
{
    model__call_new(bus, CALL_CHANGE, done, arg)->change = sim_from_change(change);
}

static void bus_sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    struct port *p = bus;

    if (p->commands && sim_chance(&p->bus->rng, 10)) {
        done(arg, PL_OK, &p->bus->sim->newest, 1);
        return;
    }
    model__call_new(p, CALL_SEQUENCE, done, arg);
}

/* An answer to an open before is not given any more: it would say nothing of what comes in between. */
static void forget_calls(struct port *p, struct pl_str channel, bool reads)
{
    pl_list_foreach_safe(n, &p->calls) {
        struct call *c = pl_container_of(n, struct call, node);

        if ((c->kind == CALL_OPEN || (reads && c->kind == CALL_READ)) &&
            pl_str_eq((struct pl_str){c->name, c->name_len}, channel)) {
            model__finish(c);
        }
    }
}

static void bus_open(void *bus, struct pl_str channel, int64_t after_id)
{
    struct port *p = bus;
    struct call *c;

    forget_calls(p, channel, false);
    c = model__call_new(p, CALL_OPEN, NULL, NULL);

    PL_ASSERT(channel.len < sizeof(c->name));
    memcpy(c->name, channel.s, channel.len);
    c->name_len = channel.len;
    c->channel = sim_channel_of(channel);
    c->after_id = after_id;
    sim_detail(p->bus->sim, "node % opens channel % after %", p->node, c->channel, after_id);
    if (c->channel != SIM_NOBODY) {
        p->open[c->channel] = true;
    }
}

static void bus_close(void *bus, struct pl_str channel)
{
    struct port *p = bus;
    int closed = sim_channel_of(channel);

    forget_calls(p, channel, true);
    if (closed != SIM_NOBODY) {
        p->open[closed] = false;
        sim_detail(p->bus->sim, "node % closes channel %", p->node, closed, 0);
    }
}

static void bus_read(void *bus, struct pl_str channel, int64_t after, int64_t upto)
{
    struct port *p = bus;
    struct call *c = model__call_new(p, CALL_READ, NULL, NULL);

    PL_ASSERT(channel.len < sizeof(c->name));
    memcpy(c->name, channel.s, channel.len);
    c->name_len = channel.len;
    c->channel = sim_channel_of(channel);
    c->after_id = after;
    c->upto = upto;
    sim_detail(p->bus->sim, "node % reads channel % after %", p->node, c->channel, after);
}

const struct pl_bus_ops model_bus_ops = {
    .publish = bus_publish,
    .change = bus_change,
    .open = bus_open,
    .close = bus_close,
    .sequence = bus_sequence,
};

const struct pl_bus_ops model_bus_kept_ops = {
    .publish = bus_publish,
    .change = bus_change,
    .open = bus_open,
    .close = bus_close,
    .sequence = bus_sequence,
    .read = bus_read,
    .save = model__save,
    .claim = model__claim,
    .drop = model__drop,
    .end_queue = model__end_queue,
    .user = model__user,
    .compact = model__compact,
};

/* ---- life ---- */

struct model_bus *model_bus_new(struct sim *s)
{
    struct model_bus *b = pl_alloc(sizeof(*b));

    b->sim = s;
    b->rng.state = sim_random(&s->rng);
    for (int c = 0; c < SIM_CHANNELS; c++) {
        b->logs[c].entries = pl_alloc((size_t)s->profile.log_entries * sizeof(struct log_entry));
    }
    for (int n = 0; n < SIM_NODES; n++) {
        b->ports[n].bus = b;
        b->ports[n].node = n;
        pl_list_init(&b->ports[n].calls);
        pl_timer_init(&b->ports[n].timer, on_pipe);
        model__feed_init(&b->ports[n]);
    }
    return b;
}

void model_bus_free(struct model_bus *b)
{
    if (b == NULL) {
        return;
    }
    for (int n = 0; n < SIM_NODES; n++) {
        PL_ASSERT(pl_list_empty(&b->ports[n].calls));
        free(b->ports[n].pipe);
        model__feed_done(&b->ports[n]);
    }
    model__kept_done(b);
    for (int c = 0; c < SIM_CHANNELS; c++) {
        free(b->logs[c].entries);
    }
    free(b->changes);
    free(b);
}

void *model_bus_port(struct model_bus *b, int node)
{
    return &b->ports[node];
}

void model_bus_cut(struct model_bus *b, int node)
{
    struct port *p = &b->ports[node];

    p->up = false;
    p->stopped = false;
    p->head = p->count = 0;
    pl_timer_cancel(&b->sim->wheel, &p->timer);
    pl_timer_cancel(&b->sim->wheel, &p->round);
    pl_timer_cancel(&b->sim->wheel, &p->back);
    while (!pl_list_empty(&p->calls)) {
        struct call *c = pl_container_of(p->calls.next, struct call, node);

        /* What was on its way may get there. */
        if (!c->answering && b->sim->profile.kept && c->kind != CALL_OPEN &&
            sim_chance(&b->rng, 50)) {
            (void)carry_out(c);
        }
        if (c->done == NULL) {
            model__finish(c);
        } else {
            model__answer(c, PL_ERR_BUS, c->ids, 0);
        }
    }
}

void model_bus_flush(struct model_bus *b, int node)
{
    pl_list_foreach(n, &b->ports[node].calls) {
        struct call *c = pl_container_of(n, struct call, node);

        if (c->kind == CALL_SAVE && !c->answering) {
            c->answering = true;
            (void)carry_out(c);
        }
    }
}

void model_bus_join(struct model_bus *b, int node)
{
    struct port *p = &b->ports[node];

    p->up = true;
    p->commands = !b->sim->profile.kept;
    p->feed = b->sim->profile.kept ? FEED_NONE : FEED_STREAM;
    p->begun = p->stopped = p->paused = false;
    memset(p->open, 0, sizeof(p->open));
}

void model_bus_catch_up(struct model_bus *b, int node)
{
    struct announcement a = {.kind = SAY_CHANGE};

    for (size_t i = 0; i < b->change_count; i++) {
        a.id = b->changes[i].id;
        a.index = (uint32_t)i;
        model__hear(&b->ports[node], &a);
    }
    pl_hub_bus_applied(b->sim->nodes[node].hub, b->sim->newest);
}

void model_bus_canary(struct model_bus *b)
{
    for (int n = 0; n < SIM_NODES; n++) {
        if (hears(&b->ports[n])) {
            model__say(&b->ports[n], SAY_APPLIED, b->sim->newest, 0);
        }
    }
}

void model_bus_calm(struct model_bus *b)
{
    b->calm = true;
}
