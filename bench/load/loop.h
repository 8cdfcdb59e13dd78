#ifndef PL_BENCH_LOAD_LOOP_H
#define PL_BENCH_LOAD_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

/* One epoll for everything the load generator does. A source is embedded in what it belongs to. */
struct source {
    void (*ready)(struct source *s, uint32_t events); /* may remove and close its own descriptor */
};

void loop_init(void);
void loop_add(int fd, struct source *s, uint32_t events);
void loop_change(int fd, struct source *s, uint32_t events);
void loop_remove(int fd);

/* Waits for readiness, at the longest until then, and calls the sources that are ready. After a turn with few of them it
 * sleeps for nap_ns: whoever waits in epoll is woken by the sender of each message, at the sender's cost, which is no
 * server's where clients are on other machines. Latencies are longer by as much at most. */
void loop_turn(uint64_t until_ns);
extern uint64_t loop_nap_ns;

uint64_t now_ns(void); /* CLOCK_MONOTONIC, the same in every process */

/* Of a new connection to 127.0.0.1 under way; receive_bytes: of the socket's buffer, 0 leaves it. */
int loop_connect(uint16_t port, int receive_bytes);

#endif
