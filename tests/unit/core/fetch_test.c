#include "tests/unit/core/loopback_kept.h"

#include <stdio.h>
#include <string.h>

enum {
    SWEEP_MS = 1008,
};
static const char nobodys[] = "00112233445566778899aabbccddeeff";

/* A queue of user 7 in community 1 that another node keeps; its id until the fourth next call of lb_queue_id. */
struct elsewhere {
    struct loopback *node;
    struct pl_queue *queue;
    char id[PL_QUEUE_ID_SIZE];
};

static struct elsewhere elsewhere(struct loopback *lb, const char *membership)
{
    struct elsewhere e = {.node = lb_join(lb)};

    e.queue = lb_kept_queue(e.node, "7", membership);
    pl_queue_id(e.queue, e.id);
    lb_hear(lb);
    return e;
}

/* ---- asking ---- */

static void only_what_may_be_somewhere_else_is_asked_for(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");

    assert_true(pl_hub_asks(lb->hub, lb_str("8"), lb_str(NULL)));
    assert_true(pl_hub_asks(lb->hub, lb_str("7"), lb_str(nobodys)));
    assert_true(pl_hub_asks(lb->hub, lb_str(NULL), lb_str(nobodys)));
    assert_true(pl_hub_asks(lb->hub, lb_str("8"), lb_str(lb_queue_id(q))));
    assert_false(pl_hub_asks(lb->hub, lb_str("7"), lb_str(NULL)));
    assert_false(pl_hub_asks(lb->hub, lb_str("7"), lb_str(lb_queue_id(q))));
    assert_false(pl_hub_asks(lb->hub, lb_str("7"), lb_str("no queue id")));
    assert_false(pl_hub_asks(lb->hub, lb_str(NULL), lb_str(NULL)));
    pl_hub_leave_bus(lb->hub);
    assert_false(pl_hub_asks(lb->hub, lb_str("8"), lb_str(nobodys)));
}

static void a_bus_that_keeps_nothing_is_not_asked(void **state)
{
    struct loopback *lb = *state;

    assert_false(pl_hub_asks(lb->hub, lb_str("8"), lb_str(nobodys)));
}

static void all_who_want_the_same_ask_once(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w[3];

    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:1", lb->unix_ms);
    for (int i = 0; i < 3; i++) {
        lb_prepare(lb, "7", NULL, &w[i]);
    }
    assert_int_equal(lb_calls(lb, LB_USER), 1);
    lb_answer(lb, LB_USER);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w[i].calls, 1);
        assert_int_equal(w[i].status, PL_OK);
    }
    assert_string_equal(lb_communities(lb, "7"), "1");
    pl_hub_bus_user_done(lb->hub, lb_str("7"), PL_OK); /* nobody waits any more */
    assert_int_equal(w[0].calls, 1);
}

static void who_is_not_known_anywhere_has_no_record(void **state)
{
    struct loopback *lb = *state;

    assert_int_equal(lb_fetch(lb, "7", NULL), PL_OK);
    assert_null(lb_user(lb, "7"));
}

static void a_bus_that_is_away_is_said_and_asked_again_by_the_next(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;

    lb_prepare(lb, "7", nobodys, &w);
    lb_fail(lb, LB_CLAIM);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_ERR_BUS);
    assert_int_equal(lb_calls(lb, LB_USER), 0);
    lb_prepare(lb, "7", NULL, &w);
    lb_fail(lb, LB_USER);
    assert_int_equal(w.status, PL_ERR_BUS);
    assert_int_equal(lb_fetch(lb, "7", NULL), PL_OK);
}

/* Whether another node has it meanwhile is not known: its client waits here, and gets nothing until
 * that is. */
static void a_queue_that_is_here_waits_for_a_bus_that_is_away(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    static struct lb_waiter w;

    pl_hub_bus_hears(lb->hub, false);
    lb_prepare(lb, "7", lb_queue_id(q), &w);
    assert_int_equal(w.calls, 0);
    lb_fail(lb, LB_CLAIM);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_OK);
    assert_true(pl_hub_asks(lb->hub, lb_str(NULL), lb_str(lb_queue_id(q))));
}

