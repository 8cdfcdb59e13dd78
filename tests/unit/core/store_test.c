#include "tests/unit/core/loopback_kept.h"

#include <string.h>

enum {
    FLUSH_MS = 24, /* what is to be saved soon has been asked by then */
    SWEEP_MS = 1008,
    HALF_TTL_MS = 60000,
};

static void settle_saves(struct loopback *lb)
{
    lb_pass(lb, FLUSH_MS);
    while (lb_calls(lb, LB_SAVE) > 0) {
        lb_answer(lb, LB_SAVE);
    }
}

/* ---- when it is saved ---- */

static void a_new_queue_is_saved_before_its_client_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct lb_waiter w;

    pl_queue_when_saved(q, lb_ready, &w);
    lb_pass(lb, FLUSH_MS);
    assert_int_equal(lb_calls(lb, LB_SAVE), 1);
    assert_int_equal(lb_call(lb, LB_SAVE)->queue.generation, 1);
    assert_string_equal(lb_call(lb, LB_SAVE)->queue.user, "7");
    assert_string_equal(lb_call(lb, LB_SAVE)->transport, "none");
    assert_int_equal(w.calls, 0);
    lb_answer(lb, LB_SAVE);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_OK);
    lb_pass(lb, SWEEP_MS);
    assert_int_equal(lb_kept_counts(lb)->saved, 1);
}

static void where_nothing_is_kept_it_is_told_at_once(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;

    pl_queue_when_saved(lb_queue(lb, "7", "community:1"), lb_ready, &w);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_OK);
}

/* The save under way does not have what has changed since. */
static void who_asks_during_a_save_waits_for_the_next(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct lb_waiter first;
    static struct lb_waiter second;

    pl_queue_when_saved(q, lb_ready, &first);
    lb_pass(lb, FLUSH_MS);
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    pl_queue_when_saved(q, lb_ready, &second);
    lb_pass(lb, FLUSH_MS);
    assert_int_equal(lb_calls(lb, LB_SAVE), 1);
    lb_answer(lb, LB_SAVE);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 0);
    settle_saves(lb);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.status, PL_OK);
}

static void a_failed_save_is_told_and_tried_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct lb_waiter w;

    pl_queue_when_saved(q, lb_ready, &w);
    lb_pass(lb, FLUSH_MS);
    lb_fail(lb, LB_SAVE);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_ERR_BUS);
    assert_null(lb_record(lb, lb_queue_id(q)));
    lb_pass(lb, SWEEP_MS);
    lb_answer(lb, LB_SAVE);
    assert_non_null(lb_record(lb, lb_queue_id(q)));
    assert_int_equal(w.calls, 1);
}

static void several_changes_are_one_save(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2");
    size_t before = lb_kept_counts(lb)->saved;

    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    assert_int_equal(lb_subscribe(q, "community:1", "b"), PL_OK);
    assert_int_equal(lb_unsubscribe(q, "community:2", NULL), PL_OK);
    settle_saves(lb);
    assert_int_equal(lb_kept_counts(lb)->saved, before + 1);
}

static void messages_are_no_reason_to_save(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t prev = 0;
    size_t before;

    settle_saves(lb);
    before = lb_kept_counts(lb)->saved;
    for (int i = 0; i < 20; i++) {
        int64_t id = lb_next_id(lb);

        assert_int_equal(LB_ANNOUNCE(lb, id, prev), 1);
        pl_queue_ack(q, id);
        prev = id;
    }
    assert_int_equal(l->count, 20);
    lb_pass(lb, SWEEP_MS);
    assert_int_equal(lb_kept_counts(lb)->saved, before);
}

static void what_a_link_leaves_behind_is_saved(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    pl_queue_ack(q, id);
    pl_link_detach(&l->base);
    lb_pass(lb, FLUSH_MS);
    assert_string_equal(lb_call(lb, LB_SAVE)->transport, "websocket");
    lb_answer(lb, LB_SAVE);
    assert_int_equal(lb_record(lb, lb_queue_id(q))->position, id);
}

