#include "tests/unit/core/loopback.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- rule 3, for push and pull alike ---- */

/* Two queues of one user with the same rights: one is pushed to, the other asks afterwards. */
struct pair {
    struct loopback *lb;
    struct pl_queue *pushed, *pulled;
    struct lb_link *link;
};

static struct pair pair_of(struct loopback *lb, const char *user, const char *membership)
{
    struct pair p = {.lb = lb};

    p.pushed = lb_queue(lb, user, membership);
    p.pulled = lb_another_queue(lb, user, -1);
    p.link = lb_websocket(lb, p.pushed, -1);
    LB_EXPECT_SILENCE(p.link);
    return p;
}

static void expect_of_pair(struct pair *p, int64_t id, bool pushed, bool pulled)
{
    struct lb_link *poll = lb_poll_once(p->lb, p->pulled, pl_queue_position(p->pulled));

    lb_expect_ids(p->link, &id, pushed, __FILE__, __LINE__);
    lb_expect_ids(poll, &id, pulled, __FILE__, __LINE__);
}

static void both_get(struct pair *p, int64_t id)
{
    expect_of_pair(p, id, true, true);
}

static void neither_gets(struct pair *p, int64_t id)
{
    expect_of_pair(p, id, false, false);
}

static void an_event_is_for_those_who_are_granted_its_channel(void **state)
{
    struct loopback *lb = *state;
    struct pair in = pair_of(lb, "7", "community:1");
    struct pair out = pair_of(lb, "8", "community:2");
    int64_t id = LB_PUBLISH(lb);

    both_get(&in, id);
    neither_gets(&out, id);
}

static void one_granted_channel_of_several_is_enough(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:2");

    both_get(&p, LB_PUBLISH(lb, .channels = "community:1 community:2 room:x"));
    neither_gets(&p, LB_PUBLISH(lb, .channels = "community:1 room:x"));
}

static void a_grant_does_not_reach_what_came_before_it(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1");
    int64_t before = LB_PUBLISH(lb, .channels = "community:2");
    int64_t after;
    struct lb_link *poll;

    (void)lb_update(lb, "7", "community:1 community:2");
    after = LB_PUBLISH(lb, .channels = "community:2");
    poll = lb_poll_once(lb, p.pulled, before - 1);
    LB_EXPECT_EVENTS(poll, after);
    (void)LB_TAKE(p.link); /* the membership */
    LB_EXPECT_EVENTS(p.link, after);
}

static void a_taken_grant_denies_also_what_came_before(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1 community:2");
    int64_t id;

    p.link->refuse = true;
    id = LB_PUBLISH(lb, .channels = "community:2");
    (void)lb_update(lb, "7", "community:1");
    lb_take_again(p.link);
    (void)LB_TAKE(p.link);
    LB_EXPECT_NO_EVENTS(p.link);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, p.pulled, id - 1));
    neither_gets(&p, LB_PUBLISH(lb, .channels = "community:2"));
    both_get(&p, LB_PUBLISH(lb));
}

static void a_grant_given_again_begins_anew(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2");
    int64_t start = LB_PUBLISH(lb, .channels = "community:2");
    int64_t after;

    (void)lb_update(lb, "7", "community:1");
    (void)LB_PUBLISH(lb, .channels = "community:2");
    (void)lb_update(lb, "7", "community:1 community:2");
    after = LB_PUBLISH(lb, .channels = "community:2");
    LB_EXPECT_EVENTS(lb_poll_once(lb, q, start - 1), after);
}

static void subscriber_ids_are_the_only_ones_who_get_it(void **state)
{
    struct loopback *lb = *state;
    struct pair number = pair_of(lb, "7", "community:1");
    struct pair name = pair_of(lb, "ann", "community:1");
    struct pair other = pair_of(lb, "70", "community:1");
    struct pair elsewhere = pair_of(lb, "8", "community:2");
    int64_t id = LB_PUBLISH(lb, .subscribers = "7 8 ann");

    both_get(&number, id);
    both_get(&name, id);
    neither_gets(&other, id);
    neither_gets(&elsewhere, id);
}

