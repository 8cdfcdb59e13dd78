"""The fenced blocks of the pages, so that what they show is what is tested; and children that die with the test."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import redis

from harness import ROOT, until

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
_libc = ctypes.CDLL(None)


def block(page, first):
    """The one block of docs/<page> whose first line begins with this."""
    with open(os.path.join(ROOT, "docs", page)) as f:
        found = [text for text in FENCE.findall(f.read()) if text.startswith(first)]
    assert len(found) == 1, f"{page}: {len(found)} blocks begin with {first!r}"
    return found[0]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Child:
    """A process with a directory of its own; what it prints goes to `log` there."""

    def __init__(self, command=None, directory=None, env=None):
        self.dir = directory or tempfile.mkdtemp(prefix="parley-test-")
        self.command, self.env, self.process = command, env, None

    def start(self, ready, what, timeout=15):
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, preexec_fn=_die_with_parent)
        try:
            until(lambda: self._alive() and ready(), what, timeout)
        except AssertionError as error:
            log = self.log()
            self.stop()
            raise AssertionError(f"{error}\n{log}") from None
        return self

    def _alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.command[0]} left with {self.process.returncode}")
        return True

    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()[-6000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def listens(port):
    def probe():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    return probe


class Redis(Child):
    """A redis-server of a test's own: by a copy of conf/redis.conf (a failover rewrites it), on a free port."""

    def __init__(self, *args):
        super().__init__()
        self.port = free_port()
        conf = shutil.copy(os.path.join(ROOT, "conf", "redis.conf"), self.dir)
        self.command = ["redis-server", conf, "--port", str(self.port), "--dir", self.dir, *map(str, args)]
        self.url = f"redis://127.0.0.1:{self.port}"

    def begin(self):
        return self.start(self.is_up, "redis-server")

    def is_up(self):
        with contextlib.suppress(redis.ConnectionError):  # also: loading
            return self.connect().ping()

    def connect(self, url=None):
        return redis.Redis.from_url(url or self.url, decode_responses=True, socket_timeout=5)

    def url_of(self, user, password):
        return f"redis://{user}:{password}@127.0.0.1:{self.port}"

    def kill(self):
        self.process.kill()
        self.process.wait()
