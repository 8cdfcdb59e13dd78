"""The servers that are measured: started on free loopback ports, each by what it needs, and stopped by pid."""

import contextlib
import ctypes
import glob
import http.client
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(ROOT, "bench", "peers")
SECRET = "a secret of the benchmarks, longer than 32 bytes"
API_KEY = "an-api-key-of-the-benchmarks"
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]
_libc = ctypes.CDLL(None)


def on_cpu(cpu):
    """What a child does before exec: it dies with us, may open files, and stays on that CPU."""
    def prepare():
        _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.sched_setaffinity(0, {cpu})
    return prepare


def free_port():
    """Below the ports that outgoing connections are given."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(probe, what, seconds=20):
    end = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def family(pid):
    """The process and its children."""
    pids = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(path) as f:
            for child in f.read().split():
                pids += family(int(child))
    return pids


class Server:
    """One or more processes on ports of their own; what they write is kept for when one fails."""

    dialect = "ws"

    def __init__(self, tools, deflate=False, nodes=1, **options):
        self.tools, self.deflate, self.nodes, self.options = tools, deflate, nodes, options
        self.dir = tempfile.mkdtemp(prefix="parley-bench-")
        self.processes, self.ports, self.helpers, self.load = [], [], [], []

    def command(self, port):
        raise NotImplementedError

    def ready(self, port):
        return accepts(port)

    def spawn(self, command, cpu, cwd=None):
        log = open(os.path.join(self.dir, f"log{len(self.processes)}"), "wb")
        with log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
                                    preexec_fn=on_cpu(cpu))

    def start(self):
        try:
            for _ in range(self.nodes):
                port = free_port()
                self.processes.append(self.spawn(self.command(port), SERVER_CPU))
                until(lambda: self.processes[-1].poll() is not None or self.ready(port), f"{type(self).__name__} listens")
                if self.processes[-1].poll() is not None:
                    raise RuntimeError(f"{self.processes[-1].args} left:\n{self.logs()}")
                self.ports.append(port)
        except BaseException:
            self.stop()
            raise
        return self

    def logs(self):
        out = ""
        for path in sorted(glob.glob(os.path.join(self.dir, "log*"))) + glob.glob(os.path.join(self.dir, "error.log")):
            with open(path, errors="replace") as f:
                out += f.read()[-3000:]
        return out

    def pids(self):
        return [pid for process in self.processes for pid in family(process.pid)]

    def arguments(self):
        """What the load generator must know of it."""
        return [f"dialect={self.dialect}", *(f"target={port}" for port in self.ports),
                *(f"pid={pid}" for pid in self.pids()), *(f"helper={h.pid}" for h in self.helpers), *self.load]

    def stop(self):
        for process in self.processes + self.helpers:
            process.terminate()
        for process in self.processes + self.helpers:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Parley(Server):
    """Options are those of parleyd; redis=True puts the nodes on a Redis of their own, on the load's CPU."""

    dialect = "parley"

    def __init__(self, tools, redis=False, options=(), **rest):
        super().__init__(tools, **rest)
        self.set = {"auth.jwt_key": SECRET, "auth.api_key": API_KEY, "log.level": "warn",
                    "limits.queues_per_user": 0, "limits.accept_rate": 0, "limits.handshakes_per_ip": 0, **dict(options)}
        self.load = [f"secret={SECRET}", f"api_key={API_KEY}"]
        self.redis_port = free_port() if redis else None

    def start(self):
        if self.redis_port:
            self.helpers.append(self.spawn(
                ["redis-server", os.path.join(ROOT, "conf", "redis.conf"), "--port", str(self.redis_port),
                 "--bind", "127.0.0.1", "--dir", self.dir, "--logfile", os.path.join(self.dir, "redis.log")], LOAD_CPU))
            until(lambda: accepts(self.redis_port), "Redis listens")
            self.set["bus.url"] = f"redis://127.0.0.1:{self.redis_port}"
        return super().start()

    def command(self, port):
        command = [self.tools["parleyd"], "--set", f"server.listen=127.0.0.1:{port}"]
        for name, value in self.set.items():
            command += ["--set", f"{name}={value}"]
        return command

    def ready(self, port):
        return is_ready(port)


class Nchan(Server):
    dialect = "nchan"

    def command(self, port):
        with open(os.path.join(PEERS, "nchan.conf")) as f:
            conf = f.read()
        words = {"MODULES": os.environ.get("NGINX_MODULES", "/usr/lib/nginx/modules"), "DIR": self.dir, "PORT": str(port),
                 "DEFLATE": "nchan_deflate_message_for_websocket on;" if self.deflate else ""}
        for word, text in words.items():
            conf = conf.replace(f"%{word}%", text)
        path = os.path.join(self.dir, "nginx.conf")
        with open(path, "w") as f:
            f.write(conf)
        return ["nginx", "-p", self.dir, "-c", path]


class Node(Server):
    script = None

    def command(self, port):
        return ["node", os.path.join(PEERS, self.script), str(port)] + (["deflate"] if self.deflate else [])


class SocketIo(Node):
    dialect, script = "socketio", "socketio.js"


class Ws(Node):
    script = "ws.js"


class Tornado(Server):
    dialect = "parley"

    def __init__(self, *args, **rest):
        super().__init__(*args, **rest)
        self.load = ["api_key=none"]

    def command(self, port):
        return ["/usr/bin/python3", os.path.join(PEERS, "tornado_server.py"), str(port)]


class Bare(Server):
    def command(self, port):
        return [self.tools["bare"], str(port)]


KINDS = {"parley": Parley, "nchan": Nchan, "socketio": SocketIo, "ws": Ws, "tornado": Tornado, "bare": Bare}