static void no_subscribers_are_nobody_and_absent_ones_everybody(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1");

    neither_gets(&p, LB_PUBLISH(lb, .subscribers = ""));
    both_get(&p, LB_PUBLISH(lb, .subscribers = NULL));
}

static void subscribers_are_found_from_both_sides_of_the_walk(void **state)
{
    struct loopback *lb = *state;
    struct pair number = pair_of(lb, "7", "community:1");
    struct pair name = pair_of(lb, "ann", "community:1=a");
    struct pair other = pair_of(lb, "8", "community:1");
    char many[2048] = "7 ann";
    size_t len = 5;
    int64_t id;

    for (int i = 0; i < 100; i++) {
        len +=
            (size_t)snprintf(many + len, sizeof(many) - len, " %s%d", i % 2 ? "x" : "-", 1000 + i);
    }
    id = LB_PUBLISH(lb, .subscribers = many); /* longer than the channel is wide */
    both_get(&number, id);
    both_get(&name, id);
    neither_gets(&other, id);
    id = LB_PUBLISH(lb, .subscribers = "7 ann"); /* shorter */
    both_get(&number, id);
    both_get(&name, id);
    neither_gets(&other, id);
}

static void subscribers_get_it_whatever_they_are_narrowed_to(void **state)
{
    struct loopback *lb = *state;
    struct pair none = pair_of(lb, "7", "community:1=");
    struct pair other = pair_of(lb, "8", "community:1=b");
    int64_t id = LB_PUBLISH(lb, .topic = "a", .subscribers = "7 8");

    both_get(&none, id);
    both_get(&other, id);
}

static void a_narrowed_queue_gets_its_topics(void **state)
{
    struct loopback *lb = *state;
    struct pair whole = pair_of(lb, "7", "community:1");
    struct pair a = pair_of(lb, "8", "community:1=a");
    struct pair ab = pair_of(lb, "9", "community:1=a,b");
    struct pair none = pair_of(lb, "10", "community:1=");
    int64_t id = LB_PUBLISH(lb, .topic = "a");

    both_get(&whole, id);
    both_get(&a, id);
    both_get(&ab, id);
    neither_gets(&none, id);
    id = LB_PUBLISH(lb, .topic = "b");
    both_get(&whole, id);
    neither_gets(&a, id);
    both_get(&ab, id);
    id = LB_PUBLISH(lb); /* no topic: only for those who hold it whole */
    both_get(&whole, id);
    neither_gets(&a, id);
    neither_gets(&ab, id);
    neither_gets(&none, id);
}

static void narrowing_in_one_channel_does_not_hide_it_in_another(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1=b community:2");

    both_get(&p, LB_PUBLISH(lb, .channels = "community:1 community:2", .topic = "a"));
    neither_gets(&p, LB_PUBLISH(lb, .topic = "a"));
}

static void the_excluded_user_does_not_get_it(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1 community:2");
    struct pair other = pair_of(lb, "70", "community:1");
    int64_t id = LB_PUBLISH(lb, .channels = "community:1 community:2", .exclude_user = "7");

    neither_gets(&p, id);
    both_get(&other, id);
    neither_gets(&p, LB_PUBLISH(lb, .subscribers = "7", .exclude_user = "7"));
}

static void the_excluded_queue_does_not_get_it_and_its_siblings_do(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1 community:2");
    const char *both = "community:1 community:2";

    expect_of_pair(&p, LB_PUBLISH(lb, .channels = both, .exclude_queue = lb_queue_id(p.pushed)),
                   false, true);
    expect_of_pair(&p, LB_PUBLISH(lb, .channels = both, .exclude_queue = lb_queue_id(p.pulled)),
                   true, false);
    both_get(&p, LB_PUBLISH(lb, .exclude_queue = "not-a-queue"));
}

