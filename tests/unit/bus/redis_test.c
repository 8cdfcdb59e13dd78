/* Nodes of one real Redis: what reaches them, and what faults do to it. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/bus/redis_feed_priv.h"
#include "server/bus/redis_library.h"
#include "server/core/channel_priv.h"
#include "tests/unit/bus/redis_cluster.h"

static struct rc_outcomes sent;

static int plain(void **state)
{
    (void)state;
    memset(&sent, 0, sizeof(sent));
    rc_start(NULL);
    return 0;
}

static int with_aof(void **state)
{
    static const char *const args[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};

    (void)state;
    memset(&sent, 0, sizeof(sent));
    rc_start(args);
    return 0;
}

static void publish_many(struct rc_node *n, size_t count, const char *channels)
{
    for (size_t i = 0; i < count; i++) {
        rc_publish(n, &(struct lb_event){.channels = channels}, &sent);
        if (i % 50 == 49) {
            rc_turn(1);
        }
    }
}

static struct lb_link *listener(struct rc_node *n, const char *user, const char *channels)
{
    struct lb_link *l = lb_websocket(n->lb, lb_queue(n->lb, user, channels), -1);

    l->skips_status = true; /* which depends on how long Redis takes to come back */
    n->lb->kind->turn(n->bus);
    return l;
}

/* Exactly these, and without the core having seen a gap on the way and repaired it. */
static void expect_smooth(struct lb_link *l, uint64_t opens_before)
{
    rc_expect_all(l, &sent);
    assert_int_equal(pl_metric_values[PL_S_BUS_READS_OPEN], opens_before);
}

static uint64_t opens(void)
{
    return pl_metric_values[PL_S_BUS_READS_OPEN];
}

/* Pub/Sub is refused, commands are not. */
static void deafen(bool deaf)
{
    rs_do(&rc.server, "ACL SETUSER default %s", deaf ? "-subscribe" : "+subscribe");
    if (deaf) {
        rs_do(&rc.server, "CLIENT KILL TYPE pubsub");
    }
}

static void expect_next(struct lb_link *l, int64_t id)
{
    LB_EXPECT_EVENTS(l, id);
}

/* ---- the stream ---- */

static void what_one_node_publishes_another_delivers(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");
    int64_t id;

    (void)state;
    id = LB_PUBLISH(a->lb);
    expect_next(l, id);
    id = LB_PUBLISH(b->lb);
    expect_next(l, id);
    (void)LB_PUBLISH(a->lb, .channels = "community:2");
    LB_EXPECT_SILENCE(l);
}

static void an_event_in_two_channels_is_delivered_once(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1 community:2 community:3");
    int64_t id = LB_PUBLISH(a->lb, .channels = "community:1 community:3");

    (void)state;
    expect_next(l, id);
    id = LB_PUBLISH(a->lb, .channels = "community:2 community:3");
    expect_next(l, id);
    LB_EXPECT_SILENCE(l);
}

static void opening_a_channel_warms_its_ring_from_the_log(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b;
    struct lb_link *l;
    struct pl_queue *q;
    int64_t before = LB_PUBLISH(a->lb);

    (void)state;
    publish_many(a, 30, "community:1");
    RC_AWAIT(rc_all_answered, &sent);
    b = rc_live_node();
    q = lb_queue_at(b->lb, "7", "community:1", before);
    l = lb_websocket(b->lb, q, before);
    rc_expect_all(l, &sent);
}

static void what_lies_below_the_ring_is_read_from_the_log(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b;
    struct lb_link *l;
    struct pl_queue *q;
    int64_t before = LB_PUBLISH(a->lb);

    (void)state;
    publish_many(a, 300, "community:1");
    RC_AWAIT(rc_all_answered, &sent);
    b = rc_node("");
    b->lb->cfg->channel_ring_events = 10;
    rc_connect(b);
    RC_AWAIT(rc_is_live, b);
    q = lb_queue_at(b->lb, "7", "community:1", before);
    l = lb_websocket(b->lb, q, before);
    rc_expect_all(l, &sent);
}

static void a_channel_opened_while_events_stream_in_misses_none(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l;
    int64_t before = LB_PUBLISH(a->lb);

    (void)state;
    (void)lb_register(b->lb, "7", "community:1");
    publish_many(a, 500, "community:1");
    l = lb_websocket(b->lb, lb_another_queue(b->lb, "7", before), before);
    publish_many(a, 500, "community:1");
    rc_expect_all(l, &sent);
}

static bool is_answered(void *channel)
{
    return ((const struct pl_redis_channel *)channel)->answered;
}

