#include "server/core/queue_priv.h"
#include "tests/unit/core/loopback_kept.h"

#include <stdlib.h>
#include <string.h>

/* What a node knows of user 7, as bytes. */
static void write_record(struct loopback *lb, struct pl_buf *out)
{
    struct pl_writer w;

    out->len = 0;
    pl_writer_init(&w, PL_MSGPACK, out);
    pl_user__write(lb_user(lb, "7"), &w);
}

static bool merge(struct loopback *lb, const void *bytes, size_t len)
{
    struct pl_arena a = {0};
    const struct pl_value *v;
    bool merged = pl_decode(PL_MSGPACK, bytes, len, &a, &v, NULL) == PL_OK &&
                  pl_user__merge(pl_user__get(lb->hub, lb_str("7")), v);

    pl_arena_done(&a);
    return merged;
}

static void bring(struct loopback *from, struct loopback *to)
{
    struct pl_buf out = {0};

    write_record(from, &out);
    assert_true(merge(to, out.data, out.len));
    pl_buf_done(&out);
}

static void expect_same(struct loopback *a, struct loopback *b)
{
    struct pl_buf x = {0};
    struct pl_buf y = {0};

    write_record(a, &x);
    write_record(b, &y);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    pl_buf_done(&x);
    pl_buf_done(&y);
}

/* Changes with ids of their own, not by the store: 1, 2, … */
static void apply(struct loopback *lb, int64_t id, const char *membership, int64_t version,
                  int64_t unix_ms)
{
    struct pl_arena a = {0};

    (void)pl_user__get(lb->hub, lb_str("7"));
    pl_user__apply_change(lb->hub, lb->unix_ms * 1024 + id,
                          &(struct pl_bus_change){
                              .kind = PL_CHANGE_UPDATE,
                              .user_id = lb_str("7"),
                              .membership = lb_membership(membership, &a),
                              .has_version = version >= 0,
                              .version = version,
                              .unix_ms = unix_ms,
                          });
    pl_arena_done(&a);
}

