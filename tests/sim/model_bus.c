#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

/* What a bus may do and a memory bus never does: everything takes time, answers and announcements overtake
 * each other (but announcements to one node keep their order), a node hears only of channels it has open, an
 * outcome gets lost. */

struct log_entry {
    int64_t id, prev;
    uint32_t serial;
};

struct bus_log {
    struct log_entry *entries; /* the newest log_entries of them, oldest first */
    size_t count;
    int64_t floor, last;
};

enum call_kind {
    CALL_PUBLISH,
    CALL_CHANGE,
    CALL_SEQUENCE,
    CALL_OPEN
};
enum {
    CALL_EVENTS = 8
};

/* A request on its way to the bus, then its answer on its way back. */
struct call {
    struct pl_list node; /* of port.calls */
    struct pl_timer timer;
    struct port *port;
    enum call_kind kind;
    bool answering;
    pl_bus_done_fn *done;
    void *arg;
    int status;
    int64_t ids[CALL_EVENTS];
    size_t count;
    uint32_t serials[CALL_EVENTS];
    struct sim_change change;
    /* CALL_OPEN */
    int channel; /* SIM_NOBODY: none of ours, such as control */
    char name[64];
    size_t name_len;
    int64_t after_id, floor, whole_to;
    struct log_entry *entries;
    size_t entry_count;
};

struct announcement {
    enum {
        SAY_EVENT,
        SAY_CHANGE,
        SAY_APPLIED
    } kind;
    uint64_t due_ms;
    int64_t id;
    uint32_t index;      /* serial number, or of model_bus.changes */
    struct call *origin; /* a change's own node: answered once it was applied */
    int64_t prevs[SIM_CHANNELS];
};

/* A node's end of the bus. */
struct port {
    struct model_bus *bus;
    int node;
    bool up;
    bool open[SIM_CHANNELS];
    struct pl_list calls;
    struct pl_timer timer;
    struct announcement *pipe; /* in order; head is next */
    size_t head, count, cap;
    uint64_t last_due_ms;
};

struct model_bus {
    struct sim *sim;
    struct sim_rng rng;
    bool calm;
    struct bus_log logs[SIM_CHANNELS];
    struct {
        int64_t id;
        struct sim_change change;
    } * changes;
    size_t change_count, change_cap;
    struct port ports[SIM_NODES];
};

static uint64_t delay(struct model_bus *b, uint32_t slow_percent)
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

static struct announcement *say(struct port *p, int kind, int64_t id, uint32_t index)
{
    struct announcement *a;
    uint64_t due = p->bus->sim->mono_ms + delay(p->bus, p->bus->sim->profile.slow_pipe);

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
    if (!pl_timer_is_set(&p->timer)) {
        pl_timer_set(&p->bus->sim->wheel, &p->timer, a->due_ms);
    }
    return a;
}

static void finish(struct call *c)
{
    pl_list_remove(&c->node);
    pl_timer_cancel(&c->port->bus->sim->wheel, &c->timer);
    free(c->entries);
    free(c);
}

static void answer(struct call *c, int status, const int64_t *ids, size_t count)
{
    pl_bus_done_fn *done = c->done;
    void *arg = c->arg;
    int64_t copy[CALL_EVENTS];

    memcpy(copy, ids, count * sizeof(*ids));
    finish(c);
    done(arg, status, copy, count);
}

static void hear(struct port *p, const struct announcement *a)
{
    struct sim *s = p->bus->sim;
    struct sim_node *n = &s->nodes[p->node];

    if (a->kind == SAY_EVENT) {
        struct sim_wire_event *w = pl_alloc(sizeof(*w));

        sim_wire_event(s, a->index, w);
        sim_detail(s, "node % hears event % of channels #", p->node, a->id,
                   s->events[a->index].channels);
        (void)pl_hub_bus_event(n->hub, a->id, &w->e, a->prevs);
        free(w);
    } else if (a->kind == SAY_CHANGE) {
        struct pl_bus_change c = sim_wire_change(&p->bus->changes[a->index].change);

        sim_detail(s, "node % hears change % of user %", p->node, a->id,
                   p->bus->changes[a->index].change.user);
        sim_apply_change(n, a->id, &p->bus->changes[a->index].change);
        pl_hub_bus_change(n->hub, a->id, &c);
        sim_see_forgotten(n);
        if (a->origin != NULL) {
            answer(a->origin, a->origin->status, &a->id, 1);
        }
    } else {
        sim_detail(s, "node % hears a canary of %", p->node, a->id, 0);
        pl_hub_bus_applied(n->hub, a->id);
    }
}

static void on_pipe(struct pl_timer *t)
{
    struct port *p = pl_container_of(t, struct port, timer);

    while (p->count > 0 && p->pipe[p->head].due_ms <= p->bus->sim->mono_ms) {
        struct announcement a = p->pipe[p->head];

        p->head++;
        p->count--;
        hear(p, &a);
    }
    if (p->count > 0) {
        pl_timer_set(&p->bus->sim->wheel, t, p->pipe[p->head].due_ms);
    }
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

        for (int c = 0; p->up && c < SIM_CHANNELS; c++) {
            concerned |= (e->channels >> c & 1) != 0 && p->open[c];
        }
        if (concerned) {
            memcpy(say(p, SAY_EVENT, id, serial)->prevs, prevs, count * sizeof(*prevs));
        }
    }
    return id;
}

