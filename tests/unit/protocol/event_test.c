#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/protocol/requests.h"
#include "tests/unit/protocol/values.h"

static const char now[] = "2026-11-20T10:30:00.000Z";

static struct pl_publish parse(const char *json, bool from_client)
{
    struct pl_publish p;

    assert_int_equal(pl_parse_publish(value(json), from_client, &arena, &limits, &p, &why), 0);
    return p;
}

static void refused(const char *json, bool from_client, int status, const char *text)
{
    struct pl_publish p = {.default_community = 77};

    assert_int_equal(pl_parse_publish(value(json), from_client, &arena, &limits, &p, &why), status);
    assert_string_equal(why.text, text);
    assert_int_equal(p.default_community, 77);
}

static void body_is(const struct pl_publish *p, const char *expected)
{
    struct pl_buf out = {0};

    pl_event_write_body(p, now, &out);
    assert_string_equal(pl_buf_cstr(&out), expected);
    pl_buf_done(&out);
}

/* An event as the seeds publish it, and all that Parley adds. */
static const char full[] =
    "{\"type\":\"new_comment\",\"data\":{\"article_id\":789,\"subscriber_ids\":[2,3],\"community_"
    "id\":42,"
    "\"exclude_user_id\":1},\"community_ids\":[43,42],\"channels\":[\"room:7\"],"
    "\"exclude_user_id\":\"1\",\"exclude_queue_id\":\"q\",\"timestamp\":\"2025-01-02T03:04:05+01:"
    "00\","
    "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}";

static void every_field_of_an_event_is_read(void **state)
{
    struct pl_publish p = parse(full, false);

    (void)state;
    assert_str(p.type, "new_comment");
    assert_int_equal(p.channel_count, 3);
    assert_str(p.channels[0], "community:42");
    assert_str(p.channels[1], "community:43");
    assert_str(p.channels[2], "room:7");
    assert_str(p.topic, "789");
    assert_str(p.exclude_user, "1");
    assert_str(p.exclude_queue, "q");
    assert_true(p.has_subscribers);
    assert_int_equal(p.subscriber_count, 2);
    assert_str(p.timestamp, "2025-01-02T03:04:05+01:00");
    assert_int_equal(p.traceparent.len, 55);
}

static void what_an_event_may_leave_out_is_absent(void **state)
{
    struct pl_publish p =
        parse("{\"type\":\"t\",\"data\":{\"article_id\":null},\"community_ids\":[42],"
              "\"exclude_user_id\":null}",
              false);

    (void)state;
    assert_int_equal(p.topic.len, 0);
    assert_int_equal(p.exclude_user.len, 0);
    assert_int_equal(p.exclude_queue.len, 0);
    assert_false(p.has_subscribers);
    assert_int_equal(p.timestamp.len, 0);
    assert_int_equal(p.traceparent.len, 0);
    assert_null(p.shown_channels);
}

static void subscribers_are_normalised_sorted_and_unique(void **state)
{
    struct pl_publish p = parse("{\"type\":\"t\",\"data\":{},\"community_ids\":[42],"
                                "\"subscriber_ids\":[\"b\",7,\"7\"]}",
                                false);

    (void)state;
    assert_int_equal(p.subscriber_count, 2);
    assert_str(p.subscribers[0], "7");
    assert_str(p.subscribers[1], "b");
}

static void an_empty_list_of_subscribers_is_not_an_absent_one(void **state)
{
    struct pl_publish p =
        parse("{\"type\":\"t\",\"data\":{},\"community_ids\":[42],\"subscriber_ids\":[]}", false);

    (void)state;
    assert_true(p.has_subscribers);
    assert_int_equal(p.subscriber_count, 0);
}

static void subscribers_at_the_top_win(void **state)
{
    struct pl_publish p = parse("{\"type\":\"t\",\"data\":{\"subscriber_ids\":[1,2]},"
                                "\"community_ids\":[42],\"subscriber_ids\":[3]}",
                                false);

    (void)state;
    assert_int_equal(p.subscriber_count, 1);
    assert_str(p.subscribers[0], "3");
}

static void a_client_means_the_community_of_its_data(void **state)
{
    struct pl_publish p = parse("{\"type\":\"t\",\"data\":{\"community_id\":42}}", true);

    (void)state;
    assert_int_equal(p.default_community, 42);
    assert_int_equal(p.channel_count, 1);
    assert_str(p.channels[0], "community:42");
    body_is(&p, "{\"type\":\"t\",\"timestamp\":\"2026-11-20T10:30:00.000Z\",\"community_ids\":[42],"
                "\"data\":{\"community_id\":42}}");
    p = parse("{\"type\":\"t\",\"data\":{\"community_id\":42},\"community_ids\":[43]}", true);
    assert_int_equal(p.default_community, 0);
    assert_str(p.channels[0], "community:43");
}