static void an_event_in_two_channels_comes_once(void **state)
{
    struct loopback *lb = *state;
    struct pair p = pair_of(lb, "7", "community:1 community:2 room:x");
    struct pair listed = pair_of(lb, "8", "community:1= community:2");
    const char *all = "community:1 community:2 room:x";
    int64_t id = LB_PUBLISH(lb, .channels = all);

    both_get(&p, id);
    both_get(&listed, id);
    id = LB_PUBLISH(lb, .channels = all, .subscribers = "8 7");
    both_get(&p, id);
    both_get(&listed, id);
}

static void a_revocation_between_publish_and_poll_wins(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);

    (void)LB_PUBLISH(lb);
    (void)lb_update(lb, "7", "");
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, start));
}

/* ---- push ---- */

static void links_that_are_up_to_date_share_one_frame(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *socket = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *poll = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);
    struct lb_link *packed = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_MSGPACK);
    struct lb_link *packed_poll = lb_link_new(lb, PL_TRANSPORT_LONGPOLL, PL_MSGPACK);

    lb_open(packed, lb_queue(lb, "9", "community:1"), -1);
    lb_open(packed_poll, lb_queue(lb, "10", "community:1"), -1);
    (void)LB_PUBLISH(lb);
    assert_ptr_equal(LB_TAKE(socket)->frame, LB_TAKE(poll)->frame);
    assert_ptr_equal(LB_TAKE(packed)->frame, LB_TAKE(packed_poll)->frame);
    assert_string_equal(lb_json(packed->messages[0].v), lb_json(socket->messages[0].v));
}

static void a_publish_tells_how_many_links_took_it(void **state)
{
    struct loopback *lb = *state;
    struct lb_script_bus *b;
    struct lb_link *slow;
    int64_t first;

    (void)lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    (void)lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);
    slow = lb_websocket(lb, lb_queue(lb, "9", "community:1"), -1);
    slow->refuse = true;
    (void)lb_queue(lb, "10", "community:1");
    b = lb_script_of(lb);
    lb_answer_open_empty(lb, "community:1", b->last_id);
    first = lb_next_id(lb);
    assert_int_equal(LB_ANNOUNCE(lb, first, 0), 2);
    assert_int_equal(LB_ANNOUNCE(lb, lb_next_id(lb), first), 1); /* the poll is spent */
}

static void a_slow_link_costs_a_cursor_and_gets_everything_later(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t ids[100];

    l->refuse = true;
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb);
    }
    assert_int_equal(l->offered, 1); /* not asked again before it says so */
    assert_int_equal(pl_queue_tell_position(q), ids[0] - 1);
    lb_take_again(l);
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
    assert_int_equal(l->count, 1);
    assert_int_equal(pl_queue_tell_position(q), ids[99]);
    ids[0] = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(l, ids[0]);
}

static void a_link_that_fills_up_again_and_again_misses_nothing(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t ids[60];

    lb->cfg->queue_batch_events = 3;
    for (size_t i = 0; i < COUNT(ids); i++) {
        l->takes = (int)(i % 3);
        ids[i] = LB_PUBLISH(lb, .channels = i % 2 ? "community:1" : "community:1 community:2");
        if (i % 4 == 0) {
            l->takes = 1;
            pl_queue_writable(q);
        }
    }
    lb_take_again(l);
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
}

static void an_abandoned_poll_leaves_the_event_for_the_next(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_poll(lb, q, -1);
    int64_t id;

    pl_link_detach(&l->base);
    id = LB_PUBLISH(lb);
    LB_EXPECT_SILENCE(l);
    LB_EXPECT_EVENTS(lb_poll_once(lb, q, -1), id);
}

/* ---- batches ---- */

static void a_batch_holds_at_most_batch_events(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l;
    int64_t ids[5];

    lb->cfg->queue_batch_events = 2;
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb);
    }
    l = lb_poll(lb, q, ids[0] - 1);
    LB_EXPECT_EVENTS(l, ids[0], ids[1]);
    assert_int_equal(l->position, ids[1]);
    l = lb_websocket(lb, q, ids[0] - 1);
    assert_int_equal(l->count, 3);
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
    assert_int_equal(l->position, ids[4]);
}

