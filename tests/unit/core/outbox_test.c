#include "server/base/metrics.h"
#include "tests/unit/core/loopback.h"

#include <stdio.h>

static struct lb_link *packed(struct loopback *lb, enum pl_transport t, struct pl_queue *q,
                              int64_t position)
{
    struct lb_link *l = lb_link_new(lb, t, PL_MSGPACK);

    lb_open(l, q, position);
    return l;
}

/* "@" in the expected text is the id. */
static void expect_text(const struct lb_message *m, const char *expected, int64_t id)
{
    char text[512];
    size_t len = 0;

    for (; *expected != '\0'; expected++) {
        assert_true(len + 24 < sizeof(text));
        if (*expected == '@') {
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%lld", (long long)id);
        } else {
            text[len++] = *expected;
        }
    }
    text[len] = '\0';
    assert_string_equal(lb_json(m->v), text);
}

static void an_empty_answer_has_a_position_and_nothing_else(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_poll_once(lb, lb_queue(lb, "7", "community:1"), -1);

    expect_text(LB_TAKE(l), "{\"op\":\"events\",\"events\":[],\"last_event_id\":@}",
                lb_stats(lb).applied);
}

static void a_batch_is_the_same_message_in_every_codec(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    struct lb_link *json;
    struct lb_link *pack;

    (void)LB_PUBLISH(lb, .pad = 3);
    (void)LB_PUBLISH(lb, .pad = 300);
    json = lb_poll(lb, q, start);
    pack = packed(lb, PL_TRANSPORT_LONGPOLL, q, start);
    assert_string_equal(lb_json(LB_TAKE(pack)->v), lb_json(LB_TAKE(json)->v));
    assert_int_equal(pl_frame_codec(pack->messages[0].frame), PL_MSGPACK);
}

static void a_catchup_says_reason_position_and_communities(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:12 community:3");
    int64_t start = pl_queue_position(q);
    static const char expected[] =
        "{\"op\":\"catchup_required\",\"catchup_required\":true,"
        "\"reason\":\"trimmed\",\"last_event_id\":@,\"communities\":[12,3]}";
    int64_t id = 0;

    lb->cfg->channel_ring_events = 1;
    for (int i = 0; i < 2; i++) {
        id = LB_PUBLISH(lb, .channels = "community:12 community:3");
    }
    expect_text(LB_TAKE(lb_poll(lb, q, start)), expected, id);
    expect_text(LB_TAKE(packed(lb, PL_TRANSPORT_WEBSOCKET, q, start)), expected, id);
}

static void a_catchup_is_counted_when_it_is_taken(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    uint64_t before = pl_metric_values[PL_S_CATCHUP_EPOCH];
    struct lb_link *l = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_JSON);

    l->refuse = true;
    pl_queue_attach(q, &l->base, 5);
    pl_queue_writable(q);
    pl_queue_writable(q);
    assert_int_equal(pl_metric_values[PL_S_CATCHUP_EPOCH], before);
    lb_take_again(l);
    assert_int_equal(pl_metric_values[PL_S_CATCHUP_EPOCH], before + 1);
}

static void a_socket_hears_of_its_membership(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t id = lb_update(lb, "7", "community:3 community:20");

    expect_text(
        LB_TAKE(l),
        "{\"op\":\"signal\",\"type\":\"membership\",\"communities\":[3,20],\"last_event_id\":@}",
        id);
    (void)lb_update(lb, "7", "community:3 community:20");
    LB_EXPECT_SILENCE(l); /* nothing changed */
}

static void a_held_poll_is_answered_with_its_membership(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_poll(lb, q, -1);
    int64_t id = lb_update(lb, "7", "community:3");

    expect_text(LB_TAKE(l),
                "{\"op\":\"events\",\"events\":[],\"last_event_id\":@,\"signals\":"
                "[{\"type\":\"membership\",\"communities\":[3],\"last_event_id\":@}]}",
                id);
    LB_EXPECT_SILENCE(lb_poll(lb, q, -1));
}

static void the_next_poll_brings_what_changed_meanwhile(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l;
    int64_t id;

    (void)lb_update(lb, "7", "community:1 community:2");
    id = LB_PUBLISH(lb);
    l = packed(lb, PL_TRANSPORT_LONGPOLL, q, -1);
    assert_non_null(lb_member(&l->messages[0], "signals"));
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_SILENCE(lb_poll(lb, q, id));
}

