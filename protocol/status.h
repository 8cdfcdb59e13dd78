#ifndef PL_PROTOCOL_STATUS_H
#define PL_PROTOCOL_STATUS_H

/* Outcome of every fallible function: 0 or PL_OK is success, negative is a PL_ERR_ value. */

enum pl_client_action {
    PL_CLIENT_STOP,
    PL_CLIENT_BACKOFF,
    PL_CLIENT_TOKEN,
    PL_CLIENT_REGISTER,
    PL_CLIENT_ONCE,
};

enum pl_status {
#define PL_STATUS(name, value, http, close, client, code, text) PL_##name = (value),
#include "protocol/status.def"
#undef PL_STATUS
};

/* Short stable name as on the wire ("too_big"); also for logs and metrics labels. Never NULL. */
const char *pl_status_code(int status);

/* One sentence that says what is wrong, for error bodies that have nothing better. Never NULL. */
const char *pl_status_text(int status);

/* HTTP status, WebSocket close code and advice of a status; unknown statuses are those of
 * ERR_INTERNAL. */
int pl_status_http(int status);
int pl_status_close_code(int status);
enum pl_client_action pl_status_client(int status);

#endif