static void a_batch_holds_at_most_batch_bytes_but_always_one_event(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t big = LB_PUBLISH(lb, .pad = 5000);
    int64_t small = LB_PUBLISH(lb, .pad = 10);
    int64_t half = LB_PUBLISH(lb, .pad = 600);
    int64_t rest = LB_PUBLISH(lb, .pad = 600);
    struct lb_link *l;

    lb->cfg->queue_batch_bytes = 1024;
    l = lb_poll(lb, q, big - 1);
    LB_EXPECT_EVENTS(l, big);
    l = lb_poll(lb, q, l->position);
    LB_EXPECT_EVENTS(l, small, half);
    l = lb_poll(lb, q, l->position);
    LB_EXPECT_EVENTS(l, rest);
}

static void a_batch_merges_channels_by_id(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2 room:x");
    static const char *const channels[] = {
        "community:2", "room:x", "community:1 room:x", "community:1", "community:1 community:2",
        "room:x"};
    int64_t ids[COUNT(channels)];

    for (size_t i = 0; i < COUNT(channels); i++) {
        ids[i] = LB_PUBLISH(lb, .channels = channels[i]);
    }
    lb_expect_ids(lb_poll_once(lb, q, -1), ids, COUNT(ids), __FILE__, __LINE__);
}

static void what_concerns_nobody_moves_the_cursor_too(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *quiet = lb_queue(lb, "7", "community:1=a");
    struct pl_queue *behind = lb_another_queue(lb, "7", -1);
    struct lb_link *socket = lb_websocket(lb, quiet, -1);
    int64_t id = LB_PUBLISH(lb, .topic = "b");
    struct lb_link *poll;

    LB_EXPECT_SILENCE(socket);
    assert_int_equal(pl_queue_tell_position(quiet), id);
    poll = lb_poll_once(lb, behind, -1);
    LB_EXPECT_NO_EVENTS(poll);
    assert_int_equal(poll->position, id);
    id = LB_PUBLISH(lb, .channels = "community:9");
    poll = lb_poll_once(lb, behind, -1);
    assert_int_equal(poll->position, id);
}

static void a_push_after_the_position_was_told_is_not_lost(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id;

    (void)LB_PUBLISH(lb, .channels = "community:2");
    (void)pl_queue_tell_position(q);
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(l, id);
}

/* ---- resuming ---- */

static void a_lost_answer_is_sent_again_until_it_is_acknowledged(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    struct lb_link *l = lb_poll(lb, q, start);
    int64_t first = LB_PUBLISH(lb);
    int64_t second;

    LB_EXPECT_EVENTS(l, first);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), first);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, -1), first);
    second = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(lb_poll(lb, q, first), second);
    LB_EXPECT_EVENTS(lb_poll(lb, q, -1), second);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, second));
}

static void a_resume_may_go_back_before_the_ack(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t a = LB_PUBLISH(lb);
    int64_t b = LB_PUBLISH(lb);

    pl_queue_ack(q, b);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, a - 1), a, b);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, a), b);
    LB_EXPECT_NO_EVENTS(lb_websocket(lb, q, b));
    LB_EXPECT_NO_EVENTS(lb_websocket(lb, q, -1));
    assert_int_equal(pl_queue_acked(q), b);
}

static void a_position_from_before_the_registration_is_served(void **state)
{
    struct loopback *lb = *state;
    int64_t start = LB_PUBLISH(lb, .channels = "community:9");
    int64_t a = LB_PUBLISH(lb);
    int64_t b = LB_PUBLISH(lb);
    struct pl_queue *q = lb_queue_at(lb, "7", "community:1", start);

    LB_EXPECT_EVENTS(lb_poll_once(lb, q, start), a, b);
    LB_EXPECT_EVENTS(lb_poll_once(lb, q, a), b);
}

