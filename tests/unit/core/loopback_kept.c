#include "tests/unit/core/loopback_kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/list.h"

enum {
    QUEUES_MAX = 512,
    CHANGES_MAX = 64,
    USERS_MAX = 8,
    TOLD_MAX = 16,
};

struct told {
    void *bus;
    char queue_id[PL_QUEUE_ID_SIZE];
    int64_t generation; /* taken with this; 0: to be ended with status */
    int status;
};

/* What the nodes share. */
struct store {
    unsigned refs;
    int64_t last_id;
    struct lb_queue_record queues[QUEUES_MAX];
    size_t queue_count;
    struct pl_bus_user_change changes[CHANGES_MAX]; /* in the arena */
    size_t change_count;
    struct {
        char user[256];
        int64_t as_of;
        struct pl_buf bytes;
    } snapshots[USERS_MAX];
    size_t snapshot_count;
    struct told told[TOLD_MAX];
    size_t told_count;
    struct pl_arena arena;
};

struct kept_bus {
    struct lb_script_bus base;
    struct store *store;
    struct pl_list calls;
    size_t heard; /* changes */
    struct lb_kept_counts counts;
};

static struct kept_bus *bus_of(struct loopback *lb)
{
    assert_ptr_equal(lb->kind, &lb_kept);
    return lb->bus;
}

static void copy_text(char *to, size_t size, struct pl_str s)
{
    assert_true(s.len < size);
    memset(to, 0, size);
    if (s.len > 0) {
        memcpy(to, s.s, s.len);
    }
}

static void copy_bytes(struct pl_buf *to, struct pl_str s)
{
    to->len = 0;
    if (s.len > 0) {
        pl_buf_append(to, s.s, s.len);
    }
}

static struct pl_str bytes_of(const struct pl_buf *b)
{
    return (struct pl_str){(const char *)b->data, b->len};
}

/* ---- the store ---- */

static struct lb_queue_record *find_queue(struct store *s, const char *id)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (strcmp(s->queues[i].id, id) == 0) {
            return &s->queues[i];
        }
    }
    return NULL;
}

static void tell(struct store *s, void *bus, const char *queue_id, int64_t generation, int status)
{
    assert_true(s->told_count < TOLD_MAX);
    s->told[s->told_count] = (struct told){.bus = bus, .generation = generation, .status = status};
    memcpy(s->told[s->told_count++].queue_id, queue_id, PL_QUEUE_ID_SIZE);
}

static struct pl_str copy_str(struct store *s, struct pl_str from)
{
    char *to = pl_arena_alloc(&s->arena, from.len + 1);

    if (from.len > 0) {
        memcpy(to, from.s, from.len);
    }
    return (struct pl_str){to, from.len};
}

static struct pl_str *copy_strs(struct store *s, const struct pl_str *from, size_t count)
{
    struct pl_str *to = pl_arena_alloc(&s->arena, (count + 1) * sizeof(*to));

    for (size_t i = 0; i < count; i++) {
        to[i] = copy_str(s, from[i]);
    }
    return to;
}

static const struct pl_membership *copy_membership(struct store *s,
                                                   const struct pl_membership *from)
{
    struct pl_membership *m = pl_arena_alloc(&s->arena, sizeof(*m));

    *m = *from;
    m->channels = copy_strs(s, from->channels, from->channel_count);
    m->narrowing = pl_arena_alloc(&s->arena, (from->narrowing_count + 1) * sizeof(*m->narrowing));
    for (size_t i = 0; i < from->narrowing_count; i++) {
        const struct pl_narrowing *n = &from->narrowing[i];

        m->narrowing[i] = (struct pl_narrowing){
            copy_str(s, n->channel), copy_strs(s, n->topics, n->topic_count), n->topic_count};
    }
    return m;
}

static int64_t add_change(struct store *s, const struct pl_bus_change *c)
{
    struct pl_bus_user_change *to = &s->changes[s->change_count++];

    assert_true(s->change_count <= CHANGES_MAX);
    to->id = ++s->last_id;
    to->change = *c;
    to->change.user_id = copy_str(s, c->user_id);
    if (c->membership != NULL) {
        to->change.membership = copy_membership(s, c->membership);
    }
    return to->id;
}