/* The record is to be whole up to when it is believed. */
static void a_change_that_passes_meanwhile_is_asked_for_again(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;

    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:1", lb->unix_ms);
    lb_hear(lb);
    lb_prepare(lb, "7", NULL, &w);
    lb_execute(lb, LB_USER);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:2", lb->unix_ms);
    lb_hear(lb);
    lb_answer(lb, LB_USER);
    assert_int_equal(w.calls, 0);
    lb_answer(lb, LB_USER);
    assert_int_equal(w.calls, 1);
    assert_string_equal(lb_communities(lb, "7"), "2");
}

/* What was read before the change is not believed by somebody else either. */
static void a_record_without_that_change_is_not_there_meanwhile(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;

    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:1", lb->unix_ms);
    lb_hear(lb);
    lb_prepare(lb, "7", NULL, &w);
    lb_execute(lb, LB_USER);
    (void)lb_elsewhere(lb, PL_CHANGE_DISCONNECT, "7", NULL, lb->unix_ms);
    lb_hear(lb);
    lb_answer(lb, LB_USER);
    assert_int_equal(w.calls, 0);
    assert_true(pl_hub_asks(lb->hub, lb_str("7"), lb_str(NULL)));
    lb_answer(lb, LB_USER);
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms - 1000, true),
                     PL_ERR_DISCONNECTED);
}

/* ---- taking a queue over ---- */

static void any_node_goes_on_with_a_queue(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1 community:2=a");
    struct lb_link *old = lb_websocket(e.node, e.queue, -1);
    int64_t id = lb_next_id(lb);
    struct lb_link *l;
    struct pl_queue *q;

    (void)LB_ANNOUNCE(e.node, id, 0);
    LB_EXPECT_EVENTS(old, id);
    pl_queue_ack(e.queue, id);
    lb_pass(e.node, SWEEP_MS);
    lb_settle(e.node);
    assert_int_equal(lb_fetch(lb, "7", e.id), PL_OK);
    q = lb_find(lb, e.id);
    assert_non_null(q);
    assert_ptr_equal(pl_queue_user(q), lb_user(lb, "7"));
    assert_string_equal(lb_communities(lb, "7"), "1,2");
    l = lb_websocket(lb, q, id);
    (void)LB_ANNOUNCE(lb, id + 1, 0, .channels = "community:2", .topic = "b");
    (void)LB_ANNOUNCE(lb, id + 2, id + 1, .channels = "community:2", .topic = "a");
    LB_EXPECT_EVENTS(l, id + 2);
    lb_hear(e.node);
    lb_expect_ended(old, PL_ERR_REPLACED);
    assert_true(lb_is_gone(e.node, e.id));
    assert_int_equal(lb_record(lb, e.id)->generation, 2);
}

static void the_old_owner_cannot_write_any_more(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    struct lb_link *old = lb_websocket(e.node, e.queue, -1);

    lb_pass(lb, 10000); /* its clock is behind */
    assert_int_equal(lb_fetch(lb, "7", e.id), PL_OK);
    assert_int_equal(lb_subscribe(e.queue, "community:1", "z"), PL_OK);
    lb_pass(e.node, SWEEP_MS);
    lb_answer(e.node, LB_SAVE);
    lb_answer(e.node, LB_CLAIM); /* its link might have been the newer one */
    lb_expect_ended(old, PL_ERR_REPLACED);
    assert_int_equal(lb_record(lb, e.id)->generation, 2);
    assert_false(lb_is_gone(lb, e.id));
    lb_hear(e.node); /* too late */
}

static void there_and_back_again(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");

    for (int i = 0; i < 3; i++) {
        assert_int_equal(lb_fetch(lb, "7", e.id), PL_OK);
        assert_false(lb_is_gone(lb, e.id));
        lb_hear(e.node);
        assert_int_equal(lb_fetch(e.node, "7", e.id), PL_OK);
        assert_false(lb_is_gone(e.node, e.id));
        lb_hear(lb);
        assert_true(lb_is_gone(lb, e.id));
    }
    assert_int_equal(lb_record(lb, e.id)->generation, 7);
}

static void a_queue_outlives_its_node(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");

    lb_kill(lb, e.node);
    assert_int_equal(lb_fetch(lb, NULL, e.id), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "1");
    assert_false(lb_is_gone(lb, e.id));
}

static void a_queue_that_nobody_has_leaves_the_user_to_be_asked_for(void **state)
{
    struct loopback *lb = *state;

    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:1", lb->unix_ms);
    assert_int_equal(lb_fetch(lb, "7", nobodys), PL_OK);
    assert_true(lb_is_gone(lb, nobodys));
    assert_string_equal(lb_communities(lb, "7"), "1");
    assert_int_equal(lb_kept_counts(lb)->asked[LB_USER], 1);
}

