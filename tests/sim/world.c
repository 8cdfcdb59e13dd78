#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/alloc.h"
#include "tests/sim/sim.h"

/* ---- chance ---- */

/* splitmix64 */
uint64_t sim_random(struct sim_rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint32_t sim_below(struct sim_rng *r, uint32_t n)
{
    return (uint32_t)((sim_random(r) >> 32) * n >> 32);
}

bool sim_chance(struct sim_rng *r, uint32_t percent)
{
    return sim_below(r, 100) < percent;
}

/* The core takes its randomness from a plain function: one run at a time. */
static struct sim_rng queue_ids;

void sim_random_bytes(void *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)sim_below(&queue_ids, 256);
    }
}

/* In the place of getrandom (CMakeLists.txt), which seeds the maps: the same in every process. */
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags)
{
    (void)flags;
    memset(out, 0x5a, len);
    return (ssize_t)len;
}

/* ---- what happened ---- */

/* "%" stands for the next number, "#" for it in hexadecimal. */
static void print_line(FILE *out, const struct sim_trace_line *line)
{
    int64_t left[] = {line->a, line->b, line->c};
    int next = 0;

    fprintf(out, "step %5u %8" PRIu64 " ms  ", line->step, line->ms);
    for (const char *p = line->text; *p != '\0'; p++) {
        if (*p == '%') {
            fprintf(out, "%" PRId64, left[next++]);
        } else if (*p == '#') {
            fprintf(out, "%" PRIx64, left[next++]);
        } else {
            fputc(*p, out);
        }
    }
    fputc('\n', out);
}

void sim_note(struct sim *s, struct sim_client *c, const char *text, int64_t a, int64_t b,
              int64_t d)
{
    struct sim_trace *t = c != NULL ? &c->trace : &s->trace;
    struct sim_trace_line *line = &t->lines[(t->count + SIM_TRACE - 1) % SIM_TRACE];

    if (t->count > 0 && line->text == text && line->a == a && line->b == b && line->c == d) {
        return; /* the same ping again */
    }
    line = &t->lines[t->count++ % SIM_TRACE];
    *line = (struct sim_trace_line){s->step, s->mono_ms, text, a, b, d};
    if (s->verbose) {
        printf("%4d  ", c != NULL ? c->index : -1);
        print_line(stdout, line);
    }
}

void sim_detail(struct sim *s, const char *text, int64_t a, int64_t b, int64_t d)
{
    if (s->verbose) {
        printf("      ");
        print_line(stdout, &(struct sim_trace_line){s->step, s->mono_ms, text, a, b, d});
    }
}

static void print_trace(const char *title, const struct sim_trace *t)
{
    uint32_t from = t->count > SIM_TRACE ? t->count - SIM_TRACE : 0;

    fprintf(stderr, "%s\n", title);
    for (uint32_t i = from; i < t->count; i++) {
        fprintf(stderr, "  ");
        print_line(stderr, &t->lines[i % SIM_TRACE]);
    }
}

static void print_client(const struct sim *s, const struct sim_client *c)
{
    const struct sim_record *r = &s->nodes[c->node].records[c->user];

    fprintf(stderr,
            "client %d of user %d on node %d, queue %.6s, position %" PRId64 ", owed after %" PRId64
            "\n",
            c->index, c->user, c->node, c->queue.id, c->position, c->owed_after);
    for (int ch = 0; ch < SIM_CHANNELS; ch++) {
        if (r->grants[ch].standing) {
            fprintf(stderr, "  channel %d since %" PRId64 "%s topics %02x\n", ch,
                    r->grants[ch].since,
                    (c->queue.narrowed >> ch & 1) != 0 ? " narrowed to" : " whole, before",
                    c->queue.topics[ch]);
        }
    }
    print_trace("what it did and got, oldest first:", &c->trace);
}

void sim_broken(struct sim *s, const struct sim_client *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fflush(stdout);
    fprintf(stderr, "sim: seed %" PRIu64 " steps %u broke at step %u (%s): ", s->seed, s->steps,
            s->step,
            s->profile.memory ? "memory bus"
            : s->profile.kept ? "model bus that keeps"
                              : "model bus");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    print_trace("what happened to all, oldest first:", &s->trace);
    if (c == NULL && s->reading != NULL) {
        c = s->reading;
    }
    if (c != NULL) {
        print_client(s, c);
    }
    _exit(1);
}

