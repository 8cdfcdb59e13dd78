"""Mixed load for long: both transports, both codecs, publishes, changes of rights, registrations, disconnects, resumes, queues
left behind, bad clients, reloads; on two nodes on Redis and, beside them, one with the embedded bus. What clients are given is
judged as everywhere, sanitizers must have nothing to say, and the resident memory of a build without them must not grow over
the last half.

SOAK_SECONDS: for how long; PL_SEED: what happens (times differ). `make soak` runs it on both builds at once, for ten minutes.
"""

import asyncio
import os
import random
import signal
import statistics
import struct
import tempfile
import time

import aio
import audience
import harness
import judge
from cluster import Cluster

SEED = int(os.environ.get("PL_SEED", "0")) or int(time.time())
SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
CLIENTS, RATE = 40, 20
CHURNERS, BAD = 4, 2
GROWTH = 0.03  # of the resident memory, that it may seem to have grown by over the last half
LONG_ENOUGH = 120  # seconds from which on memory is judged
SETTLED = {"queue__ttl": "10s", "publish__idempotency_ttl": "20s", "channel__ring_events": 200, "bus__log_events": 2000}

UPGRADE = (b"GET /realtime/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
GARBAGE = [
    b"", b"\0" * 100, os.urandom(500), b"GET / HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 20000,
    b"GET /realtime/poll HTTP/1.1\r\nHost: x\r\n\r\n" * 20, b"POST /realtime/send?queue_id=none HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    b"POST /realtime/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000,
    b"POST /realtime/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", UPGRADE, UPGRADE + b"\x81\xfe",
    UPGRADE + b"\x81\x05hello", UPGRADE + b"\xff\xff\xff\xff\xff\xff", UPGRADE + b"\x82\x81\0\0\0\0\xc1", UPGRADE + b"\x81\x82\0\0\0\0{}",
    UPGRADE + b"\x81\xff" + struct.pack(">Q", 1 << 40) + b"\0\0\0\0", UPGRADE + b"\x89\x80\0\0\0\0" * 200]


class Soak:
    """What goes on beside the audience in one world."""

    def __init__(self, world, conf):
        self.world, self.conf, self.rng = world, conf, random.Random(f"soak-{world.seed}")
        self.users = [harness.new_user() for _ in range(100)]
        self.samples = []  # (seconds, [KiB of each node])

    async def play(self):
        begun = time.monotonic()
        tasks = [asyncio.ensure_future(coroutine) for coroutine in (
            *(self.churn() for _ in range(CHURNERS)), *(self.misbehave() for _ in range(BAD)), self.reload())]
        try:
            while time.monotonic() < begun + SECONDS:
                await asyncio.wait(tasks, timeout=1, return_when=asyncio.FIRST_EXCEPTION)
                for task in tasks:
                    if task.done():
                        task.result()
                self.samples.append((time.monotonic() - begun, [node.rss_kib() for node in self.world.cluster.nodes]))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def count(self, what):
        self.world.counts[what] += 1

    async def ask(self, method, path, body=None, headers=None, timeout=5, packed=False):
        answer = await self.world.http.request(self.world.node().address, method, "/realtime/" + path, body, headers=headers,
                                               timeout=timeout, packed=packed)
        if answer.status not in (200, 404, 409, 410, 503):
            self.world.problem("churn", f"{method} {path.split('?')[0]}: {answer}")
        return answer

    async def churn(self):
        """Clients that come, look, and are gone again, one way or another."""
        while True:
            user, packed = self.rng.choice(self.users), self.rng.random() < 0.5
            communities = self.rng.sample(self.world.communities, 3)
            token = {"Authorization": "Bearer " + harness.mint(user, communities)}
            try:
                if self.rng.random() < 0.5:
                    registered = await self.ask("POST", "register", headers=token)
                else:
                    body = {"user_id": user, "community_ids": communities}
                    registered = await self.ask("POST", "register", body, {"X-API-Key": harness.API_KEY})
                if registered.status == 200:
                    await self.visit(registered.value, packed)
            except (aio.Lost, aio.Closed, aio.Refused) as error:
                self.count(f"churn: {type(error).__name__}")
            await asyncio.sleep(self.rng.uniform(0, 0.2))

    async def visit(self, registered, packed):
        query = f"?queue_id={registered['queue_id']}"
        whence = f"{query}&last_event_id={registered['last_event_id']}"
        for _ in range(self.rng.randrange(3)):
            if self.rng.random() < 0.5:
                await self.ask("GET", f"poll{whence}&timeout={self.rng.randrange(2)}", packed=packed)
                self.count("churn: polls")
                continue
            ws = await aio.WebSocket.open(self.world.node().address, packed, whence)
            try:
                await ws.recv(5)
                ws.send({"op": "subscribe", "id": 1, "community_id": registered["communities"][0], "article_id": 1})
                ws.send({"op": "ack", "event_id": registered["last_event_id"]})
                await ws.recv(5)
            finally:
                self.rng.choice((ws.abort, lambda: ws.close(1001)))()
            self.count("churn: websockets")
        if self.rng.random() < 0.6:  # else it is left behind
            await self.ask("POST", f"unregister{query}")
            self.count("churn: unregistered")

    async def misbehave(self):
        while True:
            reader, writer = await asyncio.open_connection(*self.world.node().address)
            try:
                async with asyncio.timeout(0.5):
                    writer.write(self.rng.choice(GARBAGE))
                    while await reader.read(65536):
                        pass
            except (OSError, asyncio.TimeoutError):
                pass
            finally:
                writer.transport.abort()
            self.count("bad clients")
            await asyncio.sleep(self.rng.uniform(0, 0.2))

    async def reload(self):
        for n in range(1 << 30):
            write_conf(self.conf, n)
            for node in self.world.cluster.nodes:
                node.process.send_signal(signal.SIGHUP)
            self.count("reloads")
            await asyncio.sleep(3)


def write_conf(path, n):
    with open(path + ".new", "w") as f:
        f.write(f"[websocket]\nping_interval = {5 + n % 2}s\n[longpoll]\ntimeout = {20 + n % 2}s\n")
    os.rename(path + ".new", path)


def growth(samples, node):
    """Over the last half: (KiB in the middle of it, KiB by which the straight line through it rises)."""
    half = [(t, sizes[node]) for t, sizes in samples[len(samples) // 2:]]
    slope = statistics.linear_regression(*zip(*half)).slope
    return statistics.median(size for _, size in half), slope * (half[-1][0] - half[0][0])


class Soaked(harness.TestCase):
    def test_mixed_load(self):
        with open(harness.PARLEYD, "rb") as f:
            self.sanitized = b"__asan_init" in f.read()
        worlds = asyncio.run(self.run_all())
        for bus, world, soak in worlds:
            print(f"\n{bus}, {SECONDS:g} s, {'sanitizers' if self.sanitized else 'release'} (PL_SEED={SEED})", judge.summary(world), sep="\n")
            self.print_memory(soak)
        for bus, world, soak in worlds:
            with self.subTest(bus):
                self.assertEqual(world.problems, [], dict(world.problem_kinds))
                if SECONDS >= LONG_ENOUGH and not self.sanitized:
                    for node in range(len(world.cluster.nodes)):
                        size, grown = growth(soak.samples, node)
                        self.assertLess(grown, GROWTH * size, f"{bus}, node {node}: KiB")

    def print_memory(self, soak):
        rows = [("resident KiB at", *(f"{n * 10} %" for n in range(1, 11)), "last half", "grown by")]
        for node in range(len(soak.samples[0][1])):
            at = [soak.samples[len(soak.samples) * n // 10 - 1][1][node] for n in range(1, 11)]
            size, grown = growth(soak.samples, node)
            rows.append((f"node {node}", *at, f"{size:.0f}", f"{grown:+.0f} ({100 * grown / size:+.2f} %)"))
        print(judge.table(rows), flush=True)

    async def run_all(self):
        return await asyncio.gather(self.run_one("redis", 2), self.run_one("memory", 1))

    async def run_one(self, bus, nodes):
        with tempfile.TemporaryDirectory(prefix="parley-soak-") as directory:
            conf = os.path.join(directory, "parley.conf")
            write_conf(conf, 0)
            async with Cluster(nodes, bus, args=["--config", conf], log__level="warn", **SETTLED) as cluster:
                world = audience.World(cluster, SEED, patience=10)
                soak = Soak(world, conf)
                async with asyncio.timeout(90 + 2 * SECONDS):
                    await audience.play(world, CLIENTS, 10**9, RATE, soak.play(), disconnect_every=max(4, SECONDS / 12))
                return bus, world, soak


if __name__ == "__main__":
    harness.main()
