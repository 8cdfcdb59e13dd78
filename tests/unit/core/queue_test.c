#include <string.h>

#include "server/base/metrics.h"
#include "server/core/queue_priv.h"
#include "tests/unit/core/loopback.h"

static const int64_t ttl_ms = 120000;
static const int64_t tick_ms = PL_WHEEL_TICK_MS;

static struct pl_queue *with_token(struct loopback *lb, int64_t exp_ms)
{
    struct pl_queue *q = NULL;

    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, exp_ms, -1, &q), PL_OK);
    return q;
}

/* ---- identity ---- */

static void its_id_is_32_digits_and_finds_it(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct pl_queue *other = lb_another_queue(lb, "7", -1);
    const char *id = lb_queue_id(q);

    assert_int_equal(strlen(id), 32);
    assert_int_equal(strspn(id, "0123456789abcdef"), 32);
    assert_ptr_equal(pl_queue_find(lb->hub, lb_str(id)), q);
    assert_ptr_equal(pl_queue_find(lb->hub, lb_str(lb_queue_id(other))), other);
    assert_ptr_equal(pl_queue_user(q), lb_user(lb, "7"));
}

static void what_is_no_id_finds_nothing(void **state)
{
    struct loopback *lb = *state;
    char id[PL_QUEUE_ID_SIZE + 1] = "";

    pl_queue_id(lb_queue(lb, "7", "community:1"), id);
    assert_null(pl_queue_find(lb->hub, (struct pl_str){id, 31}));
    assert_null(pl_queue_find(lb->hub, (struct pl_str){id, 33}));
    assert_null(pl_queue_find(lb->hub, (struct pl_str){NULL, 0}));
    id[5] = id[5] == '0' ? '1' : '0';
    assert_null(pl_queue_find(lb->hub, lb_str(id)));
    id[5] = 'A';
    assert_null(pl_queue_find(lb->hub, lb_str(id)));
}

/* ---- life ---- */

static void it_ends_after_its_ttl_without_a_sign_of_life(void **state)
{
    struct loopback *lb = *state;
    const char *id = lb_queue_id(lb_queue(lb, "7", "community:1"));

    lb_pass(lb, ttl_ms - 1);
    assert_false(lb_is_gone(lb, id));
    lb_pass(lb, 1 + tick_ms);
    assert_true(lb_is_gone(lb, id));
    assert_int_equal(lb_stats(lb).queues, 0);
}

static void a_sign_of_life_gives_it_another_ttl(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    const char *id = lb_queue_id(q);

    for (int i = 0; i < 5; i++) {
        lb_pass(lb, ttl_ms - tick_ms);
        pl_queue_touch(q);
    }
    lb_pass(lb, ttl_ms - 1);
    assert_false(lb_is_gone(lb, id));
    lb_pass(lb, 1 + tick_ms);
    assert_true(lb_is_gone(lb, id));
}

static void a_link_keeps_it_alive_and_its_end_starts_the_ttl(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    const char *id = lb_queue_id(q);

    for (int i = 0; i < 10; i++) {
        lb_pass(lb, ttl_ms);
    }
    assert_false(lb_is_gone(lb, id));
    pl_link_detach(&l->base);
    pl_link_detach(&l->base);
    lb_pass(lb, ttl_ms - 1);
    assert_false(lb_is_gone(lb, id));
    lb_pass(lb, 1 + tick_ms);
    assert_true(lb_is_gone(lb, id));
    assert_false(l->ended);
}

static void an_answered_poll_is_a_sign_of_life(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    const char *id = lb_queue_id(q);

    for (int i = 0; i < 4; i++) {
        (void)lb_poll(lb, q, -1);
        lb_pass(lb, ttl_ms / 2);
        pl_queue_answer_empty(q);
        lb_pass(lb, ttl_ms - tick_ms);
        assert_false(lb_is_gone(lb, id));
    }
    lb_pass(lb, 2 * tick_ms);
    assert_true(lb_is_gone(lb, id));
}

static void a_shorter_ttl_counts_for_those_that_are_there(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    const char *id = lb_queue_id(q);

    pl_queue_touch(q);
    lb->cfg->queue_ttl = 10000;
    (void)lb_poll_once(lb, q, -1);
    lb_pass(lb, 10000 + tick_ms);
    assert_true(lb_is_gone(lb, id));
}

static void ending_it_ends_its_link_with_the_reason(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    const char *id = lb_queue_id(q);

    pl_queue_end(q, PL_OK);
    lb_expect_ended(l, PL_OK);
    assert_true(lb_is_gone(lb, id));
    (void)LB_PUBLISH(lb);
    LB_EXPECT_SILENCE(l);
}

