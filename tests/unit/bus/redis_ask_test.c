#include "tests/unit/bus/redis_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"

/* What has one answer, asked of a real server that is hurt meanwhile. */

#define BODY                                                                                       \
    "{\"type\":\"t\",\"timestamp\":\"2026-11-20T10:30:00.000Z\",\"community_ids\":[1],\"data\":{}" \
    "}"

static int64_t log_length(struct rn *c)
{
    return rn_integer(c, "XLEN {parley}:log:%s", "community:1");
}

static struct pl_bus_key key_of(const char *key, uint64_t body_hash)
{
    return (struct pl_bus_key){{key, strlen(key)}, 99, body_hash};
}

struct batch {
    struct rn_outcome *o;
    int count;
};

static bool all_done(void *arg)
{
    const struct batch *b = arg;

    for (int i = 0; i < b->count; i++) {
        if (b->o[i].calls == 0) {
            return false;
        }
    }
    return true;
}

static void assert_all_ok_and_growing(const struct batch *b)
{
    int64_t last = 0;

    for (int i = 0; i < b->count; i++) {
        assert_int_equal(b->o[i].calls, 1);
        assert_int_equal(b->o[i].status, PL_OK);
        assert_true(b->o[i].ids[0] > last);
        last = b->o[i].ids[0];
    }
}

/* ---- publish ---- */