static void tell_user(struct kept_bus *b, const char *user, int64_t as_of)
{
    struct store *s = b->store;
    struct pl_bus_user_change changes[CHANGES_MAX];
    struct pl_bus_user u = {.user_id = lb_str(user), .as_of = as_of, .changes = changes};
    int64_t after = 0;

    for (size_t i = 0; i < s->snapshot_count; i++) {
        if (strcmp(s->snapshots[i].user, user) == 0) {
            u.snapshot = bytes_of(&s->snapshots[i].bytes);
            after = s->snapshots[i].as_of;
        }
    }
    for (size_t i = 0; i < s->change_count; i++) {
        const struct pl_bus_user_change *c = &s->changes[i];

        if (c->id > after && c->id <= as_of && pl_str_eq(c->change.user_id, u.user_id)) {
            changes[u.change_count++] = *c;
        }
    }
    pl_hub_bus_user(b->base.hub, &u);
}

/* ---- what a node asks ---- */

static struct lb_call *add_call(struct kept_bus *b, enum lb_call_kind kind, struct pl_str name)
{
    struct lb_call *c = pl_alloc(sizeof(*c));

    c->kind = kind;
    copy_text(c->name, sizeof(c->name), name);
    pl_list_init(&c->node);
    pl_list_append(&b->calls, &c->node);
    b->counts.asked[kind]++;
    return c;
}

static void free_call(struct lb_call *c)
{
    pl_list_remove(&c->node);
    pl_buf_done(&c->queue.state);
    free(c);
}

static void kept_publish(void *bus, const struct pl_bus_event *events, size_t count,
                         const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg)
{
    lb_script.ops->publish(bus, events, count, key, done, arg);
}

static void kept_change(void *bus, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg)
{
    struct kept_bus *b = bus;
    char user[256];
    int64_t id;

    assert_int_equal(b->heard, b->store->change_count); /* in order: lb_hear first */
    id = add_change(b->store, c);
    b->heard++;
    copy_text(user, sizeof(user), c->user_id);
    tell_user(b, user, id);
    pl_hub_bus_change(b->base.hub, id, c);
    done(arg, PL_OK, &id, 1);
}

static void kept_open(void *bus, struct pl_str channel, int64_t after_id)
{
    lb_script.ops->open(bus, channel, after_id);
}

static void kept_close(void *bus, struct pl_str channel)
{
    lb_script.ops->close(bus, channel);
}

static void kept_sequence(void *bus, pl_bus_done_fn *done, void *arg)
{
    struct lb_call *c = add_call(bus, LB_SEQUENCE, lb_str("sequence"));

    c->done = done;
    c->arg = arg;
}

static void kept_read(void *bus, struct pl_str channel, int64_t after, int64_t upto)
{
    struct lb_call *c = add_call(bus, LB_READ, channel);

    c->after = after;
    c->upto = upto;
}

static void kept_save(void *bus, const struct pl_bus_queue *queues, size_t count)
{
    struct kept_bus *b = bus;

    assert_true(count > 0);
    b->counts.save_calls++;
    b->counts.saved += count;
    for (size_t i = 0; i < count; i++) {
        struct lb_call *c = add_call(b, LB_SAVE, queues[i].queue_id);

        copy_text(c->queue.id, sizeof(c->queue.id), queues[i].queue_id);
        copy_text(c->queue.user, sizeof(c->queue.user), queues[i].user_id);
        c->queue.generation = queues[i].generation;
        c->queue.position = queues[i].position;
        copy_bytes(&c->queue.state, queues[i].state);
        (void)snprintf(c->transport, sizeof(c->transport), "%s", queues[i].transport);
    }
}

static void kept_claim(void *bus, struct pl_str queue_id, int64_t came_ms, bool back)
{
    struct lb_call *c = add_call(bus, LB_CLAIM, queue_id);

    c->came_ms = came_ms;
    c->back = back;
}

static void execute(struct kept_bus *b, struct lb_call *c);

