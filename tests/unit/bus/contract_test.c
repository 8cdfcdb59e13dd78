#include "tests/unit/bus/redis_cluster.h"

/* What every bus must do, whatever it is made of. A bus joins by a row in loopback.h's manner and a line in main.
 * Time is passed as the bus has it: at once, or really. */

enum {
    MOST = 8
};

struct outcome {
    int calls, status;
    size_t count;
    int64_t ids[MOST];
};

static void on_done(void *arg, int status, const int64_t *ids, size_t count)
{
    struct outcome *o = arg;

    o->calls++;
    o->status = status;
    o->count = count;
    for (size_t i = 0; status == PL_OK && i < count && i < MOST; i++) {
        o->ids[i] = ids[i];
    }
}

static void turn(struct loopback *lb)
{
    if (lb->kind->turn != NULL) {
        lb->kind->turn(lb->bus);
    }
}

static struct outcome publish_many(struct loopback *lb, size_t count, const struct pl_bus_key *key)
{
    struct pl_arena a = {0};
    struct pl_bus_event events[MOST];
    struct outcome o = {0};

    for (size_t i = 0; i < count; i++) {
        events[i] = lb_bus_event(&(struct lb_event){0}, &a);
    }
    lb->kind->ops->publish(lb->bus, events, count, key, on_done, &o);
    turn(lb);
    pl_arena_done(&a);
    assert_int_equal(o.calls, 1);
    return o;
}

static struct outcome publish_keyed(struct loopback *lb, const char *key, int scope,
                                    uint64_t body_hash)
{
    return publish_many(lb, 1, &(struct pl_bus_key){lb_str(key), scope, body_hash});
}

static int64_t sequence(struct loopback *lb)
{
    struct outcome o = {0};

    lb->kind->ops->sequence(lb->bus, on_done, &o);
    turn(lb);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.status, PL_OK);
    assert_int_equal(o.count, 1);
    return o.ids[0];
}

static struct lb_link *listener(struct loopback *lb)
{
    return lb_websocket(lb, lb_queue(lb, "listener", "community:1"), -1);
}

static void ids_only_grow(void **state)
{
    struct loopback *lb = *state;
    int64_t last = lb->kind->epoch(lb->bus);

    for (int i = 0; i < 50; i++) {
        int64_t id = i % 5 == 4 ? lb_update(lb, "7", "community:1") : LB_PUBLISH(lb);

        assert_true(id > last);
        last = id;
        if (i % 7 == 0) {
            lb_pass(lb, 3);
        }
    }
}

static void an_id_is_not_below_its_time(void **state)
{
    struct loopback *lb = *state;

    for (int i = 0; i < 5; i++) {
        int64_t now;

        lb_pass(lb, 10);
        now = lb->unix_ms * 1024;
        assert_true(LB_PUBLISH(lb) >= now);
        assert_true(lb_update(lb, "7", "community:1") >= now);
    }
    assert_true(sequence(lb) <= PL_INT_MAX);
}

static void a_clock_that_goes_back_does_not_take_ids_back(void **state)
{
    struct loopback *lb = *state;
    int64_t before = LB_PUBLISH(lb);

    lb->unix_ms -= 3600000;
    lb_pass(lb, 0);
    assert_true(LB_PUBLISH(lb) > before);
}

static void an_array_gets_one_growing_id_each(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = listener(lb);
    struct outcome o = publish_many(lb, 5, NULL);

    assert_int_equal(o.status, PL_OK);
    assert_int_equal(o.count, 5);
    for (size_t i = 1; i < 5; i++) {
        assert_true(o.ids[i] > o.ids[i - 1]);
    }
    lb_expect_ids(l, o.ids, 5, __FILE__, __LINE__);
}

