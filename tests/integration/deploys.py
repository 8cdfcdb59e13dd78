"""Two nodes with workers behind HAProxy as conf/haproxy.cfg has it (but for TLS), on one Redis; and what is done to them
at noon: reloads, upgrades, restarts, a worker killed, Redis away."""

import asyncio
import grp
import getpass
import os
import resource
import shutil
import signal
import tempfile
import time

import harness
from cluster import LOOPBACK, Cluster, Node, free_port, wait_for
from pages import Child, listens
from test_proxies import substituted

HAPROXY = "/usr/sbin/haproxy"
PROXY = "127.0.0.2"
WORKERS = int(os.environ.get("PL_WORKERS", "2"))
TLS = ("bind :::443 v4v6 ssl crt /etc/haproxy/parley.pem alpn h2,http/1.1", "http-request redirect scheme https code 301 unless { ssl_fc }",
       "http-response set-header Strict-Transport-Security \"max-age=31536000\"")


class Front:
    """HAProxy, as a client sees it: the one node there is."""

    name = "haproxy"

    def __init__(self):
        self.address = (LOOPBACK, free_port())

    def was_paused(self, since, until):
        return False


class Fleet(Cluster):
    """Nodes a and b that read a file of their own, behind a front that is all that clients see."""

    def __init__(self, clients, drain, **options):
        super().__init__(0, "redis", server__trusted_proxies=PROXY, server__proxy_protocol="on",
                         server__drain_time=f"{int(drain * 1000)}ms", server__workers=WORKERS, **options)
        self.clients, self.drain, self.front = clients, drain, Front()
        self.behind, self.proxies = [], []
        self.dir = tempfile.mkdtemp(prefix="parley-deploy-")
        self.binary = os.path.join(self.dir, "parleyd")
        shutil.copy(harness.PARLEYD, self.binary)

    def configure(self, node, **options):
        with open(node.conf + ".new", "w") as f:
            f.write("".join("[%s]\n%s = %s\n" % (*name.split("__"), value) for name, value in options.items()))
        os.rename(node.conf + ".new", node.conf)

    async def __aenter__(self):
        await super().__aenter__()
        try:
            for name in "ab":
                node = Node(name, **self.options, **self._url(None))
                node.conf = os.path.join(self.dir, name + ".conf")
                node.args = ["--config", node.conf]
                command = node.command
                node.command = lambda command=command: [self.binary, *command()[1:]]
                self.configure(node, bus__raw_changes="one")
                self.behind.append(node)
            await asyncio.gather(*(node.start() for node in self.behind))
            await asyncio.to_thread(self._balance)
            self.nodes = [self.front]
        except BaseException:
            self._kill()
            raise
        return self

    def _balance(self):
        """As many HAProxies on one port as it takes: a client has five descriptors in one, its own and one for each node and,
        once Redis has been away, for each that is not ready."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        count = 1 + self.clients * 5 // files
        text = substituted("haproxy.cfg", {
            **{line: "" for line in TLS},
            "user haproxy\n": f"user {getpass.getuser()}\n", "group haproxy\n": f"group {grp.getgrgid(os.getgid()).gr_name}\n",
            "  log /dev/log local0 notice\n": "", "  log global\n": "", "stats socket /run/haproxy/admin.sock mode 660 level admin": "",
            "maxconn 100000 ": f"maxconn {min(self.clients * 2 + 1000, files // 2 - 200)} ",
            "bind :::80 v4v6\n": "bind %s:%d\n" % self.front.address,
            "default-server send-proxy-v2": f"default-server source {PROXY} send-proxy-v2",
            **{address: "%s:%d" % node.address for address, node in zip(("10.0.0.11:8888", "10.0.0.12:8888"), self.behind)}})
        for _ in range(count):
            proxy = Child()
            path = os.path.join(proxy.dir, "proxy.conf")
            with open(path, "w") as f:
                f.write(text)
            proxy.command = [HAPROXY, "-db", "-q", "-f", path]
            self.proxies.append(proxy.start(listens(self.front.address[1]), HAPROXY))

    async def __aexit__(self, kind, *rest):
        try:
            if kind is None:
                for node in self.behind:
                    node.process.send_signal(signal.SIGINT)
                    await node.stop()
        finally:
            self._kill()

    def _kill(self):
        for proxy in self.proxies:
            proxy.stop()
        for node in self.behind:
            node.kill()
        self.nodes, self.proxies = [], []
        super()._kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def workers(self, node):
        with open(f"/proc/{node.process.pid}/task/{node.process.pid}/children") as f:
            return {int(pid) for pid in f.read().split()}

    # What is done to it.

    async def _renewed(self, node, before):
        """Only new workers are left, and they are as many as there should be."""
        async def only_new():
            pids = self.workers(node)
            return len(pids) == WORKERS and not pids & before
        await wait_for(only_new, f"{node.name} has new workers only", self.drain + 20)

    async def _renew(self, order):
        before = [self.workers(node) for node in self.behind]
        for node in self.behind:
            node.process.send_signal(order)
        await asyncio.gather(*(self._renewed(*pair) for pair in zip(self.behind, before)))

    async def reload(self):
        """Of both, for an option that needs new workers."""
        for node in self.behind:
            self.configure(node, bus__raw_changes="another")
        await self._renew(signal.SIGHUP)

    async def upgrade(self):
        shutil.copy(harness.PARLEYD, self.binary + ".new")
        os.rename(self.binary + ".new", self.binary)
        await self._renew(signal.SIGUSR2)

    async def restart(self, node):
        node.process.send_signal(signal.SIGTERM)

        async def ended():
            return node.process.poll() is not None

        await wait_for(ended, f"{node.name} ends", self.drain + 20)
        assert node.process.returncode == 0, f"{node.name} left with {node.process.returncode}"
        node._wait()
        await node.start()
        await asyncio.sleep(1.5)  # and HAProxy has seen it

    async def kill_a_worker(self):
        """How many seconds later there is another."""
        node = self.behind[0]
        before = self.workers(node)
        killed = time.monotonic()
        os.kill(min(before), signal.SIGKILL)
        while len(self.workers(node)) < WORKERS or self.workers(node) == before:
            assert time.monotonic() - killed < 5, "no other worker"
            await asyncio.sleep(0.005)
        return time.monotonic() - killed

    async def ready(self):
        await asyncio.gather(*(wait_for(node.ready, f"{node.name} is ready", 30) for node in self.behind))
