#include "tests/unit/core/loopback_kept.h"

#include <string.h>

enum {
    DEGRADED_MS = 1008,
    SWEEP_MS = 1008,
    LINGER_MS = 30000,
};

static void expect_status(struct lb_link *l, const char *state)
{
    const struct lb_message *m = LB_TAKE(l);

    assert_string_equal(lb_member(m, "type"), "\"status\"");
    assert_string_equal(lb_member(m, "state"), state);
}

/* On again, and every queue saved. */
static void go_on(struct loopback *lb)
{
    pl_hub_bus_pause(lb->hub, false);
    while (lb->kind == &lb_kept && lb_calls(lb, LB_SAVE) > 0) {
        lb_answer(lb, LB_SAVE);
    }
}

static struct pl_queue *live_queue(struct loopback *lb, const char *user, const char *membership)
{
    struct pl_queue *q = lb_queue(lb, user, membership);

    if (lb->kind == &lb_kept) {
        lb_settle(lb);
    }
    while (lb_script_of(lb)->open_count > 0) {
        lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, lb_script_of(lb)->last_id);
    }
    return q;
}

/* What was read of community:1: this event, and that the log has lost the one before it (0: none). */
static void answer_open_past(struct loopback *lb, int64_t after, int64_t lost, int64_t id)
{
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = after,
                                    .floor = lost,
                                    .entries = (struct lb_log_entry[]){{id, lost, {0}}},
                                    .count = 1,
                                    .whole_to = id});
}

static void answer_open_with(struct loopback *lb, int64_t id)
{
    answer_open_past(lb, 0, 0, id);
}

/* ---- the pause ---- */

static void what_comes_during_a_pause_is_delivered_after_it(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1"), -1);
    struct lb_link *poll = lb_poll(lb, live_queue(lb, "8", "community:1"), -1);
    int64_t id = lb_next_id(lb);

    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_pause(lb->hub, true);
    assert_int_equal(LB_ANNOUNCE(lb, id, 0), 0);
    pl_queue_writable(l->base.queue);
    LB_EXPECT_SILENCE(l);
    LB_EXPECT_SILENCE(poll);
    go_on(lb);
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_EVENTS(poll, id);
    assert_int_equal(LB_ANNOUNCE(lb, id + 1, id), 1);
    LB_EXPECT_EVENTS(l, id + 1);
}

/* What was revoked meanwhile comes among the events, in the order of ids. */
static void what_was_revoked_meanwhile_is_not_delivered(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1 community:2"), -1);
    int64_t id = lb_next_id(lb);

    pl_hub_bus_pause(lb->hub, true);
    (void)LB_ANNOUNCE(lb, id, 0);
    (void)lb_update(lb, "7", "community:2");
    (void)LB_ANNOUNCE(lb, id + 2, 0, .channels = "community:2");
    assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    go_on(lb);
    LB_EXPECT_EVENTS(l, id + 2);
}

static void a_client_that_comes_during_a_pause_waits(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id = lb_next_id(lb);
    struct lb_link *l;

    (void)LB_ANNOUNCE(lb, id, 0);
    pl_hub_bus_pause(lb->hub, true);
    l = lb_websocket(lb, q, start);
    LB_EXPECT_SILENCE(l);
    pl_link_detach(&l->base);
    l = lb_poll_once(lb, q, start);
    LB_EXPECT_NO_EVENTS(l);
    assert_int_equal(l->position, start);
    l = lb_websocket(lb, q, start);
    go_on(lb);
    LB_EXPECT_EVENTS(l, id);
}

static void a_lasting_pause_is_told_and_its_end_too(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1"), -1);
    struct lb_link *late;

    pl_hub_bus_pause(lb->hub, true);
    lb_pass(lb, 900);
    LB_EXPECT_SILENCE(l);
    lb_pass(lb, 200);
    expect_status(l, "\"degraded\"");
    late = lb_websocket(lb, live_queue(lb, "8", "community:1"), -1);
    expect_status(late, "\"degraded\"");
    lb_pass(lb, 5000);
    LB_EXPECT_SILENCE(l);
    go_on(lb);
    expect_status(l, "\"ok\"");
    expect_status(late, "\"ok\"");
    LB_EXPECT_SILENCE(l);
}