static void what_is_published_is_announced_once(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = listener(lb);
    int64_t id = LB_PUBLISH(lb);
    int64_t both, newest;

    LB_EXPECT_EVENTS(l, id);
    both = LB_PUBLISH(lb, .channels = "community:1 community:2");
    LB_EXPECT_EVENTS(l, both);
    (void)LB_PUBLISH(lb, .channels = "community:2");
    LB_EXPECT_SILENCE(l);
    id = LB_PUBLISH(lb);
    newest = sequence(lb);
    assert_true(lb_stats(lb).applied >= id && lb_stats(lb).applied <= newest);
}

static void the_same_key_and_body_give_the_first_outcome(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = listener(lb);
    const struct pl_bus_key key = {PL_LIT("k"), 1, 77};
    struct outcome first = publish_many(lb, 3, &key);
    struct outcome again;

    (void)LB_PUBLISH(lb, .channels = "community:2");
    again = publish_many(lb, 3, &key);
    assert_int_equal(again.status, PL_OK);
    assert_int_equal(again.count, 3);
    assert_memory_equal(again.ids, first.ids, 3 * sizeof(int64_t));
    lb_expect_ids(l, first.ids, 3, __FILE__, __LINE__);
}

static void the_same_key_with_another_body_is_refused_and_publishes_nothing(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = listener(lb);
    int64_t first = publish_keyed(lb, "k", 1, 77).ids[0];

    assert_int_equal(publish_keyed(lb, "k", 1, 78).status, PL_ERR_IDEMPOTENCY);
    assert_int_equal(publish_many(lb, 4, &(struct pl_bus_key){PL_LIT("k"), 1, 78}).status,
                     PL_ERR_IDEMPOTENCY);
    LB_EXPECT_EVENTS(l, first);
    assert_int_equal(publish_keyed(lb, "k", 1, 77).ids[0], first);
}

static void a_key_belongs_to_its_scope(void **state)
{
    struct loopback *lb = *state;
    int64_t one = publish_keyed(lb, "k", 1, 77).ids[0];
    struct outcome two = publish_keyed(lb, "k", 2, 78);

    assert_int_equal(two.status, PL_OK);
    assert_int_not_equal(two.ids[0], one);
    assert_int_equal(publish_keyed(lb, "k", 2, 78).ids[0], two.ids[0]);
    assert_int_equal(publish_keyed(lb, "k2", 1, 78).status, PL_OK);
}

static void without_a_key_every_publish_is_its_own(void **state)
{
    struct loopback *lb = *state;
    int64_t first = publish_keyed(lb, "", 1, 77).ids[0];

    assert_int_not_equal(publish_keyed(lb, "", 1, 77).ids[0], first);
    assert_int_equal(publish_keyed(lb, "", 1, 78).status, PL_OK);
}

static void a_key_may_be_255_bytes_of_anything(void **state)
{
    struct loopback *lb = *state;
    char text[255];
    struct pl_bus_key key = {{text, sizeof(text)}, 0, 1};
    int64_t first;

    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char)i; /* a NUL too */
    }
    first = publish_many(lb, 1, &key).ids[0];
    assert_int_equal(publish_many(lb, 1, &key).ids[0], first);
    text[254] = 'x';
    assert_int_not_equal(publish_many(lb, 1, &key).ids[0], first);
}

static void a_key_is_forgotten_when_its_time_is_over(void **state)
{
    struct loopback *lb = *state;
    int64_t first;

    lb->cfg->publish_idempotency_ttl = 1000;
    first = publish_keyed(lb, "k", 1, 77).ids[0];
    lb_pass(lb, 200);
    assert_int_equal(publish_keyed(lb, "k", 1, 77).ids[0], first);
    lb_pass(lb, 801);
    assert_int_equal(publish_keyed(lb, "k", 1, 78).status, PL_OK);
}

/* done looks at what the change has done. */
struct watched_change {
    struct loopback *lb;
    struct outcome outcome;
    bool was_applied;
};