static void a_publish_is_answered_with_the_id_in_the_log(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o;
    struct redisReply *r;
    char id[32];

    rn_publish(n, BODY, NULL, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_int_equal(o.count, 1);
    (void)snprintf(id, sizeof(id), "%lld-0", (long long)o.ids[0]);
    r = rs_command(&c->redis, "XRANGE {parley}:log:community:1 %s %s", id, id);
    assert_int_equal(r->elements, 1);
    freeReplyObject(r);
    assert_true(n->bus->newest >= o.ids[0]);
}

static void events_of_one_publish_share_their_channels(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    const struct pl_str one[] = {PL_LIT("community:1"), PL_LIT("room:x")};
    const struct pl_str two[] = {PL_LIT("community:2"), PL_LIT("room:x")};
    const struct pl_bus_event e[] = {
        {.body = PL_LIT(BODY), .channels = one, .channel_count = 2},
        {.body = PL_LIT(BODY), .channels = two, .channel_count = 2},
        {.body = PL_LIT(BODY), .channels = one, .channel_count = 1},
    };
    struct rn_outcome o = {0};

    pl_hub_publish(n->hub, e, 3, NULL, rn_done, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_int_equal(o.count, 3);
    assert_true(o.ids[0] < o.ids[1] && o.ids[1] < o.ids[2]);
    assert_int_equal(rn_integer(c, "XLEN {parley}:log:%s", "community:1"), 2);
    assert_int_equal(rn_integer(c, "XLEN {parley}:log:%s", "community:2"), 1);
    assert_int_equal(rn_integer(c, "XLEN {parley}:log:%s", "room:x"), 2);
}

static void what_was_answered_is_remembered_with_its_tag(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct pl_redis_mark marks[200];
    struct rn_outcome o[70];
    struct batch b = {o, 70};
    struct redisReply *r;
    size_t count;

    for (int i = 0; i < 70; i++) {
        rn_publish(n, BODY, NULL, &o[i]);
    }
    assert_true(rn_until(c, all_done, &b, 5000));
    count = pl_redis__ask_marks(n->bus->ask, marks, 200);
    assert_int_equal(count, 64);
    for (size_t i = 0; i < count; i++) {
        char id[32];

        assert_true(pl_str_eq(marks[i].channel, PL_LIT("community:1")));
        (void)snprintf(id, sizeof(id), "%lld-0", (long long)marks[i].id);
        r = rs_command(&c->redis, "XRANGE {parley}:log:community:1 %s %s", id, id);
        assert_int_equal(r->elements, 1);
        assert_int_equal(marks[i].tag.len, 8);
        assert_memory_equal(r->element[0]->element[1]->element[3]->str, marks[i].tag.s, 8);
        freeReplyObject(r);
    }
    n->bus->epoch++;
    assert_int_equal(pl_redis__ask_marks(n->bus->ask, marks, 200), 0);
    n->bus->epoch--;
}

static void connections_killed_midway_lose_and_double_nothing(void **state)
{
    enum {
        COUNT = 400
    };
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome *o = pl_alloc(COUNT * sizeof(*o));
    struct batch b = {o, COUNT};

    for (int i = 0; i < COUNT; i++) {
        if (!n->bus->up) {
            rn_wait_up(c, n);
        }
        rn_publish(n, BODY, NULL, &o[i]);
        if (i % 100 == 50) {
            rs_do(&c->redis, "CLIENT KILL TYPE normal SKIPME yes");
        } else if (i % 10 == 0) {
            rn_pass(c, 1);
        }
    }
    assert_true(rn_until(c, all_done, &b, 5000));
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(o[i].calls, 1);
        assert_int_equal(o[i].status, PL_OK);
    }
    assert_int_equal(log_length(c), COUNT);
    assert_true(pl_metric_values[PL_S_BUS_RETRIES] > 0);
    free(o);
}

static void a_stopped_server_gets_the_retry_and_takes_one(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o[20];
    struct batch b = {o, 20};

    rs_pause(&c->redis);
    for (int i = 0; i < 20; i++) {
        rn_publish(n, BODY, NULL, &o[i]);
    }
    rn_pass(c, 650);
    assert_false(n->bus->up);
    assert_int_equal(o[0].calls, 0);
    rs_resume(&c->redis);
    assert_true(rn_until(c, all_done, &b, 3000));
    assert_all_ok_and_growing(&b);
    assert_int_equal(log_length(c), 20);
}

static void after_twice_the_timeout_the_outcome_is_unknown(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o;
    uint64_t begun;

    rs_pause(&c->redis);
    begun = rs_now_ms(NULL);
    rn_publish(n, BODY, NULL, &o);
    assert_int_equal(rn_wait(c, &o), PL_ERR_BUS);
    assert_in_range(rs_now_ms(NULL) - begun, 990, 1499); /* not thrice; clocks of whole ms */
    rs_resume(&c->redis);
    rn_wait_live(c);
    rn_pass(c, 100);
    assert_int_equal(o.calls, 1);
    assert_in_range(log_length(c), 0, 1);
}

static void while_the_bus_is_away_it_says_so_at_once(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_add(c);
    struct pl_membership none = {.channel_count = 0};
    struct pl_bus_change change = {
        .kind = PL_CHANGE_UPDATE, .user_id = PL_LIT("7"), .membership = &none};
    struct rn_outcome o;

    rn_publish(n, BODY, NULL, &o);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.status, PL_ERR_BUS);
    o.calls = 0;
    pl_hub_change(n->hub, &change, rn_done, &o);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.status, PL_ERR_BUS);
    o.calls = 0;
    pl_hub_sequence(n->hub, rn_done, &o);
    assert_int_equal(rn_wait(c, &o), PL_ERR_BUS);
}

static void a_key_gives_the_first_outcome_on_every_node(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    struct pl_bus_key k = key_of("order 1", 5), other = key_of("order 1", 6);
    struct rn_outcome first, second, wrong;

    rn_publish(a, BODY, &k, &first);
    assert_int_equal(rn_wait(c, &first), PL_OK);
    rn_publish(b, BODY, &k, &second);
    rn_publish(b, BODY, &other, &wrong);
    assert_int_equal(rn_wait(c, &second), PL_OK);
    assert_int_equal(rn_wait(c, &wrong), PL_ERR_IDEMPOTENCY);
    assert_int_equal(second.ids[0], first.ids[0]);
    assert_int_equal(log_length(c), 1);
    k.scope++;
    rn_publish(b, BODY, &k, &second);
    assert_int_equal(rn_wait(c, &second), PL_OK);
    assert_int_not_equal(second.ids[0], first.ids[0]);
    assert_in_range(rn_integer(c, "PTTL {parley}:idem:%s", "0000000000000063:order 1"),
                    a->cfg->publish_idempotency_ttl - 5000, a->cfg->publish_idempotency_ttl);
}