/* What a client is told whose queue is taken, for one that came then, before its claim is answered. */
static int taken_meanwhile(struct loopback *lb, int64_t came_ms)
{
    struct elsewhere e = elsewhere(lb, "community:1");
    static struct lb_waiter w;

    lb_prepare(lb, "7", e.id, &w);
    lb_execute(lb, LB_CLAIM);
    pl_hub_bus_taken(lb->hub, lb_str(e.id), 3, came_ms);
    lb_answer(lb, LB_CLAIM);
    assert_int_equal(w.calls, 1);
    assert_true(lb_is_gone(lb, e.id));
    return w.status;
}

static void another_node_may_take_it_at_the_same_time(void **state)
{
    assert_int_equal(taken_meanwhile(*state, 0), PL_ERR_REPLACED);
}

/* For a client that came before this one: which may come again, instead of being stopped for good. */
static void for_a_client_that_came_no_later_than_this_one(void **state)
{
    struct loopback *lb = *state;

    assert_int_equal(taken_meanwhile(lb, lb->unix_ms - 5), PL_ERR_BUS);
}

/* The takeover that is told is the one before. */
static void what_was_taken_before_does_not_count(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    static struct lb_waiter w;

    lb_prepare(lb, "7", e.id, &w);
    pl_hub_bus_taken(lb->hub, lb_str(e.id), 1, 0);
    lb_answer(lb, LB_CLAIM);
    assert_int_equal(w.status, PL_OK);
    assert_false(lb_is_gone(lb, e.id));
    pl_hub_bus_claimed(lb->hub, lb_str(e.id), PL_ERR_QUEUE_NOT_FOUND, NULL); /* nobody asked */
    assert_false(lb_is_gone(lb, e.id));
}

static void a_queue_ended_while_it_is_claimed_does_not_come_back(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    static struct lb_waiter w;

    lb_prepare(lb, "7", e.id, &w);
    lb_execute(lb, LB_CLAIM);
    pl_hub_bus_end_queue(lb->hub, lb_str(e.id), PL_OK); /* we are the owner, says the bus */
    lb_answer(lb, LB_CLAIM);
    assert_int_equal(w.status, PL_OK);
    assert_true(lb_is_gone(lb, e.id));
    assert_null(lb_record(lb, e.id));
}

static void a_disconnect_ends_also_what_nobody_has(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");

    lb_kill(lb, e.node);
    (void)lb_elsewhere(lb, PL_CHANGE_DISCONNECT, "7", NULL, lb->unix_ms);
    assert_int_equal(lb_fetch(lb, "7", e.id), PL_OK);
    assert_true(lb_is_gone(lb, e.id));
    assert_null(lb_record(lb, e.id));
}

static void an_older_disconnect_does_not_end_a_newer_queue(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e;

    (void)lb_elsewhere(lb, PL_CHANGE_DISCONNECT, "7", NULL, lb->unix_ms);
    e = elsewhere(lb, "community:1");
    assert_int_equal(lb_fetch(lb, "7", e.id), PL_OK);
    assert_false(lb_is_gone(lb, e.id));
}

/* The change reaches this node before the answer that was written before it. */
static void a_change_that_passes_during_a_claim_is_not_lost(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    int64_t id;
    static struct lb_waiter w;
    struct lb_link *l;

    lb_prepare(lb, "7", e.id, &w);
    lb_execute(lb, LB_CLAIM);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:2", lb->unix_ms + 1);
    lb_hear(lb);
    lb_answer(lb, LB_CLAIM);
    lb_settle(lb);
    assert_int_equal(w.calls, 1);
    assert_string_equal(lb_communities(lb, "7"), "2");
    l = lb_websocket(lb, lb_find(lb, e.id), -1);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    LB_EXPECT_SILENCE(l);
}

