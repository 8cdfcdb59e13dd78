"""The Django application of docs/integration.md, exactly as the page has it, run by Django's own server before a parleyd."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys

from harness import API_KEY, SECRET, Poller, Proxy, Server, TestCase, clean_env, main, until
from pages import Child, Redis, block, free_port, listens

PAGE = "integration.md"
FILES = ("settings.py", "urls.py", "discussions/models.py", "discussions/realtime.py", "discussions/views.py")

# What an existing project has. X-Rollback stands for whatever goes wrong after a view has done its work.
SETTINGS = """
SECRET_KEY = "for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "discussions"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware",
              "django.contrib.auth.middleware.AuthenticationMiddleware", "rollback.middleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SILENCED_SYSTEM_CHECKS = ["urls.W002"]
"""
ROLLBACK = """
from django.db import transaction
def middleware(get_response):
    def handle(request):
        with transaction.atomic():
            response = get_response(request)
            transaction.set_rollback("X-Rollback" in request.headers)
        return response
    return handle
"""
# Users 1 and 2 with a session each, community 1 with both in it, community 2 with nobody.
FILL = """
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from discussions.models import Community
first, _ = Community.objects.create(), Community.objects.create()
for name in ("ada", "bob"):
    user = User.objects.create_user(name)
    first.members.add(user)
    session = SessionStore()
    session.update({"_auth_user_id": str(user.pk), "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
                    "_auth_user_hash": user.get_session_auth_hash()})
    session.save()
    print(session.session_key)
"""


class Application(Child):
    """The page's files in a directory, with a database, and Django's server on a free port."""

    def __init__(self, server, more=(), **env):
        super().__init__()
        self.files = {name: block(PAGE, f"# {name}\n") if name != "settings.py" else SETTINGS + block(PAGE, "# settings.py, at its end\n")
                      for name in FILES}
        for name, first in more:
            self.files[name] += block(PAGE, first)
        self.files.update({"rollback.py": ROLLBACK, "discussions/__init__.py": ""})
        for name, text in self.files.items():
            path = os.path.join(self.dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write(text)
        self.env = clean_env({"PARLEY_URL": server.origin, "PARLEY_API_KEY": API_KEY, "PARLEY_JWT_KEY": SECRET,
                              "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": self.dir,
                              "PYTHONDONTWRITEBYTECODE": "1", **env})
        self.manage("makemigrations", "discussions")
        self.manage("migrate")
        self.sessions = self.manage("shell", "-c", FILL).split()
        self.port = free_port()
        self.command = [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{self.port}"]

    def manage(self, *args):
        done = subprocess.run([sys.executable, "-m", "django", *args], cwd=self.dir, env=self.env, text=True,
                              capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin(self):
        return self.start(listens(self.port), "Django's server")

    def request(self, method, path, body=None, user=1, rollback=False):
        head = {"Cookie": f"sessionid={self.sessions[user - 1]}", **({"X-Rollback": "1"} if rollback else {})}
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            conn.request(method, "/api/" + path, None if body is None else json.dumps(body), head)
            answer = conn.getresponse()
            text = answer.read()
        finally:
            conn.close()
        assert answer.status < 500, f"{path}: {answer.status} {text[:300]!r}\n{self.log()}"
        return answer.status, json.loads(text) if text.startswith(b"{") else text

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def ok(self, method, path, body=None, **kw):
        status, value = self.request(method, path, body, **kw)
        assert status in (200, 201), f"{path}: {status} {value}"
        return value

    def comment(self, text, **kw):
        return self.post("communities/1/articles/789/comments", {"text": text}, **kw)


class LosesAnswers(Proxy):
    """To Redis: when told so, the next answer is lost, and its connection with it."""

    lose = False

    def _relay(self, client, server):
        self._thread(self._copy, client, server)
        with contextlib.suppress(OSError):
            while (data := server.recv(65536)) and not self.lose:
                client.sendall(data)
        self.lose = False
        for sock in (client, server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class ApplicationCase(TestCase):
    """One application and one parleyd for all tests of a class. User 1 writes, user 2 listens."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.addClassCleanup(cls.server.stop)
        cls.app = Application(cls.server).begin()
        cls.addClassCleanup(cls.app.stop)

    def listener(self, user=2):
        return Poller(self.server, self.app.ok("POST", "realtime/register", user=user))

    def texts(self, client, wait=0):
        return [event["data"]["comment"]["text"] for event in client.drain(wait)]


