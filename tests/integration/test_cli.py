"""`parley`, the command-line tool: its commands against a real server, its help, exit codes and errors."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import jwt
import msgpack
import redis

from harness import (embedded_only, API_KEY, PARLEY, ROOT, SANITIZER, SECRET, Proxy, Server, ServerCase, TestCase, clean_env, event, main,
                     mint, new_community, new_user, until)
from pages import Child, free_port

KEY = ["--key", SECRET]
WHO = ["--user", "7", "--communities", "42"]


def run(*args, env=None, stdin=None, timeout=15):
    """Runs parley to its end: (exit code, stdout, stderr)."""
    done = subprocess.run([PARLEY, *map(str, args)], capture_output=True, text=True, timeout=timeout,
                          env=clean_env(env), input=stdin or "")
    assert not SANITIZER.search(done.stderr.encode()), done.stderr
    return done.returncode, done.stdout, done.stderr


class Help(TestCase):
    COMMANDS = ("token", "publish", "watch", "stats", "nodes", "log", "kick", "doctor", "check-config")

    def test_help_lists_the_commands(self):
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for command in self.COMMANDS:
            self.assertIn(command, out)

    def test_each_command_has_a_help_with_its_options(self):
        for command, options in (("token", ("--user", "--communities", "--ttl")),
                                 ("publish", ("--community", "--type", "--data")),
                                 ("watch", ("--user", "--communities", "--transport", "--codec")),
                                 ("stats", ("--url",)), ("nodes", ("--bus", "--all")),
                                 ("log", ("--bus", "--community", "--control", "--since")),
                                 ("kick", ("--user", "--block", "--api-key")),
                                 ("doctor", ("--bus", "--url", "--patience", "--json")), ("check-config", ("--config",))):
            code, out, err = run(command, "--help")
            self.assertEqual((code, err), (0, ""), command)
            for option in options:
                self.assertIn(option, out)

    def test_version(self):
        code, out, _ = run("--version")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"\d+\.\d+\.\d+")

    def test_wrong_usage_is_2_and_says_what_on_stderr(self):
        for args, word in (([], "command"), (["dance"], "dance"), (["token"], "--user"),
                           (["token", "--nonsense"], "nonsense"), (["token", "--user"], "--user"), (["publish", "--community", "42"], "--"),
                           (["token", "--user", "7", "--communities", "x", *KEY], "communit"),
                           (["token", "--user", "7", "--communities", "42,,43", *KEY], "communit"),
                           (["token", *WHO, "--ttl", "soon", *KEY], "ttl"),
                           (["watch", *WHO, "--transport", "pigeon", *KEY], "websocket"),
                           (["watch", *WHO, "--codec", "xml", *KEY], "msgpack"),
                           (["publish", "--community", "42", "--type", "x", "--data", "{", "--api-key", "k"], "data"),
                           (["kick"], "--user"), (["kick", "--user", "7", "--block", "1500ms"], "--block"),
                           (["log"], "--community"), (["log", "--community", "x", "--bus", "redis://h"], "--community"),
                           (["log", "--community", "42", "--control"], "--control"),
                           (["log", "--control", "--limit", "1001"], "--limit"),
                           (["nodes"], "memory:"), (["nodes", "--bus", "rediss://h"], "tls"),
                           (["nodes", "--bus", "memory:"], "memory:"), (["log", "--control"], "memory:"),
                           (["token", "stray", "--user", "7", "--communities", "42"], "stray")):
            with self.subTest(args=args):
                code, out, err = run(*args)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(word, err.lower())


class Token(ServerCase):
    def decode(self, text, key=SECRET):
        return jwt.decode(text.strip(), key, algorithms=["HS256"])

    def test_it_prints_a_jwt_that_the_server_takes(self):
        code, out, err = run("token", "--user", 7, "--communities", "42,43", "--ttl", "1h", *KEY)
        self.assertEqual((code, err), (0, ""))
        claims = self.decode(out)
        self.assertEqual((claims["sub"], claims["communities"]), ("7", [42, 43]))
        self.assertAlmostEqual(claims["exp"] - claims["iat"], 3600, delta=1)
        self.assertAlmostEqual(claims["iat"], time.time(), delta=5)
        registered = self.server.register_token(out.strip()).registered
        self.assertEqual(registered["communities"], [42, 43])

    def test_the_life_is_as_asked(self):
        for ttl, seconds in (("30s", 30), ("15m", 900), ("1d", 86400), ("90", 90)):
            claims = self.decode(run("token", "--user", 7, "--communities", 42, "--ttl", ttl, *KEY)[1])
            self.assertAlmostEqual(claims["exp"] - claims["iat"], seconds, delta=1)

    def test_the_key_may_come_from_the_server_s_options(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(f"[auth]\njwt_key = {SECRET}\n")
            f.flush()
            for args, env in ((["--config", f.name], None), (["--set", f"auth.jwt_key={SECRET}"], None),
                              ([], {"PARLEY_AUTH_JWT_KEY": SECRET})):
                code, out, err = run("token", "--user", "ada", "--communities", 42, *args, env=env)
                self.assertEqual(code, 0, err)
                self.assertEqual(self.decode(out)["sub"], "ada")

    def test_without_a_key_it_says_so(self):
        code, out, err = run("token", "--user", 7, "--communities", 42)
        self.assertNotEqual(code, 0)
        self.assertEqual(out, "")
        self.assertIn("key", err)


class Publish(ServerCase):
    def publish(self, *args, **kw):
        return run("publish", "--url", self.server.origin, "--api-key", API_KEY, *args, **kw)

    def test_it_publishes_and_prints_the_id(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        code, out, err = self.publish("--community", community, "--type", "new_comment", "--data", '{"article_id":789}')
        self.assertEqual((code, err), (0, ""))
        (got,) = client.drain()
        self.assertEqual((got["type"], got["data"]), ("new_comment", {"article_id": 789}))
        self.assertIn(str(got["event_id"]), out)

    def test_data_may_come_from_stdin_and_the_address_from_the_environment(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        code, _, err = run("publish", "--api-key", API_KEY, "--community", community, "--type", "x", "--data", "-",
                           stdin='{"text":"Grüße"}', env={"PARLEY_URL": self.server.origin})
        self.assertEqual(code, 0, err)
        self.assertEqual(client.drain()[0]["data"], {"text": "Grüße"})

    def test_several_communities_and_an_excluded_user(self):
        user, first, second = new_user(), new_community(), new_community()
        author, reader = self.server.register(user, [first]), self.server.register(new_user(), [second])
        code, _, err = self.publish("--community", first, "--community", second, "--type", "x", "--data", "{}",
                                    "--exclude-user", user)
        self.assertEqual(code, 0, err)
        self.assertEqual((len(author.drain()), len(reader.drain())), (0, 1))

    def test_what_the_server_refuses_is_1_and_said(self):
        code, out, err = run("publish", "--url", self.server.origin, "--api-key", "wrong", "--community", 42,
                             "--type", "x", "--data", "{}")
        self.assertEqual((code, out), (1, ""))
        self.assertTrue(err.strip())

    def test_a_server_that_is_not_there_is_1_and_said(self):
        code, out, err = run("publish", "--url", "http://127.0.0.1:1", "--api-key", "x", "--community", 42,
                             "--type", "x", "--data", "{}")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("127.0.0.1", err)


class Watching:
    """A running `parley watch`, its lines collected."""

    def __init__(self, origin, *args):
        self.process = subprocess.Popen([PARLEY, "watch", "--url", origin, *map(str, args)], text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=clean_env())
        self.out, self.err = [], []
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            threading.Thread(target=self.read, args=(stream, lines), daemon=True).start()

    def read(self, stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def events(self):
        return [json.loads(line) for line in list(self.out) if line.startswith("{")]

    def said(self):
        return "\n".join(self.out + self.err)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        assert not SANITIZER.search(self.said().encode()), self.said()


class Watch(ServerCase):
    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()

    def watch(self, *args, origin=None):
        """Starts watching and waits until its queue has a link."""
        before = self.linked()
        watching = Watching(origin or self.server.origin, "--user", self.user, "--communities", self.community,
                            *KEY, *args)
        until(lambda: self.linked() > before or watching.process.poll() is not None, "a link", 8)
        return watching

    def linked(self):
        return sum(self.server.metric(f'realtime_active_queues{{transport="{t}"}}') for t in ("websocket", "longpoll"))

    def publish(self, **kw):
        return self.server.publish([self.community], **kw)

    def test_events_are_printed_as_they_come_on_every_transport_and_codec(self):
        for transport in ("websocket", "longpoll"):
            for codec in ("json", "msgpack"):
                with self.subTest(transport=transport, codec=codec):
                    with self.watch("--transport", transport, "--codec", codec) as watching:
                        event_id = self.publish(data={"text": "Grüße", "n": [1, None, True, 1.5]})
                        until(watching.out.__len__, "the event on stdout")
                        (got,) = watching.events()
                        self.assertEqual((got["event_id"], got["data"]["text"]), (event_id, "Grüße"))
                        self.assertIn(transport.replace("longpoll", "long"), watching.said().replace("-", "").lower())
                        more = [self.publish() for _ in range(20)]
                        until(lambda: len(watching.events()) == 21, "twenty more")
                        self.assertEqual([e["event_id"] for e in watching.events()[1:]], more)

    def test_sigint_and_sigterm_end_it_without_noise(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.watch() as watching:
                watching.process.send_signal(number)
                self.assertIn(watching.process.wait(5), (0, 128 + number, -number))

    def test_count_ends_it(self):
        with self.watch("--count", 2) as watching:
            self.publish()
            self.publish()
            self.assertEqual(watching.process.wait(5), 0)
            self.assertEqual(len(watching.events()), 2)

    def test_it_reconnects_to_the_same_queue(self):
        for transport in ("websocket", "longpoll"):
            with (Proxy(self.server.address) as proxy,
                  self.watch("--transport", transport, origin=proxy.origin) as watching):
                first = self.publish()
                until(lambda: len(watching.events()) == 1, "the first event")
                proxy.refusing = True
                proxy.cut()
                second = self.publish()
                proxy.refusing = False
                until(lambda: len(watching.events()) == 2, "the second event", 10)
                self.assertEqual([e["event_id"] for e in watching.events()], [first, second])

    def test_it_falls_back_to_long_poll_where_websocket_is_not_offered(self):
        with Server(transport__phase="longpoll") as server:
            with Watching(server.origin, "--user", 7, "--communities", 42, *KEY) as watching:
                until(lambda: server.health()["pending_polls"], "a poll", 10)
                event_id = server.publish()
                until(watching.events, "the event")
                self.assertEqual(watching.events()[0]["event_id"], event_id)

    def test_since_begins_after_an_id(self):
        ids = [self.publish() for _ in range(3)]
        with self.watch("--since", ids[0], "--count", 2) as watching:
            self.assertEqual(watching.process.wait(5), 0)
            self.assertEqual([e["event_id"] for e in watching.events()], ids[1:])

    def test_a_bad_token_is_1_and_said(self):
        with Watching(self.server.origin, *WHO, "--token", mint(key="wrong" * 9)) as watching:
            self.assertEqual(watching.process.wait(10), 1)
            until(lambda: "token" in watching.said(), "a message")


class Stats(ServerCase):
    @embedded_only("the bus has its line")
    def test_it_prints_the_server_s_numbers_once(self):
        self.server.register()
        self.server.publish()
        code, out, err = run("stats", "--url", self.server.origin, "--once")
        self.assertEqual((code, err), (0, ""))
        for word in ("queues", "connections", "published", "delivered"):
            self.assertIn(word, out.lower())
        self.assertRegex(out, r"(?m)^bus +memory$")

    def test_it_refreshes_until_it_is_stopped(self):
        process = subprocess.Popen([PARLEY, "stats", "--url", self.server.origin], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=clean_env())
        time.sleep(2.5)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
        self.assertGreaterEqual(out.lower().count(b"queues"), 2)
        self.assertEqual(err, b"")

    def test_a_server_that_is_not_there_is_1_and_said(self):
        code, _, err = run("stats", "--url", "http://127.0.0.1:1", "--once")
        self.assertEqual(code, 1)
        self.assertTrue(err.strip())


class Kick(ServerCase):
    def kick(self, *args):
        return run("kick", "--url", self.server.origin, "--api-key", API_KEY, *args)

    def test_it_ends_a_user_s_queues_and_says_how_many(self):
        user = new_user()
        clients, other = [self.server.register(user) for _ in range(2)], self.server.register(new_user())
        self.assertEqual(self.kick("--user", user), (0, "2 queues ended\n", ""))
        for client in clients:
            self.assert_error(client.ask(), (403, 404))
        other.poll()
        self.server.register(user)
        self.assertEqual(self.kick("--user", user), (0, "1 queue ended\n", ""))
        self.assertEqual(self.kick("--user", "nobody-at-all"), (0, "0 queues ended\n", ""))

    def test_block_refuses_new_tokens_for_a_while(self):
        user = new_user()
        began = time.monotonic()
        self.assertEqual(self.kick("--user", user, "--block", "3s")[0], 0)
        until(lambda: self.server.post("/realtime/register", token=mint(user)).status == 200, "the block to end", 8)
        self.assertGreater(time.monotonic() - began, 2.5)  # tokens of the same second would be refused anyway

    def test_the_key_is_found_as_publish_finds_it_and_needed(self):
        code, out, err = run("kick", "--user", 7, env={"PARLEY_URL": self.server.origin, "PARLEY_AUTH_API_KEY": API_KEY})
        self.assertEqual((code, err), (0, ""))
        code, out, err = run("kick", "--user", 7, "--url", self.server.origin)
        self.assertEqual((code, out), (1, ""))
        self.assertIn("--api-key", err)

    def test_a_server_that_is_not_there_is_1_and_said(self):
        code, out, err = run("kick", "--user", 7, "--url", "http://127.0.0.1:1")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("127.0.0.1", err)


def start_redis(*options):
    """A Redis of its own: (child, port)."""
    port = free_port()
    child = Child(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *options])
    child.start(lambda: "Ready to accept" in child.log(), "redis-server to be ready")
    return child, port


class OnRedis(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.child, cls.port = start_redis()
        cls.addClassCleanup(cls.child.stop)
        cls.redis = redis.Redis(port=cls.port)
        cls.addClassCleanup(cls.redis.close)
        cls.url = f"redis://127.0.0.1:{cls.port}"
        with open(os.path.join(ROOT, "server", "bus", "parley.lua")) as f:
            cls.library = f.read()
        cls.redis.function_load(cls.library)

    def setUp(self):
        self.redis.flushdb()

    def publish(self, communities, prefix="parley", r=None, **fields):
        """As a backend does that has Redis and no HTTP. Returns the event's id."""
        keys = ["{%s}:seq" % prefix] + ["{%s}:log:community:%d" % (prefix, c) for c in communities]
        return int((r or self.redis).fcall("parley_publish", len(keys), *keys, json.dumps(event(communities, **fields))))

    def canary(self, node, until_s=20, **fields):
        """As a node does every few seconds."""
        now = int(time.time() * 1000)
        said = {"address": "10.0.0.1:8888", "started": now - 3_600_500, "version": "1.2.3", "queues": 3, "applied": 17,
                "until": now + int(until_s * 1000), **fields}
        self.redis.fcall("parley_canary", 2, "{parley}:seq", "{parley}:nodes", "{parley}:node:" + node, node, "aa" * 16,
                         json.dumps(said))

    def change(self, user, channels):
        payload = msgpack.packb({"k": 1, "u": user, "m": channels, "at": int(time.time() * 1000)})
        return int(self.redis.fcall("parley_change", 4, "{parley}:seq", "{parley}:control", "{parley}:user:" + user,
                                    "{parley}:idem:" + os.urandom(8).hex(), os.urandom(16).hex(), 60000, "1", payload,
                                    60000, 1000, 60000)[1])

    def lines(self, *args):
        code, out, err = run(*args, "--bus", self.url)
        self.assertEqual((code, err), (0, ""))
        return out.splitlines()


