#!/usr/bin/python3
"""What the redis bus costs on this machine, beside the embedded bus: one table, and bench/results/bus.json.

It starts nodes and Redis on free loopback ports, measures, and stops them. The machine is shared by the nodes,
Redis, and the clients here, which are Python: read the figures beside each other, not as what a server can do.
CPU time is the scheduler's own account (/proc/PID/task/*/schedstat), finer than the ticks of /proc/PID/stat.
"""

import argparse
import asyncio
import collections
import contextlib
import glob
import http.client
import json
import os
import platform
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
os.environ.setdefault("PARLEYD", os.path.join(ROOT, "build", "parleyd"))
os.environ.pop("PL_TEST_BUS", None)  # the harness would put every node on it

import cluster  # noqa: E402
import harness  # noqa: E402
import msgpack  # noqa: E402

COLUMNS = ("memory", "redis, 1 node", "redis, 2 nodes")
MEMORY, ONE, TWO = COLUMNS
EVENT_BYTES = 200
RESULTS = os.path.join(ROOT, "bench", "results", "bus.json")


# ---- the table ----

class Table:
    """Every cell holds what each run measured; shown is the median, and the range beside it."""

    def __init__(self):
        self.rows = {}

    def add(self, section, what, column, value):
        self.rows.setdefault((section, what), {}).setdefault(column, []).append(value)

    def lines(self):
        width = max(len(what) for _, what in self.rows)
        head = f"{'':{width}}  " + "  ".join(f"{c:>26}" for c in COLUMNS)
        section, out = None, [head]
        sections = list(dict.fromkeys(section for section, _ in self.rows))
        sections.sort(key=lambda name: name.split(".")[0])
        for (of, what), cells in sorted(self.rows.items(), key=lambda row: sections.index(row[0][0])):
            if of != section:
                section, out = of, [*out, "", of]
            out.append(f"{what:{width}}  " + "  ".join(f"{self._cell(cells.get(c)):>26}" for c in COLUMNS))
        return out

    @staticmethod
    def _number(value):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    def _cell(self, values):
        if not values:
            return ""
        median = self._number(statistics.median(values))
        return median if len(values) == 1 else f"{median} ({self._number(min(values))}..{self._number(max(values))})"

    def save(self, about):
        os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
        rows = [{"section": section, "what": what,
                 "cells": {c: {"median": statistics.median(v), "runs": v} for c, v in cells.items()}}
                for (section, what), cells in self.rows.items()]
        with open(RESULTS, "w") as f:
            json.dump({**about, "rows": rows}, f, indent=1)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# ---- what a process costs ----

def cpu_s(process):
    total = 0
    for path in glob.glob(f"/proc/{process.pid}/task/*/schedstat"):
        with contextlib.suppress(OSError), open(path) as f:
            total += int(f.read().split()[0])
    return total / 1e9


class Cpu:
    """CPU seconds that processes took between the beginning of a block and its end."""

    def __init__(self, **processes):
        self.processes, self.used = processes, {}

    def __enter__(self):
        self.before = {name: cpu_s(p) for name, p in self.processes.items()}
        return self

    def __exit__(self, *_):
        self.used = {name: cpu_s(p) - self.before[name] for name, p in self.processes.items()}


# ---- Redis, seen from outside ----

