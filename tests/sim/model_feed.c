#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "tests/sim/model_bus_priv.h"

/* A node has two connections: requests go by one, announcements come by the other. Either may be lost.
 * Without announcements the logs are read again and again; without requests the core is paused, and
 * told on the way back what it missed. History itself may lose its newest part: a new epoch. */

static struct sim_node *node_of(const struct port *p)
{
    return &p->bus->sim->nodes[p->node];
}

static uint64_t now(const struct port *p)
{
    return p->bus->sim->mono_ms;
}

static void read_after(struct port *p, uint64_t ms)
{
    p->reading = false;
    pl_timer_set(&p->bus->sim->wheel, &p->round, now(p) + ms);
}

static void pause(struct port *p, bool paused)
{
    if (p->paused != paused) {
        p->paused = paused;
        sim_note(p->bus->sim, NULL, paused ? "node % is paused" : "node % goes on", p->node, 0, 0);
        p->resumed_ms = now(p);
        pl_hub_bus_pause(node_of(p)->hub, paused);
    }
}

static void hear_of_queues(struct port *p, bool hears)
{
    if (p->hears != hears) {
        p->hears = hears;
        pl_hub_bus_hears(node_of(p)->hub, hears);
    }
}

/* ---- losing ---- */

static void lose_announcements(struct port *p)
{
    sim_note(p->bus->sim, NULL, "node % loses its announcements", p->node, 0, 0);
    p->feed = FEED_LOGS;
    p->head = p->count = 0;
    pl_timer_cancel(&p->bus->sim->wheel, &p->timer);
    read_after(p, sim_below(&p->bus->rng, 400)); /* until it is noticed */
}

static void fail_soon(struct call *c)
{
    struct port *p = c->port;

    c->answering = true;
    c->ready = false;
    c->status = PL_ERR_BUS;
    pl_timer_set(&p->bus->sim->wheel, &c->timer, now(p) + sim_below(&p->bus->rng, 600));
}

/* What has a key is asked again later, unless its time is over; the rest fails, whether it got there or not. */
static void lose_call(struct call *c)
{
    struct model_bus *b = c->port->bus;
    bool has_key = c->kind == CALL_PUBLISH || c->kind == CALL_CHANGE;

    if (!c->answering && !b->calm && c->kind != CALL_OPEN && c->kind != CALL_READ &&
        sim_chance(&b->rng, 30)) {
        model__arrive(c); /* on its way already */
        if (!c->answering) {
            return;
        }
    }
    pl_timer_cancel(&b->sim->wheel, &c->timer);
    if (c->kind == CALL_OPEN) {
        c->answering = c->ready = false;
        c->waits = true;
    } else if (c->kind == CALL_READ || c->kind == CALL_DROP || c->kind == CALL_COMPACT) {
        model__finish(c);
    } else if (has_key && sim_chance(&b->rng, 50)) {
        c->waits = true;
        c->ready = false;
    } else {
        fail_soon(c);
    }
}

static void lose_both(struct port *p, uint64_t ms)
{
    p->commands = false;
    p->feed = FEED_NONE;
    p->head = p->count = 0;
    pl_timer_cancel(&p->bus->sim->wheel, &p->timer);
    pl_timer_cancel(&p->bus->sim->wheel, &p->round);
    pl_list_foreach_safe(n, &p->calls) {
        struct call *c = pl_container_of(n, struct call, node);

        if (!c->waits) {
            lose_call(c);
        }
    }
    pl_timer_set(&p->bus->sim->wheel, &p->back, now(p) + ms);
}

static void cut_off(struct port *p)
{
    struct sim_rng *r = &p->bus->rng;

    p->bus->sim->counts.cuts++;
    sim_note(p->bus->sim, NULL, "node % loses both connections", p->node, 0, 0);
    lose_both(p, sim_below(r, sim_chance(r, 20) ? 12000 : 1500));
    if (!p->stopped) {
        pause(p, true);
        hear_of_queues(p, false);
    }
}

/* ---- coming back ---- */

static void learn_epoch(struct port *p)
{
    struct sim *s = p->bus->sim;

    if (p->begun && p->epoch == s->epoch_start) {
        return;
    }
    sim_note(s, NULL, "node % is told of epoch %", p->node, s->epoch_start, 0);
    p->at = p->begun ? p->at : s->newest;
    p->begun = true;
    p->epoch = s->epoch_start;
    sim_epoch_told(node_of(p), s->epoch_start);
    pl_hub_bus_epoch(node_of(p)->hub, s->epoch_start);
}

