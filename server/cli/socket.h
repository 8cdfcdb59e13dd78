#ifndef PL_CLI_SOCKET_H
#define PL_CLI_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/url.h"

/* One TCP connection, and the only place where the tool waits. Every wait has a deadline
 * (pl_clock_mono_ms) and ends at once when SIGINT or SIGTERM comes, so that commands can say
 * goodbye to the server. */
enum pl_socket_result {
    PL_SOCKET_EOF = 0,
    PL_SOCKET_TIMEOUT = -1,
    PL_SOCKET_INTERRUPTED = -2,
    PL_SOCKET_ERROR = -3, /* errno says which */
};

/* 0 and a connected fd; or a negative pl_socket_result and a sentence about it in err. */
int pl_socket_connect(const struct pl_url *u, uint64_t deadline_ms, int *ret_fd, char *err,
                      size_t err_size);

/* 0 when all is sent, or negative. */
int pl_socket_write(int fd, const void *data, size_t len, uint64_t deadline_ms);

/* How many bytes came (at least 1), PL_SOCKET_EOF, or negative. A reset by the peer is
 * PL_SOCKET_EOF. */
int pl_socket_read(int fd, void *out, size_t size, uint64_t deadline_ms);

/* 0 at the deadline, or PL_SOCKET_INTERRUPTED. */
int pl_socket_sleep_until(uint64_t deadline_ms);

/* "the server did not answer in time", … Static, or strerror's. */
const char *pl_socket_error(int result);

/* From now on SIGINT and SIGTERM only interrupt waits (also the next one, if none is under way). */
void pl_socket_catch_signals(void);
bool pl_socket_interrupted(void);
/* For the goodbye: waits work again; a second signal ends the process. */
void pl_socket_clear_interrupt(void);

#endif