/* The change was not heard at all, and it is known only that some were not. */
static void a_change_that_is_lost_during_a_claim_is_asked_for(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    static struct lb_waiter w;
    int64_t id;
    struct lb_link *l;

    lb_prepare(lb, NULL, e.id, &w);
    lb_execute(lb, LB_CLAIM);
    id = lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:2", lb->unix_ms + 1);
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_applied(lb->hub, id);
    pl_hub_bus_pause(lb->hub, false);
    lb_answer(lb, LB_CLAIM);
    assert_int_equal(w.calls, 1);
    assert_int_equal(lb_calls(lb, LB_USER), 1);
    l = lb_websocket(lb, lb_find(lb, e.id), -1);
    (void)LB_ANNOUNCE(lb, id + 1, 0);
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_USER);
    assert_string_equal(lb_communities(lb, "7"), "2");
    assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    LB_EXPECT_SILENCE(l);
}

/* A record comes with a change that gives and one that takes again: nothing passes in between. */
static void what_comes_together_holds_together(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    struct pl_queue *other = lb_kept_queue(lb, "8", "community:1 community:2");
    int64_t id = lb_next_id(lb);
    static struct lb_waiter asks, claims;
    struct lb_link *l;

    lb_prepare(lb, "7", NULL, &asks);
    lb_prepare(lb, "7", e.id, &claims);
    lb_answer(lb, LB_CLAIM);
    lb_answer_open_empty(lb, "user:7", id - 1);
    l = lb_websocket(lb, lb_find(lb, e.id), -1);
    l->refuse = true;
    (void)LB_ANNOUNCE(lb, id, 0);
    (void)LB_ANNOUNCE(lb, id + 1, 0, .channels = "community:2");
    l->refuse = false;
    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:1 community:2", lb->unix_ms + 1);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:1", lb->unix_ms + 2);
    lb_answer(lb, LB_USER);
    assert_int_equal(asks.calls, 1);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    }
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_EVENTS(lb_poll(lb, other, id - 1), id, id + 1);
    lb_settle(lb);
    assert_string_equal(lb_communities(lb, "7"), "1");
}

/* One of whom no backend has said anything: only a token has. */
static struct elsewhere elsewhere_by_token(struct loopback *lb)
{
    struct elsewhere e = {.node = lb_join(lb)};

    assert_int_equal(lb_claims(e.node, "9", "community:1", e.node->unix_ms, true), PL_OK);
    e.queue = lb_another_queue(e.node, "9", -1);
    lb_settle(e.node);
    pl_queue_id(e.queue, e.id);
    lb_hear(lb);
    return e;
}

static void the_first_change_of_a_user_may_pass_during_a_claim_too(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere_by_token(lb);
    static struct lb_waiter w;

    lb_prepare(lb, "9", e.id, &w);
    lb_execute(lb, LB_CLAIM);
    (void)lb_elsewhere(lb, PL_CHANGE_DISCONNECT, "9", NULL, lb->unix_ms + 1);
    lb_hear(lb);
    lb_answer(lb, LB_CLAIM);
    lb_settle(lb);
    assert_int_equal(w.calls, 1);
    assert_true(lb_is_gone(lb, e.id));
}

/* Else each claim answers the polls of the others, who claim in turn. */
static void a_claim_that_says_nothing_new_tells_nobody(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere_by_token(lb);
    struct pl_queue *second = lb_another_queue(e.node, "9", -1);
    char id[PL_QUEUE_ID_SIZE];
    struct lb_link *l;

    lb_settle(e.node);
    pl_queue_id(second, id);
    assert_int_equal(lb_fetch(lb, "9", e.id), PL_OK);
    l = lb_poll(lb, lb_find(lb, e.id), -1);
    lb_settle(lb);
    assert_int_equal(lb_fetch(lb, "9", id), PL_OK);
    lb_settle(lb);
    LB_EXPECT_SILENCE(l);
    assert_false(l->spent);
}

static void a_disconnect_that_comes_inside_a_snapshot_ends_queues(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);

    lb_settle(lb);
    pl_hub_bus_pause(lb->hub, true);
    (void)lb_elsewhere(lb, PL_CHANGE_DISCONNECT, "7", NULL, lb->unix_ms + 1);
    for (int i = 0; i < 17; i++) {
        (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:1", lb->unix_ms + 2 + i);
    }
    assert_int_equal(lb_fetch(other, "7", NULL), PL_OK);
    assert_int_equal(lb_kept_counts(other)->compacted, 1);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_pause(lb->hub, false);
    lb_answer(lb, LB_USER);
    lb_expect_ended(l, PL_ERR_DISCONNECTED);
    lb_settle(lb);
}