static void on_changed(void *arg, int status, const int64_t *ids, size_t count)
{
    struct watched_change *w = arg;

    on_done(&w->outcome, status, ids, count);
    w->was_applied = lb_user(w->lb, "7") != NULL && pl_user_channel_count(lb_user(w->lb, "7")) > 0;
}

static void a_change_is_applied_before_it_is_answered(void **state)
{
    struct loopback *lb = *state;
    struct watched_change w = {.lb = lb};
    struct pl_arena a = {0};

    lb->kind->ops->change(lb->bus,
                          &(struct pl_bus_change){
                              .kind = PL_CHANGE_UPDATE,
                              .user_id = PL_LIT("7"),
                              .membership = lb_membership("community:1", &a),
                              .unix_ms = lb->unix_ms,
                          },
                          on_changed, &w);
    turn(lb);
    pl_arena_done(&a);
    assert_int_equal(w.outcome.calls, 1);
    assert_int_equal(w.outcome.status, PL_OK);
    assert_int_equal(w.outcome.count, 1);
    assert_true(w.was_applied);
    assert_string_equal(lb_communities(lb, "7"), "1");
}

static void changes_and_events_share_one_sequence(void **state)
{
    struct loopback *lb = *state;
    int64_t event = LB_PUBLISH(lb);
    int64_t change = lb_update(lb, "7", "community:1");
    int64_t disconnect = lb_disconnect(lb, "7", 0);
    int64_t next = LB_PUBLISH(lb);

    assert_true(event < change && change < disconnect && disconnect < next);
}

/* A bus may number things of its own between. */
static void the_sequence_tells_the_newest_id(void **state)
{
    struct loopback *lb = *state;
    int64_t id, told;

    assert_true(sequence(lb) >= lb->kind->epoch(lb->bus));
    id = LB_PUBLISH(lb);
    told = sequence(lb);
    assert_true(told >= id);
    id = lb_update(lb, "7", "community:1");
    assert_true(id > told);
    assert_true(sequence(lb) >= id);
}

static void an_epoch_starts_below_its_first_id(void **state)
{
    struct loopback *lb = *state;
    int64_t epoch = lb->kind->epoch(lb->bus);

    assert_true(epoch <= lb->unix_ms * 1024);
    assert_true(lb_stats(lb).applied >= epoch);
    assert_true(LB_PUBLISH(lb) > epoch);
}

int main(void)
{
#define TEST(bus, test)                                              \
    {                                                                \
#        bus ": " #        test, test, START_##bus, STOP_##bus, NULL \
    }
#define START_memory lb_start_memory
#define STOP_memory  lb_stop
#define START_redis  rc_start_one
#define STOP_redis   rc_stop
#define CONTRACT(bus)                                                                             \
    TEST(bus, ids_only_grow), TEST(bus, an_id_is_not_below_its_time),                             \
        TEST(bus, a_clock_that_goes_back_does_not_take_ids_back),                                 \
        TEST(bus, an_array_gets_one_growing_id_each),                                             \
        TEST(bus, what_is_published_is_announced_once),                                           \
        TEST(bus, the_same_key_and_body_give_the_first_outcome),                                  \
        TEST(bus, the_same_key_with_another_body_is_refused_and_publishes_nothing),               \
        TEST(bus, a_key_belongs_to_its_scope), TEST(bus, without_a_key_every_publish_is_its_own), \
        TEST(bus, a_key_may_be_255_bytes_of_anything),                                            \
        TEST(bus, a_key_is_forgotten_when_its_time_is_over),                                      \
        TEST(bus, a_change_is_applied_before_it_is_answered),                                     \
        TEST(bus, changes_and_events_share_one_sequence),                                         \
        TEST(bus, the_sequence_tells_the_newest_id), TEST(bus, an_epoch_starts_below_its_first_id)

    const struct CMUnitTest tests[] = {
        CONTRACT(memory),
        CONTRACT(redis),
    };

    return cmocka_run_group_tests_name("bus contract", tests, NULL, NULL);
}
