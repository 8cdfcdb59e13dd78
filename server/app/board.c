#define _GNU_SOURCE /* memfd_create */

#include "server/app/board.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/alloc.h"

static uint64_t layout(void)
{
    return pl_metrics_layout() ^ sizeof(struct pl_board);
}

static struct pl_board *map(int fd)
{
    struct pl_board *b =
        mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

    return b == MAP_FAILED ? NULL : b;
}

struct pl_board *pl_board_new(int *ret_fd)
{
    int fd = memfd_create("parleyd", MFD_CLOEXEC);
    struct pl_board *b;

    PL_ASSERT(fd >= 0 && ftruncate(fd, sizeof(*b)) == 0);
    b = map(fd);
    PL_ASSERT(b != NULL);
    b->layout = layout();
    *ret_fd = fd;
    return b;
}

struct pl_board *pl_board_open(int fd)
{
    struct stat st;
    struct pl_board *b;

    if (fstat(fd, &st) != 0 || st.st_size != (off_t)sizeof(*b)) {
        return NULL;
    }
    b = map(fd);
    if (b != NULL && b->layout != layout()) {
        pl_board_close(b);
        return NULL;
    }
    return b;
}

void pl_board_close(struct pl_board *b)
{
    if (b != NULL) {
        munmap(b, sizeof(*b));
    }
}

void pl_board_ended(struct pl_board *b, unsigned slot)
{
    struct pl_board_slot *s = &b->slots[slot];

    s->lives = s->ready = s->draining = 0;
    pl_metrics_end(&s->metrics);
}

void pl_board_sum(const struct pl_board *b, struct pl_board_sums *ret)
{
    *ret = (struct pl_board_sums){0};
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        const struct pl_board_slot *s = &b->slots[i];

        if (s->lives) {
            const uint64_t *v = s->metrics.values;

            bool is_ready = s->ready && !s->draining;

            ret->ready += is_ready;
            ret->renewed += is_ready && s->since_ms == b->running.since_ms;
            ret->pending_polls += v[PL_S_PENDING_POLLS];
            ret->queues += v[PL_S_QUEUES_WEBSOCKET] + v[PL_S_QUEUES_LONGPOLL] + v[PL_S_QUEUES_NONE];
        }
    }
}

void pl_board_export(const struct pl_board *b, struct pl_buf *out)
{
    struct pl_labelled_metrics sets[PL_SLOTS];
    char labels[PL_SLOTS][24];
    size_t count = 0;

    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (b->slots[i].used) {
            (void)snprintf(labels[count], sizeof(labels[count]), "worker=\"%u\"", i);
            sets[count] = (struct pl_labelled_metrics){labels[count], &b->slots[i].metrics};
            count++;
        }
    }
    pl_metrics_export_all(out, sets, count);
}