static void a_position_below_the_epoch_is_told(void **state)
{
    struct loopback *lb = *state;
    int64_t epoch = lb_stats(lb).applied;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t id = LB_PUBLISH(lb);
    struct lb_link *l = lb_poll(lb, q, epoch - 1);

    LB_EXPECT_CATCHUP(l, "epoch", NULL);
    assert_int_equal(l->position, id);
    assert_true(l->spent);
    LB_EXPECT_CATCHUP(lb_poll(lb, q, epoch - 1), "epoch", NULL); /* the answer was lost */
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, id));
    LB_EXPECT_EVENTS(lb_poll_once(lb, q, epoch), id);
}

static void a_position_above_everything_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t id = LB_PUBLISH(lb);
    struct lb_link *l = lb_websocket(lb, q, id + 1);

    LB_EXPECT_CATCHUP(l, "ahead", NULL);
    assert_int_equal(l->position, id);
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_CATCHUP(lb_poll(lb, q, PL_INT_MAX), "ahead", NULL);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, id));
}

static void a_queue_made_anew_is_told_first(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t id = LB_PUBLISH(lb);
    struct lb_link *l;

    pl_queue_require_catchup(q);
    l = lb_poll(lb, q, -1);
    LB_EXPECT_CATCHUP(l, "expired", NULL);
    assert_int_equal(l->position, start);
    l = lb_websocket(lb, q, -1); /* it has no position: it did not get the answer */
    LB_EXPECT_CATCHUP(l, "expired", NULL);
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, start), id);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, -1), id);
}

/* ---- what cannot be served ---- */

enum {
    RING = 4
};

static void short_rings(struct loopback *lb)
{
    lb->cfg->channel_ring_events = RING;
}

static int64_t publish_many(struct loopback *lb, int count, const char *channels, const char *topic)
{
    int64_t id = 0;

    for (int i = 0; i < count; i++) {
        id = LB_PUBLISH(lb, .channels = channels, .topic = topic);
    }
    return id;
}

static void what_was_trimmed_is_told_with_its_community(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2");
    struct lb_link *l;
    int64_t last;

    short_rings(lb);
    last = publish_many(lb, RING + 1, "community:1", NULL);
    l = lb_poll(lb, q, -1);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    assert_int_equal(l->position, last);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, last));
}

static void a_ring_that_holds_just_enough_is_served(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t ids[RING + 1];

    short_rings(lb);
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb);
    }
    lb_expect_ids(lb_poll_once(lb, q, ids[0]), ids + 1, RING, __FILE__, __LINE__);
}

static void a_quiet_channel_beside_a_busy_one_is_served(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t quiet = LB_PUBLISH(lb);

    short_rings(lb);
    (void)publish_many(lb, 10 * RING, "community:2", NULL);
    LB_EXPECT_EVENTS(lb_poll_once(lb, q, -1), quiet);
    LB_EXPECT_EVENTS(lb_poll_once(lb, lb_queue_at(lb, "8", "community:1", quiet - 1), -1), quiet);
}

static void a_narrowed_queue_never_falls_off_a_busy_ring(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *linked = lb_queue(lb, "7", "community:1=a");
    struct pl_queue *linkless = lb_another_queue(lb, "7", -1);
    struct pl_queue *slow = lb_another_queue(lb, "7", -1);
    struct lb_link *l = lb_websocket(lb, linked, -1);
    struct lb_link *s = lb_websocket(lb, slow, -1);
    int64_t mine;

    short_rings(lb);
    s->refuse = true;
    (void)publish_many(lb, 10 * RING, "community:1", "b");
    mine = LB_PUBLISH(lb, .topic = "a");
    (void)publish_many(lb, RING - 1, "community:1", "b");
    LB_EXPECT_EVENTS(l, mine);
    lb_take_again(s);
    LB_EXPECT_EVENTS(s, mine);
    LB_EXPECT_EVENTS(lb_poll(lb, linkless, -1), mine);
    (void)publish_many(lb, 10 * RING, "community:1", "b");
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, linkless, mine));
}

static void a_narrowed_queue_that_is_behind_is_told_only_of_a_loss(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a");
    struct lb_link *l = lb_websocket(lb, q, -1);

    short_rings(lb);
    l->refuse = true;
    (void)LB_PUBLISH(lb, .topic = "a");
    (void)publish_many(lb, RING, "community:1", "b");
    lb_take_again(l);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    LB_EXPECT_NO_EVENTS(l);
}

