#ifndef PL_APP_SUPERVISOR_H
#define PL_APP_SUPERVISOR_H

#include <stddef.h>

/* Who started us, if it is systemd or speaks as it does: sd_notify(3) and sd_listen_fds(3), which are
 * a datagram and two variables. */

/* Sends "READY=1" and the like; nothing without NOTIFY_SOCKET. */
void pl_supervisor_notify(const char *state);
/* "RELOADING=1" wants the time with it. */
void pl_supervisor_notify_reloading(void);

/* Takes the sockets that were handed over (LISTEN_FDS), once: sockets[0] the first one, or the one
 * named "main", sockets[1] the second, or the one named "internal". Where none was they stay as they
 * are. */
void pl_supervisor_take_sockets(int sockets[2]);

#endif
