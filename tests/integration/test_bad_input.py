"""What is thrown at a server: each refused as it should be, with good clients beside it that notice nothing."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import random
import struct
import time
import zlib

from harness import (API_KEY, JSON, MAX_INT, MSGPACK, ServerCase, encode, event, main, mint, new_community, new_user, until)
from wsclient import BINARY, CONT, MSGPACK_PROTOCOL, TEXT, RawWs, Ws

RSA_PUBLIC = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----"""


def b64(data):
    return base64.urlsafe_b64encode(encode(data)).rstrip(b"=").decode()


class BadInput(ServerCase):
    """Around every test: a good client on each transport, which must get the event published afterwards."""

    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()
        self.good = self.server.register(self.user, [self.community])
        self.held = self.good.hold()
        self.socket = Ws(self.server, token=mint(self.user, [self.community]))
        self.socket.expect("welcome")
        self.log_lines = self.server.stderr.count(b"\n")

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), self.server.stderr.decode(errors="replace")[-4000:])
        with self.held, self.socket:
            event_id = self.server.publish([self.community])
            self.assertEqual([e["event_id"] for e in self.held.response().value["events"]], [event_id])
            self.assertEqual([e["event_id"] for e in self.socket.events(1)], [event_id])

    def assert_quiet_log(self, attempts):
        lines = self.server.stderr.count(b"\n") - self.log_lines
        self.assertLessEqual(lines, attempts + 2, "one log line each, at most")

    def raw_ws(self, **kw):
        raw = RawWs(self.server, token=mint(new_user(), [42]), **kw)
        self.addCleanup(raw.conn.close)
        raw.expect("welcome")
        return raw


class Tokens(BadInput):
    def assert_token_refused(self, token, codes=("token_invalid",)):
        self.assert_error(self.server.post("/realtime/register", token=token), 401, codes)
        self.assert_error(self.server.get(self.good.path(timeout=0), token=token), 401, codes)
        ws = Ws(self.server)
        ws.send({"op": "hello", "token": token})
        code, reason = ws.closed()
        self.assertEqual(code, 4401)
        self.assertIn(reason.split(";")[0], codes)

    def tearDown(self):
        self.held.close()  # was replaced where a poll came with a bad token, or not: both are fine
        self.held = self.good.hold()
        super().tearDown()

    def test_no_token(self):
        self.assert_error(self.server.post("/realtime/register"), 401, "unauthorized")

    def test_an_expired_token(self):
        self.assert_token_refused(mint(ttl=-3600), ("token_expired",))

    def test_a_token_of_none(self):
        body = {"sub": "7", "exp": int(time.time()) + 999, "communities": [42]}
        for alg in ("none", "None", "NONE", "nOnE", "", None, 7):
            for signature in ("", "AAAA"):
                self.assert_token_refused(f"{b64({'alg': alg, 'typ': 'JWT'})}.{b64(body)}.{signature}")
        self.assert_token_refused(f"{b64({'typ': 'JWT'})}.{b64(body)}.")
        self.assert_token_refused(f"{b64({'alg': 'HS256'})}.{b64(body)}.")

    def test_a_token_of_another_algorithm(self):
        for algorithm in ("HS384", "HS512"):
            self.assert_token_refused(mint(algorithm=algorithm))

    def test_a_token_signed_with_a_public_key(self):
        """PyJWT refuses to make one, so it is put together by hand."""
        text = f"{b64({'alg': 'HS256'})}.{b64({'sub': '7', 'exp': int(time.time()) + 999, 'communities': [42]})}"
        mac = hmac.new(RSA_PUBLIC.encode(), text.encode(), hashlib.sha256).digest()
        self.assert_token_refused(f"{text}.{b64(mac)}")

    def test_a_token_that_was_changed(self):
        head, body, signature = mint().split(".")
        other = mint(user=8).split(".")[1]
        for token in (f"{head}.{other}.{signature}", f"{head}.{body}.{signature[:-2]}AA", f"{head}.{body}",
                      f"{head}.{body}.{signature}.x", f".{body}.{signature}", "a.b.c", ".", "..", "...", "a" * 4000,
                      f"{head}.{body}.{signature}="):
            with self.subTest(token=token[-20:]):
                self.assert_token_refused(token)

    def test_claims_of_wrong_types(self):
        for claims in ({"sub": None}, {"exp": None}, {"exp": "soon"}, {"exp": -1}, {"exp": 1e300}, {"sub": ""},
                       {"communities": "42"}, {"communities": [{}]}, {"communities": ["x"]}, {"communities": [1.5]},
                       {"communities": {}}, {"nbf": 2**40}, {"sub": "a" * 200}):
            with self.subTest(claims=claims):
                codes = ("token_invalid", "token_expired", "invalid", "no_channel")
                answer = self.server.post("/realtime/register", token=mint(**claims))
                self.assert_error(answer, (400, 401), codes)

    def test_one_log_line_each_at_most(self):
        for _ in range(20):
            self.server.post("/realtime/register", token="x.y.z")
        self.assert_quiet_log(20)


