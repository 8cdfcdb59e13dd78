#include "server/core/event_priv.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/core/loopback.h"

static struct pl_event *event_of(int64_t id, const struct lb_event *e)
{
    struct pl_arena a = {0};
    struct pl_bus_event from = lb_bus_event(e, &a);
    struct pl_event *event = pl_event__new(id, &from);

    pl_arena_done(&a); /* what it was made of is gone */
    return event;
}

static const char *payload(struct pl_event *e, enum pl_codec codec, struct pl_arena *a)
{
    struct pl_bytes p = pl_frame_payload(pl_event__frame(e, codec));
    const struct pl_value *v;

    assert_int_equal(pl_decode(codec, p.data, p.len, a, &v, NULL), 0);
    return lb_json(v);
}

static void an_integer_has_one_text(void **state)
{
    static const char *const others[] = {"",
                                         "-",
                                         "-0",
                                         "007",
                                         "00",
                                         "1.0",
                                         "1e3",
                                         "+1",
                                         " 1",
                                         "1 ",
                                         "x",
                                         "-x",
                                         "--1",
                                         "-01",
                                         "9007199254740992",
                                         "-9007199254740992",
                                         "99999999999999999"};
    static const struct {
        const char *text;
        int64_t number;
    } numbers[] = {{"0", 0},
                   {"7", 7},
                   {"-12", -12},
                   {"9007199254740991", PL_INT_MAX},
                   {"-9007199254740991", -PL_INT_MAX}};
    char text[24];

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        int64_t n = 99;

        assert_false(pl_user_number(lb_str(others[i]), &n));
        assert_int_equal(n, 99);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int64_t n = 99;

        assert_true(pl_user_number(lb_str(numbers[i].text), &n));
        assert_int_equal(n, numbers[i].number);
        assert_int_equal(pl_format_int(n, text), strlen(numbers[i].text));
        assert_string_equal(text, numbers[i].text);
    }
    assert_false(pl_user_number((struct pl_str){"1\0", 2}, &(int64_t){0}));
}

static void its_frame_is_a_message_with_just_this_event(void **state)
{
    static const char expected[] =
        "{\"op\":\"events\",\"events\":[{\"event_id\":42,\"type\":\"new_comment\",\"timestamp\":"
        "\"2026-11-20T10:30:00.000Z\",\"community_ids\":[],\"data\":{\"text\":\"xx\"}}],\"last_"
        "event_id\":42}";
    struct pl_event *e = event_of(42, &(struct lb_event){.pad = 2});
    struct pl_bytes json = pl_frame_payload(pl_event__frame(e, PL_JSON));
    struct pl_arena a = {0};

    (void)state;
    assert_int_equal(json.len, strlen(expected));
    assert_memory_equal(json.data, expected, json.len);
    assert_string_equal(payload(e, PL_MSGPACK, &a), expected);
    pl_arena_done(&a);
    pl_event__unref(e);
}

static void every_frame_is_made_once(void **state)
{
    struct pl_event *e = event_of(42, &(struct lb_event){0});

    (void)state;
    for (int codec = 0; codec < PL_CODEC_COUNT; codec++) {
        assert_ptr_equal(pl_event__frame(e, codec), pl_event__frame(e, codec));
        assert_int_equal(pl_frame_codec(pl_event__frame(e, codec)), codec);
    }
    pl_event__unref(e);
}

static void its_own_bytes_stand_inside_its_frame(void **state)
{
    struct pl_event *e = event_of(42, &(struct lb_event){.pad = 300});

    (void)state;
    for (int codec = 0; codec < PL_CODEC_COUNT; codec++) {
        struct pl_str bytes = pl_event__bytes(e, codec);
        struct pl_arena a = {0};
        const struct pl_value *v;

        assert_int_equal(pl_decode(codec, bytes.s, bytes.len, &a, &v, NULL), 0);
        assert_int_equal(pl_value_get(v, "event_id")->u.integer, 42);
        assert_int_equal(pl_value_get(pl_value_get(v, "data"), "text")->u.string.len, 300);
        pl_arena_done(&a);
    }
    pl_event__unref(e);
}

