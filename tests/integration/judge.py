"""The judge of what clients saw: docs/delivery.md asserted from outside, sharing no code with the server.

A life is one queue of a client from its first cursor to its last. In it, of all events above the first and up to
the last cursor: each that is due was given, once, in order, but for ranges that `catchup_required` named; and none
was given that is not allowed. Between due and allowed lie the events that were sequenced, or not yet received, while
a change of rights was under way (from the request to its answer).
"""

import bisect
import collections
import time
from array import array


class Event:
    __slots__ = ("n", "communities", "article", "subscribers", "excluded", "started", "id", "answered")

    def __init__(self, n, communities, article, subscribers, excluded):
        self.n, self.communities, self.article = n, communities, article
        self.subscribers, self.excluded = subscribers, excluded
        self.started = self.answered = None
        self.id = None  # what the publisher was answered, else what clients saw

    def body(self):
        out = {"type": "new_comment", "community_ids": list(self.communities),
               "data": {"article_id": self.article, "n": self.n, "text": "x" * 80}}
        if self.subscribers is not None:
            out["subscriber_ids"] = sorted(self.subscribers)
        if self.excluded is not None:
            out["exclude_user_id"] = self.excluded
        return out


class Change:
    """A value that took effect at some moment between begun and ended (None: not known to have)."""

    __slots__ = ("value", "begun", "floor", "ended")

    def __init__(self, value, floor):
        self.value, self.begun, self.floor, self.ended = value, time.monotonic(), floor, None

    def done(self):
        self.ended = time.monotonic()


class Timeline:
    def __init__(self, world, value):
        self.world, self.first, self.changes = world, value, []

    @property
    def newest(self):
        return self.changes[-1].value if self.changes else self.first

    def change(self, value):
        self.changes.append(Change(value, self.world.top))
        return self.changes[-1]

    def at(self, event):
        """The values that may have been in force when the event was sequenced."""
        values = [self.first]
        for change in self.changes:
            if event.id <= change.floor:
                break
            if change.ended is not None and event.started > change.ended:
                values = [change.value]
            else:
                values.append(change.value)
        return values

    def since(self, moment):
        """The values that may have been in force at the moment or after it."""
        values = [self.first]
        for change in self.changes:
            if change.ended is not None and change.ended < moment:
                values = [change.value]
            else:
                values.append(change.value)
        return values

    def until(self, event, moment):
        """Those, and what may have been in force from then up to the moment."""
        late = [c.value for c in self.changes if event.id <= c.floor and c.begun < moment]
        return self.at(event) + late


class Life:
    """One queue of a client, as the judge sees it."""

    def __init__(self, client, queue_id, cursor):
        self.client, self.queue_id, self.start, self.cursor = client, queue_id, cursor, cursor
        self.ids = array("q")
        self.cursors, self.moments = array("q", [cursor]), array("d", [time.monotonic()])
        self.lost = []  # (from, to, communities or None, reason)
        self.narrow = {c: Timeline(client.world, None) for c in client.narrow}
        self.last = None  # when it was given something

    def __str__(self):
        return f"client {self.client.n} (user {self.client.user.id}, queue {self.queue_id[:6]})"

    def id_set(self):
        return set(self.ids)

    def moved(self, cursor):
        if cursor > self.cursor:
            self.cursor = cursor
            self.cursors.append(cursor)
            self.moments.append(time.monotonic())

    def passed(self, event_id):
        """When the cursor reached the id."""
        return self.moments[bisect.bisect_left(self.cursors, event_id)]

    def excused(self, event):
        return any(low < event.id <= high and (names is None or names & set(event.communities))
                   for low, high, names, _ in self.lost)


def entitled(event, user, grants, narrow):
    """Rule 3 for one set of grants. narrow: {community: articles or None}."""
    if event.excluded == user.id:
        return False
    through = [c for c in event.communities if c in grants]
    if not through:
        return False
    if event.subscribers is not None:
        return user.id in event.subscribers
    return any(narrow.get(c) is None or event.article in narrow[c] for c in through)


