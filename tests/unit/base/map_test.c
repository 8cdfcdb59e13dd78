#include "server/base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/list.h"

enum {
    MANY = 5000
};

struct item {
    struct pl_map_node node;
    uint32_t key;
    unsigned seen;
};

static struct item items[MANY];

static bool item_has_key(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct item *item = (const struct item *)(const void *)node;

    return len == sizeof(item->key) && memcmp(&item->key, key, len) == 0;
}

static void fill(struct pl_map *m, uint32_t count)
{
    memset(items, 0, sizeof(items));
    pl_map_init(m, item_has_key);
    for (uint32_t i = 0; i < count; i++) {
        items[i].key = i;
        pl_map_insert(m, &items[i].node, &items[i].key, sizeof(items[i].key));
    }
}

static struct pl_map_node *find(const struct pl_map *m, uint32_t key)
{
    return pl_map_find(m, &key, sizeof(key));
}

static void an_empty_map_holds_no_memory_and_finds_nothing(void **state)
{
    struct pl_map m;

    (void)state;
    pl_map_init(&m, item_has_key);
    assert_null(find(&m, 1));
    assert_null(pl_map_first(&m));
    assert_null(m.buckets);
    pl_map_done(&m);
}

static void finds_every_key_and_no_other(void **state)
{
    struct pl_map m;

    (void)state;
    fill(&m, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ptr_equal(find(&m, i), &items[i].node);
    }
    assert_null(find(&m, MANY));
    assert_null(pl_map_find(&m, "", 0));
    assert_int_equal(m.count, MANY);
    pl_map_done(&m);
}

static void keeps_the_load_at_or_below_one(void **state)
{
    struct pl_map m;

    (void)state;
    fill(&m, MANY);
    assert_true(m.count <= m.bucket_count);
    assert_true(m.bucket_count < 2 * MANY);
    pl_map_done(&m);
}

static void forgets_what_is_removed_and_shrinks(void **state)
{
    struct pl_map m;
    uint32_t large;

    (void)state;
    fill(&m, MANY);
    large = m.bucket_count;
    for (uint32_t i = 0; i < MANY - 10; i++) {
        pl_map_remove(&m, &items[i].node);
        assert_null(find(&m, i));
    }
    pl_map_insert(&m, &items[0].node, &items[0].key, sizeof(items[0].key));
    assert_true(m.bucket_count < large / 16);
    assert_ptr_equal(find(&m, 0), &items[0].node);
    for (uint32_t i = MANY - 10; i < MANY; i++) {
        assert_ptr_equal(find(&m, i), &items[i].node);
    }
    pl_map_done(&m);
}

static void visits_each_node_once(void **state)
{
    struct pl_map m;

    (void)state;
    fill(&m, MANY);
    pl_map_foreach(it, &m) {
        pl_container_of(it, struct item, node)->seen++;
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(items[i].seen, 1);
    }
    pl_map_done(&m);
}

static void a_loop_may_remove_all_but_a_few(void **state)
{
    struct pl_map m;

    (void)state;
    fill(&m, MANY);
    pl_map_foreach(it, &m) {
        struct item *item = pl_container_of(it, struct item, node);

        item->seen++;
        if (item->key % 100 != 0) {
            pl_map_remove(&m, it);
        }
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(items[i].seen, 1);
        assert_true((find(&m, i) != NULL) == (i % 100 == 0));
    }
    pl_map_done(&m);
}

static void a_loop_may_remove_everything(void **state)
{
    struct pl_map m;

    (void)state;
    fill(&m, MANY);
    pl_map_foreach(it, &m) {
        pl_map_remove(&m, it);
    }
    assert_int_equal(m.count, 0);
    assert_null(m.buckets);
    pl_map_insert(&m, &items[7].node, &items[7].key, sizeof(items[7].key));
    assert_ptr_equal(find(&m, 7), &items[7].node);
    pl_map_done(&m);
}

static void the_hash_is_stable_and_depends_on_length(void **state)
{
    (void)state;
    assert_true(pl_map_hash("abc", 3) == pl_map_hash("abc", 3));
    assert_true(pl_map_hash("abc", 3) != pl_map_hash("abc", 2));
    assert_true(pl_map_hash("\0\0", 1) != pl_map_hash("\0\0", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_holds_no_memory_and_finds_nothing),
        cmocka_unit_test(finds_every_key_and_no_other),
        cmocka_unit_test(keeps_the_load_at_or_below_one),
        cmocka_unit_test(forgets_what_is_removed_and_shrinks),
        cmocka_unit_test(visits_each_node_once),
        cmocka_unit_test(a_loop_may_remove_all_but_a_few),
        cmocka_unit_test(a_loop_may_remove_everything),
        cmocka_unit_test(the_hash_is_stable_and_depends_on_length),
    };

    return cmocka_run_group_tests_name("base/map", tests, NULL, NULL);
}