class Redis:
    """A connection for questions; replies are not decoded further than they must be."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.file = self.sock.makefile("rb")

    @staticmethod
    def encode(*args):
        args = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)

    def reply(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def ask(self, *args):
        self.sock.sendall(self.encode(*args))
        return self.reply()

    def info(self, section):
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def used_memory(self):
        return int(self.info("memory")["used_memory"])

    def memory_by_kind(self):
        """Bytes of all keys by what follows the prefix, and how many there are: {kind: (bytes, keys)}."""
        keys = self.ask("KEYS", "*")
        self.sock.sendall(b"".join(self.encode("MEMORY", "USAGE", key, "SAMPLES", "0") for key in keys))
        out = collections.defaultdict(lambda: [0, 0])
        for key in keys:
            kind = out[key.decode().split(":")[1]]
            kind[0] += self.reply() or 0
            kind[1] += 1
        return out

    def close(self):
        self.file.close()
        self.sock.close()


class Commands:
    """Counts the commands Redis carries out during a block: `outer` as clients sent them, functions by their name;
    `inner` what functions called; `fcalls` as INFO commandstats counts them."""

    LINE = re.compile(rb'^\+\S+ \[\d+ (\S+)\] "(\w+)"(?: "([^"]*)")?')  # who, command, first argument

    def __init__(self, port):
        self.port, self.outer, self.inner = port, collections.Counter(), collections.Counter()

    def __enter__(self):
        self.redis, self.monitor = Redis(self.port), Redis(self.port)
        self.monitor.ask("MONITOR")
        self.own = "%s:%d" % self.redis.sock.getsockname()
        self.before = self._fcalls()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        return self

    def _fcalls(self):
        stats = self.redis.info("commandstats")
        return sum(int(re.match(r"calls=(\d+)", stats[f"cmdstat_{name}"])[1])
                   for name in ("fcall", "fcall_ro") if f"cmdstat_{name}" in stats)

    def _read(self):
        for line in self.monitor.file:
            match = self.LINE.match(line)
            if not match or match[1] == self.own.encode():
                if match and match[2] == b"ECHO":
                    return
                continue
            name = match[2].decode().upper()
            if match[1] == b"lua":
                self.inner[name] += 1
            else:
                self.outer[match[3].decode() if name.startswith("FCALL") else name] += 1

    def __exit__(self, *_):
        self.fcalls = self._fcalls() - self.before
        self.redis.ask("ECHO", "end")
        self.thread.join(10)
        self.monitor.close()
        self.redis.close()


# ---- clients ----

def event_body(n, community=42, size=EVENT_BYTES):
    """An event as clients receive it but for its id, of that size; n has seven digits."""
    head = ('{"type":"new_comment","timestamp":"2026-01-01T00:00:00.000Z",'
            '"community_ids":[%d],"data":{"n":%d,"text":"' % (community, n))
    return (head + "x" * (size - len(head) - 3) + '"}}').encode()


def http_publish(n, community=42):
    body = event_body(n, community)
    return (b"POST /realtime/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (harness.API_KEY.encode(), len(body), body))


def upgrade(user, communities, query=""):
    """What a browser sends, compression offered."""
    return (f"GET /realtime/ws{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            f"Sec-WebSocket-Protocol: parley.v1.json, bearer.{harness.mint(user, communities)}\r\n\r\n").encode()


def connect(address):
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def text_frame(message):
    return bytes([0x81, 0x80 | len(message)]) + b"\0\0\0\0" + message


PONG = text_frame(b'{"op":"pong"}')
WELCOME = re.compile(rb'"op":"welcome".*?"queue_id":"(\w+)","last_event_id":(\d+),"resumed":(\w+)')


def open_websocket(address, request):
    """Up to the welcome: the socket, the queue's id, where delivery goes on."""
    sock, data = connect(address), b""
    sock.sendall(request)
    while not (match := WELCOME.search(data)):
        more = sock.recv(4096)
        assert more, data
        data += more
    return sock, match[1].decode(), int(match[2])


def open_all(address, requests, at_once=100):
    """WebSockets opened by so many at once: the sockets, and the seconds until the last welcome. All must say that
    they are resumed, or none."""
    begun, waiting, sockets, resumed = time.perf_counter(), list(reversed(requests)), [], collections.Counter()
    with selectors.EpollSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < at_once:
                sock = connect(address)
                sock.sendall(waiting.pop())
                selector.register(sock, selectors.EVENT_READ, bytearray())
            for key, _ in selector.select(10):
                data = key.fileobj.recv(4096)
                assert data, f"closed: {bytes(key.data)!r}"
                key.data.extend(data)
                if match := WELCOME.search(key.data):
                    selector.unregister(key.fileobj)
                    sockets.append(key.fileobj)
                    resumed[match[3]] += 1
    assert len(resumed) == 1, resumed
    return sockets, time.perf_counter() - begun