static void a_channel_is_read_only_when_its_subscription_is_confirmed(void **state)
{
    struct rc_node *a = rc_live_node();
    struct pl_redis_feed *f = a->bus->feed;
    struct pl_redis_channel *ch;

    (void)state;
    pl_redis__open(a->bus, PL_LIT("room:1"), 0);
    ch = pl_redis__feed_find(f, PL_LIT("room:1"));
    assert_int_equal(ch->read, 0);
    while (ch->read == 0 && !ch->answered) {
        assert_true(f->confirmed < ch->subscribed);
        rc_turn(1);
    }
    assert_true(f->confirmed >= ch->subscribed);
    RC_AWAIT(is_answered, ch);
    pl_redis__close(a->bus, PL_LIT("room:1"));
}

static void a_channel_whose_subscription_is_lost_is_read_at_once(void **state)
{
    struct rc_node *a = rc_live_node();
    struct pl_redis_channel *ch;

    (void)state;
    pl_redis__open(a->bus, PL_LIT("room:1"), 0);
    ch = pl_redis__feed_find(a->bus->feed, PL_LIT("room:1"));
    deafen(true);
    RC_AWAIT(is_answered, ch);
    RC_AWAIT(rc_is_logs, a);
    pl_redis__open(a->bus, PL_LIT("room:2"), 0);
    RC_AWAIT(is_answered, pl_redis__feed_find(a->bus->feed, PL_LIT("room:2")));
    deafen(false);
    RC_AWAIT(rc_is_live, a);
}

/* SUBSCRIBE, reading and publishing race on three connections; with one event per channel no later one shows a gap. */
static void channels_opened_while_each_gets_one_event_miss_none(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    char name[32];

    (void)state;
    for (int round = 0; round < 12; round++) {
        struct pl_buf channels = {0};
        int64_t before = LB_PUBLISH(a->lb);
        struct lb_link *l = NULL;

        for (int i = 0; i < 100; i++) {
            pl_buf_printf(&channels, "%scommunity:%d", i > 0 ? " " : "", 1000 * round + i);
        }
        (void)lb_register(b->lb, "7", pl_buf_cstr(&channels));
        pl_buf_done(&channels);
        memset(&sent, 0, sizeof(sent));
        for (int i = 0; i < 100; i++) {
            if (i == 8 * round) {
                l = lb_websocket(b->lb, lb_another_queue(b->lb, "7", before), before);
            }
            (void)snprintf(name, sizeof(name), "community:%d", 1000 * round + i);
            publish_many(a, 1, name);
        }
        rc_expect_all(l, &sent);
    }
}

/* The node needs the channel no more, and does again, while it is published in: every link goes on where the one before
 * it had got to. */
static void closed_and_opened_again_at_once_a_channel_is_whole(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *links[16];
    size_t seen = 0;
    int64_t position = LB_PUBLISH(a->lb);

    (void)state;
    (void)lb_register(b->lb, "7", "community:1");
    for (int i = 0; i < 16; i++) {
        struct pl_queue *q = lb_another_queue(b->lb, "7", position);

        links[i] = lb_websocket(b->lb, q, position);
        publish_many(a, 20, "community:1");
        rc_turn(i % 4 * 2);
        if (i < 15) {
            position = links[i]->position > position ? links[i]->position : position;
            pl_queue_end(q, PL_OK);
            pl_channel__close(pl_channel__find(b->lb->hub, PL_LIT("community:1")));
        }
    }
    RC_AWAIT(rc_all_answered, &sent);
    rc_turn(200);
    for (int i = 0; i < 16; i++) {
        seen += rc_check_some(links[i], &sent, seen);
    }
    assert_int_equal(seen, sent.sent);
}

/* ---- Pub/Sub lost ---- */

static void killed_pubsub_connections_lose_nothing_and_repeat_nothing(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1 community:2");
    uint64_t before = opens();

    (void)state;
    for (int i = 0; i < 20; i++) {
        publish_many(a, 50, i % 3 == 0 ? "community:1 community:2" : "community:1");
        if (i % 4 == 1) {
            rs_do(&rc.server, "CLIENT KILL TYPE pubsub");
        }
        publish_many(a, 50, i % 3 == 1 ? "community:1 community:2" : "community:2");
    }
    RC_AWAIT(rc_all_answered, &sent);
    assert_int_equal(sent.failed, 0);
    expect_smooth(l, before);
    RC_AWAIT(rc_is_live, b);
}

static void without_pubsub_events_come_by_reading_logs(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1 community:2");
    uint64_t before = opens();

    (void)state;
    deafen(true);
    RC_AWAIT(rc_is_logs, b);
    for (int i = 0; i < 5; i++) {
        publish_many(a, 20, "community:1 community:2");
        publish_many(a, 20, "community:2");
        rc_turn(100);
    }
    expect_smooth(l, before);
    assert_true(rc_is_logs(b));
    deafen(false);
    RC_AWAIT(rc_is_live, b);
    publish_many(a, 20, "community:1");
    expect_smooth(l, before);
}

