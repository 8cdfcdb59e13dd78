#include "bench/load/publisher.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/alloc.h"

struct publisher_link {
    struct source source;
    struct publisher *of;
    struct pl_buf answer;
    int fd;
    bool waits; /* for an answer */
    uint64_t sent_ns;
};

static void release(struct publisher_link *link)
{
    link->waits = false;
    link->of->free_links[link->of->free_count++] = link;
}

static void open_link(struct publisher_link *link)
{
    const struct options *o = link->of->options;
    link->fd = loop_connect(o->publish[(size_t)(link - link->of->links) % o->publish_count], 0);
    loop_add(link->fd, &link->source, EPOLLOUT);
}

/* Servers close connections that nobody uses. */
static void open_again(struct publisher_link *link)
{
    struct publisher *p = link->of;
    size_t i = 0;
    while (p->free_links[i] != link) {
        i++;
    }
    p->free_links[i] = p->free_links[--p->free_count];
    close(link->fd);
    open_link(link);
}

/* True when the answer is there in full. */
static bool is_answered(const struct publisher_link *link)
{
    const struct pl_buf *b = &link->answer;
    if (link->of->options->feed) {
        if (b->data[0] == '-' || memmem(b->data, b->len, "\r\n-", 3)) {
            errx(1, "Redis refused: %.*s", (int)b->len, (const char *)b->data);
        }
        return b->len >= 7 && !memcmp(b->data + b->len - 7, "+PONG\r\n", 7);
    }
    struct answer a;
    if (!dialect_answer(b->data, b->len, &a)) {
        return false;
    }
    if (a.status / 100 != 2) {
        errx(1, "a publish was answered: %.*s", (int)b->len, (const char *)b->data);
    }
    return true;
}

static void link_ready(struct source *s, uint32_t events)
{
    struct publisher_link *link =
        (struct publisher_link *)((char *)s - offsetof(struct publisher_link, source));
    if (events & EPOLLOUT) {
        loop_change(link->fd, &link->source, EPOLLIN);
        release(link);
        return;
    }
    char bytes[65536];
    ssize_t n = recv(link->fd, bytes, sizeof(bytes), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0 && link->waits) {
        errx(1, "a publisher was cut off");
    }
    if (n <= 0) {
        open_again(link);
        return;
    }
    pl_buf_append(&link->answer, bytes, (size_t)n);
    if (is_answered(link)) {
        link->answer.len = 0;
        link->of->answered++;
        histogram_add(&link->of->latency, now_ns() - link->sent_ns);
        release(link);
    }
}

void publisher_init(struct publisher *p, const struct options *o, const struct dialect *d,
                    struct tally *t)
{
    *p = (struct publisher){.options = o, .dialect = d, .tally = t};
    p->links = pl_alloc(o->publishers * sizeof(*p->links));
    p->free_links = pl_alloc(o->publishers * sizeof(struct publisher_link *));
    for (size_t i = 0; i < o->publishers; i++) {
        struct publisher_link *link = &p->links[i];
        *link = (struct publisher_link){.source = {.ready = link_ready}, .of = p};
        open_link(link);
    }
}

bool publisher_idle(const struct publisher *p)
{
    return p->free_count == p->options->publishers;
}

bool publisher_send(struct publisher *p, uint64_t stamp_ns)
{
    if (!p->free_count) {
        return false;
    }
    const struct options *o = p->options;
    struct publisher_link *link = p->free_links[--p->free_count];
    char *marks = pl_alloc(o->batch * TALLY_MARK_LEN);
    uint32_t group = p->next_group;
    p->next_group = (group + 1) % (uint32_t)o->hit;
    for (size_t i = 0; i < o->batch; i++) {
        tally_publish(p->tally, group, stamp_ns, marks + i * TALLY_MARK_LEN);
    }
    struct pl_buf request = {0};
    if (o->feed) {
        dialect_feed(o, group, marks, o->batch, &request);
    } else {
        p->dialect->publish(o, group, marks, o->batch, &request);
    }
    link->waits = true;
    link->sent_ns = now_ns();
    for (size_t sent = 0; sent < request.len;) { /* waits, should the buffer be full */
        ssize_t n = send(link->fd, request.data + sent, request.len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            err(1, "a publisher could not send");
        }
        sent += n > 0 ? (size_t)n : 0;
    }
    pl_buf_done(&request);
    free(marks);
    return true;
}