static void a_claim_keeps_to_the_limit_of_queues(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");

    (void)lb_kept_queue(lb, "8", "community:1");
    lb->cfg->limits_queues = 1;
    (void)lb_fetch(lb, "7", e.id);
    assert_int_equal(lb_stats(lb).queues, 1);
}

static void no_room_for_its_user_is_said(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e;

    e.node = lb_join(lb);
    e.queue = lb_kept_queue(e.node, "7", "community:1");
    pl_queue_id(e.queue, e.id);
    lb_hear(lb);
    (void)lb_kept_queue(lb, "8", "community:1");
    lb->cfg->limits_users = 1;
    assert_int_equal(lb_fetch(lb, "7", e.id), PL_ERR_OVERLOADED);
    assert_true(lb_is_gone(lb, e.id));
}

/* `update-subscriptions` with `subscriptions` narrows all queues of the user. */
static void a_narrowing_reaches_also_a_queue_that_nobody_has(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1=a");
    struct lb_link *l;
    int64_t id;

    lb_kill(lb, e.node);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:1=b", lb->unix_ms + 1);
    lb_hear(lb);
    assert_int_equal(lb_fetch(lb, "7", e.id), PL_OK);
    l = lb_websocket(lb, lb_find(lb, e.id), -1);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0, .topic = "a");
    (void)LB_ANNOUNCE(lb, id + 1, id, .topic = "b");
    LB_EXPECT_EVENTS(l, id + 1);
}

/* ---- ending one wherever it is ---- */

struct ended {
    int calls, status;
    int64_t count;
};

static void on_ended(void *arg, int status, const int64_t *ids, size_t count)
{
    struct ended *e = arg;

    e->calls++;
    e->status = status;
    e->count = count == 1 ? ids[0] : -1;
}

static void a_queue_is_ended_wherever_it_is(void **state)
{
    struct loopback *lb = *state;
    struct elsewhere e = elsewhere(lb, "community:1");
    struct lb_link *l = lb_websocket(e.node, e.queue, -1);
    struct pl_queue *here = lb_kept_queue(lb, "8", "community:1");
    struct ended ended[3] = {{0}};

    pl_hub_end_queue(lb->hub, lb_str(lb_queue_id(here)), PL_OK, on_ended, &ended[0]);
    assert_int_equal(ended[0].calls, 0); /* the bus knows whose it is */
    pl_hub_end_queue(lb->hub, lb_str(e.id), PL_OK, on_ended, &ended[1]);
    pl_hub_end_queue(lb->hub, lb_str(nobodys), PL_OK, on_ended, &ended[2]);
    assert_int_equal(ended[1].calls, 0);
    lb_settle(lb);
    assert_int_equal(ended[0].count, 1);
    assert_int_equal(ended[1].count, 1);
    assert_int_equal(ended[2].count, 0);
    lb_hear(e.node);
    lb_expect_ended(l, PL_OK);
    assert_null(lb_record(lb, e.id));
}

static void where_nothing_is_kept_a_queue_ends_here_or_not(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *here = lb_queue(lb, "8", "community:1");
    struct ended ended[2] = {{0}};

    pl_hub_end_queue(lb->hub, lb_str(lb_queue_id(here)), PL_OK, on_ended, &ended[0]);
    pl_hub_end_queue(lb->hub, lb_str(nobodys), PL_OK, on_ended, &ended[1]);
    assert_int_equal(ended[0].count, 1);
    assert_int_equal(ended[1].count, 0);
}

/* ---- many changes ---- */

static void many_changes_are_put_together(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);
    char membership[64];

    for (int i = 0; i < 16; i++) {
        (void)snprintf(membership, sizeof(membership), "community:%d", i);
        (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", membership, lb->unix_ms + i);
    }
    assert_int_equal(lb_fetch(lb, "7", NULL), PL_OK);
    assert_int_equal(lb_kept_counts(lb)->compacted, 0);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:40 community:41=a", lb->unix_ms + 20);
    assert_int_equal(lb_fetch(other, "7", NULL), PL_OK);
    assert_int_equal(lb_kept_counts(other)->compacted, 1);
    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:40 community:41 community:42",
                       lb->unix_ms + 40000);
    lb_hear(lb);
    assert_string_equal(lb_communities(lb, "7"), "40,41,42");
    other = lb_join(lb);
    assert_int_equal(lb_fetch(other, "7", NULL), PL_OK);
    assert_string_equal(lb_communities(other, "7"), "40,41,42");
    assert_int_equal(lb_kept_counts(other)->compacted, 0);
}

