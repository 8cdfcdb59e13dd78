"""Every limit is hit from the outside by clients that misbehave, each in its way (misbehaviour.py), while clients that
behave get paced events: they lose nothing, and everything that was taken is given back.

How long their events take is printed beside how long they take when it is quiet, both measured in one run, in turns;
that it is not twice as long is asserted where PL_RATIO says so: it means little on a machine that is busy. `make
attack-proof` does that, on a release build, with everything larger:

PL_GOOD, PL_SCALE, PL_SECONDS, PL_ROUNDS, PL_RATIO   good clients, how large the attacks are (1: as for the proof),
seconds of events in each phase, phases of each kind, and the ratio that is too much.
"""

import json
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import time
import unittest

import harness
import misbehaviour
from harness import until

GOOD = int(os.environ.get("PL_GOOD", "200"))
SCALE = float(os.environ.get("PL_SCALE", "0.04"))
SECONDS = float(os.environ.get("PL_SECONDS", "1.5"))
ROUNDS = int(os.environ.get("PL_ROUNDS", "1"))
RATIO = float(os.environ.get("PL_RATIO", "0"))
LOAD = os.environ.get("PL_LOAD") or os.path.join(os.path.dirname(harness.PARLEYD), "bench", "load")
RELEASE = os.environ.get("PARLEYD_RELEASE")

QUEUES_PER_USER = 100
PER_ADDRESS = max(int(2000 * SCALE), GOOD + 50)
TTL = 3


def refused(limit):
    return f'realtime_refused_total{{limit="{limit}"}}'


def limited(what):
    return f'realtime_rate_limited_total{{what="{what}"}}'


def unfit(limit):
    return f'realtime_requests_refused_total{{limit="{limit}"}}'


def closed(code):
    return f'realtime_websocket_closes_total{{code="{code}"}}'


class Attack:
    """What is done, how much of it in the proof, and the counters that say that a limit was hit."""

    def __init__(self, run, count, *counters, **more):
        self.name, self.run = run.__name__.replace("_", " "), run
        self.count, self.counters, self.more = max(int(count * SCALE), 4), counters, more


ATTACKS = [
    Attack(misbehaviour.slow_loris, 1000, unfit("header_timeout"), unfit("body_timeout")),
    Attack(misbehaviour.idle_connections, 10_000, refused("connections_per_ip"), per_address=PER_ADDRESS),
    Attack(misbehaviour.readers_that_stop, 100, closed(4408)),
    Attack(misbehaviour.publishers_in_a_loop, 100, limited("publishes"), limited("messages"), closed(4429)),
    Attack(misbehaviour.header_flood, 200, unfit("header_bytes")),
    Attack(misbehaviour.garbage, 200, 'realtime_http_responses_total{class="4xx"}'),
    Attack(misbehaviour.half_open, 1000, closed(4408)),
    Attack(misbehaviour.queues_left_behind, 100_000, refused("queues_per_user"),
           'realtime_queues_ended_total{reason="ttl"}', per_user=QUEUES_PER_USER),
]


class Running:
    """An attack in a process of its own, which yields to everybody else."""

    def __init__(self, server, attack, kind):
        self.ready = multiprocessing.Event()
        self.process = multiprocessing.Process(target=self._run, args=(server, attack, kind), daemon=True)
        self.attack = attack

    def _run(self, server, attack, kind):
        os.nice(19)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        attack.run(misbehaviour.Target(server, kind), attack.count, self.ready.set, **attack.more)

    def __enter__(self):
        self.process.start()
        until(lambda: self.ready.is_set() or not self.process.is_alive(), self.attack.name, timeout=120)
        if SCALE > 0.5:
            time.sleep(1)  # who comes within the second of so many may be told to come later (limits.accept_rate)
        return self

    def __exit__(self, kind, *_):
        alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        assert alive or kind, f"{self.attack.name}: ended by itself"


