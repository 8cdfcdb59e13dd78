"""Two nodes behind nginx and behind HAProxy, by the text of docs/operations.md: no sticky sessions, a rolling restart, a
node killed, and Redis away."""

import os
import threading
import time

from harness import Server, TestCase, main, mint, new_community, new_user, until
from pages import Child, Redis, block, free_port, listens
from wsclient import Ws

PAGE = "operations.md"


class Front(Server):
    """What stands before the nodes: has an address and takes requests, as a node does."""

    def __init__(self, port):
        super().__init__()
        self.address = ("127.0.0.1", port)


class Balancers:
    """Both pass the same tests."""

    options = {}  # of the nodes

    def setUp(self):
        if not os.path.exists(self.binary):
            self.skipTest(f"no {self.binary}")
        self.redis = Redis().begin()
        self.addCleanup(self.redis.stop)
        self.nodes = {name: self.node(name, f"127.0.0.1:{free_port()}") for name in "ab"}
        self.addCleanup(lambda: [node.stop() for node in self.nodes.values() if node.process])
        self.front = self.make_front()
        self.child = Child()
        path = os.path.join(self.child.dir, "proxy.conf")
        with open(path, "w") as f:
            f.write(self.config())
        self.child.command = self.command(path)
        self.child.start(listens(self.front.address[1]), self.binary)
        self.addCleanup(self.child.stop)
        self.user, self.community = new_user(), new_community()
        until(lambda: self.through() == {"a", "b"}, "both nodes are used")

    def make_front(self):
        return Front(free_port())

    def node(self, name, listen):
        server = Server(server__node=name, server__listen=listen, bus__url=self.redis.url, bus__prefix="parley",
                        bus__canary_interval="200ms",
                        longpoll__timeout="20s", **self.options).start()
        until(lambda: server.get("/readyz").status == 200, f"{name} is ready", 15)
        return server

    def placed(self, text):
        """The page's addresses for the real ones."""
        text = text.replace("10.0.0.11:8888", "%s:%d" % self.nodes["a"].address)
        return text.replace("10.0.0.12:8888", "%s:%d" % self.nodes["b"].address)

    def through(self, n=8):
        """The nodes that answer through the balancer."""
        answers = [self.front.get("/realtime/health") for _ in range(n)]
        return {answer.value["node"] for answer in answers if answer.status == 200}

    def restart(self, name, kill=False):
        node = self.nodes[name]
        listen = "%s:%d" % node.address
        if kill:
            node.kill()
        else:
            node.stop()
        time.sleep(0.5)
        self.nodes[name] = self.node(name, listen)

    def test_polls_and_messages_need_no_sticky_session(self):
        client = self.front.register(self.user, [self.community])
        seen, published = [], []
        for _ in range(50):
            published.append(self.front.publish([self.community]))
            seen += client.ids(2)
        until(lambda: seen.extend(client.ids(1)) or len(seen) >= 50, "the last ones")
        self.assertEqual(seen, published)

    def test_websockets_pass(self):
        with Ws(self.front, token=mint(self.user, [self.community])) as ws:
            ws.expect("welcome")
            seen = self.front.publish([self.community])
            self.assertEqual(ws.expect("events")["events"][0]["event_id"], seen)

    def follow(self, client, seen, stop):
        """Polls as a client does: what is not answered is asked again."""
        while not stop.is_set():
            try:
                answer = client.ask(2)
            except OSError:
                continue
            if answer.status != 200:
                self.problems += [answer] if answer.status not in (502, 503, 504) else []
                time.sleep(0.1)
                continue
            self.problems += [answer] if "catchup_required" in answer.value else []
            client.position = answer.value["last_event_id"]
            seen += [e["event_id"] for e in answer.value.get("events", ())]

    def publish(self, number):
        """As a publisher does: until it is answered, under one key."""
        def attempt():
            try:
                answer = self.front.post("/realtime/publish", {"type": "x", "data": {}, "community_ids": [self.community]},
                                         api=True, headers={"Idempotency-Key": f"{self.id()}-{number}"})
            except OSError:
                return None
            return answer.status == 200 and answer.value["event_id"]
        return until(attempt, "a publish is answered", 20)

    def assert_nothing_is_missed_while(self, work):
        client, seen, stop, self.problems = self.front.register(self.user, [self.community]), [], threading.Event(), []
        published, publishing = [], threading.Event()

        def publisher():
            while not publishing.is_set() or len(published) <= 20:
                published.append(self.publish(len(published)))
                time.sleep(0.02)

        threads = [threading.Thread(target=self.follow, args=(client, seen, stop)), threading.Thread(target=publisher)]
        for thread in threads:
            thread.start()
        try:
            work()
        finally:
            publishing.set()
            threads[1].join()
            end = time.monotonic() + 10
            while len(seen) < len(published) and time.monotonic() < end:
                time.sleep(0.05)
            stop.set()
            threads[0].join()
        self.assertEqual(self.problems, [])
        self.assertEqual(seen, published)

    def test_a_rolling_restart_loses_nothing_and_registers_nobody_anew(self):
        self.assert_nothing_is_missed_while(lambda: [self.restart(name) for name in "ab"])

    def test_a_killed_node_is_not_missed(self):
        self.assert_nothing_is_missed_while(lambda: self.restart("a", kill=True))


class Nginx(Balancers, TestCase):
    binary = "/usr/sbin/nginx"

    def config(self):
        text = self.placed(block(PAGE, "upstream parley")).replace("listen 80;", "listen 127.0.0.1:%d;" % self.front.address[1])
        temporary = "".join(f"{name}_temp_path {self.child.dir}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return (f"daemon off; master_process off; pid {self.child.dir}/pid; error_log {self.child.dir}/error.log;\n"
                f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n")

    def command(self, path):
        return [self.binary, "-p", self.child.dir, "-c", path, "-e", f"{self.child.dir}/error.log"]


class HAProxy(Balancers, TestCase):
    binary = "/usr/sbin/haproxy"

    def config(self):
        return self.placed(block(PAGE, "defaults\n")).replace("bind :80", "bind 127.0.0.1:%d" % self.front.address[1])

    def command(self, path):
        return [self.binary, "-db", "-q", "-f", path]

    def test_with_redis_away_the_nodes_answer_for_themselves(self):
        client = self.front.register(self.user, [self.community])
        self.redis.kill()
        until(lambda: all(node.get("/readyz").status == 503 for node in self.nodes.values()), "no node is ready", 10)
        time.sleep(3)  # and HAProxy has seen it
        answer = self.front.post("/realtime/publish", {"type": "x", "data": {}, "community_ids": [self.community]}, api=True)
        self.assert_error(answer, 503, "bus_unavailable")
        self.redis.begin()
        until(lambda: all(node.get("/readyz").status == 200 for node in self.nodes.values()), "ready again", 15)
        seen = self.publish(0)
        self.assertEqual(client.ids(10), [seen])


if __name__ == "__main__":
    main()
