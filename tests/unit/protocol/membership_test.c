#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/protocol/requests.h"

static struct pl_membership parse(const char *json)
{
    struct pl_membership m;

    assert_int_equal(pl_parse_membership(value(json), "community_ids", &arena, &limits, &m, &why),
                     0);
    return m;
}

static void refused(const char *json, int status, const char *text)
{
    struct pl_membership m = {.channel_count = 77};

    assert_int_equal(pl_parse_membership(value(json), "community_ids", &arena, &limits, &m, &why),
                     status);
    assert_string_equal(why.text, text);
    assert_int_equal(m.channel_count, 77);
}

static const char ids_text[] = "community_ids: an array of integers from 1 to 2^53-1";
static const char names_text[] = "channels: an array of names of 1 to 128 of A-Z a-z 0-9 . _ : - "
                                 "(control and user:... are reserved)";

static void a_user_id_is_an_integer_or_text(void **state)
{
    const char *const same[][2] = {{"7", "7"},
                                   {"\"7\"", "7"},
                                   {"-7", "-7"},
                                   {"0", "0"},
                                   {"\"007\"", "007"},
                                   {"\"anna b\xc3\xa9\"", "anna b\xc3\xa9"},
                                   {"9007199254740991", "9007199254740991"}};

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        struct pl_str id;

        assert_int_equal(pl_parse_user_id(value(same[i][0]), &arena, &id), 0);
        assert_str(id, same[i][1]);
    }
}

static void what_is_no_user_id_is_refused(void **state)
{
    const char *const bad[] = {"\"\"", "\"a\\nb\"", "\"\\u0000\"", "\"\x7f\"", "1.0",
                               "true", "null",      "[7]",         "{}"};
    char text[132];
    struct pl_str id;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(pl_parse_user_id(value(bad[i]), &arena, &id), PL_ERR_INVALID);
    }
    assert_int_equal(pl_parse_user_id(NULL, &arena, &id), PL_ERR_INVALID);
    memset(text, 'a', sizeof(text));
    text[0] = '"';
    text[129] = '"';
    text[130] = '\0';
    assert_int_equal(pl_parse_user_id(value(text), &arena, &id), 0);
    assert_int_equal(id.len, 128);
    text[129] = 'a';
    text[130] = '"';
    text[131] = '\0';
    assert_int_equal(pl_parse_user_id(value(text), &arena, &id), PL_ERR_INVALID);
}

static void channels_are_sorted_and_unique(void **state)
{
    struct pl_membership m =
        parse("{\"community_ids\":[43,42],\"channels\":[\"room:7\",\"community:42\"]}");

    (void)state;
    assert_int_equal(m.channel_count, 3);
    assert_str(m.channels[0], "community:42");
    assert_str(m.channels[1], "community:43");
    assert_str(m.channels[2], "room:7");
    assert_false(m.has_narrowing);
}

static void an_empty_list_is_present_and_none_is_not(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"community_ids\":[]}").channel_count, 0);
    assert_int_equal(parse("{\"channels\":[]}").channel_count, 0);
    refused("{}", PL_ERR_NO_CHANNEL,
            "community_ids: an array of integers, or channels: an array of names");
    refused("{\"community_ids\":null}", PL_ERR_NO_CHANNEL,
            "community_ids: an array of integers, or channels: an array of names");
}

static void the_name_of_the_list_of_ids_is_given(void **state)
{
    struct pl_membership m;

    (void)state;
    assert_int_equal(pl_parse_membership(value("{\"communities\":[1]}"), "communities", &arena,
                                         &limits, &m, &why),
                     0);
    assert_str(m.channels[0], "community:1");
    assert_int_equal(
        pl_parse_membership(value("{\"communities\":1}"), "communities", &arena, &limits, &m, &why),
        PL_ERR_INVALID);
    assert_string_equal(why.text, "communities: an array of integers from 1 to 2^53-1");
}

static void a_community_is_a_positive_integer_and_no_text(void **state)
{
    const char *const bad[] = {"{\"community_ids\":[\"42\"]}", "{\"community_ids\":[0]}",
                               "{\"community_ids\":[-1]}",     "{\"community_ids\":[1.0]}",
                               "{\"community_ids\":[null]}",   "{\"community_ids\":42}",
                               "{\"community_ids\":{}}"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refused(bad[i], PL_ERR_INVALID, ids_text);
    }
    assert_str(parse("{\"community_ids\":[9007199254740991]}").channels[0],
               "community:9007199254740991");
}

static void a_channel_name_is_of_plain_characters_and_not_reserved(void **state)
{
    const char *const good[] = {"room:7", "a",         "A-Z.a_z:0-9", "controls",
                                "users",  "community", "community:1", "communityx"};
    const char *const bad[] = {"",
                               "a b",
                               "caf\xc3\xa9",
                               "a/b",
                               "control",
                               "user:7",
                               "user:",
                               "community:",
                               "community:007",
                               "community:0",
                               "community:x",
                               "community:1x",
                               "community:-1",
                               "community:9007199254740992"};
    char json[64];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        (void)snprintf(json, sizeof(json), "{\"channels\":[\"%s\"]}", good[i]);
        assert_str(parse(json).channels[0], good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(json, sizeof(json), "{\"channels\":[\"%s\"]}", bad[i]);
        refused(json, PL_ERR_INVALID, names_text);
    }
    refused("{\"channels\":[7]}", PL_ERR_INVALID, names_text);
}

