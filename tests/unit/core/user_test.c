#include <stdio.h>
#include <string.h>

#include "tests/unit/core/loopback.h"

enum {
    TTL_MS = 120000,
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
    (void)lb_take(one);
    (void)lb_take(two);
    (void)lb_publish(lb);
    id = lb_publish(lb, .channels = "community:2");
    lb_expect_events(one, id);
    lb_expect_events(two, id);
}

static void an_update_without_queues_is_remembered(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l;
    int64_t before = lb_publish(lb, .channels = "community:2");

    (void)lb_update(lb, "7", "community:1 community:2=a");
    assert_string_equal(lb_communities(lb, "7"), "1,2");
    l = lb_poll(lb, lb_another_queue(lb, "7", before), -1);
    lb_expect_silence(l);
    (void)lb_publish(lb, .channels = "community:2", .topic = "b");
    lb_expect_silence(l);
}

static void an_update_renarrows_the_queues_there_are(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *l = lb_websocket(lb, lb_queue(lb, "7", "community:1=a community:2"), -1);
    int64_t id;

    (void)lb_update(lb, "7", "community:1 community:2=b");
    lb_expect_silence(l); /* the grants are as they were */
    id = lb_publish(lb, .topic = "x");
    lb_expect_events(l, id);
    (void)lb_publish(lb, .channels = "community:2", .topic = "x");
    id = lb_publish(lb, .channels = "community:2", .topic = "b");
    lb_expect_events(l, id);
    (void)lb_update(lb, "7", "community:1 community:2"); /* says nothing of narrowing */
    (void)lb_publish(lb, .channels = "community:2", .topic = "x");
    lb_expect_silence(l);
    (void)lb_update(lb, "7", "!community:1 community:2");
    id = lb_publish(lb, .channels = "community:2", .topic = "x");
    lb_expect_events(l, id);
}

static void an_update_keeps_what_is_pending_of_a_topic_it_keeps(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "7", "community:1=a,b");
    struct lb_link *l = lb_websocket(lb, q, -1);
    int64_t a;
    int64_t c;

    l->refuse = true;
    a = lb_publish(lb, .topic = "a");
    (void)lb_publish(lb, .topic = "b");
    (void)lb_publish(lb, .topic = "c");
    (void)lb_update(lb, "7", "!community:1");
    (void)lb_update(lb, "7", "community:1=a,c");
    c = lb_publish(lb, .topic = "c");
    lb_take_again(l);
    lb_expect_events(l, a, c);
}

static void a_register_leaves_the_narrowing_of_other_queues(void **state)
{
    struct loopback *lb = *state;
    struct lb_link *first = lb_websocket(lb, lb_queue(lb, "7", "community:1=a"), -1);
    struct lb_link *second = lb_websocket(lb, lb_queue(lb, "7", "community:1=b"), -1);
    int64_t a = lb_publish(lb, .topic = "a");
    int64_t b = lb_publish(lb, .topic = "b");

    lb_expect_events(first, a);
    lb_expect_events(second, b);
}

static void a_register_reaches_back_and_an_update_does_not(void **state)
{
    struct loopback *lb = *state;
    int64_t start = lb_register(lb, "7", "community:1");
    int64_t two = lb_publish(lb, .channels = "community:2");

    (void)lb_publish(lb, .channels = "community:3");
    (void)lb_register(lb, "7", "community:1 community:2");
    (void)lb_update(lb, "7", "community:1 community:2 community:3");
    lb_expect_events(lb_poll(lb, lb_another_queue(lb, "7", start), -1), two);
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
    (void)lb_publish(lb, .channels = "community:1 community:99");
    (void)lb_register(lb, "8", "community:1");
    lb_pass(lb, 30000);
    (void)lb_register(lb, "7", "community:1 community:99");
    mine = lb_publish(lb);
    lb_expect_events(lb_poll(lb, q, start), mine);
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
    id = lb_publish(lb);
    assert_int_equal(lb_claims(lb, "7", "community:1", iat, false), PL_OK);
    l = lb_websocket(lb, q, -1);
    lb_expect_events(l, id);
    assert_int_equal(lb_claims(lb, "7", "community:1", iat, false), PL_OK);
    lb_expect_silence(l);
}

static void claims_reach_back_at_hello_and_not_at_refresh(void **state)
{
    struct loopback *lb = *state;
    int64_t start = lb_publish(lb, .channels = "room:x");
    int64_t one = lb_publish(lb);
    struct pl_queue *q = NULL;
    struct lb_link *l;
    int64_t two;

    (void)lb_publish(lb, .channels = "community:2");
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, start, &q), PL_OK);
    assert_int_equal(lb_claims(lb, "7", "community:1 community:2", lb->unix_ms + 1, false), PL_OK);
    two = lb_publish(lb, .channels = "community:2");
    l = lb_websocket(lb, q, -1);
    lb_expect_events(l, one, two);
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
    assert_string_equal(lb_member(lb_take(l), "communities"), "[1,2]");
}

static void a_grant_of_claims_taken_and_given_again_begins_anew(void **state)
{
    struct loopback *lb = *state;
    int64_t start = lb_publish(lb, .channels = "room:x");
    struct pl_queue *q = NULL;
    int64_t mine;

    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, start, &q), PL_OK);
    assert_int_equal(lb_claims(lb, "7", "", lb->unix_ms + 1, true), PL_OK);
    (void)lb_publish(lb);
    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms + 2, true), PL_OK);
    mine = lb_publish(lb);
    lb_expect_events(lb_poll(lb, q, start), mine);
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
    int64_t id = lb_publish(lb, .channels = "user:7");
    int64_t both;

    lb_expect_events(l, id);
    both = lb_publish(lb, .channels = "community:1 user:7");
    lb_expect_events(l, both);
    lb_expect_events(other, both);
    (void)lb_update(lb, "7", "community:2"); /* nobody gave it, nobody takes it */
    (void)lb_take(l);
    id = lb_publish(lb, .channels = "user:7");
    lb_expect_events(l, id);
    lb_expect_silence(other);
}

static void who_comes_later_finds_what_the_own_channel_holds(void **state)
{
    struct loopback *lb = *state;
    int64_t start = lb_publish(lb);
    int64_t id = lb_publish(lb, .channels = "user:7");

    lb_expect_events(lb_poll(lb, lb_queue_at(lb, "7", "community:2", start), -1), id);
}

static void a_linkless_queue_has_its_own_channel_s_events_waiting(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = lb_queue(lb, "ann", "community:1");
    int64_t id = lb_publish(lb, .channels = "user:ann");

    lb_expect_events(lb_poll(lb, q, -1), id);
}

/* ---- how long records are kept ---- */

static void a_record_goes_after_its_queues_and_the_ttl(void **state)
{
    struct loopback *lb = *state;
    struct pl_queue *q = NULL;

    assert_int_equal(lb_claims(lb, "7", "community:1", lb->unix_ms, true), PL_OK);
    assert_int_equal(pl_queue_new(lb->hub, lb_user(lb, "7"), NULL, 0, -1, &q), PL_OK);
    (void)lb_websocket(lb, q, -1);
    lb_pass(lb, 5 * TTL_MS);
    assert_non_null(lb_user(lb, "7"));
    pl_queue_end(q, PL_OK);
    lb_pass(lb, TTL_MS - 2000);
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
        TEST(a_table_full_of_users_with_queues_refuses),
        TEST(what_there_was_no_room_to_remember_is_not_undone_by_a_token),
    };

    return cmocka_run_group_tests_name("user", tests, NULL, NULL);
}
