#include "tests/unit/core/loopback.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *transports(struct loopback *lb, const char *user)
{
    static struct pl_buf out;
    struct pl_writer w;

    out.len = 0;
    pl_writer_init(&w, PL_JSON, &out);
    pl_hub_write_transports(lb->hub, (struct pl_str){user, strlen(user)}, &w);
    return pl_buf_cstr(&out);
}

/* ---- numbers ---- */

static void stats_count_what_there_is(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2");
    struct lb_link *socket = lb_websocket(lb, q, -1);
    struct pl_hub_stats s;
    int64_t id;

    (void)lb_poll(lb, lb_another_queue(lb, "7", -1), -1);
    (void)lb_queue(lb, "8", "community:1");
    s = lb_stats(lb);
    assert_int_equal(s.queues, 3);
    assert_int_equal(s.queues_websocket, 1);
    assert_int_equal(s.pending_polls, 1);
    assert_int_equal(s.users, 2);
    assert_int_equal(s.channels, 2);
    assert_int_equal(s.ring_bytes, 0);
    id = LB_PUBLISH(lb);
    pl_link_detach(&socket->base);
    s = lb_stats(lb);
    assert_int_equal(s.applied, id);
    assert_true(s.ring_bytes > 0);
    assert_int_equal(s.queues_websocket, 0);
    assert_int_equal(s.pending_polls, 0);
    assert_int_equal(s.queues, 3);
}

static void time_is_what_it_was_told(void **state)
{
    struct loopback *lb = *state;

    pl_hub_set_time(lb->hub, 5, 6);
    assert_int_equal(pl_hub_mono_ms(lb->hub), 5);
    assert_int_equal(pl_hub_unix_ms(lb->hub), 6);
    assert_ptr_equal(pl_hub_config(lb->hub), lb->cfg);
}

static void limits_of_requests_are_the_configured_ones(void **state)
{
    struct loopback *lb = *state;
    struct pl_request_limits limits;

    lb->cfg->limits_channels_per_user = 3;
    lb->cfg->limits_topics_per_queue = 4;
    lb->cfg->limits_recipients = 5;
    limits = pl_hub_limits(lb->hub);
    assert_int_equal(limits.channels, 3);
    assert_int_equal(limits.topics, 4);
    assert_int_equal(limits.recipients, 5);
}

/* ---- for all queues ---- */

static void goaway_reaches_every_link_and_leaves_it_served(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *socket = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *poll = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);
    const struct lb_message *m;
    int64_t id;

    (void)lb_queue(lb, "9", "community:1");
    pl_hub_goaway(lb->hub, PL_TRANSPORT_NONE, "draining", 10000);
    m = LB_TAKE(socket);
    assert_string_equal(lb_member(m, "op"), "\"goaway\"");
    assert_string_equal(lb_member(m, "reason"), "\"draining\"");
    assert_string_equal(lb_member(m, "transports"), "[\"websocket\",\"longpoll\"]");
    assert_in_range(pl_value_get(m->v, "reconnect_after_ms")->u.integer, 0, 9999);
    m = LB_TAKE(poll);
    assert_string_equal(lb_member(m, "events"), "[]");
    assert_non_null(pl_value_get(pl_value_get(m->v, "goaway"), "reconnect_after_ms"));
    assert_true(poll->spent);
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(socket, id);
}

static void goaway_may_be_for_one_transport(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *socket = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *poll = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);

    pl_hub_goaway(lb->hub, PL_TRANSPORT_WEBSOCKET, "transport", 0);
    assert_string_equal(lb_member(LB_TAKE(socket), "reconnect_after_ms"), "0");
    LB_EXPECT_SILENCE(poll);
}

