#include "server/core/channel_priv.h"

#include <string.h>

#include "server/core/hub_priv.h"
#include "tests/unit/core/loopback.h"

static struct pl_channel *channel(struct loopback *lb, const char *name)
{
    return pl_channel__get(lb->hub, lb_str(name));
}

/* Appends an event of this id, whose predecessor is the last one. */
static void append(struct pl_channel *c, int64_t id, size_t pad)
{
    struct pl_arena a = {0};
    struct pl_bus_event from = lb_bus_event(&(struct lb_event){.pad = pad}, &a);
    struct pl_event *e = pl_event__new(id, &from);

    pl_hub__account(c->hub, e);
    pl_channel__append(c, e, c->last_id);
    pl_hub__drop_event(c->hub, e);
    pl_arena_done(&a);
}

/* The invariant of channel_priv.h: every event with floor < id <= last_id, in order, each naming the one before. */
static void check_ring(const struct pl_channel *c, int64_t floor, int64_t last_id)
{
    int64_t prev = floor;

    assert_int_equal(c->floor, floor);
    assert_int_equal(c->last_id, last_id);
    for (uint32_t i = 0; i < c->ring_count; i++) {
        const struct pl_ring_entry *entry = pl_channel__entry(c, i);

        assert_int_equal(entry->prev, prev);
        assert_true(entry->event->id > prev);
        prev = entry->event->id;
    }
    assert_int_equal(prev, last_id);
}

static void a_name_is_one_channel(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "room:x");

    assert_ptr_equal(channel(lb, "room:x"), c);
    assert_ptr_not_equal(channel(lb, "room:y"), c);
    assert_ptr_equal(pl_channel__find(lb->hub, PL_LIT("room:x")), c);
    assert_null(pl_channel__find(lb->hub, PL_LIT("room:")));
    assert_true(pl_str_eq(pl_channel__name(c), PL_LIT("room:x")));
}

static void a_community_has_a_number_and_others_have_not(void **state)
{
    struct loopback *lb = *state;

    assert_int_equal(pl_channel__community(channel(lb, "community:42")), 42);
    assert_int_equal(pl_channel__community(channel(lb, "community:0")), 0);
    assert_int_equal(pl_channel__community(channel(lb, "community:")), -1);
    assert_int_equal(pl_channel__community(channel(lb, "community:x")), -1);
    assert_int_equal(pl_channel__community(channel(lb, "room:42")), -1);
    assert_true(pl_channel__community(channel(lb, "community:-5")) < 0);
}

static void the_ring_holds_what_came_in_order(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    check_ring(c, 0, 0);
    for (int64_t id = 10; id <= 1000; id += 10) {
        append(c, id, 0);
    }
    assert_int_equal(c->ring_count, 100);
    check_ring(c, 0, 1000);
    assert_int_equal(lb_stats(lb).ring_bytes, c->ring_bytes);
}

static void the_oldest_goes_when_there_are_too_many(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    lb->cfg->channel_ring_events = 3;
    for (int64_t id = 1; id <= 50; id++) {
        append(c, id, 0);
        check_ring(c, id > 3 ? id - 3 : 0, id);
    }
    assert_int_equal(c->ring_count, 3);
}

static void the_oldest_goes_when_there_are_too_many_bytes_but_one_stays(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    lb->cfg->channel_ring_bytes = 4096;
    append(c, 1, 1000);
    append(c, 2, 1000);
    check_ring(c, 0, 2);
    append(c, 3, 1000);
    append(c, 4, 1000);
    assert_true(c->ring_bytes <= 4096);
    assert_true(c->floor > 0);
    append(c, 5, 9000);
    check_ring(c, 4, 5);
}

static void a_smaller_bound_counts_from_the_next_event(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    for (int64_t id = 1; id <= 20; id++) {
        append(c, id, 0);
    }
    lb->cfg->channel_ring_events = 2;
    append(c, 21, 0);
    check_ring(c, 19, 21);
}

static void an_emptied_ring_has_its_floor_at_the_last_id(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    append(c, 5, 0);
    append(c, 9, 0);
    pl_channel__trim_one(c);
    check_ring(c, 5, 9);
    pl_channel__trim_one(c);
    check_ring(c, 9, 9);
    assert_int_equal(c->ring_bytes, 0);
    assert_int_equal(lb_stats(lb).ring_bytes, 0);
    append(c, 12, 0);
    check_ring(c, 9, 12);
}

