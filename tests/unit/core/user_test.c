#include <stdio.h>
#include <string.h>

#include "tests/unit/core/loopback.h"

static const int64_t ttl_ms = 120000;
enum {
    DAY_MS = 86400000
};

static const char *text_of_id(struct loopback *lb, const char *user)
{
    static struct pl_buf out;
    struct pl_writer w;

    out.len = 0;
    pl_writer_init(&w, PL_JSON, &out);
    pl_user_write_id(lb_user(lb, user), &w);
    return pl_buf_cstr(&out);
}

static const char *other_channels(struct loopback *lb, const char *user)
{
    static struct pl_buf out;
    struct pl_writer w;

    out.len = 0;
    pl_writer_init(&w, PL_JSON, &out);
    pl_user_write_other_channels(lb_user(lb, user), &w);
    return pl_buf_cstr(&out);
}

/* ---- what is told of a record ---- */

static void its_id_is_a_number_if_it_can_be(void **state)
{
    struct loopback *lb = *state;

    (void)lb_register(lb, "7", "community:1");
    (void)lb_register(lb, "ann", "community:1");
    (void)lb_register(lb, "007", "community:1");
    assert_string_equal(text_of_id(lb, "7"), "7");
    assert_string_equal(text_of_id(lb, "ann"), "\"ann\"");
    assert_string_equal(text_of_id(lb, "007"), "\"007\"");
    assert_true(pl_str_eq(pl_user_id(lb_user(lb, "007")), PL_LIT("007")));
    assert_null(lb_user(lb, "8"));
}

static void communities_are_told_by_number_and_other_channels_by_name(void **state)
{
    struct loopback *lb = *state;

    (void)lb_register(lb, "7", "community:10 community:9 community:100 room:b room:a");
    assert_string_equal(lb_communities(lb, "7"), "9,10,100");
    assert_int_equal(pl_user_other_channel_count(lb_user(lb, "7")), 2);
    assert_string_equal(other_channels(lb, "7"), "[\"room:a\",\"room:b\"]");
    assert_int_equal(pl_user_channel_count(lb_user(lb, "7")), 5);
    (void)lb_update(lb, "7", "community:9");
    assert_string_equal(lb_communities(lb, "7"), "9");
    assert_string_equal(other_channels(lb, "7"), "[]");
    assert_int_equal(pl_user_channel_count(lb_user(lb, "7")), 1);
}

static void who_is_granted_may_publish(void **state)
{
    struct loopback *lb = *state;

    (void)lb_register(lb, "7", "community:1 community:2");
    assert_true(pl_user_may_publish_to(lb_user(lb, "7"), PL_LIT("community:1")));
    assert_false(pl_user_may_publish_to(lb_user(lb, "7"), PL_LIT("community:3")));
    (void)lb_update(lb, "7", "community:2");
    assert_false(pl_user_may_publish_to(lb_user(lb, "7"), PL_LIT("community:1")));
}

/* ---- what a backend says ---- */

static void an_update_counts_at_once_for_every_queue(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *one = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *two = lb_websocket(lb, lb_another_queue(lb, "7", -1), -1);
    int64_t id;

    (void)lb_update(lb, "7", "community:2");
    (void)LB_TAKE(one);
    (void)LB_TAKE(two);
    (void)LB_PUBLISH(lb);
    id = LB_PUBLISH(lb, .channels = "community:2");
    LB_EXPECT_EVENTS(one, id);
    LB_EXPECT_EVENTS(two, id);
}

static void an_update_without_queues_is_remembered(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l;
    int64_t before = LB_PUBLISH(lb, .channels = "community:2");

    (void)lb_update(lb, "7", "community:1 community:2=a");
    assert_string_equal(lb_communities(lb, "7"), "1,2");
    l = lb_poll(lb, lb_another_queue(lb, "7", before), -1);
    LB_EXPECT_SILENCE(l);
    (void)LB_PUBLISH(lb, .channels = "community:2", .topic = "b");
    LB_EXPECT_SILENCE(l);
}

