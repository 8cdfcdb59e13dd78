#ifndef PL_APP_LIFE_H
#define PL_APP_LIFE_H

#include <pthread.h>

/* Hears of the death of a process at its beginning. SIGCHLD comes last: after the kernel has closed all
 * that the process had open, which takes a tenth of a second with some thousand connections. A lock that
 * it held (robust: POSIX, pthread_mutex_lock, EOWNERDEAD) is let go of first.
 *
 * The lock is in memory that both processes have mapped. It outlives them: the next one may hold it. */
typedef pthread_mutex_t pl_life;

/* Once, before anybody knows of it. */
void pl_life_init(pl_life *life);
/* The calling process holds it until it ends, its calling thread at the latest. */
void pl_life_hold(pl_life *life);
/* When nobody holds it any more: the pid is written, as an int, to fd, which must not be closed. Not
 * before this process has begun to hold it. Takes a thread until then; if none is to be had, nothing is
 * ever written. */
void pl_life_watch(pl_life *life, int fd, int pid);

#endif
