"""What every integration test stands on: the real parleyd, started on a free port and stopped by pid.

The contract with the binary: it prints one line `parleyd ready on http://ADDRESS:PORT` on stdout, and a
second, ` internal on http://ADDRESS:PORT`, when server.internal_listen is set; it leaves with 0 on SIGTERM.
"""

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.parse

import jwt
import msgpack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARLEYD = os.environ.get("PARLEYD") or os.path.join(ROOT, "build", "dev", "parleyd")
PARLEY = os.environ.get("PARLEY") or os.path.join(os.path.dirname(PARLEYD), "parley")
OUT = os.path.join(ROOT, "tests", "integration", "out")

SECRET = "integration-tests-secret-of-more-than-32-bytes"
API_KEY = "integration-tests-api-key"
JSON = "application/json"
MSGPACK = "application/msgpack"
MAX_INT = 2**53 - 1

READY = re.compile(rb"parleyd ready on http://(\[[^\]]+\]|[^:\s]+):(\d+)")
INTERNAL = re.compile(rb"internal on http://(\[[^\]]+\]|[^:\s]+):(\d+)")
SANITIZER = re.compile(rb"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:")


def sanitizer_env():
    """A small quarantine, so that resident memory says something under AddressSanitizer too."""
    asan = os.environ.get("ASAN_OPTIONS", "")
    ubsan = os.environ.get("UBSAN_OPTIONS", "")
    return {
        "ASAN_OPTIONS": ":".join(filter(None, ["quarantine_size_mb=1:malloc_context_size=12", asan])),
        "UBSAN_OPTIONS": ":".join(filter(None, ["print_stacktrace=1", ubsan])),
    }


