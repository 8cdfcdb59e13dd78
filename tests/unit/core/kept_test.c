#include "tests/unit/core/loopback_kept.h"

#include <string.h>

/* One queue on a node, taken over by the other, there and back. */
struct journey {
    struct loopback *here, *there;
    char id[PL_QUEUE_ID_SIZE];
};

static struct journey begin(struct loopback *lb, const char *membership)
{
    struct journey j = {.here = lb, .there = lb_join(lb)};

    pl_queue_id(lb_kept_queue(j.there, "7", membership), j.id);
    lb_hear(lb);
    return j;
}

static struct pl_queue *at_home(const struct journey *j)
{
    return lb_find(j->there, j->id);
}

/* The queue as it is now, on the other node. */
static struct pl_queue *go(struct journey *j)
{
    lb_settle(j->there);
    lb_hear(j->here);
    assert_int_equal(lb_fetch(j->here, "7", j->id), PL_OK);
    lb_hear(j->there);
    assert_true(lb_is_gone(j->there, j->id));
    assert_non_null(lb_find(j->here, j->id));
    return lb_find(j->here, j->id);
}

/* Which of these topics of community 1 reach the link: announced in turn, "" for none. */
static void expect_topics(struct loopback *lb, struct lb_link *l, int64_t *prev,
                          const char *const *topics, const char *expected)
{
    int64_t ids[8];
    size_t count = 0;

    for (; *topics != NULL; topics++, expected++) {
        int64_t id = lb_next_id(lb);

        (void)LB_ANNOUNCE(lb, id, *prev, .topic = **topics != '\0' ? *topics : NULL);
        *prev = id;
        if (*expected == 'y') {
            ids[count++] = id;
        }
    }
    lb_expect_ids(l, ids, count, __FILE__, __LINE__);
}

static void its_narrowing_goes_with_it(void **state)
{
    static const char *const topics[] = {"a", "b", "", NULL};
    static const struct {
        const char *membership, *expected;
    } cases[] = {
        {"community:1", "yyy"},
        {"community:1=a", "ynn"},
        {"community:1=a,b", "yyn"},
        {"community:1=", "nnn"},
    };
    struct loopback *lb = *state;
    int64_t prev = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct journey j = begin(lb, cases[i].membership);
        struct lb_link *l = lb_websocket(lb, go(&j), -1);

        expect_topics(lb, l, &prev, topics, cases[i].expected);
        pl_queue_end(lb_find(lb, j.id), PL_OK);
    }
}

static void what_the_client_subscribed_goes_with_it(void **state)
{
    static const char *const topics[] = {"a", "b", "c", "", NULL};
    struct loopback *lb = *state;
    struct journey j = begin(lb, "community:1 community:2");
    int64_t prev = 0;

    assert_int_equal(lb_subscribe(at_home(&j), "community:1", "a"), PL_OK);
    assert_int_equal(lb_subscribe(at_home(&j), "community:1", "c"), PL_OK);
    assert_int_equal(lb_unsubscribe(at_home(&j), "community:1", "a"), PL_OK);
    expect_topics(lb, lb_websocket(lb, go(&j), -1), &prev, topics, "nnyn");
}

/* Changes the queue's narrowing after two events, of topics a and b, and takes it over on a node that has heard nothing
 * yet but reads both from the log; one more of either follows. */
static struct lb_link *change_and_go(struct loopback *lb, const char *membership, const char *topic,
                                     int64_t announced[4])
{
    static struct lb_waiter w;
    struct journey j = begin(lb, membership);
    int64_t start = lb_sequence_id(lb);
    struct lb_link *l;

    for (int i = 0; i < 2; i++) {
        announced[i] = lb_next_id(lb);
        (void)LB_ANNOUNCE(j.there, announced[i], i > 0 ? announced[i - 1] : 0,
                          .topic = i > 0 ? "b" : "a");
    }
    assert_int_equal(lb_subscribe(at_home(&j), "community:1", topic), PL_OK);
    lb_pass(j.there, 24);
    lb_answer(j.there, LB_SAVE);
    pl_hub_bus_applied(lb->hub, start);
    lb_prepare(lb, "7", j.id, &w);
    lb_answer(lb, LB_CLAIM);
    assert_int_equal(w.status, PL_OK);
    l = lb_websocket(lb, lb_find(lb, j.id), start);
    lb_answer_open(
        lb, "community:1",
        &(struct lb_log){.after_id = 0,
                         .floor = 0,
                         .entries =
                             (struct lb_log_entry[]){{announced[0], 0, {.topic = "a"}},
                                                     {announced[1], announced[0], {.topic = "b"}}},
                         .count = 2,
                         .whole_to = announced[1]});
    lb_answer_open_empty(lb, "user:7", announced[1]);
    for (int i = 2; i < 4; i++) {
        announced[i] = lb_next_id(lb);
        (void)LB_ANNOUNCE(lb, announced[i], announced[i - 1], .topic = i > 2 ? "b" : "a");
    }
    return l;
}

/* No history is replayed on subscribing, and none on the next node. */
static void a_subscription_begins_where_it_began(void **state)
{
    int64_t id[4];
    struct lb_link *l = change_and_go(*state, "community:1=", "a", id);

    LB_EXPECT_EVENTS(l, id[2]);
}

static void widening_begins_where_it_began(void **state)
{
    int64_t id[4];
    struct lb_link *l = change_and_go(*state, "community:1=a", NULL, id);

    LB_EXPECT_EVENTS(l, id[0], id[2], id[3]);
}

