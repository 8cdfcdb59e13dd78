#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/base/log.h"
#include "tests/sim/sim.h"

/* ---- what backends do ---- */

static struct sim_node *some_node(struct sim *s)
{
    size_t at = sim_below(&s->rng, (uint32_t)s->profile.nodes);

    while (s->nodes[at].stopped) {
        at = (at + 1) % s->profile.nodes;
    }
    return &s->nodes[at];
}

static uint32_t some_channels(struct sim *s, uint32_t percent)
{
    uint32_t set = 0;

    for (size_t c = 0; c < s->profile.channels; c++) {
        set |= sim_chance(&s->rng, percent) ? 1u << c : 0;
    }
    return set;
}

/* Some channels are busy, the last is quiet. */
static uint32_t publish_channels(struct sim *s)
{
    uint32_t n = (uint32_t)s->profile.channels;
    uint32_t at = sim_chance(&s->rng, 60) ? sim_below(&s->rng, 2) : sim_below(&s->rng, n);
    uint32_t set = 1u << at;

    if (at == n - 1 && sim_chance(&s->rng, 70)) {
        set = 1;
    }
    return sim_chance(&s->rng, 15) ? set | 1u << sim_below(&s->rng, n) : set;
}

static uint32_t make_event(struct sim *s)
{
    struct sim_event e = {
        .channels = publish_channels(s),
        .topic = sim_chance(&s->rng, 20) ? 0 : 1 + sim_below(&s->rng, SIM_TOPICS - 1),
        .exclude_user = SIM_NOBODY,
    };

    if (sim_chance(&s->rng, 10)) {
        e.exclude_user = (int)sim_below(&s->rng, (uint32_t)s->profile.users);
    }
    if (sim_chance(&s->rng, 10)) {
        const struct sim_client *c = &s->clients[sim_below(&s->rng, (uint32_t)s->profile.clients)];

        memcpy(e.exclude_queue, c->queue.id, sizeof(e.exclude_queue));
    }
    if (sim_chance(&s->rng, 15)) {
        e.has_subscribers = true;
        for (uint32_t i = sim_below(&s->rng, 6); i > 0; i--) {
            e.subscribers |= UINT64_C(1) << sim_below(&s->rng, (uint32_t)s->profile.users);
        }
    }
    return sim_event_new(s, &e);
}

static void publish_some(struct sim *s)
{
    uint32_t serials[8];
    uint32_t count = sim_chance(&s->rng, 10) ? 1 + sim_below(&s->rng, 8) : 1;

    if (s->event_count + count > SIM_EVENTS) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        serials[i] = make_event(s);
    }
    sim_publish(some_node(s), serials, count);
}

static void on_changed(void *arg, int status, const int64_t *ids, size_t count)
{
    (void)arg;
    (void)status;
    (void)ids;
    (void)count;
}

static void note_change(struct sim *s, const struct sim_change *c)
{
    for (size_t i = 0; i < s->profile.clients; i++) {
        if (s->clients[i].user == c->user) {
            sim_note(s, &s->clients[i], "its user's change of kind % is sent: channels # version %",
                     c->kind, c->membership.channels, c->version);
        }
    }
}

static void change_membership(struct sim *s, int user)
{
    struct sim_membership *m = &s->truth[user];

    m->channels = sim_chance(&s->rng, 50)
                      ? m->channels ^ 1u << sim_below(&s->rng, (uint32_t)s->profile.channels)
                      : some_channels(s, 50);
    m->has_narrowing = sim_chance(&s->rng, 25);
    m->narrowed = m->has_narrowing ? some_channels(s, 40) & m->channels : 0;
    for (int c = 0; c < SIM_CHANNELS; c++) {
        m->topics[c] = (uint8_t)(sim_random(&s->rng) & 0x1e);
    }
    s->versions[user] += s->versions[user] >= 0;
}

/* Sent now, or read now and sent later: by then it may be outdated. */
static void send_update(struct sim *s, int user)
{
    struct sim_change c = {.kind = PL_CHANGE_UPDATE,
                           .user = user,
                           .membership = s->truth[user],
                           .version = s->versions[user],
                           .unix_ms = s->unix_ms & ~INT64_C(1)};

    if (s->late.user == SIM_NOBODY && sim_chance(&s->rng, 20)) {
        s->late = c;
        s->late_step = s->step + sim_below(&s->rng, 60);
        return;
    }
    note_change(s, &c);
    sim_send_change(some_node(s), &c, on_changed, NULL);
}