static void sequence_change(struct call *call)
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
        if (b->ports[n].up) {
            say(&b->ports[n], SAY_CHANGE, id, (uint32_t)b->change_count)->origin =
                n == call->port->node ? call : NULL;
        }
    }
    b->change_count++;
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
    c->entry_count = log->count - from;
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
    sim_detail(s, "node % is answered an open of channel %, whole to %", c->port->node, c->channel,
               c->whole_to);
    pl_hub_bus_opened(s->nodes[c->port->node].hub, (struct pl_str){c->name, c->name_len}, c->floor,
                      entries, c->entry_count, c->whole_to);
    free(entries);
    free(wires);
    finish(c);
}

/* ---- requests ---- */

static void on_call(struct pl_timer *t);

static struct call *call_new(struct port *p, enum call_kind kind, pl_bus_done_fn *done, void *arg)
{
    struct call *c = pl_alloc(sizeof(*c));

    PL_ASSERT(p->up);
    *c = (struct call){.port = p, .kind = kind, .done = done, .arg = arg};
    pl_timer_init(&c->timer, on_call);
    pl_list_init(&c->node);
    pl_list_append(&p->calls, &c->node);
    pl_timer_set(&p->bus->sim->wheel, &c->timer, p->bus->sim->mono_ms + delay(p->bus, 4));
    return c;
}

/* The request reaches the bus. */
static void arrive(struct call *c)
{
    struct model_bus *b = c->port->bus;
    bool lost =
        !b->calm && (c->kind == CALL_PUBLISH || c->kind == CALL_CHANGE) && sim_chance(&b->rng, 2);

    c->answering = true;
    if (lost) {
        c->status = PL_ERR_BUS;
    }
    if (lost && sim_chance(&b->rng, 50)) {
        c->count = 0; /* it never got there */
    } else if (c->kind == CALL_PUBLISH) {
        for (size_t i = 0; i < c->count; i++) {
            c->ids[i] = sequence_event(b, c->serials[i]);
        }
    } else if (c->kind == CALL_CHANGE) {
        sequence_change(c);
        return;
    } else if (c->kind == CALL_SEQUENCE) {
        c->ids[0] = b->sim->newest;
        c->count = 1;
    } else {
        c->whole_to = b->sim->newest;
        c->floor = c->after_id;
        if (c->channel != SIM_NOBODY) {
            read_log(c);
        }
    }
    pl_timer_set(&b->sim->wheel, &c->timer, b->sim->mono_ms + delay(b, 4));
}

static void on_call(struct pl_timer *t)
{
    struct call *c = pl_container_of(t, struct call, timer);

    if (!c->answering) {
        arrive(c);
    } else if (c->kind == CALL_OPEN) {
        answer_open(c);
    } else {
        answer(c, c->status, c->ids, c->status == PL_OK ? c->count : 0);
    }
}

static void bus_publish(void *bus, const struct pl_bus_event *events, size_t count,
                        const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    struct port *p = bus;
    struct call *c = call_new(p, CALL_PUBLISH, done, arg);

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
    call_new(bus, CALL_CHANGE, done, arg)->change = sim_from_change(change);
}

static void bus_sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    struct port *p = bus;

    if (sim_chance(&p->bus->rng, 10)) {
        done(arg, PL_OK, &p->bus->sim->newest, 1);
        return;
    }
    call_new(p, CALL_SEQUENCE, done, arg);
}

static void bus_open(void *bus, struct pl_str channel, int64_t after_id)
{
    struct port *p = bus;
    struct call *c = call_new(p, CALL_OPEN, NULL, NULL);

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

/* An answer to an open before is not given any more: it would say nothing of what comes in between. */
static void bus_close(void *bus, struct pl_str channel)
{
    struct port *p = bus;
    int closed = sim_channel_of(channel);

    if (closed == SIM_NOBODY) {
        return;
    }
    p->open[closed] = false;
    sim_detail(p->bus->sim, "node % closes channel %", p->node, closed, 0);
    pl_list_foreach_safe(n, &p->calls) {
        struct call *c = pl_container_of(n, struct call, node);

        if (c->kind == CALL_OPEN && c->channel == closed) {
            finish(c);
        }
    }
}

const struct pl_bus_ops model_bus_ops = {bus_publish, bus_change, bus_open, bus_close,
                                         bus_sequence};

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
    }
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
    p->head = p->count = 0;
    pl_timer_cancel(&b->sim->wheel, &p->timer);
    while (!pl_list_empty(&p->calls)) {
        struct call *c = pl_container_of(p->calls.next, struct call, node);

        if (c->kind == CALL_OPEN) {
            finish(c);
        } else {
            answer(c, PL_ERR_BUS, c->ids, 0);
        }
    }
}

void model_bus_join(struct model_bus *b, int node)
{
    b->ports[node].up = true;
    memset(b->ports[node].open, 0, sizeof(b->ports[node].open));
}

void model_bus_catch_up(struct model_bus *b, int node)
{
    struct announcement a = {.kind = SAY_CHANGE};

    for (size_t i = 0; i < b->change_count; i++) {
        a.id = b->changes[i].id;
        a.index = (uint32_t)i;
        hear(&b->ports[node], &a);
    }
    pl_hub_bus_applied(b->sim->nodes[node].hub, b->sim->newest);
}

void model_bus_canary(struct model_bus *b)
{
    for (int n = 0; n < SIM_NODES; n++) {
        if (b->ports[n].up) {
            say(&b->ports[n], SAY_APPLIED, b->sim->newest, 0);
        }
    }
}

void model_bus_calm(struct model_bus *b)
{
    b->calm = true;
}
