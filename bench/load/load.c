/* parley-load: opens clients of a realtime server, publishes to them, and says what that cost the server.
 *
 *   load key=value …       prints one JSON object
 *
 *   dialect=parley         parley, nchan, socketio, ws
 *   target=PORT            of the server, on 127.0.0.1; repeated, clients take turns
 *   publish=PORT           where to publish; the targets if absent
 *   pid=PID                of a process of the server, for memory and CPU; repeated
 *   helper=PID             of one that it works with, such as Redis, whose CPU is told apart; repeated
 *   secret=, api_key=      Parley's
 *   clients=COUNT:FLAG:…   repeated. Flags: ws (the default), poll, msgpack, deflate (offers permessage-deflate without
 *                          context takeover, or accepts gzip), key (registers by the API key, not by a JWT), slow
 *                          (does not read, and is not waited for)
 *   channels=1, topics=1   over which clients are spread evenly
 *   hit=1                  events go to the first so many of channels x topics, in turn
 *   communities=1          of each client, its channel among them
 *   bytes=200              of an event, as clients see it
 *   at_once=100            connections being opened at a time
 *   nap=200                microseconds between two looks at what has come (loop.h); 0 while opening
 *   receive_bytes=0        of every client's socket buffer; 0: the system's default
 *
 *   rate=R                 publishes so many a second, for `seconds` or `events`, after `warmup` seconds; or
 *   window=W               as soon as fewer than W events are on their way to some client; or
 *   unanswered=W           as soon as fewer than W requests are unanswered. None: publishes nothing.
 *   events=N               at most; 0: as many as fit into seconds
 *   publishers=N           connections; W if there is a W, else 16
 *   batch=N                events in one request, where that is possible
 *   feed=1                 publish= is Redis: into it as nodes do, past HTTP
 *   away=N                 then cuts every client off, publishes N events, and opens them all again
 *
 *   settle=1, rest=0       seconds to wait before memory is read: with all open, and at the end
 *   give_up=15             seconds without progress after which what is missing is missing
 */

#include <err.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/load/client.h"
#include "bench/load/process.h"
#include "bench/load/publisher.h"
#include "server/base/alloc.h"

static struct options o;
static struct tally tally;
static struct clients clients;
static struct publisher publisher;

static double seconds_since(uint64_t ns)
{
    return (double)(now_ns() - ns) / 1e9;
}

static double cpu_s(void)
{
    return process_cpu_s(o.pids, o.pid_count);
}

static double own_cpu_s(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void pass(double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end) {
        loop_turn(end);
    }
}

/* ---- the phases ---- */

struct opening {
    double seconds, cpu_s;
};

static struct opening open_all(void)
{
    uint64_t begun = now_ns(), moved = begun;
    double cpu = cpu_s();
    size_t open = 0;
    while (!clients_open(&clients)) {
        loop_turn(now_ns() + 100000000u);
        if (clients.open != open) {
            open = clients.open;
            moved = now_ns();
        }
        if (seconds_since(moved) > o.give_up) {
            errx(1, "%zu of %zu clients are open, and no more come", clients.open, clients.count);
        }
    }
    return (struct opening){.seconds = seconds_since(begun), .cpu_s = cpu_s() - cpu};
}

/* Waits until everybody has everything, or nothing comes any more. */
static void drain(void)
{
    uint64_t moved = now_ns(), answered = 0, bytes = 0;
    while (tally.unfinished > 0 || !publisher_idle(&publisher)) {
        loop_turn(now_ns() + 20000000u);
        if (clients.bytes != bytes || publisher.answered != answered) {
            bytes = clients.bytes;
            answered = publisher.answered;
            moved = now_ns();
        }
        if (seconds_since(moved) > o.give_up) {
            return;
        }
    }
}

static bool may_publish(void)
{
    return (!o.window || tally.unfinished < o.window) &&
           (!o.unanswered || publisher.free_count + o.unanswered > o.publishers);
}