/* "community:0 community:1 …" */
static struct lb_link *listener_of_many(struct rc_node *n, int count)
{
    struct pl_buf channels = {0};
    struct lb_link *l;

    for (int i = 0; i < count; i++) {
        pl_buf_printf(&channels, "%scommunity:%d", i > 0 ? " " : "", i);
    }
    l = listener(n, "7", pl_buf_cstr(&channels));
    pl_buf_done(&channels);
    return l;
}

/* Rounds that take many questions, so that much is announced while they last. */
static void what_is_announced_during_the_last_round_follows_it(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener_of_many(b, 200);
    struct pl_redis_round *round = &b->bus->feed->round;
    uint64_t before = opens();

    (void)state;
    round->most_entries = 100;
    for (int i = 0; i < 8; i++) {
        round->most_keys = 1;
        rs_do(&rc.server, "CLIENT KILL TYPE pubsub");
        for (int k = 0; k < 60; k++) {
            publish_many(a, 1, "community:0 community:199");
            rs_turn(&rc.loop, 2);
        }
    }
    expect_smooth(l, before);
}

static void many_channels_are_read_in_chunks(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l;
    char name[32];
    uint64_t before;

    (void)state;
    l = listener_of_many(b, 450);
    before = opens();
    deafen(true);
    RC_AWAIT(rc_is_logs, b);
    for (int i = 0; i < 900; i++) {
        (void)snprintf(name, sizeof(name), "community:%d", (i * 7) % 450);
        publish_many(a, 1, name);
        if (i % 100 == 0) {
            rc_turn(5);
        }
    }
    expect_smooth(l, before);
    assert_true(rc_is_logs(b));
}

/* ---- Redis lost ---- */

static void a_stopped_redis_is_a_pause_not_a_hole(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");
    uint64_t before = opens();

    (void)state;
    publish_many(a, 50, "community:1");
    rs_pause(&rc.server);
    publish_many(a, 50, "community:1");
    RC_AWAIT(rc_is_down, b);
    assert_true(rc_has_reason(b, "bus_unavailable"));
    rs_resume(&rc.server);
    RC_AWAIT(rc_is_live, a);
    RC_AWAIT(rc_is_live, b);
    RC_AWAIT(rc_all_answered, &sent);
    publish_many(a, 50, "community:1");
    RC_AWAIT(rc_all_answered, &sent);
    assert_int_equal(sent.failed, 0);
    expect_smooth(l, before);
}

static void a_killed_redis_comes_back_from_its_aof_with_everything(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");
    int64_t epoch = b->bus->epoch_start;
    uint64_t before = opens();

    (void)state;
    publish_many(a, 100, "community:1");
    rs_kill(&rc.server);
    RC_AWAIT(rc_is_down, b);
    rs_restart(&rc.server);
    RC_AWAIT(rc_is_live, a);
    RC_AWAIT(rc_is_live, b);
    publish_many(a, 50, "community:1");
    RC_AWAIT(rc_all_answered, &sent);
    assert_int_equal(sent.failed, 0);
    expect_smooth(l, before);
    assert_int_equal(b->bus->epoch_start, epoch);
}

static void cut_off(bool off)
{
    rs_do(&rc.server, "ACL SETUSER b %s", off ? "off" : "on");
    if (off) {
        rs_do(&rc.server, "CLIENT KILL USER b");
    }
}

static struct rc_node *node_that_can_be_cut_off(void)
{
    struct rc_node *b;

    rs_do(&rc.server, "ACL SETUSER b on >secret ~* &* +@all");
    b = rc_node("b:secret@");
    rc_connect(b);
    RC_AWAIT(rc_is_live, b);
    return b;
}

static size_t most_kept;

static bool is_live_and_never_kept_more(void *node)
{
    const struct rc_node *n = node;

    if (n->bus->feed->round.bytes > most_kept) {
        most_kept = n->bus->feed->round.bytes;
    }
    return rc_is_live(node);
}