/* As many clients as it takes to see that they go evenly. */
enum {
    LEAVING = 200,
    SPREAD_MS = 10000,
};

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void draining_lets_everybody_go_in_a_slot_of_its_own(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *sockets[LEAVING / 2], *polls[LEAVING / 2];
    int left_ms[LEAVING] = {0}, slots[LEAVING / 2], i, ms, left = 0;

    for (i = 0; i < LEAVING / 2; i++) {
        sockets[i] = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
        polls[i] = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);
    }
    pl_hub_drain(lb->hub, SPREAD_MS);
    for (i = 0; i < LEAVING / 2; i++) {
        const struct lb_message *m = LB_TAKE(sockets[i]);

        assert_string_equal(lb_member(m, "reason"), "\"draining\"");
        slots[i] = (int)pl_value_get(m->v, "reconnect_after_ms")->u.integer;
        LB_EXPECT_SILENCE(polls[i]);
    }
    for (ms = 0; ms < pl_hub_drain_ms(lb->hub) + 100; ms += 10) {
        lb_pass(lb, 10);
        for (i = 0; i < LEAVING / 2; i++) {
            if (left_ms[i] == 0 && sockets[i]->ended) {
                left_ms[i] = ms;
                assert_in_range(ms, slots[i] + 1900, slots[i] + 2100);
                lb_expect_ended(sockets[i], PL_ERR_DRAINING);
            }
            if (left_ms[LEAVING / 2 + i] == 0 && polls[i]->spent) {
                const struct lb_message *m = LB_TAKE(polls[i]);

                left_ms[LEAVING / 2 + i] = ms + 1;
                assert_string_equal(lb_member(m, "events"), "[]");
                assert_int_equal(
                    pl_value_get(pl_value_get(m->v, "goaway"), "reconnect_after_ms")->u.integer, 0);
            }
        }
    }
    for (i = 0; i < LEAVING; i++) {
        left += left_ms[i] > 0;
    }
    assert_int_equal(left, LEAVING);
    qsort(slots, LEAVING / 2, sizeof(slots[0]), by_size);
    qsort(left_ms + LEAVING / 2, LEAVING / 2, sizeof(left_ms[0]), by_size);
    assert_in_range(slots[LEAVING / 4], SPREAD_MS / 3, 2 * SPREAD_MS / 3);
    assert_in_range(left_ms[LEAVING * 3 / 4], SPREAD_MS / 3, 2 * SPREAD_MS / 3);
}

static void draining_goes_on_serving_and_turns_newcomers_away(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *socket = lb_websocket(lb, q, -1);
    struct pl_queue *poll_queue;
    struct lb_link *poll, *late;
    int64_t id;

    pl_hub_drain(lb->hub, SPREAD_MS);
    (void)LB_TAKE(socket);
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(socket, id);
    poll_queue = lb_queue(lb, "8", "community:1");
    poll = lb_poll(lb, poll_queue, -1);
    LB_EXPECT_SILENCE(poll);
    lb_pass(lb, SPREAD_MS + 3000);
    assert_non_null(pl_value_get(LB_TAKE(poll)->v, "goaway"));
    assert_true(poll->spent);
    poll = lb_poll(lb, poll_queue, -1);
    assert_non_null(pl_value_get(LB_TAKE(poll)->v, "goaway"));
    assert_true(poll->spent);
    lb_expect_ended(socket, PL_ERR_DRAINING);
    late = lb_websocket(lb, q, -1);
    assert_string_equal(lb_member(LB_TAKE(late), "reconnect_after_ms"), "0");
    lb_pass(lb, 1000);
    assert_false(late->ended);
    lb_pass(lb, 1500);
    lb_expect_ended(late, PL_ERR_DRAINING);
}

static void goaway_waits_for_a_slow_link(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *socket = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t id;

    socket->refuse = true;
    pl_hub_goaway(lb->hub, PL_TRANSPORT_NONE, "draining", 1000);
    id = LB_PUBLISH(lb);
    lb_take_again(socket);
    assert_string_equal(lb_member(LB_TAKE(socket), "op"), "\"goaway\"");
    LB_EXPECT_EVENTS(socket, id);
}

static void clients_come_back_spread_over_the_time(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *links[40];
    bool early = false;
    bool late = false;

    for (size_t i = 0; i < COUNT(links); i++) {
        links[i] = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    }
    pl_hub_goaway(lb->hub, PL_TRANSPORT_NONE, "draining", 100);
    for (size_t i = 0; i < COUNT(links); i++) {
        int64_t after = pl_value_get(LB_TAKE(links[i])->v, "reconnect_after_ms")->u.integer;

        early |= after < 50;
        late |= after >= 50;
    }
    assert_true(early && late);
}

static void end_links_takes_every_link_and_keeps_the_queues(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *socket = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *poll = lb_poll(lb, lb_queue(lb, "8", "community:1"), -1);

    (void)lb_queue(lb, "9", "community:1");
    pl_hub_end_links(lb->hub, PL_ERR_DRAINING);
    lb_expect_ended(socket, PL_ERR_DRAINING);
    lb_expect_ended(poll, PL_ERR_DRAINING);
    assert_int_equal(lb_stats(lb).queues, 3);
}

/* ---- transports ---- */

