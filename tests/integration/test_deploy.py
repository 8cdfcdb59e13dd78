"""Deploys at noon, with rights, narrowing and disconnects judged: clients of both transports that stay on their links
until they are told to go, and events all the while. Both nodes are reloaded so that new workers are needed, upgraded, and
restarted one after the other; besides, a worker is killed. (test_deploy_crowd.py does the same to very many.)

No connection is refused, nothing is lost or given twice, no backend registers anybody anew, and everybody who is told
to go comes back in a slot of its own.

PL_SEED, PL_CLIENTS, PL_RATE (events a second), PL_DRAIN (seconds) change the run.
"""

import asyncio
import collections
import os
import time

import aio
import audience
import harness
import judge
from deploys import HAPROXY, Fleet

SEED = int(os.environ.get("PL_SEED", "0")) or int(time.time())
CLIENTS = int(os.environ.get("PL_CLIENTS", "300"))
RATE = float(os.environ.get("PL_RATE", "30"))
DRAIN = float(os.environ.get("PL_DRAIN", "5"))
GAP = 2.0  # seconds that a client may be without a link beyond its slot


class Steady(audience.Client):
    """Stays on its link until it is told to go, goes then, and notes when it came back."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.slot = None  # when it is to be back, after a goaway
        self.away = None  # since when it has no link

    def _choose(self):
        self.node = self.world.node()
        self.links += 1
        self.link_began = time.monotonic()
        self.world.counts["links"] += 1
        self.away = self.away or self.link_began

    def _told(self, goaway):
        self.world.counts[f"goaway {audience.WAYS[self.way][0]}"] += 1
        self.slot = time.monotonic() + goaway["reconnect_after_ms"] / 1000

    def _is_back(self):
        now = time.monotonic()
        if self.slot is not None:
            self.world.returns.append((now, audience.WAYS[self.way][0]))
        if self.links > 1:
            self.world.gaps.append((now - max(self.away, self.slot or 0), self))
        self.slot = self.away = None

    async def _websocket(self, packed):
        life = self.life
        ws = await aio.WebSocket.open(self.node.address, packed, self._query(), self._headers())
        leave = ws.abort
        try:
            welcome = await ws.recv(self.world.silence)
            if not welcome.get("resumed") or welcome["queue_id"] != life.queue_id:
                leave = None
                ws.close(1001)
                return await self.gone(f"not resumed: {welcome}")
            self._is_back()
            while not self._finished():
                wait = self.world.silence if self.slot is None else max(0.01, self.slot - time.monotonic())
                try:
                    message = await ws.recv(wait)
                except aio.Lost as error:
                    if self.slot is None or not error.silent:
                        raise
                    break
                self.take(message)
                if message["op"] == "ping":
                    ws.send({"op": "pong"})
                elif message["op"] == "goaway":
                    self._told(message)
                if self.slot is not None and time.monotonic() >= self.slot:
                    break
            leave = lambda: ws.close(1001)
        except aio.Closed as closed:
            await self._closed(closed)
        finally:
            self.away = time.monotonic()
            if leave:
                leave()

    async def _poll(self, packed):
        while not self._finished():
            request = self.world.http.request(self.node.address, "GET", "/realtime/poll" + self._query(timeout=8),
                                              headers=self._headers(), packed=packed, timeout=12)
            if self.away is not None:
                self.links += self.links == 1 and self.slot is not None
                self._is_back()
            answer = await request
            self.away = time.monotonic()
            if answer.status != 200:
                return await self._poll_refused(answer)
            self.take(answer.value)
            if answer.value.get("goaway"):
                self._told(answer.value["goaway"])

    def _lost(self, what):
        """A link is lost with its worker; no other."""
        self.away = self.away or time.monotonic()
        if self.world.killed is not None and time.monotonic() - self.world.killed < 3:
            self.world.counts["links lost with their worker"] += 1
        else:
            super()._lost(what)

    def _refused(self, status, what):
        if status in (502, 503) and self.world.killed is not None and time.monotonic() - self.world.killed < 3:
            self.world.counts["links lost with their worker"] += 1
        else:
            super()._refused(status, what)

    async def _poll_refused(self, answer):
        if answer.status in (502, 503) and self.world.killed is not None and time.monotonic() - self.world.killed < 3:
            self.world.counts["links lost with their worker"] += 1
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
        else:
            await super()._poll_refused(answer)


class World(audience.World):
    def __init__(self, fleet, seed):
        super().__init__(fleet, seed, linger=(3600, 3600))
        self.returns, self.gaps, self.phases = [], [], []
        self.killed = None


class Deploy(harness.TestCase):
    def setUp(self):
        if not os.path.exists(HAPROXY):
            self.skipTest(f"no {HAPROXY}")
        harness.raise_file_limit()

    async def phase(self, name, work):
        begun = time.monotonic()
        await work
        self.world.phases.append((name, begun, time.monotonic()))
        await asyncio.sleep(1.5)

    async def kill_a_worker(self):
        self.world.killed = time.monotonic()
        self.replaced = await self.fleet.kill_a_worker()
        await asyncio.sleep(3)

    async def deploys(self):
        await asyncio.sleep(2)
        await self.phase("reload of both", self.fleet.reload())
        await self.phase("upgrade of both", self.fleet.upgrade())
        for node in self.fleet.behind:
            await self.phase(f"restart of {node.name}", self.fleet.restart(node))
        await self.phase("a worker killed", self.kill_a_worker())

    def report(self):
        rows = [("phase", "seconds", "back", "websockets in each tenth of the drain", "polls")]
        for name, begun, ended in self.world.phases:
            back = [(t, way) for t, way in self.world.returns if begun <= t <= ended + 1]
            tenths = collections.Counter((way, min(9, int((t - begun) / DRAIN * 10))) for t, way in back)
            rows.append((name, f"{ended - begun:.1f}", len(back),
                         *(" ".join(str(tenths[way, i]) for i in range(10)) for way in (audience.WEBSOCKET, audience.POLL))))
        longest = max(self.world.gaps, default=(0, None), key=lambda gap: gap[0])[0]
        return judge.table(rows) + f"\n  longest without a link, beyond the slot: {longest:.2f} s; a killed worker was " \
            f"replaced within {self.replaced * 1000:.0f} ms\n{judge.summary(self.world)}"

    def judge_returns(self):
        """Of each reload and upgrade all WebSockets come back, as many in each quarter of the time. (Polls change
        workers with every event, and as HAProxy reuses its connections: most are never told anything.)"""
        for name, begun, ended in self.world.phases[:2]:
            back = [t - begun for t, way in self.world.returns
                    if begun <= t <= ended + 1 and way == audience.WEBSOCKET]
            self.assertGreater(len(back), 0.9 * CLIENTS / 2, name)
            quarters = collections.Counter(min(3, int(t / DRAIN * 4)) for t in back)
            for quarter in range(4):
                least, most = (0.12, 0.40) if CLIENTS >= 1000 else (0.04, 0.60)  # of few, chance makes much
                self.assertTrue(len(back) * least < quarters[quarter] < len(back) * most, f"{name}: {quarters}")

    def test_nobody_notices(self):
        async def run():
            async with Fleet(CLIENTS, DRAIN, log__level="info", longpoll__timeout="20s", websocket__ping_interval="4s",
                             bus__canary_interval="500ms", bus__prefix=f"deploy-{SEED}") as self.fleet:
                self.world = World(self.fleet, SEED)
                async with asyncio.timeout(120 + 8 * DRAIN + CLIENTS / 50):
                    await audience.play(self.world, CLIENTS, 1 << 30, RATE, meanwhile=self.deploys(), kind=Steady)

        asyncio.run(run())
        print(f"\n{self._testMethodName} (PL_SEED={SEED})\n{self.report()}", flush=True)
        self.assertEqual(self.world.problems, [], dict(self.world.problem_kinds))
        self.assertEqual(self.world.counts["due, not given"], 0)
        self.assertEqual(self.world.counts["queues lost"], 0)
        self.assertLess(self.replaced, 0.2)
        late = [f"{gap:.2f} s: {client.life}" for gap, client in self.world.gaps if gap > GAP and not client.user.disconnects]
        self.assertEqual(late, [])
        self.judge_returns()


if __name__ == "__main__":
    harness.main()
