"""Redis, its replica and sentinels, and nodes of parleyd: started on free loopback ports, and hurt.

Everything started here dies with the process that started it. Whoever starts a cluster does so from the main
thread (the kernel sends that signal when the starting thread ends).
"""

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import aio
import harness

LOOPBACK = "127.0.0.1"
MASTER = "parley"
_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port():
    """Below the ports that outgoing connections are given, so that it is still free after a restart."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


async def wait_for(probe, what, timeout):
    """Awaits probe() until it is true and returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = await probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        await asyncio.sleep(0.05)


class Process:
    """A child with a directory of its own, killed, stopped, resumed and started again on the same port."""

    def __init__(self, name, binary, config):
        self.name, self.binary = name, binary
        self.port, self.process = free_port(), None
        self.dir = tempfile.mkdtemp(prefix=f"parley-{name}-")
        self.log = os.path.join(self.dir, "log")

        self.conf = os.path.join(self.dir, "conf")
        with open(self.conf, "w") as f:
            f.write(f"port {self.port}\nbind {LOOPBACK}\ndir {self.dir}\nlogfile {self.log}\n" + config)

    def configure(self, line):
        """Another line for the next start, in place of those that begin with the same word (Sentinel has
        the file rewritten)."""
        with open(self.conf) as f:
            lines = [old for old in f if old.split(" ")[0] != line.split(" ")[0]]
        with open(self.conf, "w") as f:
            f.write("".join(lines) + line + "\n")

    def spawn(self):
        self.process = subprocess.Popen([self.binary, self.conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent)

    async def start(self):
        self.spawn()
        await wait_for(self.answers, f"{self.name} answers PING", 10)
        return self

    async def answers(self):
        if self.process.poll() is not None:
            with contextlib.suppress(OSError), open(self.log) as f:
                raise AssertionError(f"{self.name} left: {f.read()[-1500:]}")
            raise AssertionError(f"{self.name} left with {self.process.returncode}")
        with contextlib.suppress(aio.Lost, RuntimeError):
            return await self.command("PING", timeout=0.5) == "PONG"

    async def command(self, *args, timeout=3):
        return await aio.redis_command(self.port, *args, timeout=timeout)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def redis_process(name="redis", config=""):
    return Process(name, "redis-server", "save \"\"\nappendonly yes\nappendfsync everysec\n"
                   "repl-diskless-sync-delay 0\nrepl-timeout 5\n" + config)


def sentinel_process(n, primary):
    return Process(f"sentinel{n}", "redis-sentinel",
                   f"sentinel monitor {MASTER} {LOOPBACK} {primary} 2\nsentinel down-after-milliseconds {MASTER} 1000\n"
                   f"sentinel failover-timeout {MASTER} 5000\nsentinel parallel-syncs {MASTER} 1\n")


class _Half(asyncio.Protocol):
    """One direction of a relayed connection."""

    def __init__(self, wire, other=None):
        self.wire, self.other, self.transport = wire, other, None

    def connection_made(self, transport):
        self.transport = transport
        self.wire.halves.add(self)
        if self.other is None:
            asyncio.ensure_future(self._reach())
        else:
            self.other.other = self
        asyncio.get_running_loop().call_soon(self._settle)  # reading begins only after this call

    def _settle(self):
        if (self.wire.stalled or self.other is None) and not self.transport.is_closing():
            self.transport.pause_reading()

    async def _reach(self):
        try:
            await self.wire.flowing.wait()
            _, other = await asyncio.get_running_loop().create_connection(
                lambda: _Half(self.wire, self), LOOPBACK, self.wire.target)
            if self.transport.is_closing():
                other.transport.abort()
            elif not self.wire.stalled:
                self.transport.resume_reading()
        except OSError:
            self.transport.abort()

    def data_received(self, data):
        self.other.transport.write(data)

    def connection_lost(self, _):
        self.wire.halves.discard(self)
        if self.other:
            self.other.transport.close()


class Wire:
    """What lies between one node and Redis: a relay that can be cut, be stalled, and refuse."""

    def __init__(self, target):
        self.target, self.halves, self.server = target, set(), None
        self.refusing = self.stalled = False
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def start(self):
        self.server = await asyncio.get_running_loop().create_server(self._accept, LOOPBACK, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def _accept(self):
        return _Refusal() if self.refusing else _Half(self)

    def cut(self):
        for half in list(self.halves):
            half.transport.abort()

    def stall(self):
        """Nothing passes in either direction; connections stay, new ones are accepted."""
        self.stalled = True
        self.flowing.clear()
        for half in self.halves:
            half.transport.pause_reading()

    def flow(self):
        self.stalled = False
        self.flowing.set()
        for half in self.halves:
            if half.other:
                half.transport.resume_reading()

    def close(self):
        self.server.close()
        self.cut()


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport):
        transport.abort()


class Node(harness.Server):
    """One parleyd of a cluster; it keeps its port over restarts."""

    def __init__(self, name, wire=None, **options):
        super().__init__(server__node=name, **{"server__listen": f"{LOOPBACK}:{free_port()}", **options})
        self.name, self.wire, self.past = name, wire, b""
        self.pauses = []  # [begin, end] of each SIGSTOP

    def spawn(self):
        self.past += self.stderr
        self.stdout, self.stderr = b"", b""
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=harness.clean_env(self.env),
                                        preexec_fn=_die_with_parent)
        self._readers = [harness.threading.Thread(target=self._read, args=(name,), daemon=True)
                         for name in ("stdout", "stderr")]
        for reader in self._readers:
            reader.start()

    async def start(self, ready=20):
        """ready: how long it may take until /readyz says 200; 0: it only has to listen."""
        self.spawn()

        async def listening():
            assert self.process.poll() is None, f"{self.name} left: {self.stderr.decode(errors='replace')[-3000:]}"
            return self._ready()

        await wait_for(listening, f"{self.name} listens", 20)
        if ready:
            await wait_for(self.ready, f"{self.name} is ready", ready)
        return self

    async def ready(self):
        assert self.process.poll() is None, f"{self.name} left: {self.stderr.decode(errors='replace')[-3000:]}"
        http = aio.Http()
        try:
            with contextlib.suppress(aio.Lost):
                return (await http.request(self.address, "GET", "/readyz", timeout=2)).status == 200
        finally:
            http.close()

    def kill9(self):
        self.process.kill()
        self._wait()

    async def stop(self):
        """SIGTERM: it leaves with 0 and no sanitizer said anything, in this life or an earlier one."""
        await asyncio.to_thread(super().stop)
        past = self.past + self.stderr
        assert not harness.SANITIZER.search(past), past.decode(errors="replace")[-6000:]

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.pauses.append([time.monotonic(), float("inf")])

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.pauses[-1][1] = time.monotonic()

    def was_paused(self, since, until):
        return any(begin < until and end > since for begin, end in self.pauses)