class Queues(BadInput):
    def test_an_unknown_queue(self):
        for queue_id in ("A" * 32, "x", "A" * 1000, "..%2f..", "%00", "ü", "'; drop"):
            answer = self.server.get("/realtime/poll", queue_id=queue_id, last_event_id=0, timeout=0)
            self.assert_error(answer, (400, 404))

    def test_a_queue_of_another_user(self):
        stranger = mint(new_user(), [self.community])
        queue = self.server.register(self.user, [self.community]).queue_id
        for method, path in (("GET", "poll"), ("POST", "send"), ("POST", "heartbeat"), ("GET", "status")):
            body = {"op": "ping"} if path == "send" else None
            answer = self.server.request(method, f"/realtime/{path}", body, token=stranger, queue_id=queue,
                                         last_event_id=0 if path == "poll" else None)
            self.assert_error(answer, 403)

    def test_a_queue_of_another_user_is_not_ended_by_him(self):
        queue = self.server.register(self.user, [self.community])
        self.server.post("/realtime/unregister", queue_id=queue.queue_id, token=mint(new_user()))
        self.assertEqual(queue.ask().status, 200)

    def test_a_guess_differing_in_one_character(self):
        queue = self.server.register(self.user, [self.community]).queue_id
        for guess in (queue[:-1], queue + "A", queue[:-1] + ("A" if queue[-1] != "A" else "B"), queue.swapcase()):
            self.assert_error(self.server.get("/realtime/poll", queue_id=guess, last_event_id=0), (400, 404))


