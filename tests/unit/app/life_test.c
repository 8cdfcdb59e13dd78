#include "server/app/life.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    SOON_MS = 5000,
};

static pl_life *life;
static int notes[2];

static int make(void **state)
{
    (void)state;
    life = mmap(NULL, sizeof(*life), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(life != MAP_FAILED);
    pl_life_init(life);
    assert_int_equal(pipe(notes), 0);
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    close(notes[0]);
    close(notes[1]);
    return munmap(life, sizeof(*life));
}

/* A process that holds the life, watched from here on. */
static int born(void (*lives)(void))
{
    int ready[2], pid;
    char byte;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        pl_life_hold(life);
        (void)!write(ready[1], "+", 1);
        lives();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    pl_life_watch(life, notes[1], pid);
    return pid;
}

static bool is_noted(int ms)
{
    return poll(&(struct pollfd){.fd = notes[0], .events = POLLIN}, 1, ms) == 1;
}

static int next_note(void)
{
    int pid;

    assert_true(is_noted(SOON_MS));
    assert_int_equal(read(notes[0], &pid, sizeof(pid)), sizeof(pid));
    return pid;
}

static void bury(int pid)
{
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void sleeps(void)
{
    (void)pause();
}

static void ends(void)
{
}

static void *sleep_on(void *arg)
{
    (void)pause();
    return arg;
}

/* What held the life has gone, and the process has not: as one whose descriptors are being closed. */
static void dies_slowly(void)
{
    pthread_t other;

    pthread_create(&other, NULL, sleep_on, NULL);
    pthread_exit(NULL);
}

static void a_death_is_noted(void **state)
{
    int pid = born(sleeps);

    (void)state;
    assert_false(is_noted(50));
    kill(pid, SIGKILL);
    assert_int_equal(next_note(), pid);
    bury(pid);
}

static void so_is_an_end_by_itself(void **state)
{
    int pid = born(ends);

    (void)state;
    assert_int_equal(next_note(), pid);
    bury(pid);
}

static void it_is_noted_before_the_process_has_ended(void **state)
{
    int pid = born(dies_slowly);

    (void)state;
    assert_int_equal(next_note(), pid);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGKILL);
    bury(pid);
}

/* Also one that holds it before the watch over the last one has woken. */
static void the_next_one_is_watched_like_the_first(void **state)
{
    enum {
        COUNT = 20
    };
    int pids[COUNT];

    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        pids[i] = born(sleeps);
        kill(pids[i], SIGKILL);
        bury(pids[i]);
    }
    for (unsigned noted = 0; noted < COUNT; noted++) {
        int pid = next_note();
        unsigned i = 0;

        while (i < COUNT && pids[i] != pid) {
            i++;
        }
        assert_in_range(i, 0, COUNT - 1);
        pids[i] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_death_is_noted),
        cmocka_unit_test(so_is_an_end_by_itself),
        cmocka_unit_test(it_is_noted_before_the_process_has_ended),
        cmocka_unit_test(the_next_one_is_watched_like_the_first),
    };

    return cmocka_run_group_tests(tests, make, unmake);
}
