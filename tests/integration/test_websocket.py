"""The WebSocket: opening, every op, liveness, close codes, framing, compression, origins, both codecs."""

import json
import os
import signal
import threading
import time
import zlib

import msgpack

from harness import embedded_only, MAX_INT, Server, ServerCase, TestCase, event, main, mint, new_community, new_user, until
from wsclient import (BINARY, CLOSE, CONT, JSON_PROTOCOL, MSGPACK_PROTOCOL, PING, PONG, TEXT, Closed, RawWs, Ws,
                      deflated, handshake, upgrade)

PROTOCOLS = (JSON_PROTOCOL, MSGPACK_PROTOCOL)


class WsCase(ServerCase):
    """One user and community per test."""

    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()

    def token(self, **kw):
        return mint(self.user, [self.community], **kw)

    def open(self, **kw):
        """A connected WebSocket whose welcome was read: it is in .welcome."""
        ws = Ws(self.server, **{"token": self.token(), **kw})
        self.addCleanup(ws.close)
        ws.welcome = ws.expect("welcome")
        return ws

    def open_raw(self, **kw):
        raw = RawWs(self.server, token=self.token(), **kw)
        self.addCleanup(raw.conn.close)
        raw.welcome = raw.expect("welcome")
        return raw

    def publish(self, **kw):
        return self.server.publish([self.community], **kw)

    def assert_closes(self, ws, code, reason=None):
        codes = code if isinstance(code, tuple) else (code,)
        got, text = ws.closed()
        self.assertIn(got, codes, text)
        if reason is not None:
            self.assertIn(text.split(";")[0], (reason,) if isinstance(reason, str) else reason)

    def assert_still_good(self, ws):
        event_id = self.publish()
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])