/* ---- time ---- */

static void free_dead_links(struct sim *s)
{
    while (!pl_list_empty(&s->dead_links)) {
        struct sim_link *l = pl_container_of(s->dead_links.next, struct sim_link, node);

        PL_ASSERT(l->base.queue == NULL);
        pl_list_remove(&l->node);
        pl_timer_cancel(&s->wheel, &l->timer);
        free(l);
    }
}

static uint64_t sooner(const struct pl_wheel *w, uint64_t now_ms, uint64_t step_ms)
{
    int64_t next = pl_wheel_next_ms(w, now_ms);

    if (next >= (int64_t)step_ms) {
        return step_ms;
    }
    return next > 0 ? (uint64_t)next : 1;
}

void sim_pass(struct sim *s, uint64_t ms)
{
    uint64_t end_ms = s->mono_ms + ms;

    while (s->mono_ms < end_ms) {
        uint64_t step_ms = sooner(&s->wheel, s->mono_ms, end_ms - s->mono_ms);

        for (size_t n = 0; n < s->profile.nodes; n++) {
            if (!s->nodes[n].stopped) {
                step_ms = sooner(&s->nodes[n].wheel, s->mono_ms, step_ms);
            }
        }
        s->mono_ms += step_ms;
        s->unix_ms += (int64_t)step_ms;
        for (size_t n = 0; n < s->profile.nodes; n++) {
            if (!s->nodes[n].stopped) {
                pl_hub_set_time(s->nodes[n].hub, s->mono_ms, s->unix_ms);
                pl_wheel_advance(&s->nodes[n].wheel, s->mono_ms);
                (void)pl_hub_end_turn(s->nodes[n].hub);
            } else if (s->nodes[n].wake_ms <= s->mono_ms) {
                sim_node_wake(&s->nodes[n]);
            }
        }
        pl_wheel_advance(&s->wheel, s->mono_ms);
        free_dead_links(s);
    }
}

/* ---- nodes ---- */

static void node_start(struct sim_node *n)
{
    struct sim *s = n->sim;
    struct pl_hub_options o = {
        .cfg = s->cfg,
        .ring_is_log = s->profile.memory,
        .has_turns = s->profile.turns,
        .wheel = &n->wheel,
        .random = sim_random_bytes,
        .epoch_start = s->epoch_start,
    };

    memset(n->records, 0, sizeof(n->records));
    n->forgotten_ms = 0;
    for (int u = 0; u < SIM_USERS; u++) {
        n->records[u].version = n->records[u].claims_ms = -1;
    }
    pl_wheel_init(&n->wheel, s->mono_ms);
    if (s->profile.memory) {
        n->memory = pl_memory_bus_new(s->cfg, s->unix_ms);
        o.bus_ops = &pl_memory_bus_ops;
        o.bus = n->memory;
        o.epoch_start = s->epoch_start = pl_memory_bus_epoch(n->memory);
        if (s->epoch_start < s->newest) {
            sim_broken(s, NULL, "a new epoch begins below ids of the one before");
        }
        s->newest = s->epoch_start;
        for (int c = 0; c < SIM_CHANNELS; c++) {
            s->logs[c].lost = s->logs[c].count;
        }
    } else {
        model_bus_join(s->bus, n->index);
        o.bus_ops = s->profile.kept ? &model_bus_kept_ops : &model_bus_ops;
        o.epoch_start = s->profile.kept ? 0 : s->epoch_start;
        o.bus = model_bus_port(s->bus, n->index);
    }
    n->epoch_start = o.epoch_start;
    memset(n->missed, 0, sizeof(n->missed));
    n->hub = pl_hub_new(&o, s->mono_ms, s->unix_ms);
    if (n->memory != NULL) {
        pl_memory_bus_connect(n->memory, n->hub);
    } else if (s->profile.kept) {
        model_bus_begin(s->bus, n->index);
    } else {
        model_bus_catch_up(s->bus, n->index);
    }
}

static void node_free(struct sim_node *n)
{
    if (n->memory == NULL) {
        pl_hub_leave_bus(n->hub);
        model_bus_cut(n->sim->bus, n->index);
    }
    pl_hub_free(n->hub);
    pl_memory_bus_free(n->memory);
    n->stopped = false;
    if (n->wheel.count != 0) {
        sim_broken(n->sim, NULL, "a freed hub left %" PRIu64 " timers", n->wheel.count);
    }
}