static void an_update_renarrows_the_queues_there_are(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1=a community:2"), -1);
    int64_t id;

    (void)lb_update(lb, "7", "community:1 community:2=b");
    LB_EXPECT_SILENCE(l); /* the grants are as they were */
    id = LB_PUBLISH(lb, .topic = "x");
    LB_EXPECT_EVENTS(l, id);
    (void)LB_PUBLISH(lb, .channels = "community:2", .topic = "x");
    id = LB_PUBLISH(lb, .channels = "community:2", .topic = "b");
    LB_EXPECT_EVENTS(l, id);
    (void)lb_update(lb, "7", "community:1 community:2"); /* says nothing of narrowing */
    (void)LB_PUBLISH(lb, .channels = "community:2", .topic = "x");
    LB_EXPECT_SILENCE(l);
    (void)lb_update(lb, "7", "!community:1 community:2");
    id = LB_PUBLISH(lb, .channels = "community:2", .topic = "x");
    LB_EXPECT_EVENTS(l, id);
}

static void an_update_keeps_what_is_pending_of_a_topic_it_keeps(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a,b");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t a;
    int64_t c;

    l->refuse = true;
    a = LB_PUBLISH(lb, .topic = "a");
    (void)LB_PUBLISH(lb, .topic = "b");
    (void)LB_PUBLISH(lb, .topic = "c");
    (void)lb_update(lb, "7", "!community:1");
    (void)lb_update(lb, "7", "community:1=a,c");
    c = LB_PUBLISH(lb, .topic = "c");
    lb_take_again(l);
    LB_EXPECT_EVENTS(l, a, c);
}

static void a_register_leaves_the_narrowing_of_other_queues(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *first = lb_websocket(lb, lb_queue(lb, "7", "community:1=a"), -1);
    struct lb_link *second = lb_websocket(lb, lb_queue(lb, "7", "community:1=b"), -1);
    int64_t a = LB_PUBLISH(lb, .topic = "a");
    int64_t b = LB_PUBLISH(lb, .topic = "b");

    LB_EXPECT_EVENTS(first, a);
    LB_EXPECT_EVENTS(second, b);
}

static void a_register_reaches_back_and_an_update_does_not(void **state)
{
    struct loopback *lb = *state;
    int64_t start = lb_register(lb, "7", "community:1");
    int64_t two = LB_PUBLISH(lb, .channels = "community:2");

    (void)LB_PUBLISH(lb, .channels = "community:3");
    (void)lb_register(lb, "7", "community:1 community:2");
    (void)lb_update(lb, "7", "community:1 community:2 community:3");
    LB_EXPECT_EVENTS(lb_poll(lb, lb_another_queue(lb, "7", start), -1), two);
}

static void an_older_version_never_overrides_a_newer(void **state)
{
    struct loopback *lb = *state;

    (void)lb_change(lb, PL_CHANGE_UPDATE, "7", "community:5", 5);
    (void)lb_change(lb, PL_CHANGE_UPDATE, "7", "community:4", 4);
    assert_string_equal(lb_communities(lb, "7"), "5");
    (void)lb_change(lb, PL_CHANGE_REGISTER, "7", "community:4", 4);
    assert_string_equal(lb_communities(lb, "7"), "5");
    (void)lb_change(lb, PL_CHANGE_REGISTER, "7", "community:5 community:6", 5);
    assert_string_equal(lb_communities(lb, "7"), "5,6");
    (void)lb_change(lb, PL_CHANGE_UPDATE, "7", "community:7", 6);
    assert_string_equal(lb_communities(lb, "7"), "7");
    lb_pass(lb, 3600000);
    (void)lb_change(lb, PL_CHANGE_UPDATE, "7", "community:4", 5);
    assert_string_equal(lb_communities(lb, "7"), "7");
    (void)lb_change(lb, PL_CHANGE_UPDATE, "7", "community:1", -1); /* says nothing of versions */
    assert_string_equal(lb_communities(lb, "7"), "1");
}

