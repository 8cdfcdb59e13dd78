#include "server/app/inherit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void what_was_written_is_read(void **state)
{
    struct pl_inherited in, out;
    char *text;

    (void)state;
    pl_inherited_init(&in);
    in.sockets[0] = 3;
    in.board = 7;
    in.slot = 255;
    in.control = 9;
    in.wait = 1;
    in.worker_count = 2;
    in.workers[0].slot = 1;
    in.workers[0].pid = 4711;
    in.workers[0].control = 8;
    in.workers[0].state = PL_WORKER_SERVING;
    in.workers[1] = in.workers[0];
    in.workers[1].state = PL_WORKER_LEAVING;
    text = pl_inherited_write(&in);
    assert_true(pl_inherited_parse(text, &out));
    assert_memory_equal(&in, &out, sizeof(in));
    free(text);
}

static void another_version_may_say_more_or_less(void **state)
{
    struct pl_inherited in;

    (void)state;
    assert_true(pl_inherited_parse("main=3 colour=blue", &in));
    assert_int_equal(in.sockets[0], 3);
    assert_int_equal(in.sockets[1], -1);
    assert_int_equal(in.board, -1);
    assert_int_equal(in.slot, -1);
    assert_true(pl_inherited_parse("", &in));
    assert_int_equal(in.sockets[0], -1);
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const char *const bad[] = {
        "main",
        "main=x",
        "worker=1:2:3",
        "worker=256:2:3:3",
        "worker=-1:2:3",
        "worker=1:0:3:3",
        "worker=1:-1:3:3",
        "worker=1:2:3:0",
        "slot=256",
        "worker=1:2:3:9",
        "yes",
    };
    struct pl_inherited in;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (pl_inherited_parse(bad[i], &in)) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(another_version_may_say_more_or_less),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests_name("app/inherit", tests, NULL, NULL);
}