static void on_back(struct pl_timer *t)
{
    struct port *p = pl_container_of(t, struct port, back);

    if (p->stopped) {
        return;
    }
    p->commands = true;
    p->up_ms = now(p);
    p->feed = FEED_LOGS;
    learn_epoch(p);
    read_after(p, 0);
    pl_list_foreach_safe(n, &p->calls) {
        struct call *c = pl_container_of(n, struct call, node);

        if (c->waits) {
            c->waits = false;
            pl_list_remove(&c->node);
            pl_list_append(&p->calls, &c->node);
            pl_timer_set(&p->bus->sim->wheel, &c->timer, now(p) + model__delay(p->bus, 4));
        }
    }
}

/* ---- a round ---- */

static struct announcement *gathered(struct port *p, int kind, int64_t id, uint32_t index)
{
    if (p->read_count == p->read_cap) {
        p->read_cap = p->read_cap * 2 + 64;
        p->read = pl_realloc(p->read, p->read_cap * sizeof(*p->read));
    }
    memset(&p->read[p->read_count], 0, sizeof(*p->read));
    p->read[p->read_count].kind = (unsigned)kind;
    p->read[p->read_count].id = id;
    p->read[p->read_count].index = index;
    return &p->read[p->read_count++];
}

static const struct log_entry *entry_of(const struct bus_log *log, int64_t id)
{
    for (size_t i = log->count; i-- > 0 && log->entries[i].id >= id;) {
        if (log->entries[i].id == id) {
            return &log->entries[i];
        }
    }
    return NULL;
}

/* Up to where an answer of at most `most` entries a log says everything. */
static int64_t whole_to(const struct port *p, size_t most)
{
    int64_t whole = p->bus->sim->newest;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        const struct bus_log *log = &p->bus->logs[c];
        size_t i = 0;

        while (p->open[c] && i < log->count && log->entries[i].id <= p->at) {
            i++;
        }
        if (p->open[c] && i + most < log->count && log->entries[i + most - 1].id < whole) {
            whole = log->entries[i + most - 1].id;
        }
    }
    return whole;
}

/* Where an open channel's log does not hold the event any more, neither does it what was before: a hole. */
static void gather_event(struct port *p, uint32_t serial)
{
    const struct sim_event *e = &p->bus->sim->events[serial];
    struct announcement *a = NULL;
    int64_t prevs[SIM_CHANNELS];
    size_t count = 0;
    bool held = false;
    bool wanted = false;

    for (int c = 0; c < SIM_CHANNELS; c++) {
        const struct log_entry *entry;

        if ((e->channels >> c & 1) == 0) {
            continue;
        }
        entry = p->open[c] ? entry_of(&p->bus->logs[c], e->id) : NULL;
        wanted |= p->open[c];
        held |= entry != NULL;
        if (p->open[c] && entry == NULL) {
            sim_hidden(p->bus->sim, serial);
        }
        prevs[count++] = entry != NULL ? entry->prev : p->open[c] ? e->id - 1 : 0;
    }
    if (held) {
        a = gathered(p, SAY_EVENT, e->id, serial);
        memcpy(a->prevs, prevs, count * sizeof(*prevs));
    } else if (wanted && e->id > p->epoch) {
        sim_missed(node_of(p), serial);
    }
}

static void gather(struct port *p)
{
    const struct model_bus *b = p->bus;
    const struct sim *s = b->sim;
    size_t change = b->change_count;
    size_t event = s->order_count;

    p->read_count = 0;
    p->lost_changes = b->control > 0 && b->changes[b->control - 1].id > p->at;
    while (change > b->control && b->changes[change - 1].id > p->at) {
        change--;
    }
    while (event > 0 && s->events[s->order[event - 1]].id > p->at) {
        event--;
    }
    for (;;) {
        int64_t c = change < b->change_count ? b->changes[change].id : INT64_MAX;
        int64_t e = event < s->order_count ? s->events[s->order[event]].id : INT64_MAX;

        if (c > p->whole && e > p->whole) {
            return;
        }
        if (c < e) {
            (void)gathered(p, SAY_CHANGE, c, (uint32_t)change++);
        } else {
            gather_event(p, s->order[event++]);
        }
    }
}

static void read_logs(struct port *p)
{
    struct model_bus *b = p->bus;

    p->whole = whole_to(p, b->calm || sim_chance(&b->rng, 70) ? 1000 : 1 + sim_below(&b->rng, 30));
    p->reading = true;
    p->complete = p->whole == b->sim->newest;
    p->reading_joins = p->feed == FEED_JOINS;
    gather(p);
    pl_timer_set(&b->sim->wheel, &p->round, now(p) + model__delay(b, 4));
}