static void an_update_outranks_a_register_for_30_seconds(void **state)
{
    struct loopback *lb = *state;

    (void)lb_update(lb, "7", "community:1");
    (void)lb_register(lb, "7", "community:1 community:2");
    assert_string_equal(lb_communities(lb, "7"), "1");
    lb_pass(lb, 29999);
    (void)lb_register(lb, "7", "community:1 community:2");
    assert_string_equal(lb_communities(lb, "7"), "1");
    (void)lb_update(lb, "7", "community:3");
    assert_string_equal(lb_communities(lb, "7"), "3");
    lb_pass(lb, 30000);
    (void)lb_register(lb, "7", "community:1 community:2");
    assert_string_equal(lb_communities(lb, "7"), "1,2");
    (void)lb_register(lb, "7", "community:9");
    assert_string_equal(lb_communities(lb, "7"), "9");
}

static void grants_that_were_taken_do_not_pile_up(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:0");
    int64_t start = pl_queue_position(q);
    int64_t mine;

    lb->cfg->limits_channels_per_user = 10;
    for (int i = 1; i <= 100; i++) {
        char membership[32];

        (void)snprintf(membership, sizeof(membership), "community:%d", i);
        (void)lb_update(lb, "7", membership);
    }
    assert_true(lb_stats(lb).channels <= 12);
    /* Given again, what lay between is denied, remembered or not. */
    (void)LB_PUBLISH(lb, .channels = "community:1 community:99");
    (void)lb_register(lb, "8", "community:1");
    lb_pass(lb, 30000);
    (void)lb_register(lb, "7", "community:1 community:99");
    mine = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), mine);
}

/* ---- tokens ---- */

static void claims_grant_where_no_backend_spoke(void **state)
{
    struct loopback *lb = *state;

    assert_int_equal(lb_claims(lb, "7", "community:1 community:2=a", lb->unix_ms, true), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "1,2");
}

static void a_token_older_than_the_backend_s_word_gives_identity_only(void **state)
{
    struct loopback *lb = *state;

    (void)lb_register(lb, "7", "community:1");
    assert_int_equal(lb_claims(lb, "7", "community:2", lb->unix_ms - 1, true), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "1");
    assert_int_equal(lb_claims(lb, "7", "community:2", -1, true), PL_OK); /* without an iat */
    assert_string_equal(lb_communities(lb, "7"), "1");
    assert_int_equal(lb_claims(lb, "7", "community:2", lb->unix_ms, true), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "2");
    lb_pass(lb, 1000);
    (void)lb_update(lb, "7", "community:3");
    assert_int_equal(lb_claims(lb, "7", "community:2", lb->unix_ms - 1000, false), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "3");
}

static void an_older_token_does_not_undo_a_newer(void **state)
{
    struct loopback *lb = *state;
    int64_t now = lb->unix_ms;

    assert_int_equal(lb_claims(lb, "7", "community:1", now, true), PL_OK);
    assert_int_equal(lb_claims(lb, "7", "community:2", now - 1000, true), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "1");
    assert_int_equal(lb_claims(lb, "7", "community:1 community:2", now, true), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "1,2");
    assert_int_equal(lb_claims(lb, "7", "community:3", now + 1000, true), PL_OK);
    assert_string_equal(lb_communities(lb, "7"), "3");
}

static void the_same_token_again_changes_nothing(void **state)
{
    struct loopback *lb = *state;
    int64_t iat = lb->unix_ms;
    struct pl_queue *q = NULL;
    struct lb_link *l;
    int64_t id;

    assert_int_equal(lb_claims(lb, "7", "community:1", iat, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, -1, &q), PL_OK);
    id = LB_PUBLISH(lb);
    assert_int_equal(lb_claims(lb, "7", "community:1", iat, false), PL_OK);
    l = lb_websocket(lb, q, -1);
    LB_EXPECT_EVENTS(l, id);
    assert_int_equal(lb_claims(lb, "7", "community:1", iat, false), PL_OK);
    LB_EXPECT_SILENCE(l);
}