static void the_phase_decides_the_transports(void **state)
{
    struct loopback *lb = *state;
    static const struct {
        int phase, percent;
        const char *list;
    } cases[] = {
        {PL_PHASE_LONGPOLL, 100, "[\"longpoll\"]"},
        {PL_PHASE_HYBRID, 100, "[\"websocket\",\"longpoll\"]"},
        {PL_PHASE_HYBRID, 0, "[\"longpoll\",\"websocket\"]"},
        {PL_PHASE_WEBSOCKET, 0, "[\"websocket\",\"longpoll\"]"},
        {PL_PHASE_WEBSOCKET_ONLY, 0, "[\"websocket\"]"},
    };

    (void)lb_register(lb, "7", "community:1");
    for (size_t i = 0; i < COUNT(cases); i++) {
        lb->cfg->transport_phase = cases[i].phase;
        lb->cfg->transport_websocket_percent = cases[i].percent;
        assert_string_equal(transports(lb, "7"), cases[i].list);
    }
}

static void raising_the_percentage_only_adds_users(void **state)
{
    struct loopback *lb = *state;
    unsigned preferring = 0;

    for (unsigned n = 0; n < 1000; n++) {
        char user[8] = {'u', (char)('0' + n / 100), (char)('0' + n / 10 % 10),
                        (char)('0' + n % 10)};
        bool before = false;

        (void)lb_register(lb, user, "community:1");
        for (int64_t percent = 0; percent <= 100; percent += 10) {
            lb->cfg->transport_websocket_percent = percent;
            if (strncmp(transports(lb, user), "[\"websocket\"", 12) == 0) {
                assert_true(percent > 0);
                before = true;
                preferring += percent == 50;
            } else {
                assert_false(before);
            }
        }
        assert_true(before);
    }
    assert_in_range(preferring, 400, 600);
}

static void polls_carry_the_new_transports_once(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *poll;
    int64_t id;

    lb->cfg->transport_phase = PL_PHASE_LONGPOLL;
    pl_hub_transports_changed(lb->hub);
    poll = lb_poll(lb, q, -1);
    assert_string_equal(lb_member(LB_TAKE(poll), "transports"), "[\"longpoll\"]");
    poll = lb_poll(lb, q, -1);
    LB_EXPECT_SILENCE(poll);
    id = LB_PUBLISH(lb);
    assert_null(lb_member(&poll->messages[0], "transports"));
    LB_EXPECT_EVENTS(poll, id);
}