static void publish_for(double seconds, size_t events)
{
    uint64_t begun = now_ns(), end = begun + (uint64_t)(seconds * 1e9), due = begun;
    uint64_t interval = o.rate > 0 ? (uint64_t)(1e9 / o.rate * (double)o.batch) : 0;
    size_t last = tally.sent + events;
    while ((!events || tally.sent < last) && (seconds <= 0 || now_ns() < end)) {
        /* Paced events bear the time at which they were due, so that a server which holds up publishers does not
         * hide what it costs. */
        while (may_publish() && (!events || tally.sent < last) && now_ns() >= due &&
               publisher_send(&publisher, interval ? due : now_ns())) {
            due = interval ? due + interval : 0;
        }
        loop_turn(interval && due > now_ns() ? due : now_ns() + 1000000u);
    }
}

/* ---- the report ---- */

static void print_latency(const char *name, const struct histogram *h)
{
    printf(",\"%s\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}", name,
           (double)histogram_at(h, .5) / 1e6, (double)histogram_at(h, .9) / 1e6,
           (double)histogram_at(h, .99) / 1e6, (double)histogram_at(h, .999) / 1e6,
           (double)h->max / 1e6);
}

static void print_memory(const char *name, const struct usage *u)
{
    printf(",\"%s\":{\"rss\":%" PRIu64 ",\"pss\":%" PRIu64 "}", name, u->rss_bytes, u->pss_bytes);
}

static void print_per_client(const char *name, const struct usage *before, const struct usage *then)
{
    double grown = (double)then->rss_bytes - (double)before->rss_bytes;
    printf(",\"%s\":%.1f", name, clients.count ? grown / (double)clients.count : 0);
}

static void print_opening(const char *name, const struct opening *how)
{
    printf(",\"%s\":{\"seconds\":%.4f,\"per_s\":%.0f,\"cpu_us\":%.2f}", name, how->seconds,
           (double)clients.count / how->seconds, how->cpu_s * 1e6 / (double)clients.count);
}

struct measured {
    size_t events, deliveries;
    double seconds, cpu_s, own_cpu_s, helper_cpu_s;
    uint64_t messages, deflated;
};

static void print_measured(const struct measured *m)
{
    static struct histogram all;
    for (size_t k = 0; k < o.kind_count; k++) {
        histogram_merge(&all, &o.kinds[k].latency);
    }
    printf(",\"events\":%zu,\"deliveries\":%zu,\"seconds\":%.4f,\"events_per_s\":%.1f"
           ",\"deliveries_per_s\":%.0f,\"cpu_s\":%.4f,\"cpu_share\":%.3f,\"load_cpu_share\":%.3f"
           ",\"cpu_us_per_event\":%.2f,\"helper_cpu_us_per_event\":%.2f,\"cpu_us_per_delivery\":%."
           "3f,\"messages\":%" PRIu64 ",\"events_per_message\":%.2f,\"deflated\":%" PRIu64,
           m->events, m->deliveries, m->seconds, (double)m->events / m->seconds,
           (double)m->deliveries / m->seconds, m->cpu_s, m->cpu_s / m->seconds,
           m->own_cpu_s / m->seconds, m->cpu_s * 1e6 / (double)m->events,
           m->helper_cpu_s * 1e6 / (double)m->events,
           m->cpu_s * 1e6 / (double)(m->deliveries ? m->deliveries : 1), m->messages,
           (double)m->deliveries / (double)(m->messages ? m->messages : 1), m->deflated);
    print_latency("latency_ms", &all);
    print_latency("answer_ms", &publisher.latency);
    printf(",\"kinds\":{");
    for (size_t k = 0; k < o.kind_count; k++) {
        printf("%s\"%s\":{\"deliveries\":%" PRIu64, k ? "," : "", o.kinds[k].text,
               o.kinds[k].latency.count);
        print_latency("latency_ms", &o.kinds[k].latency);
        printf("}");
    }
    printf("}");
}

static bool print_faults(void)
{
    struct tally_faults f = {0};
    for (size_t i = 0; i < clients.count; i++) {
        if (clients.list[i].reader.counted) {
            tally_check(&tally, &clients.list[i].reader, &f);
        }
    }
    printf(",\"missed\":%" PRIu64 ",\"extra\":%" PRIu64 ",\"mixed_up\":%" PRIu64
           ",\"not_for_them\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"inflated\":%" PRIu64,
           f.missed, f.extra, f.mixed_up, tally.not_for_them, clients.closed, clients.inflated);
    return f.missed || f.extra || f.mixed_up || tally.not_for_them || clients.closed;
}

