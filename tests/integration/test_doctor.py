"""`parley doctor`: what it says of set-ups that are as they should be, and of those that are not."""

import json
import os
import subprocess
import tempfile

from harness import PARLEY, SANITIZER, SECRET, Server, TestCase, clean_env, main, until
from pages import Child, Redis, free_port, listens

HAPROXY = "/usr/sbin/haproxy"


def doctor(*args, env=None):
    """(exit code, {check: (level, says)})"""
    done = subprocess.run([PARLEY, "doctor", "--json", *map(str, args)], capture_output=True, text=True, timeout=60,
                          env=clean_env(env))
    assert not SANITIZER.search(done.stderr.encode()), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {f["check"]: (f["level"], f["says"]) for f in found}


class Redises(TestCase):
    def setUp(self):
        self.redis = Redis().begin()
        self.addCleanup(self.redis.stop)

    def test_one_by_our_own_conf_is_fine(self):
        code, found = doctor("--bus", self.redis.url)
        self.assertEqual(code, 0)
        for check in ("version", "role", "maxmemory-policy", "maxmemory", "appendonly", "client-output-buffer-limit", "timeout"):
            self.assertEqual(found[f"redis.{check}"][0], "ok", found)
        self.assertEqual((found["clock"][0], found["bus.url"][0]), ("ok", "ok"), found)

    def test_what_is_wrong_is_named_and_is_the_exit_status(self):
        r = self.redis.connect()
        r.config_set("maxmemory-policy", "allkeys-lru")
        r.config_set("appendonly", "no")
        r.config_set("timeout", "10")
        code, found = doctor("--bus", self.redis.url)
        self.assertEqual(code, 1)
        self.assertEqual([found[f"redis.{check}"][0] for check in ("maxmemory-policy", "appendonly", "timeout", "maxmemory")],
                         ["wrong", "doubt", "doubt", "ok"])

    def test_a_user_without_the_right_to_look(self):
        self.redis.connect().acl_setuser("node", enabled=True, passwords=["+secret"], categories=["+@all"],
                                         commands=["-config"], keys=["*"], channels=["*"])
        code, found = doctor("--bus", self.redis.url_of("node", "secret"))
        self.assertEqual((code, found["redis.appendonly"][0], found["redis.version"][0]), (0, "skipped", "ok"))

    def test_one_that_is_away(self):
        self.redis.kill()
        code, found = doctor("--bus", self.redis.url)
        self.assertEqual((code, found["redis"][0]), (1, "wrong"))


class Hops(TestCase):
    def test_what_other_machines_reach_is_doubted(self):
        code, found = doctor("--set", "server.listen=0.0.0.0:8888", "--set", "server.internal_listen=127.0.0.1:8889")
        self.assertEqual(code, 0)
        self.assertEqual((found["server.listen"][0], found["server.internal_listen"][0]), ("doubt", "ok"))


