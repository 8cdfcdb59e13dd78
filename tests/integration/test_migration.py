"""The migration path: four phases switched by SIGHUP on a running server, and what each tells clients."""

import json
import os
import tempfile

from harness import API_KEY, SECRET, Server, TestCase, event, main, mint, new_community, new_user, until
from wsclient import Ws, upgrade

SUNSET = "Sat, 31 Oct 2026 23:59:59 GMT"
LONGPOLL, HYBRID = ["longpoll"], ["websocket", "longpoll"]
RELUCTANT, WEBSOCKET_ONLY = ["longpoll", "websocket"], ["websocket"]


class ReloadCase(TestCase):
    """A server with a configuration file that tests rewrite."""

    phase = "hybrid"

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "parley.conf")
        self.write(phase=self.phase)
        self.server = Server(args=["--config", self.path], key=False).start()
        self.addCleanup(self.server.stop)
        self.user, self.community = new_user(), new_community()

    def write(self, text="", **transport):
        lines = ["[auth]", f"jwt_key = {SECRET}", f"api_key = {API_KEY}", "[transport]"]
        lines += [f"{key} = {value}" for key, value in transport.items()] + [text]
        with open(self.path + ".new", "w") as f:
            f.write("\n".join(lines) + "\n")
        os.rename(self.path + ".new", self.path)

    def transports(self, user=None):
        user = user or self.user
        return self.server.get("/realtime/status", token=mint(user, [self.community])).value["transports"]

    def switch(self, expected, **transport):
        self.write(**transport)
        self.server.hup()
        until(lambda: self.transports() == expected, f"transports {expected}")

    def register(self):
        return self.server.register(self.user, [self.community])

    def open(self, **kw):
        ws = Ws(self.server, token=mint(self.user, [self.community]), **kw)
        self.addCleanup(ws.close)
        ws.welcome = ws.expect("welcome")
        return ws

    def assert_works(self, client):
        event_id = self.server.publish([self.community])
        self.assertEqual(client.ids(), [event_id])


class Phases(ReloadCase):
    def assert_upgrade_refused(self):
        answer, conn = upgrade(self.server, [f"Authorization: Bearer {mint(self.user, [self.community])}"])
        conn.close()
        self.assert_error(answer, 403, "transport_disabled")

    def test_the_whole_path_on_one_server_with_one_queue(self):
        self.switch(LONGPOLL, phase="longpoll")
        client = self.register()
        self.assertEqual(client.registered["transports"], LONGPOLL)
        self.assert_works(client)
        self.assert_upgrade_refused()

        self.switch(HYBRID, phase="hybrid")
        self.assert_works(client)
        ws = self.open(queue_id=client.queue_id)
        self.assertIs(ws.welcome["resumed"], True)
        self.assertEqual(ws.welcome["transports"], HYBRID)
        ws.close(1001)

        self.switch(HYBRID, phase="websocket", sunset=SUNSET)
        answer = client.ask()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Sunset"], SUNSET)
        self.assertRegex(answer.headers["Deprecation"], r"^(@\d+|true)$")
        self.assertRegex(answer.headers["Link"], r'<[^>]+>; *rel="?(successor-version|deprecation|sunset)')
        self.assert_works(client)

        self.switch(WEBSOCKET_ONLY, phase="websocket-only")
        self.assert_error(client.ask(), 410, "transport_gone")
        self.assertIn("/realtime/ws", client.ask().value["message"])
        ws = self.open(queue_id=client.queue_id)
        self.assertEqual(ws.welcome["transports"], WEBSOCKET_ONLY)
        event_id = self.server.publish([self.community])
        self.assertIn(event_id, [e["event_id"] for e in ws.synced()])

        self.switch(HYBRID, phase="hybrid")
        client.position = event_id
        self.assert_works(client)

    def test_polls_carry_no_deprecation_in_other_phases(self):
        for phase, transports in (("longpoll", LONGPOLL), ("hybrid", HYBRID)):
            self.switch(transports, phase=phase, sunset=SUNSET)
            answer = self.register().ask()
            for name in ("Deprecation", "Sunset", "Link"):
                self.assertNotIn(name, answer.headers)

    def test_without_a_date_there_is_no_sunset(self):
        self.switch(HYBRID, phase="websocket")
        client = self.register()
        self.assertEqual(client.ask().status, 200)
        self.assertNotIn("Sunset", client.ask().headers)

    def test_polls_held_over_the_change_lose_nothing(self):
        client = self.register()
        with client.hold() as conn:
            self.switch(WEBSOCKET_ONLY, phase="websocket-only")
            event_id = self.server.publish([self.community])
            answer = conn.response()
        self.assertIn(answer.status, (200, 410))
        if answer.status == 200 and answer.value["events"]:
            self.assertEqual(answer.value["events"][0]["event_id"], event_id)
        ws = self.open(queue_id=client.queue_id, last_event_id=client.position)
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])

    def test_sockets_are_asked_to_go_and_deliver_meanwhile(self):
        ws = self.open()
        self.switch(LONGPOLL, phase="longpoll")
        goaway = ws.expect("goaway")
        self.assertEqual((goaway["reason"], goaway["transports"]), ("transport", LONGPOLL))
        self.assertGreaterEqual(goaway["reconnect_after_ms"], 0)
        event_id = self.server.publish([self.community])
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])
        answer = self.server.get("/realtime/poll", queue_id=ws.welcome["queue_id"], timeout=0,
                                 last_event_id=ws.welcome["last_event_id"])
        self.assertEqual([e["event_id"] for e in answer.value["events"]], [event_id])


