#include "server/cli/log_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/bus/redis_wire.h"

/* 2026-11-21T06:00:00.123Z */
#define ID      "1838326579325952"
#define TIME    "2026-11-21T06:00:00.123Z"
#define ID_NEXT "1838326579325953"

static struct pl_buf out, payload;

static struct pl_value text(const char *s)
{
    return (struct pl_value){.type = PL_STRING, .u.string = {s, strlen(s)}};
}

struct made {
    struct pl_value items[2], fields[8];
};

/* [id, [p, …, g, …, f, …, d, …]] with `payload`, as XRANGE answers. */
static struct pl_value entry(struct made *m, const char *id, const char *form)
{
    const char *const names[] = {"p", "7", "g", "1a2b3c4d", "f", form, "d"};

    for (size_t i = 0; i < 7; i++) {
        m->fields[i] = text(names[i]);
    }
    m->fields[7] =
        (struct pl_value){.type = PL_STRING, .u.string = {(const char *)payload.data, payload.len}};
    m->items[0] = text(id);
    m->items[1] = (struct pl_value){.type = PL_ARRAY, .u.array = {m->fields, 8}};
    return (struct pl_value){.type = PL_ARRAY, .u.array = {m->items, 2}};
}

static const char *render(struct pl_value *entries, size_t count, bool newest_first, bool json)
{
    const struct pl_value all = {.type = PL_ARRAY, .u.array = {entries, count}};

    pl_buf_done(&out);
    pl_cli_log_render(&all, newest_first, json, &out);
    return pl_buf_cstr(&out);
}

static const char *render_one(const char *form, bool json)
{
    struct made m;
    struct pl_value e = entry(&m, ID "-0", form);

    return render(&e, 1, false, json);
}

static int forget(void **state)
{
    (void)state;
    pl_buf_done(&out);
    pl_buf_done(&payload);
    return 0;
}

static const char body[] = "{\"type\":\"x\",\"timestamp\":\"2026-11-21T06:00:00.000Z\","
                           "\"community_ids\":[42],\"data\":{\"text\":\"Grüße\"}}";

static void set_event(struct pl_bus_event e)
{
    static const struct pl_str channels[] = {PL_LIT("community:42"), PL_LIT("room:7")};

    e.body = PL_LIT(body);
    e.channels = channels;
    e.channel_count = 2;
    pl_buf_done(&payload);
    pl_redis_encode_event(&e, &payload);
}

static void an_event_is_a_line_with_id_time_and_tag(void **state)
{
    char expected[512];

    (void)state;
    set_event((struct pl_bus_event){.topic = PL_LIT("789")});
    snprintf(expected, sizeof(expected), "%s  %s  1a2b3c4d  %s\n", ID, TIME, body);
    assert_string_equal(render_one("E", false), expected);
}

static void whom_it_is_kept_from_is_said(void **state)
{
    static const struct pl_str users[] = {PL_LIT("7"), PL_LIT("ada")};
    const char *line;

    (void)state;
    set_event((struct pl_bus_event){.exclude_user = PL_LIT("9"),
                                    .exclude_queue = PL_LIT("00ff"),
                                    .has_subscribers = true,
                                    .subscribers = users,
                                    .subscriber_count = 2});
    line = render_one("E", false);
    assert_non_null(strstr(line, "  only 2 users  not user 9  not queue 00ff  {\"type\""));
    line = render_one("E", true);
    assert_non_null(strstr(line, "\"subscriber_ids\":[\"7\",\"ada\"]"));
    assert_non_null(strstr(line, "\"exclude_user_id\":\"9\",\"exclude_queue_id\":\"00ff\""));
}

static void json_has_everything(void **state)
{
    char expected[512];

    (void)state;
    set_event((struct pl_bus_event){.topic = PL_LIT("789")});
    snprintf(expected, sizeof(expected),
             "{\"id\":%s,\"time\":\"%s\",\"previous\":7,\"tag\":\"1a2b3c4d\",\"form\":\"E\","
             "\"log_channels\":[\"community:42\",\"room:7\"],\"topic\":\"789\",\"event\":%s}\n",
             ID, TIME, body);
    assert_string_equal(render_one("E", true), expected);
}

static void an_event_by_a_backend_itself_reads_the_same(void **state)
{
    (void)state;
    pl_buf_done(&payload);
    pl_buf_append_str(&payload, "2026-11-21T06:00:00.000Z {\"type\":\"x\",\"community_ids\":[42],"
                                "\"data\":{\"text\":\"Grüße\"}}");
    assert_non_null(strstr(render_one("J", false), body));
    assert_non_null(strstr(render_one("J", true), "\"form\":\"J\""));
    assert_non_null(strstr(render_one("J", true), "\"log_channels\":[\"community:42\"]"));
}