static void a_short_pause_is_nobody_s_business(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1"), -1);

    for (int i = 0; i < 3; i++) {
        pl_hub_bus_pause(lb->hub, true);
        lb_pass(lb, 900);
        go_on(lb);
    }
    lb_pass(lb, DEGRADED_MS);
    LB_EXPECT_SILENCE(l);
}

/* A poll is not answered for it: it says so with what comes next. */
static void a_poll_hears_of_it_with_its_answer(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    struct lb_link *l = lb_poll(lb, q, -1);
    int64_t id;

    pl_hub_bus_pause(lb->hub, true);
    lb_pass(lb, DEGRADED_MS);
    LB_EXPECT_SILENCE(l);
    pl_queue_answer_empty(q);
    assert_string_equal(lb_member(LB_TAKE(l), "signals"),
                        "[{\"type\":\"status\",\"state\":\"degraded\"}]");
    l = lb_poll(lb, q, -1);
    go_on(lb);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    assert_int_equal(l->count, 1);
    assert_string_equal(lb_member(&l->messages[0], "signals"),
                        "[{\"type\":\"status\",\"state\":\"ok\"}]");
    LB_EXPECT_EVENTS(l, id);
    assert_null(lb_member(LB_TAKE(lb_poll_once(lb, q, id)), "signals"));
}

static void who_did_not_hear_of_it_does_not_hear_of_its_end(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    struct lb_link *l;

    pl_hub_bus_pause(lb->hub, true);
    lb_pass(lb, DEGRADED_MS);
    go_on(lb);
    assert_null(lb_member(LB_TAKE(lb_poll_once(lb, q, -1)), "signals"));
    l = lb_websocket(lb, q, -1);
    LB_EXPECT_SILENCE(l);
}

static void a_slow_socket_hears_only_of_how_it_is(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1"), -1);

    l->refuse = true;
    pl_hub_bus_pause(lb->hub, true);
    lb_pass(lb, DEGRADED_MS);
    go_on(lb);
    lb_take_again(l);
    LB_EXPECT_SILENCE(l);
}

static void a_hub_may_end_during_a_pause(void **state)
{
    struct loopback *lb = *state;

    (void)live_queue(lb, "7", "community:1");
    pl_hub_bus_pause(lb->hub, true); /* lb_stop looks at what is left of it */
}

/* Its client's position may be of a bus that answered before it went. */
static void a_position_ahead_is_asked_about_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    int64_t ahead = lb_sequence_id(lb) + 1000;
    struct lb_link *l = lb_websocket(lb, q, ahead);

    lb_fail(lb, LB_SEQUENCE);
    LB_EXPECT_SILENCE(l);
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_pause(lb->hub, false);
    assert_int_equal(lb_calls(lb, LB_SEQUENCE), 1);
    lb_answer(lb, LB_SEQUENCE);
    lb_answer(lb, LB_SAVE);
    LB_EXPECT_CATCHUP(l, "ahead", NULL);
}

/* ---- epochs ---- */

static void a_new_epoch_is_told_to_all_who_were_before_it(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    struct pl_queue *away = live_queue(lb, "8", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t old = lb_next_id(lb);
    int64_t start = old + 100000;
    struct lb_link *m;

    (void)LB_ANNOUNCE(lb, old, 0);
    LB_EXPECT_EVENTS(l, old);
    pl_hub_bus_epoch(lb->hub, start);
    LB_EXPECT_SILENCE(l); /* not before the channels are known again */
    assert_int_equal(lb_script_of(lb)->opens[0].after_id, start);
    lb_answer_open_empty(lb, "community:1", start);
    while (lb_script_of(lb)->open_count > 0) {
        lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, start);
    }
    LB_EXPECT_CATCHUP(l, "epoch", NULL);
    assert_int_equal(l->position, start);
    m = lb_poll(lb, away, old);
    LB_EXPECT_CATCHUP(m, "epoch", NULL);
    (void)LB_ANNOUNCE(lb, start + 1, 0);
    LB_EXPECT_EVENTS(l, start + 1);
    LB_EXPECT_EVENTS(lb_poll(lb, away, start), start + 1);
}