static void what_is_pending_elsewhere_is_named_or_sent_with_a_loss(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2 community:3 community:4=a");

    short_rings(lb);
    (void)LB_PUBLISH(lb, .channels = "community:2");
    (void)LB_PUBLISH(lb, .channels = "community:4", .topic = "b");
    (void)publish_many(lb, RING + 1, "community:1", NULL);
    /* Going on from now skips what community 2 still holds. */
    LB_EXPECT_CATCHUP(lb_poll(lb, q, -1), "trimmed", "1,2");
}

static void a_loss_outside_communities_names_none(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 room:x");

    short_rings(lb);
    (void)publish_many(lb, RING + 1, "community:1 room:x", NULL);
    LB_EXPECT_CATCHUP(lb_poll(lb, q, -1), "trimmed", NULL);
}

static void a_lost_catchup_is_told_again_until_it_is_acknowledged(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    struct lb_link *l;
    int64_t id;

    short_rings(lb);
    (void)publish_many(lb, RING + 1, "community:1", NULL);
    LB_EXPECT_CATCHUP(lb_poll(lb, q, start), "trimmed", "1");
    LB_EXPECT_CATCHUP(lb_poll(lb, q, start), "trimmed", "1");
    l = lb_poll(lb, q, -1);
    LB_EXPECT_CATCHUP(l, "trimmed", "1");
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(lb_poll(lb, q, l->position), id);
    LB_EXPECT_EVENTS(lb_poll(lb, q, -1), id);
}

static void a_loss_from_one_position_is_none_from_a_later_one(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *slow = lb_websocket(lb, q, -1);
    int64_t last;

    short_rings(lb);
    slow->refuse = true;
    last = publish_many(lb, RING + 1, "community:1", NULL);
    pl_queue_writable(q); /* finds the loss, but cannot say it */
    LB_EXPECT_SILENCE(lb_websocket(lb, q, last));
    LB_EXPECT_EVENTS(lb_websocket(lb, q, last - 1), last);
    slow = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_JSON);
    slow->refuse = true;
    pl_queue_attach(q, &slow->base, last + 1);
    pl_queue_writable(q);
    LB_EXPECT_SILENCE(lb_websocket(lb, q, last));
}

static void what_was_sent_but_not_acknowledged_may_be_lost_too(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t start = pl_queue_position(q);
    int64_t ids[3];

    short_rings(lb);
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = LB_PUBLISH(lb, .topic = "a");
    }
    lb_expect_ids(l, ids, COUNT(ids), __FILE__, __LINE__);
    (void)publish_many(lb, RING, "community:1", "b");
    LB_EXPECT_CATCHUP(lb_poll(lb, q, start), "trimmed", "1");
    LB_EXPECT_CATCHUP(lb_poll(lb, q, ids[0]), "trimmed", "1");
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, ids[2]));
    LB_EXPECT_CATCHUP(lb_poll(lb, q, ids[1]), "trimmed", "1"); /* below its own ack */
}

static void a_lost_catchup_names_the_same_communities_again(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2=a");
    int64_t start = pl_queue_position(q);

    short_rings(lb);
    (void)publish_many(lb, RING + 1, "community:1", NULL);
    (void)publish_many(lb, RING + 1, "community:2", "b");
    LB_EXPECT_CATCHUP(lb_poll(lb, q, start), "trimmed", "1");
    LB_EXPECT_CATCHUP(lb_poll(lb, q, start), "trimmed", "1");
}

static void what_a_grant_does_not_reach_is_no_loss(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t mine;

    short_rings(lb);
    (void)publish_many(lb, RING + 1, "community:2", NULL);
    (void)lb_update(lb, "7", "community:1 community:2");
    mine = publish_many(lb, 1, "community:2", NULL);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), mine);
    pl_queue_ack(q, mine);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), mine); /* nor from before its own ack */
}

