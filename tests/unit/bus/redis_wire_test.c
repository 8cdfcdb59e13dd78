#include "server/bus/redis_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/request.h"
#include "protocol/status.h"
#include "server/base/alloc.h"

#define BODY                                                                                       \
    "{\"type\":\"new_comment\",\"timestamp\":\"2026-11-20T10:30:00.000Z\",\"community_ids\":[42]," \
    "\"data\":{\"text\":\"h\xc3\xa9llo\"}}"
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct pl_request_limits limits = {.channels = 3, .topics = 10, .recipients = 4};

static struct pl_str str(const char *s)
{
    return (struct pl_str){s, strlen(s)};
}

static struct pl_str bytes_of(const struct pl_buf *b)
{
    return (struct pl_str){(const char *)b->data, b->len};
}

/* In a block of their exact size, so that a sanitizer sees a byte read beyond the end. */
static struct pl_str exactly(const void *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    return (struct pl_str){copy, len};
}

static void assert_str(struct pl_str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.s, expected, s.len);
}

static void assert_strs(const struct pl_str *items, size_t count, const struct pl_str *expected,
                        size_t expected_count)
{
    assert_int_equal(count, expected_count);
    for (size_t i = 0; i < count; i++) {
        assert_true(pl_str_eq(items[i], expected[i]));
    }
}

/* ---- events ---- */

static void assert_event(const struct pl_bus_event *e, const struct pl_bus_event *expected)
{
    assert_true(pl_str_eq(e->body, expected->body));
    assert_strs(e->channels, e->channel_count, expected->channels, expected->channel_count);
    assert_true(pl_str_eq(e->topic, expected->topic));
    assert_true(pl_str_eq(e->exclude_user, expected->exclude_user));
    assert_true(pl_str_eq(e->exclude_queue, expected->exclude_queue));
    assert_int_equal(e->has_subscribers, expected->has_subscribers);
    assert_strs(e->subscribers, e->subscriber_count, expected->subscribers,
                expected->subscriber_count);
}

static size_t round_trip(const struct pl_bus_event *e)
{
    struct pl_arena a = {0};
    struct pl_buf packed = {0};
    struct pl_bus_event again;
    struct pl_str payload;
    size_t len;

    pl_redis_encode_event(e, &packed);
    payload = exactly(packed.data, packed.len);
    assert_int_equal(pl_redis_decode_event(PL_REDIS_EVENT, payload, &limits, &a, &again), PL_OK);
    assert_event(&again, e);
    len = packed.len;
    free((char *)payload.s);
    pl_arena_done(&a);
    pl_buf_done(&packed);
    return len;
}

static struct pl_bus_event plain_event(void)
{
    static const struct pl_str channels[] = {PL_LIT("community:42"), PL_LIT("room:7")};

    return (struct pl_bus_event){.body = PL_LIT(BODY), .channels = channels, .channel_count = 2};
}

static struct pl_bus_event full_event(void)
{
    static const struct pl_str subscribers[] = {PL_LIT("-5"),
                                                PL_LIT("0"),
                                                PL_LIT("007"),
                                                PL_LIT("10"),
                                                PL_LIT("9"),
                                                PL_LIT("9007199254740991"),
                                                PL_LIT("9007199254740992"),
                                                PL_LIT("ann"),
                                                PL_LIT("\xc3\xa9va")};
    struct pl_bus_event e = plain_event();

    e.topic = str("789");
    e.exclude_user = str("7");
    e.exclude_queue = str("q-1");
    e.has_subscribers = true;
    e.subscribers = subscribers;
    e.subscriber_count = COUNT(subscribers);
    return e;
}

static void an_event_comes_back_as_it_was(void **state)
{
    struct pl_bus_event e = plain_event();

    (void)state;
    round_trip(&e);
    e = full_event();
    round_trip(&e);
}