static void kept_drop(void *bus, struct pl_str queue_id, struct pl_str user_id, int64_t generation)
{
    struct kept_bus *b = bus;
    char id[PL_QUEUE_ID_SIZE];
    struct lb_queue_record *q;

    (void)user_id;
    b->counts.drops++;
    copy_text(id, sizeof(id), queue_id);
    q = find_queue(b->store, id);
    if (q != NULL && !q->dead && q->generation <= generation) {
        q->dead = true;
        b->counts.dropped++;
    }
}

static void kept_end_queue(void *bus, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                           void *arg)
{
    struct lb_call *c = add_call(bus, LB_END, queue_id);

    c->end_status = status;
    c->done = done;
    c->arg = arg;
    execute(bus, c); /* commands are carried out in order: before a drop that follows */
}

static void kept_user(void *bus, struct pl_str user_id)
{
    (void)add_call(bus, LB_USER, user_id);
}

static void kept_compact(void *bus, struct pl_str user_id, int64_t as_of, struct pl_str snapshot)
{
    struct kept_bus *b = bus;
    struct store *s = b->store;
    size_t i = 0;

    while (i < s->snapshot_count && !pl_str_eq(lb_str(s->snapshots[i].user), user_id)) {
        i++;
    }
    assert_true(i < USERS_MAX);
    s->snapshot_count += i == s->snapshot_count;
    copy_text(s->snapshots[i].user, sizeof(s->snapshots[i].user), user_id);
    copy_bytes(&s->snapshots[i].bytes, snapshot);
    s->snapshots[i].as_of = as_of;
    b->counts.compacted++;
}

static const struct pl_bus_ops kept_ops = {
    .publish = kept_publish,
    .change = kept_change,
    .open = kept_open,
    .close = kept_close,
    .sequence = kept_sequence,
    .read = kept_read,
    .save = kept_save,
    .claim = kept_claim,
    .drop = kept_drop,
    .end_queue = kept_end_queue,
    .user = kept_user,
    .compact = kept_compact,
};

/* ---- what becomes of it ---- */

static void execute_save(struct kept_bus *b, struct lb_call *c)
{
    struct lb_queue_record *q = find_queue(b->store, c->name);

    c->status = PL_ERR_REPLACED;
    if (q == NULL && c->queue.state.len > 0) {
        q = &b->store->queues[b->store->queue_count++];
        assert_true(b->store->queue_count <= QUEUES_MAX);
        memcpy(q->id, c->queue.id, sizeof(q->id));
        memcpy(q->user, c->queue.user, sizeof(q->user));
        q->generation = c->queue.generation;
    }
    if (q == NULL || q->dead || q->generation > c->queue.generation) {
        return;
    }
    c->status = PL_OK;
    q->owner = b;
    q->generation = q->saved_by = c->queue.generation;
    q->position = c->queue.position > q->position ? c->queue.position : q->position;
    if (c->queue.state.len > 0) {
        copy_bytes(&q->state, bytes_of(&c->queue.state));
    }
}

static void execute_claim(struct kept_bus *b, struct lb_call *c)
{
    struct lb_queue_record *q = find_queue(b->store, c->name);

    if (q == NULL || q->dead) {
        c->status = q == NULL ? PL_ERR_QUEUE_NOT_FOUND : PL_ERR_DISCONNECTED;
        return;
    }
    if (c->back ? c->came_ms <= q->came_ms : c->came_ms < q->came_ms) {
        c->status = PL_ERR_REPLACED;
        c->came_ms = q->came_ms;
        return;
    }
    q->came_ms = c->came_ms;
    q->generation++;
    if (q->owner != NULL && q->owner != b) {
        tell(b->store, q->owner, q->id, q->generation, 0);
    }
    q->owner = b;
    c->queue = *q;
    c->queue.state = (struct pl_buf){0};
    copy_bytes(&c->queue.state, bytes_of(&q->state));
}

static void execute_end(struct kept_bus *b, struct lb_call *c)
{
    struct lb_queue_record *q = find_queue(b->store, c->name);

    c->count = q != NULL && !q->dead;
    if (c->count > 0) {
        q->dead = true;
        tell(b->store, q->owner, q->id, 0, c->end_status);
    }
}