static void a_grant_that_came_while_away_does_not_make_a_loss_of_what_is_not_due(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_position(q);
    int64_t mine;

    short_rings(lb);
    (void)LB_PUBLISH(lb, .channels = "community:2", .topic = "b");
    (void)lb_update(lb, "7", "community:1 community:2=a");
    (void)publish_many(lb, 3 * RING, "community:2", "b");
    mine = LB_PUBLISH(lb, .channels = "community:2", .topic = "a");
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), mine);
}

static void an_old_position_of_a_new_queue_is_told_what_its_rings_lack(void **state)
{
    struct loopback *lb = *state;
    int64_t start = LB_PUBLISH(lb, .channels = "community:2");
    int64_t held;

    short_rings(lb);
    held = publish_many(lb, 1, "community:2", NULL);
    (void)publish_many(lb, RING + 1, "community:1", NULL);
    LB_EXPECT_EVENTS(lb_poll(lb, lb_queue_at(lb, "7", "community:2", start), -1), held);
    LB_EXPECT_CATCHUP(lb_poll(lb, lb_queue_at(lb, "8", "community:1", start), -1), "trimmed", "1");
}

/* ---- narrowing ---- */

static void narrowing_keeps_what_is_pending_of_the_topic(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t a;

    l->refuse = true;
    a = LB_PUBLISH(lb, .topic = "a");
    (void)LB_PUBLISH(lb, .topic = "b");
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    lb_take_again(l);
    LB_EXPECT_EVENTS(l, a);
}

static void widening_replays_nothing_and_keeps_what_is_pending(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t a;
    int64_t b;

    l->refuse = true;
    a = LB_PUBLISH(lb, .topic = "a");
    (void)LB_PUBLISH(lb, .topic = "b");
    assert_int_equal(lb_subscribe(q, "community:1", NULL), PL_OK);
    b = LB_PUBLISH(lb, .topic = "b");
    lb_take_again(l);
    LB_EXPECT_EVENTS(l, a, b);
    a = LB_PUBLISH(lb, .topic = "a");
    LB_EXPECT_EVENTS(l, a);
}

static void from_a_set_to_all_and_back_loses_nothing_pending(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a,b");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t a;
    int64_t between;

    l->refuse = true;
    a = LB_PUBLISH(lb, .topic = "a");
    (void)LB_PUBLISH(lb, .topic = "c");
    assert_int_equal(lb_subscribe(q, "community:1", NULL), PL_OK);
    between = LB_PUBLISH(lb, .topic = "a");
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    lb_take_again(l);
    LB_EXPECT_EVENTS(l, a, between);
    (void)LB_PUBLISH(lb, .topic = "b");
    LB_EXPECT_SILENCE(l);
}

static void from_all_to_a_set_and_back_replays_nothing(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t start = pl_queue_position(q);
    int64_t all;

    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    (void)LB_PUBLISH(lb, .topic = "b");
    assert_int_equal(lb_subscribe(q, "community:1", NULL), PL_OK);
    LB_EXPECT_SILENCE(l);
    all = LB_PUBLISH(lb, .topic = "b");
    LB_EXPECT_EVENTS(l, all);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, start), all);
}

static void subscribing_to_a_topic_replays_nothing(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a");
    int64_t start = pl_queue_position(q);
    int64_t a;

    (void)LB_PUBLISH(lb, .topic = "b");
    assert_int_equal(lb_subscribe(q, "community:1", "b"), PL_OK);
    a = LB_PUBLISH(lb, .topic = "b");
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), a);
}

static void unsubscribing_the_last_topic_leaves_the_empty_set(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id;

    assert_int_equal(lb_unsubscribe(q, "community:1", "a"), PL_OK);
    (void)LB_PUBLISH(lb, .topic = "a");
    (void)LB_PUBLISH(lb);
    id = LB_PUBLISH(lb, .topic = "a", .subscribers = "7");
    LB_EXPECT_EVENTS(l, id);
}