static void beyond_what_may_wait_the_node_is_overloaded(void **state)
{
    enum {
        COUNT = 10002
    };
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome *o = pl_alloc(COUNT * sizeof(*o));
    struct batch b = {o, COUNT};
    char *big = pl_alloc(33 * 1048576);

    n->cfg->bus_timeout = 5000; /* of what is kept; the connection has its own already */
    rs_pause(&c->redis);
    for (int i = 0; i < COUNT; i++) {
        rn_publish(n, BODY, NULL, &o[i]);
    }
    assert_int_equal(o[9999].calls, 0);
    assert_int_equal(o[10000].status, PL_ERR_OVERLOADED);
    assert_int_equal(o[10001].status, PL_ERR_OVERLOADED);
    rs_resume(&c->redis);
    assert_true(rn_until(c, all_done, &b, 15000));
    assert_int_equal(log_length(c), 10000);

    memset(big, 'x', 33 * 1048576 - 1);
    rs_pause(&c->redis);
    rn_publish(n, big, NULL, &o[0]);
    rn_publish(n, big, NULL, &o[1]);
    assert_int_equal(o[0].calls, 0);
    assert_int_equal(o[1].status, PL_ERR_OVERLOADED);
    rs_resume(&c->redis);
    b.count = 1;
    assert_true(rn_until(c, all_done, &b, 5000));
    free(big);
    free(o);
}

static void a_server_without_memory_is_a_bus_error(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o;

    rs_do(&c->redis, "CONFIG SET maxmemory 1");
    rn_publish(n, BODY, NULL, &o);
    assert_int_equal(rn_wait(c, &o), PL_ERR_BUS);
    rs_do(&c->redis, "CONFIG SET maxmemory 0");
    rn_publish(n, BODY, NULL, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_int_equal(log_length(c), 1);
}

/* ---- replicas ---- */

static void without_enough_replicas_a_publish_is_not_answered_with_ok(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct pl_bus_key k = key_of("k", 1);
    struct rn_outcome o[50];
    struct batch b = {o, 50};
    uint64_t begun = rs_now_ms(NULL);

    n->cfg->bus_wait_replicas = 1;
    for (int i = 0; i < 50; i++) {
        rn_publish(n, BODY, i == 0 ? &k : NULL, &o[i]);
        rn_pass(c, i % 10 == 0 ? 2 : 0);
    }
    assert_true(rn_until(c, all_done, &b, 5000));
    /* They share two or three WAITs; one each would take 50 x 166 ms. */
    assert_true(rs_now_ms(NULL) - begun < 1500);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(o[i].status, PL_ERR_BUS);
        assert_int_equal(o[i].count, 0);
    }
    assert_int_equal(log_length(c), 50);
    rn_publish(n, BODY, &k, &o[0]);
    assert_int_equal(rn_wait(c, &o[0]), PL_ERR_BUS);
    assert_int_equal(log_length(c), 50);
    assert_true(n->bus->up);
}

static bool has_replica(void *arg)
{
    return rn_integer(arg, "WAIT %s 50", "1") == 1;
}

static void with_a_replica_it_is(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rs_server replica;
    struct rn_outcome o[100];
    struct batch b = {o, 100};
    char port[16];
    const char *args[] = {"--replicaof", "127.0.0.1", port, NULL};

    (void)snprintf(port, sizeof(port), "%d", c->redis.port);
    rs_do(&c->redis, "CONFIG SET repl-diskless-sync-delay 0");
    rs_start(&replica, args);
    assert_true(rn_until(c, has_replica, c, 8000));
    n->cfg->bus_timeout = 6000; /* a third of it is what a replica may take */
    n->cfg->bus_wait_replicas = 1;
    for (int i = 0; i < 100; i++) {
        rn_publish(n, BODY, NULL, &o[i]);
        rn_pass(c, i % 10 == 0 ? 2 : 0);
    }
    (void)rn_until(c, all_done, &b, 5000);
    rs_stop(&replica);
    assert_all_ok_and_growing(&b);
}