static void much_is_read_in_bounded_pieces(void **state)
{
    static const char *const names[] = {"community:1", "community:2", "community:3 community:1"};
    struct rc_node *a = rc_live_node();
    struct rc_node *b = node_that_can_be_cut_off();
    struct lb_link *l = listener(b, "7", "community:1 community:2 community:3");
    struct pl_redis_round *round = &b->bus->feed->round;
    uint64_t before = opens();

    (void)state;
    cut_off(true);
    RC_AWAIT(rc_is_down, b);
    for (int i = 0; i < 90; i++) {
        rc_publish(a, &(struct lb_event){.channels = names[i % 3], .pad = 50000}, &sent);
        rc_turn(1);
    }
    RC_AWAIT(rc_all_answered, &sent);
    round->reply_bytes = (size_t)256 << 10;
    round->round_bytes = (size_t)1 << 20;
    round->most_entries = 100; /* as after a long quiet time: the first reply is far too big */
    cut_off(false);
    most_kept = 0;
    RC_AWAIT(is_live_and_never_kept_more, b);
    expect_smooth(l, before);
    assert_true(most_kept <= round->round_bytes);
    assert_true(round->most_entries < 100);
}

static void a_revocation_missed_while_cut_off_is_applied_before_the_events_after_it(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = node_that_can_be_cut_off();
    struct lb_link *l = listener(b, "7", "community:1 community:2");
    int64_t allowed, also_allowed;

    (void)state;
    cut_off(true);
    RC_AWAIT(rc_is_down, b);
    allowed = LB_PUBLISH(a->lb, .channels = "community:2");
    (void)lb_update(a->lb, "7", "community:2");
    (void)LB_PUBLISH(a->lb, .channels = "community:1");
    also_allowed = LB_PUBLISH(a->lb, .channels = "community:2");
    cut_off(false);
    RC_AWAIT(rc_is_live, b);
    b->lb->kind->turn(b->bus);
    (void)LB_TAKE(l); /* the new membership */
    LB_EXPECT_EVENTS(l, allowed, also_allowed);
}

static void changes_trimmed_while_cut_off_are_asked_for_user_by_user(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = node_that_can_be_cut_off();
    struct lb_link *l = listener(b, "7", "community:1 community:2");
    int64_t allowed;

    (void)state;
    cut_off(true);
    RC_AWAIT(rc_is_down, b);
    (void)lb_update(a->lb, "7", "community:2");
    (void)lb_update(a->lb, "8", "community:2");
    rs_do(&rc.server, "XTRIM {parley}:control MAXLEN 1");
    (void)LB_PUBLISH(a->lb, .channels = "community:1");
    allowed = LB_PUBLISH(a->lb, .channels = "community:2");
    cut_off(false);
    RC_AWAIT(rc_is_live, b);
    rc_turn(100);
    b->lb->kind->turn(b->bus);
    (void)LB_TAKE(l); /* the new membership */
    expect_next(l, allowed);
}

/* ---- history lost ---- */

static bool is_in_new_epoch(void *node)
{
    const struct rc_node *n = node;

    return n->bus->epoch_start > sent.ids[0] && n->bus->feed->mode == PL_REDIS_LIVE &&
           !n->bus->feed->paused;
}

static void expect_epoch_and_on(struct rc_node *a, struct rc_node *b, struct lb_link *l)
{
    int64_t id;

    RC_AWAIT(is_in_new_epoch, a);
    RC_AWAIT(is_in_new_epoch, b);
    assert_int_equal(a->bus->epoch_start, b->bus->epoch_start);
    assert_int_equal(lb_stats(a->lb).applied >= a->bus->epoch_start, 1);
    rc_turn(100);
    b->lb->kind->turn(b->bus);
    LB_EXPECT_CATCHUP(l, "epoch", NULL);
    id = LB_PUBLISH(a->lb);
    assert_true(id > b->bus->epoch_start);
    expect_next(l, id);
    LB_EXPECT_SILENCE(l);
}

static void a_flushed_redis_is_a_new_epoch(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");

    (void)state;
    sent.ids[0] = LB_PUBLISH(a->lb);
    expect_next(l, sent.ids[0]);
    rs_do(&rc.server, "FLUSHALL");
    expect_epoch_and_on(a, b, l);
}

static void an_older_history_is_a_new_epoch(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");

    (void)state;
    expect_next(l, LB_PUBLISH(a->lb));
    rs_do(&rc.server, "SAVE");
    sent.ids[0] = LB_PUBLISH(a->lb);
    expect_next(l, sent.ids[0]);
    rs_restart(&rc.server);
    expect_epoch_and_on(a, b, l);
}

/* The sequence has gone on above what was lost, so only the tag of the entry tells. */
static void an_older_history_that_has_gone_on_is_a_new_epoch(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");

    (void)state;
    expect_next(l, LB_PUBLISH(a->lb));
    rs_do(&rc.server, "SAVE");
    sent.ids[0] = LB_PUBLISH(a->lb);
    expect_next(l, sent.ids[0]);
    rs_restart(&rc.server);
    rs_do(&rc.server, "SET {parley}:seq %lld", (long long)(sent.ids[0] + 5000000));
    expect_epoch_and_on(a, b, l);
}

