#include "server/core/explain.h"

#include <string.h>

#include "tests/unit/core/loopback.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What is said of a user and an event, decoded; freed by the next question. */
static struct pl_arena arena;
static struct pl_buf text;

static const struct pl_value *explain(struct loopback *lb, const char *user, int64_t id,
                                      const struct pl_bus_event *logged)
{
    const struct pl_explain x = {lb_str(user), id, logged};
    const struct pl_value *v = NULL;
    struct pl_writer w;

    pl_arena_done(&arena);
    pl_buf_done(&text);
    pl_writer_init(&w, PL_JSON, &text);
    pl_write_map(&w, PL_EXPLAIN_MEMBERS);
    pl_hub_explain(lb->hub, &x, &w);
    assert_int_equal(pl_decode(PL_JSON, text.data, text.len, &arena, &v, NULL), 0);
    assert_int_equal(v->u.map.count, PL_EXPLAIN_MEMBERS);
    return v;
}

static int stop(void **state)
{
    pl_arena_done(&arena);
    pl_buf_done(&text);
    return lb_stop(state);
}

static void expect(const struct pl_value *v, const char *verdict, int rule)
{
    const struct pl_value *word = pl_value_get(v, "verdict");

    assert_non_null(word);
    if (!pl_str_eq(word->u.string, lb_str(verdict)) || pl_value_get(v, "rule")->u.integer != rule) {
        fail_msg("expected %s by rule %d: %s", verdict, rule, lb_json(v));
    }
}

static const struct pl_value *first_queue(const struct pl_value *v)
{
    const struct pl_value *queues = pl_value_get(v, "queues");

    assert_int_equal(queues->u.array.count, 1);
    return &queues->u.array.items[0];
}

static void expect_of_queue(struct loopback *lb, int64_t id, const char *verdict, int rule)
{
    const struct pl_value *v = explain(lb, "7", id, NULL);

    expect(v, "see_queues", 3);
    expect(first_queue(v), verdict, rule);
}

/* Every membership with every event: what explain denies is what a poll does not bring. */
static void it_says_what_delivery_does(void **state)
{
    static const char *const memberships[] = {"community:1", "community:1=a",
                                              "community:1=", "community:1=a,b community:2",
                                              "community:2"};
    static const struct lb_event events[] = {
        {.topic = "a"},
        {.topic = "b"},
        {.topic = NULL},
        {.subscribers = "7"},
        {.subscribers = "8 ann"},
        {.subscribers = ""},
        {.topic = "a", .exclude_user = "7"},
        {.channels = "community:1 community:2"},
    };
    struct loopback *lb = *state;
    unsigned delivered = 0, denied = 0;

    for (size_t m = 0; m < COUNT(memberships); m++) {
        for (size_t e = 0; e < COUNT(events); e++) {
            struct pl_queue *q;
            struct lb_link *poll;
            const struct pl_value *word;
            int64_t id;

            lb_disconnect(lb, "7", 0);
            lb_pass(lb, 1);
            q = lb_queue(lb, "7", memberships[m]);
            id = lb_publish_event(lb, &events[e]);
            word = pl_value_get(explain(lb, "7", id, NULL), "verdict");
            if (pl_str_eq(word->u.string, PL_LIT("see_queues"))) {
                word = pl_value_get(first_queue(explain(lb, "7", id, NULL)), "verdict");
            }
            poll = lb_poll_once(lb, q, pl_queue_position(q));
            if (pl_str_eq(word->u.string, PL_LIT("denied"))) {
                LB_EXPECT_NO_EVENTS(poll);
                denied++;
            } else {
                assert_true(pl_str_eq(word->u.string, PL_LIT("waiting")));
                LB_EXPECT_EVENTS(poll, id);
                delivered++;
            }
        }
    }
    assert_true(delivered > 10 && denied > 10);
}

static void a_queue_goes_from_waiting_to_acknowledged(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t id = LB_PUBLISH(lb);

    expect_of_queue(lb, id, "waiting", 4);
    (void)lb_poll_once(lb, q, -1);
    expect_of_queue(lb, id, "sent", 7);
    pl_queue_ack(q, id);
    expect_of_queue(lb, id, "acknowledged", 7);
}

static void a_link_that_takes_nothing_is_named(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    const struct pl_value *v;
    int64_t id;

    l->refuse = true;
    id = LB_PUBLISH(lb);
    expect_of_queue(lb, id, "waiting", 4);
    v = explain(lb, "7", id, NULL);
    assert_string_equal(lb_json(pl_value_get(first_queue(v), "transport")), "\"websocket\"");
    lb_take_again(l);
    expect_of_queue(lb, id, "sent", 7);
}