static void a_user_s_queues_end_together(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_poll(lb, lb_another_queue(lb, "7", -1), -1);
    struct pl_queue *other = lb_queue(lb, "8", "community:1");

    (void)q;
    assert_int_equal(pl_user_queue_count(lb_user(lb, "7")), 2);
    assert_int_equal(pl_user_end_queues(lb_user(lb, "7"), PL_ERR_FORBIDDEN), 2);
    lb_expect_ended(l, PL_ERR_FORBIDDEN);
    assert_int_equal(pl_user_queue_count(lb_user(lb, "7")), 0);
    assert_int_equal(pl_user_end_queues(lb_user(lb, "7"), PL_ERR_FORBIDDEN), 0);
    assert_false(lb_is_gone(lb, lb_queue_id(other)));
}

/* ---- the token's end ---- */

static void at_the_token_s_end_the_link_ends_and_the_queue_stays(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = with_token(lb, lb->unix_ms + 30000);
    struct lb_link *l = lb_websocket(lb, q, -1);
    const char *id = lb_queue_id(q);

    lb_pass(lb, 29999);
    assert_false(l->ended);
    assert_false(pl_queue_token_expired(q));
    lb_pass(lb, 1 + tick_ms);
    lb_expect_ended(l, PL_ERR_TOKEN_EXPIRED);
    assert_true(pl_queue_token_expired(q));
    lb_pass(lb, ttl_ms - tick_ms - 1);
    assert_false(lb_is_gone(lb, id));
    lb_pass(lb, 1 + 2 * tick_ms);
    assert_true(lb_is_gone(lb, id));
}

static void a_newer_token_extends_it_and_an_older_does_not_shorten_it(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = with_token(lb, lb->unix_ms + 30000);
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t later = lb->unix_ms + 300000;

    pl_queue_extend_token(q, later);
    pl_queue_extend_token(q, lb->unix_ms + 1000);
    assert_int_equal(pl_queue_token_exp_ms(q), later);
    lb_pass(lb, 299000);
    assert_false(l->ended);
    lb_pass(lb, 1000 + tick_ms);
    lb_expect_ended(l, PL_ERR_TOKEN_EXPIRED);
}

static void a_queue_of_an_api_key_does_not_expire(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);

    pl_queue_extend_token(q, lb->unix_ms + 1000);
    assert_int_equal(pl_queue_token_exp_ms(q), 0);
    lb_pass(lb, 10 * ttl_ms);
    assert_false(pl_queue_token_expired(q));
    assert_false(l->ended);
}

static void a_poll_held_at_the_token_s_end_is_told(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = with_token(lb, lb->unix_ms + 30000);
    struct lb_link *l = lb_poll(lb, q, -1);

    lb_pass(lb, 30000 + tick_ms);
    lb_expect_ended(l, PL_ERR_TOKEN_EXPIRED);
    LB_EXPECT_SILENCE(l);
}

/* ---- one link ---- */

static void a_newer_link_replaces_the_older(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *poll = lb_poll(lb, q, -1);
    struct lb_link *socket = lb_websocket(lb, q, -1);
    struct lb_link *second;
    struct lb_link *third;
    int64_t id;

    lb_expect_ended(poll, PL_ERR_REPLACED);
    assert_int_equal(pl_queue_transport(q), PL_TRANSPORT_WEBSOCKET);
    second = lb_poll(lb, q, -1);
    lb_expect_ended(socket, PL_ERR_REPLACED);
    third = lb_poll(lb, q, -1);
    lb_expect_ended(second, PL_ERR_REPLACED);
    assert_int_equal(pl_queue_transport(q), PL_TRANSPORT_LONGPOLL);
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(third, id);
    assert_int_equal(pl_queue_transport(q), PL_TRANSPORT_NONE);
    LB_EXPECT_SILENCE(poll);
    LB_EXPECT_SILENCE(socket);
    LB_EXPECT_SILENCE(second);
}

static void a_replaced_link_that_goes_later_harms_nobody(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *old = lb_websocket(lb, q, -1);
    struct lb_link *new = lb_websocket(lb, q, -1);
    int64_t id;

    pl_link_detach(&old->base);
    id = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(new, id);
}

static void attaching_sends_nothing_by_itself(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t id = LB_PUBLISH(lb);
    struct lb_link *l = lb_link_new(lb, PL_TRANSPORT_WEBSOCKET, PL_JSON);

    pl_queue_attach(q, &l->base, id - 1);
    assert_int_equal(l->offered, 0);
    assert_int_equal(pl_queue_position(q), id - 1);
    pl_queue_writable(q);
    LB_EXPECT_EVENTS(l, id);
    assert_int_equal(pl_queue_position(q), id);
}