static void a_backend_names_its_channels(void **state)
{
    (void)state;
    refused("{\"type\":\"t\",\"data\":{\"community_id\":42}}", false, PL_ERR_NO_CHANNEL,
            "community_ids: an array of integers, or channels: an array of names");
}

static void a_backend_may_name_a_user_s_own_channel(void **state)
{
    struct pl_publish p = parse("{\"type\":\"t\",\"data\":{},\"channels\":[\"user:7\"]}", false);

    (void)state;
    assert_int_equal(p.channel_count, 1);
    assert_str(p.channels[0], "user:7");
    refused("{\"type\":\"t\",\"data\":{},\"channels\":[\"user:\"]}", false, PL_ERR_INVALID,
            "channels: an array of names of 1 to 128 of A-Z a-z 0-9 . _ : - (control is reserved)");
}

static void routing_is_not_for_a_client_to_set(void **state)
{
    const char *const names[] = {"subscriber_ids", "exclude_user_id", "exclude_queue_id"};
    const char *const tops[] = {"timestamp", "channels"};
    char json[160], text[64];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(text, sizeof(text), "%s: not for a client to set", names[i]);
        (void)snprintf(json, sizeof(json),
                       "{\"type\":\"t\",\"data\":{\"community_id\":1},\"%s\":[1]}", names[i]);
        refused(json, true, PL_ERR_INVALID, text);
        (void)snprintf(json, sizeof(json),
                       "{\"type\":\"t\",\"data\":{\"community_id\":1,\"%s\":[1]}}", names[i]);
        refused(json, true, PL_ERR_INVALID, text);
    }
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof(text), "%s: not for a client to set", tops[i]);
        (void)snprintf(json, sizeof(json),
                       "{\"type\":\"t\",\"data\":{\"community_id\":1},\"%s\":\"x\"}", tops[i]);
        refused(json, true, PL_ERR_INVALID, text);
    }
}

static void a_wrong_event_is_refused_with_what_is_accepted(void **state)
{
    static const char name[] = "a string of 1 to 128 bytes without control characters";
    static const char user[] =
        "an integer, or a string of 1 to 128 bytes without control characters";
    const struct {
        const char *members; /* besides type, data and community_ids, or the whole */
        int status;
        const char *member, *accepts;
    } rows[] = {
        {"[]", PL_ERR_INVALID, "an event", "a map"},
        {"{\"data\":{},\"community_ids\":[1]}", PL_ERR_INVALID, "type", name},
        {"{\"type\":\"\",\"data\":{},\"community_ids\":[1]}", PL_ERR_INVALID, "type", name},
        {"{\"type\":\"t\",\"community_ids\":[1]}", PL_ERR_INVALID, "data", "a map"},
        {"{\"type\":\"t\",\"data\":[],\"community_ids\":[1]}", PL_ERR_INVALID, "data", "a map"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[]}", PL_ERR_NO_CHANNEL, "community_ids",
         "at least one, or channels"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[\"1\"]}", PL_ERR_INVALID, "community_ids",
         "an array of integers from 1 to 2^53-1"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1,2,3,4,5]}", PL_ERR_TOO_BIG,
         "community_ids and channels", "at most 4 together"},
        {"{\"type\":\"t\",\"data\":{\"article_id\":{}},\"community_ids\":[1]}", PL_ERR_INVALID,
         "article_id", user},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"exclude_user_id\":1.5}",
         PL_ERR_INVALID, "exclude_user_id", user},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"exclude_queue_id\":1}",
         PL_ERR_INVALID, "exclude_queue_id", name},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"timestamp\":\"today\"}",
         PL_ERR_INVALID, "timestamp", "an RFC 3339 time such as 2026-11-20T10:30:00.000Z"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"timestamp\":7}", PL_ERR_INVALID,
         "timestamp", "an RFC 3339 time such as 2026-11-20T10:30:00.000Z"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"traceparent\":\"x\"}", PL_ERR_INVALID,
         "traceparent", "a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"subscriber_ids\":7}", PL_ERR_INVALID,
         "subscriber_ids", "an array of user ids"},
        {"{\"type\":\"t\",\"data\":{\"subscriber_ids\":null},\"community_ids\":[1]}",
         PL_ERR_INVALID, "subscriber_ids", "an array of user ids"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"subscriber_ids\":[null]}",
         PL_ERR_INVALID, "subscriber_ids", "an array of integers or strings of 1 to 128 bytes"},
        {"{\"type\":\"t\",\"data\":{},\"community_ids\":[1],\"subscriber_ids\":[1,2,3,4]}",
         PL_ERR_TOO_BIG, "subscriber_ids", "at most 3"},
    };
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)snprintf(text, sizeof(text), "%s: %s", rows[i].member, rows[i].accepts);
        refused(rows[i].members, false, rows[i].status, text);
    }
    refused("{\"type\":\"t\",\"data\":{}}", true, PL_ERR_NO_CHANNEL,
            "community_ids: an array of integers, or data.community_id");
    refused("{\"type\":\"t\",\"data\":{\"community_id\":\"42\"}}", true, PL_ERR_INVALID,
            "data.community_id: an integer from 1 to 2^53-1");
}