static void execute(struct kept_bus *b, struct lb_call *c)
{
    if (c->executed) {
        return;
    }
    c->executed = true;
    c->as_of = b->store->last_id;
    if (c->kind == LB_SAVE) {
        execute_save(b, c);
    } else if (c->kind == LB_CLAIM) {
        execute_claim(b, c);
    } else if (c->kind == LB_END) {
        execute_end(b, c);
    }
}

static void answer_claim(struct kept_bus *b, struct lb_call *c)
{
    struct pl_bus_queue q = {
        .queue_id = lb_str(c->name),
        .user_id = lb_str(c->queue.user),
        .generation = c->queue.generation,
        .position = c->queue.position,
        .state = bytes_of(&c->queue.state),
        .saved_by = c->queue.saved_by,
        .transport = "none",
    };

    if (c->status == PL_OK) {
        tell_user(b, c->queue.user, c->as_of);
    }
    q.since_ms = c->came_ms;
    pl_hub_bus_claimed(b->base.hub, q.queue_id, c->status,
                       c->status == PL_OK || c->status == PL_ERR_REPLACED ? &q : NULL);
}

static void answer_user(struct kept_bus *b, struct lb_call *c)
{
    if (c->status == PL_OK) {
        tell_user(b, c->name, c->as_of);
    }
    pl_hub_bus_user_done(b->base.hub, lb_str(c->name), c->status);
}

static void answer(struct kept_bus *b, struct lb_call *c)
{
    pl_list_remove(&c->node); /* what is asked from inside comes behind it */
    switch (c->kind) {
    case LB_SAVE:
        pl_hub_bus_saved(b->base.hub, lb_str(c->name), c->queue.generation, c->status);
        break;
    case LB_CLAIM:
        answer_claim(b, c);
        break;
    case LB_USER:
        answer_user(b, c);
        break;
    case LB_END:
        c->done(c->arg, c->status, &c->count, c->status == PL_OK);
        break;
    case LB_SEQUENCE:
        c->done(c->arg, c->status, &c->as_of, c->status == PL_OK);
        break;
    case LB_READ: /* never answered without a log: lb_answer_read */
    case LB_CALL_KINDS:
        break;
    }
    free_call(c);
}

/* ---- in the test's hands ---- */

static struct lb_call *find_call(struct kept_bus *b, enum lb_call_kind kind, bool unexecuted)
{
    pl_list_foreach(n, &b->calls) {
        struct lb_call *c = pl_container_of(n, struct lb_call, node);

        if (c->kind == kind && !(unexecuted && c->executed)) {
            return c;
        }
    }
    fail_msg("nothing of the kind was asked: %d", (int)kind);
    return NULL;
}

size_t lb_calls(struct loopback *lb, enum lb_call_kind kind)
{
    size_t count = 0;

    pl_list_foreach(n, &bus_of(lb)->calls) {
        count += pl_container_of(n, struct lb_call, node)->kind == kind;
    }
    return count;
}

const struct lb_call *lb_call(struct loopback *lb, enum lb_call_kind kind)
{
    return find_call(bus_of(lb), kind, false);
}

void lb_execute(struct loopback *lb, enum lb_call_kind kind)
{
    execute(bus_of(lb), find_call(bus_of(lb), kind, true));
}

void lb_answer(struct loopback *lb, enum lb_call_kind kind)
{
    struct kept_bus *b = bus_of(lb);
    struct lb_call *c = find_call(b, kind, false);

    execute(b, c);
    answer(b, c);
}

void lb_fail(struct loopback *lb, enum lb_call_kind kind)
{
    struct lb_call *c = find_call(bus_of(lb), kind, false);

    assert_false(c->executed);
    c->executed = true;
    c->status = PL_ERR_BUS;
    answer(bus_of(lb), c);
}

void lb_fail_all(struct loopback *lb)
{
    for (int kind = 0; kind < LB_CALL_KINDS; kind++) {
        for (size_t n = lb_calls(lb, kind); n > 0; n--) {
            lb_fail(lb, kind);
        }
    }
}