static void resumes_are_counted_by_from_and_to(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    static const enum pl_series series[] = {
        PL_S_RESUME_NONE_LONGPOLL, PL_S_RESUME_LONGPOLL_WEBSOCKET, PL_S_RESUME_WEBSOCKET_WEBSOCKET,
        PL_S_RESUME_WEBSOCKET_LONGPOLL, PL_S_RESUME_LONGPOLL_LONGPOLL};
    uint64_t before[5];

    for (int i = 0; i < 5; i++) {
        before[i] = pl_metric_values[series[i]];
    }
    (void)lb_poll(lb, q, -1);
    (void)lb_websocket(lb, q, -1);
    (void)lb_websocket(lb, q, -1);
    (void)lb_poll(lb, q, -1);
    (void)lb_poll(lb, q, -1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pl_metric_values[series[i]] - before[i], 1);
    }
}

/* ---- position ---- */

static void an_ack_only_goes_forward_and_not_beyond_what_there_was(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t start = pl_queue_acked(q);
    int64_t a = LB_PUBLISH(lb);
    int64_t b = LB_PUBLISH(lb);

    pl_queue_ack(q, a);
    assert_int_equal(pl_queue_acked(q), a);
    pl_queue_ack(q, start);
    assert_int_equal(pl_queue_acked(q), a);
    pl_queue_ack(q, b + 1);
    assert_int_equal(pl_queue_acked(q), a);
    pl_queue_ack(q, b);
    assert_int_equal(pl_queue_acked(q), b);
}

static void a_new_queue_starts_now_or_where_it_was_told(void **state)
{
    struct loopback *lb = *state;
    int64_t id = LB_PUBLISH(lb);
    struct pl_queue *now = lb_queue(lb, "7", "community:1");
    struct pl_queue *then = lb_another_queue(lb, "7", id);

    assert_int_equal(pl_queue_position(now), lb_stats(lb).applied);
    assert_int_equal(pl_queue_position(then), id);
    assert_int_equal(pl_queue_acked(then), id);
}

static void a_told_position_is_remembered_as_sent(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    int64_t id;

    (void)lb_websocket(lb, q, -1);
    id = LB_PUBLISH(lb, .channels = "community:2");
    assert_true(pl_queue_position(q) < id);
    assert_int_equal(pl_queue_tell_position(q), id);
    assert_int_equal(pl_queue_position(q), id);
}

static void an_empty_answer_is_for_polls_that_wait(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *socket = lb_websocket(lb, q, -1);
    struct lb_link *poll;

    pl_queue_answer_empty(q);
    LB_EXPECT_SILENCE(socket);
    poll = lb_poll(lb, q, -1);
    pl_queue_answer_empty(q);
    LB_EXPECT_NO_EVENTS(poll);
    assert_int_equal(poll->count, 1);
    assert_true(poll->spent);
    pl_queue_answer_empty(q); /* nobody waits */
}

/* ---- limits ---- */

static void there_are_only_so_many_queues(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = NULL;
    struct pl_user *u;

    lb->cfg->limits_queues = 2;
    (void)lb_queue(lb, "7", "community:1");
    (void)lb_queue(lb, "8", "community:1");
    (void)lb_register(lb, "9", "community:1");
    u = lb_user(lb, "9");
    assert_int_equal(pl_queue_new(lb->hub, u, NULL, 0, -1, &q), PL_ERR_OVERLOADED);
    assert_null(q);
    lb->cfg->limits_queues = 0;
    assert_int_equal(pl_queue_new(lb->hub, u, NULL, 0, -1, &q), PL_OK);
}

static void a_user_has_only_so_many_queues(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = NULL;
    struct pl_queue *first;

    lb->cfg->limits_queues_per_user = 2;
    first = lb_queue(lb, "7", "community:1");
    (void)lb_another_queue(lb, "7", -1);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, -1, &q), PL_ERR_RATE_LIMITED);
    assert_null(q);
    (void)lb_queue(lb, "8", "community:1");
    pl_queue_end(first, PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, -1, &q), PL_OK);
    lb->cfg->limits_queues_per_user = 0;
    (void)lb_another_queue(lb, "7", -1);
}

