#include "tests/unit/core/loopback.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void what_is_published_in_a_turn_leaves_at_its_end_as_one_message(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t first = LB_PUBLISH(lb);
    int64_t second = LB_PUBLISH(lb);

    LB_EXPECT_SILENCE(l);
    assert_int_equal(pl_hub_end_turn(lb->hub), 1);
    LB_EXPECT_EVENTS(l, first, second);
    assert_int_equal(l->count, 1);
}

static void one_event_in_a_turn_is_the_shared_frame_of_the_event(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *one = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *other = lb_poll(lb, lb_queue(lb, "8", "community:1 community:2"), -1);
    int64_t id = LB_PUBLISH(lb);

    assert_int_equal(pl_hub_end_turn(lb->hub), 2);
    LB_EXPECT_EVENTS(one, id);
    LB_EXPECT_EVENTS(other, id);
    assert_ptr_equal(one->messages[0].frame, other->messages[0].frame);
}

static void queues_that_get_the_same_events_share_the_bytes(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *one = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *other = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);
    struct lb_link *binary = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_MSGPACK);
    struct lb_link *fewer = lb_websocket(lb, lb_queue(lb, "10", "community:1=a"), -1);
    int64_t first, second;

    lb_open(binary, lb_queue(lb, "9", "community:1"), -1);
    first = LB_PUBLISH(lb, .topic = "a");
    second = LB_PUBLISH(lb);
    (void)pl_hub_end_turn(lb->hub);
    LB_EXPECT_EVENTS(one, first, second);
    LB_EXPECT_EVENTS(other, first, second);
    LB_EXPECT_EVENTS(binary, first, second);
    LB_EXPECT_EVENTS(fewer, first);
    assert_ptr_equal(one->messages[0].frame, other->messages[0].frame);
    assert_ptr_not_equal(one->messages[0].frame, binary->messages[0].frame);
    assert_ptr_not_equal(one->messages[0].frame, fewer->messages[0].frame);
}

static void clients_that_come_back_in_one_turn_share_what_they_missed(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *a = lb_queue(lb, "7", "community:1");
    struct pl_queue *b = lb_queue(lb, "8", "community:1");
    struct lb_link *one, *other;
    int64_t first = LB_PUBLISH(lb);
    int64_t second = LB_PUBLISH(lb);

    (void)pl_hub_end_turn(lb->hub);
    one = lb_websocket(lb, a, first - 1);
    other = lb_websocket(lb, b, first - 1);
    LB_EXPECT_EVENTS(one, first, second);
    LB_EXPECT_EVENTS(other, first, second);
    assert_ptr_equal(one->messages[0].frame, other->messages[0].frame);
}

static void many_different_messages_of_one_turn_are_all_right(void **state)
{
    enum {
        USERS = 20
    };
    struct loopback *lb = *state;
    struct lb_link *links[USERS];
    int64_t ids[USERS][2];

    for (int i = 0; i < USERS; i++) {
        char user[8];
        char channel[24];

        (void)snprintf(user, sizeof(user), "%d", i + 1);
        (void)snprintf(channel, sizeof(channel), "community:%d", i + 1);
        links[i] = lb_websocket(lb, lb_queue(lb, user, channel), -1);
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < USERS; i++) {
            char channel[24];

            (void)snprintf(channel, sizeof(channel), "community:%d", i + 1);
            ids[i][k] = LB_PUBLISH(lb, .channels = channel);
        }
    }
    assert_int_equal(pl_hub_end_turn(lb->hub), USERS);
    for (int i = 0; i < USERS; i++) {
        LB_EXPECT_EVENTS(links[i], ids[i][0], ids[i][1]);
    }
}

static void what_was_revoked_in_the_turn_is_not_sent(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1 community:2"), -1);

    (void)LB_PUBLISH(lb);
    (void)lb_update(lb, "7", "community:2");
    (void)pl_hub_end_turn(lb->hub);
    assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    LB_EXPECT_SILENCE(l);
}

/* To tell one queue of it fills the rings, so that all that waits is sent in the middle of the turn. */
static void what_was_revoked_is_not_sent_to_another_queue_of_the_user(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *packed = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_MSGPACK);
    struct lb_link *other;
    char revoked[24], kept[24];
    const char *sent;

    lb_open(packed, lb_queue(lb, "7", "community:1 community:2"), -1);
    other = lb_websocket(lb, lb_another_queue(lb, "7", -1), -1);
    (void)snprintf(revoked, sizeof(revoked), "%" PRId64, LB_PUBLISH(lb));
    (void)snprintf(kept, sizeof(kept), "%" PRId64, LB_PUBLISH(lb, .channels = "community:2"));
    lb->cfg->channel_total_bytes = (int64_t)lb_stats(lb).ring_bytes + 1;
    (void)lb_update(lb, "7", "community:2");
    sent = lb_member(LB_TAKE(other), "events");
    assert_null(strstr(sent, revoked));
    assert_non_null(strstr(sent, kept));
    assert_string_equal(lb_member(LB_TAKE(other), "type"), "\"membership\"");
}

static void a_queue_may_end_and_a_link_go_before_the_turn_does(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *ends = lb_queue(lb, "7", "community:1");
    struct pl_queue *stays = lb_queue(lb, "8", "community:1");
    struct lb_link *gone = lb_websocket(lb, stays, -1);
    struct lb_link *l;
    int64_t id;

    (void)lb_websocket(lb, ends, -1);
    id = LB_PUBLISH(lb);
    pl_queue_end(ends, PL_OK);
    pl_link_detach(&gone->base);
    assert_int_equal(pl_hub_end_turn(lb->hub), 0);
    l = lb_websocket(lb, stays, -1);
    LB_EXPECT_EVENTS(l, id);
}