static void claims_reach_back_at_hello_and_not_at_refresh(void **state)
{
    struct loopback *lb = *state;
    int64_t start = LB_PUBLISH(lb, .channels = "room:x");
    int64_t one = LB_PUBLISH(lb);
    struct pl_queue *q = NULL;
    struct lb_link *l;
    int64_t two;

    (void)LB_PUBLISH(lb, .channels = "community:2");
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, start, &q), PL_OK);
    assert_int_equal(lb_claims(lb, "7", "community:1 community:2", lb->unix_ms + 1, false), PL_OK);
    two = LB_PUBLISH(lb, .channels = "community:2");
    l = lb_websocket(lb, q, -1);
    LB_EXPECT_EVENTS(l, one, two);
}

static void a_refresh_tells_the_queue_what_changed(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = NULL;
    struct lb_link *l;

    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, -1, &q), PL_OK);
    l = lb_websocket(lb, q, -1);
    assert_int_equal(lb_claims(lb, "7", "community:1 community:2", lb->unix_ms, false), PL_OK);
    assert_string_equal(lb_member(LB_TAKE(l), "communities"), "[1,2]");
}

static void a_grant_of_claims_taken_and_given_again_begins_anew(void **state)
{
    struct loopback *lb = *state;
    int64_t start = LB_PUBLISH(lb, .channels = "room:x");
    struct pl_queue *q = NULL;
    int64_t mine;

    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, start, &q), PL_OK);
    assert_int_equal(lb_claims(lb, "7", "", lb->unix_ms + 1, true), PL_OK);
    (void)LB_PUBLISH(lb);
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms + 2, true), PL_OK);
    mine = LB_PUBLISH(lb);
    LB_EXPECT_EVENTS(lb_poll(lb, q, start), mine);
}

/* ---- disconnect ---- */

static void disconnect_ends_the_queues_and_refuses_older_tokens(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");
    struct lb_link *l = lb_websocket(lb, q, -1);
    const char *id = lb_queue_id(q);

    (void)lb_disconnect(lb, "7", 0);
    lb_expect_ended(l, PL_ERR_DISCONNECTED);
    assert_true(lb_is_gone(lb, id));
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms - 1, true), PL_ERR_DISCONNECTED);
    assert_int_equal(lb_claims(lb, "7", "community:1", -1, true), PL_ERR_DISCONNECTED);
    assert_false(pl_user_is_blocked(lb->hub, lb_user(lb, "7")));
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
}

static void a_block_refuses_every_token_until_it_ends(void **state)
{
    struct loopback *lb = *state;

    (void)lb_disconnect(lb, "7", 60000);
    assert_true(pl_user_is_blocked(lb->hub, lb_user(lb, "7")));
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms + 1000, true),
                     PL_ERR_DISCONNECTED);
    lb_pass(lb, 59999);
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_ERR_DISCONNECTED);
    lb_pass(lb, 1);
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
}

static void a_block_outlives_the_record_s_time(void **state)
{
    struct loopback *lb = *state;

    (void)lb_disconnect(lb, "7", 3 * (int64_t)DAY_MS);
    for (int i = 0; i < 60; i++) {
        lb_pass(lb, DAY_MS / 24);
    }
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_ERR_DISCONNECTED);
}

/* ---- the user's own channel ---- */