class Opening(WsCase):
    def test_the_welcome_comes_first_with_a_token_in_the_header(self):
        for protocol in PROTOCOLS:
            ws = self.open(subprotocols=[protocol])
            welcome = ws.welcome
            self.assertEqual(str(welcome["user_id"]), str(self.user))
            self.assertEqual(welcome["communities"], [self.community])
            self.assertIs(welcome["resumed"], False)
            self.assertEqual(welcome["transports"], ["websocket", "longpoll"])
            self.assertEqual(welcome["ping_interval_ms"], 25000)
            self.assertTrue(3_500_000 < welcome["token_expires_in_ms"] <= 3_660_000, welcome)
            self.assertRegex(welcome["queue_id"], r"^[A-Za-z0-9_-]{22,}$")
            self.assertIsInstance(welcome["last_event_id"], int)
            for field in ("node", "connection_id"):
                self.assertTrue(welcome[field])

    def test_connection_ids_differ(self):
        self.assertNotEqual(self.open().welcome["connection_id"], self.open().welcome["connection_id"])

    def test_a_token_may_come_as_a_subprotocol_which_is_never_selected(self):
        for order in ([JSON_PROTOCOL, "bearer." + self.token()], ["bearer." + self.token(), JSON_PROTOCOL]):
            ws = self.open(token=None, subprotocols=order)
            self.assertEqual(ws.conn.subprotocol, JSON_PROTOCOL)

    def test_a_token_may_come_in_hello(self):
        for protocol in PROTOCOLS:
            ws = Ws(self.server, subprotocols=[protocol])
            self.addCleanup(ws.close)
            self.assertTrue(ws.quiet(0.2), "no welcome before hello")
            ws.send({"op": "hello", "token": self.token()})
            self.assertEqual(ws.expect("welcome")["communities"], [self.community])
            self.assert_still_good(ws)

    def test_a_queue_id_in_the_query_resumes_without_a_token(self):
        client = self.server.register(self.user, [self.community])
        event_id = self.publish()
        ws = self.open(token=None, queue_id=client.queue_id, last_event_id=client.position)
        self.assertIs(ws.welcome["resumed"], True)
        self.assertEqual(ws.welcome["queue_id"], client.queue_id)
        self.assertNotIn("token_expires_in_ms", ws.welcome, "a queue made with an API key does not expire")
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])

    def publish_until_it_waits(self, ws, seconds):
        """On Redis those that come while the channel is being opened do not wait."""
        for _ in range(20):
            event_id = self.publish()
            if ws.quiet(seconds):
                return event_id
        self.fail("nothing waits")

    def test_hello_may_name_a_batch_window(self):
        with Ws(self.server) as ws:
            ws.send({"op": "hello", "token": self.token(), "batch_window_ms": 1500})
            ws.expect("welcome")
            ids = [self.publish_until_it_waits(ws, 0.2), self.publish(), self.publish()]
            self.assertEqual([e["event_id"] for e in ws.expect("events")["events"]], ids)
        with Ws(self.server) as ws:
            ws.send({"op": "hello", "token": self.token(), "batch_window_ms": 65536 + 20})
            ws.expect("welcome")
            self.publish_until_it_waits(ws, 0.5)  # and is not cut short to 20 ms
        with Ws(self.server) as ws:
            ws.send({"op": "hello", "token": self.token(), "batch_window_ms": -1})
            self.assertEqual(ws.closed()[0], 4400)

    def test_hello_resumes_from_a_cursor(self):
        client = self.server.register(self.user, [self.community])
        ids = [self.publish() for _ in range(3)]
        ws = Ws(self.server)
        self.addCleanup(ws.close)
        ws.send({"op": "hello", "queue_id": client.queue_id, "last_event_id": ids[0]})
        self.assertIs(ws.expect("welcome")["resumed"], True)
        self.assertEqual([e["event_id"] for e in ws.events(2)], ids[1:])

    def test_the_header_x_realtime_queue_resumes(self):
        client = self.server.register(self.user, [self.community])
        ws = self.open(token=None, headers={"X-Realtime-Queue": client.queue_id})
        self.assertEqual(ws.welcome["queue_id"], client.queue_id)

    def test_anything_but_hello_first_closes_4401(self):
        for message in ({"op": "ping"}, {"op": "subscribe", "id": 1, "community_id": 42}, {"op": "dance"}):
            ws = Ws(self.server)
            ws.send(message)
            self.assert_closes(ws, 4401, "hello_expected")

    def test_hello_without_token_or_queue_closes_4401(self):
        ws = Ws(self.server)
        ws.send({"op": "hello"})
        self.assert_closes(ws, 4401)

    def test_a_second_hello_is_an_error_and_no_more(self):
        ws = self.open()
        ws.send({"op": "hello", "token": self.token()})
        self.assertIn("error", ws.expect("reply"))
        self.assert_still_good(ws)

    def test_bad_tokens_close_4401_after_the_101(self):
        for token in ("x.y.z", self.token(key="wrong" * 10), self.token(exp=None), self.token(sub=None)):
            self.assert_closes(Ws(self.server, token=token), 4401, "token_invalid")
            ws = Ws(self.server)
            ws.send({"op": "hello", "token": token})
            self.assert_closes(ws, 4401, "token_invalid")

    def test_an_expired_token_closes_4401(self):
        self.assert_closes(Ws(self.server, token=self.token(ttl=-60)), 4401, "token_expired")

    def test_the_leeway_is_30_seconds(self):
        self.open(token=self.token(ttl=-10))

    def test_an_unknown_queue_alone_closes_4404(self):
        self.assert_closes(Ws(self.server, queue_id="A" * 32), 4404, "queue_not_found")
        ws = Ws(self.server)
        ws.send({"op": "hello", "queue_id": "A" * 32})
        self.assert_closes(ws, 4404, "queue_not_found")

    def test_an_unknown_queue_with_a_token_opens_a_new_one(self):
        position = self.open().welcome["last_event_id"]
        event_id = self.publish()
        ws = self.open(queue_id="A" * 32, last_event_id=position)
        self.assertIs(ws.welcome["resumed"], False)
        self.assertNotEqual(ws.welcome["queue_id"], "A" * 32)
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])

    def test_a_queue_of_another_user_closes_4403(self):
        client = self.server.register(new_user(), [self.community])
        self.assert_closes(Ws(self.server, token=self.token(), queue_id=client.queue_id), 4403, "forbidden")

    def test_a_query_that_cannot_be_decoded_or_an_empty_cursor_closes_4400(self):
        queue_id = self.server.register(self.user, [self.community]).queue_id
        for query in ("queue_id=%zz&last_event_id=1", "queue_id=%zz", f"queue_id={queue_id}&last_event_id=",
                      f"queue_id={queue_id}&last_event_id=%ff", f"queue_id={queue_id}&last_event_id=-1"):
            with self.subTest(query=query), RawWs(self.server, query="?" + query) as raw:
                self.assertEqual(raw.closed(), (4400, "invalid"))

    def test_wrong_hello_fields_do_not_open(self):
        for fields in ({"token": 7}, {"token": self.token(), "last_event_id": "x"}, {"queue_id": 7},
                       {"token": self.token(), "last_event_id": -1}):
            ws = Ws(self.server)
            ws.send({"op": "hello", **fields})
            self.assert_closes(ws, (4400, 4401))

    def test_a_token_without_the_communities_claim_is_invalid(self):
        self.assert_closes(Ws(self.server, token=mint(new_user(), None)), 4401, "token_invalid")