static void the_number_of_channels_is_limited(void **state)
{
    struct pl_membership m;
    const struct pl_request_limits none = {0};

    (void)state;
    assert_int_equal(parse("{\"community_ids\":[1,2],\"channels\":[\"a\",\"b\"]}").channel_count,
                     4);
    refused("{\"community_ids\":[1,2,3],\"channels\":[\"a\",\"b\"]}", PL_ERR_TOO_BIG,
            "community_ids and channels: at most 4 together");
    assert_int_equal(pl_parse_membership(value("{\"community_ids\":[1,2,3,4,5]}"), "community_ids",
                                         &arena, &none, &m, &why),
                     0);
}

static void narrowing_names_articles_of_a_channel(void **state)
{
    struct pl_membership m =
        parse("{\"community_ids\":[42,43],\"channels\":[\"room:7\"],\"subscriptions\":["
              "{\"community_id\":42,\"article_ids\":[789,\"abc\",789]},"
              "{\"channel\":\"room:7\",\"topics\":[]}]}");

    (void)state;
    assert_true(m.has_narrowing);
    assert_int_equal(m.narrowing_count, 2);
    assert_str(m.narrowing[0].channel, "room:7");
    assert_int_equal(m.narrowing[0].topic_count, 0);
    assert_str(m.narrowing[1].channel, "community:42");
    assert_int_equal(m.narrowing[1].topic_count, 2);
    assert_str(m.narrowing[1].topics[0], "789");
    assert_str(m.narrowing[1].topics[1], "abc");
}

static void an_empty_narrowing_is_not_an_absent_one(void **state)
{
    struct pl_membership m = parse("{\"community_ids\":[42],\"subscriptions\":[]}");

    (void)state;
    assert_true(m.has_narrowing);
    assert_int_equal(m.narrowing_count, 0);
    assert_false(parse("{\"community_ids\":[42],\"subscriptions\":null}").has_narrowing);
}

static void narrowing_of_a_channel_that_is_not_held_is_ignored(void **state)
{
    struct pl_membership m = parse("{\"community_ids\":[42],\"subscriptions\":["
                                   "{\"community_id\":7,\"article_ids\":[1,2,3,4]},{\"community_"
                                   "id\":42,\"article_ids\":[5]}]}");

    (void)state;
    assert_int_equal(m.narrowing_count, 1);
    assert_str(m.narrowing[0].channel, "community:42");
}

static void wrong_narrowing_is_refused_with_what_is_accepted(void **state)
{
    const struct {
        const char *subscriptions;
        int status;
        const char *text;
    } rows[] = {
        {"{}", PL_ERR_INVALID, "subscriptions: an array of {community_id, article_ids}"},
        {"[7]", PL_ERR_INVALID, "subscriptions: each with a community_id or a channel"},
        {"[{\"article_ids\":[]}]", PL_ERR_INVALID,
         "subscriptions: each with a community_id or a channel"},
        {"[{\"community_id\":\"42\",\"article_ids\":[]}]", PL_ERR_INVALID,
         "subscriptions: each with a community_id or a channel"},
        {"[{\"community_id\":42,\"channel\":\"a\",\"article_ids\":[]}]", PL_ERR_INVALID,
         "subscriptions: each with a community_id or a channel"},
        {"[{\"community_id\":42}]", PL_ERR_INVALID,
         "subscriptions: each with an array article_ids"},
        {"[{\"community_id\":42,\"article_ids\":7}]", PL_ERR_INVALID,
         "subscriptions: article_ids: an array of integers or strings of 1 to 128 bytes"},
        {"[{\"community_id\":42,\"article_ids\":[true]}]", PL_ERR_INVALID,
         "subscriptions: article_ids: an array of integers or strings of 1 to 128 bytes"},
        {"[{\"community_id\":42,\"topics\":[\"\"]}]", PL_ERR_INVALID,
         "subscriptions: topics: an array of integers or strings of 1 to 128 bytes"},
        {"[{\"community_id\":42,\"article_ids\":[1]},{\"community_id\":42,\"article_ids\":[2]}]",
         PL_ERR_INVALID, "subscriptions: each channel at most once"},
        {"[{\"community_id\":42,\"article_ids\":[1,2]},{\"community_id\":43,\"article_ids\":[1,2]}"
         "]",
         PL_ERR_TOO_BIG, "subscriptions: at most 3 articles in all"},
    };
    char json[256];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)snprintf(json, sizeof(json), "{\"community_ids\":[42,43],\"subscriptions\":%s}",
                       rows[i].subscriptions);
        refused(json, rows[i].status, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_user_id_is_an_integer_or_text, free_arena),
        cmocka_unit_test_teardown(what_is_no_user_id_is_refused, free_arena),
        cmocka_unit_test_teardown(channels_are_sorted_and_unique, free_arena),
        cmocka_unit_test_teardown(an_empty_list_is_present_and_none_is_not, free_arena),
        cmocka_unit_test_teardown(the_name_of_the_list_of_ids_is_given, free_arena),
        cmocka_unit_test_teardown(a_community_is_a_positive_integer_and_no_text, free_arena),
        cmocka_unit_test_teardown(a_channel_name_is_of_plain_characters_and_not_reserved,
                                  free_arena),
        cmocka_unit_test_teardown(the_number_of_channels_is_limited, free_arena),
        cmocka_unit_test_teardown(narrowing_names_articles_of_a_channel, free_arena),
        cmocka_unit_test_teardown(an_empty_narrowing_is_not_an_absent_one, free_arena),
        cmocka_unit_test_teardown(narrowing_of_a_channel_that_is_not_held_is_ignored, free_arena),
        cmocka_unit_test_teardown(wrong_narrowing_is_refused_with_what_is_accepted, free_arena),
    };

    return cmocka_run_group_tests_name("protocol/membership", tests, NULL, NULL);
}
