#include "tests/unit/core/loopback_kept.h"

enum {
    DEEP_MS = 5000,
    LINGER_MS = 32000,
};

/* Community n as text, until the eighth call after it. */
static const char *community(int n)
{
    static const char *const names[] = {"community:0", "community:1", "community:2", "community:3",
                                        "community:4", "community:5", "community:6"};

    return names[n];
}

/* Announces `count` events of a channel; ret: their ids. Rings hold two. */
static void announce(struct loopback *lb, const char *channel, int64_t prev, int64_t *ret,
                     size_t count)
{
    lb->cfg->channel_ring_events = 2;
    for (size_t i = 0; i < count; i++) {
        ret[i] = lb_next_id(lb);
        (void)LB_ANNOUNCE(lb, ret[i], i > 0 ? ret[i - 1] : prev, .channels = channel);
    }
}

/* Where a log begins that holds all that was asked for. */
static const int64_t as_asked = 0;

static void answer_read(struct loopback *lb, const char *channel, int64_t floor, const int64_t *ids,
                        size_t count, int64_t upto)
{
    struct lb_log_entry entries[64];
    int64_t after = lb_call(lb, LB_READ)->after;

    floor = floor == as_asked ? after : floor;
    for (size_t i = 0; i < count; i++) {
        entries[i] =
            (struct lb_log_entry){ids[i], i > 0 ? ids[i - 1] : floor, {.channels = channel}};
    }
    lb_answer_read(lb, channel,
                   &(struct lb_log){.after_id = after,
                                    .floor = floor,
                                    .entries = entries,
                                    .count = count,
                                    .whole_to = upto});
}

static void what_the_ring_lost_is_read_from_the_log(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[6];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 6);
    l = lb_poll(lb, q, start);
    LB_EXPECT_SILENCE(l);
    answer_read(lb, "community:1", as_asked, id, 6, id[5]);
    LB_EXPECT_EVENTS(l, id[0], id[1], id[2], id[3], id[4], id[5]);
    assert_true(l->spent);
}

/* Served from where the ring begins, if nothing below it concerned the queue. */
static void what_concerns_nobody_is_not_read(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1=a");
    int64_t start = pl_queue_position(q);
    int64_t id[6];

    announce(lb, "community:1", 0, id, 6);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, start));
    assert_int_equal(lb_calls(lb, LB_READ), 0);
}

static void all_who_wait_share_one_reading(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *one = lb_kept_queue(lb, "7", "community:1");
    struct pl_queue *two = lb_kept_queue(lb, "8", "community:1");
    int64_t start = pl_queue_position(two);
    int64_t id[5];
    struct lb_link *l;
    struct lb_link *m;

    announce(lb, "community:1", 0, id, 5);
    l = lb_websocket(lb, one, id[0]);
    m = lb_websocket(lb, two, start);
    assert_int_equal(lb_calls(lb, LB_READ), 1);
    answer_read(lb, "community:1", as_asked, id + 1, 4, id[4]);
    LB_EXPECT_EVENTS(l, id[1], id[2], id[3], id[4]);
    /* The other needs more: it asks for that. */
    LB_EXPECT_SILENCE(m);
    answer_read(lb, "community:1", as_asked, id, 5, id[4]);
    LB_EXPECT_EVENTS(m, id[0], id[1], id[2], id[3], id[4]);
    LB_EXPECT_SILENCE(l);
}

static void what_even_the_log_has_lost_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[6];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 6);
    l = lb_websocket(lb, q, start);
    answer_read(lb, "community:1", id[1], id + 2, 4, id[5]);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    assert_int_equal(l->position, id[5]);
    /* The next one is told without asking. */
    l = lb_websocket(lb, q, start);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    assert_int_equal(lb_calls(lb, LB_READ), 0);
    assert_int_equal(lb_kept_counts(lb)->asked[LB_READ], 1);
    LB_EXPECT_EVENTS(lb_poll(lb, q, id[1]), id[2], id[3], id[4], id[5]);
}