class Comments:
    """Whichever way they are published."""

    def test_a_comment_arrives_at_the_others_and_not_at_its_author(self):
        author, other = self.listener(1), self.listener(2)
        self.assertEqual(self.app.comment("hello")[0], 201)
        self.assertEqual(self.texts(other, 5), ["hello"])
        self.assertEqual(self.texts(author), [])

    def test_what_is_rolled_back_is_never_told(self):
        client = self.listener()
        self.assertEqual(self.app.comment("never was", rollback=True)[0], 201)
        self.app.comment("was")
        self.assertEqual(self.texts(client, 5), ["was"])
        comments = self.app.ok("GET", "communities/1/articles/789/discussion")["comments"]
        self.assertNotIn("never was", [c["text"] for c in comments])


class ByHttp(Comments, ApplicationCase):
    def test_snapshot_and_events_meet_without_a_gap(self):
        self.app.comment("before")
        page = self.app.ok("GET", "communities/1/articles/789/discussion", user=2)
        self.app.comment("after")
        client = self.listener()
        client.position = page["last_event_id"]
        self.assertEqual(page["comments"][-1]["text"], "before")
        self.assertEqual(self.texts(client, 5), ["after"])

    def test_joining_and_leaving_take_effect_on_open_queues(self):
        client = self.listener(2)
        self.app.ok("POST", "communities/2/join", user=2)
        seen = self.server.publish([2], data={"comment": {"text": "in two"}})
        self.assertEqual(client.ids(5), [seen])
        self.app.ok("POST", "communities/2/leave", user=2)
        self.server.publish([2])
        self.app.comment("in one")
        self.assertEqual(self.texts(client, 5), ["in one"])

    def test_a_rolled_back_join_grants_nothing(self):
        client = self.listener(2)
        self.app.ok("POST", "communities/2/join", user=2, rollback=True)
        self.server.publish([2])
        self.app.comment("in one")
        self.assertEqual(self.texts(client, 5), ["in one"])

    def test_whoever_is_in_no_community_is_not_registered(self):
        self.app.ok("POST", "communities/1/leave", user=2)
        self.assertEqual(self.app.post("realtime/register", user=2)[0], 400)
        self.app.ok("POST", "communities/1/join", user=2)
        self.assertEqual(self.listener(2).registered["communities"], [1])

    def test_the_token_opens_a_queue(self):
        client = self.server.register_token(self.app.ok("GET", "realtime/token")["token"])
        self.assertEqual(client.registered["communities"], [1])


class ThroughRedis(Comments, ApplicationCase):
    """The other `publish` of the page, in the place of the one by HTTP. Parley's nodes are on the same Redis."""

    @classmethod
    def setUpClass(cls):
        cls.redis = Redis().begin()
        cls.addClassCleanup(cls.redis.stop)
        cls.wire = cls.enterClassContext(LosesAnswers(("127.0.0.1", cls.redis.port)))
        cls.server = cls.node()
        cls.addClassCleanup(lambda: cls.server.stop())
        more = [(name, f"# {name}, at its end: through Redis") for name in ("settings.py", "discussions/realtime.py")]
        cls.app = Application(cls.server, more, PARLEY_REDIS_URL=cls.wire.origin.replace("http", "redis")).begin()
        cls.addClassCleanup(cls.app.stop)

    @classmethod
    def node(cls, listen="127.0.0.1:0"):
        server = Server(bus__url=cls.redis.url, bus__prefix="parley", server__listen=listen).start()
        until(lambda: server.get("/readyz").status == 200, "ready", 15)
        return server

    def test_a_broken_connection_to_redis_makes_one_event_not_none_nor_two(self):
        client = self.listener()
        self.app.comment("first")
        self.wire.cut()
        self.app.comment("asked in vain")
        self.wire.lose = True
        self.app.comment("done and not answered")
        self.assertFalse(self.wire.lose)
        seen = []
        until(lambda: seen.extend(self.texts(client, 1)) or len(seen) >= 3, "all three")
        self.assertEqual(seen + self.texts(client), ["first", "asked in vain", "done and not answered"])

    def test_what_is_published_while_no_node_runs_arrives_when_one_does(self):
        client = self.listener()
        address = "%s:%d" % self.server.address
        self.server.stop()
        self.app.comment("meanwhile")
        type(self).server = client.server = self.node(address)
        self.assertEqual(self.texts(client, 10), ["meanwhile"])


class WhenParleyIsAway(TestCase):
    def test_the_request_succeeds_and_the_reason_is_logged(self):
        server = Server().start()
        app = Application(server).begin()
        self.addCleanup(app.stop)
        server.stop()
        self.assertEqual(app.comment("stored")[0], 201)
        until(lambda: "Parley: no answer to /realtime/publish" in app.log(), "the reason in the log")


if __name__ == "__main__":
    main()