static void a_link_that_comes_in_the_turn_gets_what_waited_once(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *first = lb_websocket(lb, q, -1);
    int64_t before = LB_PUBLISH(lb);
    struct lb_link *second = lb_websocket(lb, q, -1);
    int64_t after;

    LB_EXPECT_EVENTS(second, before);
    after = LB_PUBLISH(lb);
    assert_int_equal(pl_hub_end_turn(lb->hub), 1);
    LB_EXPECT_EVENTS(second, after);
    LB_EXPECT_NO_EVENTS(first);
}

static void more_than_a_ring_holds_does_not_wait(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t ids[10];

    lb->cfg->channel_ring_events = 3;
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb);
    }
    (void)pl_hub_end_turn(lb->hub);
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
}

static void more_bytes_than_a_ring_holds_do_not_wait(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t ids[10];

    lb->cfg->channel_ring_bytes = 4096;
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb, .pad = 1500);
    }
    (void)pl_hub_end_turn(lb->hub);
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
}

static void a_link_that_refuses_at_the_end_of_the_turn_gets_it_later(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t first, second;

    l->refuse = true;
    first = LB_PUBLISH(lb);
    assert_int_equal(pl_hub_end_turn(lb->hub), 0);
    second = LB_PUBLISH(lb);
    assert_int_equal(pl_hub_end_turn(lb->hub), 0);
    assert_int_equal(l->offered, 1);
    lb_take_again(l);
    LB_EXPECT_EVENTS(l, first, second);
}

static void an_event_waits_for_its_window_and_goes_with_others(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *ws, *poll;
    int64_t first, second;

    lb->cfg->queue_batch_window = 200;
    ws = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    poll = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);
    first = LB_PUBLISH(lb);
    assert_int_equal(pl_hub_end_turn(lb->hub), 0);
    lb_pass(lb, 150);
    LB_EXPECT_SILENCE(ws);
    second = LB_PUBLISH(lb);
    (void)pl_hub_end_turn(lb->hub);
    LB_EXPECT_SILENCE(ws);
    lb_pass(lb, 60); /* the wheel is late by a tick at most */
    LB_EXPECT_EVENTS(ws, first, second);
    LB_EXPECT_EVENTS(poll, first, second);
    assert_int_equal(ws->count, 1);
    assert_ptr_equal(ws->messages[0].frame, poll->messages[0].frame);
}

static void a_client_may_name_a_window_of_its_own(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *none, *longer;
    int64_t id;

    lb->cfg->queue_batch_window = 200;
    none = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    longer = lb_websocket(lb, lb_queue(lb, "8", "community:1"), -1);
    none->base.has_batch_window = longer->base.has_batch_window = true;
    longer->base.batch_window_ms = 1000;
    id = LB_PUBLISH(lb);
    assert_int_equal(pl_hub_end_turn(lb->hub), 1);
    LB_EXPECT_EVENTS(none, id);
    lb_pass(lb, 900);
    LB_EXPECT_SILENCE(longer);
    lb_pass(lb, 110);
    LB_EXPECT_EVENTS(longer, id);
}

static void a_window_costs_nothing_that_the_ring_held(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t ids[40];

    lb->cfg->queue_batch_window = 60000;
    lb->cfg->channel_ring_events = 8;
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb);
        (void)pl_hub_end_turn(lb->hub);
    }
    lb_pass(lb, 60010);
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
    assert_true(l->count > 4 && l->count < COUNT(ids) / 2);
}

static void a_token_ends_in_the_middle_of_a_window_as_it_should(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q;
    struct lb_link *l;

    lb->cfg->queue_batch_window = 60000;
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, lb->unix_ms + 5000, -1, &q),
                     PL_OK);
    l = lb_websocket(lb, q, -1);
    (void)LB_PUBLISH(lb);
    (void)pl_hub_end_turn(lb->hub);
    lb_pass(lb, 5010);
    lb_expect_ended(l, PL_ERR_TOKEN_EXPIRED);
}

static void a_turn_without_an_end_leaks_nothing(void **state)
{
    struct loopback *lb = *state;

    (void)lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    (void)LB_PUBLISH(lb);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_turns, lb_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_published_in_a_turn_leaves_at_its_end_as_one_message),
        TEST(one_event_in_a_turn_is_the_shared_frame_of_the_event),
        TEST(queues_that_get_the_same_events_share_the_bytes),
        TEST(clients_that_come_back_in_one_turn_share_what_they_missed),
        TEST(many_different_messages_of_one_turn_are_all_right),
        TEST(what_was_revoked_in_the_turn_is_not_sent),
        TEST(what_was_revoked_is_not_sent_to_another_queue_of_the_user),
        TEST(a_queue_may_end_and_a_link_go_before_the_turn_does),
        TEST(a_link_that_comes_in_the_turn_gets_what_waited_once),
        TEST(more_than_a_ring_holds_does_not_wait),
        TEST(more_bytes_than_a_ring_holds_do_not_wait),
        TEST(a_link_that_refuses_at_the_end_of_the_turn_gets_it_later),
        TEST(an_event_waits_for_its_window_and_goes_with_others),
        TEST(a_client_may_name_a_window_of_its_own),
        TEST(a_window_costs_nothing_that_the_ring_held),
        TEST(a_token_ends_in_the_middle_of_a_window_as_it_should),
        TEST(a_turn_without_an_end_leaks_nothing),
    };

    return cmocka_run_group_tests_name("turn", tests, NULL, NULL);
}