class Upgrade(WsCase):
    def refused(self, status, *headers, **kw):
        answer, conn = upgrade(self.server, headers, **kw)
        conn.close()
        self.assert_error(answer, status)

    def test_the_first_known_subprotocol_is_selected(self):
        for offered, selected in (([JSON_PROTOCOL], JSON_PROTOCOL), (list(PROTOCOLS), JSON_PROTOCOL),
                                  ([MSGPACK_PROTOCOL, JSON_PROTOCOL], MSGPACK_PROTOCOL),
                                  (["graphql-ws", MSGPACK_PROTOCOL], MSGPACK_PROTOCOL),
                                  (["parley.v9.json", JSON_PROTOCOL], JSON_PROTOCOL)):
            self.assertEqual(self.open(subprotocols=offered).conn.subprotocol, selected)

    def test_subprotocols_may_come_in_several_headers(self):
        answer, conn = upgrade(self.server, [f"Sec-WebSocket-Protocol: {p}" for p in ("x", MSGPACK_PROTOCOL)])
        conn.close()
        self.assertEqual((answer.status, answer.headers["Sec-WebSocket-Protocol"]), (101, MSGPACK_PROTOCOL))

    def test_none_offered_means_json(self):
        ws = self.open(subprotocols=[])
        self.assertIsNone(ws.conn.subprotocol)

    def test_only_unknown_ones_are_400(self):
        self.refused(400, "Sec-WebSocket-Protocol: graphql-ws")
        self.refused(400, "Sec-WebSocket-Protocol: parley.v9.json, x")

    def test_bad_handshakes_are_400(self):
        self.refused(400, key="short")
        self.refused((400, 426), version="8")
        answer = self.server.get("/realtime/ws")
        self.assertIn(answer.status, (400, 426), answer)

    def test_the_method_must_be_get(self):
        self.assertEqual(self.server.post("/realtime/ws").status, 405)

    def test_an_upgrade_elsewhere_is_no_upgrade(self):
        for path, status in (("/realtime/poll", 404), ("/nowhere", 404), ("/health", 404)):
            answer, conn = upgrade(self.server, path=path)
            conn.close()
            self.assertIn(answer.status, (200, 400, status), path)

    def test_an_upgrade_after_a_request_on_the_same_connection_works(self):
        with self.server.raw("GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as conn:
            self.assertEqual(conn.response().status, 200)
            conn.send_bytewise(handshake(self.server, [f"Authorization: Bearer {self.token()}"]).encode())
            self.assertEqual(conn.response().status, 101)
            self.assertIn(b"welcome", conn.take(40))

    def test_an_upgrade_pipelined_behind_other_requests_works(self):
        client = self.server.register(self.user, [self.community])
        bearer = [f"Authorization: Bearer {self.token()}"]
        beat = f"POST /realtime/heartbeat?queue_id={client.queue_id} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        with self.server.raw(beat * 3 + handshake(self.server, bearer)) as conn:
            self.assertEqual([conn.response().status for _ in range(4)], [200, 200, 200, 101])
            self.assertIn(b"welcome", conn.take(40))

    def test_an_upgrade_pipelined_behind_a_held_poll_waits_for_its_answer(self):
        client = self.server.register(self.user, [self.community])
        with client.hold() as conn:
            conn.send(handshake(self.server, [f"Authorization: Bearer {self.token()}"]))
            self.assertTrue(conn.silent(0.2))
            self.publish()
            self.assertEqual(conn.response().status, 200)
            self.assertEqual(conn.response().status, 101)
            self.assertIn(b"welcome", conn.take(40))

    def test_a_second_handshake_on_a_socket_is_broken_framing(self):
        answer, conn = upgrade(self.server, [f"Authorization: Bearer {self.token()}"])
        with conn:
            self.assertEqual(answer.status, 101)
            conn.send(handshake(self.server))
            raw = RawWs.__new__(RawWs)
            raw.conn = conn
            self.assertIn(raw.closed()[0], (1002, 1006))

    def test_a_frame_in_the_same_segment_as_the_handshake_is_read(self):
        hello = RawWs.frame(TEXT, json.dumps({"op": "hello", "token": self.token()}))
        with self.server.raw(handshake(self.server).encode() + hello) as conn:
            self.assertEqual(conn.response().status, 101)
            self.assertIn(b"welcome", conn.take(40))


class Origins(WsCase):
    options = {"auth__allowed_origins": "https://forum.example"}

    def status(self, *headers, **kw):
        answer, conn = upgrade(self.server, headers, **kw)
        conn.close()
        if answer.status != 101:
            self.assert_error(answer, 403, "origin_forbidden")
        return answer.status

    def test_a_listed_origin_and_none_at_all_are_accepted(self):
        self.assertEqual(self.status("Origin: https://forum.example"), 101)
        self.assertEqual(self.status(), 101)

    def test_lookalikes_are_403(self):
        for origin in ("https://forum.example.evil.example", "https://evilforum.example", "http://forum.example",
                       "https://forum.example:8443", "https://sub.forum.example", "https://forum.exampl", "null", "",
                       "https://forum.example/", "https://forum.example@evil.example", "https://evil.example#forum.example",
                       "forum.example", "https://evil.example/https://forum.example", "wss://forum.example", "*"):
            with self.subTest(origin=origin):
                self.assertEqual(self.status(f"Origin: {origin}"), 403)

    def test_two_origins_are_refused(self):
        answer, conn = upgrade(self.server, ["Origin: https://forum.example", "Origin: https://evil.example"])
        conn.close()
        self.assertIn(answer.status, (400, 403))

    def test_a_refusal_can_be_read_by_nobody_else(self):
        answer, conn = upgrade(self.server, ["Origin: https://evil.example"])
        conn.close()
        self.assertIsNone(answer.headers.get("Access-Control-Allow-Origin"))


class DefaultOrigins(WsCase):
    def test_only_the_same_origin_is_accepted(self):
        host = "%s:%d" % self.server.address
        for origin, status in ((f"http://{host}", 101), ("http://localhost:1", 403), ("http://127.0.0.1", 403),
                               (f"http://{host}.evil.example", 403), (f"http://x{host}", 403)):
            answer, conn = upgrade(self.server, [f"Origin: {origin}"])
            conn.close()
            self.assertEqual(answer.status, status, origin)


class Operations(WsCase):
    def test_events_arrive_in_the_same_shape_as_in_a_poll(self):
        client = self.server.register(self.user, [self.community])
        for protocol in PROTOCOLS:
            ws = self.open(subprotocols=[protocol])
            event_id = self.publish(data={"article_id": 1, "text": "Grüße"})
            message = ws.find("events")
            self.assertGreaterEqual(message["last_event_id"], event_id)
            polled = client.poll()
            self.assertEqual(message["events"], polled["events"])
            client.position = polled["last_event_id"]

    @embedded_only("a node hears of other channels with the next canary")
    def test_ping_is_answered_by_pong_with_the_cursor(self):
        ws = self.open()
        event_id = self.server.publish([new_community()])
        ws.send({"op": "ping"})
        self.assertGreaterEqual(ws.expect("pong")["last_event_id"], event_id)

    def test_replies_carry_ids_that_are_strings_or_integers(self):
        for protocol in PROTOCOLS:
            ws = self.open(subprotocols=[protocol])
            for id in (0, 1, -1, MAX_INT, "", "a", "ü" * 20):
                self.assertIn("result", ws.call("subscribe", id, community_id=self.community))

    def test_other_ids_are_an_error(self):
        ws = self.open()
        for id in (1.5, None, True, [], {}):
            ws.send({"op": "subscribe", "id": id, "community_id": self.community})
            self.assertIn("error", ws.expect("reply"), id)
        ws.send({"op": "subscribe", "community_id": self.community})
        reply = ws.expect("reply")
        self.assertNotIn("id", reply)
        self.assertIn("error", reply)

    def test_an_unknown_op_and_bad_fields_get_an_error_and_the_connection_stays(self):
        for protocol in PROTOCOLS:
            ws = self.open(subprotocols=[protocol])
            for message, code in (({"op": "dance", "id": 1}, "unknown_op"), ({"op": "dance"}, "unknown_op"),
                                  ({"op": "subscribe", "id": 2}, None), ({"op": "refresh", "id": 3}, "invalid"),
                                  ({"op": "subscribe", "id": 4, "community_id": []}, "invalid"),
                                  ({"op": "ack", "event_id": "x"}, "invalid"), ({"op": 7, "id": 5}, None),
                                  ({"id": 6}, None), ({}, None)):
                ws.send(message)
                reply = ws.expect("reply")
                self.assertEqual(reply.get("id"), message.get("id"), reply)
                self.assertTrue(reply["error"]["message"])
                codes = (code,) if code else ("invalid", "unknown_op", "bad_message", "no_channel")
                self.assertIn(reply["error"]["code"], codes)
            self.assert_still_good(ws)

    def test_unknown_fields_are_ignored(self):
        ws = self.open()
        self.assertIn("result", ws.call("subscribe", community_id=self.community, colour="red"))

    def test_an_ack_is_where_a_resume_without_a_cursor_starts(self):
        ws = self.open()
        ids = [self.publish() for _ in range(3)]
        ws.events(3)
        ws.send({"op": "ack", "event_id": ids[0]})
        ws.synced()
        ws.vanish()
        again = self.open(queue_id=ws.welcome["queue_id"])
        self.assertIs(again.welcome["resumed"], True)
        self.assertEqual([e["event_id"] for e in again.events(2)], ids[1:])

    def test_subscribe_and_unsubscribe_outside_the_grants_are_forbidden(self):
        ws = self.open()
        for op in ("subscribe", "unsubscribe"):
            self.assertEqual(ws.call(op, community_id=new_community())["error"]["code"], "forbidden")

    def test_publish_with_the_scope_reaches_others_and_not_the_sender(self):
        other = self.server.register(new_user(), [self.community])
        ws = self.open(token=self.token(scope="publish"))
        reply = ws.call("publish", "p1", type="new_comment", data={"community_id": self.community, "n": 1})
        event_id = reply["result"]["event_id"]
        self.assertEqual(other.ids(), [event_id])
        self.assertEqual(ws.synced(), [])

    def test_publish_reaches_other_queues_of_the_same_user(self):
        second = self.server.register_token(self.token())
        ws = self.open(token=self.token(scope="publish"))
        reply = ws.call("publish", type="x", data={}, community_ids=[self.community])
        self.assertEqual(second.ids(), [reply["result"]["event_id"]])

    def test_publish_without_scope_or_grant_or_channel_is_an_error(self):
        ws = self.open()
        reply = ws.call("publish", type="x", data={"community_id": self.community})
        self.assertEqual(reply["error"]["code"], "forbidden")
        ws = self.open(token=self.token(scope="publish"))
        for fields, code in (({"data": {"community_id": new_community()}}, "forbidden"),
                             ({"data": {}, "community_ids": [self.community, new_community()]}, "forbidden"),
                             ({"data": {}}, ("no_channel", "invalid")), ({"data": 7}, ("invalid", "no_channel"))):
            self.assertIn(ws.call("publish", type="x", **fields)["error"]["code"], code)
        self.assertIn("error", ws.call("publish", data={"community_id": self.community}))

    def test_a_client_cannot_direct_or_hide_its_event(self):
        """exclude_user_id, subscriber_ids and the like are for backends: refused or without effect."""
        other = self.server.register(new_user(), [self.community])
        ws = self.open(token=self.token(scope="publish"))
        reply = ws.call("publish", type="x", data={"community_id": self.community}, exclude_user_id=1,
                        subscriber_ids=[])
        if "result" in reply:
            self.assertEqual(other.ids(), [reply["result"]["event_id"]])

    def test_a_close_1000_ends_the_queue_and_any_other_keeps_it(self):
        for code, status in ((1000, 404), (1001, 200), (4000, 200)):
            ws = self.open()
            ws.close(code)
            until(lambda: self.server.get("/realtime/poll", queue_id=ws.welcome["queue_id"], timeout=0,
                                          last_event_id=ws.welcome["last_event_id"]).status == status,
                  f"{status} after close {code}", 2)

    def test_unregister_closes_the_socket(self):
        ws = self.open()
        self.server.post("/realtime/unregister", queue_id=ws.welcome["queue_id"])
        self.assert_closes(ws, (1000, 4404))

    def test_disconnect_closes_4403(self):
        ws = self.open()
        self.server.api("disconnect", {"user_id": self.user})
        self.assert_closes(ws, 4403, "disconnected")

    def test_a_newer_socket_replaces_the_older_4409(self):
        ws = self.open()
        again = self.open(queue_id=ws.welcome["queue_id"], last_event_id=ws.welcome["last_event_id"])
        self.assert_closes(ws, 4409, "replaced")
        self.assert_still_good(again)

    def test_messages_sent_in_one_burst_are_all_answered_in_order(self):
        ws = self.open()
        for n in range(40):
            ws.send({"op": "subscribe", "id": n, "community_id": self.community})
        self.assertEqual([ws.find("reply")["id"] for _ in range(40)], list(range(40)))


class Tokens(WsCase):
    options = {"auth__leeway": "0"}

    def test_at_exp_the_socket_closes_4401(self):
        ws = self.open(token=self.token(ttl=2))
        self.assertLessEqual(ws.welcome["token_expires_in_ms"], 2000)
        start = time.monotonic()
        self.assert_closes(ws, 4401, "token_expired")
        self.assertLess(time.monotonic() - start, 3.5)
        again = self.open(queue_id=ws.welcome["queue_id"])
        self.assertIs(again.welcome["resumed"], True, "the queue waits for a newer token")

    def test_a_refresh_keeps_it_open(self):
        ws = self.open(token=self.token(ttl=2))
        self.assertIn("result", ws.call("refresh", token=self.token()))
        time.sleep(2.5)
        self.assert_still_good(ws)

    def test_a_refresh_with_a_bad_token_is_an_error_and_the_socket_stays(self):
        ws = self.open()
        for token, code in (("x.y.z", "token_invalid"), (self.token(ttl=-1), "token_expired"),
                            (mint(new_user(), [self.community]), "forbidden")):
            self.assertEqual(ws.call("refresh", token=token)["error"]["code"], code)
        self.assert_still_good(ws)

    def test_a_refresh_brings_the_grants_of_the_newer_token(self):
        ws = self.open(token=self.token(iat=int(time.time()) - 10))
        more = new_community()
        self.assertIn("result", ws.call("refresh", token=mint(self.user, [self.community, more])))
        event_id = self.server.publish([more])
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])

    def test_publishing_ends_with_the_token_though_the_queue_of_an_api_key_lives_on(self):
        client = self.server.register(self.user, [self.community])
        ws = self.open(token=self.token(ttl=2, scope="publish"), queue_id=client.queue_id)
        publish = {"type": "x", "data": {"community_id": self.community}}
        self.assertIn("result", ws.call("publish", **publish))
        time.sleep(2.3)
        self.assertEqual(ws.call("publish", **publish)["error"]["code"], "token_expired")
        self.assert_still_good(ws)
        self.assertIn("result", ws.call("refresh", token=self.token(scope="publish")))
        self.assertIn("result", ws.call("publish", **publish))
        self.assertIn("result", ws.call("refresh", token=self.token()))
        self.assertEqual(ws.call("publish", **publish)["error"]["code"], "forbidden")

    def test_the_queue_id_alone_does_not_outlive_the_token(self):
        client = self.server.register_token(self.token(ttl=2))
        time.sleep(2.3)
        self.assert_closes(Ws(self.server, queue_id=client.queue_id), 4401, "token_expired")


