#include "server/bus/redis_pipe.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void some_fn(void *arg, const redisReply *r)
{
    (void)arg;
    (void)r;
}

static void asked(struct pl_redis__pipe *p, uintptr_t number)
{
    pl_redis__pipe_asked(p, &(struct pl_redis__call){.fn = some_fn, .arg = (void *)number});
}

static void calls_keep_their_order_however_the_ring_turns(void **state)
{
    struct pl_redis__pipe p = {0};
    struct pl_redis__call call;
    uintptr_t in = 0, out = 0;

    (void)state;
    assert_null(pl_redis__pipe_oldest(&p));
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 97; i++) {
            asked(&p, in++);
        }
        for (int i = 0; i < 60; i++) {
            assert_ptr_equal(pl_redis__pipe_oldest(&p)->arg, (void *)out);
            assert_true(pl_redis__pipe_take(&p, &call));
            assert_ptr_equal(call.arg, (void *)out++);
        }
    }
    while (pl_redis__pipe_take(&p, &call)) {
        assert_ptr_equal(call.arg, (void *)out++);
    }
    assert_int_equal(in, out);
    assert_int_equal(p.cap, 0); /* a peak's memory is not kept */
    pl_redis__pipe_done(&p);
}

static void replies_are_found_byte_by_byte(void **state)
{
    static const char bytes[] = "+OK\r\n*2\r\n$3\r\na\r\n\r\n*1\r\n:5\r\n-ERR x\r\n";
    static const int types[] = {REDIS_REPLY_STATUS, REDIS_REPLY_ARRAY, REDIS_REPLY_ERROR};
    struct pl_redis__pipe p = {0};
    struct pl_redis__call call;
    redisReply *r;
    uintptr_t n = 0;

    (void)state;
    for (uintptr_t i = 0; i < 3; i++) {
        asked(&p, i);
    }
    assert_int_equal(pl_redis__pipe_next(&p, &r, &call), PL_REDIS__MORE);
    for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
        pl_redis__pipe_feed(&p, bytes + i, 1);
        while (pl_redis__pipe_next(&p, &r, &call) == PL_REDIS__ANSWER) {
            assert_int_equal(r->type, types[n]);
            assert_ptr_equal(call.arg, (void *)n++);
            freeReplyObject(r);
        }
    }
    assert_int_equal(n, 3);
    assert_int_equal(p.partial, 0);
    pl_redis__pipe_done(&p);
}

static enum pl_redis__next fed(struct pl_redis__pipe *p, const char *bytes)
{
    struct pl_redis__call call;
    redisReply *r = NULL;
    enum pl_redis__next next;

    pl_redis__pipe_feed(p, bytes, strlen(bytes));
    next = pl_redis__pipe_next(p, &r, &call);
    if (next == PL_REDIS__ANSWER || next == PL_REDIS__PUSH) {
        freeReplyObject(r);
    }
    return next;
}

static void pushes_are_told_from_answers(void **state)
{
    static const struct {
        const char *bytes;
        enum pl_redis__next next, without;
    } rows[] = {
        {"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n", PL_REDIS__PUSH, PL_REDIS__ANSWER},
        {"*4\r\n$8\r\npmessage\r\n$1\r\nc\r\n$1\r\nx\r\n$1\r\ny\r\n", PL_REDIS__PUSH,
         PL_REDIS__ANSWER},
        {"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", PL_REDIS__PUSH, PL_REDIS__ANSWER},
        {"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", PL_REDIS__PUSH, PL_REDIS__ANSWER},
        {"*2\r\n$4\r\npong\r\n$0\r\n\r\n", PL_REDIS__ANSWER, PL_REDIS__ANSWER},
        {"*1\r\n$7\r\nmessage\r\n", PL_REDIS__ANSWER, PL_REDIS__ANSWER},
        {"*3\r\n:1\r\n:2\r\n:3\r\n", PL_REDIS__ANSWER, PL_REDIS__ANSWER},
        {"*0\r\n", PL_REDIS__ANSWER, PL_REDIS__ANSWER},
        {"*-1\r\n", PL_REDIS__ANSWER, PL_REDIS__ANSWER},
        {"$7\r\nmessage\r\n", PL_REDIS__ANSWER, PL_REDIS__ANSWER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int pushes = 0; pushes < 2; pushes++) {
            struct pl_redis__pipe p = {.pushes = pushes};

            asked(&p, 1);
            assert_int_equal(fed(&p, rows[i].bytes), pushes ? rows[i].next : rows[i].without);
            pl_redis__pipe_done(&p);
        }
    }
}