static void send_late(struct sim *s)
{
    struct sim_change c = s->late;

    if (c.user == SIM_NOBODY || s->step < s->late_step) {
        return;
    }
    s->late.user = SIM_NOBODY;
    c.unix_ms = s->unix_ms & ~INT64_C(1);
    if (sim_chance(&s->rng, 50)) {
        c.kind = PL_CHANGE_REGISTER;
    }
    note_change(s, &c);
    sim_send_change(some_node(s), &c, on_changed, NULL);
}

static void disconnect(struct sim *s)
{
    struct sim_change c = {.kind = PL_CHANGE_DISCONNECT,
                           .user = (int)sim_below(&s->rng, (uint32_t)s->profile.users),
                           .version = -1,
                           .unix_ms = s->unix_ms & ~INT64_C(1)};

    c.blocked_until_ms = sim_chance(&s->rng, 30) ? s->unix_ms + 500 : 0;
    note_change(s, &c);
    sim_send_change(some_node(s), &c, on_changed, NULL);
}

static void goaway(struct sim *s)
{
    pl_hub_goaway(some_node(s)->hub,
                  sim_chance(&s->rng, 50) ? PL_TRANSPORT_NONE : PL_TRANSPORT_LONGPOLL, "transport",
                  1000);
}

static void restart(struct sim *s)
{
    s->stopping = true;
    sim_node_restart(some_node(s));
    s->stopping = false;
}

/* Somebody ends a client's queue, from any node. */
static void kick(struct sim *s)
{
    const struct sim_client *c = &s->clients[sim_below(&s->rng, (uint32_t)s->profile.clients)];
    struct sim_node *n = some_node(s);
    struct sim_queue *q = c->queue.open ? sim_instance(s, n->index, c->queue.id) : NULL;

    if (q != NULL) {
        q->kicked = true;
    }
    if (c->queue.open && !c->waiting) {
        sim_note(s, &s->clients[c->index], "its queue is ended through node %", n->index, 0, 0);
        pl_hub_end_queue(n->hub, (struct pl_str){c->queue.id, PL_QUEUE_ID_SIZE - 1},
                         PL_ERR_DISCONNECTED, on_changed, NULL);
    }
}

static bool all_run(const struct sim *s)
{
    for (size_t n = 0; n < s->profile.nodes; n++) {
        if (s->nodes[n].stopped) {
            return false;
        }
    }
    return true;
}

static void make_trouble(struct sim *s)
{
    uint32_t dice = sim_below(&s->rng, 100);

    if (dice < 70) {
        model_bus_trouble(s->bus);
    } else if (dice < 80) {
        s->stopping = true;
        sim_node_kill(some_node(s));
        s->stopping = false;
    } else if (dice < 90 && all_run(s)) {
        sim_node_stop(some_node(s),
                      100 + sim_below(&s->rng, sim_chance(&s->rng, 30) ? 15000 : 2000));
    } else {
        kick(s);
    }
}

/* ---- a run ---- */

static void act(struct sim *s)
{
    uint32_t dice = sim_below(&s->rng, 1000);

    if (dice < 450) {
        publish_some(s);
    } else if (dice < 500) {
        int user = (int)sim_below(&s->rng, (uint32_t)s->profile.users);

        change_membership(s, user);
        send_update(s, user);
    } else if (dice < 508) {
        disconnect(s);
    } else if (dice < 512) {
        goaway(s);
    } else if (dice < 514) {
        restart(s);
    } else if (dice < 515) {
        sim_pass(s, 1000 + sim_below(&s->rng, 4000));
    }
    send_late(s);
    if (s->profile.kept && sim_below(&s->rng, 1000) < s->profile.trouble) {
        make_trouble(s);
    }
    if (s->bus != NULL && sim_chance(&s->rng, 4)) {
        model_bus_canary(s->bus);
    }
    for (uint32_t i = 2 + sim_below(&s->rng, 6); i > 0; i--) {
        sim_client_act(&s->clients[sim_below(&s->rng, (uint32_t)s->profile.clients)]);
    }
}

static void setup(struct sim *s)
{
    s->late.user = SIM_NOBODY;
    for (int u = 0; u < SIM_USERS; u++) {
        s->versions[u] = sim_chance(&s->rng, 50) ? 0 : -1;
        s->truth[u].channels = some_channels(s, 60);
        if (sim_chance(&s->rng, 30)) {
            change_membership(s, u);
        }
    }
}

/* Every node hears everything again, and an event in every channel, so that no hole stays hidden; whoever has a queue that
 * is another's finds out. */