static void an_epoch_that_is_known_is_none(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1"), -1);

    pl_hub_bus_epoch(lb->hub, lb_script_of(lb)->epoch);
    pl_hub_bus_epoch(lb->hub, lb_script_of(lb)->epoch - 1);
    assert_int_equal(lb_script_of(lb)->open_count, 0);
    LB_EXPECT_SILENCE(l);
}

static void it_drops_what_was_held(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q) + 100000;

    (void)LB_ANNOUNCE(lb, lb_next_id(lb), 0);
    assert_true(lb_stats(lb).ring_bytes > 0);
    pl_hub_bus_epoch(lb->hub, start);
    assert_int_equal(lb_stats(lb).ring_bytes, 0);
    assert_int_equal(lb_stats(lb).applied, start);
}

/* A client whose position is of the new epoch already came from a node that knew of it before. */
static void who_is_in_the_new_epoch_is_not_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    int64_t start = lb_sequence_id(lb) + 100000;
    struct lb_link *l = lb_websocket(lb, q, start + 5);

    *lb_script_of(lb)->shared_id = start + 5;
    pl_hub_bus_epoch(lb->hub, start);
    while (lb_script_of(lb)->open_count > 0) {
        lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, start);
    }
    LB_EXPECT_SILENCE(l);
    lb_answer(lb, LB_SEQUENCE);
    LB_EXPECT_SILENCE(l);
    (void)LB_ANNOUNCE(lb, start + 5, 0);
    (void)LB_ANNOUNCE(lb, start + 6, start + 5);
    LB_EXPECT_EVENTS(l, start + 6);
}

/* Also while the channel was being opened, or read again. */
static void an_epoch_begins_also_in_the_middle_of_something(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1 community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    struct pl_queue *opening = lb_queue(lb, "8", "community:3");
    struct lb_link *m = lb_websocket(lb, opening, -1);
    int64_t id = lb_next_id(lb);
    int64_t start = id + 100000;

    (void)LB_ANNOUNCE(lb, id + 1, id);                           /* a gap */
    (void)LB_ANNOUNCE(lb, id + 2, 0, .channels = "community:3"); /* early */
    pl_hub_bus_epoch(lb->hub, start);
    /* An answer to what was asked before is no harm. */
    for (int i = 0; i < 2; i++) {
        while (lb_script_of(lb)->open_count > 0) {
            lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, start);
        }
    }
    LB_EXPECT_CATCHUP(l, "epoch", NULL);
    LB_EXPECT_CATCHUP(m, "epoch", NULL);
    (void)LB_ANNOUNCE(lb, start + 1, 0, .channels = "community:1 community:3");
    LB_EXPECT_EVENTS(l, start + 1);
    LB_EXPECT_EVENTS(m, start + 1);
}

/* Its client has no position, and takes the first that it is told: that one is of the new epoch. */
static void a_queue_made_anew_goes_on_from_the_new_epoch(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *away = live_queue(lb, "7", "community:1");
    struct pl_queue *q = live_queue(lb, "8", "community:1");
    int64_t start = lb_next_id(lb) + 100000;
    struct lb_link *l = lb_websocket(lb, q, -1);
    struct lb_link *m;

    pl_queue_require_catchup(away);
    pl_queue_require_catchup(q);
    l->refuse = true;
    pl_hub_bus_epoch(lb->hub, start);
    m = lb_websocket(lb, away, -1);
    LB_EXPECT_CATCHUP(m, "expired", NULL);
    assert_int_equal(m->position, start);
    lb_take_again(l);
    LB_EXPECT_CATCHUP(l, "expired", NULL);
    assert_int_equal(l->position, start);
    while (lb_script_of(lb)->open_count > 0) {
        lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, start);
    }
    (void)LB_ANNOUNCE(lb, start + 1, 0);
    LB_EXPECT_EVENTS(l, start + 1);
    LB_EXPECT_EVENTS(m, start + 1);
}