static void node_stop(struct sim_node *n)
{
    pl_hub_end_links(n->hub, PL_ERR_DRAINING);
    if (n->sim->profile.kept && !n->stopped) {
        pl_hub_save_all(n->hub);
        model_bus_flush(n->sim->bus, n->index);
    }
    node_free(n);
}

void sim_node_kill(struct sim_node *n)
{
    sim_note(n->sim, NULL, "node % is killed", n->index, 0, 0);
    n->life++;
    n->sim->counts.restarts++;
    pl_hub_leave_bus(n->hub);
    pl_hub_end_links(n->hub, PL_ERR_DRAINING);
    node_free(n);
    node_start(n);
}

void sim_node_stop(struct sim_node *n, uint64_t ms)
{
    sim_note(n->sim, NULL, "node % stops for % ms", n->index, (int64_t)ms, 0);
    n->sim->counts.stops++;
    n->stopped = true;
    n->wake_ms = n->sim->mono_ms + ms;
    model_bus_stopped(n->sim->bus, n->index);
}

void sim_node_wake(struct sim_node *n)
{
    sim_note(n->sim, NULL, "node % wakes", n->index, 0, 0);
    n->stopped = false;
    n->wake_ms = n->sim->mono_ms;
    pl_hub_set_time(n->hub, n->sim->mono_ms, n->sim->unix_ms);
    model_bus_woken(n->sim->bus, n->index);
    pl_wheel_advance(&n->wheel, n->sim->mono_ms);
}

void sim_node_restart(struct sim_node *n)
{
    sim_note(n->sim, NULL, "node % restarts", n->index, 0, 0);
    node_stop(n);
    n->life++;
    n->sim->counts.restarts++;
    node_start(n);
}

/* ---- a run ---- */

/* With numbers of its own, so that what else happens under a seed stays what it was. */
static void choose_turns(struct sim *s)
{
    struct sim_rng r = {.state = ~s->seed};

    s->profile.turns = sim_chance(&r, 60);
    s->cfg->queue_batch_window = sim_chance(&r, 20) ? 1 + sim_below(&r, 500) : 0;
}

static void choose_profile(struct sim *s)
{
    struct sim_rng *r = &s->rng;
    struct sim_profile *p = &s->profile;
    int64_t ring = 8 + sim_below(r, 60);

    p->memory = sim_chance(r, 25);
    p->kept = !p->memory && sim_chance(r, 60);
    p->tight_bytes = sim_chance(r, 12);
    p->tight_users = !p->kept && sim_chance(r, 10);
    p->log_entries = ring + sim_below(r, 80);
    p->slow_pipe = sim_chance(r, 30) ? 6 : 1;
    p->nodes = p->memory ? 1 : 1 + sim_below(r, SIM_NODES);
    if (p->kept) {
        p->nodes = 2 + sim_below(r, SIM_NODES - 1);
        p->control_entries = sim_chance(r, 25) ? 4 + sim_below(r, 40) : 10000;
        p->trouble = sim_chance(r, 20) ? 0 : 5 + sim_below(r, 40);
        p->log_entries =
            sim_chance(r, 30) ? 4 + sim_below(r, (uint32_t)ring) : p->log_entries + ring;
    }
    p->users = 6 + sim_below(r, SIM_USERS - 5);
    p->clients = 40 + sim_below(r, SIM_CLIENTS - 39);
    p->channels = 3 + sim_below(r, SIM_CHANNELS - 2);
    s->cfg->channel_ring_events = ring;
    s->cfg->channel_ring_bytes = p->tight_bytes ? 4096 + sim_below(r, 8192) : 4 << 20;
    s->cfg->channel_total_bytes = p->tight_bytes ? 65536 : 256 << 20;
    s->cfg->queue_ttl = 2000 + sim_below(r, 10000);
    s->cfg->queue_batch_events = sim_chance(r, 50) ? 1 + sim_below(r, 8) : 1000;
    s->cfg->queue_batch_bytes = sim_chance(r, 20) ? 1024 : 256 << 10;
    s->cfg->limits_queues_per_user = 0;
    s->cfg->limits_users = p->tight_users ? 2 + (int64_t)p->users / 2 : SIM_USERS;
}