class Nodes(OnRedis):
    def test_nodes_that_are_there_are_a_table(self):
        self.canary("web-2", address="10.0.0.2:8888")
        self.canary("web-1")
        self.canary("web-0", until_s=-90)
        title, one, two = self.lines("nodes")
        self.assertEqual(title.split(), ["NODE", "ADDRESS", "VERSION", "UP", "QUEUES", "APPLIED", "STATE"])
        self.assertEqual(one.split(), ["web-1", "10.0.0.1:8888", "1.2.3", "1h", "0m", "3", "17", "up"])
        self.assertEqual(two.split()[:2], ["web-2", "10.0.0.2:8888"])

    def test_all_shows_those_that_are_gone(self):
        self.canary("web-1")
        self.canary("web-0", until_s=-90)
        lines = self.lines("nodes", "--all")
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[1], r"^web-0 .* gone 1m 3\ds$")

    def test_json_has_all_a_node_says(self):
        self.canary("web-1", later={"x": [1]})
        (line,) = self.lines("nodes", "--json")
        value = json.loads(line)
        self.assertEqual((value["node"], value["gone"], value["queues"], value["later"]), ("web-1", False, 3, {"x": [1]}))

    def test_nobody_is_said_on_stderr(self):
        for args in ((), ("--prefix", "elsewhere")):
            code, out, err = run("nodes", "--bus", self.url, *args)
            self.assertEqual((code, out), (0, ""))
            self.assertIn("elsewhere" if args else "parley", err)


