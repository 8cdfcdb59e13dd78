#include "server/app/inherit.h"

#include <stdio.h>
#include <string.h>

#include "server/base/buf.h"

void pl_inherited_init(struct pl_inherited *in)
{
    memset(in, 0, sizeof(*in));
    in->sockets[0] = in->sockets[1] = in->board = in->slot = in->control = -1;
}

static const struct field {
    const char *name;
    size_t offset;
} fields[] = {
    {"main", offsetof(struct pl_inherited, sockets[0])},
    {"internal", offsetof(struct pl_inherited, sockets[1])},
    {"board", offsetof(struct pl_inherited, board)},
    {"slot", offsetof(struct pl_inherited, slot)},
    {"control", offsetof(struct pl_inherited, control)},
    {"wait", offsetof(struct pl_inherited, wait)},
};
enum {
    FIELDS = sizeof(fields) / sizeof(fields[0])
};

static bool parse_worker(const char *text, struct pl_inherited *in)
{
    int slot, pid, control, state;

    if (sscanf(text, "%d:%d:%d:%d", &slot, &pid, &control, &state) != 4 || slot < 0 ||
        slot >= PL_SLOTS || pid <= 0 || in->worker_count == PL_SLOTS ||
        state < PL_WORKER_STARTING || state > PL_WORKER_LEAVING) {
        return false;
    }
    in->workers[in->worker_count].slot = slot;
    in->workers[in->worker_count].pid = pid;
    in->workers[in->worker_count].control = control;
    in->workers[in->worker_count].state = state;
    in->worker_count++;
    return true;
}

static bool parse_field(const char *name, size_t len, const char *value, struct pl_inherited *in)
{
    if (len == strlen("worker") && memcmp(name, "worker", len) == 0) {
        return parse_worker(value, in);
    }
    for (int i = 0; i < FIELDS; i++) {
        if (strlen(fields[i].name) == len && memcmp(fields[i].name, name, len) == 0) {
            return sscanf(value, "%d", (int *)((char *)in + fields[i].offset)) == 1;
        }
    }
    return true;
}

bool pl_inherited_parse(const char *text, struct pl_inherited *ret)
{
    pl_inherited_init(ret);
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        const char *equals = memchr(text, '=', len);

        if (equals == NULL || !parse_field(text, (size_t)(equals - text), equals + 1, ret)) {
            return false;
        }
        text += len;
        text += strspn(text, " ");
    }
    return ret->slot < PL_SLOTS;
}

char *pl_inherited_write(const struct pl_inherited *in)
{
    struct pl_buf out = {0};

    for (int i = 0; i < FIELDS; i++) {
        pl_buf_printf(&out, "%s%s=%d", i > 0 ? " " : "", fields[i].name,
                      *(const int *)((const char *)in + fields[i].offset));
    }
    for (unsigned i = 0; i < in->worker_count; i++) {
        pl_buf_printf(&out, " worker=%d:%d:%d:%d", in->workers[i].slot, in->workers[i].pid,
                      in->workers[i].control, in->workers[i].state);
    }
    pl_buf_append_byte(&out, '\0');
    return (char *)out.data;
}