static void a_subscription_is_answered_by_as_many_pushes(void **state)
{
    static const char one[] = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
    struct pl_redis__pipe p = {.pushes = true};

    (void)state;
    pl_redis__pipe_asked(&p, &(struct pl_redis__call){.pushes = 2});
    asked(&p, 1);
    assert_int_equal(fed(&p, one), PL_REDIS__PUSH);
    assert_int_equal(p.count, 2);
    assert_int_equal(fed(&p, one), PL_REDIS__PUSH);
    assert_int_equal(p.count, 1);
    assert_int_equal(fed(&p, one), PL_REDIS__PUSH); /* one more than was asked for: no harm */
    assert_int_equal(p.count, 1);
    assert_int_equal(fed(&p, "+PONG\r\n"), PL_REDIS__ANSWER);
    pl_redis__pipe_asked(&p, &(struct pl_redis__call){.pushes = 1});
    assert_int_equal(fed(&p, "-NOPERM no\r\n"), PL_REDIS__BROKEN);
    assert_string_equal(p.error, "subscribing was refused: NOPERM no");
    pl_redis__pipe_done(&p);
}

static void what_was_not_asked_for_breaks_it(void **state)
{
    struct pl_redis__pipe p = {0};

    (void)state;
    assert_int_equal(fed(&p, "-ERR max number of clients reached\r\n"), PL_REDIS__BROKEN);
    assert_string_equal(p.error,
                        "a reply that nobody asked for: ERR max number of clients reached");
    pl_redis__pipe_cut(&p);
    assert_int_equal(fed(&p, "what\r\n"), PL_REDIS__BROKEN);
    assert_memory_equal(p.error, "not a reply of Redis", 20);
    pl_redis__pipe_done(&p);
}

static void half_a_reply_is_forgotten_by_a_cut(void **state)
{
    struct pl_redis__pipe p = {0};

    (void)state;
    asked(&p, 1);
    assert_int_equal(fed(&p, "*2\r\n:1\r\n"), PL_REDIS__MORE);
    pl_redis__pipe_cut(&p);
    assert_int_equal(fed(&p, ":1\r\n"), PL_REDIS__ANSWER);
    pl_redis__pipe_done(&p);
}

static void a_peak_leaves_no_buffer_behind(void **state)
{
    enum {
        LEN = 200000
    };
    struct pl_redis__pipe p = {0};
    char *text = malloc(LEN + 1);

    (void)state;
    asked(&p, 1);
    asked(&p, 2);
    assert_int_equal(fed(&p, "$200000\r\n"), PL_REDIS__MORE);
    memset(text, 'x', LEN);
    text[LEN] = '\0';
    assert_int_equal(fed(&p, text), PL_REDIS__MORE);
    free(text);
    assert_int_equal(fed(&p, "\r\n+O"), PL_REDIS__ANSWER);
    assert_non_null(p.reader); /* it holds half a reply */
    assert_int_equal(fed(&p, "K\r\n"), PL_REDIS__ANSWER);
    assert_int_equal(fed(&p, ""), PL_REDIS__MORE);
    assert_null(p.reader);
    pl_redis__pipe_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_keep_their_order_however_the_ring_turns),
        cmocka_unit_test(replies_are_found_byte_by_byte),
        cmocka_unit_test(pushes_are_told_from_answers),
        cmocka_unit_test(a_subscription_is_answered_by_as_many_pushes),
        cmocka_unit_test(what_was_not_asked_for_breaks_it),
        cmocka_unit_test(half_a_reply_is_forgotten_by_a_cut),
        cmocka_unit_test(a_peak_leaves_no_buffer_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
