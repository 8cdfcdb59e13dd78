#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/protocol/requests.h"

struct row {
    const char *json;
    int status;
    const char *text;
};

static void a_registration_is_read(void **state)
{
    struct pl_register r;

    (void)state;
    assert_int_equal(
        pl_parse_register(value("{\"user_id\":\"7\",\"community_ids\":[42],\"version\":3,"
                                "\"last_event_id\":99,\"queue_id\":\"abc\",\"x\":1}"),
                          &arena, &limits, &r, &why),
        0);
    assert_str(r.user_id, "7");
    assert_str(r.membership.channels[0], "community:42");
    assert_true(r.has_version);
    assert_int_equal(r.version, 3);
    assert_true(r.has_last_event_id);
    assert_int_equal(r.last_event_id, 99);
    assert_str(r.queue_id, "abc");
}

static void what_a_registration_may_leave_out_is_absent(void **state)
{
    struct pl_register r;

    (void)state;
    assert_int_equal(
        pl_parse_register(value("{\"user_id\":7,\"community_ids\":[],\"version\":null}"), &arena,
                          &limits, &r, &why),
        0);
    assert_str(r.user_id, "7");
    assert_false(r.has_version);
    assert_false(r.has_last_event_id);
    assert_int_equal(r.queue_id.len, 0);
}

