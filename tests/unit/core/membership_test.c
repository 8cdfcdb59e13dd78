#include <stdio.h>
#include <stdlib.h>

#include "server/base/alloc.h"
#include "server/core/hub_priv.h"
#include "tests/unit/core/loopback.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum {
    LIMIT = 100
};

static struct pl_channel *channel(struct loopback *lb)
{
    return pl_channel__get(lb->hub, PL_LIT("community:1"));
}

static void join(struct pl_sub *s, struct pl_channel *c)
{
    *s = (struct pl_sub){.channel = c};
    pl_channel__join(s);
}

/* What a walk relies on: every array slot and every member points at a sub that points back. */
static void check_channel(const struct pl_channel *c)
{
    for (uint32_t i = 0; i < c->whole.count; i++) {
        assert_int_equal(c->whole.items[i]->index, i);
        assert_true(!pl_sub__is_narrowed(c->whole.items[i]));
    }
    for (uint32_t i = 0; i < c->narrowed.count; i++) {
        assert_int_equal(c->narrowed.items[i]->index, i);
        assert_true(pl_sub__is_narrowed(c->narrowed.items[i]));
    }
    pl_map_foreach(n, &c->topics) {
        const struct pl_topic *t = pl_container_of(n, struct pl_topic, node);

        assert_true(t->refs >= t->member_count);
        for (uint32_t i = 0; i < t->member_count; i++) {
            const struct pl_topic_member *m = &t->members[i];

            assert_int_equal(m->sub->narrowed->topics[m->slot].index, i);
            assert_ptr_equal(m->sub->narrowed->topics[m->slot].topic, t);
            assert_true(pl_sub__is_narrowed(m->sub));
        }
    }
}

static const char *members_of(const struct pl_channel *c, const struct pl_sub *subs,
                              const char *topic)
{
    static char text[64];
    const struct pl_topic *t = pl_channel__topic(c, lb_str(topic));
    char seen[16] = "";
    size_t n = 0;

    for (uint32_t i = 0; t != NULL && i < t->member_count; i++) {
        seen[t->members[i].sub - subs] = 1;
    }
    for (size_t i = 0; i < sizeof(seen); i++) {
        if (seen[i]) {
            text[n++] = (char)('0' + i);
        }
    }
    text[n] = '\0';
    return text;
}

static void add(struct pl_sub *s, const char *topic, int64_t since)
{
    assert_int_equal(pl_sub__add_topic(s, lb_str(topic), since, LIMIT), PL_OK);
}

static int64_t since_of(const struct pl_sub *s, const char *topic)
{
    for (uint32_t i = 0; i < pl_sub__topic_count(s); i++) {
        const struct pl_topic *t = s->narrowed->topics[i].topic;

        if (pl_str_eq((struct pl_str){t->name, t->len}, lb_str(topic))) {
            return s->narrowed->topics[i].since;
        }
    }
    return -1;
}

static void a_sub_is_in_one_of_the_two_arrays(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_sub s[3];

    for (size_t i = 0; i < COUNT(s); i++) {
        join(&s[i], c);
    }
    assert_int_equal(c->whole.count, 3);
    pl_sub__narrow(&s[0]);
    assert_int_equal(c->whole.count, 2);
    assert_int_equal(c->narrowed.count, 1);
    check_channel(c);
    pl_sub__narrow(&s[0]);
    assert_int_equal(c->narrowed.count, 1);
    pl_sub__widen(&s[0], 5);
    assert_int_equal(pl_sub__all_since(&s[0]), 5);
    pl_sub__widen(&s[0], 9);
    assert_int_equal(pl_sub__all_since(&s[0]), 5);
    check_channel(c);
    for (size_t i = 0; i < COUNT(s); i++) {
        pl_channel__leave(&s[i]);
        check_channel(c);
    }
    assert_int_equal(c->whole.count + c->narrowed.count, 0);
}

static void a_topic_knows_its_members(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_sub s[3];

    for (size_t i = 0; i < COUNT(s); i++) {
        join(&s[i], c);
        add(&s[i], "a", 0);
    }
    add(&s[1], "b", 0);
    assert_string_equal(members_of(c, s, "a"), "012");
    assert_string_equal(members_of(c, s, "b"), "1");
    pl_sub__remove_topic(&s[0], PL_LIT("a"));
    pl_sub__remove_topic(&s[0], PL_LIT("a"));
    pl_sub__remove_topic(&s[0], PL_LIT("never"));
    assert_string_equal(members_of(c, s, "a"), "12");
    check_channel(c);
    for (size_t i = 0; i < COUNT(s); i++) {
        pl_channel__leave(&s[i]);
    }
    assert_int_equal(c->topics.count, 0);
    assert_null(pl_channel__topic(c, PL_LIT("")));
}

static void a_topic_named_twice_is_one(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_sub s;

    join(&s, c);
    add(&s, "a", 3);
    add(&s, "b", 4);
    add(&s, "a", 9);
    assert_int_equal(pl_sub__topic_count(&s), 2);
    assert_int_equal(since_of(&s, "a"), 0); /* it was in the whole before */
    assert_int_equal(since_of(&s, "b"), 4);
    pl_channel__leave(&s);
}

