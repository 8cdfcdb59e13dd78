"""conf/nginx.conf and conf/haproxy.cfg as they are shipped, but for addresses, paths and accounts: TLS, HTTP/2, no
sticky sessions, the client's address, and a new certificate that nobody is dropped for."""

import functools
import getpass
import grp
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import test_balancers
from harness import ROOT, TestCase, main, mint, until
from pages import free_port
from test_balancers import Front
from wsclient import Ws

CLIENT, PROXY = "127.0.0.7", "127.0.0.2"  # loopback has room for all three parties


# A WebSocket by RFC 8441: prints what comes first.
EXTENDED_CONNECT = """
const [port, token] = process.argv.slice(1);
const session = require('node:http2').connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
session.on('remoteSettings', ({ enableConnectProtocol }) => {
  if (!enableConnectProtocol) throw new Error('no extended CONNECT here');
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':authority': 'localhost', ':path': '/realtime/ws',
    'sec-websocket-version': '13', 'sec-websocket-protocol': 'parley.v1.json', authorization: `Bearer ${token}`,
  });
  stream.on('response', (headers) => console.log(headers[':status']));
  stream.on('data', (data) => { console.log(data.toString('latin1')); session.destroy(); });
});
"""


class Certificate:
    """A self-signed one, with its key in the same file and in one beside it."""

    def __init__(self, directory, name):
        self.cert, self.key = (os.path.join(directory, f"{name}.{kind}") for kind in ("crt", "key"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-out", self.cert, "-keyout", self.key], check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def text(self):
        with open(self.cert) as cert, open(self.key) as key:
            return cert.read() + key.read()

    def der(self):
        with open(self.cert) as cert:
            return ssl.PEM_cert_to_DER_cert(cert.read())


class TlsFront(Front):
    """What stands before the nodes, asked from CLIENT."""

    def __init__(self, port):
        super().__init__(port)
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.connection = functools.partial(http.client.HTTPSConnection, context=self.tls, source_address=(CLIENT, 0))

    def certificate(self):
        with socket.create_connection(self.address, 5) as plain, self.tls.wrap_socket(plain) as wrapped:
            return wrapped.getpeercert(binary_form=True)


def substituted(name, table):
    """conf/<name> with each text on the left, which it must have, made the one on the right."""
    with open(os.path.join(ROOT, "conf", name)) as f:
        text = f.read()
    for old, new in table.items():
        assert old in text, f"conf/{name} has no {old!r}"
        text = text.replace(old, new)
    return text


class Shipped(test_balancers.Balancers):
    options = {"server__trusted_proxies": PROXY, "log__level": "debug"}

    def make_front(self):
        self.plain_port = free_port()
        return TlsFront(free_port())

    def certificate(self, name):
        return Certificate(self.child.dir, name)

    def curl(self, path, *args):
        """(HTTP version, status, body)"""
        done = subprocess.run(["curl", "-sk", "--http2", "--interface", CLIENT, "--max-time", "20", "-w", "\n%{http_version} %{http_code}",
                               *args, f"https://127.0.0.1:{self.front.address[1]}{path}"], capture_output=True, text=True)
        body, _, last = done.stdout.rpartition("\n")
        version, status = last.split()
        return version, int(status), body

    def test_the_configuration_is_good(self):
        done = subprocess.run(self.check(), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotRegex(done.stderr, r"(?i)\[warn|warning")

    def test_http2_to_the_proxy_and_a_held_poll_through_it(self):
        client = self.front.register(self.user, [self.community])
        answers = []
        poll = threading.Thread(target=lambda: answers.append(self.curl(client.path(15))))
        poll.start()
        until(lambda: sum(node.health()["pending_polls"] for node in self.nodes.values()) == 1, "the poll is held")
        seen = self.front.publish([self.community])
        poll.join(10)
        version, status, body = answers[0]
        self.assertEqual((version, status), ("2", 200))
        self.assertEqual([e["event_id"] for e in json.loads(body)["events"]], [seen])

    def test_the_answers_carry_the_headers_that_they_should(self):
        answer = self.front.get("/realtime/health")
        self.assertEqual(answer.headers["Strict-Transport-Security"], "max-age=31536000")
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        plain = Front(self.plain_port)
        answer = plain.get("/realtime/health", headers={"Host": "example.org"})
        self.assertEqual((answer.status, answer.headers["Location"]), (301, "https://example.org/realtime/health"))

    def test_what_is_for_operators_stays_inside(self):
        for path in ("/metrics", "/health", "/readyz"):
            self.assertIn(self.front.get(path).status, (502, 503))  # the application's, which is not there

    def named(self):
        """How often a node heard who the client is."""
        line = re.compile(rb'client_named .*client="?%s"? .*proxy="?%s"?' % (CLIENT.encode(), PROXY.encode()))
        return sum(len(line.findall(node.stderr)) for node in self.nodes.values())

    def test_the_node_hears_the_client_s_address(self):
        time.sleep(1.2)  # so that its line is not one that is only counted
        before = self.named()
        with Ws(self.front, token=mint(self.user, [self.community])) as ws:
            ws.expect("welcome")
            time.sleep(1.2)
            self.front.get("/realtime/health", headers={"X-Forwarded-For": "203.0.113.9"})
            until(lambda: self.named() > before, "the client's address is known")
        for node in self.nodes.values():
            self.assertNotIn(b"203.0.113.9", node.stderr)

    def assert_nobody_is_dropped_while(self, renew):
        """`renew` takes a certificate into use."""
        other = self.certificate("new")
        client = self.front.register(self.user, [self.community])
        with Ws(self.front, token=mint(self.user, [self.community])) as ws:
            ws.expect("welcome")
            answers = []
            poll = threading.Thread(target=lambda: answers.append(client.poll(15)))
            poll.start()
            until(lambda: sum(node.health()["pending_polls"] for node in self.nodes.values()) == 1, "the poll is held")
            self.assertNotEqual(self.front.certificate(), other.der())
            renew(other)
            until(lambda: self.front.certificate() == other.der(), "the new certificate is served", 10)
            time.sleep(1)  # by now who is dropped for it has been
            seen = self.front.publish([self.community])
            self.assertEqual(ws.expect("events")["events"][0]["event_id"], seen)
            poll.join(10)
            self.assertEqual([e["event_id"] for e in answers[0]["events"]], [seen])
            with Ws(self.front, token=mint(self.user, [self.community])) as later:
                later.expect("welcome")
                seen = self.front.publish([self.community])
                for one in (ws, later):
                    self.assertEqual(one.expect("events")["events"][0]["event_id"], seen)


class Nginx(Shipped, TestCase):
    binary = "/usr/sbin/nginx"

    def config(self):
        d, first = self.child.dir, self.certificate("first")
        temporary = "".join(f"{name}_temp_path {d}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.served = first
        return self.placed(substituted("nginx.conf", {
            "user www-data;": f"user {getpass.getuser()}; daemon off;",
            "worker_processes auto;": "worker_processes 1;",
            "worker_rlimit_nofile 262144;": "", "worker_connections 65536;": "worker_connections 1000;",
            "/run/nginx.pid": f"{d}/pid", "/var/log/nginx/error.log": f"{d}/error.log",
            "http {\n": f"http {{\n{temporary}proxy_bind {PROXY};\n",
            "listen [::]:80;": "", "listen [::]:443 ssl http2 backlog=4096;": "",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ": f"listen 127.0.0.1:{self.front.address[1]} ",
            "/etc/ssl/parley/fullchain.pem": first.cert, "/etc/ssl/parley/privkey.pem": first.key,
            "http://127.0.0.1:8000": "http://127.0.0.1:1",
        }))

    def command(self, path):
        self.path = path
        return [self.binary, "-p", self.child.dir, "-c", path, "-e", f"{self.child.dir}/error.log"]

    def check(self):
        return [*self.command(self.path), "-t"]

    def test_a_new_certificate_by_reload_drops_nobody(self):
        def renew(other):
            os.replace(other.key, self.served.key)
            with open(self.served.cert, "wb") as f, open(other.cert, "rb") as new:
                f.write(new.read())
            subprocess.run([*self.command(self.path), "-s", "reload"], check=True, capture_output=True)

        self.assert_nobody_is_dropped_while(renew)


class HAProxy(Shipped, TestCase):
    binary = "/usr/sbin/haproxy"
    options = {**Shipped.options, "server__proxy_protocol": "on"}

    def config(self):
        d = self.child.dir
        self.pem, self.socket = os.path.join(d, "parley.pem"), os.path.join(d, "admin.sock")
        with open(self.pem, "w") as f:
            f.write(self.certificate("first").text())
        return self.placed(substituted("haproxy.cfg", {
            "user haproxy\n": f"user {getpass.getuser()}\n", "group haproxy\n": f"group {grp.getgrgid(os.getgid()).gr_name}\n",
            "log /dev/log local0": f"log {d}/log.sock local0",
            "/run/haproxy/admin.sock": self.socket, "maxconn 100000 ": "maxconn 2000 ",
            "bind :::80 v4v6\n": f"bind 127.0.0.1:{self.plain_port}\n", "bind :::443 v4v6 ": f"bind 127.0.0.1:{self.front.address[1]} ",
            "/etc/haproxy/parley.pem": self.pem,
            "default-server send-proxy-v2": f"default-server source {PROXY} send-proxy-v2",
            "127.0.0.1:8000": "127.0.0.1:1",
        }))

    def command(self, path):
        self.path = path
        return [self.binary, "-W", "-db", "-f", path]

    def check(self):
        return [self.binary, "-c", "-f", self.path]

    def test_a_websocket_may_be_in_the_browser_s_http2_connection(self):
        done = subprocess.run(["node", "-e", EXTENDED_CONNECT, str(self.front.address[1]), mint(self.user, [self.community])],
                              capture_output=True, text=True, timeout=20)
        self.assertIn('"op":"welcome"', done.stdout, done.stderr)

    def write_pem(self, other):
        with open(self.pem, "w") as f:
            f.write(other.text())

    def test_a_new_certificate_by_reload_drops_nobody(self):
        def renew(other):
            self.write_pem(other)
            self.child.process.send_signal(signal.SIGUSR2)

        self.assert_nobody_is_dropped_while(renew)

    def ask(self, text):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(self.socket)
            s.sendall(text.encode())
            return "".join(iter(lambda: s.recv(65536).decode(), ""))

    def test_a_new_certificate_by_the_admin_socket_drops_nobody(self):
        def renew(other):
            self.assertIn("Transaction created", self.ask(f"set ssl cert {self.pem} <<\n{other.text()}\n"))
            self.assertIn("Success", self.ask(f"commit ssl cert {self.pem}\n"))

        self.assert_nobody_is_dropped_while(renew)

    def test_with_redis_away_polls_stay_held_and_nodes_answer_for_themselves(self):
        client = self.front.register(self.user, [self.community])
        answers = []
        poll = threading.Thread(target=lambda: answers.append(client.ask(18)))
        poll.start()
        until(lambda: sum(node.health()["pending_polls"] for node in self.nodes.values()) == 1, "the poll is held")
        self.redis.kill()
        until(lambda: all(node.get("/readyz").status == 503 for node in self.nodes.values()), "no node is ready", 10)
        time.sleep(3)  # and HAProxy has seen it
        answer = self.front.post("/realtime/publish", {"type": "x", "data": {}, "community_ids": [self.community]}, api=True)
        self.assert_error(answer, 503, "bus_unavailable")
        self.assertEqual(answers, [])
        self.redis.begin()
        until(lambda: all(node.get("/readyz").status == 200 for node in self.nodes.values()), "ready again", 15)
        seen = self.publish(0)
        poll.join(10)
        self.assertEqual([e["event_id"] for e in answers[0].value["events"]], [seen])

    def test_with_redis_away_a_poll_finds_the_node_that_has_its_queue(self):
        clients = [self.front.register(self.user, [self.community]) for _ in range(4)]
        self.redis.kill()
        until(lambda: all(node.get("/readyz").status == 503 for node in self.nodes.values()), "no node is ready", 10)
        time.sleep(3)  # and HAProxy has seen it
        for client in clients:
            connection = self.front.connection(*self.front.address, timeout=10)
            for _ in range(20):
                connection.request("GET", client.path(1))
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    break
                self.assertEqual(answer.status, 503)
            self.assertEqual(answer.status, 200, "each try went to the node that cannot know it")
            connection.close()
        self.redis.begin()
        until(lambda: all(node.get("/readyz").status == 200 for node in self.nodes.values()), "ready again", 15)


if __name__ == "__main__":
    main()