class Log(OnRedis):
    def test_events_are_lines_oldest_first(self):
        ids = [self.publish([42], data={"n": n, "text": "Grüße"}) for n in range(25)]
        lines = self.lines("log", "--community", 42)
        self.assertEqual([int(line.split()[0]) for line in lines], ids[-20:])
        event_id, moment, tag, body = lines[-1].split("  ", 3)
        self.assertRegex(moment, r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertRegex(tag, r"^[0-9a-f]{8}$")
        body = json.loads(body)
        self.assertEqual((body["type"], body["data"], body["community_ids"]), ("new_comment", {"n": 24, "text": "Grüße"}, [42]))
        self.assertEqual([int(line.split()[0]) for line in self.lines("log", "--community", 42, "--limit", 2)], ids[-2:])
        self.assertEqual([int(line.split()[0]) for line in self.lines("log", "--community", 42, "--since", ids[2], "--limit", 3)],
                         ids[3:6])
        self.assertEqual(self.lines("log", "--community", 42, "--since", ids[-1]), [])
        self.assertEqual(self.lines("log", "--channel", "room:7"), [])
        self.assertEqual(len(self.lines("log", "--channel", "community:42")), 20)

    def test_json_has_what_clients_do_not_see(self):
        first = self.publish([42])
        event_id = self.publish([42, 43], subscriber_ids=[9, 7, "ada"], exclude_user_id=5)
        value = json.loads(self.lines("log", "--community", 42, "--json")[-1])
        self.assertEqual((value["id"], value["previous"]), (event_id, first))
        self.assertEqual(value["log_channels"], ["community:42", "community:43"])
        self.assertEqual(value["subscriber_ids"], ["7", "9", "ada"])
        self.assertEqual((value["exclude_user_id"], value["topic"]), ("5", "789"))
        self.assertNotIn("subscriber_ids", value["event"])
        (line,) = self.lines("log", "--community", 43)
        self.assertIn("only 3 users  not user 5  {", line)

    def test_changes_are_their_own_log(self):
        change_id = self.change("7", ["community:42", "room:7"])
        (line,) = self.lines("log", "--control")
        self.assertTrue(line.startswith(f"{change_id}  20"), line)
        self.assertTrue(line.endswith("  update user 7: community:42, room:7"), line)
        value = json.loads(self.lines("log", "--control", "--json")[0])
        self.assertEqual((value["change"], value["user_id"], value["channels"]), ("update", "7", ["community:42", "room:7"]))

    def test_what_somebody_else_put_there_stops_nothing(self):
        self.redis.xadd("{parley}:log:community:42", {"f": "Z", "d": b"\xff\x00"}, id="5-0")
        self.redis.xadd("{parley}:log:community:42", {"x": "y"}, id="6-7")
        self.redis.xadd("{parley}:log:community:42", {"f": "E", "g": "\x1b[2J", "d": b"\xc1"}, id="7-0")
        lines = self.lines("log", "--community", 42)
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assertIn("not understood", line)
            self.assertNotIn("\x1b", line)
        for line in self.lines("log", "--community", 42, "--json"):
            self.assertIs(json.loads(line)["not_understood"], True)

    def test_a_key_of_another_kind_is_1_and_said(self):
        self.redis.set("{parley}:log:community:42", "x")
        code, out, err = run("log", "--community", 42, "--bus", self.url)
        self.assertEqual((code, out), (1, ""))
        self.assertIn("WRONGTYPE", err)


class FindingTheBus(OnRedis):
    def test_url_and_prefix_come_from_the_server_s_options(self):
        event_id = self.publish([42], prefix="forum")
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(f"[bus]\nurl = {self.url}\nprefix = forum\n")
            f.flush()
            for args, env in ((["--config", f.name], None), (["--bus", self.url, "--prefix", "forum"], None),
                              (["--set", f"bus.url={self.url}", "--set", "bus.prefix=forum"], None),
                              ([], {"PARLEY_BUS_URL": self.url, "PARLEY_BUS_PREFIX": "forum"})):
                code, out, err = run("log", "--community", 42, *args, env=env)
                self.assertEqual((code, err), (0, ""), args)
                self.assertTrue(out.startswith(str(event_id)))

    def test_password_user_and_database(self):
        child, port = start_redis("--requirepass", "se:cr@t")
        try:
            with redis.Redis(port=port, password="se:cr@t", db=3) as r:
                r.acl_setuser("ada", enabled=True, passwords=["+lovelace"], keys=["{parley}:*"],
                              commands=["+select", "+xrange", "+xrevrange"])
                r.function_load(self.library)
                event_id = self.publish([42], r=r)
            for who in (":se%3Acr%40t", "ada:lovelace"):
                code, out, err = run("log", "--community", 42, "--bus", f"redis://{who}@127.0.0.1:{port}/3")
                self.assertEqual((code, err), (0, ""))
                self.assertTrue(out.startswith(str(event_id)))
            for who, word in ((":wr0ng@", "WRONGPASS"), ("ada:wr0ng@", "WRONGPASS"), ("", "NOAUTH")):
                code, out, err = run("nodes", "--bus", f"redis://{who}127.0.0.1:{port}/3")
                self.assertEqual((code, out), (1, ""))
                self.assertIn(word, err)
                self.assertNotIn("wr0ng", err)
        finally:
            child.stop()

    def test_nobody_there_and_nobody_answering_are_1_and_said(self):
        code, out, err = run("nodes", "--bus", "redis://127.0.0.1:1")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("127.0.0.1 port 1", err)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            code, out, err = run("nodes", "--bus", f"redis://127.0.0.1:{silent.getsockname()[1]}", "--set", "bus.timeout=200ms")
            self.assertEqual((code, out), (1, ""))
            self.assertIn("no answer in time", err)
            self.assertLess(time.monotonic() - began, 5)

    def test_sentinels_are_asked_in_turn(self):
        port, directory = free_port(), tempfile.mkdtemp(prefix="parley-sentinel-")
        with open(os.path.join(directory, "sentinel.conf"), "w") as f:
            f.write(f"port {port}\nbind 127.0.0.1\nsentinel monitor forum 127.0.0.1 {self.port} 1\n")
        sentinel = Child(["redis-sentinel", "sentinel.conf"], directory)
        sentinel.start(lambda: "+monitor" in sentinel.log(), "redis-sentinel to be ready")
        try:
            self.canary("web-1")
            code, out, err = run("nodes", "--bus", f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/forum")
            self.assertEqual((code, err), (0, ""))
            self.assertIn("web-1", out)
            code, out, err = run("nodes", "--bus", f"redis+sentinel://127.0.0.1:{port}/other")
            self.assertEqual((code, out), (1, ""))
            self.assertIn('"other"', err)
        finally:
            sentinel.stop()

    def test_a_master_that_is_none_is_refused(self):
        replica, port = start_redis("--replicaof", "127.0.0.1", str(self.port))
        try:
            with socket.create_server(("127.0.0.1", 0)) as lying:
                lying.settimeout(10)
                thread = threading.Thread(target=self.name_as_master, args=(lying, port))
                thread.start()
                code, out, err = run("nodes", "--bus", f"redis+sentinel://127.0.0.1:{lying.getsockname()[1]}/forum")
                thread.join()
            self.assertEqual((code, out), (1, ""))
            self.assertIn(f"127.0.0.1 port {port} is no master now", err)
        finally:
            replica.stop()

    @staticmethod
    def name_as_master(listener, port):
        """A Sentinel that has not heard yet of a failover."""
        conn, _ = listener.accept()
        with conn:
            conn.recv(1000)
            conn.sendall(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port))
            conn.recv(1)


@embedded_only("it starts a Redis of its own")
class OnNodes(TestCase):
    """What the tool says of two real nodes, and what nodes say of a user who is on both."""

    @classmethod
    def setUpClass(cls):
        child, port = start_redis()
        cls.addClassCleanup(child.stop)
        cls.url = f"redis://127.0.0.1:{port}"
        cls.left, cls.right = (cls.start(name) for name in ("left", "right"))

    @classmethod
    def start(cls, name):
        server = Server(server__node=name, bus__url=cls.url, bus__canary_interval="200ms").start()
        cls.addClassCleanup(server.stop)
        until(lambda: server.get("/readyz").status == 200, f"{name} to be ready", 15)
        return server

    def connections(self, server, user, **kw):
        answer = server.get("/realtime/connections", api=True, user_id=user, **kw)
        self.assertEqual(answer.status, 200, answer)
        return {c["queue_id"]: (c["node"], c["transport"]) for c in answer.value["connections"]}

    def test_nodes_are_listed_with_where_they_are(self):
        code, out, err = run("nodes", "--bus", self.url)
        self.assertEqual((code, err), (0, ""))
        rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
        self.assertEqual(set(rows), {"left", "right"})
        for server in (self.left, self.right):
            row = rows[server.options["server__node"]]
            self.assertIn("%s:%d" % server.address, row)
            self.assertEqual(row[-1], "up")

    def test_an_event_and_a_change_are_in_the_log(self):
        user, community = new_user(), new_community()
        event_id = self.left.publish([community], data={"text": "Grüße"}, exclude_user_id=5)
        code, out, err = run("log", "--community", community, "--bus", self.url)
        self.assertEqual((code, err), (0, ""))
        self.assertTrue(out.startswith(f"{event_id}  20"), out)
        self.assertIn('  not user 5  {"type":"new_comment",', out)
        self.assertIn("Grüße", out)
        self.right.api("update-subscriptions", {"user_id": user, "community_ids": [community], "version": 3})
        code, out, err = run("log", "--control", "--limit", 1, "--bus", self.url)
        self.assertEqual((code, err), (0, ""))
        self.assertTrue(out.endswith(f"  update user {user}: community:{community}  version 3\n"), out)

    def test_connections_are_those_of_all_nodes(self):
        user, community = new_user(), new_community()
        here, there = self.left.register(user, [community]), self.right.register(user, [community])
        with here.hold():
            want = {here.queue_id: ("left", "longpoll"), there.queue_id: ("right", "none")}
            for codec in ("application/json", "application/msgpack"):
                for server in (self.left, self.right):
                    until(lambda: self.connections(server, user, codec=codec) == want, f"{want} from {codec}")

    def test_kick_counts_and_ends_queues_on_all_nodes(self):
        user, community = new_user(), new_community()
        here, there = self.left.register(user, [community]), self.right.register(user, [community])
        code, out, err = run("kick", "--user", user, "--url", self.left.origin, "--api-key", API_KEY)
        self.assertEqual((code, out, err), (0, "2 queues ended\n", ""))
        for client in (here, there):
            # 503 for what is not found while the bus has been there for 10 s only: it may yet be saved.
            until(lambda: client.ask().status in (403, 404, 503), "the queue to end")
        until(lambda: not self.connections(self.right, user), "nobody to be listed")

    def test_stats_of_several_nodes_is_a_line_for_each(self):
        code, out, err = run("stats", "--url", self.left.origin, "--url", "http://127.0.0.1:1", "--url", self.right.origin, "--once")
        self.assertEqual((code, err), (0, ""), err)
        for server in (self.left, self.right):
            self.assertRegex(out, r"(?m)^%s +- +\d" % re.escape(server.origin[7:]))
        self.assertRegex(out, r"(?m)^127.0.0.1:1 +cannot connect")
        self.assertRegex(out, r"(?m)^bus +connected, Pub/Sub")

    def test_stats_says_how_the_bus_is(self):
        code, out, err = run("stats", "--url", self.left.origin, "--once")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"(?m)^bus +connected, Pub/Sub   canary p50 \d")


class CheckConfig(TestCase):
    def check(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(text)
            f.flush()
            return run("check-config", "--config", f.name)

    def test_a_good_file_is_0(self):
        self.assertEqual(self.check(f"[auth]\njwt_key = {SECRET}\n[queue]\nttl = 90s\n")[0], 0)

    def test_a_bad_file_names_line_and_key(self):
        code, _, err = self.check("[queue]\n\ntttl = 90s\n")
        self.assertIn(code, (1, 2))
        for part in (".conf", "3", "tttl"):
            self.assertIn(part, err)


if __name__ == "__main__":
    main()