static void tell_round(struct port *p)
{
    if (p->lost_changes) {
        sim_note(p->bus->sim, NULL, "node % has lost changes", p->node, 0, 0);
        pause(p, true);
        model__blur(p);
        pl_hub_bus_changes_lost(node_of(p)->hub);
    }
    for (size_t i = 0; i < p->read_count; i++) {
        model__hear(p, &p->read[i]);
    }
    model__hear(p, &(struct announcement){.kind = SAY_APPLIED, .id = p->whole});
}

/* The round is over. */
static void go_on(struct port *p, bool complete)
{
    struct model_bus *b = p->bus;

    if (!complete) {
        read_after(p, 0);
        return;
    }
    pause(p, false);
    if (p->reading_joins) {
        sim_detail(b->sim, "node % hears announcements again", p->node, 0, 0);
        p->feed = FEED_STREAM;
        p->reading = false;
        model__hear_pipe(p);
        return;
    }
    if (p->feed == FEED_LOGS && (b->calm || sim_chance(&b->rng, 30))) {
        p->feed = FEED_JOINS;
        hear_of_queues(p, true);
        read_after(p, 0);
        return;
    }
    read_after(p, 300);
}

static void on_round(struct pl_timer *t)
{
    struct port *p = pl_container_of(t, struct port, round);

    if (p->stopped) {
        return;
    }
    if (p->feed == FEED_LOGS) {
        hear_of_queues(p, false);
    }
    if (!p->reading) {
        read_logs(p);
        return;
    }
    tell_round(p);
    go_on(p, p->complete);
}

/* ---- what goes wrong ---- */

/* The primary is lost, and with it what the replica had not got yet. */
static void fork_history(struct model_bus *b)
{
    struct sim *s = b->sim;
    size_t most = s->order_count < 6 ? s->order_count : 6;
    size_t lost = sim_below(&b->rng, (uint32_t)most + 1);

    for (size_t i = s->order_count - lost; i < s->order_count; i++) {
        const struct sim_event *e = &s->events[s->order[i]];

        for (int c = 0; c < SIM_CHANNELS; c++) {
            struct bus_log *log = &b->logs[c];

            while (log->count > 0 && log->entries[log->count - 1].id >= e->id) {
                log->last = log->entries[--log->count].prev;
            }
        }
    }
    sim_id_given(s, s->unix_ms * 1024 > s->newest ? s->unix_ms * 1024 : s->newest + 1);
    s->epoch_start = s->newest;
    s->counts.epochs++;
    sim_note(s, NULL, "history forks: % events are lost, epoch %", (int64_t)lost, s->newest, 0);
    for (size_t n = 0; n < s->profile.nodes; n++) {
        cut_off(&b->ports[n]);
    }
}

void model_bus_trouble(struct model_bus *b)
{
    struct port *p = &b->ports[sim_below(&b->rng, (uint32_t)b->sim->profile.nodes)];
    uint32_t dice = sim_below(&b->rng, 100);

    if (dice < 6) {
        fork_history(b);
    } else if (!p->commands) {
        return;
    } else if (dice < 55 && p->feed == FEED_STREAM) {
        lose_announcements(p);
    } else if (dice >= 55) {
        cut_off(p);
    }
}

void model_bus_stopped(struct model_bus *b, int node)
{
    b->ports[node].stopped = true;
}

/* It does not know how long it slept: nothing goes on before its connections are new. */
void model_bus_woken(struct model_bus *b, int node)
{
    struct port *p = &b->ports[node];

    p->stopped = false;
    lose_both(p, sim_below(&b->rng, 300));
    p->paused = false;
    pause(p, true);
    hear_of_queues(p, false);
}

/* ---- life ---- */

void model__feed_init(struct port *p)
{
    pl_timer_init(&p->back, on_back);
    pl_timer_init(&p->round, on_round);
}

void model__feed_done(struct port *p)
{
    free(p->read);
}

void model_bus_begin(struct model_bus *b, int node)
{
    struct port *p = &b->ports[node];

    pause(p, true);
    p->hears = true;
    hear_of_queues(p, false);
    pl_timer_set(&b->sim->wheel, &p->back, now(p) + sim_below(&b->rng, 200));
}

bool model_bus_is_paused(const struct model_bus *b, int node)
{
    return b->ports[node].paused;
}

bool model_bus_is_whole(const struct model_bus *b)
{
    for (size_t n = 0; n < b->sim->profile.nodes; n++) {
        if (b->ports[n].paused || b->ports[n].feed != FEED_STREAM) {
            return false;
        }
    }
    return true;
}

int64_t model_bus_floor(const struct model_bus *b, int channel)
{
    return b->logs[channel].floor;
}