static void unsubscribing_a_channel_narrows_it_to_nothing(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id;

    assert_int_equal(lb_unsubscribe(q, "community:1", NULL), PL_OK);
    (void)LB_PUBLISH(lb);
    id = LB_PUBLISH(lb, .subscribers = "7");
    LB_EXPECT_EVENTS(l, id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(an_event_is_for_those_who_are_granted_its_channel),
        TEST(one_granted_channel_of_several_is_enough),
        TEST(a_grant_does_not_reach_what_came_before_it),
        TEST(a_taken_grant_denies_also_what_came_before),
        TEST(a_grant_given_again_begins_anew),
        TEST(subscriber_ids_are_the_only_ones_who_get_it),
        TEST(no_subscribers_are_nobody_and_absent_ones_everybody),
        TEST(subscribers_are_found_from_both_sides_of_the_walk),
        TEST(subscribers_get_it_whatever_they_are_narrowed_to),
        TEST(a_narrowed_queue_gets_its_topics),
        TEST(narrowing_in_one_channel_does_not_hide_it_in_another),
        TEST(the_excluded_user_does_not_get_it),
        TEST(the_excluded_queue_does_not_get_it_and_its_siblings_do),
        TEST(an_event_in_two_channels_comes_once),
        TEST(a_revocation_between_publish_and_poll_wins),
        TEST(links_that_are_up_to_date_share_one_frame),
        cmocka_unit_test_setup_teardown(a_publish_tells_how_many_links_took_it, lb_start_script,
                                        lb_stop),
        TEST(a_slow_link_costs_a_cursor_and_gets_everything_later),
        TEST(a_link_that_fills_up_again_and_again_misses_nothing),
        TEST(an_abandoned_poll_leaves_the_event_for_the_next),
        TEST(a_batch_holds_at_most_batch_events),
        TEST(a_batch_holds_at_most_batch_bytes_but_always_one_event),
        TEST(a_batch_merges_channels_by_id),
        TEST(what_concerns_nobody_moves_the_cursor_too),
        TEST(a_push_after_the_position_was_told_is_not_lost),
        TEST(a_lost_answer_is_sent_again_until_it_is_acknowledged),
        TEST(a_resume_may_go_back_before_the_ack),
        TEST(a_position_from_before_the_registration_is_served),
        TEST(a_position_below_the_epoch_is_told),
        TEST(a_position_above_everything_is_told),
        TEST(a_queue_made_anew_is_told_first),
        TEST(what_was_trimmed_is_told_with_its_community),
        TEST(a_ring_that_holds_just_enough_is_served),
        TEST(a_quiet_channel_beside_a_busy_one_is_served),
        TEST(a_narrowed_queue_never_falls_off_a_busy_ring),
        TEST(a_narrowed_queue_that_is_behind_is_told_only_of_a_loss),
        TEST(what_is_pending_elsewhere_is_named_or_sent_with_a_loss),
        TEST(a_loss_outside_communities_names_none),
        TEST(a_lost_catchup_is_told_again_until_it_is_acknowledged),
        TEST(a_loss_from_one_position_is_none_from_a_later_one),
        TEST(what_was_sent_but_not_acknowledged_may_be_lost_too),
        TEST(a_lost_catchup_names_the_same_communities_again),
        TEST(what_a_grant_does_not_reach_is_no_loss),
        TEST(a_grant_that_came_while_away_does_not_make_a_loss_of_what_is_not_due),
        TEST(an_old_position_of_a_new_queue_is_told_what_its_rings_lack),
        TEST(narrowing_keeps_what_is_pending_of_the_topic),
        TEST(widening_replays_nothing_and_keeps_what_is_pending),
        TEST(from_a_set_to_all_and_back_loses_nothing_pending),
        TEST(from_all_to_a_set_and_back_replays_nothing),
        TEST(subscribing_to_a_topic_replays_nothing),
        TEST(unsubscribing_the_last_topic_leaves_the_empty_set),
        TEST(unsubscribing_a_channel_narrows_it_to_nothing),
    };

    return cmocka_run_group_tests_name("delivery", tests, NULL, NULL);
}