static void a_record_is_the_same_after_the_journey(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    (void)lb_register(lb, "7", "community:1 community:2=a,b community:3= room:x");
    (void)lb_update(lb, "7", "community:2=a,b community:3= room:x");
    (void)lb_claims(lb, "7", "community:2 community:4", lb->unix_ms + 1000, false);
    (void)lb_disconnect(lb, "7", 60000);
    bring(lb, other);
    expect_same(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2,4");
    assert_true(pl_user_is_blocked(other->hub, lb_user(other, "7")));
    assert_int_equal(lb_claims(other, "7", "community:1", lb->unix_ms - 1, true),
                     PL_ERR_DISCONNECTED);
    bring(lb, other);
    expect_same(lb, other);
}

static void the_own_channel_does_not_travel(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    (void)lb_kept_queue(lb, "7", "community:1");
    bring(lb, other);
    assert_int_equal(lb_stats(other).channels, 1);
    assert_int_equal(lb_stats(lb).channels, 2);
}

static void a_taken_grant_stays_taken(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);
    struct lb_link *l;
    int64_t before;
    int64_t again;

    (void)lb_register(lb, "7", "community:1");
    (void)lb_update(lb, "7", "community:2");
    bring(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2");
    before = lb_next_id(lb);
    lb_hear(other);
    again = lb_update(other, "7", "community:1");
    l = lb_websocket(other, lb_another_queue(other, "7", before - 1), -1);
    lb_settle(other);
    LB_EXPECT_SILENCE(l);
    assert_true(again > before);
    (void)LB_ANNOUNCE(other, lb_next_id(lb), 0);
    assert_int_equal(l->count, 1);
}

static void what_was_said_later_wins(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    (void)lb_claims(lb, "7", "community:1", lb->unix_ms - 5000, true);
    (void)lb_claims(other, "7", "community:2", lb->unix_ms - 4000, true);
    bring(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2");
    bring(other, lb);
    assert_string_equal(lb_communities(lb, "7"), "2");
}

static void a_newer_token_here_stands_against_an_older_change(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    apply(lb, 1, "community:1", -1, lb->unix_ms);
    (void)lb_claims(other, "7", "community:2", lb->unix_ms + 1000, true);
    bring(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2");
    assert_int_equal(lb_claims(other, "7", "community:3", lb->unix_ms - 1, true), PL_OK);
    assert_string_equal(lb_communities(other, "7"), "2"); /* older than the backend's word */
}

/* Nodes' clocks differ by some milliseconds; the order of changes is that of their ids. */
static void a_later_change_wins_whatever_the_clocks_say(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    apply(other, 1, "community:1", -1, lb->unix_ms + 20);
    apply(lb, 1, "community:1", -1, lb->unix_ms + 20);
    apply(lb, 2, "community:2", -1, lb->unix_ms + 10);
    assert_string_equal(lb_communities(lb, "7"), "2");
    bring(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2");
}

static void two_changes_in_one_millisecond_are_two(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    apply(other, 1, "community:1", 1, lb->unix_ms);
    apply(lb, 1, "community:1", 1, lb->unix_ms);
    apply(lb, 2, "community:2", 2, lb->unix_ms);
    bring(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2");
    apply(other, 3, "community:1", 1, lb->unix_ms + 5); /* an older version */
    assert_string_equal(lb_communities(other, "7"), "2");
}

static void an_older_record_changes_nothing(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);

    apply(lb, 1, "community:1", 1, lb->unix_ms);
    apply(other, 1, "community:1", 1, lb->unix_ms);
    apply(other, 2, "community:2", 2, lb->unix_ms + 10);
    bring(lb, other);
    assert_string_equal(lb_communities(other, "7"), "2");
    apply(other, 2, "community:3", 3, lb->unix_ms + 20); /* in it already */
    assert_string_equal(lb_communities(other, "7"), "2");
}

static void what_it_brings_counts_for_the_queues_here(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);
    struct lb_link *l = lb_websocket(other, lb_kept_queue(other, "7", "community:1"), -1);
    int64_t id;

    apply(lb, 5, "community:2", -1, lb->unix_ms + 1);
    bring(lb, other);
    assert_string_equal(lb_member(LB_TAKE(l), "communities"), "[2]");
    lb_settle(other);
    id = lb_next_id(other);
    (void)LB_ANNOUNCE(other, id, 0);
    (void)LB_ANNOUNCE(other, id + 1, 0, .channels = "community:2");
    LB_EXPECT_EVENTS(l, id + 1);
}

/* Half a record is none. */
static void what_cannot_be_understood_changes_nothing(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);
    struct pl_buf bytes = {0};
    struct pl_buf before = {0};
    struct pl_buf after = {0};

    (void)lb_register(lb, "7", "community:1 community:2=a,b room:x");
    (void)lb_claims(other, "7", "community:9", lb->unix_ms - 9000, true);
    write_record(lb, &bytes);
    write_record(other, &before);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(merge(other, bytes.data, len));
    }
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t was = bytes.data[i];

        bytes.data[i] = 0xc0; /* nil */
        if (!merge(other, bytes.data, bytes.len)) {
            write_record(other, &after);
            assert_int_equal(after.len, before.len);
            assert_memory_equal(after.data, before.data, after.len);
        } else {
            write_record(other, &before); /* it was in a name or a number */
        }
        bytes.data[i] = was;
    }
    pl_buf_done(&bytes);
    pl_buf_done(&before);
    pl_buf_done(&after);
}

static void no_bytes_break_it(void **state)
{
    struct loopback *lb = *state;
    struct loopback *other = lb_join(lb);
    struct pl_buf bytes = {0};
    uint32_t x = 1;

    (void)lb_kept_queue(other, "7", "community:1=a community:2 community:5");
    lb_hear(lb);
    (void)lb_register(lb, "7", "community:1 community:2=a,b room:x");
    write_record(lb, &bytes);
    for (int i = 0; i < 20000; i++) {
        uint8_t was[3];
        size_t at[3];

        for (int k = 0; k < 3; k++) {
            x = x * 1664525 + 1013904223;
            at[k] = (x >> 8) % bytes.len;
            was[k] = bytes.data[at[k]];
            bytes.data[at[k]] ^= (uint8_t)(1u << (x >> 29));
        }
        (void)merge(other, bytes.data, bytes.len);
        lb_script_of(other)->open_count = 0;
        for (int k = 3; k-- > 0;) {
            bytes.data[at[k]] = was[k];
        }
    }
    pl_buf_done(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_kept, lb_stop)
        TEST(a_record_is_the_same_after_the_journey),
        TEST(the_own_channel_does_not_travel),
        TEST(a_taken_grant_stays_taken),
        TEST(what_was_said_later_wins),
        TEST(a_newer_token_here_stands_against_an_older_change),
        TEST(a_later_change_wins_whatever_the_clocks_say),
        TEST(two_changes_in_one_millisecond_are_two),
        TEST(an_older_record_changes_nothing),
        TEST(what_it_brings_counts_for_the_queues_here),
        TEST(what_cannot_be_understood_changes_nothing),
        TEST(no_bytes_break_it),
    };

    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
