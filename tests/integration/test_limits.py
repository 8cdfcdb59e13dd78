"""Every limit of limits.*: what is beyond it is refused with the right status, what is within it is not disturbed."""

import contextlib
import itertools
import os
import socket
import tempfile
import time

from harness import embedded_only, ServerCase, event, main, mint, new_community, new_user, until
from wsclient import CONT, TEXT, Closed, RawWs, Ws, upgrade


class LimitCase(ServerCase):
    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()

    def register(self, **fields):
        return self.server.register(self.user, [self.community], **fields)

    def open(self, **claims):
        ws = Ws(self.server, token=mint(self.user, [self.community], **claims))
        self.addCleanup(ws.close)
        ws.welcome = ws.expect("welcome")
        return ws

    def publishes(self, ws, errors=None):
        """Publishes by a client: True if that was taken."""
        reply = ws.call("publish", type="x", data={"community_id": self.community})
        if errors is not None and "error" in reply:
            errors.append(reply["error"])
        return "result" in reply

    def refused(self, limit):
        return self.server.metric(f'realtime_refused_total{{limit="{limit}"}}')

    def limited(self, what):
        return self.server.metric(f'realtime_rate_limited_total{{what="{what}"}}')

    def is_taken(self, answer, good=200, refusal=(429, "rate_limited")):
        if answer.status != good:
            self.assert_error(answer, *refusal)
        return answer.status == good

    def attempts(self, attempt, rate, burst, refusals=10):
        """Attempts until so many are refused, however slow they are. attempt: True if it was taken."""
        taken, begun = [], time.monotonic()
        while taken.count(False) < refusals:
            taken.append(attempt())
            self.assertLess(len(taken), 1000, "nothing is refused")
        self.assert_rate(taken, begun, rate, burst)

    def assert_rate(self, taken, begun, rate, burst):
        """The whole burst was taken, and besides what the time since then allowed at most."""
        self.assertTrue(all(taken[:burst]), taken)
        self.assertLessEqual(sum(taken), burst + rate * (time.monotonic() - begun) + 1)


