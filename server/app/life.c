#include "server/app/life.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/alloc.h"

enum {
    STACK_BYTES = 64 * 1024,
};

struct watch {
    pl_life *life;
    int fd;
    int pid;
};

void pl_life_init(pl_life *life)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(life, &attr);
    pthread_mutexattr_destroy(&attr);
}

void pl_life_hold(pl_life *life)
{
    if (pthread_mutex_lock(life) == EOWNERDEAD) {
        pthread_mutex_consistent(life);
    }
}

static void *watch(void *arg)
{
    struct watch *w = arg;

    pl_life_hold(w->life);
    pthread_mutex_unlock(w->life);
    (void)!write(w->fd, &w->pid, sizeof(w->pid));
    free(w);
    return NULL;
}

void pl_life_watch(pl_life *life, int fd, int pid)
{
    struct watch *w = pl_alloc(sizeof(*w));
    pthread_attr_t attr;
    pthread_t thread;

    *w = (struct watch){life, fd, pid};
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (pthread_create(&thread, &attr, watch, w) != 0) {
        free(w);
    }
    pthread_attr_destroy(&attr);
}