static void an_event_brings_the_new_transports_to_a_held_poll(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *poll = lb_poll(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *socket = lb_websocket(lb, lb_queue(lb, "8", "community:1"), -1);
    int64_t id;

    pl_hub_transports_changed(lb->hub);
    LB_EXPECT_SILENCE(poll);
    id = LB_PUBLISH(lb);
    assert_non_null(lb_member(&poll->messages[0], "transports"));
    assert_null(lb_member(&socket->messages[0], "transports"));
    LB_EXPECT_EVENTS(poll, id);
    LB_EXPECT_EVENTS(socket, id);
}

/* ---- bounds ---- */

static void an_event_in_two_rings_is_counted_once(void **state)
{
    struct loopback *lb = *state;
    uint64_t one;
    uint64_t both;

    (void)LB_PUBLISH(lb, .pad = 2000);
    one = lb_stats(lb).ring_bytes;
    (void)LB_PUBLISH(lb, .channels = "community:2 community:3", .pad = 2000);
    both = lb_stats(lb).ring_bytes - one;
    assert_true(both < one + one / 10);
}

static void total_bytes_shrinks_the_ring_used_least_recently(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *old = lb_queue(lb, "7", "community:1");
    struct pl_queue *new = lb_queue(lb, "8", "community:2");
    int64_t last = 0;

    lb->cfg->channel_total_bytes = 65536;
    for (int i = 0; i < 10; i++) {
        (void)LB_PUBLISH(lb, .pad = 4000);
    }
    for (int i = 0; i < 10; i++) {
        last = LB_PUBLISH(lb, .channels = "community:2", .pad = 4000);
        assert_true(lb_stats(lb).ring_bytes <= 65536);
    }
    LB_EXPECT_CATCHUP(lb_poll(lb, old, -1), "trimmed", "1");
    assert_int_equal(lb_poll(lb, new, -1)->position, last);
}

static void every_form_of_an_event_counts_also_one_made_for_a_pull(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *packed = lb_link_new(lb, PL_TRANSPORT_LONGPOLL, PL_MSGPACK);
    uint64_t json;

    (void)LB_PUBLISH(lb, .pad = 4000);
    json = lb_stats(lb).ring_bytes;
    lb_open(packed, q, -1);
    assert_true(packed->spent);
    assert_true(lb_stats(lb).ring_bytes > json + 4000);
    lb->cfg->channel_total_bytes = 65536;
    for (int i = 0; i < 10; i++) {
        (void)LB_PUBLISH(lb, .pad = 5000);
    }
    packed = lb_link_new(lb, PL_TRANSPORT_LONGPOLL, PL_MSGPACK);
    lb_open(packed, q, -1);
    assert_true(lb_stats(lb).ring_bytes <= 65536);
}

static void a_channel_too_many_forgets_the_idle_one_used_least_recently(void **state)
{
    struct loopback *lb = *state;
    int64_t start = LB_PUBLISH(lb);
    int64_t kept;

    lb->cfg->limits_channels = 3;
    (void)lb_queue(lb, "7", "community:9");
    kept = LB_PUBLISH(lb, .channels = "community:2");
    (void)LB_PUBLISH(lb, .channels = "community:3");
    assert_int_equal(lb_stats(lb).channels, 3);
    LB_EXPECT_EVENTS(lb_poll(lb, lb_queue_at(lb, "8", "community:2", start), -1), kept);
    /* What is forgotten is not taken for quiet. */
    LB_EXPECT_CATCHUP(lb_poll(lb, lb_queue_at(lb, "9", "community:1", start - 1), -1), "trimmed",
                      "1");
}

static void an_event_may_have_more_channels_than_are_held(void **state)
{
    struct loopback *lb = *state;

    lb->cfg->limits_channels = 1;
    (void)LB_PUBLISH(lb, .channels = "room:a room:b room:c room:d");
    (void)LB_PUBLISH(lb, .channels = "room:d user:7 room:b");
    assert_true(lb_stats(lb).channels <= 4);
    (void)LB_PUBLISH(lb, .channels = "room:e");
    assert_int_equal(lb_stats(lb).channels, 1);
}

/* ---- an asynchronous bus ---- */

static struct pl_queue *queue_of(struct loopback *lb, const char *user, const char *membership)
{
    struct pl_queue *q = lb_queue(lb, user, membership);

    while (lb_script_of(lb)->open_count > 0) {
        lb_answer_open_empty(lb, lb_script_of(lb)->opens[0].channel, lb_script_of(lb)->last_id);
    }
    return q;
}

static void a_channel_is_opened_for_its_first_queue_and_closed_a_while_after_its_last(void **state)
{
    struct loopback *lb = *state;
    struct lb_script_bus *b = lb_script_of(lb);
    struct pl_queue *one;
    struct pl_queue *two;

    (void)lb_register(lb, "7", "community:1");
    assert_int_equal(b->opened_total, 0);
    one = queue_of(lb, "7", "community:1");
    two = lb_another_queue(lb, "7", -1);
    assert_int_equal(b->opened_total, 1);
    pl_queue_end(one, PL_OK);
    assert_int_equal(b->closed_total, 0);
    pl_queue_end(two, PL_OK);
    assert_int_equal(b->closed_total, 0);
    lb_pass(lb, 31000);
    assert_int_equal(b->closed_total, 1);
    (void)lb_another_queue(lb, "7", -1);
    assert_int_equal(b->opens[0].after_id, 0);
    lb_answer_open_empty(lb, "community:1", b->last_id);
}

static void a_copy_of_an_announcement_is_ignored(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, queue_of(lb, "7", "community:1"), -1);
    int64_t id = lb_next_id(lb);

    assert_int_equal(LB_ANNOUNCE(lb, id, 0), 1);
    assert_int_equal(LB_ANNOUNCE(lb, id, 0), 0);
    assert_int_equal(LB_ANNOUNCE(lb, lb_next_id(lb), id), 1);
    assert_int_equal(LB_ANNOUNCE(lb, id, 0), 0);
    assert_int_equal(lb_stats(lb).applied, id + 1);
    LB_EXPECT_EVENTS(l, id, id + 1);
}

static void a_channel_being_opened_holds_back_exactly_its_queues(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *both = queue_of(lb, "7", "community:1");
    struct lb_link *other = lb_websocket(lb, lb_another_queue(lb, "7", -1), -1);
    struct lb_link *l;
    int64_t before;
    int64_t id;

    pl_queue_end(both, PL_OK);
    both = lb_queue(lb, "8", "community:1 community:2");
    l = lb_websocket(lb, both, -1);
    before = pl_queue_tell_position(both);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0);
    LB_EXPECT_EVENTS(other, id);
    LB_EXPECT_SILENCE(l);
    assert_int_equal(pl_queue_tell_position(both), before);
    lb_answer_open_empty(lb, "community:2", id);
    LB_EXPECT_EVENTS(l, id);
}

