"""What docs/redis.md says and conf/ holds about Redis, tried on real ones: redis.conf, sentinel.conf, the users and their
rights, TLS, publishing by FCALL from a shell and from Node. Ready-made text is taken from the pages as it stands."""

import json
import os
import re
import subprocess
import unittest

import redis
from redis.exceptions import NoPermissionError

from harness import API_KEY, PARLEY, ROOT, Server, TestCase, main, new_community, new_user, until
from pages import Child, Redis, block, free_port, listens

PAGE = "redis.md"
HAPROXY = "/usr/sbin/haproxy"
LIBRARY = os.path.join(ROOT, "server", "bus", "parley.lua")


def directives(name):
    """(keyword, rest) of every line of conf/<name> that is not a comment."""
    with open(os.path.join(ROOT, "conf", name)) as f:
        return [tuple(line.split(None, 1)) for line in map(str.strip, f) if line and not line.startswith("#")]


def library():
    with open(LIBRARY) as f:
        return f.read()


def event(community, **fields):
    return {"type": "new_comment", "community_ids": [community], "data": {"comment": {"text": "hello"}}, **fields}


class RedisConf(TestCase):
    def setUp(self):
        self.redis = Redis().begin()
        self.addCleanup(self.redis.stop)

    def test_every_line_is_in_force(self):
        bytes_of = {"2gb": "2147483648", "64mb": "67108864", '""': ""}
        r = self.redis.connect()
        for name, value in directives("redis.conf"):
            if name in ("port", "bind"):
                continue
            have = r.config_get(name)
            if name == "client-output-buffer-limit":
                self.assertIn("pubsub 67108864 16777216 60", have[name])
            else:
                self.assertEqual(have, {name: bytes_of.get(value, value)})

    def test_what_is_commented_out_is_understood_too(self):
        with open(os.path.join(ROOT, "conf", "redis.conf")) as f:
            extra = re.findall(r"^#(min-\S+) (\S+)$", f.read(), re.M)
        self.assertEqual(len(extra), 2)
        r = self.redis.connect()
        for name, value in extra:
            self.assertTrue(r.config_set(name, value))

    def test_kill_9_loses_nothing_while_the_disk_keeps_up(self):
        r = self.redis.connect()
        r.function_load(library())
        ids = [r.fcall("parley_publish", 2, "{parley}:seq", "{parley}:log:community:42", json.dumps(event(42)))
               for _ in range(100)]
        until(lambda: r.info("persistence")["aof_pending_bio_fsync"] == 0, "the disk has caught up")
        r.fcall("parley_marker", 2, "{parley}:seq", "{parley}:control")  # its write comes with those held back
        self.redis.kill()
        self.redis.begin()
        r = self.redis.connect()
        self.assertEqual([entry.split("-")[0] for entry, _ in r.xrange("{parley}:log:community:42")], ids)
        self.assertGreaterEqual(int(r.get("{parley}:seq")), int(ids[-1]))
        self.assertGreaterEqual(r.fcall_ro("parley_version", 0), 1, "the functions are kept")


class UsersCase(TestCase):
    """A Redis with the three users of the page, and one for the test."""

    def setUp(self):
        self.redis = Redis()
        path = os.path.join(self.redis.dir, "users.acl")
        with open(path, "w") as f:
            f.write(block(PAGE, "user default off") + "user admin on >admin ~* &* +@all\n")
        self.redis.command += ["--aclfile", path]
        self.redis.url = self.redis.url_of("admin", "admin")
        self.redis.begin()
        self.addCleanup(self.redis.stop)
        self.admin = self.redis.connect()

    def user(self, name):
        return self.redis.connect(self.redis.url_of(name, name.replace("parley", "node") + "-password"))