static void draining_lets_go_when_the_bus_has_the_position(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    pl_hub_drain(lb->hub, 1000);
    settle_saves(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    pl_queue_ack(q, id);
    lb_pass(lb, pl_hub_drain_ms(lb->hub));
    assert_false(l->ended);
    lb_answer(lb, LB_SAVE);
    lb_expect_ended(l, PL_ERR_DRAINING);
    assert_int_equal(lb_record(lb, lb_queue_id(q))->position, id);
}

static void draining_does_not_wait_for_a_bus_that_is_away(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_poll(lb, lb_kept_queue(lb, "7", "community:1"), -1);

    settle_saves(lb);
    pl_hub_drain(lb->hub, 1000);
    settle_saves(lb);
    lb_pass(lb, pl_hub_drain_ms(lb->hub));
    assert_false(l->spent);
    lb_fail(lb, LB_SAVE);
    assert_true(l->spent);
}

/* A sign of life: without what the bus has already. */
static void a_quiet_queue_is_saved_every_half_of_its_ttl(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    size_t before;

    (void)lb_websocket(lb, q, -1);
    settle_saves(lb);
    before = lb_kept_counts(lb)->saved;
    lb_pass(lb, HALF_TTL_MS - SWEEP_MS);
    assert_int_equal(lb_kept_counts(lb)->saved, before);
    for (int i = 1; i <= 3; i++) {
        lb_pass(lb, SWEEP_MS + FLUSH_MS);
        assert_int_equal(lb_kept_counts(lb)->saved, before + (size_t)i);
        assert_int_equal(lb_call(lb, LB_SAVE)->queue.state.len, 0);
        lb_answer(lb, LB_SAVE);
        lb_pass(lb, HALF_TTL_MS - SWEEP_MS);
    }
    assert_false(lb_is_gone(lb, lb_queue_id(q)));
}

static void many_queues_are_saved_in_few_calls(void **state)
{
    struct loopback *lb = *state;

    (void)lb_register(lb, "7", "community:1");
    lb->cfg->limits_queues_per_user = 0;
    for (int i = 0; i < 300; i++) {
        (void)lb_another_queue(lb, "7", 1);
    }
    lb_pass(lb, FLUSH_MS);
    assert_int_equal(lb_kept_counts(lb)->saved, 300);
    assert_int_equal(lb_kept_counts(lb)->save_calls, 3);
    settle_saves(lb);
}

static void all_are_saved_when_the_process_ends(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    pl_queue_ack(q, id);
    pl_hub_save_all(lb->hub);
    assert_int_equal(lb_calls(lb, LB_SAVE), 1);
    assert_int_equal(lb_call(lb, LB_SAVE)->queue.position, id);
    assert_true(lb_call(lb, LB_SAVE)->queue.state.len > 0);
    LB_EXPECT_EVENTS(l, id);
}

/* ---- whose it is ---- */

/* Another node has it, for a client that came later than any here. */
static void take_elsewhere(struct loopback *lb, const char *id, int64_t generation)
{
    lb_record(lb, id)->generation = generation;
    lb_record(lb, id)->came_ms = INT64_MAX;
}

static void a_stale_queue_goes_and_is_not_dropped(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    const char *id = lb_queue_id(q);
    static struct lb_waiter w;

    take_elsewhere(lb, id, 5);
    pl_queue_when_saved(q, lb_ready, &w);
    settle_saves(lb);
    lb_answer(lb, LB_CLAIM); /* its link might have been the newer one */
    lb_expect_ended(l, PL_ERR_REPLACED);
    assert_true(lb_is_gone(lb, id));
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_ERR_QUEUE_NOT_FOUND);
    assert_non_null(lb_record(lb, id));
    assert_int_equal(lb_kept_counts(lb)->drops, 0);
}

static void a_takeover_is_told_to_the_link(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    char id[PL_QUEUE_ID_SIZE];

    pl_queue_id(q, id);
    pl_hub_bus_taken(lb->hub, lb_str(id), 1, 0); /* our own */
    assert_false(l->ended);
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, 0);
    lb_expect_ended(l, PL_ERR_REPLACED);
    assert_true(lb_is_gone(lb, id));
    pl_hub_bus_taken(lb->hub, lb_str(id), 3, 0);
    lb_settle(lb);
    assert_non_null(lb_record(lb, id));
}

static void what_was_being_saved_when_it_was_taken_is_over(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct lb_waiter w;

    pl_queue_when_saved(q, lb_ready, &w);
    lb_pass(lb, FLUSH_MS);
    pl_hub_bus_taken(lb->hub, lb_str(lb_queue_id(q)), 2, 0);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_ERR_QUEUE_NOT_FOUND);
    lb_answer(lb, LB_SAVE);
    assert_int_equal(w.calls, 1);
}