static void set_change(struct pl_bus_change c)
{
    static struct pl_str channels[] = {PL_LIT("community:42"), PL_LIT("room:7"), PL_LIT("room:8")};
    static struct pl_str topics[] = {PL_LIT("789"), PL_LIT("790")};
    static struct pl_narrowing narrowing[] = {{PL_LIT("room:7"), topics, 2},
                                              {PL_LIT("room:8"), NULL, 0}};
    static const struct pl_membership m = {channels, 3, true, narrowing, 2};

    c.membership = c.kind == PL_CHANGE_DISCONNECT ? NULL : &m;
    c.user_id = PL_LIT("7");
    pl_buf_done(&payload);
    pl_redis_encode_change(&c, &payload);
}

static void a_change_says_what_it_gives_to_whom(void **state)
{
    (void)state;
    set_change((struct pl_bus_change){
        .kind = PL_CHANGE_UPDATE, .has_version = true, .version = 3, .unix_ms = 1});
    assert_string_equal(render_one("H", false),
                        ID "  " TIME "  1a2b3c4d  update user 7: community:42, "
                           "room:7 [789, 790], room:8 []  version 3\n");
    assert_string_equal(
        render_one("H", true),
        "{\"id\":" ID ",\"time\":\"" TIME "\",\"previous\":7,\"tag\":\"1a2b3c4d\",\"form\":\"H\","
        "\"change\":\"update\",\"user_id\":\"7\",\"channels\":[\"community:42\",\"room:7\","
        "\"room:8\"],\"subscriptions\":[{\"channel\":\"room:7\",\"topics\":[\"789\",\"790\"]},"
        "{\"channel\":\"room:8\",\"topics\":[]}],\"version\":3}\n");
}

static void a_disconnect_says_until_when(void **state)
{
    (void)state;
    set_change((struct pl_bus_change){
        .kind = PL_CHANGE_DISCONNECT, .unix_ms = 1, .blocked_until_ms = INT64_C(1795240800123)});
    assert_non_null(strstr(render_one("H", false), "disconnect user 7  blocked until " TIME "\n"));
    assert_non_null(strstr(render_one("H", true), "\"blocked_until\":1795240800123}"));
}

static void what_is_not_understood_is_said_to_be_so(void **state)
{
    struct pl_value id = text(ID "-0");
    struct pl_value junk[] = {
        text("x"), {.type = PL_NULL}, {.type = PL_ARRAY, .u.array = {&id, 1}}};
    struct made m;

    (void)state;
    pl_buf_done(&payload);
    pl_buf_append_str(&payload, "\xc1junk");
    assert_non_null(strstr(render_one("E", false), "(not understood: form \"E\", 5 bytes)\n"));
    assert_non_null(strstr(render_one("H", true), "\"form\":\"H\",\"not_understood\":true}\n"));
    assert_non_null(strstr(render_one("\033", false), "form \"?\""));
    assert_non_null(strstr(render_one("", false), "form \"\""));
    assert_string_equal(render(junk, 3, false, false), "(not understood: no entry of a log)\n"
                                                       "(not understood: no entry of a log)\n"
                                                       "(not understood: no entry of a log)\n");
    assert_string_equal(render(junk, 1, false, true), "{\"not_understood\":true}\n");
    junk[0] = entry(&m, "17-1", "E"); /* -1: none that Parley made */
    assert_string_equal(render(junk, 1, false, true), "{\"not_understood\":true}\n");
}

/* An event whose body is no JSON is another node's mistake, not a reason to stop. */
static void a_body_that_is_no_json_is_not_understood(void **state)
{
    static const struct pl_str channel = PL_LIT("room:7");

    (void)state;
    pl_buf_done(&payload);
    pl_redis_encode_event(&(struct pl_bus_event){.body = PL_LIT("{\"type\":"),
                                                 .channels = &channel,
                                                 .channel_count = 1},
                          &payload);
    assert_non_null(strstr(render_one("E", false), "(not understood"));
}

static void entries_are_printed_oldest_first_either_way(void **state)
{
    struct made older, newer;
    const char *lines;

    (void)state;
    set_event((struct pl_bus_event){.topic.len = 0});
    lines =
        render((struct pl_value[]){entry(&older, ID "-0", "E"), entry(&newer, ID_NEXT "-0", "E")},
               2, false, false);
    assert_true(strstr(lines, ID) < strstr(lines, ID_NEXT));
    lines =
        render((struct pl_value[]){entry(&newer, ID_NEXT "-0", "E"), entry(&older, ID "-0", "E")},
               2, true, false);
    assert_true(strstr(lines, ID) < strstr(lines, ID_NEXT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_a_line_with_id_time_and_tag),
        cmocka_unit_test(whom_it_is_kept_from_is_said),
        cmocka_unit_test(json_has_everything),
        cmocka_unit_test(an_event_by_a_backend_itself_reads_the_same),
        cmocka_unit_test(a_change_says_what_it_gives_to_whom),
        cmocka_unit_test(a_disconnect_says_until_when),
        cmocka_unit_test(what_is_not_understood_is_said_to_be_so),
        cmocka_unit_test(a_body_that_is_no_json_is_not_understood),
        cmocka_unit_test(entries_are_printed_oldest_first_either_way),
    };

    return cmocka_run_group_tests_name("cli/log_view", tests, NULL, forget);
}