static void it_knows_whom_it_lists(void **state)
{
    struct pl_event *e = event_of(1, &(struct lb_event){.subscribers = "-3 10 7 ann bob 007 ann2"});

    (void)state;
    assert_true(e->has_subscribers);
    assert_true(pl_event__lists(e, PL_LIT("7"), true, 7));
    assert_true(pl_event__lists(e, PL_LIT("10"), true, 10));
    assert_true(pl_event__lists(e, PL_LIT("-3"), true, -3));
    assert_false(pl_event__lists(e, PL_LIT("8"), true, 8));
    assert_true(pl_event__lists(e, PL_LIT("ann"), false, 0));
    assert_true(pl_event__lists(e, PL_LIT("ann2"), false, 0));
    assert_true(pl_event__lists(e, PL_LIT("007"), false, 0));
    assert_false(pl_event__lists(e, PL_LIT("an"), false, 0));
    assert_false(pl_event__lists(e, PL_LIT("ann3"), false, 0));
    pl_event__unref(e);
}

static void nobody_is_not_everybody(void **state)
{
    struct pl_event *nobody = event_of(1, &(struct lb_event){.subscribers = ""});
    struct pl_event *everybody = event_of(1, &(struct lb_event){0});

    (void)state;
    assert_true(nobody->has_subscribers);
    assert_false(pl_event__lists(nobody, PL_LIT("7"), true, 7));
    assert_false(pl_event__lists(nobody, PL_LIT("ann"), false, 0));
    assert_false(everybody->has_subscribers);
    pl_event__unref(nobody);
    pl_event__unref(everybody);
}

static void it_keeps_copies_of_its_routing(void **state)
{
    struct pl_event *e = event_of(1, &(struct lb_event){
                                         .topic = "789",
                                         .exclude_user = "ann",
                                         .exclude_queue = "00112233445566778899aabbccddeeff",
                                     });
    static const uint8_t queue[] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                    0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

    (void)state;
    assert_true(pl_str_eq(e->topic, PL_LIT("789")));
    assert_true(e->topic_hash != 0);
    assert_true(pl_str_eq(e->exclude_user, PL_LIT("ann")));
    assert_true(e->has_exclude_queue);
    assert_memory_equal(e->exclude_queue, queue, sizeof(queue));
    pl_event__unref(e);
}

static void what_is_no_queue_id_excludes_none(void **state)
{
    static const char *const ids[] = {"", "0011", "00112233445566778899aabbccddeefg",
                                      "00112233445566778899AABBCCDDEEFF",
                                      "00112233445566778899aabbccddeeff0"};

    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct pl_event *e = event_of(1, &(struct lb_event){.exclude_queue = ids[i]});

        assert_false(e->has_exclude_queue);
        assert_int_equal(e->topic_hash, 0);
        pl_event__unref(e);
    }
}

static void its_memory_grows_with_its_forms(void **state)
{
    struct pl_event *e = event_of(1, &(struct lb_event){.pad = 3000, .subscribers = "7 ann"});
    size_t json = pl_event__memory(e);

    (void)state;
    assert_true(json > 3000);
    assert_int_equal(e->ring_bytes, json);
    (void)pl_event__frame(e, PL_MSGPACK);
    assert_true(pl_event__memory(e) > json + 3000);
    assert_int_equal(e->ring_bytes, json);
    pl_event__unref(e);
}

static void the_last_reference_frees_it_and_its_frames_outlive_it(void **state)
{
    struct pl_event *e = event_of(1, &(struct lb_event){0});
    struct pl_frame *f = pl_frame_ref(pl_event__frame(e, PL_JSON));

    (void)state;
    assert_ptr_equal(pl_event__ref(e), e);
    pl_event__unref(e);
    assert_int_equal(e->id, 1);
    pl_event__unref(e);
    assert_true(pl_frame_payload(f).len > 0);
    pl_frame_unref(f);
    pl_event__unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_integer_has_one_text),
        cmocka_unit_test(its_frame_is_a_message_with_just_this_event),
        cmocka_unit_test(every_frame_is_made_once),
        cmocka_unit_test(its_own_bytes_stand_inside_its_frame),
        cmocka_unit_test(it_knows_whom_it_lists),
        cmocka_unit_test(nobody_is_not_everybody),
        cmocka_unit_test(it_keeps_copies_of_its_routing),
        cmocka_unit_test(what_is_no_queue_id_excludes_none),
        cmocka_unit_test(its_memory_grows_with_its_forms),
        cmocka_unit_test(the_last_reference_frees_it_and_its_frames_outlive_it),
    };

    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