class Users(UsersCase):
    """Each can do what it is for, and nothing else."""

    def rights(self, name):
        line = re.search(rf"^user {name} .*$", block(PAGE, "user default off"), re.M)[0]
        return {word[1:] for word in line.split() if word.startswith("+")}

    def denied(self):
        return [(entry["reason"], entry["object"], entry["username"]) for entry in self.admin.acl_log()]

    def test_the_nodes_may_call_what_functions_call_and_nothing_that_they_do_not(self):
        inside = {name.lower() for name in re.findall(r"call\('([A-Z]+)'", library())} - {"xinfo"} | {"xinfo|stream"}
        itself = {"select", "client|setname", "ping", "info", "role", "config|get", "wait", "function|load",
                  "subscribe", "unsubscribe", "publish", "fcall", "fcall_ro", "get", "hgetall"}
        self.assertEqual(self.rights("parley"), inside | itself)

    def test_a_backend_may_publish_and_see_nothing(self):
        self.user("parley").function_load(library())
        backend = self.user("backend")
        keys = ["{parley}:seq", "{parley}:log:community:42", "{parley}:idem:one"]
        args = ["parley_publish", len(keys), *keys, json.dumps(event(42))]
        self.assertEqual(backend.fcall(*args), backend.fcall(*args))
        backend.fcall("parley_publish", 2, *keys[:2], json.dumps(event(42)), 100, 60000)
        self.assertEqual(self.admin.xlen(keys[1]), 2)
        for refused in (["HGETALL", "{parley}:user:7"], ["XRANGE", keys[1], "-", "+"], ["SUBSCRIBE", keys[1]],
                        ["FUNCTION", "DELETE", "parley"], ["GET", "{parley}:queue:1"], ["KEYS", "*"], ["FLUSHALL"],
                        ["FCALL", "parley_user", 2, "{parley}:seq", "{parley}:user:7"],
                        ["FCALL", "parley_epoch", 3, "{parley}:seq", "{parley}:epoch", "{parley}:control", 0, 0]):
            with self.subTest(refused), self.assertRaisesRegex(redis.ResponseError, "(?i)permission|ACL"):
                backend.execute_command(*refused)
        self.assertEqual(self.admin.hlen("{parley}:epoch"), 0)

    def test_an_operator_may_look_and_not_touch(self):
        operator = self.user("operator")
        self.assertEqual(operator.hgetall("{parley}:nodes"), {})
        self.assertEqual(operator.xrevrange("{parley}:log:community:42"), [])
        url = self.redis.url_of("operator", "operator-password")
        for command in (["nodes"], ["log", "--community", "42"]):
            done = subprocess.run([PARLEY, *command, "--bus", url], capture_output=True, text=True, timeout=15)
            self.assertEqual((done.returncode, "NOPERM" in done.stderr), (0, False), done.stderr)
        self.assertEqual(self.denied(), [])
        commands = block(PAGE, "redis-cli GET").replace("redis-cli", f"redis-cli --no-auth-warning -u {url}")
        done = subprocess.run(["sh", "-ec", commands], capture_output=True, text=True, timeout=15)
        self.assertEqual((done.returncode, done.stderr, self.denied()), (0, "", []))
        for refused in (["SET", "{parley}:seq", 1], ["DEL", "{parley}:seq"], ["GET", "other"], ["PUBLISH", "{parley}:control", "x"]):
            with self.subTest(refused), self.assertRaises(NoPermissionError):
                operator.execute_command(*refused)

    def test_without_a_password_nothing(self):
        with self.assertRaises(redis.AuthenticationError):
            self.redis.connect(f"redis://127.0.0.1:{self.redis.port}").ping()

    def test_a_node_lives_on_these_rights(self):
        """Every kind of work; afterwards Redis has refused nothing to anybody."""
        community, user = new_community(), new_user()
        with Server(bus__url=self.redis.url_of("parley", "node-password"), bus__prefix="parley") as server:
            until(lambda: server.get("/readyz").status == 200, "ready", 15)
            client = server.register(user, [community])
            seen = [server.publish([community])]
            seen.append(int(self.user("backend").fcall("parley_publish", 2, "{parley}:seq", f"{{parley}}:log:community:{community}",
                                                       json.dumps(event(community)))))
            until(lambda: server.metric("realtime_last_event_id") >= seen[1], "both have come")
            self.assertEqual(client.ids(), seen)
            server.api("update-subscriptions", {"user_id": user, "community_ids": [community, community + 1]})
            self.admin.publish("discussion_events", json.dumps(event(community)))
            until(lambda: client.ids(1), "the message on the raw channel", 10)
            connections = server.get(f"/realtime/connections?user_id={user}", api=True).value["connections"]
            self.assertEqual([c["queue_id"] for c in connections], [client.queue_id])
            server.api("disconnect", {"user_id": user})
        self.assertEqual(self.denied(), [])

    def test_without_config_and_info_a_node_lives_too(self):
        self.admin.execute_command("ACL", "SETUSER", "parley", "-config|get", "-info")
        with Server(bus__url=self.redis.url_of("parley", "node-password"), bus__prefix="parley") as server:
            until(lambda: server.get("/readyz").status == 200, "ready", 15)


