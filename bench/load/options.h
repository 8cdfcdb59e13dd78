#ifndef PL_BENCH_LOAD_OPTIONS_H
#define PL_BENCH_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/load/tally.h"

enum {
    MAX_LISTED = 32
};

/* Clients of one kind, from `clients=COUNT:FLAG:…`. */
struct client_kind {
    const char *text; /* as it was given */
    size_t count;
    bool poll, msgpack, deflate, slow, by_key; /* else: WebSocket, JSON, …, by JWT */
    struct histogram latency;
};

/* What one run does, from key=value arguments; load.c's head says what each means. */
struct options {
    const char *dialect, *secret, *api_key;
    struct client_kind kinds[MAX_LISTED];
    uint16_t targets[MAX_LISTED], publish[MAX_LISTED];
    pid_t pids[MAX_LISTED], helpers[MAX_LISTED];
    size_t kind_count, target_count, publish_count, pid_count, helper_count;
    size_t channels, topics, hit, communities, bytes, at_once;
    size_t window, unanswered, publishers, batch, away, events, receive_bytes, nap;
    double rate, warmup, seconds, settle, rest, give_up;
    bool feed;
};

/* Ends the program with what is wrong if something is. */
void options_read(struct options *o, int argc, char **argv);

#endif