static void for_nobody_is_not_for_everybody(void **state)
{
    struct pl_bus_event e = plain_event();

    (void)state;
    e.has_subscribers = true;
    round_trip(&e);
}

static int compare(const void *left, const void *right)
{
    return pl_str_compare(*(const struct pl_str *)left, *(const struct pl_str *)right);
}

static void twenty_thousand_numbers_take_two_bytes_each(void **state)
{
    enum {
        MANY = 20000
    };
    struct pl_str *ids = pl_alloc(MANY * sizeof(*ids));
    struct pl_bus_event e = plain_event();
    struct pl_arena a = {0};

    (void)state;
    for (int i = 0; i < MANY; i++) {
        char *text = pl_arena_alloc(&a, 24);

        ids[i] = (struct pl_str){text, (size_t)snprintf(text, 24, "%d", 1000000 + 97 * i)};
    }
    qsort(ids, MANY, sizeof(*ids), compare);
    e.has_subscribers = true;
    e.subscribers = ids;
    e.subscriber_count = MANY;
    assert_true(round_trip(&e) < 2 * MANY + 300);
    free(ids);
    pl_arena_done(&a);
}

static int decode_text(enum pl_redis_form form, struct pl_str text)
{
    struct pl_arena a = {0};
    struct pl_bus_event e;
    struct pl_str payload = exactly(text.s, text.len);
    int status = pl_redis_decode_event(form, payload, &limits, &a, &e);

    free((char *)payload.s);
    pl_arena_done(&a);
    return status;
}

/* MessagePack from JSON, so that the tables below can be read. */
static int decode_packed(const char *json)
{
    struct pl_arena a = {0};
    struct pl_buf packed = {0};
    const struct pl_value *v;
    struct pl_writer w;
    int status;

    assert_int_equal(pl_decode(PL_JSON, json, strlen(json), &a, &v, NULL), 0);
    pl_writer_init(&w, PL_MSGPACK, &packed);
    pl_write_value(&w, v);
    status = decode_text(PL_REDIS_EVENT, bytes_of(&packed));
    pl_buf_done(&packed);
    pl_arena_done(&a);
    return status;
}

#define B "\"b\":\"{\\\"type\\\":\\\"x\\\"}\""

static void an_event_of_a_newer_node_is_read(void **state)
{
    (void)state;
    assert_int_equal(decode_packed("{" B ",\"c\":[\"a\"]}"), PL_OK);
    assert_int_equal(decode_packed("{" B ",\"c\":[\"a\"],\"new\":[{}]}"), PL_OK);
    assert_int_equal(decode_packed("{" B ",\"c\":[\"a\"],\"n\":[\"ann\"]}"), PL_OK);
}

static void events_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"c\":[\"a\"]}",
        "{\"b\":7,\"c\":[\"a\"]}",
        "{\"b\":\"\",\"c\":[\"a\"]}",
        "{\"b\":\"{\\\"type\\\":}\",\"c\":[\"a\"]}",
        "{\"b\":\"{\\\"data\\\":{}}\",\"c\":[\"a\"]}",
        "{\"b\":\"{\\\"type\\\":1}}\",\"c\":[\"a\"]}",
        "{\"b\":\"{\\\"type\\\":1} \",\"c\":[\"a\"]}",
        "{" B "}",
        "{" B ",\"c\":\"a\"}",
        "{" B ",\"c\":[]}",
        "{" B ",\"c\":[\"\"]}",
        "{" B ",\"c\":[1]}",
        "{" B ",\"c\":[\"b\",\"a\"]}",
        "{" B ",\"c\":[\"a\",\"a\"]}",
        "{" B ",\"c\":[\"a\"],\"t\":1}",
        "{" B ",\"c\":[\"a\"],\"t\":\"\"}",
        "{" B ",\"c\":[\"a\"],\"xu\":null}",
        "{" B ",\"c\":[\"a\"],\"xq\":[]}",
        "{" B ",\"c\":[\"a\"],\"s\":{}}",
        "{" B ",\"c\":[\"a\"],\"s\":[\"7\"]}",
        "{" B ",\"c\":[\"a\"],\"s\":[-1]}",
        "{" B ",\"c\":[\"a\"],\"s\":[7,0]}",
        "{" B ",\"c\":[\"a\"],\"s\":[7,-1]}",
        "{" B ",\"c\":[\"a\"],\"s\":[9007199254740991,1]}",
        "{" B ",\"c\":[\"a\"],\"s\":[1.5]}",
        "{" B ",\"c\":[\"a\"],\"n\":7}",
        "{" B ",\"c\":[\"a\"],\"n\":[\"b\",\"a\"]}",
        "{" B ",\"c\":[\"a\"],\"n\":[\"\"]}",
        "{" B ",\"c\":[\"a\"],\"s\":[7],\"n\":[\"7\"]}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (decode_packed(bad[i]) != PL_ERR_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    assert_int_equal(decode_text((enum pl_redis_form)'Z', PL_LIT("\x80")), PL_ERR_INVALID);
}