class Commands(TestCase):
    """The page's commands for looking inside, and for beginning from scratch."""

    def setUp(self):
        self.redis = Redis().begin()
        self.addCleanup(self.redis.stop)
        self.server = Server(bus__url=self.redis.url, bus__prefix="parley", bus__canary_interval="200ms").start()
        self.addCleanup(self.server.stop)
        until(lambda: self.server.get("/readyz").status == 200, "ready", 15)

    def sh(self, text):
        text = text.replace("redis-cli", f"redis-cli -p {self.redis.port}").replace("http://127.0.0.1:8888", self.server.origin)
        env = {**os.environ, "PARLEY_BUS_URL": self.redis.url, "KEY": API_KEY,
               "PATH": os.path.dirname(PARLEY) + ":" + os.environ["PATH"]}
        done = subprocess.run(["sh", "-ec", text], env=env, text=True, errors="replace", capture_output=True, timeout=30)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def test_redis_cli(self):
        self.server.register(7, [42])
        last = self.server.publish([42], data={"comment": {"text": "needle"}})
        out = self.sh(block(PAGE, "redis-cli GET '{parley}:seq'"))
        for part in (f"{last}-0", "needle", "{parley}:log:community:42", "transport", "start"):
            self.assertIn(part, out)
        self.assertNotIn("ERR", out)

    def test_parley(self):
        self.server.register(7, [42])
        last = self.server.publish([42], data={"comment": {"text": "needle"}})
        text = block(PAGE, "export PARLEY_BUS_URL").split("\n", 1)[1]
        out = self.sh(text)
        for part in (self.server.health()["node"], str(last), "needle", '"queue_id"'):
            self.assertIn(part, out)

    def test_from_scratch_everybody_is_told_and_goes_on(self):
        client = self.server.register(7, [42])
        before = self.server.publish([42])
        client.position = before
        self.sh(block(PAGE, "redis-cli --scan --pattern '{parley}:*'"))
        until(lambda: client.ask(1).value.get("reason") == "epoch", "catchup_required", 10)
        client.poll()
        until(lambda: self.server.post("/realtime/publish", event(42), api=True).status == 200, "publishing goes on", 10)
        ids = client.ids(5)
        self.assertGreater(ids[0], before)


# A client for the block of the page that is for Node: one command over one connection, and its reply.
NODE_CLIENT = """
import { connect } from 'node:net';
const { hostname, port, username, password } = new URL(process.env.PARLEY_REDIS_URL);
const client = { sendCommand: (words) => new Promise((resolve, reject) => {
  const socket = connect(port, hostname);
  const say = (list) => `*${list.length}\\r\\n${list.map((w) => `$${Buffer.byteLength(w)}\\r\\n${w}\\r\\n`).join('')}`;
  let text = '';
  socket.write(say(['AUTH', username, password]) + say(words));
  socket.on('data', (data) => {
    const [ok, head, value] = (text += data).split('\\r\\n');
    if (ok !== '+OK' || head?.startsWith('-')) reject(new Error(text));
    else if (text.split('\\r\\n').length < 4) return;
    else resolve(value);
    socket.destroy();
  });
}) };
console.log(await publish(client, { type: 'new_comment', community_ids: [42, 43, 42], data: { text: 'héllo' } }, 'node-1'));
"""