static void a_pause_of_the_bus_is_what_is_waited_for(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t id;

    (void)lb_websocket(lb, q, -1);
    pl_hub_bus_pause(lb->hub, true);
    id = LB_PUBLISH(lb);
    expect_of_queue(lb, id, "waiting", 9);
    pl_hub_bus_pause(lb->hub, false);
    expect_of_queue(lb, id, "sent", 7);
}

static void what_was_before_a_grant_or_a_queue_is_told_apart(void **state)
{
    struct loopback *lb = *state;
    int64_t id;

    (void)lb_queue(lb, "8", "community:1"); /* somebody for whom it is kept */
    (void)lb_queue(lb, "7", "community:2");
    id = LB_PUBLISH(lb);
    lb_update(lb, "7", "community:1 community:2");
    expect_of_queue(lb, id, "denied", 8);
    lb_disconnect(lb, "7", 0);
    lb_pass(lb, 1);
    (void)lb_queue(lb, "9", "community:1");
    expect(first_queue(explain(lb, "9", id, NULL)), "before", 8);
}

static void events_that_are_not_held_are_told_apart(void **state)
{
    struct loopback *lb = *state;
    int64_t id;

    lb->cfg->channel_ring_events = 1;
    (void)lb_queue(lb, "7", "community:1");
    id = LB_PUBLISH(lb);
    expect(explain(lb, "7", id + 1000, NULL), "unknown", 1);
    (void)LB_PUBLISH(lb);
    expect(explain(lb, "7", id, NULL), "unknown", 6);
    assert_int_equal(pl_value_get(explain(lb, "7", id, NULL), "event")->type, PL_NULL);
}

static void a_log_stands_in_for_a_ring(void **state)
{
    struct loopback *lb = *state;
    const struct lb_event e = {.topic = "a"};
    struct pl_arena a = {0};
    struct pl_bus_event logged = lb_bus_event(&e, &a);
    int64_t id;

    lb->cfg->channel_ring_events = 1;
    (void)lb_queue(lb, "7", "community:1=b");
    id = lb_publish_event(lb, &e);
    (void)LB_PUBLISH(lb);
    expect(first_queue(explain(lb, "7", id, &logged)), "denied", 3);
    assert_string_equal(
        lb_json(pl_value_get(pl_value_get(explain(lb, "7", id, &logged), "event"), "found")),
        "\"log\"");
    pl_arena_done(&a);
}

static void users_without_a_record_or_a_queue_are_told(void **state)
{
    struct loopback *lb = *state;
    int64_t id;

    (void)lb_queue(lb, "7", "community:1");
    lb_register(lb, "8", "community:1");
    id = LB_PUBLISH(lb);
    expect(explain(lb, "nobody", id, NULL), "denied", 3);
    expect(explain(lb, "8", id, NULL), "no_queue", 2);
}

static void the_logs_to_look_into_are_those_granted(void **state)
{
    struct loopback *lb = *state;
    struct pl_str names[4];

    lb_register(lb, "7", "community:1 community:2 room:3");
    lb_update(lb, "7", "community:1 room:3");
    assert_int_equal(pl_hub_explain_channels(lb->hub, lb_str("7"), names, 4), 2);
    assert_true(pl_str_eq(names[0], PL_LIT("community:1")));
    assert_true(pl_str_eq(names[1], PL_LIT("room:3")));
    assert_int_equal(pl_hub_explain_channels(lb->hub, lb_str("7"), names, 1), 1);
    assert_int_equal(pl_hub_explain_channels(lb->hub, lb_str("nobody"), names, 4), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(it_says_what_delivery_does),
        CASE(a_queue_goes_from_waiting_to_acknowledged),
        CASE(a_link_that_takes_nothing_is_named),
        CASE(a_pause_of_the_bus_is_what_is_waited_for),
        CASE(what_was_before_a_grant_or_a_queue_is_told_apart),
        CASE(events_that_are_not_held_are_told_apart),
        CASE(a_log_stands_in_for_a_ring),
        CASE(users_without_a_record_or_a_queue_are_told),
        CASE(the_logs_to_look_into_are_those_granted),
    };

    return cmocka_run_group_tests_name("core/explain", tests, NULL, NULL);
}