#define NOW "2026-11-20T10:30:00.123Z"

static void what_a_backend_published_is_what_publish_would_have_made(void **state)
{
    static const struct pl_str channels[] = {PL_LIT("community:42"), PL_LIT("user:7")};
    static const struct pl_str subscribers[] = {PL_LIT("10"), PL_LIT("9"), PL_LIT("ann")};
    const struct pl_bus_event expected = {
        .body = PL_LIT(
            "{\"type\":\"x\",\"timestamp\":\"" NOW
            "\",\"community_ids\":[42],\"channels\":[\"user:7\"],\"data\":{\"article_id\":789}}"),
        .channels = channels,
        .channel_count = 2,
        .topic = PL_LIT("789"),
        .exclude_user = PL_LIT("5"),
        .has_subscribers = true,
        .subscribers = subscribers,
        .subscriber_count = 3};
    struct pl_arena a = {0};
    struct pl_bus_event e;
    struct pl_str payload = PL_LIT(
        NOW
        " {\"type\":\"x\",\"channels\":[\"user:7\"],\"community_ids\":[42],\"exclude_user_id\":5,"
        "\"data\":{\"article_id\":789,\"subscriber_ids\":[9,\"ann\",10,9]}}");

    (void)state;
    assert_int_equal(pl_redis_decode_event(PL_REDIS_JSON, payload, &limits, &a, &e), PL_OK);
    assert_event(&e, &expected);
    pl_arena_done(&a);
}

static void a_timestamp_of_its_own_is_kept(void **state)
{
    struct pl_arena a = {0};
    struct pl_bus_event e;
    struct pl_str payload = PL_LIT(NOW " {\"type\":\"x\",\"timestamp\":\"2020-01-01T00:00:00Z\","
                                       "\"community_ids\":[42],\"data\":{}}");

    (void)state;
    assert_int_equal(pl_redis_decode_event(PL_REDIS_JSON, payload, &limits, &a, &e), PL_OK);
    assert_str(e.body, "{\"type\":\"x\",\"timestamp\":\"2020-01-01T00:00:00Z\","
                       "\"community_ids\":[42],\"data\":{}}");
    assert_false(e.has_subscribers);
    pl_arena_done(&a);
}

#define TAIL "\"data\":{},\"community_ids\":[42]}"