static void what_is_announced_meanwhile_follows_the_log(void **state)
{
    struct loopback *lb = *state;
    int64_t old = lb_next_id(lb);
    struct lb_link *l;
    int64_t logged;
    int64_t early[2];

    pl_hub_bus_applied(lb->hub, old);
    l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    logged = lb_next_id(lb);
    early[0] = lb_next_id(lb);
    early[1] = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, early[0], logged, .channels = "community:1 community:9");
    (void)LB_ANNOUNCE(lb, early[1], early[0]);
    LB_EXPECT_SILENCE(l);
    /* The log was read between the two. */
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = 0,
                                    .floor = 0,
                                    .entries = (struct lb_log_entry[]){{old, 0, {0}},
                                                                       {logged, old, {0}},
                                                                       {early[0], logged, {0}}},
                                    .count = 3,
                                    .whole_to = early[0]});
    LB_EXPECT_EVENTS(l, logged, early[0], early[1]);
    assert_int_equal(l->count, 1);
}

static void a_log_read_too_early_is_read_again(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    int64_t a = lb_next_id(lb);
    int64_t b = lb_next_id(lb);
    int64_t c = lb_next_id(lb);

    (void)LB_ANNOUNCE(lb, c, b);
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = 0,
                                    .floor = 0,
                                    .entries = (struct lb_log_entry[]){{a, 0, {0}}},
                                    .count = 1,
                                    .whole_to = a});
    LB_EXPECT_SILENCE(l);
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = a,
                                    .floor = a,
                                    .entries = (struct lb_log_entry[]){{b, a, {0}}},
                                    .count = 1,
                                    .whole_to = b});
    LB_EXPECT_EVENTS(l, a, b, c);
}

static void an_event_from_the_log_and_from_an_announcement_comes_once(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:2");
    struct lb_link *l;
    int64_t id;

    pl_queue_end(q, PL_OK);
    q = lb_queue(lb, "7", "community:1 community:2");
    l = lb_websocket(lb, q, -1);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, id, 0, .channels = "community:1 community:2");
    lb_answer_open(
        lb, "community:1",
        &(struct lb_log){
            .after_id = 0,
            .floor = 0,
            .entries = (struct lb_log_entry[]){{id, 0, {.channels = "community:1 community:2"}}},
            .count = 1,
            .whole_to = id});
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_EVENTS(lb_websocket(lb, q, id - 1), id);
}

/* A queue in communities 1 and 2 whose log of 1 was read further than the node has heard: up to *ret_now + 2. */
static struct lb_link *read_ahead(struct loopback *lb, struct pl_queue **ret_queue,
                                  int64_t *ret_now)
{
    struct pl_queue *two = queue_of(lb, "7", "community:2");
    int64_t old = lb_next_id(lb);
    struct lb_link *l;

    *ret_queue = lb_queue(lb, "8", "community:1 community:2");
    pl_queue_end(two, PL_OK);
    l = lb_websocket(lb, *ret_queue, -1);
    *ret_now = lb_script_of(lb)->last_id;
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){
                       .after_id = 0,
                       .floor = 0,
                       .entries = (struct lb_log_entry[]){{old, 0, {0}}, {*ret_now + 2, old, {0}}},
                       .count = 2,
                       .whole_to = *ret_now + 2});
    LB_EXPECT_SILENCE(l); /* the old one came before the queue did, the other is not heard of yet */
    return l;
}

static void what_the_log_holds_beyond_the_node_waits_for_it(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q;
    int64_t now;
    struct lb_link *l = read_ahead(lb, &q, &now);

    (void)LB_ANNOUNCE(lb, now + 1, 0, .channels = "community:2");
    LB_EXPECT_SILENCE(l);
    l = lb_websocket(lb, q, now);
    LB_EXPECT_EVENTS(l, now + 1); /* and no further */
    pl_hub_bus_applied(lb->hub,
                       now + 2); /* no announcement of it comes: the channel was not open then */
    LB_EXPECT_EVENTS(l, now + 2);
    LB_ANNOUNCE(lb, now + 3, now + 2);
    LB_EXPECT_EVENTS(l, now + 3);
}

