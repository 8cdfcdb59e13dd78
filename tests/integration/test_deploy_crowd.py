"""Deploys at noon under very many clients (crowd.c, which says what a client does): what test_deploy.py does to the fleet,
and Redis away, stopped and killed, for a while.

No connect is refused, no event is lost or given twice, none comes more than two seconds late while Redis is there, all
come back over the whole of the drain, and nobody has to be registered anew.

PL_CLIENTS, PL_RATE (events a second), PL_DRAIN, PL_OUTAGE (seconds) change the run; `make deploy-proof` makes it big.
"""

import asyncio
import json
import os
import re
import subprocess
import time

import harness
import judge
from deploys import HAPROXY, Fleet

CROWD = os.environ.get("CROWD") or os.path.join(os.path.dirname(harness.PARLEYD), "tests", "integration", "crowd")
CLIENTS = int(os.environ.get("PL_CLIENTS", "300"))
RATE = float(os.environ.get("PL_RATE", "10"))
DRAIN = float(os.environ.get("PL_DRAIN", "4"))
OUTAGE = float(os.environ.get("PL_OUTAGE", "6"))
KINDS = ["", ":msgpack:key", ":poll:key", ":poll:msgpack"]
TENTHS = 10
RECOVERY_MS = 5000  # after an outage everything is there again within