static void the_body_shows_what_clients_may_see(void **state)
{
    struct pl_publish p = parse(full, false);

    (void)state;
    body_is(&p, "{\"type\":\"new_comment\",\"timestamp\":\"2025-01-02T03:04:05+01:00\","
                "\"community_ids\":[43,42],\"channels\":[\"room:7\"],\"data\":{\"article_id\":789,"
                "\"community_id\":42},\"traceparent\":"
                "\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}");
}

static void an_event_without_communities_shows_none(void **state)
{
    struct pl_publish p =
        parse("{\"type\":\"t\",\"data\":{\"exclude_queue_id\":1},\"channels\":[\"a\"]}", false);

    (void)state;
    body_is(&p, "{\"type\":\"t\",\"timestamp\":\"2026-11-20T10:30:00.000Z\",\"community_ids\":[],"
                "\"channels\":[\"a\"],\"data\":{}}");
}

static void an_event_is_the_same_in_both_codecs(void **state)
{
    const struct pl_str body =
        PL_LIT("{\"type\":\"t\",\"timestamp\":\"x\",\"community_ids\":[42],\"data\":{\"r\":1.0}}");
    const char expected[] = "{\"event_id\":9007199254740991,\"type\":\"t\",\"timestamp\":\"x\","
                            "\"community_ids\":[42],\"data\":{\"r\":1.0}}";
    struct pl_buf json = {0}, packed = {0};
    const struct pl_value *v;

    (void)state;
    pl_event_encode(PL_JSON, PL_INT_MAX, body, &json);
    assert_string_equal(pl_buf_cstr(&json), expected);
    pl_event_encode(PL_MSGPACK, PL_INT_MAX, body, &packed);
    assert_int_equal(decode_exactly(PL_MSGPACK, packed.data, packed.len, &arena, &v, NULL), 0);
    assert_true(value_equal(v, value(expected)));
    pl_buf_done(&json);
    pl_buf_done(&packed);
}

/* What a client sends at the greatest depth must come out at both ends. */
static void the_deepest_data_can_be_encoded(void **state)
{
    char json[256] = "{\"type\":\"t\",\"community_ids\":[1],\"data\":{\"d\":";
    const size_t start = strlen(json);
    struct pl_buf body = {0}, out = {0};
    struct pl_publish p;

    (void)state;
    memset(json + start, '[', PL_MAX_DEPTH - 2);
    memset(json + start + PL_MAX_DEPTH - 2, ']', PL_MAX_DEPTH - 2);
    memcpy(json + start + 2 * (PL_MAX_DEPTH - 2), "}}", 3);
    p = parse(json, false);
    pl_event_write_body(&p, now, &body);
    pl_event_encode(PL_MSGPACK, 1, (struct pl_str){(const char *)body.data, body.len}, &out);
    assert_true(out.len > PL_MAX_DEPTH);
    pl_buf_done(&body);
    pl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_field_of_an_event_is_read, free_arena),
        cmocka_unit_test_teardown(what_an_event_may_leave_out_is_absent, free_arena),
        cmocka_unit_test_teardown(subscribers_are_normalised_sorted_and_unique, free_arena),
        cmocka_unit_test_teardown(an_empty_list_of_subscribers_is_not_an_absent_one, free_arena),
        cmocka_unit_test_teardown(subscribers_at_the_top_win, free_arena),
        cmocka_unit_test_teardown(a_client_means_the_community_of_its_data, free_arena),
        cmocka_unit_test_teardown(a_backend_names_its_channels, free_arena),
        cmocka_unit_test_teardown(a_backend_may_name_a_user_s_own_channel, free_arena),
        cmocka_unit_test_teardown(routing_is_not_for_a_client_to_set, free_arena),
        cmocka_unit_test_teardown(a_wrong_event_is_refused_with_what_is_accepted, free_arena),
        cmocka_unit_test_teardown(the_body_shows_what_clients_may_see, free_arena),
        cmocka_unit_test_teardown(an_event_without_communities_shows_none, free_arena),
        cmocka_unit_test_teardown(an_event_is_the_same_in_both_codecs, free_arena),
        cmocka_unit_test_teardown(the_deepest_data_can_be_encoded, free_arena),
    };

    return cmocka_run_group_tests_name("protocol/event", tests, NULL, NULL);
}
