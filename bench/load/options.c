#include "bench/load/options.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"

static const struct {
    const char *name;
    size_t at;
} flags[] = {
    {"poll", offsetof(struct client_kind, poll)},
    {"msgpack", offsetof(struct client_kind, msgpack)},
    {"deflate", offsetof(struct client_kind, deflate)},
    {"slow", offsetof(struct client_kind, slow)},
    {"key", offsetof(struct client_kind, by_key)},
};

static const struct {
    const char *name;
    size_t at;
    enum {
        TEXT,
        SIZE,
        REAL,
        FLAG
    } type;
} single[] = {
    {"dialect", offsetof(struct options, dialect), TEXT},
    {"secret", offsetof(struct options, secret), TEXT},
    {"api_key", offsetof(struct options, api_key), TEXT},
    {"channels", offsetof(struct options, channels), SIZE},
    {"topics", offsetof(struct options, topics), SIZE},
    {"hit", offsetof(struct options, hit), SIZE},
    {"communities", offsetof(struct options, communities), SIZE},
    {"bytes", offsetof(struct options, bytes), SIZE},
    {"at_once", offsetof(struct options, at_once), SIZE},
    {"window", offsetof(struct options, window), SIZE},
    {"unanswered", offsetof(struct options, unanswered), SIZE},
    {"publishers", offsetof(struct options, publishers), SIZE},
    {"batch", offsetof(struct options, batch), SIZE},
    {"away", offsetof(struct options, away), SIZE},
    {"events", offsetof(struct options, events), SIZE},
    {"receive_bytes", offsetof(struct options, receive_bytes), SIZE},
    {"nap", offsetof(struct options, nap), SIZE},
    {"rate", offsetof(struct options, rate), REAL},
    {"warmup", offsetof(struct options, warmup), REAL},
    {"seconds", offsetof(struct options, seconds), REAL},
    {"settle", offsetof(struct options, settle), REAL},
    {"rest", offsetof(struct options, rest), REAL},
    {"give_up", offsetof(struct options, give_up), REAL},
    {"feed", offsetof(struct options, feed), FLAG},
};

static size_t number(const char *name, const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (!*text || *end || n > 100000000) {
        errx(2, "%s: not a number: %s", name, text);
    }
    return n;
}

static void read_kind(struct options *o, const char *text)
{
    if (o->kind_count == MAX_LISTED) {
        errx(2, "clients: too many kinds");
    }
    struct client_kind *k = &o->kinds[o->kind_count++];
    char *copy = pl_strdup(text), *rest = copy, *word = strsep(&rest, ":");
    k->text = text;
    k->count = number("clients", word);
    while ((word = strsep(&rest, ":"))) {
        bool *flag = NULL;
        for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
            if (!strcmp(flags[i].name, word)) {
                flag = (bool *)((char *)k + flags[i].at);
            }
        }
        if (!flag && strcmp(word, "ws") != 0) {
            errx(2, "clients: what is %s?", word);
        }
        if (flag) {
            *flag = true;
        }
    }
    free(copy);
}

static bool read_listed(struct options *o, const char *name, const char *value)
{
    if (!strcmp(name, "clients")) {
        read_kind(o, value);
        return true;
    }
    struct {
        const char *name;
        size_t *count;
        uint16_t *ports;
        pid_t *pids;
    } lists[] = {
        {"target", &o->target_count, o->targets, NULL},
        {"publish", &o->publish_count, o->publish, NULL},
        {"pid", &o->pid_count, NULL, o->pids},
        {"helper", &o->helper_count, NULL, o->helpers},
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        if (strcmp(lists[i].name, name) != 0) {
            continue;
        }
        if (*lists[i].count == MAX_LISTED) {
            errx(2, "%s: too many", name);
        }
        size_t n = number(name, value), at = (*lists[i].count)++;
        if (lists[i].ports) {
            lists[i].ports[at] = (uint16_t)n;
        } else {
            lists[i].pids[at] = (pid_t)n;
        }
        return true;
    }
    return false;
}

static void read_single(struct options *o, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof(single) / sizeof(*single); i++) {
        if (strcmp(single[i].name, name) != 0) {
            continue;
        }
        char *at = (char *)o + single[i].at, *end;
        switch (single[i].type) {
        case TEXT:
            *(const char **)at = value;
            return;
        case SIZE:
            *(size_t *)at = number(name, value);
            return;
        case REAL:
            *(double *)at = strtod(value, &end);
            if (!*value || *end || *(double *)at < 0) {
                errx(2, "%s: not a number: %s", name, value);
            }
            return;
        case FLAG:
            *(bool *)at = number(name, value) > 0;
            return;
        }
    }
    errx(2, "what is %s?", name);
}

void options_read(struct options *o, int argc, char **argv)
{
    *o = (struct options){.dialect = "parley", .secret = "", .api_key = ""};
    o->channels = o->topics = o->hit = o->communities = o->batch = 1;
    o->bytes = 200, o->at_once = 100, o->nap = 200, o->settle = 1, o->give_up = 15;
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) {
            errx(2, "not key=value: %s", argv[i]);
        }
        *value++ = '\0';
        if (!read_listed(o, argv[i], value)) {
            read_single(o, argv[i], value);
        }
    }
    if (!o->target_count) {
        errx(2, "target=PORT is missing");
    }
    if (!o->publish_count) {
        memcpy(o->publish, o->targets, sizeof(o->publish));
        o->publish_count = o->target_count;
    }
    if (!o->publishers) {
        o->publishers = o->window ? o->window : o->unanswered ? o->unanswered : 16;
    }
}