static void an_ended_queue_is_dropped(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    char id[PL_QUEUE_ID_SIZE];
    static struct lb_waiter w;

    pl_queue_id(q, id);
    pl_queue_when_saved(q, lb_ready, &w);
    pl_queue_end(q, PL_OK);
    assert_null(lb_record(lb, id));
    assert_int_equal(w.status, PL_ERR_QUEUE_NOT_FOUND);
    lb_answer(lb, LB_SAVE);
    assert_null(lb_record(lb, id));
    lb_pass(lb, SWEEP_MS);
    assert_int_equal(lb_calls(lb, LB_SAVE), 0);
}

static void a_save_that_comes_after_the_end_does_not_bring_it_back(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    char id[PL_QUEUE_ID_SIZE];

    pl_queue_id(q, id);
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    lb_pass(lb, FLUSH_MS);
    pl_queue_end(q, PL_OK);
    lb_answer(lb, LB_SAVE);
    assert_null(lb_record(lb, id));
    assert_true(lb_is_gone(lb, id));
}

/* ---- after a pause ---- */

static void nothing_is_served_after_a_pause_before_it_is_saved_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    pl_hub_bus_pause(lb->hub, true);
    (void)LB_ANNOUNCE(lb, id, 0);
    LB_EXPECT_SILENCE(l);
    pl_hub_bus_pause(lb->hub, false);
    LB_EXPECT_SILENCE(l);
    assert_true(lb_call(lb, LB_SAVE)->queue.state.len > 0);
    (void)LB_ANNOUNCE(lb, id + 1, id);
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_SAVE);
    LB_EXPECT_EVENTS(l, id, id + 1);
}

static void nothing_is_served_before_also_if_the_client_was_told_of_the_pause(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    pl_hub_bus_pause(lb->hub, true);
    (void)LB_ANNOUNCE(lb, id, 0);
    lb_pass(lb, SWEEP_MS);
    assert_string_equal(lb_member(LB_TAKE(l), "state"), "\"degraded\"");
    take_elsewhere(lb, lb_queue_id(q), 2);
    pl_hub_bus_pause(lb->hub, false);
    assert_string_equal(lb_member(LB_TAKE(l), "state"), "\"ok\"");
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_SAVE);
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_CLAIM);
    LB_EXPECT_SILENCE(l);
    lb_expect_ended(l, PL_ERR_REPLACED);
}

/* What else than the newest link could be meant. */
static void a_link_that_is_newer_than_theirs_keeps_the_queue(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    char id[PL_QUEUE_ID_SIZE];
    struct lb_link *l;
    int64_t came_ms;

    pl_queue_id(q, id);
    lb_pass(lb, 10);
    came_ms = lb->unix_ms;
    l = lb_websocket(lb, q, -1);
    settle_saves(lb);
    lb_record(lb, id)->generation = 2;
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, came_ms - 2000);
    assert_false(l->ended);
    lb_answer(lb, LB_CLAIM);
    assert_false(l->ended);
    assert_int_equal(lb_record(lb, id)->generation, 3);
    pl_hub_bus_taken(lb->hub, lb_str(id), 4, came_ms + 5);
    lb_expect_ended(l, PL_ERR_REPLACED);
}

/* Which of the two is the newer one cannot be told: `replaced` would stop a client that has only this. */
static void a_poll_that_came_when_theirs_did_may_come_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *fresh, *old;
    const struct lb_message *m;
    char id[PL_QUEUE_ID_SIZE];

    pl_queue_id(q, id);
    lb_pass(lb, 10);
    fresh = lb_poll(lb, q, -1);
    settle_saves(lb);
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, lb->unix_ms - 5);
    assert_false(fresh->ended);
    assert_true(fresh->spent);
    m = LB_TAKE(fresh);
    assert_string_equal(lb_member(m, "events"), "[]");
    assert_true(lb_is_gone(lb, id));
    q = lb_kept_queue(lb, "8", "community:1");
    pl_queue_id(q, id);
    old = lb_poll(lb, q, -1);
    lb_pass(lb, 1000);
    settle_saves(lb);
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, lb->unix_ms);
    lb_expect_ended(old, PL_ERR_REPLACED);
}

