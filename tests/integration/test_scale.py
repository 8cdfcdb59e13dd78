"""One process, many clients: what an idle one costs, and that those who are not concerned cost nothing.

Runs against a release build (env PARLEYD_RELEASE); memory under a sanitizer says nothing. The server and this
process may each open 20 000 files where this is run in CI, so it holds as many clients as that allows: 15 000
WebSockets and 4 900 polls.
"""

import os
import selectors
import socket
import time
import unittest

import harness

RELEASE = os.environ.get("PARLEYD_RELEASE")
WEBSOCKETS = 15000
POLLS = 4900
BUDGET = 4096

UPGRADE = (
    "GET /realtime/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    "Sec-WebSocket-Protocol: parley.v1.json, bearer.%s\r\n\r\n"
)


class ReleaseServer(harness.Server):
    def command(self):
        return [RELEASE, *super().command()[1:]]


@unittest.skipUnless(RELEASE and os.path.exists(RELEASE), "PARLEYD_RELEASE names no binary")
class Scale(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        harness.raise_file_limit()
        cls.server = ReleaseServer(log__level="warn", limits__accept_rate=0, limits__handshakes_per_ip=0).start()
        cls.sockets = []

    @classmethod
    def tearDownClass(cls):
        for s in cls.sockets:
            s.close()
        cls.server.stop()

    def open_websocket(self, user):
        """An upgrade with the token in the subprotocol list, read up to the welcome."""
        s = socket.create_connection(self.server.address)
        s.sendall((UPGRADE % harness.mint(user, [1, 2, 10 + user % 100])).encode())
        data = b""
        while b'"welcome"' not in data or not data.endswith(b"}"):
            more = s.recv(4096)
            self.assertTrue(more, f"closed after {data!r}")
            data += more
        self.assertIn(b"permessage-deflate", data)
        self.sockets.append(s)
        return s

    def open_poll(self, user):
        queue = self.server.register_token(harness.mint(user, [1, 2, 10 + user % 100])).registered
        s = socket.create_connection(self.server.address)
        s.sendall(
            (
                "GET /realtime/poll?queue_id=%s&last_event_id=%d HTTP/1.1\r\nHost: x\r\nOrigin: https://example.org\r\n"
                "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130\r\n"
                "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n" % (queue["queue_id"], queue["last_event_id"])
            ).encode()
        )
        self.sockets.append(s)
        return s

    def wait_readable(self, sockets, timeout=10):
        """How many of these have something to read, within the time."""
        selector = selectors.EpollSelector()
        for s in sockets:
            selector.register(s, selectors.EVENT_READ)
        ready = set()
        end = time.monotonic() + timeout
        while len(ready) < len(sockets) and time.monotonic() < end:
            for key, _ in selector.select(0.2):
                ready.add(key.fileobj)
                selector.unregister(key.fileobj)
        selector.close()
        return len(ready)

    def test_idle_clients_are_small_and_all_of_them_are_reached(self):
        server = self.server
        self.open_websocket(1)
        before = server.rss_kib()
        websockets = [self.open_websocket(2 + i) for i in range(WEBSOCKETS)]
        per_websocket = (server.rss_kib() - before) * 1024 / WEBSOCKETS
        before = server.rss_kib()
        polls = [self.open_poll(100000 + i) for i in range(POLLS)]
        server.wait_pending(POLLS)
        per_poll = (server.rss_kib() - before) * 1024 / POLLS
        print(f"\n{per_websocket:.0f} bytes a WebSocket client, {per_poll:.0f} bytes a held poll", flush=True)

        # For nobody: costs the same whoever else is connected.
        start = server.cpu_seconds()
        for _ in range(200):
            server.publish([999999])
        nobody = (server.cpu_seconds() - start) / 200
        # For everybody.
        start = server.cpu_seconds()
        server.publish([1])
        reached = self.wait_readable(websockets + polls)
        everybody = server.cpu_seconds() - start
        print(f"{nobody * 1e6:.0f} us an event for nobody, {everybody * 1e3:.0f} ms one for {reached}", flush=True)

        self.assertEqual(reached, WEBSOCKETS + POLLS)
        self.assertLess(nobody, everybody / 20)
        self.assertLess(per_websocket, BUDGET)
        self.assertLess(per_poll, BUDGET)


if __name__ == "__main__":
    unittest.main()