def clean_env(extra=None):
    """The environment without PARLEY_* options of the caller, which would change the server under test."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PARLEY_")}
    env.update(sanitizer_env())
    env.update(extra or {})
    return env


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def until(probe, what, timeout=5.0, every=0.02):
    """Calls probe until it is true and returns what it returned; fails the test by name otherwise."""
    end = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what} (last: {value!r})")
        time.sleep(every)


def mint(user=7, communities=(42,), ttl=3600, key=SECRET, algorithm="HS256", headers=None, **claims):
    """A JWT for a user. A claim given as None is left out; communities=None leaves that claim out."""
    now = int(time.time())
    body = {"sub": str(user), "exp": now + ttl, "iat": now}
    if communities is not None:
        body["communities"] = list(communities)
    body.update(claims)
    body = {k: v for k, v in body.items() if v is not None}
    return jwt.encode(body, key, algorithm=algorithm, headers=headers)


def encode(value, codec=JSON):
    if isinstance(value, bytes):
        return value
    return msgpack.packb(value) if codec == MSGPACK else json.dumps(value).encode()


def decode(body, content_type):
    if (content_type or "").split(";")[0].strip() == MSGPACK:
        return msgpack.unpackb(body, strict_map_key=True)
    return json.loads(body)


class Answer:
    """An HTTP answer: status, headers (names compared without case), body, and the decoded value."""

    def __init__(self, status, headers, body, reason="", interim=()):
        self.status, self.body, self.reason = status, body, reason
        self.headers = http.client.HTTPMessage()
        for name, value in headers:
            self.headers[name] = value
        self.interim = list(interim)

    @property
    def value(self):
        return decode(self.body, self.headers.get("Content-Type"))

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:400]!r}>"


class RawConn:
    """A TCP connection on which a test writes whatever bytes it likes and reads HTTP answers."""

    def __init__(self, address, timeout=10):
        self.sock = socket.create_connection(address, timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout, self.buffer = timeout, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))
        return self

    def send_bytewise(self, data):
        for i in range(len(data)):
            self.sock.sendall(data[i : i + 1])
        return self

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def fill(self, timeout=None):
        """Reads once; False at end of stream."""
        self.sock.settimeout(timeout or self.timeout)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def take(self, n):
        while len(self.buffer) < n:
            if not self.fill():
                raise EOFError(f"closed with {len(self.buffer)} of {n} bytes: {self.buffer[:200]!r}")
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def take_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise EOFError(f"closed before an answer: {self.buffer[:200]!r}")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *reason = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers = [(k.strip(), v.strip()) for k, v in (line.split(":", 1) for line in lines)]
        return int(status), headers, reason[0] if reason else ""

    def response(self, to_head=False):
        """The next answer, with the 1xx that came before it. to_head: it answers a HEAD."""
        interim = []
        while True:
            status, headers, reason = self.take_head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        answer = Answer(status, headers, b"", reason, interim)
        if not (to_head or status in (101, 204, 304)):
            length = answer.headers.get("Content-Length")
            assert length is not None, f"no Content-Length: {answer}"
            answer.body = self.take(int(length))
        return answer

    def closed(self, timeout=3):
        """True if the peer closes (or has closed) without sending anything more."""
        with contextlib.suppress(socket.timeout):
            return not self.buffer and not self.fill(timeout)
        return False

    def silent(self, seconds=0.2):
        """True if nothing arrives and the connection stays open for that long."""
        try:
            self.fill(seconds)
        except socket.timeout:
            return not self.buffer
        return False


# Where PL_TEST_BUS names a Redis, every server that does not say otherwise is on it, under a prefix of its own: what
# holds on the embedded bus holds there.
TEST_BUS = os.environ.get("PL_TEST_BUS")


def embedded_only(why):
    """For what is true of the embedded bus alone: skipped where PL_TEST_BUS is set."""
    return unittest.skipIf(TEST_BUS, f"of the embedded bus only: {why}")


class Server:
    """One parleyd. Options are keywords with the dot written as two underscores: queue__ttl="2s"."""

    connection = http.client.HTTPConnection
    tls = None  # the ssl context of what stands before one, if it speaks TLS

    def __init__(self, args=(), env=None, key=True, **options):
        self.args, self.env = list(args), env
        if key:
            options = {"auth__jwt_key": SECRET, "auth__api_key": API_KEY, **options}
        bus = {"bus__url": TEST_BUS, "bus__prefix": f"test-{os.urandom(8).hex()}"} if TEST_BUS else {}
        self.options = {"server__listen": "127.0.0.1:0", "server__drain_time": "0s", **bus, **options}
        self.process = None
        self.stdout, self.stderr = b"", b""
        self.address = self.internal = None

    def command(self):
        command = [PARLEYD, *self.args]
        for name, value in self.options.items():
            if value is None:  # left to the file
                continue
            for item in value if isinstance(value, (list, tuple)) else [value]:
                command += ["--set", f"{name.replace('__', '.')}={item}"]
        return command

    def start(self):
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=clean_env(self.env))
        self._readers = [threading.Thread(target=self._read, args=(name,), daemon=True)
                         for name in ("stdout", "stderr")]
        for reader in self._readers:
            reader.start()
        try:
            until(self._ready, "the line `parleyd ready on http://…`", timeout=15)
            if self.on_redis():
                until(self._serves, "/readyz on the bus of PL_TEST_BUS", timeout=15)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\nstdout: {self.stdout!r}\nstderr: {self.stderr.decode(errors='replace')}")
        return self

    def _read(self, name):
        stream = getattr(self.process, name)
        for line in iter(stream.readline, b""):
            setattr(self, name, getattr(self, name) + line)

    def _ready(self):
        match = READY.search(self.stdout)
        internal = INTERNAL.search(self.stdout)
        if self.process.poll() is not None:
            raise AssertionError(f"parleyd left with {self.process.returncode} before it was ready")
        if not match or (self.options.get("server__internal_listen") and not internal):
            return False
        self.address = (match[1].decode().strip("[]"), int(match[2]))
        if internal:
            self.internal = (internal[1].decode().strip("[]"), int(internal[2]))
        return True

    def _serves(self):
        connection = http.client.HTTPConnection(*(self.internal or self.address), timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def kill(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self._wait()

    def _wait(self, timeout=15):
        try:
            self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for reader in self._readers:
                reader.join(5)
            self.process.stdout.close()
            self.process.stderr.close()

    def stop(self):
        """SIGTERM, then: it left with 0, soon, and no sanitizer had anything to say."""
        if self.process is None:
            return
        process, self_died = self.process, self.process.poll()
        if self_died is None:
            process.send_signal(signal.SIGTERM)
        try:
            self._wait()
        except subprocess.TimeoutExpired:
            raise AssertionError("parleyd did not leave within 15 s of SIGTERM")
        finally:
            self.process = None
        log = self.stderr.decode(errors="replace")[-6000:]
        assert self_died is None, f"parleyd had died with {self_died}:\n{log}"
        assert not SANITIZER.search(self.stderr), f"sanitizer report:\n{log}"
        assert process.returncode == 0, f"parleyd left with {process.returncode}:\n{log}"

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.kill()

    # What the process costs.

    def hup(self):
        self.process.send_signal(signal.SIGHUP)

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # Requests.

    @property
    def origin(self):
        host, port = self.address
        return f"http://{host}:{port}"

    def raw(self, data=None, internal=False):
        conn = RawConn(self.internal if internal else self.address)
        return conn.send(data) if data else conn

    def request(self, method, path, body=None, *, token=None, api=False, codec=JSON, headers=None,
                internal=False, within=15, **query):
        query = {k: v for k, v in query.items() if v is not None}
        if query:
            path += "?" + urllib.parse.urlencode(query)
        head = {"Accept": codec}
        if body is not None:
            head["Content-Type"] = codec
            body = encode(body, codec)
        if token:
            head["Authorization"] = "Bearer " + token
        if api:
            head["X-API-Key"] = API_KEY
        head.update(headers or {})
        conn = self.connection(*(self.internal if internal else self.address), timeout=within)
        try:
            conn.request(method, path, body, head)
            answer = conn.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read(), answer.reason)
        finally:
            conn.close()

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def on_redis(self):
        return TEST_BUS and self.options.get("bus__url") == TEST_BUS

    def settle(self):
        """On Redis what was published is answered before, or after, it is announced: returns when the server has heard
        all that was announced before this call."""
        if self.on_redis():
            import redis  # bench/ stands on this file too, without that package
            prefix = "{%s}:" % self.options["bus__prefix"]
            marker = redis.Redis.from_url(TEST_BUS).fcall("parley_marker", 2, prefix + "seq", prefix + "control")
            until(lambda: self.metric("realtime_last_event_id") >= int(marker), "what was announced to be heard", every=0.002)

    # The backend's side.

    def api(self, path, body, expect=200, **kw):
        """A backend's request; what it published has been heard by the server when this returns."""
        answer = self.post("/realtime/" + path, body, api=True, **kw)
        assert answer.status == expect, f"{path} {body!r:.300}: {answer}"
        if path == "publish":
            self.settle()
        return answer.value

    def register(self, user=7, communities=(42,), **fields):
        """Registers as the backend does and returns the client that polls the queue."""
        body = {"user_id": user, **fields}
        if communities is not None:
            body["community_ids"] = list(communities)
        return Poller(self, self.api("register", body))

    def register_token(self, token, expect=200):
        answer = self.post("/realtime/register", token=token)
        assert answer.status == expect, answer
        return Poller(self, answer.value) if expect == 200 else answer

    def publish(self, communities=(42,), type="new_comment", data=None, **fields):
        """Publishes one event and returns its id."""
        return self.api("publish", event(communities, type, data, **fields))["event_id"]

    def cursor(self):
        answer = self.get("/realtime/cursor", api=True)
        assert answer.status == 200, answer
        return answer.value["last_event_id"]

    def health(self):
        return self.get("/health").value

    def metric(self, series):
        """The number of one series, as realtime_pending_polls or realtime_x_total{reason="y"}."""
        for line in self.get("/metrics", internal=self.internal is not None).body.decode().splitlines():
            name, _, number = line.rpartition(" ")
            if name == series:
                return float(number)
        raise AssertionError(f"no series {series}")

    def wait_pending(self, n, timeout=5):
        until(lambda: self.health()["pending_polls"] == n, f"{n} pending polls", timeout)

    def hold(self, path, headers=""):
        """Sends a GET that will be held and returns its connection."""
        before = self.health()["pending_polls"]
        conn = self.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
        until(lambda: self.health()["pending_polls"] > before or conn.buffer, "the poll to be held")
        return conn