class Cluster:
    """bus: "memory" (one node), "redis", or "sentinel" (primary, replica, three sentinels).

    wires: a relay of its own between each node and Redis. options: as harness.Server takes them."""

    def __init__(self, nodes=3, bus="redis", wires=False, **options):
        self.bus, self.count, self.wired, self.options = bus, nodes, wires, options
        self.nodes, self.sentinels, self.redis, self.replica = [], [], None, None

    async def __aenter__(self):
        try:
            if self.bus != "memory":
                self.redis = await redis_process().start()
            if self.bus == "sentinel":
                await self._sentinels()
            for n in range(self.count):
                wire = await Wire(self.redis.port).start() if self.wired else None
                self.nodes.append(Node(f"node{n}", wire, **self.options, **self._url(wire)))
            await asyncio.gather(*(node.start() for node in self.nodes))
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(self, kind, *_):
        try:
            if kind is None:
                for node in self.nodes:
                    await node.stop()
        finally:
            self._kill()

    def _kill(self):
        for node in self.nodes:
            node.kill()
            if node.wire:
                node.wire.close()
        for process in [*self.sentinels, self.redis, self.replica]:
            if process:
                process.close()

    def _url(self, wire):
        if self.bus == "memory":
            return {}
        if self.bus == "sentinel":
            hosts = ",".join(f"{LOOPBACK}:{s.port}" for s in self.sentinels)
            return {"bus__url": f"redis+sentinel://{hosts}/{MASTER}/0"}
        return {"bus__url": f"redis://{LOOPBACK}:{wire.port if wire else self.redis.port}/0"}

    async def _sentinels(self):
        self.replica = await redis_process("replica", f"replicaof {LOOPBACK} {self.redis.port}\n").start()
        await wait_for(self._replicated, "the replica is in step", 15)
        self.sentinels = [sentinel_process(n, self.redis.port) for n in range(3)]
        for sentinel in self.sentinels:
            await sentinel.start()
        await wait_for(self._agreed, "the sentinels know each other and the replica", 20)

    async def _replicated(self):
        info = await self.redis.command("INFO", "replication")
        return "state=online" in info

    async def _agreed(self):
        for sentinel in self.sentinels:
            fields = await sentinel.command("SENTINEL", "MASTER", MASTER)
            state = dict(zip(fields[::2], fields[1::2]))
            if state["num-other-sentinels"] != "2" or state["num-slaves"] != "1" or state["flags"] != "master":
                return False
        return True

    async def primary_port(self):
        for sentinel in self.sentinels:
            with contextlib.suppress(aio.Lost, RuntimeError, TypeError):
                return int((await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER))[1])
        return 0

    async def failover(self):
        """kill -9 of the primary; returns when the sentinels name the other. `redis` is then that one."""
        self.redis.kill()

        async def switched():
            return await self.primary_port() == self.replica.port

        await wait_for(switched, "the sentinels name the replica", 30)
        self.redis, self.replica = self.replica, self.redis

    async def in_step(self):
        """Writes wait (at most two seconds) and the replica has everything that was answered."""
        await self.redis.command("CLIENT", "PAUSE", 2000, "WRITE")

        async def equal():
            return (await self.redis.command("ROLE"))[1] == (await self.replica.command("ROLE"))[4]

        await wait_for(equal, "the replica is in step", 2)

    async def rejoin(self):
        """The old primary comes back as a replica; returns when it is in step and the sentinels know it."""
        self.replica.configure(f"replicaof {LOOPBACK} {self.redis.port}")
        await self.replica.start()
        await wait_for(self._replicated, "the replica is in step", 15)
        await wait_for(self._agreed, "the sentinels know the replica", 30)

    async def part_replica(self):
        """From now on the replica hears nothing of its primary. Sentinel would mend that after some seconds."""
        await self.replica.command("REPLICAOF", LOOPBACK, free_port())

    async def all_ready(self, timeout=30):
        await asyncio.gather(*(wait_for(node.ready, f"{node.name} is ready", timeout) for node in self.nodes))