def _verdict(event, life, moment):
    """(due, allowed) for the event in this life; moment: when the cursor passed it."""
    user, narrow = life.client.user, life.narrow
    if not user.grants.changes and not narrow:
        due = entitled(event, user, user.grants.first, {})
        return due, due
    narrowings = [{}]
    for community in event.communities:
        if community in narrow:
            values = set(narrow[community].until(event, moment))
            if any(community not in c.value and event.id > c.floor for c in user.grants.changes):
                values.add(None)  # taken and given again: the promises do not say whether it is narrowed still
            narrowings = [{**before, community: value} for before in narrowings for value in values]
    allowed = any(entitled(event, user, grants, n) for grants in user.grants.at(event) for n in narrowings)
    # Through a community that stood all the while: one that was given after the event does not reach back to it.
    stood = frozenset.intersection(*map(frozenset, user.grants.until(event, moment)))
    due = all(entitled(event, user, stood, n) for n in narrowings)
    return due, allowed


def judge(world):
    """Adds to world.problems whatever the clients' lists say against the promises."""
    for n, first, second in world.twice_published:
        world.counts["published twice"] += 1
        if not world.may_lose_history:
            world.problem("published twice", f"event {n} has the ids {first} and {second}")
    for event in world.events.values():
        seen = world.ids_of.get(event.n)
        if event.id is None:
            event.id = seen
        elif seen is not None and seen != event.id and not world.may_lose_history:
            world.problem("another id", f"event {event.n} was answered {event.id} and seen as {seen}")
    by_community = collections.defaultdict(list)
    for event in sorted((e for e in world.events.values() if e.id is not None), key=lambda e: e.id):
        for community in event.communities:
            by_community[community].append(event)
    for life in world.lives:
        _judge_life(world, life, by_community)


def _judge_life(world, life, by_community):
    user = life.client.user
    ever = set(user.grants.first).union(*(c.value for c in user.grants.changes))
    candidates = {e.id: e for c in ever for e in by_community[c] if life.start < e.id <= life.cursor}
    got = life.id_set()
    for event in candidates.values():
        due, allowed = _verdict(event, life, life.passed(event.id))
        if event.id in got:
            got.discard(event.id)
            if not allowed:
                world.problem("forbidden", f"{life} was given {event.id} (n {event.n}, {event.communities})")
        elif due:
            world.counts["due, not given"] += 1
            if not life.excused(event):
                world.problem("lost", f"{life} was not given {event.id} (n {event.n}, {event.communities}), "
                                      f"has the cursor {life.cursor}")
        world.counts["due"] += due
    for event_id in got:
        event = world.events[world.number_of[event_id]]
        if event.id == event_id:
            world.problem("forbidden", f"{life} was given {event_id} (n {event.n}, {event.communities})")


# ---- tables ----


def table(rows):
    """Rows of text, the first column left, the others right."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  " + "  ".join(str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
                                      for i, (cell, w) in enumerate(zip(row, widths))) for row in rows)


def summary(world):
    counts, kinds = world.counts, world.problem_kinds
    known = sum(event.answered is not None for event in world.events.values())
    late = sorted(world.latencies)

    def quantile(q):
        return f"{late[min(len(late) - 1, int(len(late) * q))] * 1000:.0f} ms" if late else "-"

    rows = [
        ("events published", len(world.events)), ("  answered with an id", known),
        ("clients", len(world.clients)), ("queues", len(world.lives)), ("links", counts["links"]),
        ("batches", counts["batches"]), ("deliveries", counts["deliveries"]), ("deliveries due", counts["due"]),
        ("lost", kinds["lost"]), ("twice", kinds["twice"]), ("out of order", kinds["out of order"]),
        ("forbidden", kinds["forbidden"]), ("catch-ups", sum(n for k, n in counts.items() if k.startswith("catchup "))),
        ("queues lost", counts["queues lost"]), ("seconds", f"{world.seconds:.1f} + {world.drained:.1f}"),
        ("deliveries/s", f"{counts['deliveries'] / world.seconds:.0f}"),
        ("publish to receipt, median", quantile(0.5)), ("  99 of 100", quantile(0.99)), ("  longest", quantile(1))]
    shown = {"links", "batches", "deliveries", "due", "queues lost"}
    rest = ", ".join(f"{k}: {v}" for k, v in sorted(counts.items()) if k not in shown)
    wrong = ", ".join(f"{k}: {v}" for k, v in sorted(kinds.items())) or "nothing"
    return table(rows) + f"\n  {rest}\n  wrong: {wrong}"