static bool has_changed_epoch(void *node)
{
    return ((struct rc_node *)node)->bus->epoch == 2 && rc_is_live(node);
}

/* With no event known, the ids that canaries had tell. */
static void a_sequence_that_went_back_is_a_new_epoch(void **state)
{
    struct rc_node *a = rc_live_node();
    int64_t newest;

    (void)state;
    rs_do(&rc.server, "SAVE");
    rc_turn(300);
    newest = a->bus->newest;
    rs_restart(&rc.server);
    RC_AWAIT(has_changed_epoch, a);
    assert_true(a->bus->epoch_start > newest);
}

static void a_reconnect_without_loss_is_no_new_epoch(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");
    uint64_t before = opens();

    (void)state;
    for (int i = 0; i < 6; i++) {
        publish_many(a, 20, "community:1");
        rs_do(&rc.server, "CLIENT KILL TYPE normal SKIPME yes");
        rc_turn(20);
    }
    RC_AWAIT(rc_is_live, a);
    RC_AWAIT(rc_is_live, b);
    RC_AWAIT(rc_all_answered, &sent);
    expect_smooth(l, before);
    assert_int_equal(a->bus->epoch, 1);
    assert_int_equal(b->bus->epoch, 1);
}

/* ---- readiness ---- */

static void a_node_is_ready_after_its_first_canary(void **state)
{
    struct rc_node *a = rc_node("");

    (void)state;
    rc_connect(a);
    assert_true(rc_has_reason(a, "bus_unavailable"));
    RC_AWAIT(rc_is_ready, a);
    rc_turn(700);
    assert_true(rc_is_ready(a));
}

static void no_redis_means_not_ready_until_it_comes(void **state)
{
    struct rc_node *a = rc_node("");

    (void)state;
    rs_kill(&rc.server);
    rc_connect(a);
    rc_turn(300);
    assert_true(rc_has_reason(a, "bus_unavailable"));
    rs_restart(&rc.server);
    RC_AWAIT(rc_is_ready, a);
}

static void missed_canaries_make_a_node_not_ready_and_two_good_ones_ready(void **state)
{
    struct rc_node *a = rc_live_node();

    (void)state;
    RC_AWAIT(rc_is_ready, a);
    deafen(true);
    RC_AWAIT(rc_is_not_ready, a);
    assert_true(rc_has_reason(a, "bus_pubsub") || rc_has_reason(a, "bus_canary"));
    deafen(false);
    RC_AWAIT(rc_is_ready, a);
    assert_true(a->bus->canary.good >= 2);
    RC_AWAIT(rc_is_live, a);
}

/* The library, changed at one place. */
static void load_changed(const char *from, const char *to)
{
    struct pl_buf lua = {0};
    const char *at = strstr(pl_redis_library, from);

    assert_non_null(at);
    pl_buf_append(&lua, pl_redis_library, (size_t)(at - pl_redis_library));
    pl_buf_append_str(&lua, to);
    pl_buf_append_str(&lua, at + strlen(from));
    rs_do(&rc.server, "FUNCTION LOAD REPLACE %b", lua.data, lua.len);
    pl_buf_done(&lua);
}

static bool has_begun_pubsub_anew(void *node)
{
    const struct rc_node *n = node;

    return pl_metric_values[PL_S_BUS_CONNECTS_PUBSUB] >= 2 && rc_is_logs((void *)(uintptr_t)n);
}

static void a_pubsub_that_swallows_canaries_is_begun_anew(void **state)
{
    struct rc_node *a = rc_live_node();

    (void)state;
    RC_AWAIT(rc_is_ready, a);
    pl_metric_values[PL_S_BUS_CONNECTS_PUBSUB] = 1;
    load_changed("'C '", "'c '");
    RC_AWAIT(rc_is_not_ready, a);
    assert_true(rc_has_reason(a, "bus_canary") || rc_has_reason(a, "bus_pubsub"));
    RC_AWAIT(has_begun_pubsub_anew, a);
    rs_do(&rc.server, "FUNCTION LOAD REPLACE %b", pl_redis_library, pl_redis_library_len);
    RC_AWAIT(rc_is_ready, a);
}

static void an_evicting_redis_makes_no_node_ready(void **state)
{
    struct rc_node *a = rc_node("");

    (void)state;
    rs_do(&rc.server, "CONFIG SET maxmemory-policy allkeys-lru");
    rc_connect(a);
    RC_AWAIT(rc_is_live, a);
    rc_turn(100);
    assert_false(rc_is_ready(a));
    assert_true(rc_has_reason(a, "bus_eviction_policy"));
    rs_do(&rc.server, "CONFIG SET maxmemory-policy noeviction");
    rc_turn(300);
    assert_false(rc_is_ready(a)); /* looked at once a minute */
    a->bus->setup.policy_ms -= 60000;
    RC_AWAIT(rc_is_ready, a);
}