class Crowd:
    """Clients served by a thread: handle(sock, data) is called with what each receives."""

    def __init__(self, sockets, handle=lambda sock, data: None):
        self.selector, self.sockets, self.handle, self.ended = selectors.EpollSelector(), sockets, handle, False
        for sock in sockets:
            self.selector.register(sock, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def _run(self):
        while not self.ended:
            for key, _ in self.selector.select(0.1):
                data = key.fileobj.recv(262144)
                if not data:
                    self.selector.unregister(key.fileobj)
                self.handle(key.fileobj, data)

    def __exit__(self, *_):
        self.ended = True
        self.thread.join()
        self.selector.close()
        for sock in self.sockets:
            sock.close()


def answer_ping(sock, data):
    assert data, "a WebSocket was closed"
    if b'"op":"ping"' in data:
        sock.sendall(PONG)


class Metrics:
    """/metrics of a node over one kept connection."""

    def __init__(self, node):
        self.connection = http.client.HTTPConnection(*node.address)

    def get(self, series):
        self.connection.request("GET", "/metrics")
        body = self.connection.getresponse().read().decode()
        return float(re.search(rf"^{re.escape(series)} (\S+)$", body, re.M)[1])

    def wait(self, series, least, timeout=60):
        end = time.monotonic() + timeout
        while self.get(series) < least:
            assert time.monotonic() < end, f"{series} is {self.get(series)}, not {least}, after {timeout} s"
            time.sleep(0.005)

    def close(self):
        self.connection.close()


def cluster_of(column, **options):
    bus, nodes = {MEMORY: ("memory", 1), ONE: ("redis", 1), TWO: ("redis", 2)}[column]
    options = {"limits__queues_per_user": "0", "log__level": "warn", **options}
    return cluster.Cluster(nodes, bus, **options)


# ---- 1: from publish to delivery ----

class Latency:
    """Publishes at a rate over one connection and notes when each event reaches each WebSocket."""

    NUMBER = re.compile(rb'"n":(\d{7}),')

    def __init__(self, publisher, subscribers):
        self.selector, self.sent = selectors.EpollSelector(), {}
        self.publisher = connect(publisher)
        self.answers, self.tail = 0, b""
        self.selector.register(self.publisher, selectors.EVENT_READ, None)
        self.came = []
        for n, address in enumerate(subscribers):
            plain = re.sub(rb"Sec-WebSocket-Extensions:[^\r]*\r\n", b"", upgrade(7 + n, [42]))
            self.selector.register(open_websocket(address, plain)[0], selectors.EVENT_READ, [n, b""])
            self.came.append({})

    def turn(self, timeout):
        for key, _ in self.selector.select(timeout):
            data = key.fileobj.recv(65536)
            now = time.perf_counter()
            assert data, "closed"
            if key.data is None:
                self.tail += data
                self.answers += self.tail.count(b"HTTP/1.1 200")
                assert b"HTTP/1.1 5" not in self.tail and b"HTTP/1.1 4" not in self.tail, self.tail
                self.tail = self.tail[-11:] if not self.tail.endswith(b"}") else b""
            else:
                subscriber, tail = key.data
                tail += data
                for match in self.NUMBER.finditer(tail):
                    self.came[subscriber].setdefault(int(match[1]), now)
                key.data[1] = tail[-11:]

    def run(self, count, rate):
        """Milliseconds of every event, for each subscriber."""
        begun = time.perf_counter() + 0.5
        for n in range(1000000, 1000000 + count):
            due = begun + (n - 1000000) / rate
            while (left := due - time.perf_counter()) > 0:
                self.turn(left)
            self.sent[n] = time.perf_counter()
            self.publisher.sendall(http_publish(n))
        end = time.perf_counter() + 5
        while any(len(came) < count for came in self.came) and time.perf_counter() < end:
            self.turn(0.1)
        return [[(came[n] - at) * 1000 for n, at in self.sent.items()] for came in self.came]

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


async def measure_latency(table, column):
    section = f"1. from POST /realtime/publish to a WebSocket, {EVENT_BYTES} bytes, 200/s [ms]"
    async with cluster_of(column) as c:
        run = Latency(c.nodes[0].address, [node.address for node in c.nodes])
        try:
            for where, values in zip(("same node", "other node"), run.run(1000, 200)):
                values = values[50:]
                for share in (50, 99):
                    table.add(section, f"{where}, p{share}", column, percentile(values, share / 100))
        finally:
            run.close()


# ---- 2: how much a node takes in ----

FED = 20  # events in one call, as nodes send under load


def child(*args):
    process = subprocess.Popen([sys.executable, os.path.abspath(__file__), *map(str, args)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def result_of(process):
    with process:
        return json.loads(process.stdout.readline())


def append_call(first, channels, size):
    """FCALL parley_append with FED events, each in the next of the channels."""
    numbers = range(first, first + FED)
    names = list(dict.fromkeys(f"community:{100 + n % channels}" for n in numbers))
    args = ["parley_append", 2 + len(names), "{parley}:seq", "{parley}:idem:none"]
    args += [f"{{parley}}:log:{name}" for name in names]
    args += [f"{os.urandom(8).hex()}", 0, "none", 10000, 86400000, FED]
    for n in numbers:
        name = f"community:{100 + n % channels}"
        body = event_body(1000000 + n, 100 + n % channels, size).decode()
        args += ["E", msgpack.packb({"b": body, "c": [name]}), 1, 1 + names.index(name)]
    return Redis.encode("FCALL", *args)


def feed(port, channels, total, size):
    """The process that appends: 25 calls in a write, the next when all are answered."""
    calls = [append_call(first, channels, size) for first in range(0, total, FED)]
    writes = [b"".join(calls[i:i + 25]) + Redis.encode("PING") for i in range(0, len(calls), 25)]
    sock = connect(("127.0.0.1", port))
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    for write in writes:
        sock.sendall(write)
        data = b""
        while not data.endswith(b"+PONG\r\n"):
            data += sock.recv(262144)
        assert b"\r\n-" not in data and data[:1] == b"*", data[:300]
    seconds = time.perf_counter() - begun
    redis = Redis(port)
    print(json.dumps({"seconds": seconds, "last": int(redis.ask("GET", "{parley}:seq"))}), flush=True)


def fed(port, channels, total, size=EVENT_BYTES):
    process = child("--feed", port, channels, total, size)
    go(process)
    return result_of(process)


async def measure_intake(table, column, channels, total=40000):
    section = f"2. events appended by parley_append in calls of {FED}, {channels} channel(s) with a WebSocket each"
    async with cluster_of(column, bus__timeout="30s") as c:
        node, metrics = c.nodes[0], Metrics(c.nodes[0])
        sockets, _ = open_all(node.address, [upgrade(7 + i, [100 + i]) for i in range(channels)])
        with Crowd(sockets):
            process = child("--feed", c.redis.port, channels, total, EVENT_BYTES)
            with Cpu(node=node.process, redis=c.redis.process) as cpu:
                begun = time.perf_counter()
                go(process)
                result = result_of(process)
                metrics.wait("realtime_last_event_id", result["last"])
                seconds = time.perf_counter() - begun
            table.add(section, "events/s until the node has them all", column, total / seconds)
            table.add(section, "events/s that Redis appended", column, total / result["seconds"])
            table.add(section, "CPU of parleyd [us/event]", column, cpu.used["node"] / total * 1e6)
            table.add(section, "CPU of redis-server [us/event]", column, cpu.used["redis"] / total * 1e6)
            node.pause()
            try:
                result = fed(c.redis.port, channels, total // 2)
            finally:
                node.resume()
            begun = time.perf_counter()
            metrics.wait("realtime_last_event_id", result["last"])
            table.add(section, "events/s from a backlog (parleyd stopped meanwhile)", column,
                      total / 2 / (time.perf_counter() - begun))
            opened = metrics.get('realtime_bus_connects_total{connection="pubsub"}')
            assert opened == 1, f"Pub/Sub was opened {opened:.0f} times"
        metrics.close()


# ---- 2 and 3: publishing by HTTP ----

def publish(port, connections, total):
    """The process that publishes: one request under way on each connection."""
    requests = iter([http_publish(1000000 + n) for n in range(total)])
    with selectors.EpollSelector() as selector:
        for _ in range(connections):
            selector.register(connect(("127.0.0.1", port)), selectors.EVENT_READ, bytearray())
        print("ready", flush=True)
        sys.stdin.readline()
        begun = time.perf_counter()
        for key in selector.get_map().values():
            key.fileobj.sendall(next(requests))
        answered = 0
        while answered < total:
            for key, _ in selector.select():
                key.data.extend(key.fileobj.recv(65536))
                if key.data.endswith(b"}"):
                    assert key.data.startswith(b"HTTP/1.1 200"), bytes(key.data)
                    key.data.clear()
                    answered += 1
                    if request := next(requests, None):
                        key.fileobj.sendall(request)
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


async def measure_publish(table, column, connections, total):
    section = f"3. POST /realtime/publish, {connections} connection(s), one request at a time on each"
    async with cluster_of(column, bus__canary_interval="60s") as c:
        node = c.nodes[0]
        processes = {"node": node.process, **({"redis": c.redis.process} if c.redis else {})}
        with Crowd([open_websocket(node.address, upgrade(7, [42]))[0]]):
            process = child("--publish", node.address[1], connections, total)
            with Cpu(**processes) as cpu:
                go(process)
                result = result_of(process)
            table.add(section, "events/s", column, total / result["seconds"])
            table.add(section, "CPU of parleyd [us/event]", column, cpu.used["node"] / total * 1e6)
            if c.redis:
                table.add(section, "CPU of redis-server [us/event]", column, cpu.used["redis"] / total * 1e6)
                process = child("--publish", node.address[1], connections, total)
                with Commands(c.redis.port) as commands:
                    go(process)
                    result_of(process)
                add_commands(table, section, column, commands, total)


def add_commands(table, section, column, commands, total):
    outer = commands.outer.copy()
    canaries = outer.pop("parley_canary", 0)
    table.add(section, "commands to Redis per event", column, sum(outer.values()) / total)
    for name, count in outer.most_common():
        table.add(section, f"  of these {name}", column, count / total)
    table.add(section, "FCALLs per event by INFO commandstats, canaries apart", column,
              (commands.fcalls - canaries) / total)
    table.add(section, "calls inside the function per event", column, sum(commands.inner.values()) / total)


# ---- 3: idle queues ----

def poll_request(queue_id, cursor):
    return (f"GET /realtime/poll?queue_id={queue_id}&last_event_id={cursor}&timeout=50 HTTP/1.1\r\nHost: x\r\n"
            "Accept: */*\r\n\r\n").encode()


class Polls:
    """Polls answered are asked again, with the cursor of the answer."""

    CURSOR = re.compile(rb'"last_event_id":(\d+)')

    def __init__(self, node, count):
        self.queues, self.answers = {}, 0
        for i in range(count):
            queue = node.register_token(harness.mint(5000 + i, [1, 2, 10 + i % 100])).registered
            sock = connect(node.address)
            sock.sendall(poll_request(queue["queue_id"], queue["last_event_id"]))
            self.queues[sock] = queue["queue_id"]

    def handle(self, sock, data):
        assert data.startswith(b"HTTP/1.1 200") and data.endswith(b"}"), data
        self.answers += 1
        sock.sendall(poll_request(self.queues[sock], int(self.CURSOR.search(data)[1])))


def websockets(count, first=1000):
    return [upgrade(first + i, [1, 2, 10 + i % 100]) for i in range(count)]


async def measure_idle_queues(table, column, seconds):
    """1000 WebSockets at one Redis, 1000 held polls at another, at the same time."""
    async with cluster_of(column) as a, cluster_of(column) as b:
        with Crowd(open_all(a.nodes[0].address, websockets(1000))[0], answer_ping):
            polls = Polls(b.nodes[0], 1000)
            with Crowd(list(polls.queues), polls.handle):
                await asyncio.sleep(3)
                with Commands(a.redis.port) as of_a, Commands(b.redis.port) as of_b, \
                        Cpu(a=a.nodes[0].process, b=b.nodes[0].process) as cpu:
                    await asyncio.sleep(seconds)
        for what, commands, name in (("1000 idle WebSockets", of_a, "a"), ("1000 held polls of 50 s", of_b, "b")):
            section = f"3. {what}, per minute"
            outer, minutes = commands.outer.copy(), seconds / 60
            table.add(section, "canaries", column, outer.pop("parley_canary", 0) / minutes)
            table.add(section, "other commands to Redis", column, sum(outer.values()) / minutes)
            for command, count in outer.most_common():
                table.add(section, f"  of these {command}", column, count / minutes)
            table.add(section, "calls inside functions", column, sum(commands.inner.values()) / minutes)
            table.add(section, "CPU of parleyd [ms]", column, cpu.used[name] / minutes * 1000)


# ---- 4: memory ----

async def measure_client_memory(table, column, count=2000):
    section = f"4. memory, {count} idle WebSockets in 3 communities each"
    async with cluster_of(column) as c:
        node, redis = c.nodes[0], Redis(c.redis.port) if c.redis else None
        first = open_websocket(node.address, upgrade(7, [1, 2, 10]))[0]
        rss, used = node.rss_kib(), redis.used_memory() if redis else 0
        sockets, _ = open_all(node.address, websockets(count))
        await asyncio.sleep(1)
        table.add(section, "resident memory of parleyd [bytes/client]", column, (node.rss_kib() - rss) * 1024 / count)
        if redis:
            table.add(section, "memory of Redis per queue [bytes]", column, (redis.used_memory() - used) / count)
            kinds = redis.memory_by_kind()
            for kind in ("queue", "conn"):
                table.add(section, f"  of these :{kind}: keys", column, kinds[kind][0] / kinds[kind][1])
            redis.close()
        for sock in [first, *sockets]:
            sock.close()


async def measure_record_memory(table, column, count=2000):
    section = "4. memory of Redis per POST /realtime/register of a new user, 3 communities [bytes]"
    async with cluster_of(column) as c:
        node, redis = c.nodes[0], Redis(c.redis.port)
        node.register(7, [1, 2, 10])
        used = redis.used_memory()
        for i in range(count):
            node.register(1000 + i, [1, 2, 10 + i % 100])
        await asyncio.sleep(1)
        table.add(section, "in all", column, (redis.used_memory() - used) / count)
        kinds = redis.memory_by_kind()
        for kind, what in (("user", "the user's record"), ("control", "its change in control, until trimmed"),
                           ("idem", "the change's key, for a minute"), ("queue", "the queue"),
                           ("conn", "its place in conn")):
            table.add(section, "  " + what, column, kinds[kind][0] / (count + 1))
        redis.close()


async def measure_log_memory(table, column, total=40000):
    section = "4. memory of Redis per event in a log [bytes]"
    async with cluster_of(column) as c:
        redis = Redis(c.redis.port)
        for size in (200, 1000):
            fed(c.redis.port, 10, FED * 10, size)  # the logs exist
            used = redis.used_memory()
            fed(c.redis.port, 10, total, size)
            table.add(section, f"of {size} bytes", column, (redis.used_memory() - used) / total)
            redis.ask("DEL", *(f"{{parley}}:log:community:{100 + i}" for i in range(10)))
        redis.close()


# ---- 5: takeover ----

class Asker:
    """HTTP requests over a kept connection to each node, timed."""

    def __init__(self, nodes):
        self.sockets = [connect(node.address) for node in nodes]

    def ms(self, node, request):
        """None: it was answered 503, to be asked again."""
        begun, data = time.perf_counter(), b""
        self.sockets[node].sendall(request)
        while not data.endswith(b"}"):
            data += self.sockets[node].recv(65536)
        assert data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")), data
        return (time.perf_counter() - begun) * 1000 if data.startswith(b"HTTP/1.1 200") else None

    def close(self):
        for sock in self.sockets:
            sock.close()


async def measure_poll_takeover(table, column, count=500):
    section = "5. a poll with timeout=0 [ms]"
    async with cluster_of(column) as c:
        queue, asker = c.nodes[0].register(7, [1, 2, 10]), Asker(c.nodes)
        request = poll_request(queue.queue_id, queue.position).replace(b"timeout=50", b"timeout=0")
        ways = {"at the node of the last": lambda i: 0}
        if len(c.nodes) > 1:
            ways["at another node than the last"] = lambda i: i % 2
        for what, node_of in ways.items():
            answers = [asker.ms(node_of(i), request) for i in range(count)][20:]
            values = [ms for ms in answers if ms is not None]
            table.add(section, f"{what}, answered 503 [of 100]", column, 100 * (1 - len(values) / len(answers)))
            for share in (50, 99):
                table.add(section, f"{what}, p{share}", column, percentile(values, share / 100))
            await asyncio.sleep(0.1)
        asker.close()


async def measure_connect(table, column, count=200):
    """One after the other, so that every wait shows."""
    section = "5. a WebSocket, one at a time, from connect to welcome [ms]"
    async with cluster_of(column) as c:
        new = [open_websocket(c.nodes[0].address, request) for request in websockets(count)]  # opens the communities
        sockets, seconds = open_all(c.nodes[0].address, websockets(count, first=50000), at_once=1)
        table.add(section, "a new queue", column, seconds / count * 1000)
        for sock, _, _ in new:
            sock.close()
        await asyncio.sleep(0.5)
        again, seconds = open_all(c.nodes[-1].address, resumes(new), at_once=1)
        where = "another" if len(c.nodes) > 1 else "its own"
        table.add(section, f"a queue resumed at {where} node", column, seconds / len(new) * 1000)
        for sock in [*sockets, *again]:
            sock.close()


def resumes(queues, first=1000):
    """The requests of websockets(…), each with its queue."""
    return [upgrade(first + i, [1, 2, 10 + i % 100], f"?queue_id={queue_id}&last_event_id={cursor}")
            for i, (_, queue_id, cursor) in enumerate(queues)]


async def measure_resume(table, column, count=2000):
    """On memory and with one node the WebSockets come back to their own node; with two theirs is killed first."""
    section = f"5. {count} WebSockets resumed, 100 at once, from the first connect to the last welcome"
    async with cluster_of(column) as c:
        node = c.nodes[0]
        queues = [open_websocket(node.address, request) for request in websockets(count)]
        await asyncio.sleep(1)
        requests = resumes(queues)
        if column == TWO:
            node.kill9()
        for sock, _, _ in queues:
            sock.close()
        await asyncio.sleep(0 if column == TWO else 0.5)
        target = c.nodes[-1]
        metrics = Metrics(target)
        processes = {"node": target.process, **({"redis": c.redis.process} if c.redis else {})}
        with Cpu(**processes) as cpu:
            sockets, seconds = open_all(target.address, requests)
        where = "another node, after kill -9" if column == TWO else "the same node"
        table.add(section, f"{where} [s]", column, seconds)
        table.add(section, f"{where}, CPU of parleyd [us/client]", column, cpu.used["node"] / count * 1e6)
        if c.redis:
            table.add(section, f"{where}, CPU of redis-server [us/client]", column, cpu.used["redis"] / count * 1e6)
        if column == TWO:
            claimed = metrics.get('realtime_bus_queues_total{what="claimed"}')
            table.add(section, f"{where}, claims per client", column, claimed / count)
            c.nodes.remove(node)
        metrics.close()
        for sock in sockets:
            sock.close()


# ---- idle ----

async def measure_idle(table, seconds):
    section = "6. with no client, CPU [ms/minute]"
    alone = await cluster.redis_process("alone").start()
    try:
        async with cluster_of(MEMORY) as m, cluster_of(ONE) as one, cluster_of(TWO) as two:
            await asyncio.sleep(2)
            with Cpu(m=m.nodes[0].process, one=one.nodes[0].process, two=two.nodes[0].process, r1=one.redis.process,
                     r2=two.redis.process, r0=alone.process) as cpu:
                await asyncio.sleep(seconds)
    finally:
        alone.close()
    for what, cells in (("a node", {MEMORY: "m", ONE: "one", TWO: "two"}), ("redis-server", {ONE: "r1", TWO: "r2"}),
                        ("redis-server without any node", {ONE: "r0"})):
        for column, name in cells.items():
            table.add(section, what, column, cpu.used[name] / seconds * 60000)


# ---- all of it ----

async def measure(table, parts, runs, seconds):
    for run in range(runs):
        print(f"run {run + 1} of {runs}", file=sys.stderr, flush=True)
        for column in COLUMNS:
            if "latency" in parts:
                await measure_latency(table, column)
            if "takeover" in parts:
                await measure_poll_takeover(table, column)
                await measure_connect(table, column)
                await measure_resume(table, column)
        if "intake" in parts:
            for channels in (1, 100):
                await measure_intake(table, ONE, channels)
        for column in (MEMORY, ONE):
            if "publish" in parts:
                await measure_publish(table, column, 1, 1000)
                await measure_publish(table, column, 50, 10000)
            if "memory" in parts:
                await measure_client_memory(table, column)
        if "memory" in parts:
            await measure_record_memory(table, ONE)
            await measure_log_memory(table, ONE)
    if "idle" in parts:
        print(f"idle: {seconds} s and a minute", file=sys.stderr, flush=True)
        await measure_idle(table, seconds)
        await measure_idle_queues(table, ONE, 60)


PARTS = ("latency", "intake", "publish", "memory", "takeover", "idle")


def main():
    if sys.argv[1:2] == ["--feed"]:
        return feed(*map(int, sys.argv[2:]))
    if sys.argv[1:2] == ["--publish"]:
        return publish(*map(int, sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="medians of so many (3)")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all if none is named")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    signal.alarm(1800)  # whatever hangs
    harness.raise_file_limit()
    table, begun, load = Table(), time.time(), os.getloadavg()
    asyncio.run(measure(table, args.parts or PARTS, args.runs, 30))
    about = {"begun": begun, "seconds": round(time.time() - begun), "runs": args.runs, "cpus": os.cpu_count(),
             "machine": platform.platform(), "load_before": load, "load_after": os.getloadavg()}
    table.save(about)
    print("\n".join(table.lines()))
    print(f"\nmedians (and range) of {args.runs} runs, {about['seconds']} s, {about['cpus']} CPUs, "
          f"load before {load[0]:.1f}, after {about['load_after'][0]:.1f}; {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
