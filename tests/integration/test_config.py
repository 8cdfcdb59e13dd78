"""Starting: files, --set, environment, what is refused and how, keys and --dev."""

import json
import os
import re
import signal
import subprocess
import tempfile

from harness import API_KEY, PARLEYD, ROOT, SECRET, SANITIZER, Server, TestCase, clean_env, main, mint, until


def run(*args, env=None, timeout=15):
    """Runs parleyd to its end: (exit code, stdout, stderr)."""
    done = subprocess.run([PARLEYD, *args], capture_output=True, text=True, timeout=timeout, env=clean_env(env),
                          stdin=subprocess.DEVNULL)
    assert not SANITIZER.search(done.stderr.encode()), done.stderr
    return done.returncode, done.stdout, done.stderr


class FileCase(TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "test.conf")

    def write(self, text):
        with open(self.path, "w") as f:
            f.write(text)
        return self.path

    def check(self, text, *args, env=None):
        return run("--config", self.write(text), "--check-config", *args, env=env)


class CommandLine(FileCase):
    def test_version_and_help(self):
        code, out, err = run("--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"\b\d+\.\d+\.\d+\b")
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for word in ("--config", "--set", "--check-config", "--version", "--help", "--dev"):
            self.assertIn(word, out)

    def test_an_unknown_argument_exits_2(self):
        for args in (["--nonsense"], ["stray"], ["--config"], ["--set"]):
            code, out, err = run(*args)
            self.assertEqual(code, 2, args)
            self.assertTrue(err.strip(), args)
            self.assertEqual(out, "", "errors go to stderr")


class Check(FileCase):
    GOOD = f"[auth]\njwt_key = {SECRET}\n"

    def test_a_good_file_is_0(self):
        code, _, err = self.check(self.GOOD + "[queue]\nttl = 90s\n[transport]\nphase = websocket-only\n")
        self.assertEqual(code, 0, err)

    def test_the_shipped_file_is_good(self):
        path = os.path.join(ROOT, "conf", "parley.conf")
        if not os.path.exists(path):
            self.skipTest("no conf/parley.conf")
        code, _, err = run("--config", path, "--check-config", "--set", f"auth.jwt_key={SECRET}")
        self.assertEqual(code, 0, err)

    def test_the_shipped_file_documents_every_option(self):
        with open(os.path.join(ROOT, "server", "base", "config.def")) as f:
            options = re.findall(r"^PL_OPTION\((\w+), (\w+),", f.read(), re.M)
        with open(os.path.join(ROOT, "conf", "parley.conf")) as f:
            text = f.read()
        for section, key in options:
            body = re.split(rf"(?m)^\[{section}\]$", text)[1].split("\n[", 1)[0]
            self.assertRegex(body, rf"(?m)^[#; ]*{key}\s*=", f"{section}.{key}")

    def test_an_unknown_key_names_file_line_and_key(self):
        code, _, err = self.check(self.GOOD + "[queue]\ntttl = 5s\n")
        self.assertEqual(code, 2)
        for part in ("test.conf", "4", "tttl", "ttl"):
            self.assertIn(part, err)

    def test_an_unknown_section_names_it(self):
        code, _, err = self.check(self.GOOD + "[quue]\nttl = 5s\n")
        self.assertEqual(code, 2)
        for part in ("test.conf", "4", "quue"):
            self.assertIn(part, err)

    def test_a_user_that_is_none_is_refused(self):
        code, _, err = run("--config", self.write(self.GOOD), "--set", "server.user=nobody-here")
        self.assertEqual((code, err), (2, "parleyd: server.user: nobody-here: there is no such user\n"))

    def test_a_bad_value_names_file_line_key_and_what_is_accepted(self):
        for section, key, value, accepted in (
                ("queue", "ttl", "never", "duration"), ("queue", "ttl", "-5s", "s"), ("queue", "ttl", "", ""),
                ("queue", "batch_events", "many", ""), ("queue", "batch_events", "0", "1"),
                ("queue", "batch_events", "1.5", ""), ("queue", "batch_bytes", "5 apples", "KiB"),
                ("auth", "require_token", "perhaps", "off"), ("transport", "phase", "carrier-pigeon", "hybrid"),
                ("transport", "websocket_percent", "101", "100"), ("auth", "jwt_algorithm", "none", "HS256"),
                ("auth", "jwt_algorithm", "HS1", "HS256"), ("log", "level", "loud", "debug"),
                ("queue", "ttl", "99999999999999999999s", ""), ("channel", "ring_bytes", "99999999GiB", "")):
            with self.subTest(key=key, value=value):
                code, _, err = self.check(f"{self.GOOD}[{section}]\n# a comment\n{key} = {value}\n")
                self.assertEqual(code, 2, err)
                for part in ("test.conf", "5", key, accepted):
                    self.assertIn(part, err)
                self.assertLessEqual(len(err.strip().splitlines()), 2, "one error, one line")

    def test_set_and_environment_are_named_too(self):
        code, _, err = self.check(self.GOOD, "--set", "queue.ttl=never")
        self.assertEqual(code, 2)
        self.assertIn("--set", err)
        self.assertIn("queue.ttl", err)
        for bad in ("queue.tttl=5s", "ttl=5s", "queue.ttl", "=5s", "queue.=5s", ""):
            code, _, err = self.check(self.GOOD, "--set", bad)
            self.assertEqual(code, 2, bad)
        code, _, err = self.check(self.GOOD, env={"PARLEY_QUEUE_TTL": "never"})
        self.assertEqual(code, 2)
        self.assertIn("PARLEY_QUEUE_TTL", err)

    def test_a_missing_file_is_2(self):
        code, _, err = run("--config", self.path + ".none", "--check-config")
        self.assertEqual(code, 2)
        self.assertIn("test.conf.none", err)

    def test_a_file_that_is_no_configuration_is_2(self):
        for text in ("nonsense\n", "[queue\nttl = 5s\n", "ttl = 5s\n", "\x00\x01\x02"):
            self.assertEqual(self.check(text)[0], 2, repr(text))


class Sources(FileCase):
    def ping_interval(self, **kw):
        with Server(**kw) as server:
            return server.register().registered["ping_interval_ms"]

    def test_the_order_is_default_file_environment_set(self):
        args = ["--config", self.write("[websocket]\nping_interval = 11s\n")]
        env = {"PARLEY_WEBSOCKET_PING_INTERVAL": "12s"}
        self.assertEqual(self.ping_interval(), 25000)
        self.assertEqual(self.ping_interval(args=args), 11000)
        self.assertEqual(self.ping_interval(args=args, env=env), 12000)
        self.assertEqual(self.ping_interval(args=args, env=env, websocket__ping_interval="13s"), 13000)

    def test_keys_may_come_from_the_environment_or_a_file(self):
        with Server(key=False, env={"PARLEY_AUTH_JWT_KEY": SECRET}) as server:
            server.register_token(mint())
        with Server(key=False, auth__jwt_key_file=self.write(SECRET + "\n")) as server:
            server.register_token(mint())

    def test_a_key_file_that_is_missing_is_2(self):
        code, _, err = run("--set", "server.listen=127.0.0.1:0", "--set", f"auth.jwt_key_file={self.path}.none")
        self.assertEqual(code, 2)
        self.assertIn("jwt_key_file", err)


class Keys(FileCase):
    def test_without_a_key_it_refuses_to_start(self):
        code, out, err = run("--set", "server.listen=127.0.0.1:0")
        self.assertNotEqual(code, 0)
        self.assertIn("auth.jwt_key", err)
        self.assertIn("--dev", err)
        self.assertNotIn("ready", out)

    def test_a_short_secret_is_warned_about(self):
        with Server(key=False, auth__jwt_key="short") as server:
            until(lambda: b"jwt_key" in server.stderr and b"warn" in server.stderr, "a warning")

    def test_dev_mints_one_and_says_so_loudly(self):
        with Server(args=["--dev"], key=False) as server:
            self.assertIn("--dev", (server.stdout + server.stderr).decode())
            self.assertEqual(server.get("/livez").status, 200)
            self.assert_error(server.post("/realtime/register", token=mint()), 401, "token_invalid")

    def test_dev_serves_the_demo_and_any_localhost_origin(self):
        with Server(args=["--dev"], key=False) as server:
            page = server.get("/")
            self.assertEqual(page.status, 200, page)
            self.assertIn("text/html", page.headers["Content-Type"])
            for path in ("/../CMakeLists.txt", "/..%2fCMakeLists.txt", "/%2e%2e/%2e%2e/CMakeLists.txt", "//etc/passwd",
                         "/./../../etc/passwd"):
                self.assertIn(server.get(path).status, (400, 403, 404), path)
            answer = server.get("/realtime/status", headers={"Origin": "http://localhost:3000"})
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "http://localhost:3000")
            for origin in ("http://localhost.evil.example", "http://evil.example", "http://localhost@evil.example"):
                answer = server.get("/realtime/status", headers={"Origin": origin})
                self.assertIsNone(answer.headers.get("Access-Control-Allow-Origin"), origin)

    def test_without_dev_there_is_no_demo(self):
        with Server() as server:
            self.assert_error(server.get("/"), 404)