static void a_forbidden_config_is_not_held_against_redis(void **state)
{
    struct rc_node *b;

    (void)state;
    rs_do(&rc.server, "CONFIG SET maxmemory-policy allkeys-lru");
    rs_do(&rc.server, "ACL SETUSER b on >secret ~* &* +@all -config -info -role");
    b = rc_node("b:secret@");
    rc_connect(b);
    RC_AWAIT(rc_is_ready, b);
}

static bool has_loaded_ours(void *unused)
{
    redisReply *r = rs_command(&rc.server, "FCALL parley_version 0");
    bool ours = pl_redis__number(r) >= PL_REDIS_LIBRARY_VERSION;

    (void)unused;
    freeReplyObject(r);
    return ours;
}

static void older_or_missing_functions_are_replaced_and_newer_ones_left(void **state)
{
    char ours[32];
    struct rc_node *a = rc_live_node();

    (void)state;
    (void)snprintf(ours, sizeof(ours), "VERSION = %d", PL_REDIS_LIBRARY_VERSION);
    load_changed(ours, "VERSION = 0");
    assert_false(has_loaded_ours(NULL));
    RC_AWAIT(has_loaded_ours, NULL);
    rs_do(&rc.server, "FUNCTION FLUSH");
    assert_false(has_loaded_ours(NULL));
    RC_AWAIT(has_loaded_ours, NULL);
    load_changed(ours, "VERSION = 99");
    rc_turn(700);
    assert_true(rc_is_live(a));
    {
        redisReply *r = rs_command(&rc.server, "FCALL parley_version 0");

        assert_int_equal(pl_redis__number(r), 99);
        freeReplyObject(r);
    }
}

static void a_replica_is_refused_with_a_reason(void **state)
{
    struct rc_node *a = rc_node("");
    struct pl_redis_bus_status s;

    (void)state;
    rs_do(&rc.server, "REPLICAOF 127.0.0.1 1");
    rc_connect(a);
    rc_turn(300);
    assert_true(rc_has_reason(a, "bus_unavailable"));
    pl_redis_bus_status(a->bus, &s);
    assert_non_null(strstr(s.error, "bus.url must name the primary"));
    rs_do(&rc.server, "REPLICAOF NO ONE");
    RC_AWAIT(rc_is_ready, a);
}

static void a_primary_that_becomes_a_replica_is_left(void **state)
{
    struct rc_node *a = rc_live_node();

    (void)state;
    rs_do(&rc.server, "REPLICAOF 127.0.0.1 1");
    RC_AWAIT(rc_is_down, a);
    rs_do(&rc.server, "REPLICAOF NO ONE");
    RC_AWAIT(rc_is_live, a);
    RC_AWAIT(rc_is_ready, a);
}

static void a_process_that_was_stopped_begins_anew(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");
    uint64_t connects;
    uint64_t before = opens();

    (void)state;
    RC_AWAIT(rc_is_ready, b);
    connects = pl_metric_values[PL_S_BUS_CONNECTS_COMMANDS];
    b->bus->canary.due_ms -= 11000;
    publish_many(a, 20, "community:1");
    RC_AWAIT(rc_is_down, b);
    RC_AWAIT(rc_is_live, b);
    assert_int_equal(pl_metric_values[PL_S_BUS_CONNECTS_COMMANDS], connects + 1);
    publish_many(a, 20, "community:1");
    expect_smooth(l, before);
}

/* ---- announcements by hand ---- */

/* As if Pub/Sub had said it. */
static void say(struct rc_node *n, const char *channel, const struct pl_buf *message)
{
    redisReply parts[3] = {
        {.type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t) "message", .len = 7},
        {.type = REDIS_REPLY_STRING,
         .str = (char *)(uintptr_t)channel,
         .len = (int)strlen(channel)},
        {.type = REDIS_REPLY_STRING, .str = (char *)message->data, .len = (int)message->len},
    };
    redisReply *elements[3] = {&parts[0], &parts[1], &parts[2]};
    redisReply r = {.type = REDIS_REPLY_ARRAY, .elements = 3, .element = elements};

    pl_redis__feed_push(n->bus->feed, &r);
}

static void say_event(struct rc_node *n, int64_t id, int64_t prev)
{
    struct pl_arena a = {0};
    struct pl_buf message = {0};
    struct pl_bus_event e = lb_bus_event(&(struct lb_event){0}, &a);

    pl_buf_printf(&message, "E %lld 00000000 1 %lld 11 community:1 ", (long long)id,
                  (long long)prev);
    pl_redis_encode_event(&e, &message);
    say(n, "{parley}:log:community:1", &message);
    pl_buf_done(&message);
    pl_arena_done(&a);
}