/* It is told the position that it has, and what the log lost above that lies before it as well. */
static void what_the_log_lost_is_told_to_a_queue_made_anew(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *other = lb_websocket(lb, live_queue(lb, "8", "community:1 community:2"), -1);
    int64_t first = lb_next_id(lb), elsewhere = lb_next_id(lb), lost, next;
    struct pl_queue *q;
    struct lb_link *l;

    (void)LB_ANNOUNCE(lb, first, 0);
    (void)LB_ANNOUNCE(lb, elsewhere, 0, .channels = "community:2");
    LB_EXPECT_EVENTS(other, first, elsewhere);
    q = live_queue(lb, "7", "community:1");
    pl_queue_require_catchup(q);
    lost = lb_next_id(lb);
    next = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, next, lost);
    answer_open_past(lb, first, lost, next);
    l = lb_websocket(lb, q, -1);
    LB_EXPECT_CATCHUP(l, "expired", NULL);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    assert_int_equal(l->position, next);
}

/* A catch-up was told since the channel's last event: the hole begins behind it, not before. */
static void what_the_log_lost_below_the_cursor_is_a_hole(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1 community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t first = lb_next_id(lb), lost = lb_next_id(lb), passed = lb_next_id(lb),
            next = lb_next_id(lb);

    (void)LB_ANNOUNCE(lb, first, 0, .channels = "community:2");
    LB_EXPECT_EVENTS(l, first);
    (void)lb_websocket(lb, q, first);
    pl_queue_require_catchup(q);
    l = lb_websocket(lb, q, -1);
    LB_EXPECT_CATCHUP(l, "expired", NULL);
    (void)LB_ANNOUNCE(lb, passed, first, .channels = "community:2");
    LB_EXPECT_EVENTS(l, passed);
    (void)LB_ANNOUNCE(lb, next, lost);
    answer_open_past(lb, 0, lost, next);
    LB_EXPECT_CATCHUP(l, "gap", NULL);
}

static void an_epoch_during_a_pause_is_told_after_it(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, live_queue(lb, "7", "community:1"), -1);
    int64_t start = lb_script_of(lb)->last_id + 100000;

    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_epoch(lb->hub, start);
    while (lb_script_of(lb)->open_count > 0) {
        lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, start);
    }
    LB_EXPECT_SILENCE(l);
    go_on(lb);
    LB_EXPECT_CATCHUP(l, "epoch", NULL);
}

/* ---- channels that linger ---- */

static void a_client_that_comes_back_finds_its_channel_open(void **state)
{
    struct loopback *lb = *state;
    struct lb_script_bus *b = lb_script_of(lb);
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    size_t opened = b->opened_total;
    int64_t id;

    pl_queue_end(q, PL_OK);
    lb_pass(lb, LINGER_MS - SWEEP_MS);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    assert_int_equal(b->closed_total, 0);
    q = lb_queue_at(lb, "7", "community:1", start);
    assert_int_equal(b->opened_total, opened);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), id);
    lb_pass(lb, 2 * LINGER_MS);
    assert_int_equal(b->closed_total, 0);
}

static void it_is_closed_when_nobody_has_come_back(void **state)
{
    struct loopback *lb = *state;
    struct lb_script_bus *b = lb_script_of(lb);
    struct pl_queue *q = live_queue(lb, "7", "community:1");

    (void)LB_ANNOUNCE(lb, lb_next_id(lb), 0);
    pl_queue_end(q, PL_OK);
    lb_pass(lb, LINGER_MS + SWEEP_MS);
    assert_int_equal(b->closed_total, b->opened_total);
    assert_int_equal(lb_stats(lb).ring_bytes, 0);
    (void)lb_another_queue(lb, "7", -1);
    assert_int_equal(b->opens[0].after_id, 0);
}

