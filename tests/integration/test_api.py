"""Every HTTP path of the protocol page: its answer in JSON and MessagePack, its errors, its CORS."""

import re
import time

import msgpack

from harness import (embedded_only, API_KEY, JSON, MAX_INT, MSGPACK, Server, ServerCase, TestCase, encode, event, main, mint,
                     new_community, new_user, until)
from wsclient import Ws

CODECS = (JSON, MSGPACK)
ORIGIN = "https://forum.example"


class EmptyBodies(ServerCase):
    def test_a_backend_s_request_without_a_body_is_400(self):
        for path in ("register", "publish", "update-subscriptions", "disconnect"):
            for body in (None, b""):
                with self.subTest(path=path, body=body):
                    self.assert_error(self.server.post("/realtime/" + path, body, api=True), 400)


class Register(ServerCase):
    def test_a_backend_registers_a_user(self):
        for codec in CODECS:
            value = self.server.api("register", {"user_id": 7, "community_ids": [42, 43]}, codec=codec)
            self.assertRegex(value["queue_id"], r"^[A-Za-z0-9_-]{22,}$")
            self.assertEqual(sorted(value["communities"]), [42, 43])
            self.assertIs(value["resumed"], False)
            self.assertEqual(value["transports"], ["websocket", "longpoll"])
            self.assertEqual(value["ping_interval_ms"], 25000)
            self.assertTrue(value["node"])
            self.assertLessEqual(0, value["last_event_id"])
            self.assertLessEqual(value["last_event_id"], MAX_INT)

    def test_queue_ids_differ_and_do_not_count(self):
        ids = {self.server.register(7).queue_id for _ in range(20)}
        self.assertEqual(len(ids), 20)
        self.assertEqual(len({i[:6] for i in ids}), 20, "the first characters alone must be random")

    def test_a_client_registers_with_its_token_and_no_body(self):
        user, community = new_user(), new_community()
        client = self.server.register_token(mint(user, [community]))
        self.assertEqual(client.registered["communities"], [community])
        event_id = self.server.publish([community])
        self.assertEqual(client.ids(), [event_id])

    def test_user_ids_are_integers_or_strings(self):
        for user in (1, MAX_INT, "alice", "ü" * 64, "a" * 128, "12"):
            self.assertEqual(self.server.register(user, [42]).registered["communities"], [42])

    def test_wrong_user_ids_are_400(self):
        for user in (None, True, 1.5, "", "a" * 129, MAX_INT + 1, [1], {"id": 1}, -2**53):
            answer = self.server.post("/realtime/register", {"user_id": user, "community_ids": [42]}, api=True)
            self.assert_error(answer, 400)

    def test_a_decimal_string_is_the_same_user_as_the_integer(self):
        user, community = new_user(), new_community()
        client = self.server.register(str(user), [community])
        self.server.api("update-subscriptions", {"user_id": user, "community_ids": []})
        self.server.publish([community])
        self.assertEqual(client.ids(), [])

    def test_registering_again_resumes_and_acknowledges_for_client_and_backend(self):
        user, community = new_user(), new_community()
        for by_client in (True, False):
            client = self.server.register(user, [community])
            seen, unseen = self.server.publish([community]), self.server.publish([community])
            if by_client:
                again = self.server.post("/realtime/register", token=mint(user, [community]),
                                         queue_id=client.queue_id, last_event_id=seen).value
            else:
                again = self.server.api("register", {"user_id": user, "community_ids": [community],
                                                     "queue_id": client.queue_id, "last_event_id": seen})
            self.assertEqual((again["queue_id"], again["resumed"], again["last_event_id"]),
                             (client.queue_id, True, seen), by_client)
            client.position = None
            self.assertEqual(client.ids(), [unseen])

    def test_neither_community_nor_channel_is_400(self):
        for body in ({"user_id": 7}, {"user_id": 7, "community_ids": []}, {"user_id": 7, "channels": []}):
            self.assert_error(self.server.post("/realtime/register", body, api=True), 400, "no_channel")
        self.assert_error(self.server.post("/realtime/register", token=mint(new_user(), [])), 400, "no_channel")

    def test_missing_and_wrong_credentials_are_401(self):
        body = {"user_id": 7, "community_ids": [42]}
        self.assert_error(self.server.post("/realtime/register", body), 401)
        self.assert_error(self.server.post("/realtime/register"), 401)
        self.assert_error(self.server.post("/realtime/register", body, headers={"X-API-Key": "wrong"}), 401)
        self.assert_error(self.server.post("/realtime/register", body, headers={"X-API-Key": ""}), 401)
        self.assert_error(self.server.post("/realtime/register", token="x.y.z"), 401, "token_invalid")
        self.assert_error(self.server.post("/realtime/register", headers={"Authorization": "Basic YTpi"}), 401)

    def test_wrong_fields_are_400(self):
        for fields in ({"community_ids": 42}, {"community_ids": ["x"]}, {"community_ids": [1.5]},
                       {"community_ids": [42], "subscriptions": {}}, {"community_ids": [42], "version": "x"},
                       {"community_ids": [42], "subscriptions": [{"article_ids": [1]}]},
                       {"community_ids": [42], "subscriptions": [{"community_id": 42, "article_ids": "x"}]},
                       {"community_ids": [42], "last_event_id": "x"}, {"community_ids": [42], "last_event_id": -1},
                       {"channels": [7]}, {"channels": [""]}, {"community_ids": [42], "version": -1}):
            with self.subTest(fields=fields):
                answer = self.server.post("/realtime/register", {"user_id": 7, **fields}, api=True)
                self.assert_error(answer, 400)

    def test_bodies_that_are_no_map_are_400(self):
        for body in (b"[]", b"7", b"null", b"\"x\"", b"{", b"{}x", b"{\"user_id\":7", b"nan"):
            with self.subTest(body=body):
                self.assert_error(self.server.post("/realtime/register", body, api=True), 400)

    def test_unknown_fields_are_ignored(self):
        self.server.api("register", {"user_id": 7, "community_ids": [42], "colour": "red"})


