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
static int born(unsigned slot, void (*lives)(void))
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
    pl_life_watch(life, notes[1], (struct pl_life_note){pid, slot});
    return pid;
}

static bool is_noted(int ms)
{
    return poll(&(struct pollfd){.fd = notes[0], .events = POLLIN}, 1, ms) == 1;
}

static void expect_note(int pid, unsigned slot)
{
    struct pl_life_note note;

    assert_true(is_noted(SOON_MS));
    assert_int_equal(read(notes[0], &note, sizeof(note)), sizeof(note));
    assert_int_equal(note.pid, pid);
    assert_int_equal(note.slot, slot);
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
    int pid = born(7, sleeps);

    (void)state;
    assert_false(is_noted(50));
    kill(pid, SIGKILL);
    expect_note(pid, 7);
    bury(pid);
}

static void so_is_an_end_by_itself(void **state)
{
    int pid = born(8, ends);

    (void)state;
    expect_note(pid, 8);
    bury(pid);
}

static void it_is_noted_before_the_process_has_ended(void **state)
{
    int pid = born(9, dies_slowly);

    (void)state;
    expect_note(pid, 9);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGKILL);
    bury(pid);
}

/* Also one that holds it before the watch over the last one has woken. */
static void the_next_one_is_watched_like_the_first(void **state)
{
    struct pl_life_note note;
    int pids[20];

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        pids[i] = born(i, sleeps);
        kill(pids[i], SIGKILL);
        bury(pids[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        assert_true(is_noted(SOON_MS));
        assert_int_equal(read(notes[0], &note, sizeof(note)), sizeof(note));
        assert_int_equal(note.pid, pids[note.slot]);
        pids[note.slot] = 0;
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
