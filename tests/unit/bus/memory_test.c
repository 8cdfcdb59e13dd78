#include "tests/unit/core/loopback.h"

#include <stdio.h>

/* What is the memory bus's own; what every bus does is in contract_test.c. */

struct outcome {
    int status;
    int64_t id;
};

static void on_done(void *arg, int status, const int64_t *ids, size_t count)
{
    struct outcome *o = arg;

    o->status = status;
    o->id = count > 0 ? ids[0] : -1;
}

static int64_t publish_keyed(struct loopback *lb, const char *key)
{
    const struct pl_bus_key k = {lb_str(key), 0, 1};
    struct pl_arena a = {0};
    struct pl_bus_event e = lb_bus_event(&(struct lb_event){0}, &a);
    struct outcome o = {0};

    pl_hub_publish(lb->hub, &e, 1, &k, on_done, &o);
    pl_arena_done(&a);
    assert_int_equal(o.status, PL_OK);
    return o.id;
}

static void the_epoch_is_the_time_it_was_made(void **state)
{
    struct loopback *lb = *state;

    assert_int_equal(pl_memory_bus_epoch(lb->bus), lb->unix_ms * 1024);
    assert_int_equal(LB_PUBLISH(lb), lb->unix_ms * 1024 + 1);
    lb_pass(lb, 1);
    assert_int_equal(LB_PUBLISH(lb), lb->unix_ms * 1024);
}

static void a_restart_begins_above_every_id_given(void **state)
{
    struct loopback *lb = *state;
    struct pl_memory_bus *next;
    int64_t last = 0;

    for (int i = 0; i < 1000; i++) {
        last = LB_PUBLISH(lb);
    }
    next = pl_memory_bus_new(lb->cfg, lb->unix_ms + 1);
    assert_true(pl_memory_bus_epoch(next) > last);
    pl_memory_bus_free(next);
    pl_memory_bus_free(NULL);
}

static void it_answers_before_it_returns(void **state)
{
    struct loopback *lb = *state;
    struct outcome o = {.status = 1};

    pl_hub_sequence(lb->hub, on_done, &o);
    assert_int_equal(o.status, PL_OK);
    assert_int_equal(o.id, pl_memory_bus_epoch(lb->bus));
}

static void beyond_the_limit_the_oldest_key_is_forgotten(void **state)
{
    struct loopback *lb = *state;
    int64_t first;
    int64_t ids[10];

    lb->cfg->limits_idempotency_keys = 10;
    first = publish_keyed(lb, "first");
    for (int i = 0; i < 10; i++) {
        char key[8];

        (void)snprintf(key, sizeof(key), "k%d", i);
        ids[i] = publish_keyed(lb, key);
    }
    assert_int_equal(publish_keyed(lb, "k1"), ids[1]);
    assert_int_equal(publish_keyed(lb, "k9"), ids[9]);
    assert_int_not_equal(publish_keyed(lb, "first"), first);
    assert_int_not_equal(publish_keyed(lb, "k0"), ids[0]);
}

static void a_shorter_memory_counts_behind_a_longer_one(void **state)
{
    struct loopback *lb = *state;
    int64_t old = publish_keyed(lb, "old");
    int64_t young;

    lb->cfg->publish_idempotency_ttl = 1000;
    young = publish_keyed(lb, "young");
    lb_pass(lb, 999);
    assert_int_equal(publish_keyed(lb, "young"), young);
    lb_pass(lb, 1);
    assert_int_not_equal(publish_keyed(lb, "young"), young);
    assert_int_equal(publish_keyed(lb, "old"), old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(the_epoch_is_the_time_it_was_made),
        TEST(a_restart_begins_above_every_id_given),
        TEST(it_answers_before_it_returns),
        TEST(beyond_the_limit_the_oldest_key_is_forgotten),
        TEST(a_shorter_memory_counts_behind_a_longer_one),
    };

    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
