#ifndef PL_APP_PROCESS_H
#define PL_APP_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/transport/node.h"

/* Starting parleyd again, in a process of its own or in place of this one. */
struct pl_program {
    const char *path;
    char **argv;
    const char *name;     /* NULL, or what takes the place of argv[0] */
    const char *extra;    /* NULL, or one more argument */
    const char *variable; /* NULL, or one more variable of the environment, with its value */
    const char *value;
    const int *keep; /* descriptors that stay open */
    size_t keep_count;
    bool quiet; /* nothing on stdout */
};

/* The running binary, whatever file has taken its name since. */
#define PL_PROCESS_SELF "/proc/self/exe"
/* The name it was started by: where a newer one will be. Static; the same from the first call on. */
const char *pl_process_path(void);

/* The pid, or -1. The child has no signal blocked, and ignores those that a master hears until it has
 * learnt to heed them. */
int pl_process_start(const struct pl_program *p);
/* Starts the newest binary to look at the configuration, as these arguments name it: 0 is its exit
 * status if it accepts it. The pid, or -1. */
int pl_process_check_config(char **argv);
/* This process, and the binary it runs, from now on. */
struct pl_running pl_running_now(void);
/* The newest binary is not taken. */
void pl_running_refuse(struct pl_running *r, const char *why);
/* For a process that is root: becomes this user for good, with the user's groups. PL_OK also if it is
 * that user already, or the name is empty; else PL_ERR_INVALID and a sentence. */
int pl_process_become_user(const char *name, char *err, size_t err_size);
/* Returns only if it fails: errno says why. */
void pl_process_become(const struct pl_program *p);

#endif