class Poll(ServerCase):
    @embedded_only("a node hears of other channels with the next canary")
    def test_an_empty_poll_moves_the_cursor(self):
        client = self.server.register(new_user(), [new_community()])
        event_id = self.server.publish([new_community()])
        value = client.poll()
        self.assertEqual(value["events"], [])
        self.assertGreaterEqual(value["last_event_id"], event_id)

    def test_an_event_has_the_shape_of_the_protocol_page(self):
        community = new_community()
        data = {"article_id": 789, "community_id": community, "comment": {"text": "Grüße 😀 \u2028", "score": 1.5}}
        for codec in CODECS:
            client = self.server.register(new_user(), [community])
            event_id = self.server.publish([community], "new_comment", data)
            answer = client.ask(codec=codec)
            self.assertEqual(answer.headers["Content-Type"].split(";")[0], codec)
            (got,) = answer.value["events"]
            self.assertRegex(got.pop("timestamp"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            self.assertEqual(got, {"event_id": event_id, "type": "new_comment", "community_ids": [community],
                                   "data": data})
            self.assertGreaterEqual(answer.value["last_event_id"], event_id)

    def test_a_held_poll_is_answered_by_an_event_at_once(self):
        community = new_community()
        with self.server.register(new_user(), [community]).hold() as conn:
            start = time.monotonic()
            event_id = self.server.publish([community])
            self.assertEqual(conn.response().value["events"][0]["event_id"], event_id)
            self.assertLess(time.monotonic() - start, 1)

    def test_timeout_is_obeyed(self):
        client = self.server.register(new_user(), [new_community()])
        start = time.monotonic()
        self.assertEqual(client.poll(timeout=1)["events"], [])
        self.assertGreater(time.monotonic() - start, 0.9)
        self.assertLess(time.monotonic() - start, 2.5)

    def test_a_timeout_is_not_rounded_up_to_the_option(self):
        with Server(longpoll__timeout="2900ms") as server:
            start = time.monotonic()
            server.register().poll(timeout=2)
            self.assertLess(time.monotonic() - start, 2.6)

    def test_wrong_timeouts_are_400(self):
        client = self.server.register(new_user(), [new_community()])
        for timeout in ("x", "-1", "1.5", "", "1s", "9" * 40):
            with self.subTest(timeout=timeout):
                answer = client.ask(timeout)
                if timeout == "9" * 40 and answer.status == 200:
                    continue
                self.assert_error(answer, 400)

    def test_wrong_cursors_are_400(self):
        client = self.server.register(new_user(), [new_community()])
        for value in ("x", "-1", "1.5", "", "+5", " 5", "0x5", str(MAX_INT + 1), "9" * 30, "1e3", "5,6"):
            with self.subTest(value=value):
                self.assert_error(client.ask(last_event_id=value), 400)
        for value in ("x", "-1", str(MAX_INT + 1)):
            with self.subTest(ack=value):
                self.assert_error(client.ask(ack_event_id=value), 400)

    def test_an_unknown_queue_is_404(self):
        for codec in CODECS:
            answer = self.server.get("/realtime/poll", queue_id="A" * 32, last_event_id=0, codec=codec)
            self.assertEqual(answer.headers["Content-Type"].split(";")[0], codec)
            self.assert_error(answer, 404, "queue_not_found")

    def test_no_queue_id_at_all_is_refused(self):
        self.assert_error(self.server.get("/realtime/poll", last_event_id=0), (400, 401, 404))

    def test_a_poll_starts_after_the_greater_of_cursor_and_ack(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        ids = [self.server.publish([community]) for _ in range(3)]
        self.assertEqual([e["event_id"] for e in client.ask(ack_event_id=ids[1]).value["events"]], ids[2:])
        self.assertEqual([e["event_id"] for e in client.ask(last_event_id=ids[0]).value["events"]], ids[1:])

    def test_the_queue_id_may_travel_in_a_header(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        event_id = self.server.publish([community])
        answer = self.server.get("/realtime/poll", last_event_id=client.position, timeout=0,
                                 headers={"X-Realtime-Queue": client.queue_id})
        self.assertEqual([e["event_id"] for e in answer.value["events"]], [event_id])

    def test_polls_are_not_stored_or_buffered_by_proxies(self):
        client = self.server.register(new_user(), [new_community()])
        self.assertEqual(client.ask().headers["X-Accel-Buffering"], "no")
        for answer in (client.ask(), self.server.get("/realtime/poll", queue_id="A" * 32, last_event_id=0)):
            self.assertIn("no-store", answer.headers["Cache-Control"])

    def test_a_token_of_another_user_is_403(self):
        client = self.server.register(new_user(), [42])
        self.assert_error(client.ask(token=mint(new_user(), [42])), 403)

    def test_an_invalid_token_is_401_though_the_queue_is_right(self):
        client = self.server.register(new_user(), [42])
        self.assert_error(client.ask(token="x.y.z"), 401, "token_invalid")

    def test_accept_chooses_the_codec(self):
        client = self.server.register(new_user(), [new_community()])
        for accept, codec in (("*/*", JSON), ("text/html", JSON), ("application/json", JSON),
                              ("application/msgpack", MSGPACK), ("application/vnd.msgpack", MSGPACK)):
            answer = client.ask(codec=accept)
            got = answer.headers["Content-Type"].split(";")[0]
            self.assertEqual(got.replace("vnd.", ""), codec, accept)


class Heartbeat(ServerCase):
    def test_a_heartbeat_is_answered_as_in_the_seeds(self):
        client = self.server.register()
        for answer in (self.server.post("/realtime/heartbeat", queue_id=client.queue_id),
                       self.server.post("/realtime/heartbeat", {"queue_id": client.queue_id}),
                       self.server.post("/realtime/heartbeat", {"queue_id": client.queue_id}, api=True),
                       self.server.post("/realtime/heartbeat", headers={"X-Realtime-Queue": client.queue_id})):
            self.assertEqual((answer.status, answer.value), (200, {"message": "Heartbeat successful"}))

    def test_a_heartbeat_for_a_queue_that_is_gone_is_404(self):
        self.assert_error(self.server.post("/realtime/heartbeat", queue_id="A" * 32), 404, "queue_not_found")
        self.assert_error(self.server.post("/realtime/heartbeat", {"queue_id": "A" * 32}), 404, "queue_not_found")

    def test_a_heartbeat_without_a_queue_is_400(self):
        self.assert_error(self.server.post("/realtime/heartbeat", {}), (400, 404))


class Unregister(ServerCase):
    def test_unregister_ends_the_queue_and_may_be_repeated(self):
        client = self.server.register()
        for _ in range(2):
            self.assertEqual(self.server.post("/realtime/unregister", queue_id=client.queue_id).status, 200)
        self.assert_error(client.ask(), 404, "queue_not_found")

    def test_an_expired_token_ends_nothing_and_says_so(self):
        user = new_user()
        client = self.server.register(user)
        self.assert_error(self.server.post("/realtime/unregister", queue_id=client.queue_id, token=mint(user, ttl=-60)),
                          401, "token_expired")
        client.poll()

    def test_a_beacon_may_carry_any_body(self):
        client = self.server.register()
        answer = self.server.post("/realtime/unregister", b"bye", queue_id=client.queue_id,
                                  headers={"Content-Type": "text/plain;charset=UTF-8"})
        self.assertEqual(answer.status, 200)

    def test_a_poll_held_meanwhile_is_404(self):
        client = self.server.register()
        with client.hold() as conn:
            self.server.post("/realtime/unregister", queue_id=client.queue_id)
            self.assert_error(conn.response(), 404, "queue_not_found")


class Status(ServerCase):
    def test_status_by_token_queue_and_backend(self):
        user = new_user()
        client = self.server.register(user, [42, 43])
        for answer in (self.server.get("/realtime/status", token=mint(user, [42, 43])),
                       self.server.get("/realtime/status", queue_id=client.queue_id),
                       self.server.get("/realtime/status", user_id=user, api=True)):
            self.assertEqual(answer.status, 200, answer)
            value = answer.value
            self.assertEqual(str(value["user_id"]), str(user))
            self.assertEqual(sorted(value["communities"]), [42, 43])
            self.assertIs(value["realtime_enabled"], True)
            self.assertEqual(value["transports"], ["websocket", "longpoll"])
            self.assertIn("queues", value)

    def test_a_user_without_community_is_not_enabled(self):
        value = self.server.get("/realtime/status", user_id=new_user(), api=True).value
        self.assertEqual((value["communities"], value["realtime_enabled"]), ([], False))
        value = self.server.get("/realtime/status", token=mint(new_user(), [])).value
        self.assertIs(value["realtime_enabled"], False)

    def test_status_needs_a_credential(self):
        self.assert_error(self.server.get("/realtime/status"), 401)
        self.assert_error(self.server.get("/realtime/status", user_id=7), 401)
        self.assert_error(self.server.get("/realtime/status", queue_id="A" * 32), 404, "queue_not_found")


class Cursor(ServerCase):
    def test_a_cursor_is_at_least_the_last_event(self):
        event_id = self.server.publish()
        client = self.server.register()
        for answer in (self.server.get("/realtime/cursor", api=True),
                       self.server.get("/realtime/cursor", token=mint()),
                       self.server.get("/realtime/cursor", queue_id=client.queue_id)):
            self.assertEqual(answer.status, 200, answer)
            self.assertGreaterEqual(answer.value["last_event_id"], event_id)

    def test_a_cursor_is_below_the_next_event(self):
        cursor = self.server.cursor()
        self.assertLess(cursor, self.server.publish())

    def test_a_cursor_needs_a_credential(self):
        self.assert_error(self.server.get("/realtime/cursor"), 401)


class UpdateSubscriptions(ServerCase):
    def test_the_number_of_queues_is_told(self):
        user = new_user()
        for queues in range(3):
            value = self.server.api("update-subscriptions", {"user_id": user, "community_ids": [42, 43]})
            self.assertEqual(value, {"queues": queues})
            self.server.register(user, [42, 43])

    def test_fields_are_checked(self):
        for body in ({}, {"user_id": 7}, {"community_ids": [42]}, {"user_id": 7, "community_ids": "42"},
                     {"user_id": 7, "community_ids": [42], "version": -1}, {"user_id": 7, "community_ids": [None]}):
            with self.subTest(body=body):
                self.assert_error(self.server.post("/realtime/update-subscriptions", body, api=True), 400)

    def test_only_the_backend_may(self):
        body = {"user_id": 7, "community_ids": [42]}
        self.assert_error(self.server.post("/realtime/update-subscriptions", body), 401)
        self.assert_error(self.server.post("/realtime/update-subscriptions", body, token=mint()), (401, 403))

    def test_an_older_version_never_overrides_a_newer(self):
        user, old, new = new_user(), new_community(), new_community()
        self.server.api("update-subscriptions", {"user_id": user, "community_ids": [new], "version": 5})
        self.server.api("update-subscriptions", {"user_id": user, "community_ids": [old], "version": 4})
        client = self.server.register(user, [old], version=3)
        self.assertEqual(client.registered["communities"], [new])
        self.server.publish([old])
        event_id = self.server.publish([new])
        self.assertEqual(client.ids(), [event_id])

    def test_an_update_without_queues_outranks_a_register_that_read_its_list_before(self):
        user, old, new = new_user(), new_community(), new_community()
        self.server.api("update-subscriptions", {"user_id": user, "community_ids": [new]})
        self.assertEqual(self.server.register(user, [old]).registered["communities"], [new])


class Publish(ServerCase):
    def test_ids_grow_and_follow_the_clock(self):
        ids = [self.server.publish() for _ in range(20)]
        self.assert_growing(ids)
        self.assertLess(abs(ids[-1] // 1024 - time.time() * 1000), 5000)
        self.assertLess(ids[-1], 2**53)

    def test_an_array_is_answered_with_its_ids_in_order(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        for codec in CODECS:
            batch = [event([community], data={"n": n}) for n in range(1000 if codec == JSON else 3)]
            ids = self.server.api("publish", batch, codec=codec)["event_ids"]
            self.assert_growing(ids)
            events = client.drain()
            self.assertEqual([(e["event_id"], e["data"]["n"]) for e in events], list(zip(ids, range(len(batch)))))

    def test_an_array_of_one_is_answered_as_an_array(self):
        self.assertEqual(len(self.server.api("publish", [event()])["event_ids"]), 1)

    def test_an_array_is_all_or_nothing(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        for bad in ({"type": "x", "data": {}}, {"community_ids": [1], "data": {}}, 7, None, {}):
            answer = self.server.post("/realtime/publish", [event([community]), bad, event([community])], api=True)
            self.assert_error(answer, 400)
        self.assertEqual(client.ids(), [])

    def test_an_array_is_of_1_to_1000(self):
        self.assert_error(self.server.post("/realtime/publish", [], api=True), 400)
        self.assert_error(self.server.post("/realtime/publish", [event()] * 1001, api=True), (400, 413))

    def test_no_channel_is_400(self):
        for fields in ({}, {"community_ids": []}, {"channels": []}):
            answer = self.server.post("/realtime/publish", {"type": "x", "data": {}, **fields}, api=True)
            self.assert_error(answer, 400, "no_channel")

    def test_wrong_fields_are_400(self):
        for fields in ({"type": 7}, {"type": ""}, {"type": None}, {"data": 7}, {"data": []}, {"community_ids": 42},
                       {"community_ids": ["x"]}, {"community_ids": [2**53]}, {"subscriber_ids": 7},
                       {"subscriber_ids": [None]}, {"subscriber_ids": [{}]}, {"exclude_user_id": {}},
                       {"exclude_queue_id": 7}, {"timestamp": 7}, {"channels": [7]}, {"traceparent": 7}):
            with self.subTest(fields=fields):
                self.assert_error(self.server.post("/realtime/publish", {**event(), **fields}, api=True), 400)

    def test_a_given_timestamp_and_traceparent_are_kept(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        given = {"timestamp": "2024-02-29T12:00:00.123Z",
                 "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        self.server.publish([community], **given)
        (got,) = client.drain()
        self.assertEqual({k: got[k] for k in given}, given)

    def test_too_many_recipients_are_413(self):
        self.server.publish(subscriber_ids=list(range(20_000)))
        answer = self.server.post("/realtime/publish", event(subscriber_ids=list(range(20_001))), api=True)
        self.assert_error(answer, 413, "too_big")

    def test_a_body_of_a_mebibyte_is_taken_and_one_byte_more_is_413(self):
        empty = len(encode(event(data={"text": ""})))
        self.server.publish(data={"text": "a" * (1024 * 1024 - empty)})
        answer = self.server.post("/realtime/publish", event(data={"text": "a" * (1024 * 1024 - empty + 1)}), api=True)
        self.assert_error(answer, 413, "too_big")

    def test_only_the_backend_may(self):
        self.assert_error(self.server.post("/realtime/publish", event()), 401)
        self.assert_error(self.server.post("/realtime/publish", event(), token=mint(scope="publish")), (401, 403))
        self.assert_error(self.server.post("/realtime/publish", event(), headers={"X-API-Key": API_KEY + "x"}), 401)

    def test_an_idempotency_key_publishes_once(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        body, key = event([community]), {"Idempotency-Key": f"key-{community}"}
        first = self.server.api("publish", body, headers=key)
        self.assertEqual(self.server.api("publish", body, headers=key), first)
        self.assertEqual(client.ids(), [first["event_id"]])
        other = self.server.post("/realtime/publish", event([community], type="other"), api=True, headers=key)
        self.assert_error(other, 422, "idempotency_mismatch")
        self.assertEqual(client.ids(), [])

    def test_an_idempotency_key_covers_an_array(self):
        batch, key = [event(), event()], {"Idempotency-Key": "an-array"}
        first = self.server.api("publish", batch, headers=key)
        self.assertEqual(self.server.api("publish", batch, headers=key), first)

    def test_an_idempotency_key_has_at_most_255_bytes(self):
        self.server.api("publish", event(), headers={"Idempotency-Key": "k" * 255})
        answer = self.server.post("/realtime/publish", event(), api=True, headers={"Idempotency-Key": "k" * 256})
        self.assert_error(answer, 400)

    def test_a_refused_publish_does_not_use_up_its_key(self):
        key = {"Idempotency-Key": "second-try"}
        self.assert_error(self.server.post("/realtime/publish", {"type": "x"}, api=True, headers=key), 400)
        self.server.api("publish", event(), headers=key)


class Send(ServerCase):
    def setUp(self):
        super().setUp()
        self.community = new_community()
        self.client = self.server.register(new_user(), [self.community])

    def subscribe(self, id, **fields):
        return {"op": "subscribe", "id": id, "community_id": self.community, **fields}

    def test_one_message_is_answered_with_one_reply(self):
        for codec in CODECS:
            (reply,) = self.client.send(self.subscribe("a"), codec=codec)
            self.assertEqual((reply["op"], reply["id"]), ("reply", "a"))
            self.assertIn("result", reply)

    def test_replies_come_in_order_one_per_message_that_has_one(self):
        replies = self.client.send([self.subscribe(1), {"op": "ack", "event_id": 1}, {"op": "dance", "id": 2},
                                    self.subscribe(3, community_id=new_community()), self.subscribe(4)])
        self.assertEqual([(r["id"], "error" in r) for r in replies], [(1, False), (2, True), (3, True), (4, False)])
        self.assertEqual([r["error"]["code"] for r in replies[1:3]], ["unknown_op", "forbidden"])

    def test_an_empty_array_has_no_replies(self):
        self.assertEqual(self.client.send([]), [])

    def test_more_than_100_messages_are_400(self):
        self.assert_error(self.client.send([{"op": "ping"}] * 101, expect=400), 400)

    def test_undecodable_bytes_are_400(self):
        for body in (b"", b"{", b"\xff\xfe", b"7", b"\"x\"", b"null"):
            with self.subTest(body=body):
                self.assert_error(self.client.send(body, expect=400), 400)
        self.assert_error(self.client.send(b"\xc1", expect=400, codec=MSGPACK), 400)

    def test_bad_fields_fail_alone(self):
        bad = [{"op": "subscribe", "id": 1}, {"op": "subscribe", "id": 2, "community_id": "x"}, {"id": 3}, {"op": 7}]
        replies = self.client.send([*bad, self.subscribe(5)])
        self.assertEqual([("error" in r) for r in replies], [True] * 4 + [False])

    def test_hello_and_pong_are_not_for_here(self):
        for op in ("hello", "pong"):
            answer = self.server.post("/realtime/send", {"op": op}, queue_id=self.client.queue_id)
            if answer.status == 200:
                self.assertTrue(all("error" in r for r in answer.value["replies"]), answer)
            else:
                self.assert_error(answer, 400)

    def test_an_unknown_queue_is_404(self):
        answer = self.server.post("/realtime/send", {"op": "ping"}, queue_id="A" * 32)
        self.assert_error(answer, 404, "queue_not_found")

    def test_publish_needs_a_token_with_the_scope(self):
        user = new_user()
        message = {"op": "publish", "id": 1, "type": "new_comment", "data": {"community_id": self.community}}
        (reply,) = self.client.send(message)
        self.assertIn(reply["error"]["code"], ("forbidden", "unauthorized"))
        for scope, allowed in ((None, False), ("read", False), ("publish", True), ("read publish", True)):
            token = mint(user, [self.community], scope=scope)
            (reply,) = self.server.register_token(token).send(message, token=token)
            self.assertEqual("result" in reply, allowed, (scope, reply))
            if allowed:
                self.assertIsInstance(reply["result"]["event_id"], int)

    def test_a_body_beyond_64_kib_is_413(self):
        answer = self.client.send({"op": "ping", "x": "a" * 65536}, expect=413)
        self.assert_error(answer, 413, "too_big")


class Disconnect(ServerCase):
    def test_a_user_is_disconnected(self):
        user = new_user()
        clients = [self.server.register(user) for _ in range(3)]
        with clients[0].hold() as conn:
            self.assertEqual(self.server.api("disconnect", {"user_id": user}), {"queues": 3})
            self.assert_error(conn.response(), (403, 404))
        for client in clients:
            self.assert_error(client.ask(), (403, 404), ("disconnected", "queue_not_found"))

    def test_one_queue_is_disconnected_and_others_are_not(self):
        user = new_user()
        one, other = self.server.register(user), self.server.register(user)
        self.assertEqual(self.server.api("disconnect", {"queue_id": one.queue_id}), {"queues": 1})
        self.assert_error(one.ask(), (403, 404))
        other.poll()

    def test_nobody_to_disconnect_is_no_error(self):
        self.assertEqual(self.server.api("disconnect", {"user_id": new_user()}), {"queues": 0})

    def test_older_tokens_are_refused_and_newer_are_not(self):
        user = new_user()
        old = mint(user, iat=int(time.time()) - 5)
        self.server.register_token(old)
        self.server.api("disconnect", {"user_id": user})
        self.assert_error(self.server.post("/realtime/register", token=old), (401, 403))
        time.sleep(1.1)
        self.server.register_token(mint(user))

    def test_block_s_refuses_new_tokens_for_a_while(self):
        user = new_user()
        self.server.api("disconnect", {"user_id": user, "block_s": 2})
        self.assert_error(self.server.post("/realtime/register", token=mint(user)), 403)
        until(lambda: self.server.post("/realtime/register", token=mint(user)).status == 200, "the block to end", 6)

    def test_fields_and_credentials_are_checked(self):
        for body in ({}, {"user_id": []}, {"queue_id": 7}, {"user_id": 7, "block_s": "x"},
                     {"user_id": 7, "block_s": -1}):
            with self.subTest(body=body):
                self.assert_error(self.server.post("/realtime/disconnect", body, api=True), 400)
        self.assert_error(self.server.post("/realtime/disconnect", {"user_id": 7}), 401)


class Connections(ServerCase):
    options = {"server__node": "left"}

    def ask(self, user, **kw):
        return self.server.get("/realtime/connections", api=True, user_id=user, **kw)

    def listed(self, user):
        value = self.ask(user).value
        self.assertEqual(value["user_id"], user)
        return {connection["queue_id"]: connection for connection in value["connections"]}

    def test_a_user_s_queues_are_listed_with_their_links(self):
        user, before = new_user(), time.time() * 1000
        idle, held = self.server.register(user), self.server.register(user)
        token = mint(user)
        with held.hold(), Ws(self.server, token) as ws:
            own = ws.expect("welcome")["queue_id"]
            transports = {idle.queue_id: "none", held.queue_id: "longpoll", own: "websocket"}
            until(lambda: {q: c["transport"] for q, c in self.listed(user).items()} == transports, "the three to be listed")
            for queue_id, connection in self.listed(user).items():
                self.assertEqual(set(connection), {"queue_id", "node", "transport", "since"})
                self.assertEqual(connection["node"], "left")
                if queue_id != idle.queue_id:
                    self.assertTrue(before - 1000 <= connection["since"] <= time.time() * 1000 + 1000, connection)

    def test_a_queue_from_the_list_can_be_ended(self):
        user = new_user()
        client = self.server.register(user)
        (connection,) = self.ask(user).value["connections"]
        self.assertEqual(self.server.api("disconnect", {"queue_id": connection["queue_id"]}), {"queues": 1})
        self.assertEqual(self.ask(user).value["connections"], [])
        self.assert_error(client.ask(), (403, 404))

    def test_nobody_is_an_empty_list_in_both_codecs(self):
        for user in (new_user(), "nobody-at-all"):
            for codec in CODECS:
                self.assertEqual(self.ask(user, codec=codec).value, {"user_id": user, "connections": []})

    def test_it_is_for_backends_and_for_one_user(self):
        self.server.register(7)
        for answer in (self.server.get("/realtime/connections?user_id=7"),
                       self.server.get("/realtime/connections?user_id=7", token=mint(7)),
                       self.server.get("/realtime/connections?user_id=7", headers={"X-API-Key": "wrong"})):
            self.assert_error(answer, 401)
        for query in ("", "?user_id=", "?user_id=%ff", "?user_id=" + "a" * 129, "?user=7"):
            self.assert_error(self.server.get("/realtime/connections" + query, api=True), 400)
        self.assert_error(self.server.post("/realtime/connections?user_id=7", {}, api=True), 405)


class Operators(ServerCase):
    def test_health_has_the_fields_of_the_seeds_and_the_bus(self):
        for path in ("/health", "/realtime/health"):
            value = self.server.get(path).value
            self.assertEqual(value["status"], "healthy")
            for field in ("active_queues", "pending_polls", "uptime"):
                self.assertGreaterEqual(value[field], 0)
            self.assertIn("bus", value)

    def test_health_counts_queues(self):
        before = self.server.health()["active_queues"]
        client = self.server.register()
        self.assertEqual(self.server.health()["active_queues"], before + 1)
        self.server.post("/realtime/unregister", queue_id=client.queue_id)
        self.assertEqual(self.server.health()["active_queues"], before)

    def test_alive_and_ready(self):
        self.assertEqual(self.server.get("/livez").status, 200)
        self.assertEqual(self.server.get("/readyz").status, 200)

    def test_metrics_are_in_prometheus_text_format(self):
        self.server.register().poll()
        self.server.publish()
        answer = self.server.get("/metrics")
        self.assertTrue(answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer)
        text = answer.body.decode()
        self.assertTrue(text.endswith("\n"))
        sample = re.compile(r'^[a-z_:][a-z0-9_:]*(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [-+0-9.eE]+(Inf|NaN)?$')
        typed = set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                typed.add(line.split()[2])
            elif not line.startswith("#"):
                self.assertRegex(line, sample)
                name = re.sub(r"_(bucket|sum|count)$", "", re.match(r"[a-z0-9_:]+", line)[0])
                self.assertTrue(name in typed or re.match(r"[a-z0-9_:]+", line)[0] in typed, line)
        for name in ("realtime_connections", "realtime_active_queues", "realtime_events_published_total",
                     "realtime_events_delivered_total", "realtime_delivery_latency_seconds", "realtime_pending_polls",
                     "realtime_catchup_required_total", "realtime_resumes_total", "realtime_websocket_closes_total",
                     "realtime_bytes_sent_total", "realtime_loop_lag_seconds", "realtime_build_info"):
            self.assertIn(name, typed)

    def test_metrics_count_what_happened(self):
        number = self.server.metric
        published = 'realtime_events_published_total{source="backend"}'
        delivered = 'realtime_events_delivered_total{transport="longpoll"}'
        before = number(published), number(delivered)
        community = new_community()
        client = self.server.register(new_user(), [community])
        for _ in range(3):
            self.server.publish([community])
        client.drain()
        self.assertEqual((number(published), number(delivered)), (before[0] + 3, before[1] + 3))


class MessagePack(ServerCase):
    """The JSON model and nothing more, in both directions."""

    def test_a_whole_conversation(self):
        user, community = new_user(), new_community()
        registered = self.server.api("register", {"user_id": user, "community_ids": [community]}, codec=MSGPACK)
        event_id = self.server.api("publish", event([community]), codec=MSGPACK)["event_id"]
        answer = self.server.get("/realtime/poll", queue_id=registered["queue_id"], timeout=0,
                                 last_event_id=registered["last_event_id"], codec=MSGPACK)
        self.assertEqual([e["event_id"] for e in answer.value["events"]], [event_id])
        self.assertEqual(answer.body, msgpack.packb(answer.value), "the shortest form of everything")

    def test_errors_too(self):
        answer = self.server.post("/realtime/publish", {"type": "x"}, api=True, codec=MSGPACK)
        self.assertEqual(answer.headers["Content-Type"].split(";")[0], MSGPACK)
        self.assert_error(answer, 400)
        answer = self.server.get("/nowhere", codec=MSGPACK)
        self.assertEqual(answer.headers["Content-Type"].split(";")[0], MSGPACK)
        self.assert_error(answer, 404)

    def test_data_round_trips_from_one_codec_to_the_other(self):
        community = new_community()
        data = {"n": None, "t": True, "f": 1.5, "i": [0, -1, 127, 128, -129, 65536, -MAX_INT, MAX_INT],
                "s": ["", "a" * 40, "b" * 300, "ü😀"], "m": {"k": {"x": [[], {}]}}, "z": -0.25, "big": 1e300}
        for publish in CODECS:
            for poll in CODECS:
                client = self.server.register(new_user(), [community])
                self.server.api("publish", event([community], data=data), codec=publish)
                (got,) = client.ask(codec=poll).value["events"]
                self.assertEqual(got["data"], data, (publish, poll))

    def test_a_vendor_content_type_is_taken(self):
        answer = self.server.post("/realtime/publish", msgpack.packb(event()), api=True,
                                  headers={"Content-Type": "application/vnd.msgpack"})
        self.assertEqual(answer.status, 200)

    def test_an_unknown_content_type_is_415(self):
        answer = self.server.post("/realtime/publish", b"<a/>", api=True, headers={"Content-Type": "application/xml"})
        self.assert_error(answer, 415, "media_type")


class Cors(ServerCase):
    options = {"auth__allowed_origins": ORIGIN + ", https://other.example:8443"}
    CLIENT = (("POST", "/realtime/register"), ("GET", "/realtime/poll"), ("POST", "/realtime/send"),
              ("POST", "/realtime/heartbeat"), ("POST", "/realtime/unregister"), ("GET", "/realtime/status"),
              ("GET", "/realtime/cursor"), ("GET", "/realtime/ws"))
    BACKEND = tuple(("POST", "/realtime/" + name) for name in ("publish", "update-subscriptions", "disconnect"))

    def ask(self, method, path, origin=ORIGIN, **kw):
        headers = {"Origin": origin, **kw.pop("headers", {})}
        return self.server.request(method, path, headers=headers, **kw)

    def assert_allowed(self, answer, origin=ORIGIN):
        self.assertEqual(answer.headers.get_all("Access-Control-Allow-Origin"), [origin], answer)
        self.assertIn("origin", answer.headers.get("Vary", "").lower(), answer)

    def test_success_and_every_error_carry_it(self):
        client = self.server.register(new_user(), [new_community()])
        poll = client.path(timeout=0)
        answers = {200: self.ask("GET", poll), 404: self.ask("GET", poll.replace(client.queue_id, "A" * 32)),
                   400: self.ask("GET", poll + "x"), 401: self.ask("GET", poll, token="x.y.z"),
                   403: self.ask("GET", poll, token=mint(new_user())), 405: self.ask("PUT", "/realtime/poll"),
                   413: self.ask("POST", f"/realtime/send?queue_id={client.queue_id}", body=b"a" * 70_000),
                   414: self.ask("GET", poll + "&x=" + "a" * 20_000)}
        for status, answer in answers.items():
            self.assertEqual(answer.status, status, answer)
            if status != 414:  # refused before its path is known
                self.assert_allowed(answer)
            exposed = answer.headers.get("Access-Control-Expose-Headers", "")
            for name in ("Retry-After", "Deprecation", "Sunset", "Link") if status != 414 else ():
                self.assertIn(name.lower(), exposed.lower(), answer)

    def test_a_replaced_poll_carries_it(self):
        client = self.server.register(new_user(), [new_community()])
        with self.server.hold(client.path(timeout=20), f"Origin: {ORIGIN}\r\n") as first:
            client.ask(timeout=0)
            answer = first.response()
            self.assert_error(answer, 409, "replaced")
            self.assert_allowed(answer)

    def test_every_client_path_answers_a_preflight(self):
        for method, path in self.CLIENT:
            asked = {"Access-Control-Request-Method": method,
                     "Access-Control-Request-Headers": "authorization, content-type"}
            answer = self.ask("OPTIONS", path, headers=asked)
            self.assertIn(answer.status, (200, 204), path)
            self.assert_allowed(answer)
            self.assertIn(method, answer.headers["Access-Control-Allow-Methods"], path)
            allowed = answer.headers["Access-Control-Allow-Headers"].lower()
            for name in ("authorization", "content-type", "x-realtime-queue"):
                self.assertIn(name, allowed)
            self.assertEqual(answer.headers["Access-Control-Max-Age"], "86400")

    def test_every_listed_origin_is_echoed(self):
        for origin in (ORIGIN, "https://other.example:8443"):
            self.assert_allowed(self.ask("GET", "/realtime/status", origin), origin)

    def test_no_other_origin_is(self):
        for origin in ("https://forum.example.evil.example", "https://evilforum.example", "http://forum.example",
                       "https://forum.example:8443", "https://FORUM.example.", "null", "https://forum.example/", "*",
                       "https://sub.forum.example", "https://forum.exampl", "forum.example"):
            for method, path in (("GET", "/realtime/status"), ("OPTIONS", "/realtime/poll")):
                answer = self.ask(method, path, origin)
                self.assertIsNone(answer.headers.get("Access-Control-Allow-Origin"), (origin, answer))

    def test_an_answer_without_an_origin_still_varies(self):
        answer = self.server.get("/realtime/status")
        self.assertIsNone(answer.headers.get("Access-Control-Allow-Origin"))
        self.assertIn("origin", answer.headers.get("Vary", "").lower())

    def test_backend_paths_never_carry_it(self):
        for method, path in self.BACKEND:
            for answer in (self.ask(method, path, body=event(), api=True), self.ask(method, path, body={}),
                           self.ask("OPTIONS", path, headers={"Access-Control-Request-Method": method})):
                for name in answer.headers:
                    self.assertFalse(name.lower().startswith("access-control-"), (path, answer))


class SameOrigin(ServerCase):
    def test_the_server_s_own_origin_is_accepted_and_others_are_not(self):
        own = self.server.get("/realtime/status", headers={"Origin": self.server.origin})
        self.assertIn(own.headers.get("Access-Control-Allow-Origin"), (None, self.server.origin))
        for origin in ("http://localhost:1", "http://127.0.0.1", self.server.origin + ".evil.example"):
            answer = self.server.get("/realtime/status", headers={"Origin": origin})
            self.assertIsNone(answer.headers.get("Access-Control-Allow-Origin"), origin)


class InternalListen(ServerCase):
    options = {"server__internal_listen": "127.0.0.1:0"}
    INTERNAL = (("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics"), ("POST", "/realtime/publish"),
                ("POST", "/realtime/update-subscriptions"), ("POST", "/realtime/disconnect"))

    def test_operator_and_backend_paths_answer_only_there(self):
        for method, path in self.INTERNAL:
            self.assert_error(self.server.request(method, path, b"{}", api=True), 404, "not_found")
            self.assertNotEqual(self.server.request(method, path, b"{}", api=True, internal=True).status, 404, path)

    def test_health_answers_on_both(self):
        for internal in (False, True):
            self.assertEqual(self.server.get("/health", internal=internal).value["status"], "healthy")

    def test_what_is_published_there_arrives_here(self):
        community = new_community()
        client = self.server.register_token(mint(new_user(), [community]))
        event_id = self.server.api("publish", event([community]), internal=True)["event_id"]
        self.assertEqual(client.ids(), [event_id])


class Credentials(TestCase):
    def test_a_required_token_is_required(self):
        user = new_user()
        with Server(auth__require_token="on") as server:
            client = server.register(user)
            self.assert_error(client.ask(), 401)
            self.assertEqual(client.ask(token=mint(user)).status, 200)
            self.assert_error(server.post("/realtime/send", {"op": "ping"}, queue_id=client.queue_id), 401)

    def test_a_token_in_the_query_needs_the_option(self):
        for option, status in (("off", 401), ("on", 200)):
            with Server(auth__query_token=option) as server:
                token = mint()
                self.assertEqual(server.post("/realtime/register", query_token=token).status, 401)
                self.assertEqual(server.post(f"/realtime/register?token={token}").status, status)
                self.assertNotIn(token[:60].encode(), server.stderr, "a token must not be logged")

    def test_an_unknown_api_key_is_told_what_is_needed(self):
        with Server() as server:
            for body in (None, {"type": "x"}):
                answer = server.post("/realtime/publish", body, headers={"X-API-Key": "no"})
                self.assertIn("X-API-Key", self.assert_error(answer, 401, "unauthorized")["message"])

    def test_several_api_keys_work(self):
        with Server(auth__api_key=["first-of-two-keys", "second-of-two-keys"]) as server:
            for key in ("first-of-two-keys", "second-of-two-keys"):
                self.assertEqual(server.post("/realtime/publish", event(), headers={"X-API-Key": key}).status, 200)
            self.assertEqual(server.post("/realtime/publish", event(), headers={"X-API-Key": "third"}).status, 401)

    def test_a_secret_is_chosen_by_kid(self):
        old, new = "old-secret-" * 4, "new-secret-" * 4
        with Server(auth__jwt_key=[f"kid:old {old}", f"kid:new {new}"]) as server:
            for kid, key, status in (("old", old, 200), ("new", new, 200), ("old", new, 401), ("x", new, 401)):
                answer = server.post("/realtime/register", token=mint(key=key, headers={"kid": kid}))
                self.assertEqual(answer.status, status, (kid, answer))

    def test_a_queue_ends_with_its_token_unless_a_newer_one_comes(self):
        with Server(auth__leeway="0") as server:
            user, community = new_user(), new_community()
            client = server.register_token(mint(user, [community], ttl=2))
            backend = server.register(user, [community])
            with client.hold() as conn:
                self.assert_error(conn.response(), 401, "token_expired")
            self.assert_error(client.ask(), 401, "token_expired")
            event_id = server.publish([community])
            answer = client.ask(token=mint(user, [community]))
            self.assertEqual([e["event_id"] for e in answer.value["events"]], [event_id])
            self.assertEqual(client.ask().status, 200, "the newer token extends the queue")
            self.assertEqual(backend.ids(), [event_id])


if __name__ == "__main__":
    main()