class ConnectionCase(LimitCase):
    """Five connections may be open: fills them, tries a sixth, and makes room again."""

    def fill(self):
        conns = []
        for _ in range(5):
            conn = self.server.raw("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(conn.response().status, 200)
            conns.append(conn)
        return conns

    def attempt(self, data="GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"):
        """The status of one more connection's answer; None if it was just closed."""
        with self.server.raw() as conn:
            try:
                conn.send(data)
                answer = conn.response()
            except (EOFError, OSError):
                return None
        if answer.status == 503:
            self.assert_error(answer, 503, "overloaded")
        return answer.status

    def assert_counted(self, limit):
        until(lambda: self.attempt("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") == 200, "room to ask")
        self.assertGreater(self.refused(limit), 0)


class Connections(ConnectionCase):
    options = {"limits__connections": "5"}

    def test_one_more_is_refused_and_the_others_are_not_disturbed(self):
        until(lambda: self.attempt() == 200, "room")
        conns = self.fill()
        self.assertIn(self.attempt(), (503, None))
        for conn in conns:
            self.assertEqual(conn.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").response().status, 200)
        for conn in conns:
            conn.close()
        self.assert_counted("connections")

    def test_an_upgrade_beyond_the_limit_is_503(self):
        until(lambda: self.attempt() == 200, "room")
        conns = self.fill()
        try:
            answer, conn = upgrade(self.server, [f"Authorization: Bearer {mint()}"])
            conn.close()
            self.assert_error(answer, 503, "overloaded")
        except EOFError:
            pass
        for conn in conns:
            conn.close()

    def test_websockets_count_and_give_their_place_back(self):
        for _ in range(3):
            until(lambda: self.attempt() == 200, "room")
            sockets = [Ws(self.server, token=mint(new_user())) for _ in range(5)]
            for ws in sockets:
                ws.expect("welcome")
            self.assertIn(self.attempt(), (503, None))
            for ws in sockets:
                ws.close()


class ConnectionsPerIp(ConnectionCase):
    options = {"limits__connections_per_ip": "5"}

    def test_one_more_is_refused_until_another_goes(self):
        until(lambda: self.attempt() == 200, "room")
        conns = self.fill()
        self.assertIn(self.attempt(), (503, 429, None))
        conns.pop().close()
        until(lambda: self.attempt() == 200, "room again")
        for conn in conns:
            conn.close()
        self.assert_counted("connections_per_ip")


class HandshakesPerIp(LimitCase):
    """Behind a trusted proxy each client has an address of its own; a burst of 30 is allowed before."""

    options = {"limits__handshakes_per_ip": "3", "server__trusted_proxies": "127.0.0.1"}

    def upgrade(self, client):
        answer, conn = upgrade(self.server, [f"Authorization: Bearer {mint(new_user())}", f"X-Forwarded-For: {client}"])
        conn.close()
        return answer

    def test_upgrades(self):
        def attempt():
            return self.is_taken(self.upgrade("203.0.113.1"), 101, (503, "overloaded"))

        before = self.limited("handshakes")
        self.attempts(attempt, 3, 30)
        self.assertEqual(self.limited("handshakes") - before, 10)
        self.assertEqual(self.upgrade("203.0.113.2").status, 101)
        until(lambda: self.upgrade("203.0.113.1").status == 101, "another one", every=0.2)

    def test_registrations(self):
        def attempt(client="203.0.113.3"):
            return self.is_taken(self.server.post("/realtime/register", token=mint(new_user()),
                                                  headers={"X-Forwarded-For": client}))

        self.attempts(attempt, 3, 30)
        self.assertTrue(attempt("203.0.113.4"))

    def test_bad_tokens_count_and_a_backend_does_not(self):
        statuses = [self.server.post("/realtime/register", token="x.y.z", headers={"X-Forwarded-For": "203.0.113.5"}).status
                    for _ in range(45)]
        self.assertIn(401, statuses)
        self.assertIn(429, statuses[30:])
        for _ in range(45):
            self.server.api("register", {"user_id": new_user(), "community_ids": [1]},
                            headers={"X-Forwarded-For": "203.0.113.5"})

    def test_what_a_client_has_already_is_served(self):
        client = self.register()
        forwarded = {"X-Forwarded-For": "203.0.113.6"}
        until(lambda: self.upgrade("203.0.113.6").status == 503, "a refusal", every=0)
        event_id = self.server.publish([self.community])
        answer = self.server.get(client.path(timeout=1), headers=forwarded)
        self.assertEqual([e["event_id"] for e in answer.value["events"]], [event_id])


class AcceptRate(LimitCase):
    options = {"limits__accept_rate": "60"}

    def connect(self, source):
        """The status of a request on a connection of its own from there; None if it was just closed."""
        try:
            with socket.create_connection(self.server.address, timeout=5, source_address=(source, 0)) as sock:
                sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                return int(sock.recv(4096).split(b" ")[1])
        except (OSError, IndexError):
            return None

    def test_one_address_does_not_shut_out_the_others(self):
        until(lambda: self.connect("127.0.0.3") == 200, "room")
        time.sleep(1)
        before = self.refused("accept_rate")
        self.attempts(lambda: self.connect("127.0.0.2") == 200, 30, 30, refusals=90)
        self.assertEqual([self.connect("127.0.0.3") for _ in range(20)], [200] * 20)
        self.assertEqual(self.refused("accept_rate") - before, 90)


class Rates(LimitCase):
    options = {"limits__messages_per_s": "10", "limits__publishes_per_s": "2"}

    def assert_limited(self, error):
        self.assertEqual(error["code"], "rate_limited")
        self.assertGreater(error["retry_after_ms"], 0)

    @embedded_only("elsewhere a reply waits for the bus, and the close overtakes it")
    def test_messages_too_fast_on_a_websocket(self):
        """Each is refused with a reply, or the socket closes 4429: a burst of 20 is allowed before."""
        ws, begun, taken = self.open(), time.monotonic(), []
        with contextlib.suppress(Closed):
            for n in range(60):
                ws.send({"op": "subscribe", "id": n, "community_id": self.community})
        try:
            while len(taken) < 60:
                reply = ws.find("reply")
                taken.append("result" in reply)
                if not taken[-1]:
                    self.assert_limited(reply["error"])
        except Closed as closed:
            self.assertEqual(closed.code, 4429)
            self.assertRegex(closed.reason, r"^rate_limited;retry_after_ms=\d+$")
        else:
            self.assertFalse(all(taken))
        self.assert_rate(taken, begun, 10, 20)

    def test_messages_too_fast_over_http(self):
        client = self.register()

        def attempt():
            answer = self.server.post("/realtime/send", {"op": "subscribe", "id": 1, "community_id": self.community},
                                      queue_id=client.queue_id)
            if not self.is_taken(answer):
                return False
            error = answer.value["replies"][0].get("error")
            if error:
                self.assert_limited(error)
            return not error

        self.attempts(attempt, 10, 20)

    def test_an_array_counts_each_of_its_messages(self):
        client = self.register()
        begun = time.monotonic()
        replies = client.send([{"op": "subscribe", "id": n, "community_id": self.community} for n in range(100)])
        self.assertEqual([r["id"] for r in replies], list(range(100)))
        self.assert_rate(["result" in r for r in replies], begun, 10, 20)
        self.assert_limited(next(r["error"] for r in replies if "error" in r))

    def test_publishes_too_fast_and_later_again(self):
        ws = self.open(scope="publish")
        errors = []
        self.attempts(lambda: self.publishes(ws, errors), 2, 4, refusals=1)
        self.assert_limited(errors[0])
        time.sleep(errors[0]["retry_after_ms"] / 1000 + 0.1)
        self.assertTrue(self.publishes(ws))

    def test_what_is_refused_is_counted(self):
        def counted():
            return [self.limited(what) for what in ("messages", "publishes")]

        before = counted()
        ws = self.open(scope="publish")
        self.attempts(lambda: self.publishes(ws), 2, 4)
        self.assertEqual(counted(), [before[0], before[1] + 10])
        replies = self.register().send([{"op": "subscribe", "id": 1, "community_id": self.community}] * 100)
        self.assertEqual(counted(), [before[0] + sum("error" in r for r in replies), before[1] + 10])

    def test_one_fast_client_does_not_slow_another(self):
        fast, calm = self.register(), self.server.register(new_user(), [self.community])
        for n in range(40):
            self.server.post("/realtime/send", {"op": "subscribe", "id": n}, queue_id=fast.queue_id)
        (reply,) = calm.send({"op": "subscribe", "id": 1, "community_id": self.community})
        self.assertIn("result", reply)

    def test_a_backend_is_not_limited(self):
        for _ in range(60):
            self.server.publish([self.community])


class RatesOfUsers(LimitCase):
    """A user may have many queues, and what it sends is counted over all of them."""

    options = {"limits__messages_per_s": "20", "limits__publishes_per_s": "10", "limits__user_messages_per_s": "25",
               "limits__user_publishes_per_s": "5"}

    def test_publishes_by_several_queues(self):
        sockets = itertools.cycle([self.open(scope="publish") for _ in range(3)])
        before, errors = self.limited("user_publishes"), []
        self.attempts(lambda: self.publishes(next(sockets), errors), 5, 10)
        self.assertEqual({error["code"] for error in errors}, {"rate_limited"})
        self.assertEqual(self.limited("user_publishes") - before, 10)
        other = Ws(self.server, token=mint(new_user(), [self.community], scope="publish"))
        self.addCleanup(other.close)
        other.expect("welcome")
        self.assertTrue(self.publishes(other))

    def test_messages_by_several_queues(self):
        clients = [self.register() for _ in range(3)]
        before, begun = self.limited("user_messages"), time.monotonic()
        taken = ["result" in reply for client in clients
                 for reply in client.send([{"op": "subscribe", "id": n, "community_id": self.community} for n in range(30)])]
        self.assert_rate(taken, begun, 25, 50)
        self.assertEqual(self.limited("user_messages") - before, taken.count(False))


class RatesOfBytes(LimitCase):
    options = {"limits__message_bytes": "4KiB", "limits__bytes_per_s": "4KiB", "limits__user_bytes_per_s": "6KiB"}

    def test_bytes_on_a_websocket(self):
        ws = self.open()
        before = self.limited("bytes")
        with contextlib.suppress(Closed):
            for _ in range(20):
                ws.send({"op": "ping", "x": "a" * 3500})
        for _ in range(2):
            ws.find("pong")
        code, reason = ws.closed()
        self.assertEqual(code, 4429)
        self.assertRegex(reason, r"^rate_limited;retry_after_ms=\d+$")
        self.assertEqual(self.limited("bytes") - before, 1)

    def test_bytes_over_http_and_of_several_queues(self):
        def attempt():
            return self.is_taken(self.server.post("/realtime/send", {"op": "ping", "x": "a" * 3500},
                                                  queue_id=next(clients).queue_id))

        clients = itertools.cycle([self.register() for _ in range(10)])
        before = self.limited("user_bytes"), self.limited("bytes")
        self.attempts(attempt, 6 / 3.5, 3, refusals=1)
        self.assertEqual((self.limited("user_bytes") - before[0], self.limited("bytes") - before[1]), (1, 0))
        until(attempt, "room for another", every=0.5)


class RatesOfPolls(LimitCase):
    options = {"limits__polls_per_s": "10"}

    def test_polls_in_a_loop(self):
        client, calm = self.register(), self.register()
        before = self.limited("polls")

        self.attempts(lambda: self.is_taken(self.server.get(client.path(timeout=0))), 10, 20)
        self.assertEqual(self.limited("polls") - before, 10)
        calm.poll(timeout=0)


class Sizes(LimitCase):
    options = {"limits__message_bytes": "2KiB", "limits__body_bytes": "8KiB", "limits__header_bytes": "2KiB",
               "limits__recipients": "5"}

    def test_client_messages(self):
        client = self.register()
        client.send({"op": "ping", "x": "a" * 1900})
        self.assert_error(client.send({"op": "ping", "x": "a" * 2100}, expect=413), 413, "too_big")
        ws = self.open()
        ws.send({"op": "ping", "x": "a" * 1900})
        ws.find("pong")
        ws.send({"op": "ping", "x": "a" * 2100})
        self.assertIn(ws.closed()[0], (4413, 1009))

    def test_backend_bodies(self):
        self.server.publish(data={"t": "a" * 8000})
        answer = self.server.post("/realtime/publish", event(data={"t": "a" * 8200}), api=True)
        self.assert_error(answer, 413, "too_big")

    def test_headers(self):
        self.assertEqual(self.server.get("/livez", headers={"A": "a" * 1700}).status, 200)
        self.assert_error(self.server.get("/livez", headers={"A": "a" * 2100}), 431, "headers_too_big")
        self.assert_error(self.server.get("/livez?" + "a" * 2100), 414, "uri_too_long")

    def test_recipients(self):
        self.server.publish(subscriber_ids=[1, 2, 3, 4, 5])
        answer = self.server.post("/realtime/publish", event(subscriber_ids=[1, 2, 3, 4, 5, 6]), api=True)
        self.assert_error(answer, 413, "too_big")


class Times(LimitCase):
    """What comes byte by byte keeps its place for so long and no longer."""

    options = {"limits__header_timeout": "400ms", "limits__body_timeout": "1200ms", "limits__message_bytes": "4KiB"}

    def counted(self, limit):
        return self.server.metric(f'realtime_requests_refused_total{{limit="{limit}"}}')

    def test_a_head_byte_by_byte(self):
        before, begun = self.counted("header_timeout"), time.monotonic()
        with self.server.raw("GET /livez HTTP/1.1\r\nHost: x\r\nA: ") as conn:
            for _ in range(6):
                conn.send("a")
                time.sleep(0.05)
            self.assert_error(conn.response(), 408, "request_timeout")
        self.assertTrue(0.35 < time.monotonic() - begun < 3)
        self.assertEqual(self.counted("header_timeout") - before, 1)

    def test_a_body_byte_by_byte(self):
        before = self.counted("body_timeout")
        with self.server.raw("POST /realtime/send HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n") as conn:
            for _ in range(6):
                conn.send(" ")
                time.sleep(0.05)
            self.assert_error(conn.response(), 408, "request_timeout")
        self.assertEqual(self.counted("body_timeout") - before, 1)

    def test_nothing_at_all(self):
        with self.server.raw() as conn:
            self.assertTrue(conn.closed(3))

    def test_a_message_in_parts(self):
        before = self.counted("body_timeout")
        with RawWs(self.server, token=mint(self.user, [self.community])) as ws:
            ws.expect("welcome")
            ws.send(TEXT, b'{"op":"ping","x":"', fin=False)
            for _ in range(6):
                ws.send(CONT, b"a", fin=False)
                time.sleep(0.05)
            self.assertEqual(ws.closed(), (4408, "request_timeout"))
        self.assertEqual(self.counted("body_timeout") - before, 1)

    def test_parts_in_time_and_a_long_wait_after_them(self):
        with RawWs(self.server, token=mint(self.user, [self.community])) as ws:
            ws.expect("welcome")
            for _ in range(3):
                ws.send(TEXT, b'{"op":"ping","x":"' + b"a" * 1000, fin=False)
                time.sleep(0.4)
                ws.send(CONT, b'"}')
                ws.expect("pong")
                time.sleep(0.4)

    def test_what_is_too_big_is_counted(self):
        before = [self.counted(limit) for limit in ("header_bytes", "message_bytes", "body_bytes")]
        self.server.get("/livez", headers={"A": "a" * 20_000})
        self.register().send({"op": "ping", "x": "a" * 5000}, expect=413)
        ws = self.open()
        ws.send({"op": "ping", "x": "a" * 5000})
        ws.closed()
        self.server.post("/realtime/publish", event(data={"t": "a" * (1 << 20)}), api=True)
        after = [self.counted(limit) for limit in ("header_bytes", "message_bytes", "body_bytes")]
        self.assertEqual([b - a for a, b in zip(before, after)], [1, 2, 1])


class Numbers(LimitCase):
    options = {"limits__queues_per_user": "3", "limits__channels_per_user": "4", "limits__topics_per_queue": "3"}

    def test_queues_of_one_user(self):
        clients = [self.register() for _ in range(3)]
        answer = self.server.post("/realtime/register", {"user_id": self.user, "community_ids": [1]}, api=True)
        self.assert_error(answer, (429, 503))
        self.server.register(new_user())
        self.server.post("/realtime/unregister", queue_id=clients[0].queue_id)
        self.register()
        for client in clients[1:]:
            client.poll()

    def test_queues_of_one_user_on_a_websocket(self):
        for _ in range(3):
            self.register()
        ws = Ws(self.server, token=mint(self.user, [self.community]))
        code, reason = ws.closed()
        self.assertEqual(code, 4429)
        self.assertRegex(reason, r"^rate_limited;retry_after_ms=\d+$")

    def test_channels_of_one_user(self):
        self.server.register(new_user(), [1, 2, 3, 4])
        for path in ("register", "update-subscriptions"):
            body = {"user_id": new_user(), "community_ids": [1, 2, 3, 4, 5]}
            answer = self.server.post("/realtime/" + path, body, api=True)
            self.assert_error(answer, (400, 413))

    def test_articles_of_one_queue(self):
        client = self.register()
        replies = client.send([{"op": "subscribe", "id": n, "community_id": self.community, "article_id": n}
                               for n in range(5)])
        self.assertEqual(["result" in r for r in replies], [True] * 3 + [False] * 2)


class Memory(LimitCase):
    """The limit is set by reloading, to what the server has and some more; then events fill it."""

    args = ("--config", tempfile.mktemp(prefix="parley-limits-", suffix=".conf"))
    options = {"channel__ring_bytes": "512MiB", "channel__total_bytes": "1GiB"}
    MORE = 16 << 20

    @classmethod
    def setUpClass(cls):
        cls.configure(0)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.args[1])

    @classmethod
    def configure(cls, memory):
        with open(cls.args[1], "w") as f:
            f.write(f"[limits]\nmemory = {memory}\n")

    def limit(self, memory, state):
        self.configure(memory)
        before = self.server.stderr.count(b"memory state=" + state)
        self.server.hup()
        until(lambda: self.server.stderr.count(b"memory state=" + state) > before, f"memory to be {state}")

    def readyz(self):
        return self.server.get("/readyz")

    def setUp(self):
        super().setUp()
        self.configure(0)
        self.server.hup()
        until(lambda: self.readyz().status == 200, "enough memory")

    def fill(self):
        """Publishes until that is refused, and sees to it that it stays so; how many were taken."""
        self.configure((self.server.rss_kib() << 10) + self.MORE)
        self.server.hup()
        time.sleep(1.2)
        for n in range(400):
            answer = self.server.post("/realtime/publish", event([self.community], data={"x": "a" * 500_000}), api=True)
            if answer.status != 200:
                self.assert_error(answer, 503, "overloaded")
                self.configure((self.server.rss_kib() << 10) * 15 // 16)  # under ASan some of it is given back soon
                self.server.hup()
                return n
            time.sleep(0.1)  # less in a second, between two looks, than from "short" to "out"
        self.fail("400 events of 500 kB were all taken")

    @embedded_only("elsewhere the ring is not the log, and what is published comes from the bus anyway")
    def test_new_is_refused_and_old_is_served(self):
        old = self.register()
        ws = self.open()
        before = self.refused("memory")
        taken = self.fill()
        self.assertGreater(taken, 10)
        self.assertEqual(self.readyz().value["reasons"], ["memory"])
        answer = self.server.post("/realtime/register", {"user_id": new_user(), "community_ids": [1]}, api=True)
        self.assert_error(answer, 503, "overloaded")
        self.assert_error(self.server.post("/realtime/register", token=mint(new_user())), 503, "overloaded")
        with Ws(self.server, token=mint(new_user())) as new:
            code, reason = new.closed()
        self.assertEqual(code, 1013)
        self.assertRegex(reason, r"^overloaded;retry_after_ms=\d+$")
        self.assertEqual(self.refused("memory") - before, 4)
        # A request that is there at once, or small, is answered; a large one in pieces is not kept.
        self.assertEqual(old.send([{"op": "subscribe", "id": 1, "community_id": self.community}])[0]["id"], 1)
        with self.server.raw("POST /realtime/send HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n[") as conn:
            self.assert_error(conn.response(), 503, "overloaded")
        small = b'[{"op":"ping","id":2}]'
        with self.server.raw(f"POST /realtime/send?queue_id={old.queue_id} HTTP/1.1\r\nHost: x\r\n"
                             f"Content-Type: application/json\r\nContent-Length: {len(small)}\r\n\r\n") as conn:
            time.sleep(0.1)
            self.assertEqual(conn.send(small).response().status, 200)
        # Those who are there get everything, also on connections and links that are new.
        self.assertEqual(len(old.drain()), taken)
        self.assertEqual(len(ws.events(taken)), taken)
        with Ws(self.server, token=mint(self.user, [self.community]), query={"queue_id": old.queue_id}) as again:
            self.assertTrue(again.expect("welcome")["resumed"])
        # Then there is room again.
        self.limit(0, b"enough")
        self.assertEqual(self.readyz().status, 200)
        self.server.register(new_user())
        self.server.publish([self.community])

    @embedded_only("the process is the same")
    def test_well_beyond_it_new_connections_are_refused(self):
        old = self.register()
        kept = self.server.raw("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        kept.response()
        with self.server.raw("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") as operator:
            operator.response()
            self.limit((self.server.rss_kib() << 10) // 2, b"out")
            for answer in (self.server.get("/livez"), self.server.get(old.path(timeout=0))):
                self.assert_error(answer, 503, "overloaded")
            self.assertEqual(kept.send(f"GET {old.path(timeout=0)} HTTP/1.1\r\nHost: x\r\n\r\n").response().status, 200)
            metrics = operator.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").response().body
            self.assertRegex(metrics, rb'realtime_refused_total\{limit="memory"\} [1-9]')
        self.limit(0, b"enough")
        self.assertEqual(self.server.get("/livez").status, 200)


class Queues(LimitCase):
    options = {"limits__queues": "4"}

    def test_queues_in_all(self):
        for _ in range(4):
            self.server.register(new_user())
        answer = self.server.post("/realtime/register", {"user_id": new_user(), "community_ids": [1]}, api=True)
        self.assert_error(answer, 503, "overloaded")
        ws = Ws(self.server, token=mint(new_user()))
        self.assertEqual(ws.closed()[0], 1013)


if __name__ == "__main__":
    main()