/* An announcement in another channel was lost, which turns out later. */
static void a_catch_up_covers_only_what_it_names(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2");
    int64_t start = pl_queue_position(q);
    int64_t lost = lb_next_id(lb);
    int64_t id[6];
    int64_t next;
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 6);
    l = lb_websocket(lb, q, start);
    answer_read(lb, "community:1", id[1], id + 2, 4, id[5]);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    next = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, next, lost, .channels = "community:2");
    lb_answer_open(
        lb, "community:2",
        &(struct lb_log){
            .after_id = lb_script_of(lb)->opens[0].after_id,
            .floor = 0,
            .entries = (struct lb_log_entry[]){{lost, 0, {.channels = "community:2"}},
                                               {next, lost, {.channels = "community:2"}}},
            .count = 2,
            .whole_to = next,
        });
    LB_EXPECT_CATCHUP(l, "gap", NULL);
}

static void events_that_come_meanwhile_follow(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[4];
    int64_t more;
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_websocket(lb, q, start);
    announce(lb, "community:1", id[3], &more, 1);
    LB_EXPECT_SILENCE(l);
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    LB_EXPECT_EVENTS(l, id[0], id[1], id[2], id[3], more);
}

/* The ring has moved on beyond what was read: it does not join on, and is read again. */
static void an_answer_that_comes_too_late_is_asked_for_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[8];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_websocket(lb, q, start);
    lb_pass(lb, DEEP_MS + 1000);
    announce(lb, "community:1", id[3], id + 4, 4);
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    LB_EXPECT_SILENCE(l);
    answer_read(lb, "community:1", as_asked, id, 8, id[7]);
    LB_EXPECT_EVENTS(l, id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]);
}

/* However busy the channel is. */
static void it_is_served_in_the_end(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[64];
    size_t count = 4;
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_websocket(lb, q, start);
    for (int tries = 0; tries < 4 && l->count == 0; tries++) {
        size_t read = count;

        announce(lb, "community:1", id[count - 1], id + count, 4); /* while it is under way */
        count += 4;
        answer_read(lb, "community:1", as_asked, id, read, id[read - 1]);
    }
    lb_expect_ids(l, id, count, __FILE__, __LINE__);
}

static void a_second_answer_is_ignored(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[4];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_websocket(lb, q, start);
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    pl_hub_bus_read(lb->hub, lb_str("community:1"), id[3], NULL, 0, id[3]);
    pl_hub_bus_read(lb->hub, lb_str("community:9"), 0, NULL, 0, id[3]);
    LB_EXPECT_EVENTS(l, id[0], id[1], id[2], id[3]);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), id[0], id[1], id[2], id[3]);
    assert_int_equal(lb_kept_counts(lb)->asked[LB_READ], 1);
}

static void what_was_read_stays_a_moment(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[6];

    announce(lb, "community:1", 0, id, 4);
    (void)lb_poll(lb, q, start);
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    announce(lb, "community:1", id[3], id + 4, 1);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), id[0], id[1], id[2], id[3], id[4]);
    lb_pass(lb, DEEP_MS);
    announce(lb, "community:1", id[4], id + 5, 1);
    LB_EXPECT_SILENCE(lb_poll(lb, q, start)); /* two are left */
    assert_int_equal(lb_calls(lb, LB_READ), 1);
}

static void what_was_read_keeps_to_the_total(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[24];
    struct lb_log_entry entries[24];

    lb->cfg->channel_total_bytes = 65536;
    announce(lb, "community:1", 0, id, 24);
    for (size_t i = 0; i < 24; i++) {
        entries[i] = (struct lb_log_entry){id[i], i > 0 ? id[i - 1] : start, {.pad = 8000}};
    }
    (void)lb_poll(lb, q, start);
    lb_answer_read(lb, "community:1",
                   &(struct lb_log){.after_id = start,
                                    .floor = start,
                                    .entries = entries,
                                    .count = 24,
                                    .whole_to = id[23]});
    assert_true(lb_stats(lb).ring_bytes <= 65536);
}

