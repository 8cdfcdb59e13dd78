"""Publishers, clients and changes of rights, hundreds in one process, for runs that judge.py judges.

Every event carries a number in data.n. Every client keeps what the protocol page asks of a client, a cursor that it
names on every new link, and besides when it had which cursor and what it was given.
"""

import asyncio
import collections
import contextlib
import random
import time
import urllib.parse
from array import array

import aio
import harness
from judge import Event, Life, Timeline, entitled, judge

POLL, WEBSOCKET = "poll", "websocket"
PUBLISHERS = 4
WAYS = [(WEBSOCKET, False), (POLL, False), (WEBSOCKET, True), (POLL, True)]  # transport, MessagePack?


class World:
    """What everybody in one run shares, and what went wrong in it."""

    def __init__(self, cluster, seed, faults=False, linger=None, patience=5, silence=10):
        self.cluster, self.seed, self.faults = cluster, seed, faults
        self.linger = linger      # for how many seconds (from, to) a client stays on a link; None: for one batch
        self.patience = patience  # seconds within which an overtaken link must be told so
        self.silence = silence    # nothing on a WebSocket for so many seconds: lost
        self.retry_for = 20       # seconds
        self.communities, self.articles = range(1, 13), range(1, 9)
        self.rng, self.http = random.Random(seed), aio.Http()
        self.begun = self.started = time.monotonic()
        self.deadline = float("inf")
        self.flowing = True          # events are being published
        self.calm = False            # no changes of rights now
        self.ended = False           # clients stop when they have everything
        self.may_lose_history = False  # a replica that lacked events was made the primary: `epoch` is the truth
        self.hurt = set()            # the nodes, or Redis, that a fault is upon now
        self.users, self.clients, self.lives = [], [], []
        self.events, self.top = {}, 0  # by n; the newest id that was answered
        self.number_of, self.ids_of, self.twice_published = {}, {}, []  # id -> n, n -> id, as clients saw them
        self.problems, self.problem_kinds = [], collections.Counter()
        self.counts = collections.Counter()
        self.latencies = array("d")
        self.pauses = []         # (end, length, life) of silences, for the table
        self.answer_pauses = []  # (end, length) of slow answers to publishes

    def clock(self):
        return time.monotonic() - self.begun

    def problem(self, kind, text):
        self.problem_kinds[kind] += 1
        if self.problem_kinds[kind] <= 8:
            self.problems.append(f"{self.clock():.1f} {kind}: {text}")

    def node(self, besides=None):
        """A node as a load balancer without health checks would choose it."""
        nodes = self.cluster.nodes
        if len(nodes) > 1 and besides is not None:
            nodes = [node for node in nodes if node is not besides]
        return self.rng.choice(nodes)

    def is_hurt(self, node):
        """Can the node not hear, or not say, what another one has done?"""
        return any(target is node or target not in self.cluster.nodes for target in self.hurt)

    async def backend(self, path, body, headers=None, timeout=4, retry_for=None):
        """A backend's request, to a random node, again until it is 200 or a plain no. None: unknown."""
        end = time.monotonic() + (retry_for or self.retry_for)
        node = self.node()
        while True:
            try:
                answer = await self.http.request(node.address, "POST", "/realtime/" + path, body, timeout=timeout,
                                                 headers={"X-API-Key": harness.API_KEY, **(headers or {})})
                if answer.status == 200:
                    return answer.value
                if answer.status not in (503, 429):
                    self.problem("refused", f"{path} {body!r:.200} by {node.name}: {answer}")
                    return None
                self.counts[f"{path.split('?')[0]} {answer.status}"] += 1
            except aio.Lost:
                self.counts[f"{path.split('?')[0]} lost"] += 1
            if time.monotonic() > end:
                return None
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            node = self.node(besides=node)

    # ---- publishing ----

    def new_event(self, for_all=False):
        rng = self.rng
        communities = self.communities if for_all else rng.sample(self.communities, 1 if rng.random() < 0.7 else 2)
        subscribers = excluded = None
        if not for_all and rng.random() < 0.1:
            subscribers = frozenset(user.id for user in rng.sample(self.users, min(len(self.users), 20)))
        elif not for_all and rng.random() < 0.1:
            excluded = rng.choice(self.users).id
        event = Event(len(self.events), tuple(communities), rng.choice(self.articles), subscribers, excluded)
        self.events[event.n] = event
        return event

    async def publish(self, events):
        """One request for these events under a key of its own; their ids stay None when it ended unknown."""
        body = [event.body() for event in events] if len(events) > 1 else events[0].body()
        body = aio.pack(body, False)
        retry_for = self.rng.choice((0.3, 3, self.retry_for)) if self.faults else self.retry_for
        begun = time.monotonic()
        for event in events:
            event.started = begun
        key = f"{self.seed}-{events[0].n}"
        value = await self.backend("publish", body, {"Idempotency-Key": key}, retry_for=retry_for)
        now = time.monotonic()
        if now - begun > 0.3:
            self.answer_pauses.append((now, now - begun))
        if value is None:
            self.counts["publishes unknown"] += 1
            return
        ids = value["event_ids"] if "event_ids" in value else [value["event_id"]]
        if len(ids) != len(events) or sorted(set(ids)) != ids:
            self.problem("publish", f"{len(events)} events were answered with {ids}")
        for event, event_id in zip(events, ids):
            event.id, event.answered = event_id, now
            self.top = max(self.top, event_id)

    async def publisher(self, share, per_s, stop):
        """Publishes `share` events, or until stop() says so; about per_s events a second."""
        sent, due = 0, time.monotonic()
        while sent < share and not stop():
            count = self.rng.randrange(2, 20) if self.rng.random() < 0.05 else 1
            count = min(count, share - sent)
            await self.publish([self.new_event() for _ in range(count)])
            sent += count
            due = max(due + count / per_s, time.monotonic() - 0.2)
            await asyncio.sleep(max(0, due - time.monotonic()))

    # ---- what clients were given ----

    def given(self, life, message):
        event_id = message["event_id"]
        n = message["data"]["n"]
        if event_id <= life.cursor:
            kind = "twice" if event_id in life.id_set() else "out of order"
            self.problem(kind, f"{life} has the cursor {life.cursor} and was given {event_id} (n {n})")
            return
        if self.number_of.setdefault(event_id, n) != n:
            self.problem("one id, two events", f"{event_id}: {self.number_of[event_id]} and {n}")
        if self.ids_of.setdefault(n, event_id) != event_id:
            self.twice_published.append((n, self.ids_of[n], event_id))
        for hidden in ("subscriber_ids", "exclude_user_id", "exclude_queue_id"):
            if hidden in message:
                self.problem("leak", f"{hidden} reached {life}")
        life.ids.append(event_id)
        life.moved(event_id)
        event = self.events[n]
        now = time.monotonic()
        if not self.faults and life.client.user.grants.changes:
            self._was_granted(life, event)
        self.latencies.append(now - event.started)
        self.counts["deliveries"] += 1
        if self.flowing and life.client.whole and not life.client.user.grants.changes:
            if life.last and now - life.last > 0.25:
                self.pauses.append((now, now - life.last, life))
            life.last = now

    def _was_granted(self, life, event):
        """Also what was published before a grant was taken away is not given on a link that came after. (Where
        there are several nodes, the one that serves it hears of the change a moment after its answer.)"""
        user, grace = life.client.user, 1 if len(self.cluster.nodes) > 1 else 0
        if not any(entitled(event, user, grants, {}) for grants in user.grants.since(life.client.link_began - grace)):
            self.problem("forbidden", f"{life} was given {event.id} (n {event.n}) on a link younger than the change")