class Percent(ReloadCase):
    def test_the_share_follows_the_option_and_is_stable(self):
        users = [new_user() for _ in range(60)]

        def preferring():
            return {u for u in users if self.transports(u) == HYBRID}

        self.assertEqual(len(preferring()), 60)
        self.switch(RELUCTANT, phase="hybrid", websocket_percent=0)
        self.assertEqual(preferring(), set())
        self.write(phase="hybrid", websocket_percent=50)
        self.server.hup()
        until(preferring, "some users to prefer WebSocket")
        half = preferring()
        self.assertTrue(12 <= len(half) <= 48, len(half))
        self.assertEqual(preferring(), half, "by hash of the user, not by chance")
        self.write(phase="hybrid", websocket_percent=80)
        self.server.hup()
        until(lambda: len(preferring()) > len(half), "more users")
        self.assertLessEqual(half, preferring(), "whoever moved stays moved")

    def test_the_others_may_still_connect(self):
        self.switch(RELUCTANT, phase="hybrid", websocket_percent=0)
        self.assertEqual(self.open().welcome["transports"], RELUCTANT)


class BadReload(ReloadCase):
    def reload_bad(self, text):
        before = len(self.server.stderr)
        self.write(text, phase="longpoll")
        self.server.hup()
        until(lambda: len(self.server.stderr) > before, "a line that says why")
        return self.server.stderr[before:].decode()

    def test_a_bad_file_keeps_the_old_options_and_says_why(self):
        client = self.register()
        said = self.reload_bad("[queue]\nttl = never")
        for part in ("parley.conf", "ttl"):
            self.assertIn(part, said)
        self.assertEqual(self.transports(), HYBRID)
        self.assert_works(client)
        self.assertIn("tttl", self.reload_bad("[queue]\ntttl = 5s"))
        self.assertEqual(self.transports(), HYBRID)
        self.switch(LONGPOLL, phase="longpoll")

    def test_the_reason_is_part_of_the_log_record(self):
        self.write("[log]\nformat = json", phase="hybrid")
        self.server.hup()
        until(lambda: b'"event":"reloaded"' in self.server.stderr, "the reload")
        said = self.reload_bad("[queue]\nttl = soon")
        until(lambda: self.server.stderr.endswith(b"\n"), "the whole line")
        (record,) = map(json.loads, said.splitlines())
        self.assertEqual(record["event"], "reload_refused")
        self.assertIn("queue.ttl", record["error"])

    def test_a_file_that_is_gone_keeps_the_old_options(self):
        os.unlink(self.path)
        self.server.hup()
        self.assertEqual(self.transports(), HYBRID)
        self.assert_works(self.register())

    def test_an_option_that_needs_a_restart_is_named(self):
        before = len(self.server.stderr)
        self.write("[server]\nlisten = 127.0.0.1:1", phase="longpoll")
        self.server.hup()
        until(lambda: self.transports() in (LONGPOLL, HYBRID) and len(self.server.stderr) > before, "a log line")
        self.assertEqual(self.server.get("/livez").status, 200)

    def test_a_new_key_is_taken_and_an_old_one_dropped(self):
        other = "another-secret-that-is-long-enough-to-use"
        with open(self.path, "w") as f:
            f.write(f"[auth]\njwt_key = {other}\napi_key = {API_KEY}\n")
        self.server.hup()
        until(lambda: self.server.post("/realtime/register", token=mint(key=other)).status == 200, "the new key")
        self.assert_error(self.server.post("/realtime/register", token=mint()), 401, "token_invalid")

    def test_other_options_are_applied_in_place(self):
        client = self.register()
        ids = [self.server.publish([self.community]) for _ in range(5)]
        self.write("[queue]\nbatch_events = 2", phase="hybrid")
        self.server.hup()
        until(lambda: len(client.ask().value["events"]) == 2, "smaller batches")
        self.assertEqual(client.ids(), ids)

    def test_an_idempotency_key_survives_the_rotation_of_api_keys(self):
        def publish(key, text):
            body = event([self.community], data={"text": text})
            return self.server.post("/realtime/publish", body, headers={"X-API-Key": key, "Idempotency-Key": "k"})

        def keys(*names):
            with open(self.path, "w") as f:
                f.write("\n".join(["[auth]", *(f"api_key = {name}" for name in names)]) + "\n")
            self.server.hup()
            until(lambda: publish(names[0], "first").status in (200, 422), f"the key {names[0]}")

        keys("older")
        first = publish("older", "first").value
        keys("newer", "older")
        self.assertEqual(publish("older", "first").value, first, "published twice")
        self.assertNotEqual(publish("newer", "first").value, first, "keys share their memory")

    def test_many_reloads_in_a_row_do_no_harm(self):
        client = self.register()
        ws = self.open()
        for n in range(30):
            self.write(phase="hybrid", websocket_percent=100 - n % 2)
            self.server.hup()
        self.assert_works(client)
        self.assertEqual(len(ws.events(1)), 1)


if __name__ == "__main__":
    main()