static void its_position_and_its_token_go_with_it(void **state)
{
    struct loopback *lb = *state;
    struct journey j = {.here = lb, .there = lb_join(lb)};
    struct pl_queue *q = NULL;
    int64_t expires = lb->unix_ms + 180000;
    int64_t id;

    (void)lb_register(j.there, "7", "community:1");
    assert_int_equal(
        pl_queue_new(j.there->hub, lb_user(j.there, "7"), NULL, lb->unix_ms + 90000, -1, &q),
        PL_OK);
    pl_queue_id(q, j.id);
    lb_settle(j.there);
    id = lb_next_id(lb);
    (void)LB_ANNOUNCE(j.there, id, 0);
    pl_queue_ack(q, id);
    pl_queue_extend_token(q, expires);
    pl_hub_save_all(j.there->hub);
    q = go(&j);
    assert_int_equal(pl_queue_acked(q), id);
    assert_int_equal(pl_queue_token_exp_ms(q), expires);
}

static void a_queue_without_channels_goes_too(void **state)
{
    struct loopback *lb = *state;
    struct journey j = begin(lb, "");

    (void)go(&j);
}

/* What was lost before its client was told is told by the next node. */
static void a_hole_goes_with_it(void **state)
{
    struct loopback *lb = *state;
    struct journey j = begin(lb, "community:1");
    struct lb_link *l = lb_websocket(j.there, at_home(&j), -1);
    int64_t id[4];

    for (int i = 0; i < 4; i++) {
        id[i] = lb_next_id(lb);
    }
    (void)LB_ANNOUNCE(j.there, id[0], 0);
    (void)LB_ANNOUNCE(j.there, id[2], 0, .channels = "user:7");
    LB_EXPECT_EVENTS(l, id[0], id[2]);
    pl_link_detach(&l->base);
    (void)LB_ANNOUNCE(j.there, id[3], id[1]);
    lb_answer_open(j.there, "community:1",
                   &(struct lb_log){.after_id = id[0],
                                    .floor = id[0],
                                    .entries = (struct lb_log_entry[]){{id[1], id[0], {0}}},
                                    .count = 1,
                                    .whole_to = id[1]});
    pl_hub_save_all(j.there->hub);
    lb_settle(j.there);
    (void)go(&j);
    LB_EXPECT_CATCHUP(lb_websocket(lb, lb_find(lb, j.id), id[2]), "gap", NULL);
}

/* ---- bytes ---- */

static void set_state(struct lb_queue_record *q, const void *bytes, size_t len)
{
    q->state.len = 0;
    pl_buf_append(&q->state, bytes, len);
    q->dead = false;
}

/* Takes it over with this state, and gives it up again. True if it was understood. */
static bool claim_with(struct journey *j, const void *bytes, size_t len)
{
    static struct lb_waiter w;
    struct lb_queue_record *q = lb_record(j->here, j->id);
    struct pl_queue *made;

    set_state(q, bytes, len);
    lb_prepare(j->here, "7", j->id, &w);
    lb_answer(j->here, LB_CLAIM);
    while (lb_calls(j->here, LB_USER) > 0) {
        lb_answer(j->here, LB_USER);
    }
    assert_int_equal(w.calls, 1);
    made = lb_find(j->here, j->id);
    if (made != NULL) {
        pl_queue_end(made, PL_OK);
    }
    q->dead = false;
    return made != NULL;
}

static void what_cannot_be_understood_is_no_queue(void **state)
{
    struct loopback *lb = *state;
    struct journey j = begin(lb, "community:1=a,b community:2= community:3");
    struct pl_buf bytes = {0};
    struct lb_queue_record *q;

    lb_settle(j.there);
    q = lb_record(lb, j.id);
    pl_buf_append(&bytes, q->state.data, q->state.len);
    lb_kill(lb, j.there);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(claim_with(&j, bytes.data, len));
    }
    assert_false(claim_with(&j, "\x80", 1));
    assert_false(claim_with(&j, "\x90", 1));
    assert_false(claim_with(&j, "\xc0", 1));
    assert_true(claim_with(&j, bytes.data, bytes.len));
    pl_buf_done(&bytes);
}

static void no_bytes_break_it(void **state)
{
    struct loopback *lb = *state;
    struct journey j = begin(lb, "community:1=a,b community:2= community:3");
    struct pl_buf bytes = {0};
    uint32_t x = 7;

    assert_int_equal(lb_subscribe(at_home(&j), "community:1", NULL), PL_OK);
    lb_settle(j.there);
    pl_buf_append(&bytes, lb_record(lb, j.id)->state.data, lb_record(lb, j.id)->state.len);
    lb_kill(lb, j.there);
    for (int i = 0; i < 5000; i++) {
        uint8_t was[2];
        size_t at[2];

        for (int k = 0; k < 2; k++) {
            x = x * 1664525 + 1013904223;
            at[k] = (x >> 8) % bytes.len;
            was[k] = bytes.data[at[k]];
            bytes.data[at[k]] ^= (uint8_t)(1u << (x >> 29));
        }
        (void)claim_with(&j, bytes.data, bytes.len);
        lb_script_of(lb)->open_count = 0;
        for (int k = 2; k-- > 0;) {
            bytes.data[at[k]] = was[k];
        }
    }
    pl_buf_done(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_kept, lb_stop)
        TEST(its_narrowing_goes_with_it),
        TEST(what_the_client_subscribed_goes_with_it),
        TEST(a_subscription_begins_where_it_began),
        TEST(widening_begins_where_it_began),
        TEST(its_position_and_its_token_go_with_it),
        TEST(a_queue_without_channels_goes_too),
        TEST(a_hole_goes_with_it),
        TEST(what_cannot_be_understood_is_no_queue),
        TEST(no_bytes_break_it),
    };

    return cmocka_run_group_tests_name("kept", tests, NULL, NULL);
}