static void a_connection_lost_while_replicas_are_waited_for_is_asked_again(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o[5];
    struct batch b = {o, 5};

    n->cfg->bus_wait_replicas = 1;
    for (int i = 0; i < 5; i++) {
        rn_publish(n, BODY, NULL, &o[i]);
        rn_pass(c, 10);
    }
    assert_int_equal(o[0].calls, 0);
    n->cfg->bus_wait_replicas = 0;
    rs_do(&c->redis, "CLIENT KILL TYPE normal SKIPME yes");
    assert_true(rn_until(c, all_done, &b, 5000));
    assert_all_ok_and_growing(&b);
    assert_int_equal(log_length(c), 5);
}

/* ---- changes and users ---- */

static void change(struct rn_node *n, const char *user, const char *channel, struct rn_outcome *o)
{
    struct pl_str name = {channel, strlen(channel)};
    struct pl_membership m = {.channels = &name, .channel_count = 1};

    *o = (struct rn_outcome){.calls = 0};
    pl_hub_change(n->hub,
                  &(struct pl_bus_change){.kind = PL_CHANGE_UPDATE,
                                          .user_id = {user, strlen(user)},
                                          .membership = &m,
                                          .unix_ms = pl_hub_unix_ms(n->hub)},
                  rn_done, o);
}

static bool may(struct rn_node *n, const char *user, const char *channel)
{
    const struct pl_user *u = pl_hub_user_find(n->hub, (struct pl_str){user, strlen(user)});

    return u != NULL && pl_user_may_publish_to(u, (struct pl_str){channel, strlen(channel)});
}

static void on_ready(void *arg, int status)
{
    rn_done(arg, status, NULL, 0);
}