void lb_answer_read(struct loopback *lb, const char *channel, const struct lb_log *log)
{
    struct kept_bus *b = bus_of(lb);
    struct lb_call *c = find_call(b, LB_READ, false);
    struct pl_arena a = {0};
    struct pl_bus_event *events = pl_arena_alloc(&a, (log->count + 1) * sizeof(*events));
    struct pl_bus_log_entry *entries = pl_arena_alloc(&a, (log->count + 1) * sizeof(*entries));

    assert_string_equal(c->name, channel);
    assert_int_equal(c->after, log->after_id);
    assert_int_equal(c->upto, log->whole_to);
    for (size_t n = 0; n < log->count; n++) {
        events[n] = lb_bus_event(&log->entries[n].e, &a);
        entries[n] =
            (struct pl_bus_log_entry){log->entries[n].id, log->entries[n].prev, &events[n]};
    }
    free_call(c);
    pl_hub_bus_read(lb->hub, lb_str(channel), log->floor, entries, log->count, log->whole_to);
    pl_arena_done(&a);
}

static void hear_told(struct kept_bus *b)
{
    struct store *s = b->store;

    for (size_t i = 0; i < s->told_count;) {
        struct told t = s->told[i];

        if (t.bus != b) {
            i++;
            continue;
        }
        memmove(&s->told[i], &s->told[i + 1], (--s->told_count - i) * sizeof(t));
        if (t.generation > 0) {
            pl_hub_bus_taken(b->base.hub, lb_str(t.queue_id), t.generation, 0);
        } else {
            pl_hub_bus_end_queue(b->base.hub, lb_str(t.queue_id), t.status);
        }
    }
}

void lb_hear(struct loopback *lb)
{
    struct kept_bus *b = bus_of(lb);

    while (b->heard < b->store->change_count) {
        const struct pl_bus_user_change *c = &b->store->changes[b->heard++];

        pl_hub_bus_change(lb->hub, c->id, &c->change);
    }
    hear_told(b);
}

void lb_settle(struct loopback *lb)
{
    struct kept_bus *b = bus_of(lb);

    lb_pass(lb, 24);
    lb_hear(lb);
    for (int again = 0; again < 2; again++) {
        for (int kind = 0; kind < LB_CALL_KINDS; kind++) {
            while (kind != LB_READ && lb_calls(lb, kind) > 0) {
                lb_answer(lb, kind);
            }
        }
        lb_pass(lb, 24);
    }
    while (b->base.open_count > 0) {
        lb_answer_open_empty(lb, b->base.opens[0].channel, b->store->last_id);
    }
    pl_hub_bus_applied(lb->hub, b->store->last_id);
}

const struct lb_kept_counts *lb_kept_counts(struct loopback *lb)
{
    return &bus_of(lb)->counts;
}

struct lb_queue_record *lb_record(struct loopback *lb, const char *queue_id)
{
    struct lb_queue_record *q = find_queue(bus_of(lb)->store, queue_id);

    return q != NULL && !q->dead ? q : NULL;
}

int64_t lb_sequence_id(struct loopback *lb)
{
    return bus_of(lb)->store->last_id;
}

int64_t lb_elsewhere(struct loopback *lb, enum pl_change_kind kind, const char *user,
                     const char *membership, int64_t unix_ms)
{
    struct pl_arena a = {0};
    int64_t id = add_change(
        bus_of(lb)->store,
        &(struct pl_bus_change){
            .kind = kind,
            .user_id = lb_str(user),
            .membership = kind != PL_CHANGE_DISCONNECT ? lb_membership(membership, &a) : NULL,
            .unix_ms = unix_ms,
        });

    pl_arena_done(&a);
    return id;
}

/* ---- who waits ---- */

void lb_ready(void *arg, int status)
{
    struct lb_waiter *w = arg;

    w->calls++;
    w->status = status;
}

