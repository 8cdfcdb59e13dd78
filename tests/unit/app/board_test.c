#include "server/app/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void whoever_opens_it_sees_the_same(void **state)
{
    int fd;
    struct pl_board *mine = pl_board_new(&fd), *theirs = pl_board_open(fd);

    (void)state;
    assert_non_null(theirs);
    theirs->slots[3].ready = 1;
    assert_int_equal(mine->slots[3].ready, 1);
    mine->layout++;
    assert_null(pl_board_open(fd));
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_null(pl_board_open(fd));
    assert_int_equal(ftruncate(fd, sizeof(*mine)), 0);
    assert_null(pl_board_open(-1));
    pl_board_close(mine);
    pl_board_close(theirs);
    pl_board_close(NULL);
    close(fd);
}

static void the_sums_are_of_those_that_live(void **state)
{
    int fd;
    struct pl_board *b = pl_board_new(&fd);
    struct pl_board_sums sums;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        b->slots[i].lives = b->slots[i].used = b->slots[i].ready = 1;
        b->slots[i].metrics.values[PL_S_QUEUES_WEBSOCKET] = 10;
        b->slots[i].metrics.values[PL_S_QUEUES_LONGPOLL] = 3;
        b->slots[i].metrics.values[PL_S_PENDING_POLLS] = 3;
    }
    b->slots[1].draining = 1;
    pl_board_sum(b, &sums);
    assert_int_equal(sums.ready, 2);
    assert_int_equal(sums.queues, 39);
    assert_int_equal(sums.pending_polls, 9);
    pl_board_ended(b, 0);
    pl_board_sum(b, &sums);
    assert_int_equal(sums.ready, 1);
    assert_int_equal(sums.queues, 26);
    pl_board_close(b);
    close(fd);
}

static void what_a_worker_counted_outlives_it(void **state)
{
    int fd;
    struct pl_board *b = pl_board_new(&fd);
    struct pl_buf out = {0};

    (void)state;
    b->slots[5].used = b->slots[5].lives = 1;
    b->slots[5].metrics.values[PL_S_ACCEPTED] = 12;
    b->slots[5].metrics.values[PL_S_CONN_HTTP] = 4;
    pl_board_ended(b, 5);
    pl_board_export(b, &out);
    assert_non_null(strstr(pl_buf_cstr(&out), "realtime_accepted_total{worker=\"5\"} 12\n"));
    assert_non_null(
        strstr(pl_buf_cstr(&out), "realtime_connections{worker=\"5\",transport=\"http\"} 0\n"));
    assert_null(strstr(pl_buf_cstr(&out), "worker=\"4\""));
    pl_buf_done(&out);
    pl_board_close(b);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_opens_it_sees_the_same),
        cmocka_unit_test(the_sums_are_of_those_that_live),
        cmocka_unit_test(what_a_worker_counted_outlives_it),
    };

    return cmocka_run_group_tests_name("app/board", tests, NULL, NULL);
}