/* ---- changes that were lost ---- */

static void records_that_may_lack_a_change_are_asked_for_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id;

    lb_settle(lb);
    pl_hub_bus_pause(lb->hub, true);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:2", lb->unix_ms + 1);
    pl_hub_bus_changes_lost(lb->hub);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    (void)LB_ANNOUNCE(lb, id + 1, 0, .channels = "community:2");
    pl_hub_bus_pause(lb->hub, false);
    assert_int_equal(lb_calls(lb, LB_SAVE), 0);
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_USER);
    assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_SAVE);
    LB_EXPECT_EVENTS(l, id + 1);
}

static void nothing_goes_on_before_all_of_them_are_here(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_kept_queue(lb, "7", "community:1"), -1);
    int64_t id;

    (void)lb_kept_queue(lb, "8", "community:1");
    lb_settle(lb);
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_pause(lb->hub, false);
    assert_int_equal(lb_calls(lb, LB_USER), 2);
    lb_answer(lb, LB_USER);
    lb_fail(lb, LB_USER);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    lb_pass(lb, SWEEP_MS); /* asked again */
    assert_int_equal(lb_calls(lb, LB_USER), 2);
    assert_string_equal(lb_member(LB_TAKE(l), "state"), "\"degraded\"");
    lb_answer(lb, LB_USER);
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_USER);
    assert_string_equal(lb_member(LB_TAKE(l), "state"), "\"ok\"");
    lb_settle(lb);
    LB_EXPECT_EVENTS(l, id);
}

static void a_second_pause_asks_again_for_what_failed(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_kept_queue(lb, "7", "community:1"), -1);
    int64_t id;

    lb_settle(lb);
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_pause(lb->hub, false);
    pl_hub_bus_pause(lb->hub, true);
    lb_fail(lb, LB_USER);
    lb_pass(lb, SWEEP_MS);
    assert_int_equal(lb_calls(lb, LB_USER), 0);
    pl_hub_bus_pause(lb->hub, false);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    (void)LB_TAKE(l); /* the status */
    LB_EXPECT_SILENCE(l);
    lb_settle(lb);
    (void)LB_TAKE(l);
    LB_EXPECT_EVENTS(l, id);
}

/* What was asked before the loss may have been read before it. */
static void what_was_asked_before_the_loss_is_asked_again(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;

    (void)lb_elsewhere(lb, PL_CHANGE_REGISTER, "7", "community:1", lb->unix_ms);
    lb_hear(lb);
    lb_prepare(lb, "7", NULL, &w);
    lb_execute(lb, LB_USER);
    pl_hub_bus_pause(lb->hub, true);
    (void)lb_elsewhere(lb, PL_CHANGE_UPDATE, "7", "community:2", lb->unix_ms + 1);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_pause(lb->hub, false);
    lb_answer(lb, LB_USER);
    while (lb_calls(lb, LB_USER) > 0) {
        lb_answer(lb, LB_USER);
    }
    assert_int_equal(w.calls, 1);
    assert_string_equal(lb_communities(lb, "7"), "2");
}

/* The only record that was asked for failed, and is forgotten before it is asked for again. */
static void it_goes_on_also_when_there_is_no_record_left(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l;

    (void)lb_claims(lb, "7", "community:1", lb->unix_ms, true);
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_pause(lb->hub, false);
    for (int i = 0; i < 125; i++) {
        lb_fail_all(lb);
        lb_pass(lb, SWEEP_MS);
    }
    assert_null(lb_user(lb, "7"));
    lb_settle(lb);
    l = lb_websocket(lb, lb_kept_queue(lb, "8", "community:1"), -1);
    LB_EXPECT_SILENCE(l); /* not degraded any more */
}

/* ---- the end ---- */

static void who_waits_at_the_end_is_told_once(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w[2];
    void *peer = lb_join(lb);

    lb->peer = NULL;
    lb_prepare(lb, "7", NULL, &w[0]);
    lb_prepare(lb, "8", nobodys, &w[1]);
    *state = peer;
    peer = lb;
    (void)lb_stop(&peer);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(w[i].calls, 1);
        assert_int_equal(w[i].status, PL_ERR_DRAINING);
    }
}