static void an_announcement_of_what_the_log_held_makes_it_due(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q;
    int64_t now;
    struct lb_link *l = read_ahead(lb, &q, &now);

    (void)LB_ANNOUNCE(lb, now + 2, now - 1);
    LB_EXPECT_EVENTS(l, now + 2);
}

static void what_follows_the_log_brings_it_along(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q;
    int64_t now;
    struct lb_link *l = read_ahead(lb, &q, &now);

    (void)LB_ANNOUNCE(lb, now + 3, now + 2);
    LB_EXPECT_EVENTS(l, now + 2, now + 3);
}

static void what_the_client_has_already_is_no_gap(void **state)
{
    struct loopback *lb = *state;
    int64_t old = lb_next_id(lb);
    struct pl_queue *q;
    struct lb_link *l;

    pl_hub_bus_applied(lb->hub, old);
    q = lb_queue_at(lb, "7", "community:1", old - 1);
    l = lb_websocket(lb, q, old); /* the log of its channel has not been read yet */
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = 0,
                                    .floor = 0,
                                    .entries = (struct lb_log_entry[]){{old, 0, {0}}},
                                    .count = 1,
                                    .whole_to = old});
    LB_EXPECT_SILENCE(l);
}

static void a_gap_is_repaired_from_the_log(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1 community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t a = lb_next_id(lb);
    int64_t lost = lb_next_id(lb);
    int64_t c = lb_next_id(lb);

    (void)LB_ANNOUNCE(lb, a, 0);
    (void)LB_ANNOUNCE(lb, c, lost);
    LB_EXPECT_EVENTS(l, a);
    (void)LB_ANNOUNCE(lb, c + 1, 0, .channels = "community:2");
    LB_EXPECT_SILENCE(l); /* its turn has not come */
    assert_int_equal(pl_queue_tell_position(q), a);
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = a,
                                    .floor = a,
                                    .entries = (struct lb_log_entry[]){{lost, a, {0}}},
                                    .count = 1,
                                    .whole_to = lost});
    LB_EXPECT_EVENTS(l, lost, c, c + 1);
}

/* Announces a to community 1, loses the announcement of the next, lets every cursor pass it by an event of community 2, and
 * finds out. Returns the id of the lost one; *ret_last: of the last in community 1 before it. */
static int64_t lose_one(struct loopback *lb, int64_t *ret_last, int64_t *ret_passed)
{
    int64_t last = lb_next_id(lb);
    int64_t lost = lb_next_id(lb);

    *ret_last = last;
    *ret_passed = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, last, 0);
    (void)LB_ANNOUNCE(lb, *ret_passed, 0, .channels = "community:2");
    return lost;
}

/* Returns the id that showed the gap. */
static int64_t repair(struct loopback *lb, int64_t last, int64_t lost, const struct lb_event *e)
{
    int64_t after = lb_next_id(lb);

    (void)LB_ANNOUNCE(lb, after, lost);
    lb_answer_open(lb, "community:1",
                   &(struct lb_log){.after_id = last,
                                    .floor = last,
                                    .entries = (struct lb_log_entry[]){{lost, last, *e}},
                                    .count = 1,
                                    .whole_to = after});
    return after;
}

static void a_hole_behind_the_cursor_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1 community:2");
    struct pl_queue *acked = lb_another_queue(lb, "7", -1);
    struct lb_link *l = lb_websocket(lb, q, -1);
    struct lb_link *m = lb_websocket(lb, acked, -1);
    int64_t last;
    int64_t passed;
    int64_t lost = lose_one(lb, &last, &passed);

    LB_EXPECT_EVENTS(l, last, passed);
    LB_EXPECT_EVENTS(m, last, passed);
    pl_queue_ack(acked, passed);
    (void)repair(lb, last, lost, &(struct lb_event){0});
    LB_EXPECT_CATCHUP(l, "gap", NULL);
    LB_EXPECT_CATCHUP(m, "gap", NULL);
    LB_EXPECT_SILENCE(l);
    /* Until it is acknowledged. */
    LB_EXPECT_CATCHUP(lb_websocket(lb, q, passed), "gap", NULL);
    LB_EXPECT_SILENCE(lb_websocket(lb, q, l->position));
    LB_EXPECT_SILENCE(lb_websocket(lb, q, -1));
}

