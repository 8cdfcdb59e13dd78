"""`parley`, the command-line tool: its commands against a real server, its help, exit codes and errors."""

import json
import signal
import subprocess
import tempfile
import threading
import time

import jwt

from harness import (API_KEY, PARLEY, SANITIZER, SECRET, Proxy, Server, ServerCase, TestCase, clean_env, main, mint,
                     new_community, new_user, until)

KEY = ["--key", SECRET]
WHO = ["--user", "7", "--communities", "42"]


def run(*args, env=None, stdin=None, timeout=15):
    """Runs parley to its end: (exit code, stdout, stderr)."""
    done = subprocess.run([PARLEY, *map(str, args)], capture_output=True, text=True, timeout=timeout,
                          env=clean_env(env), input=stdin or "")
    assert not SANITIZER.search(done.stderr.encode()), done.stderr
    return done.returncode, done.stdout, done.stderr


class Help(TestCase):
    COMMANDS = ("token", "publish", "watch", "stats", "check-config")

    def test_help_lists_the_commands(self):
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for command in self.COMMANDS:
            self.assertIn(command, out)

    def test_each_command_has_a_help_with_its_options(self):
        for command, options in (("token", ("--user", "--communities", "--ttl")),
                                 ("publish", ("--community", "--type", "--data")),
                                 ("watch", ("--user", "--communities", "--transport", "--codec")),
                                 ("stats", ("--url",)), ("check-config", ("--config",))):
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
    def test_it_prints_the_server_s_numbers_once(self):
        self.server.register()
        self.server.publish()
        code, out, err = run("stats", "--url", self.server.origin, "--once")
        self.assertEqual((code, err), (0, ""))
        for word in ("queues", "connections", "published", "delivered"):
            self.assertIn(word, out.lower())

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