class Backends(UsersCase):
    """The page docs/integration.md: publishing by FCALL, with no more than a backend's rights."""

    def setUp(self):
        super().setUp()
        self.user("parley").function_load(library())
        self.env = {**os.environ, "PARLEY_REDIS_URL": self.redis.url_of("backend", "backend-password")}

    def out(self, command, **kw):
        done = subprocess.run(command, env=self.env, text=True, capture_output=True, timeout=30, **kw)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_from_a_shell(self):
        text = block("integration.md", "# a shell\n")
        first = self.out(["sh", "-c", text])
        self.assertRegex(first, r"^\d{16}$")
        self.assertEqual(self.out(["sh", "-c", text]), first)
        self.assertEqual(self.admin.xlen("{parley}:log:community:42"), 1)

    def test_from_node(self):
        text = block("integration.md", "// Node, ") + NODE_CLIENT
        first = self.out(["node", "--input-type=module"], input=text)
        self.assertEqual(self.out(["node", "--input-type=module"], input=text), first)
        for community in (42, 43):
            entries = self.admin.xrange(f"{{parley}}:log:community:{community}")
            self.assertEqual([e[0] for e in entries], [f"{first}-0"])


class BackendsOfOld(TestCase):
    """The page's functions that PUBLISH plain JSON, heard by two nodes."""

    def test_each_message_counts_once(self):
        server = Redis().begin()
        self.addCleanup(server.stop)
        old = {"json": json}
        exec(block("integration.md", "# what an application of old does\n"), old)
        nodes = [Server(bus__url=server.url, bus__prefix="parley", server__node=name).start() for name in "ab"]
        for node in nodes:
            self.addCleanup(node.stop)
            until(lambda node=node: node.get("/readyz").status == 200, "ready", 15)
        r, user, other, community = server.connect(), new_user(), new_user(), new_community()
        clients = [nodes[0].register(user, [community]), nodes[1].register(other, [community])]
        seen = {client: [] for client in clients}

        def texts(client, n):
            until(lambda: seen[client].extend(e["data"]["comment"] for e in client.drain(1)) or len(seen[client]) >= n, f"{n} events")
            return seen[client]

        same = {"type": "x", "community_ids": [community], "data": {"comment": "same"}}
        old["publish_event"](r, same)
        old["publish_event"](r, same)
        old["publish_event_for"](r, community, 789, "for one", [user])
        old["publish_event"](r, {**same, "data": {"comment": "end"}})
        self.assertEqual(texts(clients[0], 4), ["same", "same", "for one", "end"])
        self.assertEqual(texts(clients[1], 3), ["same", "same", "end"])

        old["publish_memberships"](r, other, [community, community + 1], 12)
        until(lambda: sorted(nodes[0].get(f"/realtime/status?user_id={other}", api=True).value["communities"])
              == [community, community + 1], "the change is known")
        old["publish_subscription"](r, other, community, "unsubscribe")
        until(lambda: nodes[0].get(f"/realtime/status?user_id={other}", api=True).value["communities"]
              == [community + 1], "one community less")