static void a_hole_found_between_polls_is_told_or_filled(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1 community:2");
    struct pl_queue *back = lb_another_queue(lb, "7", -1);
    int64_t start = pl_queue_position(q);
    int64_t last;
    int64_t passed;
    int64_t lost = lose_one(lb, &last, &passed);
    struct lb_link *l;

    LB_EXPECT_EVENTS(lb_poll(lb, q, start), last, passed);
    LB_EXPECT_EVENTS(lb_poll(lb, back, start), last, passed);
    (void)repair(lb, last, lost, &(struct lb_event){0});
    l = lb_poll(lb, q, passed);
    LB_EXPECT_CATCHUP(l, "gap", NULL);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, q, l->position));
    l = lb_poll(lb, back, last); /* had not got the answer */
    LB_EXPECT_EVENTS(l, lost, passed, passed + 1);
    LB_EXPECT_NO_EVENTS(lb_poll_once(lb, back, l->position));
}

/* What a catch-up covers is not due to whoever got it; one who comes back from before it did not. */
static void a_catchup_that_got_lost_covers_no_hole(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1 community:2");
    int64_t start = pl_queue_position(q);
    int64_t last;
    int64_t passed;
    int64_t lost = lose_one(lb, &last, &passed);

    LB_EXPECT_CATCHUP(lb_poll(lb, q, 303), "epoch", NULL);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), last, passed);
    (void)repair(lb, last, lost, &(struct lb_event){0});
    LB_EXPECT_CATCHUP(lb_poll(lb, q, passed), "gap", NULL);
}

static void a_hole_that_concerns_nobody_is_not_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1=a community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    struct lb_link *later;
    int64_t last;
    int64_t passed;
    int64_t lost = lose_one(lb, &last, &passed);

    LB_EXPECT_EVENTS(l, passed);
    later = lb_websocket(lb, lb_queue(lb, "8", "community:1"), -1);
    lost = repair(lb, last, lost, &(struct lb_event){.topic = "b"});
    LB_EXPECT_SILENCE(l);
    LB_EXPECT_EVENTS(later, lost); /* the one that showed the gap; the hole was before its time */
}

static void a_hole_in_the_log_itself_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1 community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    struct lb_link *behind = lb_websocket(lb, lb_another_queue(lb, "7", -1), -1);
    int64_t last;
    int64_t passed;
    int64_t lost;
    int64_t after;

    behind->takes = 1;
    lost = lose_one(lb, &last, &passed);
    LB_EXPECT_EVENTS(l, last, passed);
    LB_EXPECT_EVENTS(behind, last);
    after = lb_next_id(lb);
    (void)LB_ANNOUNCE(lb, after, lost);
    lb_answer_open(
        lb, "community:1",
        &(struct lb_log){
            .after_id = last, .floor = lost, .entries = NULL, .count = 0, .whole_to = after});
    LB_EXPECT_CATCHUP(l, "gap", NULL);
    lb_take_again(behind);
    LB_EXPECT_CATCHUP(behind, "trimmed", "1,2");
}

static void a_catchup_waits_until_every_channel_is_whole(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, lb_script_of(lb)->epoch - 1);

    LB_EXPECT_SILENCE(l);
    lb_answer_open_empty(lb, "community:1", lb_script_of(lb)->last_id);
    LB_EXPECT_CATCHUP(l, "epoch", NULL);
    assert_int_equal(l->position, lb_script_of(lb)->last_id);
}

static void a_cursor_merely_ahead_of_the_node_waits(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1");
    int64_t ahead = lb_script_of(lb)->last_id + 2;
    struct lb_link *l = lb_websocket(lb, q, ahead);

    lb_answer_sequence(lb, ahead);
    LB_EXPECT_SILENCE(l);
    (void)LB_ANNOUNCE(lb, ahead - 1, 0);
    (void)LB_ANNOUNCE(lb, ahead, ahead - 1);
    LB_EXPECT_SILENCE(l);
    (void)LB_ANNOUNCE(lb, ahead + 1, ahead);
    LB_EXPECT_EVENTS(l, ahead + 1);
}

static void a_cursor_ahead_of_the_bus_is_told_when_the_bus_has_said_so(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1");
    int64_t newest = lb_script_of(lb)->last_id;
    struct lb_link *poll = lb_poll(lb, q, newest + 5);

    LB_EXPECT_SILENCE(poll);
    lb_answer_sequence(lb, newest + 4);
    LB_EXPECT_CATCHUP(poll, "ahead", NULL);
    assert_int_equal(poll->position, newest);
}