class Process(TestCase):
    def test_a_port_in_use_is_said(self):
        with Server() as server:
            code, _, err = run("--set", "server.listen=%s:%d" % server.address, "--set", f"auth.jwt_key={SECRET}")
            self.assertNotEqual(code, 0)
            self.assertIn(str(server.address[1]), err)

    def test_a_bad_address_is_said(self):
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:99999", "300.0.0.1:80", ":", "127.0.0.1:x"):
            code, _, err = run("--set", f"server.listen={address}", "--set", f"auth.jwt_key={SECRET}")
            self.assertNotEqual(code, 0, address)
            self.assertIn("listen", err)

    def test_it_leaves_with_0_on_sigint_too(self):
        server = Server().start()
        server.process.send_signal(signal.SIGINT)
        server._wait()
        self.assertEqual(server.process.returncode, 0)

    def test_ipv6_is_listened_on(self):
        try:
            server = Server(server__listen="[::1]:0").start()
        except AssertionError as error:
            if "assign" in str(error):
                self.skipTest("no IPv6 here")
            raise
        self.assertEqual(server.get("/livez").status, 200)
        server.stop()

    def test_logs_are_key_value_or_json_and_hold_no_secret(self):

        for form in ("kv", "json"):
            token = mint()
            with Server(log__format=form, log__level="debug") as server:
                client = server.register_token(token)
                client.ask()
                server.get("/realtime/poll", queue_id=client.queue_id, last_event_id="x")
                server.post("/realtime/register", token="x.y.z")
                server.publish(data={"text": "the-payload"})
            log = server.stderr.decode()
            self.assertTrue(log.strip())
            for line in log.splitlines() if form == "json" else ():
                json.loads(line)
            for secret in (token, client.queue_id, SECRET, API_KEY, "the-payload"):
                self.assertNotIn(secret, log)
            self.assertNotIn(client.queue_id[:8], log)

    def test_a_burst_of_bad_requests_does_not_flood_the_log(self):
        with Server() as server:
            before = server.stderr.count(b"\n")
            for _ in range(200):
                server.post("/realtime/register", token="x.y.z")
            self.assertLess(server.stderr.count(b"\n") - before, 20)


if __name__ == "__main__":
    main()
