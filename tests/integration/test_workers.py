"""A master with workers, and what is done to it: workers killed, reloads, upgrades, drains, its own death."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import PARLEY, PARLEYD, SECRET, Server, TestCase, main, mint, new_community, new_user, until
from pages import Redis, free_port
from wsclient import Ws


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return f.read().split()


def upgrade(test, server, status):
    """What `parley upgrade` says."""
    host, port = server.internal or server.address
    done = subprocess.run([PARLEY, "upgrade", "--url", f"http://{host}:{port}"], capture_output=True, text=True, timeout=70)
    test.assertEqual(done.returncode, status, done)
    return (done.stdout + done.stderr).strip()


class Hammer:
    """Connects and asks all the while: whatever is not answered as it should be is a problem."""

    def __init__(self, server, path="/health"):
        self.address, self.path = server.address, path
        self.count, self.problems, self.stop = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self):
        while not self.stop.is_set():
            try:
                with harness.RawConn(self.address) as conn:
                    conn.send(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n")
                    answer = conn.response()
                if answer.status != 200:
                    self.problems.append(answer)
                self.count += 1
            except (OSError, EOFError) as error:
                self.problems.append(repr(error))
            time.sleep(0.001)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


class OnRedis(TestCase):
    options = {"server__workers": 2}

    @classmethod
    def setUpClass(cls):
        cls.redis = Redis().begin()

    @classmethod
    def tearDownClass(cls):
        cls.redis.stop()

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="parley-workers-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.conf = os.path.join(self.dir, "parley.conf")
        self.user, self.community = new_user(), new_community()

    def configure(self, **options):
        """The file's options: section__key=value."""
        with open(self.conf + ".new", "w") as f:
            for name, value in options.items():
                section, key = name.split("__")
                f.write(f"[{section}]\n{key} = {value}\n")
        os.rename(self.conf + ".new", self.conf)

    def start(self, env=None, binary=None, **options):
        options = {"bus__url": self.redis.url, "bus__prefix": f"test-{os.urandom(8).hex()}",
                   "server__internal_listen": "127.0.0.1:0", **self.options, **options}
        if binary:
            command = Server.command
            server = type("Binary", (Server,), {"command": lambda s: [binary, *command(s)[1:]]})
        else:
            server = Server
        file = ["--config", self.conf] if os.path.exists(self.conf) else []
        self.server = server(file, env, **options).start()
        self.addCleanup(self.server.stop)
        until(lambda: self.inside("/readyz").status == 200, "ready", 15)
        wanted = self.inside("/health").value.get("workers", {"ready": 1, "wanted": 1})
        self.assertEqual(wanted["ready"], wanted["wanted"], "it was said to be ready when all its workers are")
        return self.server

    def inside(self, path):
        return self.server.get(path, internal=True)

    def workers(self):
        """{slot: pid} of those that run, by the master's children."""
        found = {}
        master = self.server.process.pid
        for pid in children(master):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
                match = re.match(rb"parleyd: worker (\d+)", f.read())
                if match:
                    found[int(match[1])] = int(pid)
        return found

    def log(self, event):
        return re.findall(rf"event={event}\b.*", self.server.stderr.decode(errors="replace"))

    def sum(self, name):
        """Over workers and other labels."""
        lines = self.inside("/metrics").body.decode().splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[{{ ]", line)]
        assert values, name
        return sum(values)

    def open_websocket(self):
        ws = Ws(self.server, token=mint(self.user, [self.community]))
        welcome = ws.expect("welcome")
        return ws, welcome

    # What they are together.

    def test_workers_are_one_node(self):
        self.start()
        self.assertEqual(len(self.workers()), 2)
        sockets = [self.open_websocket() for _ in range(20)]
        self.assertEqual(len({welcome["node"] for _, welcome in sockets}), 2, "one worker has them all")
        seen = self.server.request("POST", "/realtime/publish", harness.event([self.community]), api=True,
                                   internal=True).value["event_id"]
        for ws, _ in sockets:
            self.assertEqual(ws.expect("events")["events"][0]["event_id"], seen)
        health = self.inside("/health").value
        self.assertEqual(health["workers"], {"wanted": 2, "ready": 2})
        until(lambda: self.inside("/health").value["active_queues"] == 20, "every worker's queues are counted")
        until(lambda: self.sum("realtime_connections") >= 20, "every worker's connections are counted")
        labels = set(re.findall(r'worker="(\d+)"', self.inside("/metrics").body.decode()))
        self.assertEqual(labels, {"0", "1"})
        for ws, _ in sockets:
            ws.close()

    def test_a_worker_that_is_killed_is_replaced_and_its_clients_go_on(self):
        self.start()
        sockets = [self.open_websocket() for _ in range(10)]
        before, accepted = self.workers(), self.sum("realtime_accepted_total")
        os.kill(before[0], signal.SIGKILL)
        begun = time.monotonic()
        until(lambda: self.workers().get(0, before[0]) != before[0], "another process", every=0.005)
        took = time.monotonic() - begun
        print(f"a killed worker was replaced within {took * 1000:.0f} ms", flush=True)
        self.assertLess(took, 0.2)
        self.assertGreaterEqual(self.sum("realtime_accepted_total"), accepted)
        seen = self.server.request("POST", "/realtime/publish", harness.event([self.community]), api=True,
                                   internal=True).value["event_id"]
        for _, welcome in sockets:
            with Ws(self.server, query={"queue_id": welcome["queue_id"], "last_event_id": welcome["last_event_id"]}) as again:
                self.assertTrue(again.expect("welcome")["resumed"])
                self.assertEqual(again.expect("events")["events"][0]["event_id"], seen)
        until(lambda: self.inside("/health").value["workers"]["ready"] == 2, "both serve again")
        self.assertEqual(len(self.log("worker_died")), 1)

    def test_all_workers_killed_at_once_come_back(self):
        self.start()
        for pid in self.workers().values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(self.log("accepting")) == 4, "both accept again")
        self.assertEqual(self.server.get("/health").status, 200)

    # Reloads.

    def test_a_reload_in_place_reaches_every_worker(self):
        self.configure(websocket__ping_interval="20s")
        self.start()
        before = self.workers()
        self.configure(websocket__ping_interval="7s")
        self.server.hup()
        until(lambda: len(self.log("reloaded")) == 3, "the master and both workers say so")
        told = {}
        for _ in range(16):
            ws, welcome = self.open_websocket()
            told[welcome["node"]] = welcome["ping_interval_ms"]
            ws.close()
        self.assertEqual(set(told.values()), {7000})
        self.assertEqual(len(told), 2)
        self.assertEqual(self.workers(), before)

    def test_a_reload_that_needs_new_workers_drops_nobody(self):
        self.configure(server__workers=2, server__drain_time="2s")
        self.options = {}
        self.start(server__drain_time=None)
        before = self.workers()
        ws, welcome = self.open_websocket()
        poller = self.server.request("POST", "/realtime/register", {"user_id": self.user, "community_ids": [self.community]},
                                     api=True, internal=True).value
        poller = harness.Poller(self.server, poller)
        held = self.server.raw(f"GET {poller.path(30)} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: self.inside("/health").value["pending_polls"] == 1, "the poll is held")
        self.configure(server__workers=3, server__drain_time="2s")
        with Hammer(self.server) as hammer:
            self.server.hup()
            goaway = ws.expect("goaway", timeout=5)
            told = time.monotonic()
            self.assertEqual(goaway["reason"], "draining")
            self.assertLess(goaway["reconnect_after_ms"], 2000)
            answer = held.response()
            self.assertEqual((answer.status, answer.value["events"]), (200, []))
            self.assertEqual(answer.value["goaway"]["reconnect_after_ms"], 0)
            code, _ = ws.closed(6)
            self.assertEqual(code, 1012)
            self.assertGreater(time.monotonic() - told, goaway["reconnect_after_ms"] / 1000)
            until(lambda: len(self.workers()) == 3, "the old ones have left", 10)
        self.assertEqual(hammer.problems, [])
        self.assertGreater(hammer.count, 100)
        self.assertEqual(set(self.workers()) & set(before), set())
        with Ws(self.server, query={"queue_id": welcome["queue_id"], "last_event_id": welcome["last_event_id"]}) as again:
            self.assertTrue(again.expect("welcome")["resumed"])

    def test_a_bad_file_changes_nothing(self):
        self.configure(websocket__ping_interval="20s")
        self.start()
        before = self.workers()
        for bad in ("websocket.ping_interval", "server.workers"):
            self.configure(**{bad.replace(".", "__"): "many"})
            self.server.hup()
            until(lambda: any(bad in line for line in self.log("reload_refused")), "it says why")
        self.assertEqual(self.workers(), before)
        self.assertEqual(self.server.get("/health").status, 200)

    def test_an_address_in_use_changes_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.options = {"server__workers": 2, "server__listen": None}
            listen = f"127.0.0.1:{free_port()}"
            self.configure(server__listen=listen)
            self.start()
            before = self.workers()
            self.configure(server__listen="127.0.0.1:%d" % taken.getsockname()[1])
            self.server.hup()
            until(lambda: self.log("reload_refused"), "it says why")
            self.assertEqual(self.workers(), before)
            self.assertEqual(self.server.get("/health").status, 200)
            other = free_port()
            self.configure(server__listen=f"127.0.0.1:{other}")
            self.server.hup()
            until(lambda: self.log("workers_ready")[1:], "new workers")
            self.server.address = ("127.0.0.1", other)
            self.assertEqual(self.server.get("/health").status, 200)
            until(lambda: len(self.workers()) == 2, "the old ones have left")

    # Upgrades.

    def binary(self):
        """A copy, to be replaced."""
        path = os.path.join(self.dir, "parleyd")
        shutil.copy(PARLEYD, path)
        return path

    def test_an_upgrade_keeps_the_pid_and_drops_nobody(self):
        path = self.binary()
        self.start(binary=path)
        old = os.stat(path).st_ino
        before, accepted = self.workers(), self.sum("realtime_accepted_total")
        ws, welcome = self.open_websocket()
        shutil.copy(PARLEYD, path + ".new")
        os.rename(path + ".new", path)
        with Hammer(self.server) as hammer:
            self.server.process.send_signal(signal.SIGUSR2)
            until(lambda: self.log("upgrading") and len(self.workers()) == 2 and not set(self.workers()) & set(before),
                  "new workers only", 10)
        self.assertEqual(hammer.problems, [])
        self.assertNotEqual(os.stat(f"/proc/{self.server.process.pid}/exe").st_ino, old)
        for pid in self.workers().values():
            self.assertEqual(os.stat(f"/proc/{pid}/exe").st_ino, os.stat(path).st_ino)
        self.assertGreater(self.sum("realtime_accepted_total"), accepted)
        self.assertEqual(ws.closed(6)[0], 1012)
        with Ws(self.server, query={"queue_id": welcome["queue_id"], "last_event_id": welcome["last_event_id"]}) as again:
            self.assertTrue(again.expect("welcome")["resumed"])
        # And once more, then a replacement: the new master knows its children.
        before = self.workers()
        self.assertRegex(upgrade(self, self.server, 0), rf"^upgraded: pid {self.server.process.pid}, 2 workers, \d+ ms$")
        until(lambda: len(self.workers()) == 2 and not set(self.workers().values()) & set(before.values()), "again", 10)
        victim = min(self.workers())
        pid = self.workers()[victim]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.workers().get(victim, pid) != pid, "it is replaced")

    @unittest.skipIf(os.geteuid() != 0, "only root can become somebody else")
    def test_root_is_given_up_for_good(self):
        path = self.binary()
        os.chmod(self.dir, 0o755)
        env = {"ASAN_OPTIONS": "detect_leaks=0"}  # which looks at the process as a debugger does, and may not
        self.start(binary=path, env=env, server__user="nobody")
        nobody = pwd.getpwnam("nobody")
        for upgraded in (False, True):
            if upgraded:
                upgrade(self, self.server, 0)
            for pid in (self.server.process.pid, *self.workers().values()):
                with open(f"/proc/{pid}/status") as f:
                    status = dict(line.rstrip().split(":\t", 1) for line in f if ":\t" in line)
                self.assertEqual(status["Uid"].split(), [str(nobody.pw_uid)] * 4)
                self.assertEqual(status["Gid"].split(), [str(nobody.pw_gid)] * 4)
                self.assertEqual(status["Groups"].split(), [str(nobody.pw_gid)])
                self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(self.log("running_as_root"), [])

    def test_a_binary_that_does_not_start_is_not_taken(self):
        path = self.binary()
        self.start(binary=path)
        before = self.workers()
        for text in ("#!/bin/sh\nexit 1\n", "no program at all"):
            with open(path + ".new", "w") as f:
                f.write(text)
            os.chmod(path + ".new", 0o755)
            os.rename(path + ".new", path)
            refused = len(self.log("upgrade_refused"))
            self.assertIn("refused, nothing has changed: ", upgrade(self, self.server, 1))
            until(lambda: len(self.log("upgrade_refused")) > refused, "it says so")
        self.assertEqual(self.workers(), before)
        os.kill(before[0], signal.SIGKILL)  # its replacement is of the binary that runs
        until(lambda: self.workers().get(0, before[0]) != before[0], "replaced all the same")
        self.assertEqual(self.server.get("/health").status, 200)

    # Ends.

    def test_sigterm_drains_and_a_second_one_does_not_wait(self):
        self.start(server__drain_time="30s")
        ws, _ = self.open_websocket()
        self.server.process.send_signal(signal.SIGTERM)
        ws.expect("goaway", timeout=5)
        self.assertEqual(self.inside("/readyz").status, 503)
        self.assertEqual(self.inside("/readyz").value, {"reasons": ["draining"]})
        self.assertEqual(self.inside("/health").value["status"], "draining")

        def refused():
            try:
                socket.create_connection(self.server.address).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused, "every process has stopped accepting", 5)
        with self.assertRaises(subprocess.TimeoutExpired):
            self.server.process.wait(0.5)
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(ws.closed(5)[0], 1012)
        self.server.process.wait(10)
        self.assertEqual(self.server.process.returncode, 0)
        self.server._wait()
        self.server.process = None

    def test_who_has_just_connected_is_answered_before_the_end(self):
        self.start(server__workers=1, server__drain_time="0s")
        with harness.RawConn(self.server.address) as conn:
            until(lambda: self.sum("realtime_accepted_total") > 2, "it is accepted")
            self.server.process.send_signal(signal.SIGTERM)
            until(lambda: self.log("stopping"), "it stops")
            conn.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(conn.response().value["status"], "draining")
        self.server.process.wait(5)
        self.assertEqual(self.server.process.returncode, 0)
        self.server._wait()
        self.server.process = None

    def test_one_process_drains_too(self):
        self.start(server__workers=1, server__drain_time="2s")
        ws, _ = self.open_websocket()
        begun = time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        goaway = ws.expect("goaway", timeout=5)
        self.assertEqual(self.inside("/readyz").value, {"reasons": ["draining"]})
        self.assertEqual(ws.closed(6)[0], 1012)
        self.assertGreater(time.monotonic() - begun, goaway["reconnect_after_ms"] / 1000 + 1.5)
        self.server.process.wait(10)
        self.assertEqual(self.server.process.returncode, 0)
        self.server._wait()
        self.server.process = None

    def test_a_poll_stays_until_its_slot_and_goes_in_it(self):
        self.start(server__workers=1, server__drain_time="2s")
        conns = []
        for _ in range(12):
            value = self.server.request("POST", "/realtime/register", {"user_id": new_user(), "community_ids": [self.community]},
                                        api=True, internal=True).value
            conn = self.server.raw()
            self.addCleanup(conn.close)
            conns.append((conn, harness.Poller(self.server, value)))
            conn.send(f"GET {conns[-1][1].path(30)} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: self.inside("/health").value["pending_polls"] == 12, "all are held")
        begun = time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        seen = self.server.request("POST", "/realtime/publish", harness.event([self.community]), api=True,
                                   internal=True).value["event_id"]
        stayed, told = 0, []
        for conn, poller in conns:
            answer = conn.response()
            if "goaway" not in answer.value:
                stayed += 1
                self.assertEqual([e["event_id"] for e in answer.value["events"]], [seen])
                self.assertIsNone(answer.headers.get("Connection"), answer)
                poller.position = answer.value["last_event_id"]
                conn.send(f"GET {poller.path(30)} HTTP/1.1\r\nHost: x\r\n\r\n")
        for conn, _ in sorted(conns, key=lambda pair: int.from_bytes(bytes.fromhex(pair[1].queue_id)[:4], "little") % 2000):
            if not conn.closed(0.01):
                answer = conn.response()
                self.assertEqual((answer.status, answer.value["events"]), (200, []))
                self.assertEqual(answer.value["goaway"]["reconnect_after_ms"], 0)
                self.assertEqual(answer.headers["Connection"], "close")
                told.append(time.monotonic() - begun)
        self.assertGreater(stayed, 4)
        self.assertGreater(told[-1] - told[0], 0.5, "all at once")
        self.assertLess(told[-1], 2.5)
        self.server.process.wait(10)
        self.assertEqual(self.server.process.returncode, 0)
        self.server._wait()
        self.server.process = None

    def test_workers_do_not_outlive_their_master(self):
        self.start()
        pids = self.workers().values()
        self.server.process.kill()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the workers have ended", 10)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(self.server.address)
        self.server._wait()
        self.server.process = None

    def test_a_master_is_a_good_pid_1(self):
        """Orphans of the container are reaped, and it ends as told."""
        if subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode != 0:
            self.skipTest("no namespaces here")
        for workers in (1, 2):
            listen = f"127.0.0.1:{free_port()}"
            command = Server(server__listen=listen, bus__url=self.redis.url, bus__prefix=f"pid1-{workers}",
                             server__workers=workers).command()
            # An orphan that ends at once, then parleyd in place of the shell: pid 1.
            script = "(sh -c 'sleep 1' &) ; exec \"$@\""
            process = subprocess.Popen(["unshare", "-pf", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", *command],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=harness.clean_env())
            try:
                until(lambda: not _refused(listen), "it listens", 10)
                inner = int(children(process.pid)[0])
                time.sleep(1.3)
                states = [_state(pid) for pid in children(inner)]
                self.assertNotIn("Z", states)
                self.assertEqual(len(states), workers if workers > 1 else 0)
                os.kill(inner, signal.SIGTERM)
                self.assertEqual(process.wait(10), 0)
            finally:
                process.kill()
                process.wait()

    # Who started it.

    def test_systemd_is_told_and_its_socket_is_used(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, socket.create_server(("127.0.0.1", 0)) as listening:
            heard.bind(os.path.join(self.dir, "notify"))
            heard.settimeout(10)
            for workers in (1, 2):
                self.configure(websocket__ping_interval="20s")
                command = Server(["--config", self.conf], bus__url=self.redis.url, bus__prefix="systemd", server__workers=workers).command()
                process = subprocess.Popen(
                    ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, pass_fds=[], preexec_fn=lambda: os.dup2(listening.fileno(), 3, inheritable=True),
                    close_fds=False,
                    env=harness.clean_env({"NOTIFY_SOCKET": os.path.join(self.dir, "notify"), "LISTEN_FDS": "1"}))
                try:
                    self.assertEqual(heard.recv(100), b"READY=1")
                    self.assertIn(b"ready on http://127.0.0.1:%d\n" % listening.getsockname()[1], process.stdout.readline())
                    with socket.create_connection(listening.getsockname()) as s:
                        s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                        self.assertIn(b"200 OK", s.recv(1000))
                    process.send_signal(signal.SIGHUP)
                    self.assertRegex(heard.recv(100), rb"^RELOADING=1\nMONOTONIC_USEC=\d+$")
                    self.assertEqual(heard.recv(100), b"READY=1")
                    process.send_signal(signal.SIGTERM)
                    self.assertEqual(heard.recv(100), b"STOPPING=1")
                    self.assertEqual(process.wait(10), 0)
                finally:
                    process.kill()
                    process.wait()
                    process.stdout.close()


def _refused(listen):
    host, port = listen.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return True
    return False


def _state(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


@unittest.skipIf(harness.TEST_BUS, "of the embedded bus")
class Embedded(TestCase):
    def test_it_is_one_process_and_says_why(self):
        with Server(server__workers=4) as server:
            until(lambda: b"event=one_worker" in server.stderr, "it says so")
            self.assertIn(b"memory:", server.stderr)
            self.assertNotIn("workers", server.health())

    def test_an_option_that_needs_another_process_is_refused_with_the_reason(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            with Server(["--config", f.name]) as server:
                f.write("[bus]\nurl = redis://127.0.0.1:1\n[websocket]\nping_interval = 7s\n")
                f.flush()
                server.hup()
                until(lambda: b"event=reload_needs_restart" in server.stderr, "it says so")
                self.assertRegex(server.stderr, rb'option=bus.url reason="bus.url is memory:')
                with Ws(server, token=mint()) as ws:
                    self.assertEqual(ws.expect("welcome")["ping_interval_ms"], 7000)

    def test_an_upgrade_is_a_new_epoch_and_refuses_no_connection(self):
        with Server() as server:
            pid = server.process.pid
            client = server.register(new_user())
            ws = Ws(server, token=mint())
            ws.expect("welcome")
            seen = server.publish()
            started = server.metric("process_start_time_seconds")
            time.sleep(1.1)
            with Hammer(server) as hammer:
                server.process.send_signal(signal.SIGUSR2)
                self.assertEqual(ws.closed(5)[0], 1012)
                until(lambda: server.stdout.count(b"parleyd ready") == 2, "it is there again")
                time.sleep(0.2)
            self.assertEqual([p for p in hammer.problems if "refused" in str(p).lower()], [])
            self.assertEqual(server.process.pid, pid)
            self.assertGreater(server.metric("process_start_time_seconds"), started)
            self.assert_error(client.ask(), 404, "queue_not_found")
            self.assertGreater(server.publish(), seen)
            self.assertRegex(upgrade(self, server, 0), rf"^upgraded: pid {pid}, 1 worker, \d+ ms$")


if __name__ == "__main__":
    main()