static void an_answer_about_another_cursor_is_not_taken_for_this_one(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1");
    int64_t newest = lb_script_of(lb)->last_id;
    struct lb_link *l;

    (void)lb_websocket(lb, q, newest + 5);
    l = lb_websocket(lb, q, newest);
    (void)LB_ANNOUNCE(lb, newest + 1, 0);
    LB_EXPECT_EVENTS(l, newest + 1);
    lb_answer_sequence(lb, newest + 1);
    LB_EXPECT_SILENCE(l);
    (void)lb_websocket(lb, q, newest + 9);
    pl_queue_end(q, PL_OK);
    lb_answer_sequence(lb, newest + 1); /* for nobody */
}

static void only_the_answer_to_the_last_question_counts(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1");
    int64_t newest = lb_script_of(lb)->last_id;
    struct lb_link *l;

    (void)lb_websocket(lb, q, newest + 9);
    l = lb_websocket(lb, q, newest + 2);
    lb_answer_sequence(lb, newest + 5);
    lb_answer_sequence(lb, newest + 5);
    LB_EXPECT_SILENCE(l);
}

static void a_failed_question_leaves_the_cursor_waiting(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = queue_of(lb, "7", "community:1");
    int64_t ahead = lb_script_of(lb)->last_id + 1;
    struct lb_link *l = lb_websocket(lb, q, ahead);

    lb_script_of(lb)->questions[0].done(lb_script_of(lb)->questions[0].arg, PL_ERR_BUS, NULL, 0);
    lb_script_of(lb)->question_count = 0;
    LB_EXPECT_SILENCE(l);
    (void)LB_ANNOUNCE(lb, ahead + 1, 0);
    LB_EXPECT_EVENTS(l, ahead + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)  cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
#define ASYNC(name) cmocka_unit_test_setup_teardown(name, lb_start_script, lb_stop)
        TEST(stats_count_what_there_is),
        TEST(time_is_what_it_was_told),
        TEST(limits_of_requests_are_the_configured_ones),
        TEST(goaway_reaches_every_link_and_leaves_it_served),
        TEST(goaway_may_be_for_one_transport),
        TEST(draining_lets_everybody_go_in_a_slot_of_its_own),
        TEST(draining_goes_on_serving_and_turns_newcomers_away),
        TEST(goaway_waits_for_a_slow_link),
        TEST(clients_come_back_spread_over_the_time),
        TEST(end_links_takes_every_link_and_keeps_the_queues),
        TEST(the_phase_decides_the_transports),
        TEST(raising_the_percentage_only_adds_users),
        TEST(polls_carry_the_new_transports_once),
        TEST(an_event_brings_the_new_transports_to_a_held_poll),
        TEST(an_event_in_two_rings_is_counted_once),
        TEST(total_bytes_shrinks_the_ring_used_least_recently),
        TEST(every_form_of_an_event_counts_also_one_made_for_a_pull),
        TEST(a_channel_too_many_forgets_the_idle_one_used_least_recently),
        TEST(an_event_may_have_more_channels_than_are_held),
        ASYNC(a_channel_is_opened_for_its_first_queue_and_closed_a_while_after_its_last),
        ASYNC(a_copy_of_an_announcement_is_ignored),
        ASYNC(a_channel_being_opened_holds_back_exactly_its_queues),
        ASYNC(what_is_announced_meanwhile_follows_the_log),
        ASYNC(a_log_read_too_early_is_read_again),
        ASYNC(an_event_from_the_log_and_from_an_announcement_comes_once),
        ASYNC(what_the_log_holds_beyond_the_node_waits_for_it),
        ASYNC(an_announcement_of_what_the_log_held_makes_it_due),
        ASYNC(what_follows_the_log_brings_it_along),
        ASYNC(what_the_client_has_already_is_no_gap),
        ASYNC(a_gap_is_repaired_from_the_log),
        ASYNC(a_hole_behind_the_cursor_is_told),
        ASYNC(a_hole_found_between_polls_is_told_or_filled),
        ASYNC(a_catchup_that_got_lost_covers_no_hole),
        ASYNC(a_hole_that_concerns_nobody_is_not_told),
        ASYNC(a_hole_in_the_log_itself_is_told),
        ASYNC(a_catchup_waits_until_every_channel_is_whole),
        ASYNC(a_cursor_merely_ahead_of_the_node_waits),
        ASYNC(a_cursor_ahead_of_the_bus_is_told_when_the_bus_has_said_so),
        ASYNC(an_answer_about_another_cursor_is_not_taken_for_this_one),
        ASYNC(only_the_answer_to_the_last_question_counts),
        ASYNC(a_failed_question_leaves_the_cursor_waiting),
    };

    return cmocka_run_group_tests_name("hub", tests, NULL, NULL);
}