class Liveness(WsCase):
    options = {"websocket__ping_interval": "300ms", "websocket__hello_timeout": "400ms"}

    @embedded_only("a node hears of other channels with the next canary")
    def test_pings_come_when_it_is_quiet_and_carry_the_cursor(self):
        ws = self.open()
        self.assertEqual(ws.welcome["ping_interval_ms"], 300)
        event_id = self.server.publish([new_community()])
        seen = []
        until(lambda: seen.append(ws.recv(2)) or (seen[-1]["op"] == "ping" and seen[-1]["last_event_id"] >= event_id),
              "a ping with the cursor")

    def test_a_client_that_says_nothing_is_closed_4408_and_its_queue_lives(self):
        raw = self.open_raw()
        self.assert_closes(raw, 4408, "heartbeat")
        again = self.open(queue_id=raw.welcome["queue_id"])
        self.assertIs(again.welcome["resumed"], True)

    def test_any_message_and_a_pong_frame_keep_it_open(self):
        for send in (lambda raw: raw.send_json({"op": "pong"}), lambda raw: raw.send_json({"op": "ping"}),
                     lambda raw: raw.send_json({"op": "ack", "event_id": 1}), lambda raw: raw.send(PONG, b"x")):
            raw = self.open_raw()
            for _ in range(8):
                send(raw)
                time.sleep(0.15)
            event_id = self.publish()
            first, message = raw.message()
            while message["op"] in ("ping", "pong"):
                first, message = raw.message()
            self.assertEqual(message["events"][0]["event_id"], event_id)

    def test_silence_instead_of_hello_closes_4401(self):
        start = time.monotonic()
        self.assert_closes(Ws(self.server), 4401, "hello_expected")
        self.assertGreater(time.monotonic() - start, 0.3)

    def test_a_peer_that_vanished_without_a_word_is_noticed(self):
        before = self.server.get("/metrics").body
        raw = self.open_raw()
        raw.conn.sock.setblocking(False)
        time.sleep(1.5)
        self.assertNotEqual(before, self.server.get("/metrics").body)
        answer = self.server.get("/realtime/poll", queue_id=raw.welcome["queue_id"], timeout=0,
                                 last_event_id=raw.welcome["last_event_id"])
        self.assertEqual(answer.status, 200)