static void settle_nodes(struct sim *s)
{
    for (size_t n = 0; n < s->profile.nodes; n++) {
        if (s->nodes[n].stopped) {
            sim_node_wake(&s->nodes[n]);
        }
    }
    for (int tries = 0; !model_bus_is_whole(s->bus); tries++) {
        if (tries == 300) {
            sim_broken(s, NULL, "a node does not go on");
        }
        sim_pass(s, 100);
    }
    for (size_t c = 0; c < s->profile.channels && s->event_count < SIM_EVENTS; c++) {
        struct sim_event e = {.channels = 1u << c, .exclude_user = SIM_NOBODY};
        uint32_t serial = sim_event_new(s, &e);

        sim_publish(some_node(s), &serial, 1);
    }
    sim_pass(s, (uint64_t)s->cfg->queue_ttl + 3000);
}

/* Nothing new happens, everybody is connected: whatever is owed must arrive. */
static void settle(struct sim *s)
{
    s->quiet = true;
    if (s->bus != NULL) {
        model_bus_calm(s->bus);
    }
    sim_pass(s, 8000); /* slow announcements and blocks end, registers are answered */
    if (s->profile.kept) {
        settle_nodes(s);
    }
    for (int round = 0; round < 2000 && !(round > 5 && sim_all_settled(s)); round++) {
        s->step++;
        s->full = s->profile.tight_users && round > 20;
        if (s->bus != NULL) {
            model_bus_canary(s->bus);
        }
        for (size_t i = 0; i < s->profile.clients; i++) {
            sim_client_settle(&s->clients[i]);
        }
        sim_pass(s, 100);
    }
    sim_judge_end(s);
}

static void run(uint64_t seed, uint32_t steps, struct pl_config *cfg, bool verbose,
                struct sim_counts *sum)
{
    static struct sim s;

    sim_start(&s, seed, steps, cfg, verbose);
    setup(&s);
    for (s.step = 0; s.step < steps; s.step++) {
        act(&s);
        sim_pass(&s, 1 + sim_below(&s.rng, 40));
        if (s.step % 16 == 0) {
            sim_judge_bounds(&s);
        }
    }
    settle(&s);
    sim_judge_bounds(&s);
    s.stopping = true;
    sim_stop(&s);
    for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++) {
        ((uint64_t *)sum)[i] += ((const uint64_t *)&s.counts)[i];
    }
}

/* ---- the program ---- */

static const char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

struct arguments {
    uint64_t from, to;
    uint32_t steps;
    bool verbose;
};

static bool parse(int argc, char **argv, struct arguments *a)
{
    for (int i = 1; i < argc; i++) {
        bool last = i + 1 == argc;

        if (strcmp(argv[i], "--verbose") == 0) {
            a->verbose = true;
        } else if (strcmp(argv[i], "--steps") == 0 && !last) {
            a->steps = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && !last) {
            a->from = a->to = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seeds") == 0 && !last) {
            if (sscanf(argv[++i], "%" SCNu64 "..%" SCNu64, &a->from, &a->to) != 2) {
                return false;
            }
        } else {
            return false;
        }
    }
    return a->steps > 0 && a->from <= a->to;
}

int main(int argc, char **argv)
{
    struct arguments a = {.from = 1, .to = 1000, .steps = 280};
    struct pl_config_sources none = {.getenv_fn = no_environment};
    struct pl_config_error err;
    struct pl_config *cfg;
    struct sim_counts sum = {0};

    if (!parse(argc, argv, &a)) {
        fprintf(stderr, "usage: sim [--seeds FROM..TO] [--steps N] [--seed S --verbose]\n");
        return 2;
    }
    if (pl_config_load(&none, &cfg, &err) != 0) {
        fprintf(stderr, "sim: %s\n", err.text);
        return 2;
    }
    pl_log_setup(PL_LOG_OFF, PL_LOG_KV);
    for (uint64_t seed = a.from; seed <= a.to; seed++) {
        run(seed, a.steps, cfg, a.verbose, &sum);
    }
    pl_config_free(cfg);
    printf("sim: %" PRIu64 " seeds of %u steps: %" PRIu64 " published, %" PRIu64 " frames, %" PRIu64
           " delivered, %" PRIu64 " duplicates, %" PRIu64 " catch-ups, %" PRIu64
           " changes, %" PRIu64 " restarts, %" PRIu64 " replaced, %" PRIu64 " queues gone, %" PRIu64
           " claimed, %" PRIu64 " cuts, %" PRIu64 " stops, %" PRIu64 " epochs, %" PRIu64
           " gaps, %.1f s\n",
           a.to - a.from + 1, a.steps, sum.published, sum.sent, sum.delivered, sum.duplicates,
           sum.catchups, sum.changes, sum.restarts, sum.replaced, sum.gone, sum.claims, sum.cuts,
           sum.stops, sum.epochs, sum.gaps, (double)clock() / CLOCKS_PER_SEC);
    return 0;
}