static void there_are_only_so_many_topics(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_sub s;

    join(&s, c);
    assert_int_equal(pl_sub__add_topic(&s, PL_LIT("a"), 0, 0), PL_ERR_TOO_BIG);
    assert_int_equal(pl_sub__all_since(&s), 0); /* as it was */
    assert_int_equal(pl_sub__add_topic(&s, PL_LIT("a"), 0, 2), PL_OK);
    assert_int_equal(pl_sub__add_topic(&s, PL_LIT("b"), 0, 2), PL_OK);
    assert_int_equal(pl_sub__add_topic(&s, PL_LIT("c"), 0, 2), PL_ERR_TOO_BIG);
    assert_int_equal(pl_sub__add_topic(&s, PL_LIT("a"), 0, 2), PL_OK);
    assert_int_equal(pl_sub__topic_count(&s), 2);
    pl_channel__leave(&s);
}

static void from_all_to_a_topic_counts_from_where_all_did(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_sub s;

    join(&s, c);
    pl_sub__narrow(&s);
    add(&s, "old", 3);
    pl_sub__widen(&s, 7);
    assert_string_equal(members_of(c, &s, "old"), "");
    add(&s, "new", 9);
    assert_int_equal(since_of(&s, "new"), 7);
    assert_int_equal(since_of(&s, "old"), -1);
    pl_sub__widen(&s, 20);
    add(&s, "new", 25);
    assert_int_equal(since_of(&s, "new"), 7); /* it was in before, and stayed in */
    assert_string_equal(members_of(c, &s, "new"), "0");
    check_channel(c);
    pl_channel__leave(&s);
}

static void narrowing_to_a_set_keeps_adds_and_drops(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_str first[] = {PL_LIT("a"), PL_LIT("b"), PL_LIT("c")};
    struct pl_str second[] = {PL_LIT("b"), PL_LIT("d")};
    struct pl_sub s;

    join(&s, c);
    pl_sub__narrow_to(&s, first, 3, 5, LIMIT);
    assert_int_equal(since_of(&s, "a"), 0);
    pl_sub__narrow_to(&s, second, 2, 8, LIMIT);
    assert_int_equal(pl_sub__topic_count(&s), 2);
    assert_int_equal(since_of(&s, "b"), 0);
    assert_int_equal(since_of(&s, "d"), 8);
    assert_string_equal(members_of(c, &s, "a"), "");
    pl_sub__narrow_to(&s, NULL, 0, 9, LIMIT);
    assert_int_equal(pl_sub__topic_count(&s), 0);
    assert_int_equal(pl_sub__all_since(&s), PL_NARROWED);
    pl_sub__narrow_to(&s, first, 3, 9, 2);
    assert_int_equal(pl_sub__topic_count(&s), 2); /* as far as the limit goes */
    check_channel(c);
    pl_channel__leave(&s);
}

static void a_sub_may_move_in_memory(void **state)
{
    struct pl_channel *c = channel(*state);
    struct pl_sub from[2];
    struct pl_sub to[2];

    join(&from[0], c);
    join(&from[1], c);
    add(&from[1], "a", 0);
    add(&from[1], "b", 0);
    for (size_t i = 0; i < COUNT(to); i++) {
        to[i] = from[i];
        pl_channel__moved(&to[i]);
    }
    assert_ptr_equal(c->whole.items[0], &to[0]);
    assert_ptr_equal(c->narrowed.items[0], &to[1]);
    assert_string_equal(members_of(c, to, "b"), "1");
    check_channel(c);
    pl_channel__leave(&to[0]);
    pl_channel__leave(&to[1]);
}

static void any_order_of_changes_leaves_it_consistent(void **state)
{
    struct pl_channel *c = channel(*state);
    static const char *const names[] = {"a", "b", "c", "d"};
    struct pl_sub s[8];
    uint32_t x = 12345;

    for (size_t i = 0; i < COUNT(s); i++) {
        join(&s[i], c);
    }
    for (int step = 0; step < 4000; step++) {
        struct pl_sub *one;
        struct pl_str topic;

        x = x * 1664525 + 1013904223;
        one = &s[x >> 16 & 7];
        topic = lb_str(names[x >> 20 & 3]);
        switch (x >> 24 & 7) {
        case 0:
            pl_sub__widen(one, step);
            break;
        case 1:
            pl_sub__narrow(one);
            break;
        case 2:
        case 3:
            pl_sub__remove_topic(one, topic);
            break;
        case 4:
            pl_channel__leave(one);
            join(one, c);
            break;
        case 5:
            pl_sub__narrow_to(one, &topic, 1, step, LIMIT);
            break;
        default:
            (void)pl_sub__add_topic(one, topic, step, LIMIT);
        }
        check_channel(c);
        assert_int_equal(c->whole.count + c->narrowed.count, COUNT(s));
    }
    for (size_t i = 0; i < COUNT(s); i++) {
        pl_channel__leave(&s[i]);
    }
    assert_int_equal(c->topics.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, lb_start_memory, lb_stop)
        TEST(a_sub_is_in_one_of_the_two_arrays),
        TEST(a_topic_knows_its_members),
        TEST(a_topic_named_twice_is_one),
        TEST(there_are_only_so_many_topics),
        TEST(from_all_to_a_topic_counts_from_where_all_did),
        TEST(narrowing_to_a_set_keeps_adds_and_drops),
        TEST(a_sub_may_move_in_memory),
        TEST(any_order_of_changes_leaves_it_consistent),
    };

    return cmocka_run_group_tests_name("membership", tests, NULL, NULL);
}