class Framing(WsCase):
    def test_the_wrong_frame_type_closes_4400(self):
        raw = self.open_raw()
        raw.send(BINARY, msgpack.packb({"op": "ping"}))
        self.assert_closes(raw, 4400)
        raw = self.open_raw(protocol=MSGPACK_PROTOCOL)
        raw.send(TEXT, json.dumps({"op": "ping"}))
        self.assert_closes(raw, 4400)

    def test_undecodable_messages_close_4400(self):
        for data in ("", "{", "[1", "{\"op\":\"ping\"}x", "{'op':'ping'}", "{\"op\":\"ping\",\"op\":\"ping\"", "nan",
                     "[" * 40 + "]" * 40, "{\"op\":\"ping\",\"n\":9007199254740993}"):
            with self.subTest(data=data):
                raw = self.open_raw()
                raw.send(TEXT, data)
                self.assert_closes(raw, 4400)
        for data in (b"", b"\xc1", b"\x81\xa2op", msgpack.packb({"op": "ping", "x": b"bin"}), b"\x81\xa2op\xa4ping\x00",
                     msgpack.packb({"op": "ping", "x": msgpack.ExtType(5, b"x")}), b"\x81\x01\x02",
                     b"\x82\xa2op\xa4ping\xa2op\xa4ping", b"\x82\xa2op\xa4ping\xa1f\xcb\x7f\xf8\0\0\0\0\0\0"):
            with self.subTest(data=data):
                raw = self.open_raw(protocol=MSGPACK_PROTOCOL)
                raw.send(BINARY, data)
                self.assert_closes(raw, 4400)

    def test_a_message_that_is_no_map_closes_or_is_an_error(self):
        for data in ("7", "null", "\"ping\"", "[]", "[{\"op\":\"ping\"}]"):
            raw = self.open_raw()
            raw.send(TEXT, data)
            try:
                self.assertIn("error", raw.expect("reply", timeout=1))
            except Closed:
                pass
            raw.conn.close()

    def test_invalid_utf_8_closes_1007(self):
        raw = self.open_raw()
        raw.send(TEXT, b"{\"op\":\"ping\",\"x\":\"\xff\"}")
        self.assert_closes(raw, (1007, 4400))

    def test_a_message_of_64_kib_is_read_and_a_bigger_one_closes_4413(self):
        raw = self.open_raw()
        filler = "a" * (65536 - len(json.dumps({"op": "ping", "x": ""})))
        raw.send_json({"op": "ping", "x": filler})
        raw.expect("pong")
        raw.send_json({"op": "ping", "x": filler + "a"})
        self.assert_closes(raw, (4413, 1009))

    def test_an_endless_frame_is_refused_by_its_length(self):
        raw = self.open_raw()
        raw.conn.send(b"\x81\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0" + b"a" * 100_000)
        self.assert_closes(raw, (4413, 1009, 1002))

    def test_a_fragmented_message_is_one_message(self):
        raw = self.open_raw()
        text = json.dumps({"op": "subscribe", "id": "frag", "community_id": self.community}).encode()
        for split in (1, 5, len(text) - 1):
            raw.send(TEXT, text[:split], fin=False)
            raw.send(PING, b"between")
            raw.send(CONT, b"", fin=False)
            raw.send(CONT, text[split:])
            self.assertEqual(raw.expect("reply")["id"], "frag")

    def test_a_message_of_one_byte_fragments_is_read(self):
        raw = self.open_raw()
        text = json.dumps({"op": "subscribe", "id": "bytes", "community_id": self.community}).encode()
        last = len(text) - 1
        raw.conn.send(b"".join(raw.frame(CONT if i else TEXT, text[i : i + 1], fin=i == last) for i in range(len(text))))
        self.assertEqual(raw.expect("reply")["id"], "bytes")

    def test_a_frame_that_arrives_bytewise_is_read(self):
        raw = self.open_raw()
        message = {"op": "subscribe", "id": "slow", "community_id": self.community, "filler": "a" * 200}
        raw.conn.send_bytewise(raw.frame(TEXT, json.dumps(message)))
        self.assertEqual(raw.expect("reply")["id"], "slow")

    def test_a_fragmented_message_that_grows_too_big_closes_4413(self):
        raw = self.open_raw()
        raw.send(TEXT, "a" * 1000, fin=False)
        try:
            for _ in range(100):
                raw.send(CONT, "a" * 1000, fin=False)
        except OSError:
            pass
        self.assert_closes(raw, (4413, 1009, 4400))

    def test_ping_frames_are_answered_by_pong_frames(self):
        raw = self.open_raw()
        raw.send(PING, b"payload")
        for first, payload in raw.frames():
            if first == 0x80 | PONG:
                self.assertEqual(payload, b"payload")
                break

    def test_broken_framing_closes_1002(self):
        for name, data in (("reserved bit 2", RawWs.frame(TEXT, "{}", rsv=2)),
                           ("reserved bit 1 without compression", RawWs.frame(TEXT, "{}", rsv=4)),
                           ("reserved opcode", RawWs.frame(3, "x")),
                           ("reserved control opcode", RawWs.frame(11, "x")),
                           ("fragmented control frame", RawWs.frame(PING, "x", fin=False)),
                           ("long control frame", RawWs.frame(PING, "x" * 126)),
                           ("continuation of nothing", RawWs.frame(CONT, "x")),
                           ("text within a fragmented text", RawWs.frame(TEXT, "{", fin=False) + RawWs.frame(TEXT, "{}"))):
            with self.subTest(name):
                raw = self.open_raw()
                raw.conn.send(data)
                self.assert_closes(raw, (1002, 1006))

    def test_an_unmasked_frame_closes_1002(self):
        raw = self.open_raw()
        raw.conn.send(RawWs.frame(TEXT, json.dumps({"op": "ping"}), masked=False))
        self.assert_closes(raw, (1002, 1006))

    def test_a_close_frame_is_answered(self):
        raw = self.open_raw()
        raw.send(CLOSE, (1001).to_bytes(2, "big") + b"bye")
        self.assert_closes(raw, 1001)

    def test_bad_close_frames_end_the_connection_and_nothing_else(self):
        for payload in (b"", b"\x03", b"\x03\xe8\xff\xff", (999).to_bytes(2, "big"), (1006).to_bytes(2, "big"),
                        (5000).to_bytes(2, "big")):
            raw = self.open_raw()
            raw.send(CLOSE, payload)
            self.assertTrue(raw.gone(), payload)