static void each_lingers_for_its_own_time(void **state)
{
    struct loopback *lb = *state;
    struct lb_script_bus *b = lb_script_of(lb);
    struct pl_queue *one = live_queue(lb, "7", "community:1");
    struct pl_queue *two = live_queue(lb, "8", "community:2");
    size_t per_queue = b->opened_total / 2;

    pl_queue_end(one, PL_OK);
    lb_pass(lb, LINGER_MS / 2);
    pl_queue_end(two, PL_OK);
    lb_pass(lb, LINGER_MS / 2 + SWEEP_MS);
    assert_int_equal(b->closed_total, per_queue);
    lb_pass(lb, LINGER_MS / 2);
    assert_int_equal(b->closed_total, 2 * per_queue);
}

static void a_gap_while_it_lingers_is_repaired(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = live_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id = lb_next_id(lb);

    pl_queue_end(q, PL_OK);
    (void)LB_ANNOUNCE(lb, id + 1, id);
    q = lb_queue_at(lb, "7", "community:1", start);
    answer_open_with(lb, id);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), id, id + 1);
}

/* What was read is ahead of the node until it has got to a change that takes the channel away. */
static void a_change_holds_for_what_goes_live_by_it(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t id = lb_next_id(lb);

    answer_open_with(lb, id);
    LB_EXPECT_SILENCE(l);
    (void)lb_update(lb, "7", "community:2");
    assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    LB_EXPECT_SILENCE(l);
}

static void it_may_be_closed_while_it_is_being_opened(void **state)
{
    struct loopback *lb = *state;
    struct lb_script_bus *b = lb_script_of(lb);
    struct pl_queue *q = lb_queue(lb, "7", "community:1");

    (void)LB_ANNOUNCE(lb, lb_next_id(lb), 0);
    pl_queue_end(q, PL_OK);
    lb_pass(lb, LINGER_MS + SWEEP_MS);
    assert_int_equal(b->closed_total, b->opened_total);
    pl_hub_bus_opened(lb->hub, lb_str("community:1"), 0, NULL, 0, b->last_id); /* too late */
    assert_int_equal(lb_stats(lb).ring_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ASYNC(name) cmocka_unit_test_setup_teardown(name, lb_start_script, lb_stop)
#define KEPT(name)  {#name "_kept", name, lb_start_kept, lb_stop, NULL}
#define BOTH(name)  ASYNC(name), KEPT(name)
        BOTH(what_comes_during_a_pause_is_delivered_after_it),
        BOTH(what_was_revoked_meanwhile_is_not_delivered),
        BOTH(a_client_that_comes_during_a_pause_waits),
        BOTH(a_lasting_pause_is_told_and_its_end_too),
        BOTH(a_short_pause_is_nobody_s_business),
        BOTH(a_poll_hears_of_it_with_its_answer),
        BOTH(who_did_not_hear_of_it_does_not_hear_of_its_end),
        BOTH(a_slow_socket_hears_only_of_how_it_is),
        BOTH(a_hub_may_end_during_a_pause),
        KEPT(a_position_ahead_is_asked_about_again),
        BOTH(a_new_epoch_is_told_to_all_who_were_before_it),
        BOTH(an_epoch_that_is_known_is_none),
        BOTH(it_drops_what_was_held),
        KEPT(who_is_in_the_new_epoch_is_not_told),
        BOTH(an_epoch_begins_also_in_the_middle_of_something),
        BOTH(a_queue_made_anew_goes_on_from_the_new_epoch),
        ASYNC(what_the_log_lost_is_told_to_a_queue_made_anew),
        ASYNC(what_the_log_lost_below_the_cursor_is_a_hole),
        BOTH(an_epoch_during_a_pause_is_told_after_it),
        BOTH(a_client_that_comes_back_finds_its_channel_open),
        BOTH(it_is_closed_when_nobody_has_come_back),
        BOTH(each_lingers_for_its_own_time),
        BOTH(a_gap_while_it_lingers_is_repaired),
        ASYNC(a_change_holds_for_what_goes_live_by_it),
        BOTH(it_may_be_closed_while_it_is_being_opened),
    };

    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
