"""Chaos: nodes, Redis and what lies between them are killed, stopped, cut and stalled, by a seed's schedule.

All the while events are published under idempotency keys and given up after a while (an outcome may be unknown),
rights change, users are disconnected, and clients come and go over both transports. judge.py judges.

PL_SEED: what happens (times differ from run to run); PL_SECONDS: for how long; PL_FAULTS: only these kinds, by
blanks; PL_HANDS: how many faults at once; PL_FAILOVERS: how many; PL_CLIENTS, PL_RATE, PL_NODES: the load.
`make chaos` makes it long.
"""

import asyncio
import os
import random
import time

import aio
import audience
import harness
import judge
from cluster import Cluster

SEED = int(os.environ.get("PL_SEED", "0")) or int(time.time())
SECONDS = float(os.environ.get("PL_SECONDS", "30"))
KINDS = os.environ.get("PL_FAULTS", "").split()
HANDS = int(os.environ.get("PL_HANDS", "1"))
CLIENTS = int(os.environ.get("PL_CLIENTS", "60"))
RATE = float(os.environ.get("PL_RATE", "40"))
NODES = int(os.environ.get("PL_NODES", "3"))
FAILOVERS = int(os.environ.get("PL_FAILOVERS", "2"))
LONG = SECONDS > 60
OPTIONS = {"log__level": "info", "websocket__ping_interval": "3s"}
REDIS = {"nodes": NODES, "bus__canary_interval": "500ms", "bus__timeout": "1s", "bus__log_events": 1000000,
         "channel__ring_events": 64}