/* Many events on their way, for a time: what is delivered within it counts, whenever it was published. Else events are
 * counted to their end. */
static bool is_steady(void)
{
    return !o.events && (o.window > 1 || o.unanswered);
}

static struct measured measure(void)
{
    struct measured m = {.messages = clients.messages, .deflated = clients.deflated};
    memset(&publisher.latency, 0, sizeof(publisher.latency));
    for (size_t k = 0; k < o.kind_count; k++) {
        memset(&o.kinds[k].latency, 0, sizeof(o.kinds)[k].latency);
    }
    size_t sent = tally.sent;
    tally_measure(&tally, is_steady() ? 0 : sent);
    uint64_t begun = now_ns();
    double cpu = cpu_s(), own = own_cpu_s(), helpers = process_cpu_s(o.helpers, o.helper_count);
    publish_for(o.seconds, o.events);
    if (!is_steady()) {
        drain();
    }
    m.cpu_s = cpu_s() - cpu;
    m.own_cpu_s = own_cpu_s() - own;
    m.helper_cpu_s = process_cpu_s(o.helpers, o.helper_count) - helpers;
    m.events = tally.sent - sent;
    m.deliveries = tally.deliveries;
    m.messages = clients.messages - m.messages;
    m.deflated = clients.deflated - m.deflated;
    m.seconds = seconds_since(begun);
    if (!is_steady() && m.deliveries) {
        m.seconds = (double)(tally.last_ns - begun) / 1e9;
    }
    drain();
    return m;
}

static void print_resume(void)
{
    clients_cut(&clients);
    pass(.5);
    o.rate = 0, o.window = 0; /* nobody is there to wait for */
    publish_for(0, o.away);
    pass(.5);
    uint64_t begun = now_ns();
    double cpu = cpu_s();
    loop_nap_ns = 0;
    struct opening again = open_all();
    drain();
    print_opening("resume", &again);
    printf(",\"caught_up\":{\"seconds\":%.4f,\"cpu_us\":%.2f}", seconds_since(begun),
           (cpu_s() - cpu) * 1e6 / (double)clients.count);
}

static void raise_file_limit(void)
{
    struct rlimit files;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* What memory is compared with: before the first client came. */
static void run_idle(const struct usage *before)
{
    struct opening opening = open_all();

    loop_nap_ns = o.nap * 1000;
    pass(o.settle);
    struct usage idle = process_usage(o.pids, o.pid_count);
    printf("{\"dialect\":\"%s\",\"clients\":%zu", o.dialect, clients.count);
    print_opening("opening", &opening);
    print_memory("memory_before", before);
    print_memory("memory_idle", &idle);
    print_per_client("bytes_per_client", before, &idle);
}

static void run_events(const struct usage *before)
{
    publisher_init(&publisher, &o, clients.dialect, &tally);
    while (!publisher_idle(&publisher)) {
        loop_turn(now_ns() + 100000000u);
    }
    if (o.warmup > 0) {
        publish_for(o.warmup, 0);
        if (!is_steady()) {
            drain();
        }
    }
    struct measured m = measure();
    print_measured(&m);
    if (o.away) {
        print_resume();
    }
    pass(o.rest);
    struct usage after = process_usage(o.pids, o.pid_count);
    print_memory("memory_after", &after);
    print_per_client("bytes_per_client_after", before, &after);
}

int main(int argc, char **argv)
{
    options_read(&o, argc, argv);
    const struct dialect *d = dialect_find(o.dialect);
    if (!d) {
        errx(2, "no such dialect: %s", o.dialect);
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    loop_init();
    tally_init(&tally, o.channels * o.topics);
    clients_init(&clients, &o, d, &tally);
    clients.keep_position = o.away > 0;

    struct usage before = process_usage(o.pids, o.pid_count);
    run_idle(&before);
    if (o.rate > 0 || o.window || o.unanswered) {
        run_events(&before);
    }
    bool faulty = print_faults();
    printf("}\n");
    return faulty ? 3 : 0;
}