static void a_websocket_that_came_just_after_theirs_is_told_to_come_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *fresh, *old;
    char id[PL_QUEUE_ID_SIZE];
    int64_t came_ms;

    pl_queue_id(q, id);
    lb_pass(lb, 10);
    came_ms = lb->unix_ms;
    fresh = lb_websocket(lb, q, -1);
    settle_saves(lb);
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, came_ms - 5);
    lb_expect_ended(fresh, PL_ERR_BUS);
    assert_true(lb_is_gone(lb, id));
    q = lb_kept_queue(lb, "8", "community:1");
    pl_queue_id(q, id);
    old = lb_websocket(lb, q, -1);
    settle_saves(lb);
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, lb->unix_ms + 5);
    lb_expect_ended(old, PL_ERR_REPLACED);
}

/* The answer to a save says it before the news does: taking it back is refused, for the time is the same. */
static void nor_is_one_told_replaced_whose_save_comes_too_late(void **state)
{
    struct loopback *lb = *state;

    for (int socket = 0; socket < 2; socket++) {
        struct pl_queue *q = lb_kept_queue(lb, socket ? "7" : "8", "community:1");
        struct lb_link *l;
        char id[PL_QUEUE_ID_SIZE];

        pl_queue_id(q, id);
        lb_pass(lb, 10);
        l = socket ? lb_websocket(lb, q, -1) : lb_poll(lb, q, -1);
        take_elsewhere(lb, id, 5);
        lb_record(lb, id)->came_ms = lb->unix_ms;
        settle_saves(lb);
        lb_answer(lb, LB_CLAIM);
        if (socket) {
            lb_expect_ended(l, PL_ERR_BUS);
        } else {
            assert_string_equal(lb_member(LB_TAKE(l), "events"), "[]");
        }
        assert_true(lb_is_gone(lb, id));
    }
}

/* What the others have made of it meanwhile is what it is. */
static void a_queue_that_comes_back_is_as_the_others_left_it(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    char id[PL_QUEUE_ID_SIZE];
    struct lb_link *l;
    int64_t came_ms, first;

    pl_queue_id(q, id);
    lb_pass(lb, 10);
    came_ms = lb->unix_ms;
    l = lb_websocket(lb, q, -1);
    settle_saves(lb);
    lb_record(lb, id)->generation = lb_record(lb, id)->saved_by = 2;
    pl_hub_bus_taken(lb->hub, lb_str(id), 2, came_ms - 2000);
    lb_answer(lb, LB_CLAIM);
    lb_settle(lb);
    assert_false(l->ended);
    first = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, first, 0);
    LB_EXPECT_EVENTS(l, first);
}

static void while_others_are_not_heard_a_queue_is_claimed_first(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    char id[PL_QUEUE_ID_SIZE];

    pl_queue_id(q, id);
    settle_saves(lb);
    assert_false(pl_hub_asks(lb->hub, lb_str("7"), lb_str(id)));
    pl_hub_bus_hears(lb->hub, false);
    assert_true(pl_hub_asks(lb->hub, lb_str("7"), lb_str(id)));
    pl_hub_bus_hears(lb->hub, true);
    assert_true(pl_hub_asks(lb->hub, lb_str("7"), lb_str(id))); /* not proven yet */
    settle_saves(lb);
    assert_false(pl_hub_asks(lb->hub, lb_str("7"), lb_str(id)));
}

static void a_queue_that_was_taken_during_a_pause_is_not_served(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_poll(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    pl_hub_bus_pause(lb->hub, true);
    (void)LB_ANNOUNCE(lb, id, 0);
    take_elsewhere(lb, lb_queue_id(q), 2);
    pl_hub_bus_pause(lb->hub, false);
    lb_answer(lb, LB_SAVE);
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_CLAIM);
    lb_expect_ended(l, PL_ERR_REPLACED);
}

/* A bus that cannot write is not one that says no. */
static void a_queue_that_cannot_be_saved_is_served(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id = lb_next_id(lb);

    settle_saves(lb);
    pl_hub_bus_pause(lb->hub, true);
    (void)LB_ANNOUNCE(lb, id, 0);
    pl_hub_bus_pause(lb->hub, false);
    lb_fail(lb, LB_SAVE);
    LB_EXPECT_EVENTS(l, id);
    lb_pass(lb, SWEEP_MS);
    assert_int_equal(lb_calls(lb, LB_SAVE), 1);
}