class Chaos:
    """The hand that hurts. Each kind of fault is a method; it returns when what it did has been mended."""

    def __init__(self, world):
        self.world, self.cluster = world, world.cluster
        self.rng = random.Random(f"chaos-{world.seed}")
        self.done = []  # (kind, begin, end, words)
        self.busy = world.hurt
        self.begun = time.monotonic()

    async def play(self, kinds, seconds, hands):
        """Each kind once, in some order, then whatever comes, for so many seconds."""
        await asyncio.sleep(1.5)
        end = time.monotonic() + seconds
        first = self.rng.sample(kinds, len(kinds))

        async def hand():
            while time.monotonic() < end:
                await self.one(first.pop() if first else self.rng.choice(kinds))
                await asyncio.sleep(self.rng.uniform(0.3, 1.5))

        await asyncio.gather(*(hand() for _ in range(hands)))
        await self.mended()

    async def play_these(self, kinds):
        for kind in kinds:
            await asyncio.sleep(1.5)
            await self.one(kind)
        await self.mended()

    async def one(self, kind):
        target = self.target(kind)
        if target is None or target in self.busy:
            return
        self.busy.add(target)
        began = time.monotonic()
        try:
            words = await getattr(self, kind)(target)
        finally:
            self.busy.discard(target)
        self.done.append((kind, began, time.monotonic(), f"{getattr(target, 'name', target)} {words or ''}"))

    def target(self, kind):
        return self.rng.choice(self.cluster.nodes) if kind.startswith("node") else self.cluster.redis

    async def mended(self):
        """Everything is up; every node must say that it is ready, and the stream must go on for a while."""
        began = time.monotonic()
        try:
            await self.cluster.all_ready(25)
        except AssertionError as error:
            reasons = []
            for node in self.cluster.nodes:
                answer = await self.world.http.request(node.address, "GET", "/readyz")
                reasons.append(f"{node.name}: {answer}")
            self.world.problem("not ready", f"{error}: {reasons}")
        self.done.append(("(mended)", began, time.monotonic(), "all nodes ready"))
        await asyncio.sleep(1.5)

    def between(self, low, high):
        return self.rng.uniform(low, high)

    # ---- the faults ----

    async def node_kill(self, node):
        node.kill9()
        away = self.between(0.2, 2)
        await asyncio.sleep(away)
        await node.start(ready=0)
        return f"kill -9, away {away:.1f} s"

    async def node_restart(self, node):
        await node.stop()
        await node.start(ready=0)
        return "SIGTERM and start"

    async def node_stop(self, node):
        time_s = self.between(11, 14) if LONG and self.rng.random() < 0.3 else self.between(0.5, 5)
        node.pause()
        await asyncio.sleep(time_s)
        node.resume()
        return f"SIGSTOP for {time_s:.1f} s"

    async def node_cut(self, node):
        node.wire.cut()
        return "its connections to Redis cut"

    async def node_refused(self, node):
        time_s = self.between(0.5, 4)
        node.wire.refusing = True
        node.wire.cut()
        await asyncio.sleep(time_s)
        node.wire.refusing = False
        return f"cut from Redis for {time_s:.1f} s"

    async def node_stalled(self, node):
        time_s = self.between(0.3, 4)
        node.wire.stall()
        await asyncio.sleep(time_s)
        node.wire.flow()
        return f"nothing passes to Redis for {time_s:.1f} s"

    async def redis_kill(self, redis):
        redis.kill()
        away = self.between(0.1, 2)
        await asyncio.sleep(away)
        await redis.start()
        return f"kill -9, away {away:.1f} s, back from its AOF"

    async def redis_stop(self, redis):
        time_s = self.between(0.3, 4)
        redis.pause()
        await asyncio.sleep(time_s)
        redis.resume()
        return f"SIGSTOP for {time_s:.1f} s"

    async def redis_pubsub_killed(self, redis):
        times = self.rng.randrange(1, 4)
        for _ in range(times):
            await self.ask(redis, "CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(self.between(0.05, 0.5))
        return f"CLIENT KILL TYPE pubsub, {times} times"

    async def redis_pubsub_small(self, redis):
        """Subscribers that are a few messages behind are dropped by Redis."""
        time_s = self.between(1, 3)
        await self.ask(redis, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 1 1 1")
        await asyncio.sleep(time_s)
        await self.ask(redis, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")
        return f"client-output-buffer-limit pubsub 1 1 1 for {time_s:.1f} s"

    async def ask(self, redis, *args):
        """Redis may be away by another hand: then it is asked again until it is back."""
        while True:
            try:
                return await redis.command(*args)
            except (aio.Lost, RuntimeError):
                await asyncio.sleep(0.1)

    async def failover(self, redis):
        """kill -9 of a primary whose replica is in step; the old one comes back as a replica."""
        await self.cluster.in_step()
        await self.cluster.failover()
        await asyncio.sleep(1)
        await self.cluster.rejoin()
        return "primary killed, replica in step"

    async def failover_losing(self, redis):
        """The same, but the replica has not heard of the last events."""
        self.world.calm = self.world.may_lose_history = True
        await self.quiet()
        await self.cluster.part_replica()
        before = len(self.world.ids_of)
        await asyncio.sleep(1)
        lost = len(self.world.ids_of) - before
        await self.cluster.failover()
        self.world.calm = False
        await asyncio.sleep(1)
        await self.cluster.rejoin()
        return f"primary killed, about {lost} events not replicated"

    async def quiet(self):
        """Until no change of rights is under way: what was answered must not be lost with the events."""
        await asyncio.sleep(0.3)
        while any(user.lock.locked() or user.out for user in self.world.users):
            await asyncio.sleep(0.1)

    # ---- the tables ----

    def report(self):
        lines = [f"  {began - self.begun:6.1f} s  {kind:20} {words} (mended after {end - began:.1f} s)"
                 for kind, began, end, words in self.done]
        return "\n".join(lines)

    def pauses(self):
        """By kind of fault: how often, and the longest silences that met it."""
        rows = [("fault", "times", "longest", "no delivery to a client", "a publish without answer")]
        spans = {}
        for kind, began, end, _ in self.done:
            spans.setdefault(kind, []).append((began, end))
        for kind, times in sorted(spans.items()):
            rows.append((kind, len(times), f"{max(e - b for b, e in times):.1f} s", *self.longest(times)))
        every = [span for times in spans.values() for span in times]
        rows.append(("(none)", "", "", *self.longest(every, False)))
        return judge.table(rows)

    def longest(self, spans, meeting=True):
        """The longest pauses, of deliveries and of answers, that meet one of the spans, or that meet none."""
        return [f"{max((n for end, n, *_ in pauses if meets(end, n, spans) == meeting), default=0):.2f} s"
                for pauses in (self.world.pauses, self.world.answer_pauses)]


def meets(end, length, spans):
    """Is the pause one of these spans', or of the second after, in which connections come back?"""
    return any(end > begin and end - length < over + 1 for begin, over in spans)


EVERYTHING = ["node_kill", "node_restart", "node_stop", "node_cut", "node_refused", "node_stalled", "redis_kill",
              "redis_stop", "redis_pubsub_killed", "redis_pubsub_small"]


class ChaosRun(harness.TestCase):
    def run_chaos(self, play, every=4, **options):
        """play: what is done with Chaos. every: seconds from one disconnect of a user to the next."""
        async def run():
            async with Cluster(**{**OPTIONS, **options}) as cluster:
                world = audience.World(cluster, SEED, faults=True, linger=(1, 6), silence=2.5,
                                       patience=25 if LONG else 10)
                chaos = Chaos(world)
                async with asyncio.timeout(150 + 3 * SECONDS):
                    await audience.play(world, CLIENTS, 10**9, RATE, play(chaos), disconnect_every=every)
                return world, chaos

        world, chaos = asyncio.run(run())
        tables = [chaos.report(), chaos.pauses(), judge.summary(world)]
        print(f"\n{self._testMethodName} (PL_SEED={SEED})", *tables, sep="\n\n", flush=True)
        # Which of two links is the newer one is known to 0.1 s, and on a busy machine not always that well.
        known = [problem for problem in world.problems if " replaced: " not in problem]
        self.assertEqual(known, [], dict(world.problem_kinds))
        self.assertLessEqual(world.problem_kinds["replaced"], max(2, world.counts["links"] // 100))
        self.assertGreater(world.counts["due"], 0)
        return world

    def test_one_node_that_is_stopped_now_and_then(self):
        self.run_chaos(lambda chaos: chaos.play(["node_stop"], min(SECONDS, 8), 1), nodes=1, bus="memory",
                       channel__ring_events=100000)

    def test_nodes_and_redis_are_hurt(self):
        self.run_chaos(lambda chaos: chaos.play(KINDS or EVERYTHING, SECONDS, HANDS), every=max(4, SECONDS / 6),
                       bus="redis", wires=True, **REDIS)

    def test_sentinel_fails_over(self):
        kinds = (["failover", "failover_losing"] * FAILOVERS)[:FAILOVERS]
        world = self.run_chaos(lambda chaos: chaos.play_these(kinds), bus="sentinel", **REDIS)
        if FAILOVERS > 1:
            self.assertGreater(world.counts["catchup epoch"], 0, "clients must be told that history was lost")


if __name__ == "__main__":
    harness.main()