static void a_welcome_takes_the_place_of_what_was_due(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");

    (void)lb_update(lb, "7", "community:1 community:2");
    pl_hub_transports_changed(lb->hub);
    LB_EXPECT_SILENCE(lb_websocket(lb, q, -1));
    LB_EXPECT_SILENCE(lb_poll(lb, q, -1));
}

static void a_poll_carries_everything_that_is_due_at_once(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_poll(lb, q, -1);
    const struct lb_message *m;

    l->refuse = true;
    (void)lb_update(lb, "7", "community:2");
    pl_hub_goaway(lb->hub, PL_TRANSPORT_NONE, "draining", 0);
    pl_hub_transports_changed(lb->hub);
    lb_take_again(l);
    m = LB_TAKE(l);
    LB_EXPECT_SILENCE(l);
    assert_non_null(lb_member(m, "signals"));
    assert_string_equal(lb_member(m, "goaway"),
                        "{\"reason\":\"draining\",\"reconnect_after_ms\":0,\"transports\":"
                        "[\"websocket\",\"longpoll\"]}");
    assert_string_equal(lb_member(m, "transports"), "[\"websocket\",\"longpoll\"]");
}

static void what_a_slow_socket_is_due_does_not_grow(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = packed(lb, PL_TRANSPORT_WEBSOCKET, lb_queue(lb, "7", "community:1"), -1);

    l->refuse = true;
    for (int i = 0; i < 20; i++) {
        (void)lb_update(lb, "7", i % 2 ? "community:1" : "community:2");
        pl_hub_goaway(lb->hub, PL_TRANSPORT_NONE, "transport", 0);
        pl_hub_transports_changed(lb->hub);
    }
    lb_take_again(l);
    assert_string_equal(lb_member(LB_TAKE(l), "communities"), "[1]");
    assert_string_equal(lb_member(LB_TAKE(l), "op"), "\"goaway\"");
    LB_EXPECT_SILENCE(l);
}

static void a_socket_hears_that_the_bus_is_away_and_back(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);

    pl_hub_bus_pause(lb->hub, true);
    lb_pass(lb, 1008);
    expect_text(LB_TAKE(l), "{\"op\":\"signal\",\"type\":\"status\",\"state\":\"degraded\"}", 0);
    pl_hub_bus_pause(lb->hub, false);
    expect_text(LB_TAKE(l), "{\"op\":\"signal\",\"type\":\"status\",\"state\":\"ok\"}", 0);
    LB_EXPECT_SILENCE(l);
}

static void a_poll_hears_of_the_bus_beside_its_membership(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    char expected[160];

    pl_hub_bus_pause(lb->hub, true);
    lb_pass(lb, 1008);
    (void)snprintf(expected, sizeof(expected),
                   "[{\"type\":\"status\",\"state\":\"degraded\"},{\"type\":\"membership\","
                   "\"communities\":[3],\"last_event_id\":%lld}]",
                   (long long)lb_update(lb, "7", "community:3"));
    assert_string_equal(lb_member(LB_TAKE(lb_poll_once(lb, q, -1)), "signals"), expected);
}

static void only_how_the_bus_is_now_is_told(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);

    l->refuse = true;
    for (int i = 0; i < 3; i++) {
        pl_hub_bus_pause(lb->hub, true);
        lb_pass(lb, 1008);
        pl_hub_bus_pause(lb->hub, false);
    }
    lb_take_again(l);
    LB_EXPECT_SILENCE(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(an_empty_answer_has_a_position_and_nothing_else),
        TEST(a_batch_is_the_same_message_in_every_codec),
        TEST(a_catchup_says_reason_position_and_communities),
        TEST(a_catchup_is_counted_when_it_is_taken),
        TEST(a_socket_hears_of_its_membership),
        TEST(a_held_poll_is_answered_with_its_membership),
        TEST(the_next_poll_brings_what_changed_meanwhile),
        TEST(a_welcome_takes_the_place_of_what_was_due),
        TEST(a_poll_carries_everything_that_is_due_at_once),
        TEST(what_a_slow_socket_is_due_does_not_grow),
        TEST(a_socket_hears_that_the_bus_is_away_and_back),
        TEST(a_poll_hears_of_the_bus_beside_its_membership),
        TEST(only_how_the_bus_is_now_is_told),
    };

    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