void sim_start(struct sim *s, uint64_t seed, uint32_t steps, struct pl_config *cfg, bool verbose)
{
    memset(s, 0, sizeof(*s));
    s->seed = seed;
    s->steps = steps;
    s->cfg = cfg;
    s->verbose = verbose;
    s->rng.state = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    queue_ids.state = sim_random(&s->rng);
    s->mono_ms = 1000000;
    s->unix_ms = INT64_C(1790000000000);
    s->epoch_start = s->newest = (s->unix_ms - 5000) * 1024;
    pl_list_init(&s->dead_links);
    choose_profile(s);
    choose_turns(s);
    pl_wheel_init(&s->wheel, s->mono_ms);
    s->bus = s->profile.memory ? NULL : model_bus_new(s);
    for (size_t n = 0; n < s->profile.nodes; n++) {
        s->nodes[n].sim = s;
        s->nodes[n].index = (int)n;
        node_start(&s->nodes[n]);
    }
    sim_clients_start(s);
}

void sim_stop(struct sim *s)
{
    s->quiet = true;
    for (size_t n = 0; n < s->profile.nodes; n++) {
        node_stop(&s->nodes[n]);
    }
    free_dead_links(s);
    sim_clients_stop(s);
    model_bus_free(s->bus);
    sim_wire_done();
    for (int c = 0; c < SIM_CHANNELS; c++) {
        free(s->logs[c].ids);
    }
    free(s->events);
    free(s->order);
    free(s->orphans);
    free(s->said);
    free(s->tokens);
}

/* ---- through a core to its bus ---- */

struct sending {
    struct sim *sim;
    int64_t foreseen; /* 0: not */
    pl_bus_done_fn *done;
    void *arg;
    uint32_t serials[8];
    size_t count;
};

/* The memory bus announces before it answers, so the oracle must know ids beforehand: event_id =
 * max(previous + 1, unix_ms x 1024). */
static int64_t foresee(const struct sim *s)
{
    return s->unix_ms * 1024 > s->newest ? s->unix_ms * 1024 : s->newest + 1;
}

static void on_change(void *arg, int status, const int64_t *ids, size_t count)
{
    struct sending *w = arg;

    if (status == PL_OK && (count != 1 || (w->foreseen != 0 && ids[0] != w->foreseen))) {
        sim_broken(w->sim, NULL, "a change was to get id %" PRId64 ", not %" PRId64, w->foreseen,
                   ids[0]);
    }
    if (w->foreseen != 0) {
        sim_see_forgotten(&w->sim->nodes[0]);
    }
    w->done(w->arg, status, ids, count);
    free(w);
}

void sim_send_change(struct sim_node *n, const struct sim_change *c, pl_bus_done_fn *done,
                     void *arg)
{
    struct sending *w = pl_alloc(sizeof(*w));
    struct pl_bus_change wire;

    *w = (struct sending){.sim = n->sim, .done = done, .arg = arg};
    if (n->memory != NULL) {
        w->foreseen = foresee(n->sim);
        sim_id_given(n->sim, w->foreseen);
        sim_apply_change(n, w->foreseen, c);
    }
    wire = sim_wire_change(c);
    n->sim->counts.changes++;
    pl_hub_change(n->hub, &wire, on_change, w);
}

static void on_publish(void *arg, int status, const int64_t *ids, size_t count)
{
    struct sending *w = arg;

    for (size_t i = 0; status == PL_OK && i < w->count; i++) {
        if (count != w->count || ids[i] != w->sim->events[w->serials[i]].id) {
            sim_broken(w->sim, NULL, "a publisher was told a wrong id");
        }
    }
    free(w);
}

void sim_publish(struct sim_node *n, const uint32_t *serials, size_t count)
{
    struct sending *w = pl_alloc(sizeof(*w));
    struct sim_wire_event *wires = pl_alloc(count * sizeof(*wires));
    struct pl_bus_event events[8];

    *w = (struct sending){.sim = n->sim, .count = count};
    memcpy(w->serials, serials, count * sizeof(*serials));
    for (size_t i = 0; i < count; i++) {
        if (n->memory != NULL) {
            sim_event_sequenced(n->sim, serials[i], foresee(n->sim));
        }
        sim_wire_event(n->sim, serials[i], &wires[i]);
        events[i] = wires[i].e;
    }
    n->sim->counts.published += count;
    pl_hub_publish(n->hub, events, count, NULL, on_publish, w);
    free(wires);
}