static void the_own_channel_is_granted_without_being_named(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1"), -1);
    struct lb_link *other = lb_websocket(lb, lb_queue(lb, "77", "community:1"), -1);
    int64_t id = LB_PUBLISH(lb, .channels = "user:7");
    int64_t both;

    LB_EXPECT_EVENTS(l, id);
    both = LB_PUBLISH(lb, .channels = "community:1 user:7");
    LB_EXPECT_EVENTS(l, both);
    LB_EXPECT_EVENTS(other, both);
    (void)lb_update(lb, "7", "community:2"); /* nobody gave it, nobody takes it */
    (void)LB_TAKE(l);
    id = LB_PUBLISH(lb, .channels = "user:7");
    LB_EXPECT_EVENTS(l, id);
    LB_EXPECT_SILENCE(other);
}

static void who_comes_later_finds_what_the_own_channel_holds(void **state)
{
    struct loopback *lb = *state;
    int64_t start = LB_PUBLISH(lb);
    int64_t id = LB_PUBLISH(lb, .channels = "user:7");

    LB_EXPECT_EVENTS(lb_poll(lb, lb_queue_at(lb, "7", "community:2", start), -1), id);
}

static void a_linkless_queue_has_its_own_channel_s_events_waiting(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "ann", "community:1");
    int64_t id = LB_PUBLISH(lb, .channels = "user:ann");

    LB_EXPECT_EVENTS(lb_poll(lb, q, -1), id);
}

/* ---- how long records are kept ---- */

static void a_record_goes_after_its_queues_and_the_ttl(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = NULL;

    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, -1, &q), PL_OK);
    (void)lb_websocket(lb, q, -1);
    lb_pass(lb, 5 * ttl_ms);
    assert_non_null(lb_user(lb, "7"));
    pl_queue_end(q, PL_OK);
    lb_pass(lb, ttl_ms - 2000);
    assert_non_null(lb_user(lb, "7"));
    lb_pass(lb, 3000);
    assert_null(lb_user(lb, "7"));
    assert_int_equal(lb_stats(lb).users, 0);
    assert_int_equal(lb_stats(lb).channels, 0);
}

static void what_a_backend_said_is_kept_as_long_as_a_token_lives(void **state)
{
    struct loopback *lb = *state;

    (void)lb_update(lb, "7", "community:1");
    (void)lb_disconnect(lb, "8", 0);
    lb_pass(lb, DAY_MS - 2000);
    assert_string_equal(lb_communities(lb, "7"), "1");
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms - DAY_MS, true),
                     PL_ERR_DISCONNECTED);
    lb_pass(lb, 4000);
    assert_null(lb_user(lb, "7"));
    assert_null(lb_user(lb, "8"));
}

static void a_full_table_forgets_the_one_idle_for_longest(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1");

    lb->cfg->limits_users = 3;
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms, true), PL_OK);
    lb_pass(lb, 1000);
    assert_int_equal(lb_claims(lb, "9", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(lb_claims(lb, "10", "community:1", lb->unix_ms, true), PL_OK);
    assert_null(lb_user(lb, "8"));
    assert_non_null(lb_user(lb, "7"));
    assert_non_null(lb_user(lb, "9"));
    assert_int_equal(lb_stats(lb).users, 3);
    (void)q;
}

static void what_a_backend_said_is_forgotten_last_and_not_silently(void **state)
{
    struct loopback *lb = *state;
    int64_t said = lb->unix_ms;

    lb->cfg->limits_users = 2;
    (void)lb_update(lb, "7", "community:1");
    lb_pass(lb, 1000);
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(lb_claims(lb, "9", "community:1", lb->unix_ms, true), PL_OK);
    assert_non_null(lb_user(lb, "7"));
    assert_null(lb_user(lb, "8"));
    (void)lb_another_queue(lb, "9", -1);
    assert_int_equal(lb_claims(lb, "10", "community:1", lb->unix_ms, true), PL_OK);
    assert_null(lb_user(lb, "7"));
    /* A token from before that word must not bring back what it took. */
    assert_int_equal(lb_claims(lb, "7", "community:2", said - 1, true), PL_ERR_TOKEN_EXPIRED);
    assert_null(lb_user(lb, "7"));
    assert_int_equal(lb_claims(lb, "7", "community:2", said, true), PL_OK);
}

static void a_block_is_not_forgotten_for_want_of_room(void **state)
{
    struct loopback *lb = *state;

    lb->cfg->limits_users = 2;
    (void)lb_disconnect(lb, "7", 600000);
    (void)lb_update(lb, "8", "community:1");
    assert_int_equal(lb_claims(lb, "9", "community:1", lb->unix_ms, true), PL_OK);
    assert_null(lb_user(lb, "8"));
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_ERR_DISCONNECTED);
    (void)lb_disconnect(lb, "9", 600000);
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms, true), PL_ERR_OVERLOADED);
}

