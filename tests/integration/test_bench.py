"""The benchmarks' load generator: every shape of client gets what it should, and one that does not is noticed."""

import json
import os
import socket
import subprocess
import threading
import unittest

import harness

LOAD = os.environ.get("PL_LOAD") or os.path.join(os.path.dirname(harness.PARLEYD), "bench", "load")


def load(*args):
    """The exit status and the report of one run."""
    done = subprocess.run([LOAD, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def load_of(server, *args):
    return load(f"target={server.address[1]}", f"pid={server.process.pid}", f"secret={harness.SECRET}",
                f"api_key={harness.API_KEY}", "communities=3", "settle=0", *args)


SHAPES = {
    "paced": ["clients=50", "rate=100"],
    "window": ["clients=50", "window=8"],
    "unanswered": ["clients=50", "unanswered=8"],
    "msgpack": ["clients=50:msgpack", "window=8"],
    "deflate": ["clients=25:deflate", "clients=25:msgpack:deflate", "window=2", "bytes=800"],
    "polls": ["clients=25:poll", "clients=25:poll:msgpack", "window=2"],
    "by key": ["clients=25:key", "clients=25:poll:key", "window=2"],
    "channels": ["clients=50", "channels=10", "hit=3", "window=2"],
    "topics": ["clients=50", "topics=50", "hit=2", "window=2"],
    "batches": ["clients=50", "batch=10", "unanswered=1"],
    "slow": ["clients=45", "clients=5:slow", "rate=50"],
    "resume": ["clients=50", "rate=50", "away=20"],
}


class EveryShape(unittest.TestCase):
    def test_every_reader_gets_every_event_once(self):
        for name, args in SHAPES.items():
            with self.subTest(name), harness.Server(log__level="warn") as server:
                status, report = load_of(server, "events=40", "seconds=2", *args)
                self.assertEqual(status, 0, report)
                readers = {"channels": 5, "topics": 1, "slow": 45}.get(name, 50)
                self.assertEqual((report["events"], report["deliveries"]), (40, 40 * readers), report)
                self.assertGreater(report["cpu_s"], 0)
                if name == "deflate":
                    self.assertEqual(report["deflated"], report["messages"])


class Fake:
    """Speaks as much WebSocket as the load generator's dialect `ws` needs, and hands an event to its n-th subscriber
    so many times."""

    def __init__(self, times):
        self.times, self.subscribers = times, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        while True:
            try:
                head = sock.recv(65536)
            except OSError:
                return
            if not head:
                return
            if head.startswith(b"GET"):
                self.subscribers.append(sock)
                sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                continue
            body = head.split(b"\r\n\r\n", 1)[1]
            frame = bytes([0x81, 126]) + len(body).to_bytes(2, "big") + body
            for subscriber, times in zip(self.subscribers, self.times):
                subscriber.sendall(frame * times)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Faults(unittest.TestCase):
    def run_on(self, *times):
        fake = Fake(times)
        self.addCleanup(fake.listener.close)
        return load(f"target={fake.port}", "dialect=ws", f"clients={len(times)}", "unanswered=1", "publishers=1",
                    "events=10", "seconds=5", "settle=0", "give_up=0.5")

    def test_nothing_is_wrong_with_one_of_each(self):
        status, report = self.run_on(1, 1)
        self.assertEqual((status, report["deliveries"]), (0, 20))

    def test_what_is_missing_is_noticed(self):
        status, report = self.run_on(1, 0)
        self.assertEqual((status, report["missed"]), (3, 10))

    def test_what_came_twice_is_noticed(self):
        status, report = self.run_on(1, 2)
        self.assertEqual((status, report["extra"]), (3, 10))


if __name__ == "__main__":
    unittest.main()