class Crowd:
    """The program, and what it is told."""

    def __init__(self, fleet):
        port = fleet.front.address[1]
        counts = [CLIENTS // len(KINDS) + (n < CLIENTS % len(KINDS)) for n in range(len(KINDS))]
        self.process = subprocess.Popen(
            [CROWD, f"target={port}", f"secret={harness.SECRET}", f"api_key={harness.API_KEY}", f"rate={RATE}", "at_once=50",
             "bytes=300", "give_up=20", *(f"clients={count}{kind}" for count, kind in zip(counts, KINDS))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def order(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    async def opened(self):
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line == "open\n", line

    async def account(self):
        self.order("end")
        return json.loads(await asyncio.to_thread(self.process.stdout.readline))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def called(pid):
    """The ports that a process is connected to by itself, which is every one but those of its clients."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}")))
        except OSError:
            pass
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A"}
    return {int(row[2].split(":")[1], 16) for row in rows
            if row[9] in inodes and row[3] == "01" and row[1] not in listening}


class DeployCrowd(harness.TestCase):
    def setUp(self):
        for path in (HAPROXY, CROWD):
            if not os.path.exists(path):
                self.skipTest(f"no {path}")
        harness.raise_file_limit()
        self.called, self.replaced = set(), None

    async def phase(self, name, work):
        self.crowd.order(f"phase {name}")
        outcome = await work
        await asyncio.sleep(2)
        for node in self.fleet.behind:
            for pid in self.fleet.workers(node):
                self.called |= await asyncio.to_thread(called, pid)
        return outcome

    async def run_all(self):
        fleet = self.fleet
        await self.phase("quiet", asyncio.sleep(DRAIN / 2))
        await self.phase("reload", fleet.reload())
        await self.phase("upgrade", fleet.upgrade())
        for node in fleet.behind:
            await self.phase(f"restart of {node.name}", fleet.restart(node))
        self.replaced = await self.phase("worker killed", fleet.kill_a_worker())
        fleet.redis.pause()
        await self.phase("Redis stopped", asyncio.sleep(OUTAGE - 2))
        fleet.redis.resume()
        await self.phase("Redis goes on", fleet.ready())
        fleet.redis.kill()
        await self.phase("Redis killed", asyncio.sleep(OUTAGE - 2))
        await self.phase("Redis started", self.start_redis())
        await self.phase("quiet again", asyncio.sleep(2))

    async def start_redis(self):
        await self.fleet.redis.start()
        await self.fleet.ready()

    def tenths(self, phase, way):
        width = DRAIN * 1000 / TENTHS
        tenths = [0] * TENTHS
        for n, count in enumerate(phase[f"{way}_returns"]):
            tenths[min(TENTHS - 1, int(n * self.account["return_ms"] / width))] += count
        return tenths

    def report(self):
        a = self.account
        columns = ("seconds", "published", "deliveries", "late", "told", "links", "lost", "asked_to_wait", "refused", "registered",
                   "holes", "again", "catchups", "not_resumed")
        rows = [("phase", *columns)]
        times = [("phase", "ws p50", "p99", "max", "poll p50", "p99", "max", "away p99", "max", "publish p99", "max")]
        for phase in a["phases"]:
            rows.append((phase["name"], *(f"{phase[c]:.1f}" if c == "seconds" else phase[c] for c in columns)))
            times.append((phase["name"], *(f"{phase[kind][q]:.0f}" for kind, qs in (
                ("websocket_ms", ("p50", "p99", "max")), ("poll_ms", ("p50", "p99", "max")), ("away_ms", ("p99", "max")),
                ("answer_ms", ("p99", "max"))) for q in qs)))
        returns = [("returned in each tenth of the drain", *(str(n + 1) for n in range(TENTHS)))]
        for phase in a["phases"]:
            if phase["told"]:
                returns += [(f"{phase['name']}: {name}", *map(str, self.tenths(phase, way)))
                            for name, way in (("WebSockets", "websocket"), ("polls", "poll"))]
        return "\n".join([
            judge.table(rows), "  milliseconds", judge.table(times), judge.table(returns),
            f"  {a['clients']} clients, {a['events']} events, {a['missing']} missing; a killed worker was replaced within "
            f"{self.replaced * 1000:.0f} ms; nodes called the ports {sorted(self.called)} (Redis is {self.redis_port})",
            f"  the clients used {a['cpu_s'] / a['seconds'] * 100:.0f} % of a core, their slowest turn took {a['slowest_turn_ms']:.0f} ms",
            *("  " + text for text in a["faults"])])

    def test_nobody_notices(self):
        async def run():
            async with Fleet(CLIENTS, DRAIN, log__level="info", longpoll__timeout="20s", websocket__ping_interval="10s") as self.fleet:
                self.redis_port = self.fleet.redis.port
                with Crowd(self.fleet) as self.crowd:
                    async with asyncio.timeout(180 + 6 * DRAIN + 2 * OUTAGE + CLIENTS / 50):
                        await self.crowd.opened()
                        await self.run_all()
                        self.account = await self.crowd.account()

        begun = time.monotonic()
        asyncio.run(run())
        print(f"\n{self._testMethodName}, {time.monotonic() - begun:.0f} s\n{self.report()}", flush=True)
        self.judge()

    def judge(self):
        a = self.account
        self.assertEqual((a["missing"], a["open"]), (0, CLIENTS))
        for phase in a["phases"]:
            name, away = phase["name"], phase["name"].startswith("Redis")
            with self.subTest(name):
                for count in ("refused", "holes", "again", "catchups", "not_resumed"):
                    self.assertEqual(phase[count], 0, f"{name}: {count}")
                if name == "opening":
                    continue
                self.assertEqual(phase["registered"], 0, name)
                if name != "worker killed":
                    self.assertEqual(phase["lost"], 0, name)
                if not away:
                    self.assertEqual((phase["late"], phase["asked_to_wait"]), (0, 0), name)
                    self.assertLess(phase["away_ms"]["max"], 2000, name)
                for way in ("websocket_ms", "poll_ms"):
                    self.assertLess(phase[way]["max"], RECOVERY_MS if away else 2000, name)
                if name in ("reload", "upgrade"):
                    self.judge_returns(phase)
        self.assertEqual(self.called, {self.redis_port})
        self.assertLess(self.replaced, 0.2)

    def judge_returns(self, phase):
        """Everybody comes back, evenly."""
        for way in ("websocket", "poll"):
            tenths = self.tenths(phase, way)
            self.assertGreater(sum(tenths), 0.85 * CLIENTS / 2, f"{phase['name']}, {way}")
            for n in range(0, TENTHS, 2):
                fifth = sum(tenths[n:n + 2]) / sum(tenths)
                least, most = (0.12, 0.28) if CLIENTS >= 1000 else (0.04, 0.45)  # of few, chance makes much
                self.assertTrue(least < fifth < most, f"{phase['name']}, {way}: {tenths}")


if __name__ == "__main__":
    harness.main()