static void a_reload_may_be_open_at_the_end(void **state)
{
    struct loopback *lb = *state;

    (void)lb_kept_queue(lb, "7", "community:1");
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_changes_lost(lb->hub);
    pl_hub_bus_pause(lb->hub, false);
    assert_int_equal(lb_calls(lb, LB_USER), 1);
}

/* "A bus answers or drops what is open" between its leaving and the hub's end. */
static void an_answer_after_the_bus_was_left_asks_nothing(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;

    lb_prepare(lb, "7", nobodys, &w);
    pl_hub_leave_bus(lb->hub);
    pl_hub_bus_claimed(lb->hub, lb_str(nobodys), PL_ERR_QUEUE_NOT_FOUND, NULL);
    assert_true(w.calls <= 1);
}

struct again {
    struct loopback *lb;
    struct lb_waiter w;
};

static void ask_again(void *arg, int status)
{
    struct again *a = arg;

    (void)status;
    lb_prepare(a->lb, "7", nobodys, &a->w);
}

static void who_is_told_may_ask_again(void **state)
{
    struct loopback *lb = *state;
    static struct again a;
    static struct lb_waiter w;

    a.lb = lb;
    pl_hub_prepare(lb->hub, lb_str("7"), lb_str(nobodys), ask_again, &a);
    lb_prepare(lb, NULL, nobodys, &w);
    lb_fail(lb, LB_CLAIM);
    assert_int_equal(w.calls, 1);
    assert_int_equal(a.w.calls, 0);
    assert_int_equal(lb_calls(lb, LB_CLAIM), 1);
    lb_fail(lb, LB_CLAIM);
    assert_int_equal(a.w.calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)   cmocka_unit_test_setup_teardown(name, lb_start_kept, lb_stop)
#define MEMORY(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(only_what_may_be_somewhere_else_is_asked_for),
        MEMORY(a_bus_that_keeps_nothing_is_not_asked),
        TEST(all_who_want_the_same_ask_once),
        TEST(who_is_not_known_anywhere_has_no_record),
        TEST(a_bus_that_is_away_is_said_and_asked_again_by_the_next),
        TEST(a_queue_that_is_here_waits_for_a_bus_that_is_away),
        TEST(a_change_that_passes_meanwhile_is_asked_for_again),
        TEST(a_record_without_that_change_is_not_there_meanwhile),
        TEST(any_node_goes_on_with_a_queue),
        TEST(the_old_owner_cannot_write_any_more),
        TEST(there_and_back_again),
        TEST(a_queue_outlives_its_node),
        TEST(a_queue_that_nobody_has_leaves_the_user_to_be_asked_for),
        TEST(another_node_may_take_it_at_the_same_time),
        TEST(for_a_client_that_came_no_later_than_this_one),
        TEST(what_was_taken_before_does_not_count),
        TEST(a_queue_ended_while_it_is_claimed_does_not_come_back),
        TEST(a_disconnect_ends_also_what_nobody_has),
        TEST(an_older_disconnect_does_not_end_a_newer_queue),
        TEST(a_change_that_passes_during_a_claim_is_not_lost),
        TEST(the_first_change_of_a_user_may_pass_during_a_claim_too),
        TEST(a_claim_that_says_nothing_new_tells_nobody),
        TEST(a_disconnect_that_comes_inside_a_snapshot_ends_queues),
        TEST(a_claim_keeps_to_the_limit_of_queues),
        TEST(no_room_for_its_user_is_said),
        TEST(a_narrowing_reaches_also_a_queue_that_nobody_has),
        TEST(a_queue_is_ended_wherever_it_is),
        MEMORY(where_nothing_is_kept_a_queue_ends_here_or_not),
        TEST(what_comes_together_holds_together),
        TEST(a_change_that_is_lost_during_a_claim_is_asked_for),
        TEST(many_changes_are_put_together),
        TEST(records_that_may_lack_a_change_are_asked_for_again),
        TEST(nothing_goes_on_before_all_of_them_are_here),
        TEST(a_second_pause_asks_again_for_what_failed),
        TEST(what_was_asked_before_the_loss_is_asked_again),
        TEST(it_goes_on_also_when_there_is_no_record_left),
        TEST(who_waits_at_the_end_is_told_once),
        TEST(a_reload_may_be_open_at_the_end),
        TEST(who_is_told_may_ask_again),
        TEST(an_answer_after_the_bus_was_left_asks_nothing),
    };

    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
