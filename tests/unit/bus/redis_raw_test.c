#include "tests/unit/bus/redis_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "server/base/alloc.h"

/* Backends that PUBLISH plain JSON: every node hears it, and the log has it once. */

static void publish(struct rn *c, const char *channel, const char *json)
{
    rs_do(&c->redis, "PUBLISH %s %s", channel, json);
}

static void event(struct rn *c, int n)
{
    char json[256];

    (void)snprintf(json, sizeof(json),
                   "{\"type\": \"new_discussion\", \"data\": {\"n\": %d, \"article_id\": 789, "
                   "\"subscriber_ids\": [1, 2]}, \"community_ids\": [42], \"exclude_user_id\": 1, "
                   "\"timestamp\": \"2025-10-17T10:30:00Z\", \"event_id\": 12346}",
                   n);
    publish(c, "discussion_events", json);
}

static int64_t log_length(struct rn *c)
{
    return rn_integer(c, "XLEN {parley}:log:%s", "community:42");
}

struct wanted {
    struct rn *c;
    int64_t count;
};

static bool has_count(void *arg)
{
    const struct wanted *w = arg;

    return log_length(w->c) >= w->count;
}

/* The log has so many and, long after every node must have submitted its own, no more. */
static void expect_events(struct rn *c, int64_t count)
{
    assert_true(rn_until(c, has_count, &(struct wanted){c, count}, 5000));
    rn_pass(c, 600);
    assert_int_equal(log_length(c), count);
}

/* The n of each body in the log, in order. Returns how many. */
static size_t numbers(struct rn *c, int *ret, size_t max)
{
    size_t count, i = 0;
    char *log = rn_log(c, "community:42", &count);
    char *at = log;

    while (i < max && (at = strstr(at, "\"n\":")) != NULL) {
        ret[i++] = atoi(at + 4);
        at += 4;
    }
    free(log);
    assert_int_equal(i, count);
    return i;
}

static void assert_ascending(struct rn *c, int from, int to)
{
    int got[1024];
    size_t count = numbers(c, got, 1024);

    assert_int_equal(count, to - from + 1);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(got[i], from + (int)i);
    }
}

static uint64_t published_raw(void)
{
    return pl_metric_values[PL_S_PUBLISHED_RAW];
}

/* ---- events ---- */

static void the_seeds_message_becomes_an_event(void **state)
{
    struct rn *c = *state;
    size_t count;
    char *log;

    (void)rn_start(c, 1);
    event(c, 7);
    expect_events(c, 1);
    log = rn_log(c, "community:42", &count);
    assert_string_equal(log, "{\"type\":\"new_discussion\",\"timestamp\":\"2025-10-17T10:30:00Z\","
                             "\"community_ids\":[42],\"data\":{\"n\":7,\"article_id\":789}}\n");
    free(log);
}

static void three_nodes_hear_200_messages_and_each_is_an_event_once(void **state)
{
    struct rn *c = *state;
    uint64_t before = published_raw();
    int got[256], seen[150] = {0};

    (void)rn_start(c, 3);
    for (int i = 0; i < 150; i++) {
        event(c, i);
        if (i % 3 == 0) {
            event(c, i); /* the same bytes again are another event */
        }
        if (i % 20 == 0) {
            rn_pass(c, 10);
        }
    }
    expect_events(c, 200);
    assert_int_equal(published_raw() - before, 200);
    assert_int_equal(numbers(c, got, 256), 200);
    for (int i = 0; i < 200; i++) {
        seen[got[i]]++;
        assert_true(i == 0 || got[i] >= got[i - 1]); /* in the order of publishing */
    }
    for (int i = 0; i < 150; i++) {
        assert_int_equal(seen[i], i % 3 == 0 ? 2 : 1);
    }
}

static void a_node_that_joins_midway_doubles_nothing(void **state)
{
    struct rn *c = *state;

    (void)rn_start(c, 2);
    for (int i = 0; i < 300; i++) {
        event(c, i / 2); /* every message twice: numbering matters */
        if (i == 100) {
            (void)rn_add(c);
        }
        rn_pass(c, i % 5 == 0 ? 5 : 0);
    }
    rn_wait_live(c);
    expect_events(c, 300);
}