static void messages_and_publishes_have_rates_of_their_own(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct pl_queue *other = lb_another_queue(lb, "7", -1);

    lb->cfg->limits_messages_per_s = 5;
    lb->cfg->limits_publishes_per_s = 1;
    for (int i = 0; i < 10; i++) {
        assert_true(pl_queue_take(q, PL_USE_MESSAGES, 1));
    }
    assert_false(pl_queue_take(q, PL_USE_MESSAGES, 1));
    assert_true(pl_queue_take(q, PL_USE_PUBLISHES, 1));
    assert_true(pl_queue_take(q, PL_USE_PUBLISHES, 1));
    assert_false(pl_queue_take(q, PL_USE_PUBLISHES, 1));
    assert_true(pl_queue_take(other, PL_USE_PUBLISHES, 1));
    lb_pass(lb, 200);
    assert_true(pl_queue_take(q, PL_USE_MESSAGES, 1));
    assert_false(pl_queue_take(q, PL_USE_MESSAGES, 1));
    lb->cfg->limits_messages_per_s = 0;
    lb->cfg->limits_publishes_per_s = 0;
    assert_true(pl_queue_take(q, PL_USE_MESSAGES, 1));
    assert_true(pl_queue_take(q, PL_USE_PUBLISHES, 1));
}

static void bytes_have_a_burst_of_one_message_at_least(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");

    lb->cfg->limits_bytes_per_s = 1024;
    lb->cfg->limits_message_bytes = 4096;
    assert_true(pl_queue_take(q, PL_USE_BYTES, 4000));
    assert_false(pl_queue_take(q, PL_USE_BYTES, 200));
    assert_true(pl_queue_take(q, PL_USE_BYTES, 96));
    lb_pass(lb, 1000);
    assert_true(pl_queue_take(q, PL_USE_BYTES, 1024));
    assert_false(pl_queue_take(q, PL_USE_BYTES, 1));
}

static void queues_of_a_user_share_its_rates(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct pl_queue *other = lb_another_queue(lb, "7", -1);
    struct pl_queue *of_another = lb_queue(lb, "8", "community:1");
    const uint64_t refused = pl_metric_values[PL_S_LIMITED_USER_PUBLISHES];
    const uint64_t by_queue = pl_metric_values[PL_S_LIMITED_PUBLISHES];

    lb->cfg->limits_publishes_per_s = 2;
    lb->cfg->limits_user_publishes_per_s = 3;
    for (int i = 0; i < 4; i++) {
        assert_true(pl_queue_take(q, PL_USE_PUBLISHES, 1));
    }
    assert_false(pl_queue_take(q, PL_USE_PUBLISHES, 1)); /* its own are used up: not its user's */
    assert_true(pl_queue_take(other, PL_USE_PUBLISHES, 1));
    assert_true(pl_queue_take(other, PL_USE_PUBLISHES, 1));
    assert_false(pl_queue_take(other, PL_USE_PUBLISHES, 1));
    assert_int_equal(pl_metric_values[PL_S_LIMITED_USER_PUBLISHES] - refused, 1);
    assert_int_equal(pl_metric_values[PL_S_LIMITED_PUBLISHES] - by_queue, 1);
    assert_true(pl_queue_take(of_another, PL_USE_PUBLISHES, 1));
    pl_queue_end(q, PL_OK);
    q = lb_another_queue(lb, "7", -1);
    assert_false(pl_queue_take(q, PL_USE_PUBLISHES, 1));
    lb->cfg->limits_user_publishes_per_s = 0;
    assert_true(pl_queue_take(q, PL_USE_PUBLISHES, 1));
    assert_true(pl_queue_take(q, PL_USE_PUBLISHES, 1));
}

static void what_was_spent_is_forgotten_when_it_has_come_back(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");

    lb->cfg->limits_messages_per_s = 10;
    lb->cfg->limits_user_messages_per_s = 10;
    assert_null(q->spent);
    for (int i = 0; i < 20; i++) {
        assert_true(pl_queue_take(q, PL_USE_MESSAGES, 1));
    }
    assert_non_null(q->spent);
    assert_non_null(lb_user(lb, "7")->spent);
    lb_pass(lb, 1500);
    assert_non_null(q->spent);
    lb_pass(lb, 2000);
    assert_null(q->spent);
    assert_null(lb_user(lb, "7")->spent);
    assert_true(pl_queue_take(q, PL_USE_MESSAGES, 1));
    pl_queue_end(q, PL_OK);
    lb_pass(lb, 2000);
}

/* ---- narrowing by the client ---- */