class SentinelConf(TestCase):
    """Three Sentinels by conf/sentinel.conf, a primary and a replica by conf/redis.conf."""

    def setUp(self):
        self.primary = Redis().begin()
        self.addCleanup(self.primary.stop)
        self.replica = Redis("--replicaof", "127.0.0.1", self.primary.port).begin()
        self.addCleanup(self.replica.stop)
        with open(os.path.join(ROOT, "conf", "sentinel.conf")) as f:
            self.text = f.read()
        self.sentinels = [self.sentinel() for _ in range(3)]

    def sentinel(self):
        child = Child()
        child.port = free_port()
        text = self.text.replace("port 26379", f"port {child.port}").replace("dir /tmp", f"dir {child.dir}")
        text = text.replace("monitor parley 127.0.0.1 6379", f"monitor parley 127.0.0.1 {self.primary.port}")
        with open(os.path.join(child.dir, "sentinel.conf"), "w") as f:
            f.write(text)
        child.command = ["redis-sentinel", os.path.join(child.dir, "sentinel.conf")]
        child.connection = redis.Redis(port=child.port, decode_responses=True, socket_timeout=5)
        child.start(lambda: self.answer(child, "PING"), "redis-sentinel")
        self.addCleanup(child.stop)
        return child

    @staticmethod
    def answer(child, *command):
        try:
            return child.connection.execute_command(*command)
        except (redis.ConnectionError, redis.ResponseError):
            return None

    def named(self):
        return {self.answer(s, "SENTINEL", "get-master-addr-by-name", "parley")[1] for s in self.sentinels}

    def settled(self):
        return all(str(self.answer(s, "SENTINEL", "CKQUORUM", "parley")).startswith("OK 3 usable")
                   and self.answer(s, "SENTINEL", "REPLICAS", "parley") for s in self.sentinels)

    def test_a_failover_is_found_by_the_nodes(self):
        until(self.settled, "three sentinels that know one another and the replica", 30)
        community, user = new_community(), new_user()
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels)
        with Server(bus__url=f"redis+sentinel://{hosts}/parley", bus__prefix="parley", bus__canary_interval="500ms") as server:
            until(lambda: server.get("/readyz").status == 200, "ready", 15)
            client = server.register(user, [community])
            seen = server.publish([community])
            self.assertEqual(client.ids(5), [seen])
            until(lambda: int(self.replica.connect().get("{parley}:seq") or 0) >= seen, "the replica has it")
            self.primary.kill()

            def publish():
                return server.post("/realtime/publish", event(community), api=True, headers={"Idempotency-Key": "one"})

            self.assert_error(publish(), 503, "bus_unavailable")
            self.assertIn("bus_unavailable", server.get("/readyz").value["reasons"])
            until(lambda: publish().status == 200, "publishing works again", 40, every=0.5)
            until(lambda: self.named() == {str(self.replica.port)}, "all sentinels name the replica")
            self.assertEqual(client.ids(10), [publish().value["event_id"]])
            until(lambda: server.get("/readyz").status == 200, "ready again", 10)


@unittest.skipUnless(os.path.exists(HAPROXY), "no haproxy")
class Tls(TestCase):
    """HAProxy beside a node, as the page has it, to a Redis that speaks TLS."""

    def setUp(self):
        self.redis = Redis()
        self.addCleanup(self.redis.stop)
        self.tls_port = free_port()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "1", "-subj", "/CN=redis.example.org", "-addext", "subjectAltName=DNS:redis.example.org",
                        "-keyout", "key.pem", "-out", "cert.pem"], cwd=self.redis.dir, check=True, capture_output=True)
        self.redis.command += ["--tls-port", str(self.tls_port), "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem",
                               "--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "no"]
        self.redis.begin()

    def tunnel(self, host="redis.example.org"):
        """Returns the URL that leads through it."""
        child, port = Child(), free_port()
        text = block(PAGE, "defaults\n  mode tcp").replace("127.0.0.1:6379", f"127.0.0.1:{port}")
        text = text.replace("redis.example.org:6380", f"127.0.0.1:{self.tls_port}").replace("redis.example.org", host)
        text = text.replace("/etc/ssl/certs/ca-certificates.crt", os.path.join(self.redis.dir, "cert.pem"))
        path = os.path.join(child.dir, "haproxy.cfg")
        with open(path, "w") as f:
            f.write(text)
        child.command = [HAPROXY, "-db", "-f", path]
        child.start(listens(port), "haproxy")
        self.addCleanup(child.stop)
        return f"redis://127.0.0.1:{port}"

    def test_events_come_through(self):
        community = new_community()
        with Server(bus__url=self.tunnel(), bus__prefix="parley") as server:
            until(lambda: server.get("/readyz").status == 200, "ready", 15)
            client = server.register(new_user(), [community])
            self.assertEqual(client.ids(), [])
            self.assertEqual([server.publish([community])], client.ids(5))

    def test_a_server_of_another_name_is_not_talked_to(self):
        with self.assertRaises(redis.ConnectionError):
            self.redis.connect(self.tunnel("other.example.org")).ping()


if __name__ == "__main__":
    main()