/* What one needs at once, from all its channels, is more than may be held: reading on would never end. */
static void what_does_not_fit_in_all_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2 community:3");
    int64_t start = pl_queue_position(q);
    int64_t id[4][24];
    struct lb_link *l;
    int reads = 0;

    lb->cfg->channel_total_bytes = 65536;
    for (int c = 1; c <= 3; c++) {
        announce(lb, community(c), 0, id[c], 24);
    }
    l = lb_websocket(lb, q, start);
    while (lb_calls(lb, LB_READ) > 0) {
        int64_t after = lb_call(lb, LB_READ)->after;
        int c = lb_call(lb, LB_READ)->name[sizeof("community:") - 1] - '0';
        const char *channel = community(c);
        const int64_t *ids = id[c];
        struct lb_log_entry entries[24];

        for (size_t i = 0; i < 24; i++) {
            entries[i] = (struct lb_log_entry){
                ids[i], i > 0 ? ids[i - 1] : after, {.channels = channel, .pad = 2000}};
        }
        lb_answer_read(lb, channel,
                       &(struct lb_log){.after_id = after,
                                        .floor = after,
                                        .entries = entries,
                                        .count = 24,
                                        .whole_to = ids[23]});
        assert_true(++reads < 20);
    }
    LB_EXPECT_CATCHUP(l, "trimmed", "1,2,3");
    assert_true(lb_stats(lb).ring_bytes <= 65536);
}

/* ---- several channels ---- */

struct many {
    struct pl_queue *q[6];
    struct lb_link *l[6];
    int64_t start[6];
    int64_t id[6][4];
};

/* Six queues in a channel each, whose clients come back to less than they missed. */
static void come_back_to_six(struct loopback *lb, struct many *m)
{
    char user[] = "1";

    for (int i = 0; i < 6; i++, user[0]++) {
        m->q[i] = lb_kept_queue(lb, user, community(i));
    }
    for (int i = 0; i < 6; i++) {
        m->start[i] = pl_queue_position(m->q[i]);
        announce(lb, community(i), 0, m->id[i], 4);
    }
    for (int i = 0; i < 6; i++) {
        m->l[i] = lb_websocket(lb, m->q[i], m->start[i]);
    }
}

static void four_are_read_at_once_and_the_others_in_turn(void **state)
{
    struct loopback *lb = *state;
    struct many m;

    come_back_to_six(lb, &m);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(lb_calls(lb, LB_READ), i < 3 ? 4 : 6 - i);
        answer_read(lb, community(i), as_asked, m.id[i], 4, m.id[i][3]);
        LB_EXPECT_EVENTS(m.l[i], m.id[i][0], m.id[i][1], m.id[i][2], m.id[i][3]);
    }
}

static void a_bus_that_went_is_asked_again(void **state)
{
    struct loopback *lb = *state;
    struct many m;

    come_back_to_six(lb, &m);
    lb_settle(lb); /* but for the readings */
    pl_hub_bus_pause(lb->hub, true);
    pl_hub_bus_pause(lb->hub, false);
    assert_int_equal(lb_calls(lb, LB_READ), 4); /* those that are lost with it */
    while (lb_calls(lb, LB_SAVE) > 0) {
        lb_answer(lb, LB_SAVE);
    }
    assert_int_equal(lb_calls(lb, LB_READ), 8);
}

/* Who waits in line is not forgotten when those before it go away. */
static void channels_that_close_make_room_for_the_others(void **state)
{
    struct loopback *lb = *state;
    struct many m;

    come_back_to_six(lb, &m);
    lb_settle(lb);
    for (int i = 0; i < 4; i++) {
        pl_link_detach(&m.l[i]->base);
        pl_queue_end(m.q[i], PL_OK);
    }
    lb_pass(lb, LINGER_MS);
    assert_int_equal(lb_calls(lb, LB_READ), 6);
}