class Proxied(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.addClassCleanup(cls.server.stop)

    def haproxy(self, bind="", tunnel="10s", wait="10s"):
        proxy = Child()
        port = free_port()
        with open(os.path.join(proxy.dir, "haproxy.cfg"), "w") as f:
            f.write(f"""
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server {wait}
  timeout tunnel {tunnel}
frontend www
  bind 127.0.0.1:{port} {bind}
  default_backend parley
backend parley
  server a 127.0.0.1:{self.server.address[1]}
""")
        proxy.command = [HAPROXY, "-db", "-f", "haproxy.cfg"]
        proxy.start(listens(port), "haproxy")
        self.addCleanup(proxy.stop)
        return port

    def look(self, url, *args, **kw):
        return doctor("--url", url, "--key", SECRET, "--patience", "2s", *args, **kw)

    def test_directly(self):
        before = self.server.health()["active_queues"]
        code, found = self.look(self.server.origin)
        self.assertEqual(code, 0, found)
        for check in ("encryption", "server", "long-poll", "websocket"):
            self.assertEqual(found[check][0], "ok", found)
        self.assertIn("held for 2 s", found["long-poll"][1])
        until(lambda: self.server.health()["active_queues"] == before, "nothing to be left behind")

    def test_through_a_proxy_that_waits(self):
        code, found = self.look(f"http://127.0.0.1:{self.haproxy()}")
        self.assertEqual((code, found["long-poll"][0], found["websocket"][0]), (0, "ok", "ok"), found)

    def test_a_proxy_that_cuts_polls(self):
        code, found = self.look(f"http://127.0.0.1:{self.haproxy(wait='1s')}")
        self.assertEqual((code, found["long-poll"][0], found["websocket"][0]), (1, "wrong", "ok"), found)
        self.assertRegex(found["long-poll"][1], r"cut after (0\.9|1\.[0-4]) s \(answer 504\)")

    def test_a_proxy_that_cuts_websockets(self):
        code, found = self.look(f"http://127.0.0.1:{self.haproxy(tunnel='1s')}")
        self.assertEqual((code, found["long-poll"][0], found["websocket"][0]), (1, "ok", "wrong"), found)
        self.assertRegex(found["websocket"][1], r"cut after (0\.9|1\.[0-4]) s")

    def test_without_a_key_the_rest_is_looked_at(self):
        code, found = doctor("--url", self.server.origin)
        self.assertEqual((code, found["server"][0], found["long-poll"][0]), (0, "ok", "skipped"))

    def test_tokens_that_cross_a_network_unencrypted(self):
        code, found = doctor("--url", f"http://0.0.0.0:{self.server.address[1]}")
        self.assertEqual((code, found["encryption"][0]), (1, "wrong"))

    def test_what_is_no_parley(self):
        port = free_port()
        code, found = doctor("--url", f"http://127.0.0.1:{port}")
        self.assertEqual((code, found["server"][0]), (1, "wrong"))


class Encrypted(Proxied):
    """The same through TLS, with a certificate of an authority of our own."""

    def certificate(self, days):
        where = tempfile.mkdtemp(prefix="parley-test-")
        pem, key = os.path.join(where, "cert.pem"), os.path.join(where, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", pem, "-days", str(days), "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
        both = os.path.join(where, "both.pem")
        with open(both, "w") as out:
            for name in (pem, key):
                with open(name) as f:
                    out.write(f.read())
        return both, pem

    def through_tls(self, days, host="localhost", trusted=True, **proxy):
        both, pem = self.certificate(days)
        port = self.haproxy(bind=f"ssl crt {both}", **proxy)
        return self.look(f"https://{host}:{port}", env={"SSL_CERT_FILE": pem} if trusted else None)

    def test_directly(self):
        before = self.server.health()["active_queues"]
        code, found = self.through_tls(90)
        self.assertEqual(code, 0, found)
        for check in ("certificate", "server", "long-poll", "websocket"):
            self.assertEqual(found[check][0], "ok", found)
        self.assertRegex(found["certificate"][1], "ends in (89|90) days")
        until(lambda: self.server.health()["active_queues"] == before, "nothing to be left behind")

    def test_through_a_proxy_that_waits(self):
        code, found = self.through_tls(90, host="127.0.0.1")
        self.assertEqual((code, found["certificate"][0], found["long-poll"][0]), (0, "ok", "ok"), found)

    def test_a_proxy_that_cuts_polls(self):
        code, found = self.through_tls(90, wait="1s")
        self.assertEqual((code, found["long-poll"][0]), (1, "wrong"), found)

    def test_a_proxy_that_cuts_websockets(self):
        code, found = self.through_tls(90, tunnel="1s")
        self.assertEqual((code, found["websocket"][0]), (1, "wrong"), found)

    def test_a_certificate_that_ends_soon(self):
        code, found = self.through_tls(10)
        self.assertEqual((code, found["certificate"][0], found["long-poll"][0]), (0, "doubt", "ok"), found)

    def test_a_certificate_nobody_trusts_gets_no_token(self):
        code, found = self.through_tls(90, trusted=False)
        self.assertEqual((code, found["certificate"][0]), (1, "wrong"), found)
        self.assertNotIn("long-poll", found)

    def test_what_speaks_no_tls(self):
        code, found = self.look(f"https://127.0.0.1:{self.server.address[1]}")
        self.assertEqual((code, found["certificate"][0]), (1, "wrong"), found)


if __name__ == "__main__":
    main()