class Compression(WsCase):
    def test_it_is_negotiated_without_context_takeover(self):
        raw = self.open_raw(deflate=True)
        extension = raw.answer.headers["Sec-WebSocket-Extensions"]
        for part in ("permessage-deflate", "server_no_context_takeover", "client_no_context_takeover"):
            self.assertIn(part, extension)

    def test_it_is_not_used_unless_offered(self):
        raw = self.open_raw()
        self.assertNotIn("Sec-WebSocket-Extensions", raw.answer.headers)

    def test_offers_of_every_form_are_answered_within_the_rules(self):
        for offer in ("permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover",
                      "permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=9",
                      "permessage-deflate; client_max_window_bits=10", "permessage-deflate; unknown=1", "x-webkit-deflate",
                      "permessage-deflate; server_max_window_bits=7", "permessage-deflate; server_max_window_bits=9, "
                      "permessage-deflate"):
            with self.subTest(offer):
                raw = self.open_raw(headers=[f"Sec-WebSocket-Extensions: {offer}"])
                raw.send_json({"op": "ping"})
                raw.expect("pong")

    def test_a_library_talks_compressed_both_ways(self):
        for protocol in PROTOCOLS:
            ws = self.open(subprotocols=[protocol], token=self.token(scope="publish"))
            self.assertTrue(ws.conn.extensions, "not negotiated")
            for size in (10, 511, 513, 5000, 50_000):
                text = os.urandom(size // 2).hex()
                data = {"community_id": self.community, "text": text}
                self.assertIn("result", ws.call("publish", type="x", data=data))
                event_id = self.publish(data={"text": text})
                (got,) = ws.events(1)
                self.assertEqual((got["event_id"], got["data"]["text"]), (event_id, text))

    def test_big_messages_are_compressed_and_small_ones_are_not(self):
        raw = self.open_raw(deflate=True)
        self.publish(data={"text": "a" * 20})
        first, _ = raw.message()
        self.assertFalse(first & 0x40, "below 512 bytes: not compressed")
        self.publish(data={"text": "abc" * 2000})
        first, message = raw.message()
        self.assertTrue(first & 0x40, "compressed")
        self.assertEqual(message["events"][0]["data"]["text"], "abc" * 2000)

    def test_a_client_without_compression_gets_the_same_event_plain(self):
        raw = self.open_raw()
        self.publish(data={"text": "abc" * 2000})
        first, message = raw.message()
        self.assertFalse(first & 0x70)
        self.assertEqual(message["events"][0]["data"]["text"], "abc" * 2000)

    def test_a_compressed_message_is_read_whole_and_in_fragments(self):
        raw = self.open_raw(deflate=True)
        data = deflated(json.dumps({"op": "subscribe", "id": "z", "community_id": self.community, "x": "abc" * 5000}))
        raw.send(TEXT, data, rsv=4)
        self.assertEqual(raw.expect("reply")["id"], "z")
        raw.send(TEXT, data[:5], rsv=4, fin=False)
        raw.send(PING, b"")
        raw.send(CONT, data[5:20], fin=False)
        raw.send(CONT, data[20:])
        self.assertEqual(raw.expect("reply")["id"], "z")

    def test_a_final_block_ends_a_message_as_well(self):
        raw = self.open_raw(deflate=True)
        z = zlib.compressobj(9, zlib.DEFLATED, -15)
        raw.send(TEXT, z.compress(b"{\"op\":\"ping\"}") + z.flush() + b"\0", rsv=4)
        raw.expect("pong")

    def test_uncompressed_messages_are_read_beside_compressed_ones(self):
        raw = self.open_raw(deflate=True)
        raw.send_json({"op": "ping"})
        raw.expect("pong")
        raw.send_deflated(json.dumps({"op": "ping"}))
        raw.expect("pong")

    def test_a_bomb_is_refused_and_costs_nothing(self):
        self.open_raw(deflate=True)
        before = self.server.rss_kib()
        for _ in range(3):
            raw = self.open_raw(deflate=True)
            z = zlib.compressobj(9, zlib.DEFLATED, -15)
            bomb = b"".join([z.compress(b"a" * (1 << 20)) for _ in range(48)]) + z.flush(zlib.Z_SYNC_FLUSH)
            self.assertLess(len(bomb), 65536)
            raw.send(TEXT, bomb[:-4], rsv=4)
            self.assert_closes(raw, (4413, 1009))
        self.assertLess(self.server.rss_kib() - before, 8 * 1024)

    def test_garbage_closes_1007(self):
        for data in (b"\xff" * 50, b"\x07garbage", os.urandom(3000)):
            raw = self.open_raw(deflate=True)
            raw.send(TEXT, data, rsv=4)
            self.assert_closes(raw, (1007, 4400))

    # A control frame with RSV1 is not refused: libwebsockets answers it before anybody else sees it, and no
    # public call tells of the bit. It carries nothing and harms nobody.
    def test_a_compressed_continuation_frame_closes_1002(self):
        raw = self.open_raw(deflate=True)
        raw.conn.send(RawWs.frame(TEXT, "{", fin=False) + RawWs.frame(CONT, "}", rsv=4))
        self.assert_closes(raw, (1002, 1006))

    def test_invalid_utf_8_inside_closes_1007(self):
        raw = self.open_raw(deflate=True)
        raw.send_deflated(b"{\"op\":\"ping\",\"x\":\"\xff\"}")
        self.assert_closes(raw, (1007, 4400))


class CompressionOff(WsCase):
    options = {"websocket__compression": "off"}

    def test_an_offer_is_declined(self):
        raw = self.open_raw(headers=["Sec-WebSocket-Extensions: permessage-deflate"])
        self.assertFalse(raw.deflate)
        raw.send_json({"op": "ping"})
        raw.expect("pong")


class Backlog(WsCase):
    options = {"channel__ring_events": "5000", "channel__ring_bytes": "64MiB"}

    def test_a_reader_that_stalls_gets_everything_afterwards_in_order(self):
        """Far more than socket buffers hold: what is behind is pulled when the link takes bytes again."""
        raw = self.open_raw()
        text = os.urandom(4000).hex()
        ids = []
        for _ in range(12):
            ids += self.server.api("publish", [event([self.community], data={"t": text})] * 100)["event_ids"][:]
            time.sleep(0.02)
        got = []
        while len(got) < len(ids):
            message = raw.message(10)[1]
            if message["op"] == "catchup_required":
                self.fail(f"nothing was trimmed: {message}, had {len(got)}")
            got += [e["event_id"] for e in message.get("events", [])]
        self.assertEqual(got, ids)


def leave(server):
    """SIGTERM, without waiting for the end; something must be open that keeps the server from it."""
    server.process.send_signal(signal.SIGTERM)
    until(lambda: b"event=stopping" in server.stderr, "the server to stop")


class Shutdown(TestCase):
    def test_sockets_are_told_before_the_server_leaves(self):
        with Server() as server:
            ws = Ws(server, token=mint())
            ws.expect("welcome")
            server.stop()
            code, reason = ws.closed()
            self.assertIn(code, (1001, 1012), reason)
            for message in ws.received:
                if message["op"] == "goaway":
                    self.assertEqual(message["reason"], "draining")
                    self.assertGreaterEqual(message["reconnect_after_ms"], 0)
                    self.assertIn("websocket", message["transports"])

    def test_a_socket_that_has_not_said_hello_is_told_too(self):
        with Server() as server, RawWs(server) as raw:
            leave(server)
            self.assertEqual(raw.closed(), (1012, "draining"))
            threading.Timer(0.1, raw.conn.close).start()
            server.stop()

    def test_a_poll_that_comes_while_the_server_leaves_is_not_held(self):
        with Server() as server, RawWs(server) as raw:  # which does not close and so keeps it waiting
            client = server.register(new_user())
            with server.raw(f"GET {client.path(timeout=30)} HTTP/1.1\r\nHost: x\r\n") as late:
                server.health()
                leave(server)
                answer = late.send("\r\n").response()
            self.assertEqual((answer.status, answer.value["events"]), (200, []))
            self.assertEqual(answer.headers["Connection"], "close")
            threading.Timer(0.1, raw.conn.close).start()
            server.stop()

    def test_a_held_poll_is_answered_before_the_server_leaves(self):
        with Server() as server:
            with server.register().hold() as conn:
                server.stop()
                answer = conn.response()
                self.assertIn(answer.status, (200, 503), answer)
                if answer.status == 503:
                    self.assert_error(answer, 503, "draining")


if __name__ == "__main__":
    main()