static void queues_outlive_a_bus_that_forgot_them(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    const char *id = lb_queue_id(q);

    pl_hub_bus_pause(lb->hub, true);
    memset(lb_record(lb, id)->id, 'x', 32);
    pl_hub_bus_pause(lb->hub, false);
    settle_saves(lb);
    assert_non_null(lb_record(lb, id));
    assert_false(lb_is_gone(lb, id));
}

static void a_save_under_way_when_the_bus_comes_back_is_followed_by_another(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    size_t before;

    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    lb_pass(lb, FLUSH_MS);
    before = lb_kept_counts(lb)->saved;
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_pause(lb->hub, false);
    assert_int_equal(lb_kept_counts(lb)->saved, before);
    lb_answer(lb, LB_SAVE);
    settle_saves(lb);
    assert_int_equal(lb_kept_counts(lb)->saved, before + 1);
}

static void who_waits_for_a_save_that_failed_is_told_also_in_a_pause(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct lb_waiter first;
    static struct lb_waiter second;

    pl_queue_when_saved(q, lb_ready, &first);
    lb_pass(lb, FLUSH_MS);
    pl_queue_when_saved(q, lb_ready, &second);
    pl_hub_bus_pause(lb->hub, true);
    lb_fail(lb, LB_SAVE);
    assert_int_equal(first.status, PL_ERR_BUS);
    lb_pass(lb, SWEEP_MS);
    lb_fail_all(lb);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.status, PL_ERR_BUS);
}

/* ---- what a bus and those who wait may do ---- */

static void a_second_answer_is_ignored(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *one = lb_kept_queue(lb, "7", "community:1");
    struct pl_queue *two = lb_kept_queue(lb, "8", "community:1");
    size_t before = lb_kept_counts(lb)->saved;

    (void)lb_websocket(lb, one, -1);
    (void)lb_websocket(lb, two, -1);
    settle_saves(lb);
    before = lb_kept_counts(lb)->saved;
    pl_hub_bus_saved(lb->hub, lb_str(lb_queue_id(one)), 1, PL_OK);
    pl_hub_bus_saved(lb->hub, lb_str(lb_queue_id(one)), 7, PL_ERR_REPLACED);
    lb_pass(lb, HALF_TTL_MS + SWEEP_MS);
    assert_int_equal(lb_kept_counts(lb)->saved, before + 2); /* a sign of life of both */
}

static void an_answer_about_another_generation_is_ignored(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct lb_waiter w;

    w.calls = 0;
    pl_queue_when_saved(q, lb_ready, &w);
    lb_pass(lb, FLUSH_MS);
    pl_hub_bus_saved(lb->hub, lb_str(lb_queue_id(q)), 7, PL_ERR_REPLACED);
    pl_hub_bus_saved(lb->hub, lb_str(lb_queue_id(q)), 7, PL_OK);
    assert_int_equal(w.calls, 0);
    lb_answer(lb, LB_SAVE);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.status, PL_OK);
}

struct ender {
    struct loopback *lb;
    char id[PL_QUEUE_ID_SIZE];
    int calls;
};

static void end_it(void *arg, int status)
{
    struct ender *e = arg;

    (void)status;
    e->calls++;
    if (!lb_is_gone(e->lb, e->id)) {
        pl_queue_end(lb_find(e->lb, e->id), PL_OK);
    }
}

static void who_waited_may_end_the_queue(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct ender e;
    static struct lb_waiter other;

    e.lb = lb;
    pl_queue_id(q, e.id);
    pl_queue_when_saved(q, end_it, &e);
    pl_queue_when_saved(q, lb_ready, &other);
    lb_pass(lb, FLUSH_MS);
    lb_fail(lb, LB_SAVE);
    assert_int_equal(e.calls, 1);
    assert_int_equal(other.calls, 1);
    assert_true(lb_is_gone(lb, e.id));
}

static void who_waited_may_end_it_also_when_it_went_well(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static struct ender e;

    e = (struct ender){.lb = lb};
    pl_queue_id(q, e.id);
    pl_queue_when_saved(q, end_it, &e);
    settle_saves(lb);
    assert_int_equal(e.calls, 1);
    assert_null(lb_record(lb, e.id));
}

/* ---- the end of the hub ---- */