static void a_queue_in_several_channels_waits_for_all(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2");
    int64_t start = pl_queue_position(q);
    int64_t a[4];
    int64_t b[4];
    struct lb_link *l;

    announce(lb, "community:1", 0, a, 4);
    announce(lb, "community:2", 0, b, 4);
    l = lb_websocket(lb, q, start);
    assert_int_equal(lb_calls(lb, LB_READ), 2);
    answer_read(lb, "community:1", as_asked, a, 4, a[3]);
    LB_EXPECT_SILENCE(l);
    answer_read(lb, "community:2", as_asked, b, 4, b[3]);
    LB_EXPECT_EVENTS(l, a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]);
}

static void a_loss_in_one_channel_is_told_for_that_one(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2");
    int64_t start = pl_queue_position(q);
    int64_t a[4];
    int64_t b[4];
    struct lb_link *l;

    announce(lb, "community:1", 0, a, 4);
    announce(lb, "community:2", 0, b, 4);
    l = lb_websocket(lb, q, start);
    answer_read(lb, "community:1", as_asked, a, 4, a[3]);
    LB_EXPECT_SILENCE(l);
    answer_read(lb, "community:2", b[1], b + 2, 2, b[3]);
    /* Going on from now passes over the other's, too. */
    LB_EXPECT_CATCHUP(l, "trimmed", "1,2");
}

static void a_poll_that_waits_for_history_may_be_answered_empty(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[4];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_poll(lb, q, start);
    pl_queue_answer_empty(q);
    LB_EXPECT_NO_EVENTS(l);
    assert_int_equal(l->position, start);
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), id[0], id[1], id[2], id[3]);
}

static void a_queue_may_end_while_its_history_is_read(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id[4];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_websocket(lb, q, start);
    pl_queue_end(q, PL_OK);
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    LB_EXPECT_SILENCE(l);
}

/* What is taken meanwhile is not served from the log either. */
static void a_right_taken_meanwhile_is_taken(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_kept_queue(lb, "7", "community:1 community:2");
    int64_t start = pl_queue_position(q);
    int64_t id[4];
    struct lb_link *l;

    announce(lb, "community:1", 0, id, 4);
    l = lb_websocket(lb, q, start);
    (void)lb_update(lb, "7", "community:2");
    answer_read(lb, "community:1", as_asked, id, 4, id[3]);
    assert_string_equal(lb_member(LB_TAKE(l), "type"), "\"membership\"");
    LB_EXPECT_SILENCE(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_kept, lb_stop)
        TEST(what_the_ring_lost_is_read_from_the_log),
        TEST(what_concerns_nobody_is_not_read),
        TEST(all_who_wait_share_one_reading),
        TEST(what_even_the_log_has_lost_is_told),
        TEST(a_catch_up_covers_only_what_it_names),
        TEST(events_that_come_meanwhile_follow),
        TEST(an_answer_that_comes_too_late_is_asked_for_again),
        TEST(it_is_served_in_the_end),
        TEST(a_second_answer_is_ignored),
        TEST(what_was_read_stays_a_moment),
        TEST(what_was_read_keeps_to_the_total),
        TEST(what_does_not_fit_in_all_is_told),
        TEST(four_are_read_at_once_and_the_others_in_turn),
        TEST(a_bus_that_went_is_asked_again),
        TEST(channels_that_close_make_room_for_the_others),
        TEST(a_queue_in_several_channels_waits_for_all),
        TEST(a_loss_in_one_channel_is_told_for_that_one),
        TEST(a_poll_that_waits_for_history_may_be_answered_empty),
        TEST(a_queue_may_end_while_its_history_is_read),
        TEST(a_right_taken_meanwhile_is_taken),
    };

    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