class User:
    def __init__(self, world, user_id, communities, by_token):
        self.world, self.id, self.by_token = world, user_id, by_token
        self.communities = frozenset(communities)
        self.grants = Timeline(world, self.communities)
        self.version, self.lock = 0, asyncio.Lock()
        self.out = False              # disconnected, and not back yet
        self.disconnects = []         # of Change

    def token(self):
        return harness.mint(self.id, sorted(self.communities)) if self.by_token else None

    async def update(self, communities):
        """update-subscriptions by the backend."""
        async with self.lock:
            if self.out:
                return
            change = self.grants.change(frozenset(communities))
            self.version += 1
            body = {"user_id": self.id, "community_ids": sorted(communities), "version": self.version}
            if await self.world.backend("update-subscriptions", body) is not None:
                change.done()
                self.world.counts["changes of rights"] += 1

    async def disconnect(self):
        async with self.lock:
            change = self.grants.change(frozenset())
            self.disconnects.append(change)
            self.out = True
            while await self.world.backend("disconnect", {"user_id": self.id}) is None and not self.world.ended:
                pass
            change.done()
            self.world.counts["disconnects"] += 1

    async def register(self):
        """A new queue: (queue_id, first cursor), or None."""
        async with self.lock:
            change = self.grants.change(self.communities) if self.out else None
            body = {"user_id": self.id, "community_ids": sorted(self.grants.newest)}
            self.version += 1
            body["version"] = self.version
            if self.by_token:
                value = await self._by_token()
            else:
                value = await self.world.backend("register", body)
            if value and change:
                change.done()
            if value:
                self.out = False
            return (value["queue_id"], value["last_event_id"]) if value else None

    async def _by_token(self):
        if self.out:  # a token of the second of the disconnect counts as older than it
            await asyncio.sleep(2.1)
        end = time.monotonic() + self.world.retry_for
        while time.monotonic() < end:
            with contextlib.suppress(aio.Lost):
                answer = await self.world.http.request(self.world.node().address, "POST", "/realtime/register",
                                                       headers={"Authorization": "Bearer " + self.token()})
                if answer.status == 200:
                    return answer.value
                if answer.status != 503:
                    self.world.problem("refused", f"register by token: {answer}")
                    return None
            await asyncio.sleep(self.world.rng.uniform(0.1, 0.4))
        return None


