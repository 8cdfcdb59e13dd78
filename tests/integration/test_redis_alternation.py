"""Alternation: every client takes each batch from another node, over another transport, than the last.

All it brings along is its queue_id and its cursor; half of the clients do not even have a token. Events are
published all the while, on random nodes; a link is closed, cut, or left for the next one to overtake.
"0 lost, 0 twice, 0 out of order" is what judge.py says.

PL_SEED, PL_CLIENTS, PL_EVENTS (published; each is due to a third of the clients or so), PL_RATE (a second),
PL_NODES change the run; `make chaos` makes it long.
"""

import asyncio
import os
import time

import audience
import harness
import judge
from cluster import Cluster

SEED = int(os.environ.get("PL_SEED", "0")) or int(time.time())
CLIENTS = int(os.environ.get("PL_CLIENTS", "200"))
EVENTS = int(os.environ.get("PL_EVENTS", "1700"))
RATE = float(os.environ.get("PL_RATE", "45"))
NODES = int(os.environ.get("PL_NODES", "3"))


class Alternation(harness.TestCase):
    def alternate(self, clients, events, rate, **options):
        async def run():
            async with Cluster(log__level="warn", **options) as cluster:
                world = audience.World(cluster, SEED)
                async with asyncio.timeout(90 + 3 * events / rate):
                    await audience.play(world, clients, events, rate)
                return world

        world = asyncio.run(run())
        print(f"\n{self._testMethodName} (PL_SEED={SEED})\n{judge.summary(world)}", flush=True)
        self.assertEqual(world.problems, [], dict(world.problem_kinds))
        self.assertGreater(world.counts["due"], 0)
        self.assertEqual(world.counts["due, not given"], 0)
        self.assertGreater(world.counts["overtaken: 4409"], 0, "no WebSocket was overtaken")
        if world.counts["links"] > 10000:
            self.assertGreater(world.counts["overtaken: 409"], 0, "no poll was overtaken")

    def test_one_node_every_batch_over_the_other_transport(self):
        self.alternate(40, 400, 60, nodes=1, bus="memory", channel__ring_events=100000)

    def test_every_batch_from_another_node_over_the_other_transport(self):
        self.alternate(CLIENTS, EVENTS, RATE, nodes=NODES, bus="redis", channel__ring_events=64)


if __name__ == "__main__":
    harness.main()