static void what_comes_while_logs_are_read_waits_and_follows(void **state)
{
    struct rc_node *a = rc_live_node();
    struct lb_link *l = listener(a, "7", "community:1");
    int64_t first = LB_PUBLISH(a->lb);
    int64_t second = a->bus->feed->at + 1024 * 1024;
    struct pl_buf epoch = {0};

    (void)state;
    pl_buf_append_str(&epoch, "P 1 1");
    say(a, "{parley}:control", &epoch);
    pl_buf_done(&epoch);
    assert_true(rc_is_logs(a));
    say_event(a, second, first);
    say_event(a, second, first);
    LB_EXPECT_EVENTS(l, first);
    RC_AWAIT(rc_is_live, a);
    LB_EXPECT_EVENTS(l, second);
    say_event(a, second, first);
    LB_EXPECT_SILENCE(l);
}

static void a_change_that_follows_a_missing_one_waits_for_the_logs(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    uint64_t rounds;

    (void)state;
    a->lb->cfg->bus_canary_interval = 60000; /* would say that there was nothing else */
    rc_turn(150);
    a->bus->feed->at = lb_update(a->lb, "7", "community:2") - 1; /* as if it had not been told */
    rounds = pl_metric_values[PL_S_BUS_READS_ROUND];
    (void)lb_update(b->lb, "7", "community:3");
    assert_int_equal(pl_metric_values[PL_S_BUS_READS_ROUND], rounds + 1);
    assert_true(rc_is_live(a));
    assert_string_equal(lb_communities(a->lb, "7"), "3");
}

static void without_its_marker_pubsub_is_not_trusted(void **state)
{
    struct rc_node *a = rc_live_node();
    struct lb_link *l = listener(a, "7", "community:1");
    int64_t id;

    (void)state;
    load_changed("'M '", "'m '");
    rs_do(&rc.server, "CLIENT KILL TYPE pubsub");
    RC_AWAIT(rc_is_logs, a);
    rc_turn(500);
    assert_true(rc_is_logs(a));
    id = LB_PUBLISH(a->lb);
    expect_next(l, id);
    rs_do(&rc.server, "FUNCTION LOAD REPLACE %b", pl_redis_library, pl_redis_library_len);
    rs_do(&rc.server, "CLIENT KILL TYPE pubsub");
    RC_AWAIT(rc_is_live, a);
}

static void a_refused_marker_is_asked_for_again(void **state)
{
    struct rc_node *a;

    (void)state;
    rs_do(&rc.server, "FUNCTION LOAD REPLACE %b", pl_redis_library, pl_redis_library_len);
    load_changed("register('parley_marker', parley_marker)",
                 "register('parley_marker', function() return redis.error_reply('NO') end)");
    a = rc_node("");
    rc_connect(a);
    RC_AWAIT(rc_is_logs, a);
    rc_turn(300);
    assert_true(rc_is_logs(a));
    rs_do(&rc.server, "FUNCTION LOAD REPLACE %b", pl_redis_library, pl_redis_library_len);
    RC_AWAIT(rc_is_live, a);
}

/* ---- what others may say ---- */

static bool heard_a_malformed_event(void *unused)
{
    (void)unused;
    return pl_metric_values[PL_S_BUS_MALFORMED_EVENT] == 1;
}

static void nonsense_on_the_bus_harms_nothing(void **state)
{
    struct rc_node *a = rc_live_node();
    struct lb_link *l = listener(a, "7", "community:1");
    uint64_t malformed = pl_metric_values[PL_S_BUS_MALFORMED_NEWS];
    int64_t id = LB_PUBLISH(a->lb);

    (void)state;
    expect_next(l, id);
    rs_do(&rc.server, "PUBLISH {parley}:control nonsense");
    rs_do(&rc.server, "PUBLISH {parley}:node:%s %s", a->name, "E 1");
    rs_do(&rc.server, "PUBLISH {parley}:log:community:1 %s", "Z 1 2 3");
    rs_do(&rc.server, "PUBLISH {parley}:log:community:1 %b", "", (size_t)0);
    rs_do(
        &rc.server,
        "FCALL parley_append 3 {parley}:seq {parley}:idem:x {parley}:log:community:1 nonce 0 0 100 "
        "100000 1 E nonsense 1 1");
    RC_AWAIT(heard_a_malformed_event, NULL);
    assert_in_range(pl_metric_values[PL_S_BUS_MALFORMED_NEWS], malformed + 2, malformed + 4);
    id = LB_PUBLISH(a->lb);
    expect_next(l, id);
}