def good_clients(server, seconds=SECONDS):
    """The load generator's report of clients of both transports; all of them got everything once."""
    done = subprocess.run(
        [LOAD, f"target={server.address[1]}", f"publish={server.internal[1]}", f"pid={server.process.pid}",
         f"secret={harness.SECRET}", f"api_key={harness.API_KEY}", f"clients={GOOD // 2}", f"clients={GOOD // 2}:poll",
         "settle=0", "publishers=1", "rate=20", f"seconds={seconds}", "warmup=0.3"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"a good client lost something: {done.stdout} {done.stderr}"
    return json.loads(done.stdout)


class Misbehaving(harness.TestCase):
    """One server for all attacks, one after the other, with limits that are soon reached."""

    @classmethod
    def setUpClass(cls):
        harness.raise_file_limit()
        cls.server = harness.Server(
            log__level="warn", server__internal_listen="127.0.0.1:0", queue__ttl=f"{TTL}s", websocket__ping_interval="1s",
            limits__header_timeout="1s", limits__body_timeout="1s", limits__keepalive_timeout="5s", limits__connections_per_ip=PER_ADDRESS,
            limits__handshakes_per_ip=max(300, GOOD), limits__queues_per_user=QUEUES_PER_USER).start()
        cls.p99 = {"quiet": []}

    @classmethod
    def tearDownClass(cls):
        quiet = statistics.median(cls.p99["quiet"])
        print(f"\n{GOOD} good clients, p99 of {ROUNDS} phases each, milliseconds (quiet {quiet:.1f})")
        for name, values in filter(lambda item: item[1], cls.p99.items()):
            print(f"  {name:24} {statistics.median(values):8.1f}   x{statistics.median(values) / quiet:.2f}")
        cls.server.stop()

    def metrics(self):
        text = self.server.get("/metrics", internal=True).body.decode()
        return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.M)}

    def all_grown(self, before, counters):
        now = self.metrics()
        return all(now[name] > before[name] for name in counters)

    def held(self):
        """Queues, WebSockets, and HTTP connections but for the one that asks."""
        now = self.metrics()
        return (self.server.get("/health", internal=True).value["active_queues"], now['realtime_connections{transport="websocket"}'],
                now['realtime_connections{transport="http"}'] - 1)

    def phase(self, kind, attack):
        before = self.metrics()
        with Running(self.server, attack, kind):
            self.p99.setdefault(attack.name, []).append(good_clients(self.server)["latency_ms"]["p99"])
            until(lambda: self.all_grown(before, attack.counters), f"{attack.name}: counted in {attack.counters}", timeout=20, every=0.2)

    def test_good_clients_lose_nothing(self):
        for _ in range(ROUNDS):
            for kind, attack in enumerate(ATTACKS, 1):
                with self.subTest(attack.name):
                    self.p99["quiet"].append(good_clients(self.server)["latency_ms"]["p99"])
                    self.phase(kind, attack)
        end = time.monotonic() + 20
        while self.held() != (0, 0, 0) and time.monotonic() < end:
            time.sleep(0.2)
        self.assertEqual(self.held(), (0, 0, 0), "queues, WebSockets, HTTP connections")
        if RATIO:
            quiet = statistics.median(self.p99["quiet"])
            for name, values in self.p99.items():
                with self.subTest(name):
                    self.assertLessEqual(statistics.median(values), RATIO * quiet)


class ReleaseServer(harness.Server):
    def command(self):
        return [RELEASE, *super().command()[1:]]


@unittest.skipUnless(RELEASE and os.path.exists(RELEASE), "PARLEYD_RELEASE names no binary")
class QueuesLeftBehind(harness.TestCase):
    def test_their_memory_is_given_back_when_they_end(self):
        attack = ATTACKS[-1]
        with ReleaseServer(log__level="warn", server__internal_listen="127.0.0.1:0", queue__ttl=f"{TTL}s", limits__handshakes_per_ip=0,
                           limits__queues_per_user=QUEUES_PER_USER) as server:
            good_clients(server)
            start = server.rss_kib()  # what serves them, and will serve the others, is in memory
            with Running(server, attack, 9):
                peak = server.rss_kib()
            until(lambda: server.get("/health", internal=True).value["active_queues"] == 0, "all queues to end", timeout=TTL + 30, every=0.2)
            end = until(lambda: server.rss_kib() <= start * 1.1 and server.rss_kib(), f"{start} KiB and a tenth (it was {peak})", timeout=25, every=0.5)
            print(f"\n{attack.count} queues left behind: {start} KiB, at most {peak} KiB, in the end {end} KiB", flush=True)


if __name__ == "__main__":
    unittest.main()