void lb_prepare(struct loopback *lb, const char *user, const char *queue_id, struct lb_waiter *w)
{
    *w = (struct lb_waiter){0};
    assert_true(pl_hub_asks(lb->hub, lb_str(user), lb_str(queue_id)));
    pl_hub_prepare(lb->hub, lb_str(user), lb_str(queue_id), lb_ready, w);
    assert_int_equal(w->calls, 0);
}

int lb_fetch(struct loopback *lb, const char *user, const char *queue_id)
{
    struct lb_waiter w;

    lb_prepare(lb, user, queue_id, &w);
    lb_settle(lb);
    assert_int_equal(w.calls, 1);
    return w.status;
}

struct pl_queue *lb_find(struct loopback *lb, const char *queue_id)
{
    return pl_queue_find(lb->hub, lb_str(queue_id));
}

struct pl_queue *lb_kept_queue(struct loopback *lb, const char *user, const char *membership)
{
    struct pl_queue *q = lb_queue(lb, user, membership);

    lb_settle(lb);
    assert_non_null(lb_record(lb, lb_queue_id(q)));
    return q;
}

/* ---- life ---- */

static struct store *shared; /* what the next node joins; NULL: one of its own */

static void *kept_make(const struct pl_config *cfg, int64_t unix_ms)
{
    struct kept_bus *b = pl_alloc(sizeof(*b));

    (void)cfg;
    b->store = shared != NULL ? shared : pl_alloc(sizeof(*b->store));
    if (b->store->refs++ == 0) {
        b->store->last_id = unix_ms * 1024;
    }
    b->heard = b->store->change_count;
    b->base.epoch = unix_ms * 1024;
    b->base.last_id = b->store->last_id;
    b->base.shared_id = &b->store->last_id;
    pl_list_init(&b->calls);
    return b;
}

static void kept_release(void *bus)
{
    struct kept_bus *b = bus;
    struct store *s = b->store;

    if (--s->refs == 0) {
        for (size_t i = 0; i < s->queue_count; i++) {
            pl_buf_done(&s->queues[i].state);
        }
        for (size_t i = 0; i < s->snapshot_count; i++) {
            pl_buf_done(&s->snapshots[i].bytes);
        }
        pl_arena_done(&s->arena);
        free(s);
    }
    free(b);
}

/* Between the node's leaving and the hub's end a bus answers or drops what is open; this one answers what belongs to
 * somebody else, and drops the rest. */
static void kept_leave(void *bus)
{
    struct kept_bus *b = bus;

    while (!pl_list_empty(&b->calls)) {
        struct lb_call *c = pl_container_of(b->calls.next, struct lb_call, node);

        if (c->done != NULL) {
            c->done(c->arg, PL_ERR_BUS, NULL, 0);
        }
        free_call(c);
    }
}

static int64_t kept_epoch(const void *bus)
{
    return ((const struct kept_bus *)bus)->base.epoch;
}

static void kept_connect(void *bus, struct pl_hub *h)
{
    ((struct kept_bus *)bus)->base.hub = h;
}

const struct lb_bus lb_kept = {
    .name = "kept",
    .ops = &kept_ops,
    .scripted = true,
    .make = kept_make,
    .release = kept_release,
    .epoch = kept_epoch,
    .connect = kept_connect,
    .leave = kept_leave,
};

int lb_start_kept(void **state)
{
    *state = lb_new(&lb_kept);
    return 0;
}

struct loopback *lb_join(struct loopback *lb)
{
    struct loopback *joined;

    shared = bus_of(lb)->store;
    joined = lb_new(&lb_kept);
    shared = NULL;
    joined->peer = lb->peer;
    lb->peer = joined;
    pl_hub_bus_applied(joined->hub, lb_sequence_id(lb));
    return joined;
}

void lb_kill(struct loopback *lb, struct loopback *dead)
{
    void *state = dead;

    assert_ptr_equal(lb->peer, dead);
    lb->peer = dead->peer;
    dead->peer = NULL;
    for (size_t i = 0; i < bus_of(lb)->store->queue_count; i++) {
        struct lb_queue_record *q = &bus_of(lb)->store->queues[i];

        q->owner = q->owner == dead->bus ? NULL : q->owner;
    }
    (void)lb_stop(&state);
}