static void an_event_that_a_backend_published_in_redis_is_delivered(void **state)
{
    struct rc_node *a = rc_live_node();
    struct lb_link *l = listener(a, "7", "community:1");
    redisReply *r =
        rs_command(&rc.server, "FCALL parley_publish 2 {parley}:seq {parley}:log:community:1 %s",
                   "{\"type\":\"x\",\"community_ids\":[1],\"data\":{\"n\":1}}");
    int64_t id = pl_redis__number(r);

    (void)state;
    freeReplyObject(r);
    assert_true(id > 0);
    rc_turn(50);
    a->lb->kind->turn(a->bus);
    expect_next(l, id);
}

/* ---- queues and records, on the way through all parts ---- */

static void a_change_is_known_on_all_nodes(void **state)
{
    struct rc_node *a = rc_live_node();
    struct rc_node *b = rc_live_node();
    struct lb_link *l = listener(b, "7", "community:1");
    int64_t id;

    (void)state;
    (void)lb_update(a->lb, "7", "community:2");
    assert_string_equal(lb_communities(b->lb, "7"), "2");
    (void)LB_PUBLISH(a->lb, .channels = "community:1");
    (void)LB_TAKE(l); /* the new membership */
    LB_EXPECT_SILENCE(l);
    id = LB_PUBLISH(a->lb, .channels = "community:2");
    LB_EXPECT_EVENTS(l, id);
}

int main(int argc, char **argv)
{
#define TEST(setup, test) cmocka_unit_test_setup_teardown(test, setup, rc_stop)
    const struct CMUnitTest tests[] = {
        TEST(plain, what_one_node_publishes_another_delivers),
        TEST(plain, an_event_in_two_channels_is_delivered_once),
        TEST(plain, opening_a_channel_warms_its_ring_from_the_log),
        TEST(plain, what_lies_below_the_ring_is_read_from_the_log),
        TEST(plain, a_channel_opened_while_events_stream_in_misses_none),
        TEST(plain, a_channel_is_read_only_when_its_subscription_is_confirmed),
        TEST(plain, a_channel_whose_subscription_is_lost_is_read_at_once),
        TEST(plain, channels_opened_while_each_gets_one_event_miss_none),
        TEST(plain, closed_and_opened_again_at_once_a_channel_is_whole),
        TEST(plain, killed_pubsub_connections_lose_nothing_and_repeat_nothing),
        TEST(plain, without_pubsub_events_come_by_reading_logs),
        TEST(plain, what_is_announced_during_the_last_round_follows_it),
        TEST(plain, many_channels_are_read_in_chunks),
        TEST(plain, much_is_read_in_bounded_pieces),
        TEST(plain, a_stopped_redis_is_a_pause_not_a_hole),
        TEST(with_aof, a_killed_redis_comes_back_from_its_aof_with_everything),
        TEST(plain, a_revocation_missed_while_cut_off_is_applied_before_the_events_after_it),
        TEST(plain, changes_trimmed_while_cut_off_are_asked_for_user_by_user),
        TEST(plain, a_flushed_redis_is_a_new_epoch),
        TEST(plain, an_older_history_is_a_new_epoch),
        TEST(plain, an_older_history_that_has_gone_on_is_a_new_epoch),
        TEST(plain, a_sequence_that_went_back_is_a_new_epoch),
        TEST(plain, a_reconnect_without_loss_is_no_new_epoch),
        TEST(plain, a_node_is_ready_after_its_first_canary),
        TEST(plain, no_redis_means_not_ready_until_it_comes),
        TEST(plain, missed_canaries_make_a_node_not_ready_and_two_good_ones_ready),
        TEST(plain, a_pubsub_that_swallows_canaries_is_begun_anew),
        TEST(plain, an_evicting_redis_makes_no_node_ready),
        TEST(plain, a_forbidden_config_is_not_held_against_redis),
        TEST(plain, older_or_missing_functions_are_replaced_and_newer_ones_left),
        TEST(plain, a_replica_is_refused_with_a_reason),
        TEST(plain, a_primary_that_becomes_a_replica_is_left),
        TEST(plain, a_process_that_was_stopped_begins_anew),
        TEST(plain, what_comes_while_logs_are_read_waits_and_follows),
        TEST(plain, a_change_that_follows_a_missing_one_waits_for_the_logs),
        TEST(plain, without_its_marker_pubsub_is_not_trusted),
        TEST(plain, a_refused_marker_is_asked_for_again),
        TEST(plain, nonsense_on_the_bus_harms_nothing),
        TEST(plain, an_event_that_a_backend_published_in_redis_is_delivered),
        TEST(plain, a_change_is_known_on_all_nodes),
    };

    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests_name("redis bus", tests, NULL, NULL);
}