static void a_wrong_registration_is_refused_with_what_is_accepted(void **state)
{
    static const char user[] =
        "user_id: an integer, or a string of 1 to 128 bytes without control characters";
    const struct row rows[] = {
        {"[]", PL_ERR_INVALID, "the body: a map"},
        {"{\"community_ids\":[1]}", PL_ERR_INVALID, user},
        {"{\"user_id\":null,\"community_ids\":[1]}", PL_ERR_INVALID, user},
        {"{\"user_id\":1.5,\"community_ids\":[1]}", PL_ERR_INVALID, user},
        {"{\"user_id\":7}", PL_ERR_NO_CHANNEL,
         "community_ids: an array of integers, or channels: an array of names"},
        {"{\"user_id\":7,\"community_ids\":[\"1\"]}", PL_ERR_INVALID,
         "community_ids: an array of integers from 1 to 2^53-1"},
        {"{\"user_id\":7,\"community_ids\":[1],\"version\":-1}", PL_ERR_INVALID,
         "version: an integer from 0 to 2^53-1"},
        {"{\"user_id\":7,\"community_ids\":[1],\"last_event_id\":\"5\"}", PL_ERR_INVALID,
         "last_event_id: an integer from 0 to 2^53-1"},
        {"{\"user_id\":7,\"community_ids\":[1],\"queue_id\":\"\"}", PL_ERR_INVALID,
         "queue_id: a string of 1 to 128 bytes without control characters"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pl_register r = {.version = 77};

        assert_int_equal(pl_parse_register(value(rows[i].json), &arena, &limits, &r, &why),
                         rows[i].status);
        assert_string_equal(why.text, rows[i].text);
        assert_int_equal(r.version, 77);
    }
}

static void a_disconnect_names_a_user_or_a_queue(void **state)
{
    struct pl_disconnect d;

    (void)state;
    assert_int_equal(pl_parse_disconnect(value("{\"user_id\":7,\"block_s\":60}"), &arena, &d, &why),
                     0);
    assert_str(d.user_id, "7");
    assert_int_equal(d.queue_id.len, 0);
    assert_int_equal(d.block_s, 60);
    assert_int_equal(pl_parse_disconnect(value("{\"queue_id\":\"q\"}"), &arena, &d, &why), 0);
    assert_str(d.queue_id, "q");
    assert_int_equal(d.user_id.len, 0);
    assert_int_equal(d.block_s, 0);
}

static void a_wrong_disconnect_is_refused_with_what_is_accepted(void **state)
{
    const struct row rows[] = {
        {"7", PL_ERR_INVALID, "the body: a map"},
        {"{}", PL_ERR_INVALID, "user_id or queue_id: exactly one of them"},
        {"{\"user_id\":7,\"queue_id\":\"q\"}", PL_ERR_INVALID,
         "user_id or queue_id: exactly one of them"},
        {"{\"user_id\":7,\"block_s\":-1}", PL_ERR_INVALID, "block_s: an integer from 0 to 2^53-1"},
        {"{\"queue_id\":7}", PL_ERR_INVALID,
         "queue_id: a string of 1 to 128 bytes without control characters"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pl_disconnect d;

        assert_int_equal(pl_parse_disconnect(value(rows[i].json), &arena, &d, &why),
                         rows[i].status);
        assert_string_equal(why.text, rows[i].text);
    }
}

static struct pl_message message(const char *json)
{
    struct pl_message m;

    assert_int_equal(pl_parse_message(value(json), &arena, &limits, &m, &why), 0);
    return m;
}

static void every_op_is_known(void **state)
{
    const struct {
        const char *json;
        enum pl_op op;
    } rows[] = {
        {"{\"op\":\"hello\"}", PL_OP_HELLO},
        {"{\"op\":\"ack\"}", PL_OP_ACK},
        {"{\"op\":\"ping\"}", PL_OP_PING},
        {"{\"op\":\"pong\",\"x\":1}", PL_OP_PONG},
        {"{\"op\":\"subscribe\",\"id\":1,\"community_id\":42}", PL_OP_SUBSCRIBE},
        {"{\"op\":\"unsubscribe\",\"id\":1,\"community_id\":42}", PL_OP_UNSUBSCRIBE},
        {"{\"op\":\"publish\",\"id\":1,\"type\":\"t\",\"data\":{\"community_id\":42}}",
         PL_OP_PUBLISH},
        {"{\"op\":\"refresh\",\"id\":1,\"token\":\"t\"}", PL_OP_REFRESH},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(message(rows[i].json).op, rows[i].op);
    }
}

static void hello_and_ack_carry_positions(void **state)
{
    struct pl_message m =
        message("{\"op\":\"hello\",\"token\":\"t\",\"queue_id\":\"q\",\"last_event_id\":0}");

    (void)state;
    assert_str(m.token, "t");
    assert_str(m.queue_id, "q");
    assert_true(m.has_last_event_id);
    assert_int_equal(m.last_event_id, 0);
    assert_null(m.id);
    m = message("{\"op\":\"ack\",\"event_id\":9007199254740991}");
    assert_true(m.has_last_event_id);
    assert_int_equal(m.last_event_id, PL_INT_MAX);
    assert_false(message("{\"op\":\"ack\"}").has_last_event_id);
    assert_false(message("{\"op\":\"ack\",\"event_id\":null}").has_last_event_id);
}

static void subscribe_names_a_channel_and_perhaps_an_article(void **state)
{
    struct pl_message m =
        message("{\"op\":\"subscribe\",\"id\":\"a\",\"community_id\":42,\"article_id\":789}");

    (void)state;
    assert_str(m.channel, "community:42");
    assert_str(m.topic, "789");
    assert_int_equal(m.id->type, PL_STRING);
    m = message("{\"op\":\"unsubscribe\",\"id\":-5,\"channel\":\"room:7\",\"article_id\":\"x\"}");
    assert_str(m.channel, "room:7");
    assert_str(m.topic, "x");
    assert_int_equal(m.id->u.integer, -5);
    assert_int_equal(message("{\"op\":\"subscribe\",\"id\":1,\"community_id\":42}").topic.len, 0);
}

static void publish_and_refresh_carry_what_they_must(void **state)
{
    struct pl_message m = message("{\"op\":\"publish\",\"id\":1,\"type\":\"new_comment\","
                                  "\"data\":{\"community_id\":42}}");

    (void)state;
    assert_str(m.publish.type, "new_comment");
    assert_str(m.publish.channels[0], "community:42");
    assert_str(message("{\"op\":\"refresh\",\"id\":1,\"token\":\"a.b.c\"}").token, "a.b.c");
}

static const char id_text[] = "id: an integer, or a string of at most 128 bytes";

static void a_wrong_message_is_refused_with_what_is_accepted(void **state)
{
    const struct row rows[] = {
        {"[]", PL_ERR_INVALID, "a message: a map with op"},
        {"{}", PL_ERR_INVALID, "op: a string"},
        {"{\"op\":7}", PL_ERR_INVALID, "op: a string"},
        {"{\"op\":\"dance\"}", PL_ERR_UNKNOWN_OP,
         "op: one of hello, ack, ping, pong, subscribe, unsubscribe, publish, refresh"},
        {"{\"op\":\"hello\",\"token\":7}", PL_ERR_INVALID, "token: a string that is not empty"},
        {"{\"op\":\"hello\",\"last_event_id\":-1}", PL_ERR_INVALID,
         "last_event_id: an integer from 0 to 2^53-1"},
        {"{\"op\":\"hello\",\"last_event_id\":\"1\"}", PL_ERR_INVALID,
         "last_event_id: an integer from 0 to 2^53-1"},
        {"{\"op\":\"hello\",\"queue_id\":1}", PL_ERR_INVALID,
         "queue_id: a string of 1 to 128 bytes without control characters"},
        {"{\"op\":\"ack\",\"event_id\":1.0}", PL_ERR_INVALID,
         "event_id: an integer from 0 to 2^53-1"},
        {"{\"op\":\"ping\",\"id\":1.5}", PL_ERR_INVALID, id_text},
        {"{\"op\":\"subscribe\",\"community_id\":42}", PL_ERR_INVALID, id_text},
        {"{\"op\":\"unsubscribe\",\"community_id\":42}", PL_ERR_INVALID, id_text},
        {"{\"op\":\"publish\",\"type\":\"t\",\"data\":{\"community_id\":1}}", PL_ERR_INVALID,
         id_text},
        {"{\"op\":\"refresh\",\"token\":\"t\"}", PL_ERR_INVALID, id_text},
        {"{\"op\":\"refresh\",\"token\":\"t\",\"id\":[]}", PL_ERR_INVALID, id_text},
        {"{\"op\":\"refresh\",\"id\":1}", PL_ERR_INVALID, "token: a string that is not empty"},
        {"{\"op\":\"subscribe\",\"id\":1}", PL_ERR_NO_CHANNEL,
         "community_id: an integer from 1 to 2^53-1"},
        {"{\"op\":\"subscribe\",\"id\":1,\"community_id\":\"42\"}", PL_ERR_INVALID,
         "community_id: an integer from 1 to 2^53-1"},
        {"{\"op\":\"subscribe\",\"id\":1,\"channel\":\"user:7\"}", PL_ERR_INVALID,
         "channel: a name of 1 to 128 of A-Z a-z 0-9 . _ : - that is not reserved (control, "
         "user:...)"},
        {"{\"op\":\"subscribe\",\"id\":1,\"channel\":\"a\",\"community_id\":42}", PL_ERR_INVALID,
         "community_id or channel: exactly one of them"},
        {"{\"op\":\"subscribe\",\"id\":1,\"community_id\":42,\"article_id\":[]}", PL_ERR_INVALID,
         "article_id: an integer, or a string of 1 to 128 bytes without control characters"},
        {"{\"op\":\"publish\",\"id\":1}", PL_ERR_INVALID,
         "type: a string of 1 to 128 bytes without control characters"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pl_message m;

        assert_int_equal(pl_parse_message(value(rows[i].json), &arena, &limits, &m, &why),
                         rows[i].status);
        assert_string_equal(why.text, rows[i].text);
    }
}

static void an_error_still_knows_op_and_id(void **state)
{
    struct pl_message m;

    (void)state;
    assert_int_equal(
        pl_parse_message(value("{\"id\":9,\"op\":\"dance\"}"), &arena, &limits, &m, &why),
        PL_ERR_UNKNOWN_OP);
    assert_int_equal(m.id->u.integer, 9);
    assert_int_equal(pl_parse_message(value("{\"op\":\"refresh\",\"id\":9,\"token\":1}"), &arena,
                                      &limits, &m, &why),
                     PL_ERR_INVALID);
    assert_int_equal(m.id->u.integer, 9);
    assert_int_equal(m.op, PL_OP_REFRESH);
    assert_int_equal(pl_parse_message(value("{\"op\":\"refresh\",\"id\":{},\"token\":\"t\"}"),
                                      &arena, &limits, &m, &why),
                     PL_ERR_INVALID);
    assert_null(m.id);
    assert_int_equal(m.op, PL_OP_REFRESH);
}

static void an_id_of_text_has_at_most_128_bytes(void **state)
{
    char json[256] = "{\"op\":\"ping\",\"id\":\"";
    const size_t start = strlen(json);
    struct pl_message m;

    (void)state;
    memset(json + start, 'x', 128);
    memcpy(json + start + 128, "\"}", 3);
    assert_int_equal(message(json).id->u.string.len, 128);
    memset(json + start, 'x', 129);
    memcpy(json + start + 129, "\"}", 3);
    assert_int_equal(pl_parse_message(value(json), &arena, &limits, &m, &why), PL_ERR_INVALID);
    assert_string_equal(why.text, id_text);
}

static void a_cursor_is_decimal_digits_up_to_2_to_the_53_minus_1(void **state)
{
    const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "1.0", "0x1", "a", "9007199254740992", "00000000000000001"};
    int64_t n = 77;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(pl_parse_cursor((struct pl_str){bad[i], strlen(bad[i])}, &n));
        assert_int_equal(n, 77);
    }
    assert_true(pl_parse_cursor(PL_LIT("0"), &n));
    assert_int_equal(n, 0);
    assert_true(pl_parse_cursor(PL_LIT("0000000000000012"), &n));
    assert_int_equal(n, 12);
    assert_true(pl_parse_cursor(PL_LIT("9007199254740991"), &n));
    assert_int_equal(n, PL_INT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_registration_is_read, free_arena),
        cmocka_unit_test_teardown(what_a_registration_may_leave_out_is_absent, free_arena),
        cmocka_unit_test_teardown(a_wrong_registration_is_refused_with_what_is_accepted,
                                  free_arena),
        cmocka_unit_test_teardown(a_disconnect_names_a_user_or_a_queue, free_arena),
        cmocka_unit_test_teardown(a_wrong_disconnect_is_refused_with_what_is_accepted, free_arena),
        cmocka_unit_test_teardown(every_op_is_known, free_arena),
        cmocka_unit_test_teardown(hello_and_ack_carry_positions, free_arena),
        cmocka_unit_test_teardown(subscribe_names_a_channel_and_perhaps_an_article, free_arena),
        cmocka_unit_test_teardown(publish_and_refresh_carry_what_they_must, free_arena),
        cmocka_unit_test_teardown(a_wrong_message_is_refused_with_what_is_accepted, free_arena),
        cmocka_unit_test_teardown(an_error_still_knows_op_and_id, free_arena),
        cmocka_unit_test_teardown(an_id_of_text_has_at_most_128_bytes, free_arena),
        cmocka_unit_test_teardown(a_cursor_is_decimal_digits_up_to_2_to_the_53_minus_1, free_arena),
    };

    return cmocka_run_group_tests_name("protocol/request", tests, NULL, NULL);
}