class Overtaken:
    """A link of the client from which it has gone on to others. What time faults take does not count as waiting."""

    def __init__(self, client, node):
        self.client, self.node, self.links = client, node, client.links
        self.asked, self.waited = time.monotonic(), 0

    def is_overdue(self):
        """Should it have been told by now? To be asked now and then."""
        world, now = self.client.world, time.monotonic()
        if self.client.links > self.links + 1 and not world.is_hurt(self.node):
            self.waited += now - self.asked
        self.asked = now
        return self.waited > world.patience


class Client:
    """narrow: {community: articles}; a client that reads whatever it is given over links that come and go."""

    def __init__(self, world, n, user, narrow=None, with_token=False):
        self.world, self.n, self.user, self.narrow = world, n, user, narrow or {}
        self.with_token = with_token
        self.whole = not self.narrow and len(user.communities) > 2
        self.rng = random.Random(f"{world.seed}-{n}")
        self.life, self.node, self.way = None, None, n % len(WAYS)
        self.old = set()  # tasks that watch overtaken links
        self.links, self.link_began = 0, 0
        self.recent = collections.deque(maxlen=6)  # (node, since, until) of its last links

    # ---- queues ----

    async def begin(self):
        """A new life; False if none could be had."""
        registered = await self.user.register()
        if registered is None:
            return False
        life = Life(self, *registered)
        for community, articles in self.narrow.items():
            for article in articles:
                await self._narrow(life, community, article)
        self.life = life
        self.world.lives.append(life)
        return True

    async def _narrow(self, life, community, article):
        timeline = life.narrow[community]
        change = timeline.change((timeline.newest or frozenset()) | {article})
        message = {"op": "subscribe", "id": 1, "community_id": community, "article_id": article}
        end = time.monotonic() + self.world.retry_for
        while time.monotonic() < end:
            with contextlib.suppress(aio.Lost):
                answer = await self.world.http.request(self.world.node().address, "POST",
                                                       f"/realtime/send?queue_id={life.queue_id}", message, timeout=4)
                if answer.status == 200:
                    reply = answer.value["replies"][0]
                    if "error" not in reply:
                        return change.done()
                    if reply["error"]["code"] != "bus_unavailable":
                        return self.world.problem("refused", f"subscribe of {life}: {reply}")
                elif answer.status not in (503, 429):
                    return self.world.problem("refused", f"subscribe of {life}: {answer}")
            await asyncio.sleep(0.2)

    async def gone(self, what):
        """The queue is no more: rightly, if the user was disconnected."""
        user = self.user
        if user.disconnects and user.disconnects[-1].begun > self.life.moments[0]:
            while user.lock.locked() and not self.world.ended:
                await asyncio.sleep(0.05)
        else:
            self.world.counts["queues lost"] += 1
            if not self.world.may_lose_history:
                self.world.problem("queue lost", f"{self.life}: {what}, {self.node.name}")
        while not await self.begin() and not self._late():
            await asyncio.sleep(0.3)

    # ---- messages ----

    def take(self, message):
        """What a client does with a message; True if it brought something."""
        op, life = message["op"], self.life
        if op == "events":
            for event in message["events"]:
                self.world.given(life, event)
            cursor = message["last_event_id"]
            if cursor < life.cursor:
                self.world.problem("cursor went back", f"{life} has {life.cursor} and was told {cursor}")
            life.moved(cursor)
            if message["events"]:
                self.world.counts["batches"] += 1
            return bool(message["events"])
        if op == "catchup_required":
            self._catchup(message)
            return True
        if op in ("ping", "pong"):
            life.moved(message["last_event_id"])
        elif op == "signal" and message.get("type") == "status":
            self.world.counts[f"status {message['state']}"] += 1
        return False

    def _catchup(self, message):
        life, reason = self.life, message["reason"]
        self.world.counts[f"catchup {reason}"] += 1
        if reason != "epoch" or not self.world.may_lose_history:
            self.world.problem("catchup", f"{life} at {life.cursor}: {message}")
        names = message.get("communities")
        life.lost.append((life.cursor, message["last_event_id"], names and set(names), reason))
        life.moved(message["last_event_id"])

    # ---- links ----

    async def run(self):
        while not self._finished():
            self._choose()
            began = time.monotonic()
            try:
                await (self._poll if WAYS[self.way][0] == POLL else self._websocket)(WAYS[self.way][1])
            except aio.Lost as error:
                self._lost(str(error))
                await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            except aio.Refused as error:
                self._refused(error.status, str(error))
                await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            self.recent.append((self.node, began, time.monotonic()))
            if self.world.linger is None:
                await asyncio.sleep(self.rng.uniform(0, 0.2))
        while self.old and not self._late():  # a last link overtakes what is still open
            self.links += 2
            with contextlib.suppress(aio.Lost):
                target = "/realtime/poll" + self._query(timeout=0)
                await self.world.http.request(self.world.node().address, "GET", target, headers=self._headers(),
                                              timeout=3)
            if self.old:
                await asyncio.wait(self.old, timeout=1)
        if self.old:
            self.world.problem("two links", f"{self.life}: {len(self.old)} of its old links are open still")

    def _late(self):
        return time.monotonic() > self.world.deadline

    def _finished(self):
        return self.world.ended and self.life.cursor >= self.world.top or self._late()

    def _choose(self):
        self.node = self.world.node(besides=self.node)
        self.way = (self.way + self.rng.choice((1, 3))) % len(WAYS)  # always the other transport
        self.links += 1
        self.link_began = time.monotonic()
        self.world.counts["links"] += 1

    def _stay(self):
        linger = self.world.linger
        return time.monotonic() + (self.rng.uniform(0.3, 1.5) if linger is None else self.rng.uniform(*linger))

    def _query(self, **more):
        return "?" + urllib.parse.urlencode(
            {"queue_id": self.life.queue_id, "last_event_id": self.life.cursor, **more})

    def _headers(self):
        token = self.user.token() if self.with_token else None
        return {"Authorization": "Bearer " + token} if token else {}

    def _lost(self, what):
        self.world.counts["links lost"] += 1
        if not self.world.faults:
            self.world.problem("link lost", f"{self.life} at {self.node.name}: {what}")

    def _refused(self, status, what):
        self.world.counts[f"link {status}"] += 1
        if not (self.world.faults and status == 503):
            self.world.problem("link refused", f"{self.life} at {self.node.name}: {what}")

    async def _websocket(self, packed):
        life, end = self.life, self._stay()
        ws = await aio.WebSocket.open(self.node.address, packed, self._query(), self._headers())
        leave = ws.abort
        try:
            welcome = await ws.recv(self.world.silence)
            if welcome["op"] != "welcome":
                self.world.problem("welcome", f"{life}: {welcome}")
            elif not welcome["resumed"] or welcome["queue_id"] != life.queue_id:
                leave = None
                ws.close(1001)
                return await self.gone(f"resumed: false, {welcome['queue_id'][:6]}")
            got = False
            while not (time.monotonic() > end or got and self.world.linger is None) and not self._finished():
                try:
                    message = await ws.recv(max(0.01, end - time.monotonic()))
                except aio.Lost:
                    if time.monotonic() < end:
                        raise
                    break
                got = self.take(message) or got
                if message["op"] == "ping":
                    ws.send({"op": "pong"})
                elif message["op"] == "goaway":
                    break
            leave = self._leaving(ws)
        except aio.Closed as closed:
            await self._closed(closed)
        finally:
            if leave:
                leave()

    def _leaving(self, ws):
        """How this link ends: closed, cut, or left to be overtaken by the next."""
        how = self.rng.random()
        if how < 0.4:
            return lambda: ws.close(1001)
        if how < 0.7:
            return ws.abort
        return lambda: self._watch(self._overtaken_websocket(ws, self.life, self.node))

    def _watch(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.old.add(task)
        task.add_done_callback(self.old.discard)

    async def _overtaken_websocket(self, ws, life, node):
        """An older link of the queue: it is closed 4409 soon after the next one began."""
        link = Overtaken(self, node)
        try:
            while True:
                try:
                    message = await ws.recv(0.5)
                    if message["op"] == "ping":
                        ws.send({"op": "pong"})
                except aio.Lost as error:
                    if not error.silent:
                        raise
                if link.is_overdue():
                    self.world.problem("two links", f"{life} still has its old WebSocket at {node.name}")
                    break
        except aio.Closed as closed:
            self.world.counts[f"overtaken: {closed.code}"] += 1
            if closed.code not in (4409, 1013) and not self.world.faults and not self._is_out() and not self.world.ended:
                self.world.problem("overtaken", f"{life} at {node.name}: {closed}")
        except aio.Lost as error:
            self.world.counts["overtaken: lost"] += 1
            if not self.world.faults and not self.world.ended:
                self.world.problem("overtaken", f"{life} at {node.name}: {error}")
        finally:
            ws.abort()

    def _is_out(self):
        return bool(self.user.disconnects)

    def _hurried(self):
        """It was at another node a moment ago: faster than the news of that it is told to come again."""
        return any(node is not self.node and time.monotonic() - until < 1 for node, _, until in self.recent)

    async def _closed(self, closed):
        self.world.counts[f"closed {closed.code}"] += 1
        if closed.code in (4403, 4404):
            await self.gone(str(closed))
        elif closed.code == 4409:
            self._replaced(str(closed))
        elif closed.code == 1013 and (self._is_out() or self._hurried()):
            pass  # a node that is just up does not yet say for sure that a queue has ended
        elif closed.code == 4408 and self._was_stopped():
            pass
        elif not (self.world.faults and closed.code in (1001, 1011, 1012, 1013)):
            self.world.problem("closed", f"{self.life} at {self.node.name}: {closed}")

    def _replaced(self, what):
        """By nothing newer: a client would stop for good. Only a node that was stopped may do that, when it finds
        what was said to it in the meantime."""
        self.world.counts["replaced by an older link"] += 1
        if not self._was_stopped():
            self.world.problem("replaced", f"{self.life} at {self.node.name}: {what}, by nothing newer")

    def _was_stopped(self):
        """Was one of the nodes it was linked to lately, or is linked to now, stopped for a while?"""
        links = [*self.recent, (self.node, self.link_began, time.monotonic())]
        return any(node.was_paused(since, until + 1) for node, since, until in links)

    async def _poll(self, packed):
        end = self._stay()
        while not self._finished():
            overtaken = self.rng.random() < 0.2
            hold = 20 if overtaken else self.rng.choice((1, 2))
            request = asyncio.ensure_future(self.world.http.request(
                self.node.address, "GET", "/realtime/poll" + self._query(timeout=hold), headers=self._headers(),
                packed=packed, timeout=hold + 4))
            if overtaken:
                done, _ = await asyncio.wait([request], timeout=self.rng.uniform(0.02, 0.6))
                if not done:
                    return self._watch(self._overtaken_poll(request, self.life, self.node))
            answer = await request
            if answer.status != 200:
                return await self._poll_refused(answer)
            if self.take(answer.value) and self.world.linger is None or time.monotonic() > end:
                return
            if answer.value.get("goaway"):
                return

    async def _poll_refused(self, answer):
        self.world.counts[f"poll {answer.status}"] += 1
        if answer.status in (404, 403):
            await self.gone(repr(answer))
        elif answer.status == 409:
            self._replaced(repr(answer))
        elif answer.status == 503 and (self.world.faults or self._is_out() or self._hurried()):
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
        else:
            self.world.problem("poll refused", f"{self.life} at {self.node.name}: {answer}")

    async def _overtaken_poll(self, request, life, node):
        """It was answered just before (with events that the next link is given again), or is told 409."""
        link = Overtaken(self, node)
        while not request.done():
            await asyncio.wait([request], timeout=0.5)
            if link.is_overdue() and not request.done():
                self.world.problem("two links", f"{life} still has its old poll at {node.name}")
                request.cancel()
                return
        try:
            answer = await request
            self.world.counts[f"overtaken: {answer.status}"] += 1
            if answer.status not in (200, 409) and not (self.world.faults or self._is_out()):
                self.world.problem("overtaken", f"{life} at {node.name}: {answer}")
        except aio.Lost as error:
            if not self.world.faults and not self.world.ended:
                self.world.problem("overtaken", f"{life} at {node.name}: {error}")


# ---- a run ----


def people(world, clients, kind=Client):
    """Users and clients: half of the users with tokens, half registered by the backend; two in five users have
    two clients; a quarter of the clients are narrowed to articles."""
    rng, n = world.rng, 0
    while n < clients:
        some = rng.sample(world.communities, rng.randrange(2, 7))
        user = User(world, harness.new_user(), some, by_token=len(world.users) % 2 == 0)
        world.users.append(user)
        for _ in range(2 if rng.random() < 0.4 else 1):
            if n == clients:
                break
            narrow = {}
            if rng.random() < 0.25:
                some = rng.sample(sorted(user.communities), rng.randrange(1, len(user.communities) + 1))
                narrow = {c: frozenset(rng.sample(world.articles, 2)) for c in some}
            world.clients.append(kind(world, n, user, narrow, with_token=user.by_token))
            n += 1


async def in_groups(coroutines, size=16):
    gate = asyncio.Semaphore(size)

    async def one(coroutine):
        async with gate:
            return await coroutine

    return await asyncio.gather(*(one(c) for c in coroutines))


async def rest(seconds, stop):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop():
        await asyncio.sleep(0.05)


async def change_rights(world, users, every, stop):
    """Takes and gives communities of users that a backend registered."""
    users = [u for u in users if not u.by_token and len(u.communities) > 2]
    while users and not stop():
        if world.calm:
            await rest(0.1, stop)
            continue
        user = world.rng.choice(users)
        some = world.rng.sample(sorted(user.communities), world.rng.randrange(1, len(user.communities)))
        await user.update(user.communities if len(user.grants.newest) < len(user.communities) else some)
        await rest(world.rng.uniform(0.5, 1.5) * every, stop)


async def disconnect_some(world, users, every, stop):
    for user in users:
        await rest(every, stop)
        while world.calm and not stop():
            await asyncio.sleep(0.1)
        if stop():
            return
        await user.disconnect()


async def play(world, clients, events, per_s, meanwhile=None, disconnect_every=4, drain=30, kind=Client):
    """The whole of a run. events: how many are published. meanwhile: a coroutine; with it, publishing ends when
    it has ended. drain: how long clients may then take to have everything."""
    people(world, clients, kind)
    if not all(await in_groups([client.begin() for client in world.clients])):
        raise AssertionError(f"not every client could register: {world.problems}")
    world.started = time.monotonic()
    tasks = [asyncio.ensure_future(client.run()) for client in world.clients]
    try:
        await _busy(world, tasks, events, per_s, meanwhile, disconnect_every)
        await _end(world, tasks[:len(world.clients)], drain)
    finally:
        for task in tasks:
            task.cancel()
        outcome = await asyncio.gather(*tasks, return_exceptions=True)
        world.http.close()
    for error in outcome:
        if isinstance(error, Exception):
            raise error
    judge(world)


async def _busy(world, tasks, events, per_s, meanwhile, disconnect_every):
    """Publishing, with changes of rights and what else there is. Adds its tasks to the list."""
    running = set(tasks)
    over = [asyncio.ensure_future(meanwhile)] if meanwhile else []

    def stop():
        return not world.flowing or any(task.done() for task in over)

    publishing = [asyncio.ensure_future(world.publisher(events // PUBLISHERS, per_s / PUBLISHERS, stop))
                  for _ in range(PUBLISHERS)]
    disposable = world.users[:max(1, len(world.users) // 40)] + world.users[-2:]
    changing = [user for user in world.users if user not in disposable][::3]
    rights = [asyncio.ensure_future(change_rights(world, changing, 0.7, stop)),
              asyncio.ensure_future(disconnect_some(world, disposable, disconnect_every, stop))]
    tasks += publishing + rights + over
    await _all(publishing, running)
    world.flowing = False
    await _all(rights + over, running)


async def _all(tasks, running):
    """Waits for the tasks; what one of those or of the running ones raises is raised at once."""
    waiting = set(tasks)
    while waiting:
        done, _ = await asyncio.wait(waiting | running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        waiting -= done


async def _end(world, clients, drain):
    """An event for everybody: whoever has a cursor at it has had all the rest."""
    for _ in range(3):
        mark = world.new_event(for_all=True)
        await world.publish([mark])
        if mark.id is not None:
            break
    world.seconds = time.monotonic() - world.started
    world.ended, world.deadline = True, time.monotonic() + drain
    await asyncio.wait(clients, timeout=drain + 30)
    world.drained = time.monotonic() - world.started - world.seconds
    for client in world.clients:
        if client.life.cursor < world.top:
            world.problem("behind", f"{client.life} has {client.life.cursor} of {world.top} after {drain} s")