/* Whoever is told of the end of one may have to do with another. */
static void touch_it(void *arg, int status)
{
    struct ender *e = arg;

    assert_int_equal(status, PL_ERR_QUEUE_NOT_FOUND);
    e->calls++;
    if (!lb_is_gone(e->lb, e->id)) {
        (void)lb_subscribe(lb_find(e->lb, e->id), "community:1", "x");
    }
}

static void who_waits_is_told_when_the_bus_has_gone(void **state)
{
    struct loopback *lb = *state;
    static struct lb_waiter w;
    static struct lb_waiter later;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    void *peer = lb_join(lb);

    lb->peer = NULL;
    pl_queue_when_saved(q, lb_ready, &w);
    lb_pass(lb, FLUSH_MS);
    pl_hub_leave_bus(lb->hub);
    pl_queue_when_saved(q, lb_ready, &later);
    pl_hub_save_all(lb->hub);
    lb_pass(lb, SWEEP_MS);
    assert_int_equal(w.calls + later.calls, 0);
    (void)lb_stop(state);
    assert_int_equal(w.calls, 1);
    assert_int_equal(later.calls, 1);
    assert_int_equal(w.status, PL_ERR_QUEUE_NOT_FOUND);
    *state = peer;
}

static void who_is_told_at_the_end_may_touch_what_is_left(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q[2] = {lb_kept_queue(lb, "7", "community:1"),
                             lb_kept_queue(lb, "8", "community:1")};
    static struct ender e[2];
    void *peer = lb_join(lb);

    lb->peer = NULL;
    for (int i = 0; i < 2; i++) {
        e[i].lb = lb;
        pl_queue_id(q[1 - i], e[i].id);
        pl_queue_when_saved(q[i], touch_it, &e[i]);
    }
    *state = peer;
    peer = lb;
    (void)lb_stop(&peer); /* no timer outlives the hub */
    assert_int_equal(e[0].calls, 1);
    assert_int_equal(e[1].calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)   cmocka_unit_test_setup_teardown(name, lb_start_kept, lb_stop)
#define MEMORY(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(a_new_queue_is_saved_before_its_client_is_told),
        MEMORY(where_nothing_is_kept_it_is_told_at_once),
        TEST(who_asks_during_a_save_waits_for_the_next),
        TEST(a_failed_save_is_told_and_tried_again),
        TEST(several_changes_are_one_save),
        TEST(messages_are_no_reason_to_save),
        TEST(what_a_link_leaves_behind_is_saved),
        TEST(draining_lets_go_when_the_bus_has_the_position),
        TEST(draining_does_not_wait_for_a_bus_that_is_away),
        TEST(a_quiet_queue_is_saved_every_half_of_its_ttl),
        TEST(many_queues_are_saved_in_few_calls),
        TEST(all_are_saved_when_the_process_ends),
        TEST(a_stale_queue_goes_and_is_not_dropped),
        TEST(a_takeover_is_told_to_the_link),
        TEST(what_was_being_saved_when_it_was_taken_is_over),
        TEST(an_ended_queue_is_dropped),
        TEST(a_save_that_comes_after_the_end_does_not_bring_it_back),
        TEST(nothing_is_served_after_a_pause_before_it_is_saved_again),
        TEST(nothing_is_served_before_also_if_the_client_was_told_of_the_pause),
        TEST(a_queue_that_was_taken_during_a_pause_is_not_served),
        TEST(a_link_that_is_newer_than_theirs_keeps_the_queue),
        TEST(a_poll_that_came_when_theirs_did_may_come_again),
        TEST(a_websocket_that_came_just_after_theirs_is_told_to_come_again),
        TEST(nor_is_one_told_replaced_whose_save_comes_too_late),
        TEST(a_queue_that_comes_back_is_as_the_others_left_it),
        TEST(while_others_are_not_heard_a_queue_is_claimed_first),
        TEST(a_queue_that_cannot_be_saved_is_served),
        TEST(queues_outlive_a_bus_that_forgot_them),
        TEST(a_save_under_way_when_the_bus_comes_back_is_followed_by_another),
        TEST(who_waits_for_a_save_that_failed_is_told_also_in_a_pause),
        TEST(a_second_answer_is_ignored),
        TEST(an_answer_about_another_generation_is_ignored),
        TEST(who_waited_may_end_the_queue),
        TEST(who_waited_may_end_it_also_when_it_went_well),
        TEST(who_waits_is_told_when_the_bus_has_gone),
        TEST(who_is_told_at_the_end_may_touch_what_is_left),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