def event(communities=(42,), type="new_comment", data=None, **fields):
    out = {"type": type, "data": {"article_id": 789, "text": "hello"} if data is None else data}
    if communities is not None:
        out["community_ids"] = list(communities)
    out.update(fields)
    return out


class Poller:
    """A long-polling client: a queue_id and the position it acknowledges with its next poll."""

    def __init__(self, server, registered):
        self.server, self.registered = server, registered
        self.queue_id = registered["queue_id"]
        self.position = registered["last_event_id"]

    def path(self, timeout=None, **query):
        query = {"queue_id": self.queue_id, "last_event_id": self.position, "timeout": timeout, **query}
        return "/realtime/poll?" + urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})

    def ask(self, timeout=0, codec=JSON, token=None, **query):
        """One poll, whatever it answers; the position stays."""
        if timeout == 0:
            self.server.settle()
        return self.server.get(self.path(timeout, **query), codec=codec, token=token)

    def poll(self, timeout=0, **kw):
        """One poll that must answer 200; moves the position."""
        answer = self.ask(timeout, **kw)
        assert answer.status == 200, answer
        value = answer.value
        self.position = value["last_event_id"]
        return value

    def drain(self, wait=0):
        """The events up to now. wait: seconds the first one may take. Fails on catchup_required."""
        events, value = [], self.poll(wait)
        while True:
            assert "catchup_required" not in value, value
            events += value["events"]
            if not value["events"]:
                return events
            value = self.poll(0)

    def ids(self, wait=0):
        return [e["event_id"] for e in self.drain(wait)]

    def hold(self, timeout=30, **query):
        """A poll that waits; .response() on what is returned reads its answer."""
        return self.server.hold(self.path(timeout, **query))

    def send(self, messages, expect=200, **kw):
        answer = self.server.post(f"/realtime/send?queue_id={self.queue_id}", messages, **kw)
        assert answer.status == expect, answer
        return answer.value["replies"] if expect == 200 else answer


