#!/usr/bin/python3
"""How many cores a fleet needs for one channel with so many viewers: a simulation on costs measured on one machine.

Two tiers. Redis takes the events one by one: an append each, and an announcement per node. A node (one core) takes what has
come, at every turn all of it at once, and sends every viewer one message. What is looked for is the smallest fleet whose
99th percentile, from publish to the last tenth of the viewers, is below --within. Events come at random (Poisson).

Where announcing to all nodes alone would take Redis longer than events leave it, replicas announce to their share of the
nodes; Parley does not do that yet, so such a line says what it would take. fleet.py [--within MS] [RESULTS.json]
"""

import argparse
import json
import math
import os
import random
import statistics
import sys

import page

VIEWERS = (10_000, 100_000, 1_000_000, 5_000_000)
RATES = (1, 10, 100, 1000, 10_000)  # the last: the highest of the design that Parley grew from
HOP_MS = 0.3  # one way through a data centre's network and two kernels
MOST_REDIS, MOST_NODE = 0.7, 0.8  # of a core, in the long run
EVENTS = 600
PLACES = [0.05 + 0.1 * i for i in range(10)]  # of a viewer in the order in which a node sends


class Costs:
    """Microseconds of CPU: of a message sent (send), of each event in it (more), of an event that a node takes in (take), of
    one appended by Redis (append), of its announcement to a node (announce); bytes of memory of a viewer."""

    def __init__(self, results):
        def of(scenario, column, path):
            values = results["scenarios"][scenario]["cells"][""][column][path]
            return statistics.median(values)

        one, many = of("20-paced", "parley", "cpu_us_per_delivery"), of("31-flat-64", "parley", "cpu_us_per_delivery")
        batch = of("31-flat-64", "parley", "events_per_message")
        # A message of k events costs send + k x more; one of a single event is `one`, one of `batch` events batch x many.
        self.more = (batch * many - one) / (batch - 1) if batch > 1.5 else one
        self.send = max(0.0, one - self.more)
        self.take = max(0.0, of("81-redis-intake", "parley, 1 subscriber", "cpu_us_per_event"))
        redis = {n: of("81-redis-intake", column, "helper_cpu_us_per_event")
                 for n, column in ((1, "parley, 1 subscriber"), (2, "parley, 2 nodes"), (4, "parley, 4 nodes"))}
        mean_n, mean_us = statistics.mean(redis), statistics.mean(redis.values())
        slope = sum((n - mean_n) * (us - mean_us) for n, us in redis.items()) / sum((n - mean_n) ** 2 for n in redis)
        self.announce = max(0.5, slope)  # not less than writing to a socket costs
        self.append = max(1.0, redis[1] - self.announce)
        self.bytes = of("10-idle", "parley", "bytes_per_client")


def fits(costs, viewers, nodes, rate):
    """Replicas needed (0: Redis announces itself), or None if a core has too much to do."""
    each = math.ceil(viewers / nodes)
    # In the long run a busy node sends at its own pace, many events at a time.
    if rate * (costs.take + each * costs.more) > MOST_NODE * 1e6 or rate * costs.append > MOST_REDIS * 1e6:
        return None
    if rate * (costs.append + nodes * costs.announce) <= MOST_REDIS * 1e6:
        return 0
    per_replica = int((MOST_REDIS * 1e6 / rate - costs.append) / costs.announce)
    if per_replica < 1:
        return None
    replicas = math.ceil(nodes / per_replica)
    return replicas if rate * (costs.append + replicas * costs.announce) <= MOST_REDIS * 1e6 else None


def queued(times, service):
    """When each of what comes at those times is taken up by one who needs so long for each."""
    free, out = 0.0, []
    for time in times:
        free = max(free, time)
        out.append(free)
        free += service
    return out


def latency_ms(costs, viewers, nodes, rate, replicas):
    """Percentiles 50 and 99 over viewers and events."""
    chance, time, times = random.Random(1), 0.0, []
    for _ in range(EVENTS):
        time += chance.expovariate(rate) * 1e6
        times.append(time)
    each, hop, found = viewers / nodes, HOP_MS * 1000, []
    announced = [t + costs.append for t in queued(times, costs.append + (replicas or nodes) * costs.announce)]
    share = nodes
    if replicas:
        share = math.ceil(nodes / replicas)
        at_replica = [t + replicas / 2 * costs.announce + hop for t in announced]
        announced = queued(at_replica, costs.append + share * costs.announce)
    for place in (0.1, 0.5, 0.95):  # of the node among those that are told
        came = [t + place * share * costs.announce + hop for t in announced]
        free, i = 0.0, 0
        while i < EVENTS:
            begun = max(free, came[i])
            count = next((n for n in range(i, EVENTS) if came[n] > begun), EVENTS) - i
            walk = each * (costs.send + count * costs.more)
            ready = begun + count * costs.take
            for event in range(i, i + count):
                found += [(ready + where * walk + hop - times[event]) / 1000 for where in PLACES]
            free, i = ready + walk, i + count
    found.sort()
    return found[len(found) // 2], found[int(len(found) * 0.99)]


def smallest(costs, viewers, rate, within_ms):
    """The least number of nodes, its replicas and its percentiles; None if there is none."""
    def good(nodes):
        replicas = fits(costs, viewers, nodes, rate)
        if replicas is None:
            return None
        p50, p99 = latency_ms(costs, viewers, nodes, rate, replicas)
        return (nodes, replicas, p50, p99) if p99 <= within_ms else None

    nodes, found = 1, None
    while nodes <= viewers and not (found := good(nodes)):
        nodes *= 2
    if not found:
        return None
    low, high = nodes // 2, nodes
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        if better := good(middle):
            found, high = better, middle
        else:
            low = middle
    return found


def table(results, within_ms=250):
    costs = Costs(results)
    yield ["viewers", "events a second", "cores", "viewers per core", "replicas", "deliveries a second", "p50 [ms]", "p99 [ms]", "memory [GiB]"]
    for viewers in VIEWERS:
        for rate in RATES:
            found = smallest(costs, viewers, rate, within_ms)
            row = [page.number(viewers), page.number(rate)]
            if not found:
                yield row + ["none is enough"] + [""] * 6
                continue
            nodes, replicas, p50, p99 = found
            yield row + [page.number(nodes), page.number(viewers / nodes), str(replicas), page.number(viewers * rate),
                         f"{p50:.0f}", f"{p99:.0f}", page.number(viewers * costs.bytes / 2**30)]


def assumed(results):
    costs = Costs(results)
    return (f"A message costs {costs.send:.2f} µs and {costs.more:.2f} µs for each event in it; an event that a node takes in "
            f"{costs.take:.1f} µs; Redis {costs.append:.1f} µs for an append and {costs.announce:.1f} µs for each node it announces "
            f"it to; a hop through the network {HOP_MS} ms. A viewer takes {costs.bytes:.0f} bytes.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--within", type=float, default=250, help="milliseconds for 99 of 100 deliveries (250)")
    parser.add_argument("results", nargs="?", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "results.json"))
    args = parser.parse_args()
    with open(args.results) as f:
        results = json.load(f)
    try:
        print(assumed(results), *page.aligned(table(results, args.within)), sep="\n")
    except KeyError as missing:
        sys.exit(f"{args.results} lacks {missing}: it takes the scenarios 10, 20, 31 and 81")
    return 0


if __name__ == "__main__":
    sys.exit(main())