class Decoding(BadInput):
    def assert_body_refused(self, body, codec=JSON, status=400):
        answer = self.server.post("/realtime/publish", body, api=True, codec=codec)
        self.assert_error(answer, status)
        queue = self.server.register(new_user()).queue_id
        self.assert_error(self.server.post("/realtime/send", body, queue_id=queue, codec=codec), status)

    def deep(self, levels):
        data = {}
        for _ in range(levels - 2):  # the event itself and its data are levels too
            data = {"d": data}
        return event(data=data)

    def test_not_json(self):
        for body in (b"", b"{", b"{]", b"{'a':1}", b"{\"a\":1,}", b"{\"a\":01}", b"{\"a\":1}{", b"\x00", b"{\"a\":+1}",
                     b"{\"a\":.5}", b"{\"a\":NaN}", b"{\"a\":Infinity}", b"{a:1}", b"{\"a\":\"\n\"}", b"// x\n{}",
                     b"\xef\xbb\xbf{", b"{\"a\":\"\\x\"}", b"{\"a\":\"\\ud800\"}", b"{\"a\":tru}", b"<a/>"):
            with self.subTest(body=body):
                self.assert_body_refused(body)
        self.assert_quiet_log(40)

    def test_a_duplicate_key(self):
        body = b'{"type":"x","community_ids":[42],"community_ids":[43],"data":{}}'
        answer = self.server.post("/realtime/publish", body, api=True)
        self.assertIn(answer.status, (200, 400))
        self.assert_body_refused(b"\x82\xa1a\x01\xa1a\x02", MSGPACK)

    def test_depth(self):
        for codec in (JSON, MSGPACK):
            self.server.api("publish", self.deep(31), codec=codec)
            for levels in (34, 100):
                self.assert_body_refused(self.deep(levels), codec)
        self.assert_body_refused(b'{"op":"ping","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}")
        self.assert_body_refused(b"[" * 60_000)
        self.assert_body_refused(b'{"a":' * 12_000)
        self.assert_body_refused(b"\x91" * 60_000, MSGPACK)
        self.assert_body_refused(b"\x81\xa1a" * 20_000, MSGPACK)

    def test_integers_beyond_2_to_the_53(self):
        for n in (2**53, -(2**53), 2**63, -(2**63), 2**64 - 1, 10**30):
            for codec in (JSON, MSGPACK) if -(2**63) <= n < 2**64 else (JSON,):
                with self.subTest(n=n, codec=codec):
                    self.assert_body_refused(encode(event(data={"n": n}), codec), codec)
        self.server.publish(data={"n": [MAX_INT, -MAX_INT]})
        self.assert_body_refused(b'{"type":"x","community_ids":[42],"data":{"n":1e999}}')

    def test_invalid_utf_8(self):
        for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80",
                    b"\xf8\x88\x80\x80\x80"):
            with self.subTest(bad=bad):
                self.assert_body_refused(b'{"op":"ping","type":"x","community_ids":[42],"data":{"t":"' + bad + b'"}}')
                self.assert_body_refused(b"\x82\xa2op\xa4ping\xa1t" + bytes([0xa0 + len(bad)]) + bad, MSGPACK)

    def test_messagepack_that_is_not_the_json_model(self):
        for body in (b"", b"\xc1", b"\xd4\x05x", b"\xc7\x03\x05abc", b"\xd6\xff\0\0\0\0", b"\x81\xa1a\xc4\x01x",
                     b"\x81\x01\x02", b"\x81\xc0\x02", b"\x81\xa1a\xcb\x7f\xf8\0\0\0\0\0\0",
                     b"\x81\xa1a\xca\x7f\x80\0\0", b"\x81\xa1a", b"\x80\x80", b"\x81\x90\x01", b"\x81\xa1a\xd9"):
            with self.subTest(body=body):
                self.assert_body_refused(body, MSGPACK)

    def test_huge_declared_lengths(self):
        before = self.server.rss_kib()
        for body in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                     b"\xc9\xff\xff\xff\xff\x05", b"\xdd\x7f\xff\xff\xff\xc0", b"\x81\xa1a\xdf\x10\0\0\0", b"\xdc\xff\xff",
                     b"\x91\xdd\x0f\xff\xff\xff" * 30):
            with self.subTest(body=body[:10]):
                self.assert_body_refused(body, MSGPACK)
        self.assertLess(self.server.rss_kib() - before, 16 * 1024)

    def test_too_big(self):
        queue = self.server.register(new_user()).queue_id
        answer = self.server.post("/realtime/send", {"op": "ping", "x": "a" * 65536}, queue_id=queue)
        self.assert_error(answer, 413, "too_big")
        answer = self.server.post("/realtime/publish", event(data={"t": "a" * 1048576}), api=True)
        self.assert_error(answer, 413, "too_big")

    def test_messages_say_what_to_fix(self):
        for body, word in (({"community_ids": [42], "data": {}}, "type"), ({"type": "x", "data": {}}, "communit"),
                           ({"type": "x", "data": {}, "community_ids": 42}, "community_ids"),
                           ({"type": "x", "data": {}, "community_ids": [42], "subscriber_ids": 7}, "subscriber_ids")):
            value = self.assert_error(self.server.post("/realtime/publish", body, api=True), 400)
            self.assertIn(word, value["message"])