static void a_node_without_a_marker_numbers_nothing(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);

    pl_redis__raw_lost(n->bus->raw);
    event(c, 1);
    rn_pass(c, 500);
    assert_int_equal(log_length(c), 0);
    pl_redis__raw_marker(n->bus->raw, n->bus->newest);
    event(c, 1);
    expect_events(c, 1);
}

static void a_stopped_process_does_not_number_what_its_socket_held(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);

    pl_hub_set_time(n->hub, rs_now_ms(NULL) + 11000, pl_hub_unix_ms(n->hub) + 11000);
    pl_redis__raw_message(n->bus->raw, PL_LIT("another"), PL_LIT("{}"));
    event(c, 1);
    rn_pass(c, 500);
    assert_int_equal(log_length(c), 0);
}

static void a_node_that_leaves_midway_leaves_nothing_behind(void **state)
{
    struct rn *c = *state;
    struct rn_node *first = rn_start(c, 3);

    for (int i = 0; i < 200; i++) {
        event(c, i);
        if (i == 100) {
            rn_pass(c, 20);
            rn_remove(c, first);
        }
        rn_pass(c, i % 10 == 0 ? 5 : 0);
    }
    expect_events(c, 200);
    assert_ascending(c, 0, 199);
}

/* The clients of the server that are subscribed, by id; kills the i-th. */
static void kill_one_pubsub(struct rn *c)
{
    struct redisReply *r = rs_command(&c->redis, "CLIENT LIST TYPE pubsub");
    char id[24];

    assert_int_equal(r->type, REDIS_REPLY_STRING);
    assert_int_equal(sscanf(r->str, "id=%20s", id), 1);
    freeReplyObject(r);
    rs_do(&c->redis, "CLIENT KILL ID %s", id);
}

static void a_node_whose_pubsub_is_cut_midway_doubles_nothing(void **state)
{
    struct rn *c = *state;

    (void)rn_start(c, 3);
    for (int i = 0; i < 400; i++) {
        event(c, i / 2);
        if (i % 100 == 50) {
            rn_pass(c, 5);
            kill_one_pubsub(c);
        }
        rn_pass(c, i % 5 == 0 ? 5 : 0);
    }
    rn_wait_live(c);
    expect_events(c, 400);
}

static void commands_cut_midway_lose_and_double_nothing(void **state)
{
    struct rn *c = *state;

    (void)rn_start(c, 2);
    for (int i = 0; i < 300; i++) {
        event(c, i);
        if (i % 100 == 50) {
            rs_do(&c->redis, "CLIENT KILL TYPE normal SKIPME yes");
        }
        rn_pass(c, i % 5 == 0 ? 5 : 0);
    }
    expect_events(c, 300);
    assert_ascending(c, 0, 299);
}

static void what_is_refused_is_tried_again_in_order(void **state)
{
    struct rn *c = *state;

    (void)rn_start(c, 1);
    rs_do(&c->redis, "CONFIG SET maxmemory 1");
    for (int i = 0; i < 20; i++) {
        event(c, i);
        rn_pass(c, 5);
    }
    rn_pass(c, 500);
    rs_do(&c->redis, "CONFIG SET maxmemory 0");
    event(c, 20);
    expect_events(c, 21);
    assert_ascending(c, 0, 20);
}

static bool was_refused(void *arg)
{
    redisReply *r = rs_command(&((struct rn *)arg)->redis, "INFO errorstats");
    bool yes = strstr(r->str, "errorstat_OOM") != NULL;

    freeReplyObject(r);
    return yes;
}

/* One that was on its way a moment later is not taken before it, though there is room by then. */
static void what_is_refused_is_not_overtaken(void **state)
{
    struct rn *c = *state;

    (void)rn_start(c, 1);
    rs_do(&c->redis, "CONFIG RESETSTAT");
    rs_do(&c->redis, "CONFIG SET maxmemory 1");
    event(c, 0);
    rn_pass(c, 40);
    event(c, 1);
    assert_true(rn_until(c, was_refused, c, 5000));
    rs_do(&c->redis, "CONFIG SET maxmemory 0");
    expect_events(c, 2);
    assert_ascending(c, 0, 1);
}