static void only_what_is_granted_can_be_narrowed(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");

    (void)LB_PUBLISH(lb, .channels = "community:2");
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    assert_int_equal(lb_subscribe(q, "community:2", "a"), PL_ERR_FORBIDDEN);
    assert_int_equal(lb_subscribe(q, "community:2", NULL), PL_ERR_FORBIDDEN);
    assert_int_equal(lb_subscribe(q, "community:3", "a"), PL_ERR_FORBIDDEN);
    assert_int_equal(lb_unsubscribe(q, "community:2", NULL), PL_ERR_FORBIDDEN);
    (void)lb_update(lb, "7", "community:2");
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_ERR_FORBIDDEN);
}

static void topics_per_queue_is_of_all_its_channels(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1 community:2");

    lb->cfg->limits_topics_per_queue = 3;
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    assert_int_equal(lb_subscribe(q, "community:1", "b"), PL_OK);
    assert_int_equal(lb_subscribe(q, "community:2", "a"), PL_OK);
    assert_int_equal(lb_subscribe(q, "community:2", "b"), PL_ERR_TOO_BIG);
    assert_int_equal(lb_subscribe(q, "community:1", "c"), PL_ERR_TOO_BIG);
    assert_int_equal(lb_subscribe(q, "community:1", "a"), PL_OK);
    assert_int_equal(lb_unsubscribe(q, "community:1", "a"), PL_OK);
    assert_int_equal(lb_subscribe(q, "community:2", "b"), PL_OK);
}

static void a_refused_topic_leaves_all_of_the_channel(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a community:2");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t id;

    lb->cfg->limits_topics_per_queue = 1;
    assert_int_equal(lb_subscribe(q, "community:2", "b"), PL_ERR_TOO_BIG);
    id = LB_PUBLISH(lb, .channels = "community:2", .topic = "x");
    LB_EXPECT_EVENTS(l, id);
}

static void a_new_queue_is_narrowed_as_given_else_as_the_record_says(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *given = lb_websocket(lb, lb_queue(lb, "7", "community:1=a community:2"), -1);
    struct lb_link *usual = lb_websocket(lb, lb_another_queue(lb, "7", -1), -1);
    struct pl_arena a = {0};
    struct pl_queue *q = NULL;
    struct lb_link *whole;
    int64_t id;

    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"),
                                  lb_membership("!community:1 community:2", &a), 0, -1, &q),
                     PL_OK);
    pl_arena_done(&a);
    whole = lb_websocket(lb, q, -1);
    id = LB_PUBLISH(lb, .topic = "b");
    LB_EXPECT_SILENCE(given);
    LB_EXPECT_SILENCE(usual);
    LB_EXPECT_EVENTS(whole, id);
    id = LB_PUBLISH(lb, .topic = "a", .channels = "community:1");
    LB_EXPECT_EVENTS(given, id);
    LB_EXPECT_EVENTS(usual, id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(its_id_is_32_digits_and_finds_it),
        TEST(what_is_no_id_finds_nothing),
        TEST(it_ends_after_its_ttl_without_a_sign_of_life),
        TEST(a_sign_of_life_gives_it_another_ttl),
        TEST(a_link_keeps_it_alive_and_its_end_starts_the_ttl),
        TEST(an_answered_poll_is_a_sign_of_life),
        TEST(a_shorter_ttl_counts_for_those_that_are_there),
        TEST(ending_it_ends_its_link_with_the_reason),
        TEST(a_user_s_queues_end_together),
        TEST(at_the_token_s_end_the_link_ends_and_the_queue_stays),
        TEST(a_newer_token_extends_it_and_an_older_does_not_shorten_it),
        TEST(a_queue_of_an_api_key_does_not_expire),
        TEST(a_poll_held_at_the_token_s_end_is_told),
        TEST(a_newer_link_replaces_the_older),
        TEST(a_replaced_link_that_goes_later_harms_nobody),
        TEST(attaching_sends_nothing_by_itself),
        TEST(resumes_are_counted_by_from_and_to),
        TEST(an_ack_only_goes_forward_and_not_beyond_what_there_was),
        TEST(a_new_queue_starts_now_or_where_it_was_told),
        TEST(a_told_position_is_remembered_as_sent),
        TEST(an_empty_answer_is_for_polls_that_wait),
        TEST(there_are_only_so_many_queues),
        TEST(a_user_has_only_so_many_queues),
        TEST(messages_and_publishes_have_rates_of_their_own),
        TEST(bytes_have_a_burst_of_one_message_at_least),
        TEST(queues_of_a_user_share_its_rates),
        TEST(what_was_spent_is_forgotten_when_it_has_come_back),
        TEST(only_what_is_granted_can_be_narrowed),
        TEST(topics_per_queue_is_of_all_its_channels),
        TEST(a_refused_topic_leaves_all_of_the_channel),
        TEST(a_new_queue_is_narrowed_as_given_else_as_the_record_says),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