class TestCase(unittest.TestCase):
    """Adds what the protocol page promises about every error body."""

    maxDiff = 4000

    def assert_error(self, answer, status, code=None):
        statuses = status if isinstance(status, (tuple, list, set)) else (status,)
        self.assertIn(answer.status, statuses, answer)
        value = answer.value
        self.assertIsInstance(value.get("code"), str, answer)
        self.assertGreater(len(value.get("message", "")), 0, answer)
        if code is not None:
            self.assertIn(value["code"], (code,) if isinstance(code, str) else code, answer)
        if answer.status in (429, 503):
            self.assertRegex(answer.headers.get("Retry-After", ""), r"^\d+$", answer)
        return value

    def assert_catchup(self, value, reasons, communities=None):
        self.assertIs(value.get("catchup_required"), True, value)
        self.assertIn(value["reason"], (reasons,) if isinstance(reasons, str) else reasons, value)
        self.assertIsInstance(value["last_event_id"], int)
        if communities is not None and "communities" in value:
            self.assertEqual(sorted(value["communities"]), sorted(communities))

    def assert_growing(self, ids):
        self.assertEqual(sorted(set(ids)), list(ids), "ids must strictly grow")


class ServerCase(TestCase):
    """A test class with one server of its own; options in the class attribute."""

    options = {}
    args = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(args=cls.args, **cls.options).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.assertIsNone(self.server.process.poll(), "parleyd died in an earlier test:\n"
                          + self.server.stderr.decode(errors="replace")[-4000:])


class Proxy:
    """Relays TCP to a server, so that a test can cut what is open and refuse what comes, as networks do."""

    def __init__(self, address):
        self.target, self.refusing = address, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.origin = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.pairs, self.threads = [], []
        self._thread(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self.threads:
            thread.join(5)
        self.listener.close()

    def _thread(self, target, *args):
        self.threads.append(threading.Thread(target=target, args=args, daemon=True))
        self.threads[-1].start()

    def cut(self):
        """Every open connection ends, in the middle of whatever it was doing."""
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.refusing:
                    client.close()
                    continue
                pair = (client, socket.create_connection(self.target))
                self.pairs.append(pair)
                self._thread(self._relay, *pair)

    def _relay(self, client, server):
        back = threading.Thread(target=self._copy, args=(server, client))
        back.start()
        self._copy(client, server)
        back.join()
        client.close()
        server.close()

    @staticmethod
    def _copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


_users = iter(range(100_000, 10**9))


def new_user():
    """A user id no other test of this process has used: records of users outlive queues."""
    return next(_users)


def new_community():
    return next(_users)


def main():
    raise_file_limit()
    unittest.main(verbosity=2)