static void markers_are_asked_for_before_a_node_counts_too_much(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 1);
    int64_t newest = n->bus->newest;

    n->bus->up = false; /* nothing is submitted */
    for (int i = 0; i < 49999; i++) {
        char json[32];

        (void)snprintf(json, sizeof(json), "x%d", i);
        pl_redis__raw_message(n->bus->raw, PL_LIT("discussion_events"),
                              (struct pl_str){json, strlen(json)});
    }
    n->bus->up = true;
    assert_int_equal(n->bus->newest, newest);
    pl_redis__raw_message(n->bus->raw, PL_LIT("discussion_events"), PL_LIT("y"));
    rn_pass(c, 300);
    assert_true(n->bus->newest > newest);
}

/* ---- what is wrong ---- */

static void malformed_messages_are_counted_and_harm_nothing(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "7",
        "{\"type\": \"t\"}",
        "{\"type\": \"t\", \"data\": {}}",
        "{\"type\": \"t\", \"data\": {}, \"community_ids\": [\"x\"]}",
        "{\"type\": 7, \"data\": {}, \"community_ids\": [42]}",
        "{\"type\": \"t\", \"data\": {}, \"community_ids\": [42], \"subscriber_ids\": null}",
        "{\"type\": \"t\", \"data\": {}, \"community_ids\": [42]} {}",
        "\xff\xfe",
    };
    static const char *const bad_changes[] = {
        "",
        "nonsense",
        "{\"community_ids\": [1]}",
        "{\"user_id\": 7}",
        "{\"user_id\": 7, \"community_ids\": 4}",
        "{\"user_id\": 7, \"action\": \"dance\", \"community_id\": 42}",
        "{\"user_id\": 7, \"action\": \"subscribe\"}",
        "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": 0}",
        "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": \"42\"}",
        "{\"action\": \"subscribe\", \"community_id\": 42}",
    };
    struct rn *c = *state;
    uint64_t events = pl_metric_values[PL_S_BUS_MALFORMED_RAW_EVENT];
    uint64_t changes = pl_metric_values[PL_S_BUS_MALFORMED_RAW_CHANGE];
    const size_t count = sizeof(bad) / sizeof(*bad);
    const size_t change_count = sizeof(bad_changes) / sizeof(*bad_changes);
    char *big = pl_alloc(1048576 + 2);

    (void)rn_start(c, 1);
    event(c, 1);
    for (size_t i = 0; i < count; i++) {
        publish(c, "discussion_events", bad[i]);
    }
    for (size_t i = 0; i < change_count; i++) {
        publish(c, "subscription_changes", bad_changes[i]);
    }
    memset(big, ' ', 1048577);
    publish(c, "discussion_events", big);
    event(c, 2);
    expect_events(c, 2);
    assert_int_equal(pl_metric_values[PL_S_BUS_MALFORMED_RAW_EVENT] - events, count + 1);
    assert_int_equal(pl_metric_values[PL_S_BUS_MALFORMED_RAW_CHANGE] - changes, change_count);
    assert_int_equal(rn_integer(c, "XLEN {parley}:%s", "control"), 0);
    free(big);
}

/* ---- changes ---- */

static int64_t change_count(struct rn *c)
{
    return rn_integer(c, "XLEN {parley}:%s", "control");
}

static bool has_changes(void *arg)
{
    const struct wanted *w = arg;

    return change_count(w->c) >= w->count;
}

static void expect_changes(struct rn *c, int64_t count)
{
    assert_true(rn_until(c, has_changes, &(struct wanted){c, count}, 3000));
    rn_pass(c, 600);
    assert_int_equal(change_count(c), count);
}

static void on_ready(void *arg, int status)
{
    rn_done(arg, status, NULL, 0);
}

static bool may(struct rn *c, struct rn_node *n, const char *channel)
{
    const struct pl_user *u;
    struct rn_outcome o = {0};

    pl_hub_prepare(n->hub, PL_LIT("7"), PL_LIT(""), on_ready, &o);
    assert_int_equal(rn_wait(c, &o), PL_OK);
    u = pl_hub_user_find(n->hub, PL_LIT("7"));
    return u != NULL && pl_user_may_publish_to(u, (struct pl_str){channel, strlen(channel)});
}

