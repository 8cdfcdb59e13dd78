#include "protocol/status.h"

struct status_row {
    int http;
    int close;
    enum pl_client_action client;
    const char *code;
    const char *text;
};

static const struct status_row rows[] = {
#define PL_STATUS(name, value, http, close, client, code, text) \
    {(http), (close), PL_CLIENT_##client, (code), (text)},
#include "protocol/status.def"
#undef PL_STATUS
};

/* Rows are dense and descending, so a status is its own index. The test walks every row. */
static const struct status_row *row_of(int status)
{
    const int count = sizeof(rows) / sizeof(rows[0]);

    /* Range first: negating INT_MIN is undefined. */
    return status <= 0 && status > -count ? &rows[-status] : &rows[-PL_ERR_INTERNAL];
}

const char *pl_status_code(int status)
{
    return row_of(status)->code;
}

const char *pl_status_text(int status)
{
    return row_of(status)->text;
}

int pl_status_http(int status)
{
    return row_of(status)->http;
}

int pl_status_close_code(int status)
{
    return row_of(status)->close;
}

enum pl_client_action pl_status_client(int status)
{
    return row_of(status)->client;
}