static void a_change_is_known_here_when_it_is_answered_and_there_when_asked_for(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    struct rn_outcome o;

    change(a, "7", "community:5", &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_true(o.ids[0] > 0);
    assert_true(may(a, "7", "community:5"));
    assert_int_equal(rn_integer(c, "XLEN {parley}:%s", "control"), 1);
    o.calls = 0;
    pl_hub_prepare(b->hub, PL_LIT("7"), PL_LIT(""), on_ready, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_true(may(b, "7", "community:5"));
    assert_in_range(rn_integer(c, "PTTL {parley}:user:%s", "7"), 86400000, 86400000 + 60000);
}

static void a_change_is_retried_and_made_once(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o[2];

    rs_pause(&c->redis);
    change(n, "7", "community:5", &o[0]);
    change(n, "7", "community:6", &o[1]);
    rn_pass(c, 650);
    rs_resume(&c->redis);
    assert_int_equal(rn_wait(c, &o[0]), PL_OK);
    assert_int_equal(rn_wait(c, &o[1]), PL_OK);
    assert_int_equal(rn_integer(c, "XLEN {parley}:%s", "control"), 2);
    assert_false(may(n, "7", "community:5"));
    assert_true(may(n, "7", "community:6"));
}

static void a_change_that_cannot_be_understood_leaves_the_others(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    uint64_t malformed = pl_metric_values[PL_S_BUS_MALFORMED_CHANGE];
    struct rn_outcome o;

    change(a, "7", "community:5", &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    rs_do(&c->redis, "HSET {parley}:user:7 %s nonsense", "99");
    o.calls = 0;
    pl_hub_prepare(b->hub, PL_LIT("7"), PL_LIT(""), on_ready, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_true(may(b, "7", "community:5"));
    assert_true(pl_metric_values[PL_S_BUS_MALFORMED_CHANGE] > malformed);
}

static void the_sequence_is_that_of_redis(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome o, s = {0};

    rn_publish(n, BODY, NULL, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    pl_hub_sequence(n->hub, rn_done, &s);
    assert_int_equal(s.calls, 0);
    assert_int_equal(rn_wait(c, &s), PL_OK);
    assert_true(s.ids[0] >= o.ids[0]);
}

/* ---- queues ---- */

static struct pl_queue *new_queue(struct rn *c, struct rn_node *n, const char *user)
{
    struct rn_outcome o;
    struct pl_queue *q;

    change(n, user, "community:1", &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_int_equal(pl_queue_new(n->hub,
                                  pl_hub_user_find(n->hub, (struct pl_str){user, strlen(user)}),
                                  NULL, 0, -1, &q),
                     PL_OK);
    return q;
}

static void save(struct rn *c, struct pl_queue *q, char id[PL_QUEUE_ID_SIZE])
{
    struct rn_outcome o = {0};

    pl_queue_id(q, id);
    pl_queue_when_saved(q, on_ready, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
}

static int prepare(struct rn *c, struct rn_node *n, const char *queue_id)
{
    struct rn_outcome o = {0};

    pl_hub_prepare(n->hub, PL_LIT(""), (struct pl_str){queue_id, strlen(queue_id)}, on_ready, &o);
    return rn_wait(c, &o);
}

static bool has_queue(struct rn_node *n, const char *queue_id)
{
    return pl_queue_find(n->hub, (struct pl_str){queue_id, strlen(queue_id)}) != NULL;
}

struct held {
    struct rn_node *n;
    const char *id;
};

static bool is_gone(void *arg)
{
    const struct held *h = arg;

    return !has_queue(h->n, h->id);
}

static void a_saved_queue_is_claimed_by_another_node_with_its_user(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    char id[PL_QUEUE_ID_SIZE];
    int64_t ttl = a->cfg->queue_ttl * 3 / 2 + 10000;

    save(c, new_queue(c, a, "7"), id);
    assert_in_range(rn_integer(c, "PTTL {parley}:queue:%s", id), ttl - 3000, ttl);
    assert_int_equal(prepare(c, b, id), PL_OK);
    assert_true(has_queue(b, id));
    assert_true(may(b, "7", "community:1"));
    assert_true(rn_until(c, is_gone, &(struct held){a, id}, 2000));
}

static void a_paused_owner_cannot_save_what_was_taken_from_it(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    struct pl_queue *q = new_queue(c, a, "7");
    char id[PL_QUEUE_ID_SIZE];
    struct pl_bus_queue stale;
    struct redisReply *r;

    save(c, q, id);
    assert_int_equal(prepare(c, b, id), PL_OK);
    stale = (struct pl_bus_queue){
        .queue_id = {id, strlen(id)},
        .user_id = PL_LIT("7"),
        .generation = 1,
        .position = 1,
        .state = PL_LIT("stale"),
        .transport = "none",
    };
    pl_redis__save(a->bus, &stale, 1);
    rn_pass(c, 100);
    r = rs_command(&c->redis, "HMGET {parley}:queue:%s n g d", id);
    assert_string_equal(r->element[0]->str, b->name);
    assert_string_equal(r->element[1]->str, "2");
    assert_string_not_equal(r->element[2]->str, "stale");
    freeReplyObject(r);
    assert_true(has_queue(b, id));
    assert_true(is_gone(&(struct held){a, id}));
}

static void a_dropped_queue_stays_dropped(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    struct pl_queue *q = new_queue(c, a, "7");
    char id[PL_QUEUE_ID_SIZE];
    struct pl_bus_queue late;

    save(c, q, id);
    assert_int_equal(rn_integer(c, "HLEN {parley}:conn:user:%s", "7"), 1);
    late = (struct pl_bus_queue){
        .queue_id = {id, strlen(id)},
        .user_id = PL_LIT("7"),
        .generation = 1,
        .state = PL_LIT("late"),
        .transport = "none",
    };
    pl_queue_end(q, PL_OK);
    rn_pass(c, 100);
    assert_int_equal(rn_integer(c, "HEXISTS {parley}:queue:%s dead", id), 1);
    assert_int_equal(rn_integer(c, "HLEN {parley}:conn:user:%s", "7"), 0);
    pl_redis__save(a->bus, &late, 1);
    rn_pass(c, 50);
    assert_int_equal(rn_integer(c, "HEXISTS {parley}:queue:%s d", id), 0);
    b->bus->fresh_until_ms = 0;
    assert_int_equal(prepare(c, b, id), PL_OK);
    assert_false(has_queue(b, id));
}

static void a_queue_not_found_is_not_believed_of_a_bus_freshly_back(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    const char *id = "00112233445566778899aabbccddeeff";

    assert_int_equal(prepare(c, n, id), PL_ERR_BUS);
    n->bus->fresh_until_ms = 0;
    assert_int_equal(prepare(c, n, id), PL_OK);
    assert_false(has_queue(n, id));
    rs_pause(&c->redis);
    assert_int_equal(prepare(c, n, id), PL_ERR_BUS);
    rs_resume(&c->redis);
}

static void a_queue_is_ended_wherever_it_is(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);
    struct rn_node *b = a + 1;
    char id[PL_QUEUE_ID_SIZE];
    struct rn_outcome o = {0};

    save(c, new_queue(c, a, "7"), id);
    pl_redis__end_queue(b->bus, (struct pl_str){id, strlen(id)}, PL_ERR_DISCONNECTED, rn_done, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_int_equal(o.ids[0], 1);
    assert_true(rn_until(c, is_gone, &(struct held){a, id}, 2000));
    o.calls = 0;
    pl_redis__end_queue(b->bus, PL_LIT("ffffffffffffffffffffffffffffffff"), PL_ERR_DISCONNECTED,
                        rn_done, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    assert_int_equal(o.ids[0], 0);
}

static void hundreds_of_queues_are_saved_in_chunks(void **state)
{
    enum {
        COUNT = 300
    };
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct pl_bus_queue queues[COUNT];
    char ids[COUNT][PL_QUEUE_ID_SIZE];

    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "%032x", i + 1);
        queues[i] = (struct pl_bus_queue){
            .queue_id = {ids[i], 32},
            .user_id = PL_LIT("8"),
            .generation = 1,
            .state = PL_LIT("s"),
            .transport = "longpoll",
        };
    }
    pl_redis__save(n->bus, queues, COUNT);
    rn_pass(c, 200);
    assert_int_equal(rn_integer(c, "HLEN {parley}:conn:user:%s", "8"), COUNT);
    assert_int_equal(rn_integer(c, "EXISTS {parley}:queue:%s", ids[COUNT - 1]), 1);
}

/* ---- who is connected ---- */

struct text {
    int calls, status;
    char json[600];
};

static void on_text(void *arg, int status, struct pl_str json)
{
    struct text *t = arg;

    t->calls++;
    t->status = status;
    (void)snprintf(t->json, sizeof(t->json), "%.*s", (int)json.len, json.s);
}

static bool has_text(void *arg)
{
    return ((struct text *)arg)->calls > 0;
}

static void connections_of_all_nodes_are_shown_but_not_lapsed_ones(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 1);
    const struct pl_bus_queue q = {
        .queue_id = PL_LIT("00112233445566778899aabbccddeeff"),
        .user_id = PL_LIT("8"),
        .generation = 1,
        .state = PL_LIT("s"),
        .transport = "websocket",
        .since_ms = 1234,
    };
    struct text t = {0};

    pl_redis__save(a->bus, &q, 1);
    rs_do(&c->redis, "HSET {parley}:conn:user:8 ffffffffffffffffffffffffffffffff %s",
          "{\"node\":\"gone\",\"transport\":\"longpoll\",\"since\":1,\"until\":2}");
    rs_do(&c->redis, "HSET {parley}:conn:user:8 eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee %s",
          "{\"until\":");
    rs_do(&c->redis, "HSET {parley}:conn:user:8 %s %s", "\xff\xfe", "{\"until\":9007199254740991}");
    pl_redis_bus_connections(a->bus, PL_LIT("8"), on_text, &t);
    assert_true(rn_until(c, has_text, &t, 2000));
    assert_int_equal(t.status, PL_OK);
    assert_string_equal(t.json, "[{\"queue_id\":\"00112233445566778899aabbccddeeff\",\"node\":"
                                "\"node-1\",\"transport\":\"websocket\",\"since\":1234}]");
    t.calls = 0;
    pl_redis_bus_connections(a->bus, PL_LIT("nobody"), on_text, &t);
    assert_true(rn_until(c, has_text, &t, 2000));
    assert_string_equal(t.json, "[]");
    a->bus->up = false;
    t.calls = 0;
    pl_redis_bus_connections(a->bus, PL_LIT("8"), on_text, &t);
    assert_int_equal(t.calls, 0);
    assert_true(rn_until(c, has_text, &t, 2000));
    assert_int_equal(t.status, PL_ERR_BUS);
    a->bus->up = true;
}

/* ---- the end ---- */

static void what_is_open_at_the_end_is_answered_once(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome published[3], changed, asked = {0};
    struct text t = {0};

    rs_pause(&c->redis);
    n->cfg->bus_wait_replicas = 1;
    for (int i = 0; i < 3; i++) {
        rn_publish(n, BODY, NULL, &published[i]);
    }
    change(n, "7", "community:5", &changed);
    pl_hub_sequence(n->hub, rn_done, &asked);
    pl_redis__user(n->bus, PL_LIT("7"));
    pl_redis__claim(n->bus, PL_LIT("00112233445566778899aabbccddeeff"), 1, false);
    pl_redis_bus_connections(n->bus, PL_LIT("8"), on_text, &t);
    rn_pass(c, 20);
    rn_remove(c, n);
    rs_resume(&c->redis);
    rn_pass(c, 50);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(published[i].calls, 1);
        assert_int_equal(published[i].status, PL_ERR_BUS);
    }
    assert_int_equal(changed.calls, 1);
    assert_int_equal(changed.status, PL_ERR_BUS);
    assert_int_equal(asked.calls, 1);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.status, PL_ERR_BUS);
}

static void what_is_answered_after_the_end_is_for_nobody(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    struct rn_outcome published, changed, asked = {0};

    rs_pause(&c->redis);
    rn_publish(n, BODY, NULL, &published);
    change(n, "7", "community:5", &changed);
    pl_hub_sequence(n->hub, rn_done, &asked);
    rn_pass(c, 20);
    pl_redis__ask_free(n->bus->ask);
    n->bus->ask = pl_redis__ask_new(n->bus);
    assert_int_equal(published.status, PL_ERR_BUS);
    rs_resume(&c->redis);
    rn_pass(c, 100);
    assert_true(n->bus->up);
    assert_int_equal(log_length(c), 1);
    assert_int_equal(published.calls, 1);
    assert_int_equal(changed.calls, 1);
    assert_int_equal(asked.calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, rn_set_up, rn_tear_down)
        TEST(a_publish_is_answered_with_the_id_in_the_log),
        TEST(events_of_one_publish_share_their_channels),
        TEST(what_was_answered_is_remembered_with_its_tag),
        TEST(connections_killed_midway_lose_and_double_nothing),
        TEST(a_stopped_server_gets_the_retry_and_takes_one),
        TEST(after_twice_the_timeout_the_outcome_is_unknown),
        TEST(while_the_bus_is_away_it_says_so_at_once),
        TEST(a_key_gives_the_first_outcome_on_every_node),
        TEST(beyond_what_may_wait_the_node_is_overloaded),
        TEST(a_server_without_memory_is_a_bus_error),
        TEST(without_enough_replicas_a_publish_is_not_answered_with_ok),
        TEST(with_a_replica_it_is),
        TEST(a_connection_lost_while_replicas_are_waited_for_is_asked_again),
        TEST(a_change_is_known_here_when_it_is_answered_and_there_when_asked_for),
        TEST(a_change_is_retried_and_made_once),
        TEST(a_change_that_cannot_be_understood_leaves_the_others),
        TEST(the_sequence_is_that_of_redis),
        TEST(a_saved_queue_is_claimed_by_another_node_with_its_user),
        TEST(a_paused_owner_cannot_save_what_was_taken_from_it),
        TEST(a_dropped_queue_stays_dropped),
        TEST(a_queue_not_found_is_not_believed_of_a_bus_freshly_back),
        TEST(a_queue_is_ended_wherever_it_is),
        TEST(hundreds_of_queues_are_saved_in_chunks),
        TEST(connections_of_all_nodes_are_shown_but_not_lapsed_ones),
        TEST(what_is_open_at_the_end_is_answered_once),
        TEST(what_is_answered_after_the_end_is_for_nobody),
    };

    return cmocka_run_group_tests_name("redis_ask", tests, NULL, NULL);
}