static void a_table_full_of_users_with_queues_refuses(void **state)
{
    struct loopback *lb = *state;

    lb->cfg->limits_users = 1;
    (void)lb_queue(lb, "7", "community:1");
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms, true), PL_ERR_OVERLOADED);
    (void)lb_register(lb, "8", "community:1");
    assert_null(lb_user(lb, "8"));
}

static void what_there_was_no_room_to_remember_is_not_undone_by_a_token(void **state)
{
    struct loopback *lb = *state;

    lb->cfg->limits_users = 1;
    (void)lb_queue(lb, "7", "community:1");
    (void)lb_disconnect(lb, "8", 0);
    lb->cfg->limits_users = 10;
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms - 1, true),
                     PL_ERR_TOKEN_EXPIRED);
    assert_int_equal(lb_claims(lb, "8", "community:1", lb->unix_ms, true), PL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(its_id_is_a_number_if_it_can_be),
        TEST(communities_are_told_by_number_and_other_channels_by_name),
        TEST(who_is_granted_may_publish),
        TEST(an_update_counts_at_once_for_every_queue),
        TEST(an_update_without_queues_is_remembered),
        TEST(an_update_renarrows_the_queues_there_are),
        TEST(an_update_keeps_what_is_pending_of_a_topic_it_keeps),
        TEST(a_register_leaves_the_narrowing_of_other_queues),
        TEST(a_register_reaches_back_and_an_update_does_not),
        TEST(an_older_version_never_overrides_a_newer),
        TEST(an_update_outranks_a_register_for_30_seconds),
        TEST(grants_that_were_taken_do_not_pile_up),
        TEST(claims_grant_where_no_backend_spoke),
        TEST(a_token_older_than_the_backend_s_word_gives_identity_only),
        TEST(an_older_token_does_not_undo_a_newer),
        TEST(the_same_token_again_changes_nothing),
        TEST(claims_reach_back_at_hello_and_not_at_refresh),
        TEST(a_refresh_tells_the_queue_what_changed),
        TEST(a_grant_of_claims_taken_and_given_again_begins_anew),
        TEST(disconnect_ends_the_queues_and_refuses_older_tokens),
        TEST(a_block_refuses_every_token_until_it_ends),
        TEST(a_block_outlives_the_record_s_time),
        TEST(the_own_channel_is_granted_without_being_named),
        TEST(who_comes_later_finds_what_the_own_channel_holds),
        TEST(a_linkless_queue_has_its_own_channel_s_events_waiting),
        TEST(a_record_goes_after_its_queues_and_the_ttl),
        TEST(what_a_backend_said_is_kept_as_long_as_a_token_lives),
        TEST(a_full_table_forgets_the_one_idle_for_longest),
        TEST(what_a_backend_said_is_forgotten_last_and_not_silently),
        TEST(a_block_is_not_forgotten_for_want_of_room),
        TEST(a_table_full_of_users_with_queues_refuses),
        TEST(what_there_was_no_room_to_remember_is_not_undone_by_a_token),
    };

    return cmocka_run_group_tests_name("user", tests, NULL, NULL);
}