static void a_position_is_found_in_a_ring_that_has_wrapped(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    assert_int_equal(pl_channel__after(c, 5), 0);
    lb->cfg->channel_ring_events = 5;
    for (int64_t id = 2; id <= 40; id += 2) {
        append(c, id, 0);
    }
    /* 32 34 36 38 40 */
    assert_int_equal(pl_channel__after(c, 0), 0);
    assert_int_equal(pl_channel__after(c, 31), 0);
    assert_int_equal(pl_channel__after(c, 32), 1);
    assert_int_equal(pl_channel__after(c, 35), 2);
    assert_int_equal(pl_channel__after(c, 39), 4);
    assert_int_equal(pl_channel__after(c, 40), 5);
    assert_int_equal(pl_channel__after(c, PL_INT_MAX), 5);
}

static void clearing_forgets_everything_up_to_the_floor(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    append(c, 5, 0);
    pl_channel__clear(c, 77);
    check_ring(c, 77, 77);
    assert_int_equal(lb_stats(lb).ring_bytes, 0);
}

static void a_channel_goes_with_its_last_grant_unless_it_has_history(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");

    c->refs = 2;
    pl_channel__unref(c);
    assert_non_null(pl_channel__find(lb->hub, PL_LIT("community:1")));
    pl_channel__unref(c);
    assert_null(pl_channel__find(lb->hub, PL_LIT("community:1")));
    c = channel(lb, "community:1");
    c->refs = 1;
    append(c, 5, 0);
    pl_channel__unref(c);
    assert_ptr_equal(pl_channel__find(lb->hub, PL_LIT("community:1")), c);
}

static void what_was_forgotten_is_remembered_to_have_been(void **state)
{
    struct loopback *lb = *state;

    append(channel(lb, "community:1"), 5, 0);
    pl_channel__free(channel(lb, "community:1"));
    check_ring(channel(lb, "community:1"), 5, 5);
    check_ring(channel(lb, "community:2"), 5, 5); /* who knows */
}

static void early_announcements_are_kept_up_to_a_bound(void **state)
{
    struct loopback *lb = *state;
    struct pl_channel *c = channel(lb, "community:1");
    struct pl_arena a = {0};
    struct pl_bus_event from = lb_bus_event(&(struct lb_event){0}, &a);

    lb->cfg->channel_ring_events = 10;
    for (int64_t id = 1; id <= 35; id++) {
        struct pl_event *e = pl_event__new(id, &from);

        pl_hub__account(lb->hub, e);
        pl_channel__keep_early(c, e, id - 1);
        pl_hub__drop_event(lb->hub, e);
        assert_in_range(c->early_count, 1, 10);
        assert_int_equal(c->early[c->early_count - 1].event->id, id);
        assert_int_equal(c->early[c->early_count - 1].prev, id - 1);
        for (uint32_t i = 1; i < c->early_count; i++) {
            assert_int_equal(c->early[i].prev, c->early[i - 1].event->id);
        }
    }
    pl_channel__drop_early(c);
    assert_int_equal(c->early_count, 0);
    assert_int_equal(lb_stats(lb).ring_bytes, 0);
    pl_arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(a_name_is_one_channel),
        TEST(a_community_has_a_number_and_others_have_not),
        TEST(the_ring_holds_what_came_in_order),
        TEST(the_oldest_goes_when_there_are_too_many),
        TEST(the_oldest_goes_when_there_are_too_many_bytes_but_one_stays),
        TEST(a_smaller_bound_counts_from_the_next_event),
        TEST(an_emptied_ring_has_its_floor_at_the_last_id),
        TEST(a_position_is_found_in_a_ring_that_has_wrapped),
        TEST(clearing_forgets_everything_up_to_the_floor),
        TEST(a_channel_goes_with_its_last_grant_unless_it_has_history),
        TEST(what_was_forgotten_is_remembered_to_have_been),
        TEST(early_announcements_are_kept_up_to_a_bound),
    };

    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