static void what_no_backend_may_publish_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        NOW,
        NOW " ",
        NOW "  {\"type\":\"x\"," TAIL "}",
        "{\"type\":\"x\"," TAIL,
        "2026-11-20T10:30:00Z {\"type\":\"x\"," TAIL,
        "2026-11-20 10:30:00.123Z {\"type\":\"x\"," TAIL,
        NOW "{\"type\":\"x\"," TAIL,
        NOW " []",
        NOW " {\"type\":\"\"," TAIL,
        NOW " {\"type\":\"x\",\"type\":\"x\"," TAIL,
        NOW " {\"type\":\"x\",\"data\":{}}",
        NOW " {\"type\":\"x\",\"data\":[],\"community_ids\":[42]}",
        NOW " {\"type\":\"x\",\"data\":{},\"community_ids\":[1,2,3,4]}",
        NOW " {\"type\":\"x\",\"subscriber_ids\":[1,2,3,4,5]," TAIL,
        NOW " {\"type\":\"x\",\"subscriber_ids\":null," TAIL,
    };

    (void)state;
    assert_int_equal(decode_text(PL_REDIS_JSON, PL_LIT(NOW " {\"type\":\"x\"," TAIL)), PL_OK);
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (decode_text(PL_REDIS_JSON, str(bad[i])) != PL_ERR_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

/* ---- changes ---- */

static void assert_membership(const struct pl_membership *m, const struct pl_membership *expected)
{
    assert_int_equal(m != NULL, expected != NULL);
    if (!m || !expected) {
        return;
    }
    assert_strs(m->channels, m->channel_count, expected->channels, expected->channel_count);
    assert_int_equal(m->has_narrowing, expected->has_narrowing);
    assert_int_equal(m->narrowing_count, expected->narrowing_count);
    for (size_t i = 0; i < m->narrowing_count; i++) {
        const struct pl_narrowing *n = &m->narrowing[i], *x = &expected->narrowing[i];

        assert_true(pl_str_eq(n->channel, x->channel));
        assert_strs(n->topics, n->topic_count, x->topics, x->topic_count);
    }
}

static void change_round_trip(const struct pl_bus_change *c)
{
    struct pl_arena a = {0};
    struct pl_buf packed = {0};
    struct pl_bus_change again;
    struct pl_str payload;

    pl_redis_encode_change(c, &packed);
    payload = exactly(packed.data, packed.len);
    assert_int_equal(pl_redis_decode_change(payload, &a, &again), PL_OK);
    assert_int_equal(again.kind, c->kind);
    assert_true(pl_str_eq(again.user_id, c->user_id));
    assert_membership(again.membership, c->membership);
    assert_int_equal(again.has_version, c->has_version);
    assert_int_equal(again.version, c->version);
    assert_int_equal(again.unix_ms, c->unix_ms);
    assert_int_equal(again.blocked_until_ms, c->blocked_until_ms);
    free((char *)payload.s);
    pl_arena_done(&a);
    pl_buf_done(&packed);
}

static struct pl_bus_change full_change(void)
{
    static struct pl_str channels[] = {PL_LIT("community:1"), PL_LIT("community:2"), PL_LIT("r")};
    static struct pl_str topics[] = {PL_LIT("10"), PL_LIT("9"), PL_LIT("\xc3\xa9")};
    static struct pl_narrowing narrowing[] = {{PL_LIT("community:1"), topics, 3},
                                              {PL_LIT("r"), NULL, 0}};
    static const struct pl_membership m = {channels, 3, true, narrowing, 2};

    return (struct pl_bus_change){.kind = PL_CHANGE_UPDATE,
                                  .user_id = PL_LIT("7"),
                                  .membership = &m,
                                  .has_version = true,
                                  .version = PL_INT_MAX,
                                  .unix_ms = 1795170600123};
}

static void a_change_comes_back_as_it_was(void **state)
{
    static const struct pl_membership nothing = {0};
    static const struct pl_membership none_narrowed = {.has_narrowing = true};
    struct pl_bus_change c = full_change();

    (void)state;
    change_round_trip(&c);
    c = (struct pl_bus_change){.user_id = PL_LIT("ann"), .membership = &nothing};
    change_round_trip(&c);
    c.membership = &none_narrowed;
    c.has_version = true;
    change_round_trip(&c);
    c = (struct pl_bus_change){.kind = PL_CHANGE_DISCONNECT, .user_id = PL_LIT("7"), .unix_ms = 5};
    change_round_trip(&c);
    c.blocked_until_ms = PL_INT_MAX;
    change_round_trip(&c);
}

static int decode_packed_change(const char *json)
{
    struct pl_arena a = {0};
    struct pl_buf packed = {0};
    const struct pl_value *v;
    struct pl_bus_change c;
    struct pl_writer w;
    int status;

    assert_int_equal(pl_decode(PL_JSON, json, strlen(json), &a, &v, NULL), 0);
    pl_writer_init(&w, PL_MSGPACK, &packed);
    pl_write_value(&w, v);
    status = pl_redis_decode_change(bytes_of(&packed), &a, &c);
    pl_buf_done(&packed);
    pl_arena_done(&a);
    return status;
}

static void changes_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {
        "7",
        "{\"k\":3,\"u\":\"7\",\"m\":[],\"at\":1}",
        "{\"k\":-1,\"u\":\"7\",\"m\":[],\"at\":1}",
        "{\"k\":\"1\",\"u\":\"7\",\"m\":[],\"at\":1}",
        "{\"u\":\"7\",\"m\":[],\"at\":1}",
        "{\"k\":1,\"u\":7,\"m\":[],\"at\":1}",
        "{\"k\":1,\"u\":\"\",\"m\":[],\"at\":1}",
        "{\"k\":1,\"m\":[],\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[]}",
        "{\"k\":1,\"u\":\"7\",\"m\":[],\"at\":-1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[],\"at\":1,\"v\":\"1\"}",
        "{\"k\":1,\"u\":\"7\",\"m\":[],\"at\":1,\"x\":-1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"b\",\"a\"],\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"a\"],\"w\":{},\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"a\"],\"w\":[[\"b\",[]]],\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"a\"],\"w\":[[\"a\"]],\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"a\"],\"w\":[[1,[]]],\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"a\"],\"w\":[[\"a\",[\"2\",\"1\"]]],\"at\":1}",
        "{\"k\":1,\"u\":\"7\",\"m\":[\"a\"],\"w\":[[\"a\",[]],[\"a\",[]]],\"at\":1}",
        "{\"k\":2,\"u\":\"7\",\"m\":[],\"at\":1}",
    };

    (void)state;
    assert_int_equal(decode_packed_change("{\"k\":1,\"u\":\"7\",\"m\":[],\"at\":1}"), PL_OK);
    assert_int_equal(decode_packed_change("{\"k\":2,\"u\":\"7\",\"at\":1,\"new\":1}"), PL_OK);
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (decode_packed_change(bad[i]) != PL_ERR_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

/* ---- announcements ---- */

static int parse(struct pl_str message, struct pl_arena *a, struct pl_redis_news *ret)
{
    memset(ret, 0, sizeof(*ret));
    return pl_redis_parse_news(message, a, ret);
}

static void an_announcement_of_an_event_names_its_channels(void **state)
{
    struct pl_arena a = {0};
    struct pl_redis_news n;

    (void)state;
    assert_int_equal(
        parse(PL_LIT("E 2048 0a1b2c3d 2 0 12 community:42 1024 6 room:7 \x81 pay load"), &a, &n),
        0);
    assert_int_equal(n.what, 'E');
    assert_int_equal(n.id, 2048);
    assert_str(n.tag, "0a1b2c3d");
    assert_int_equal(n.channel_count, 2);
    assert_str(n.channels[0], "community:42");
    assert_str(n.channels[1], "room:7");
    assert_int_equal(n.prevs[0], 0);
    assert_int_equal(n.prevs[1], 1024);
    assert_str(n.payload, "\x81 pay load");
    assert_int_equal(parse(PL_LIT("J 9007199254740991 t 1 5 3 a b {}"), &a, &n), 0);
    assert_str(n.channels[0], "a b");
    assert_int_equal(n.id, PL_INT_MAX);
    pl_arena_done(&a);
}

static void the_other_announcements_are_read(void **state)
{
    struct pl_arena a = {0};
    struct pl_redis_news n;

    (void)state;
    assert_int_equal(parse(PL_LIT("H 7 tag 5 p"), &a, &n), 0);
    assert_true(n.what == 'H' && n.id == 7 && n.prevs[0] == 5);
    assert_str(n.tag, "tag");
    assert_str(n.payload, "p");
    assert_int_equal(parse(PL_LIT("P 1000 3"), &a, &n), 0);
    assert_true(n.what == 'P' && n.id == 1000 && n.number == 3);
    assert_int_equal(parse(PL_LIT("M 12"), &a, &n), 0);
    assert_true(n.what == 'M' && n.id == 12);
    assert_int_equal(parse(PL_LIT("C 12 nonce"), &a, &n), 0);
    assert_true(n.what == 'C' && n.id == 12);
    assert_str(n.tag, "nonce");
    assert_int_equal(parse(PL_LIT("T q-1 4 1700000000000"), &a, &n), 0);
    assert_true(n.what == 'T' && n.number == 4);
    assert_str(n.name, "q-1");
    assert_int_equal(parse(PL_LIT("X q-1 -10"), &a, &n), 0);
    assert_true(n.what == 'X' && n.number == -10);
    assert_int_equal(parse(PL_LIT("X q-1 0"), &a, &n), 0);
    assert_int_equal(n.number, 0);
    pl_arena_done(&a);
}

static void what_a_newer_version_announces_is_nothing(void **state)
{
    static const char *const unknown[] = {"Z", "Z 1 2", "e 1", "EE 1", "E\xc3\xa9 1"};
    struct pl_arena a = {0};
    struct pl_redis_news n;

    (void)state;
    for (size_t i = 0; i < COUNT(unknown); i++) {
        assert_int_equal(parse(str(unknown[i]), &a, &n), PL_OK);
        assert_int_equal(n.what, 0);
    }
    pl_arena_done(&a);
}

static const char *const malformed[] = {
    "",
    " ",
    " E 1",
    "E",
    "E ",
    "E 1",
    "E 0 t 1 0 1 a p",
    "E 01 t 1 0 1 a p",
    "E -1 t 1 0 1 a p",
    "E +1 t 1 0 1 a p",
    "E 9007199254740992 t 1 0 1 a p",
    "E 11111111111111111 t 1 0 1 a p",
    "E 2  1 0 1 a p",
    "E 2 t 0 p",
    "E 2 t 1001 0 1 a p",
    "E 2 t 2 0 1 a p",
    "E 2 t 1 2 1 a p",
    "E 2 t 1 3 1 a p",
    "E 2 t 1 0 0  p",
    "E 2 t 1 0 2 a p",
    "E 2 t 1 0 1 ab p",
    "E 2 t 1 0 9 a p",
    "E 2 t 1 0 129 a p",
    "E 2 t 1 0 1 a",
    "E 2 t 1 0 1 a ",
    "H 2 t 0",
    "H 2 t 2 p",
    "H 2 t p",
    "P 1",
    "P 1 ",
    "P 1 0",
    "P 1 2 ",
    "P 1 2 3",
    "M",
    "M x",
    "M 1 ",
    "C 1",
    "C 1 n n",
    "T q",
    "T q 0",
    "T q -1",
    "T q 1 ",
    "T q 1",
    "T q 1 -5",
    "T q 1 5 ",
    "X q",
    "X q -",
    "X q -0",
    "X q --1",
};

static void malformed_announcements_are_refused(void **state)
{
    struct pl_arena a = {0};
    struct pl_redis_news n;

    (void)state;
    for (size_t i = 0; i < COUNT(malformed); i++) {
        struct pl_str message = exactly(malformed[i], strlen(malformed[i]));

        if (parse(message, &a, &n) != PL_ERR_MALFORMED) {
            fail_msg("accepted: '%s'", malformed[i]);
        }
        free((char *)message.s);
    }
    pl_arena_done(&a);
}

/* n channels with names of len digits each, as an announcement and as an event. */
static void check_channels(size_t n, int len, int news_status, int event_status)
{
    struct pl_arena a = {0};
    struct pl_buf news = {0}, packed = {0};
    struct pl_str *names = pl_alloc(n * sizeof(*names));
    struct pl_bus_event e = {.body = PL_LIT(BODY), .channels = names, .channel_count = n};
    struct pl_redis_news parsed;

    pl_buf_printf(&news, "E 9 t %zu", n);
    for (size_t i = 0; i < n; i++) {
        char *name = pl_arena_alloc(&a, (size_t)len + 1);

        (void)snprintf(name, (size_t)len + 1, "%0*zu", len, i);
        names[i] = (struct pl_str){name, (size_t)len};
        pl_buf_printf(&news, " 0 %d %s", len, name);
    }
    pl_buf_append_str(&news, " p");
    pl_redis_encode_event(&e, &packed);
    assert_int_equal(parse(bytes_of(&news), &a, &parsed), news_status);
    assert_int_equal(decode_text(PL_REDIS_EVENT, bytes_of(&packed)), event_status);
    pl_buf_done(&news);
    pl_buf_done(&packed);
    pl_arena_done(&a);
    free(names);
}

static void words_have_a_limit(void **state)
{
    struct pl_arena a = {0};
    struct pl_buf news = {0};
    struct pl_redis_news n;

    (void)state;
    pl_buf_printf(&news, "C 9 %0*d", 512, 0);
    assert_int_equal(parse(bytes_of(&news), &a, &n), PL_OK);
    assert_int_equal(n.tag.len, 512);
    pl_buf_append_byte(&news, '0');
    assert_int_equal(parse(bytes_of(&news), &a, &n), PL_ERR_MALFORMED);
    pl_buf_done(&news);
}

static void channels_have_limits(void **state)
{
    (void)state;
    check_channels(1000, 128, PL_OK, PL_OK);
    check_channels(1001, 4, PL_ERR_MALFORMED, PL_ERR_INVALID);
    check_channels(1, 129, PL_ERR_MALFORMED, PL_ERR_INVALID);
}

/* ---- anything ---- */

/* Reads bytes in every way there is; whatever comes out must be what the core was promised. */
static void try_all(const uint8_t *data, size_t len)
{
    struct pl_arena a = {0};
    struct pl_str bytes = exactly(data, len);
    struct pl_bus_change c;
    struct pl_bus_event e;
    struct pl_redis_news n;
    struct pl_buf out = {0};

    if (pl_redis_decode_event(PL_REDIS_EVENT, bytes, &limits, &a, &e) == 0 ||
        pl_redis_decode_event(PL_REDIS_JSON, bytes, &limits, &a, &e) == 0) {
        pl_event_encode(PL_MSGPACK, 1, e.body, &out);
        round_trip(&e);
    }
    if (pl_redis_decode_change(bytes, &a, &c) == 0) {
        change_round_trip(&c);
    }
    if (pl_redis_parse_news(bytes, &a, &n) == 0 && n.channel_count > 0) {
        assert_true(n.payload.s + n.payload.len == bytes.s + bytes.len);
    }
    pl_buf_done(&out);
    free((char *)bytes.s);
    pl_arena_done(&a);
}

static void samples(struct pl_buf out[4])
{
    const struct pl_bus_event e = full_event();
    const struct pl_bus_change c = full_change();

    pl_redis_encode_event(&e, &out[0]);
    pl_redis_encode_change(&c, &out[1]);
    pl_buf_append_str(&out[2], NOW " {\"type\":\"x\",\"subscriber_ids\":[1,\"a\"]," TAIL);
    pl_buf_append_str(&out[3], "E 2048 0a1b2c3d 2 0 12 community:42 1024 6 room:7 ");
    pl_buf_append(&out[3], out[0].data, out[0].len);
}

static void every_truncation_is_refused(void **state)
{
    struct pl_buf s[4] = {0};
    struct pl_arena a = {0};
    struct pl_redis_news n;

    (void)state;
    samples(s);
    for (int i = 0; i < 4; i++) {
        for (size_t len = 0; len < s[i].len; len++) {
            try_all(s[i].data, len);
            if (i != 3) {
                const struct pl_str part = {(const char *)s[i].data, len};

                assert_int_equal(decode_text(i == 2 ? PL_REDIS_JSON : PL_REDIS_EVENT, part),
                                 PL_ERR_INVALID);
            }
        }
    }
    for (size_t len = 0; len <= s[3].len - s[0].len; len++) {
        assert_int_equal(parse((struct pl_str){(const char *)s[3].data, len}, &a, &n),
                         PL_ERR_MALFORMED);
    }
    pl_arena_done(&a);
    for (int i = 0; i < 4; i++) {
        pl_buf_done(&s[i]);
    }
}

/* xorshift: the same run every time. */
static uint64_t next_random(void)
{
    static uint64_t x = 88172645463325252u;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static void mutations_harm_nothing(void **state)
{
    struct pl_buf s[4] = {0};

    (void)state;
    samples(s);
    for (int i = 0; i < 100000; i++) {
        const struct pl_buf *from = &s[next_random() % 4];
        struct pl_buf m = {0};

        pl_buf_append(&m, from->data, from->len);
        for (uint64_t k = next_random() % 4; k < 4; k++) {
            m.data[next_random() % m.len] = (uint8_t)next_random();
        }
        try_all(m.data, m.len - next_random() % 2 * (next_random() % m.len));
        pl_buf_done(&m);
    }
    for (int i = 0; i < 4; i++) {
        pl_buf_done(&s[i]);
    }
}

static void keys_share_the_prefix_as_their_hash_tag(void **state)
{
    struct pl_buf key = {0};

    (void)state;
    pl_redis_key(&key, "parley", "seq", PL_LIT(""));
    assert_string_equal(pl_buf_cstr(&key), "{parley}:seq");
    key.len = 0;
    pl_redis_key(&key, "a:b", "log", PL_LIT("community:42"));
    assert_string_equal(pl_buf_cstr(&key), "{a:b}:log:community:42");
    pl_redis_key(&key, "p", "conn:user", PL_LIT("7"));
    assert_string_equal(pl_buf_cstr(&key), "{a:b}:log:community:42{p}:conn:user:7");
    pl_buf_done(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_comes_back_as_it_was),
        cmocka_unit_test(for_nobody_is_not_for_everybody),
        cmocka_unit_test(twenty_thousand_numbers_take_two_bytes_each),
        cmocka_unit_test(an_event_of_a_newer_node_is_read),
        cmocka_unit_test(events_that_are_none_are_refused),
        cmocka_unit_test(what_a_backend_published_is_what_publish_would_have_made),
        cmocka_unit_test(a_timestamp_of_its_own_is_kept),
        cmocka_unit_test(what_no_backend_may_publish_is_refused),
        cmocka_unit_test(a_change_comes_back_as_it_was),
        cmocka_unit_test(changes_that_are_none_are_refused),
        cmocka_unit_test(an_announcement_of_an_event_names_its_channels),
        cmocka_unit_test(the_other_announcements_are_read),
        cmocka_unit_test(what_a_newer_version_announces_is_nothing),
        cmocka_unit_test(malformed_announcements_are_refused),
        cmocka_unit_test(channels_have_limits),
        cmocka_unit_test(words_have_a_limit),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(mutations_harm_nothing),
        cmocka_unit_test(keys_share_the_prefix_as_their_hash_tag),
    };

    return cmocka_run_group_tests_name("redis_wire", tests, NULL, NULL);
}