class Frames(BadInput):
    def test_unmasked_frames(self):
        raw = self.raw_ws()
        raw.conn.send(RawWs.frame(TEXT, '{"op":"ping"}', masked=False))
        self.assertIn(raw.closed()[0], (1002, 1006))

    def test_oversized_frames(self):
        for data, codes in ((RawWs.frame(TEXT, "a" * 70_000), (4413, 1009)),
                            (b"\x81\xff" + struct.pack(">Q", 2**63 + 5) + b"\0" * 4, (1002, 1009, 4413, 1006)),
                            (RawWs.frame(TEXT, "a" * 60_000, fin=False) + RawWs.frame(CONT, "a" * 60_000), (4413, 1009))):
            raw = self.raw_ws()
            raw.conn.send(data)
            self.assertIn(raw.closed()[0], codes)

    def test_messagepack_bombs(self):
        for data in (b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 60_000, b"\xd4\x05x", b"\xdf\xff\xff\xff\xff"):
            raw = self.raw_ws(protocol=MSGPACK_PROTOCOL)
            raw.send(BINARY, data)
            self.assertIn(raw.closed()[0], (4400,))

    def test_compressed_bombs(self):
        for _ in range(3):
            raw = self.raw_ws(deflate=True)
            z = zlib.compressobj(9, zlib.DEFLATED, -15)
            bomb = z.compress(b"[" * (40 << 20)) + z.flush(zlib.Z_SYNC_FLUSH)
            raw.send(TEXT, bomb[:-4], rsv=4)
            self.assertIn(raw.closed()[0], (4413, 1009))

    def test_random_frames(self):
        chance = random.Random(7)
        for n in range(60):
            raw = self.raw_ws(deflate=bool(n % 2))
            with contextlib.suppress(OSError):
                raw.conn.send(chance.randbytes(chance.randrange(1, 3000)))
            raw.conn.close()

    def test_random_changes_of_good_frames(self):
        chance = random.Random(8)
        good = RawWs.frame(TEXT, json.dumps({"op": "subscribe", "id": 1, "community_id": 42, "article_id": 7}))
        for _ in range(100):
            frame = bytearray(good)
            for _ in range(chance.randrange(1, 4)):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            raw = self.raw_ws()
            with contextlib.suppress(OSError):
                raw.conn.send(bytes(frame) * 2)
            raw.conn.close()

    def test_a_half_finished_handshake(self):
        for _ in range(20):
            conn = self.server.raw("GET /realtime/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConn")
            conn.reset()

    def test_random_bytes_instead_of_http(self):
        chance = random.Random(9)
        for _ in range(100):
            conn = self.server.raw()
            with contextlib.suppress(OSError):
                conn.send(chance.randbytes(chance.randrange(1, 2000)))
            conn.close()

    def test_random_changes_of_good_requests(self):
        chance = random.Random(10)
        body = json.dumps(event())
        good = (f"POST /realtime/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}GET {self.good.path(timeout=0)} HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(300):
            data = bytearray(good.replace(self.good.queue_id, "A" * 32).encode())
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with self.server.raw(bytes(data)) as conn, contextlib.suppress(EOFError):
                conn.timeout = 0.02
                with contextlib.suppress(TimeoutError):
                    conn.response()

    def test_tls_on_the_plain_port(self):
        with self.server.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(300)) as conn:
            with contextlib.suppress(EOFError):
                self.assertEqual(conn.response().status, 400)


class Crowd(BadInput):
    """Clients in number that do nothing but take place."""

    options = {"limits__accept_rate": 0}  # what is tried is what comes after
    QUEUES = 500

    def abandon(self, polls, reset):
        """Opens a poll on each queue and goes away."""
        before = self.server.health()["pending_polls"]
        conns = []
        for client in polls:
            conn = self.server.raw(f"GET {client.path(timeout=60)} HTTP/1.1\r\nHost: x\r\n\r\n")
            conns.append(conn)
        until(lambda: self.server.health()["pending_polls"] >= before + len(polls) * 0.9, "polls to be held", 20)
        for conn in conns:
            conn.reset() if reset else conn.close()
        until(lambda: self.server.health()["pending_polls"] <= before, "abandoned polls to be dropped", 20)

    def test_10000_polls_opened_and_abandoned(self):
        polls = [self.server.register(new_user(), [42]) for _ in range(self.QUEUES)]
        for turn in range(2):
            self.abandon(polls, turn % 2)
        before = self.server.rss_kib()
        for turn in range(10_000 // self.QUEUES):
            self.abandon(polls, turn % 2)
        self.assertLess(self.server.rss_kib() - before, 4 * 1024, "KiB more than after the first thousand")
        for client in polls:
            self.server.post("/realtime/unregister", queue_id=client.queue_id)

    def test_a_thousand_connections_that_say_nothing(self):
        conns = [self.server.raw() for _ in range(1000)]
        self.assertEqual(self.server.get("/livez").status, 200)
        for conn in conns:
            conn.close()

    def test_a_thousand_sockets_that_vanish(self):
        def connected():
            return self.server.metric('realtime_connections{transport="websocket"}')

        before = connected()
        for _ in range(5):
            raws = [RawWs(self.server, token=mint(new_user(), [42])) for _ in range(200)]
            for raw in raws:
                raw.conn.reset()
        until(lambda: connected() <= before, "vanished sockets to be noticed", 10)

    def test_clients_that_send_a_byte_a_second(self):
        conns = [self.server.raw() for _ in range(50)]
        for byte in "GET":
            for conn in conns:
                conn.send(byte)
            time.sleep(1)
        start = time.monotonic()
        self.assertEqual(self.server.get("/livez").status, 200)
        self.assertLess(time.monotonic() - start, 0.5)
        for conn in conns:
            conn.close()


if __name__ == "__main__":
    main()