static void a_whole_list_is_an_update_made_once(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 3);

    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"community_ids\": [1, 5], \"version\": 3}");
    expect_changes(c, 1);
    for (int i = 0; i < 3; i++) {
        assert_true(may(c, a + i, "community:5"));
        assert_false(may(c, a + i, "community:42"));
    }
}

static void steps_add_and_take_one_community_each(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 3);

    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"community_ids\": [1], \"channels\": [\"room:x\"]}");
    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": 42}");
    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": 43}");
    publish(c, "subscription_changes",
            "{\"user_id\": \"7\", \"action\": \"unsubscribe\", \"community_id\": 1}");
    expect_changes(c, 4);
    for (int i = 0; i < 3; i++) {
        assert_true(may(c, a + i, "community:42"));
        assert_true(may(c, a + i, "community:43"));
        assert_true(may(c, a + i, "room:x"));
        assert_false(may(c, a + i, "community:1"));
    }
}

static void a_step_of_a_user_nobody_knows_is_left_to_the_next_register(void **state)
{
    struct rn *c = *state;
    struct rn_node *a = rn_start(c, 2);

    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": 42}");
    event(c, 1); /* what follows does not wait for ever */
    expect_events(c, 1);
    assert_int_equal(change_count(c), 0);
    assert_false(may(c, a, "community:42"));
}

static void changes_and_events_keep_their_order(void **state)
{
    struct rn *c = *state;
    struct redisReply *r, *s;
    char change_id[32];

    (void)rn_start(c, 2);
    publish(c, "subscription_changes", "{\"user_id\": 7, \"community_ids\": [1]}");
    rn_pass(c, 400);
    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": 42}");
    event(c, 1);
    expect_changes(c, 2);
    expect_events(c, 1);
    r = rs_command(&c->redis, "XREVRANGE {parley}:control + - COUNT 1");
    s = rs_command(&c->redis, "XREVRANGE {parley}:log:community:42 + - COUNT 1");
    (void)snprintf(change_id, sizeof(change_id), "%s", r->element[0]->element[0]->str);
    assert_true(atoll(change_id) < atoll(s->element[0]->element[0]->str));
    freeReplyObject(r);
    freeReplyObject(s);
}

static void what_waits_at_the_end_harms_nothing(void **state)
{
    struct rn *c = *state;
    struct rn_node *n = rn_start(c, 2);

    publish(c, "subscription_changes",
            "{\"user_id\": 7, \"action\": \"subscribe\", \"community_id\": 42}");
    event(c, 1);
    rn_pass(c, 30);
    rs_pause(&c->redis);
    rn_pass(c, 300);
    rn_remove(c, n);
    rs_resume(&c->redis);
    rn_pass(c, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, rn_set_up, rn_tear_down)
        TEST(the_seeds_message_becomes_an_event),
        TEST(three_nodes_hear_200_messages_and_each_is_an_event_once),
        TEST(a_node_that_joins_midway_doubles_nothing),
        TEST(a_node_without_a_marker_numbers_nothing),
        TEST(a_stopped_process_does_not_number_what_its_socket_held),
        TEST(a_node_that_leaves_midway_leaves_nothing_behind),
        TEST(a_node_whose_pubsub_is_cut_midway_doubles_nothing),
        TEST(commands_cut_midway_lose_and_double_nothing),
        TEST(what_is_refused_is_tried_again_in_order),
        TEST(what_is_refused_is_not_overtaken),
        TEST(markers_are_asked_for_before_a_node_counts_too_much),
        TEST(malformed_messages_are_counted_and_harm_nothing),
        TEST(a_whole_list_is_an_update_made_once),
        TEST(steps_add_and_take_one_community_each),
        TEST(a_step_of_a_user_nobody_knows_is_left_to_the_next_register),
        TEST(changes_and_events_keep_their_order),
        TEST(what_waits_at_the_end_harms_nothing),
    };

    return cmocka_run_group_tests_name("redis_raw", tests, NULL, NULL);
}
