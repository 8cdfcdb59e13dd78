"""The function library server/bus/parley.lua, called as nodes and backends call it, in a real redis-server."""

import ctypes
import datetime
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import redis

from harness import MAX_INT, ROOT, until

with open(os.path.join(ROOT, "server", "bus", "parley.lua"), encoding="utf-8") as source:
    LIBRARY = source.read()
HOUR, DAY = 3600_000, 24 * 3600_000
READ_ONLY = ("parley_version", "parley_user", "parley_read", "parley_since", "parley_verify")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class RedisServer:
    """A redis-server on a free port with a directory of its own. AOF, so that it can be killed and come back."""

    def __init__(self):
        self.dir, self.process = tempfile.mkdtemp(prefix="parley-redis-"), None
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
                   "--appendfsync", "always", "--dir", self.dir]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.client = redis.Redis(port=self.port)
        until(self._answers, "redis-server to answer", timeout=10)

    def _answers(self):
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False

    def kill(self):
        self.client.close()
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.kill()
        shutil.rmtree(self.dir)


class Entry:
    """id, prev, tag, form, payload as parley_read and parley_since give them."""

    def __init__(self, fields):
        self.id, self.prev = int(fields[0]), int(fields[1])
        self.tag, self.form, self.payload = (f.decode() for f in fields[2:])


class Case(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.server = RedisServer()
        cls.addClassCleanup(cls.server.stop)
        cls.server.client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)

    def setUp(self):
        self.r = self.server.client
        self.r.flushall()
        self.nonces = itertools.count()

    # Calls.

    def key(self, name):
        return "{t}:" + name

    def call(self, function, keys, *args):
        keys = [self.key(k) for k in keys]
        fcall = "FCALL_RO" if function in READ_ONLY else "FCALL"
        return self.r.execute_command(fcall, function, len(keys), *keys, *args)

    def refused(self, word, function, keys, *args):
        """The call answers an error that begins with word, and nothing is different afterwards."""
        before = self.everything()
        with self.assertRaises(redis.ResponseError) as caught:
            self.call(function, keys, *args)
        message = str(caught.exception)
        self.assertTrue(message.startswith(word + " "), f"{message} ({function} {keys} {args!r:.200})")
        self.assertEqual(before, self.everything(), f"{function} {keys} {args!r:.200} wrote before it refused")
        return message

    def everything(self):
        return {k: (self.r.dump(k), self.r.pttl(k) > 0) for k in self.r.keys("*")}

    def events_args(self, events, log_events=10000, age=DAY, nonce=None, ttl=0, hash="h"):
        nonce = nonce or f"nonce{next(self.nonces)}"
        flat = [x for form, payload, logs in events for x in (form, payload, len(logs), *logs)]
        return [nonce, ttl, hash, log_events, age, len(events), *flat]

    def append(self, channels=("a",), events=None, idem="none", **options):
        """Appends events, by default one to all channels; returns the whole reply."""
        events = events or [("E", "body", range(1, len(channels) + 1))]
        keys = ["seq", "idem:" + idem, *("log:" + c for c in channels)]
        return self.call("parley_append", keys, *self.events_args(events, **options))

    def one(self, *channels, **options):
        """Appends one event and returns its id."""
        reply = self.append(channels or ("a",), **options)
        self.assertEqual(reply[0], b"ok")
        return int(reply[1])

    def publish(self, event, channels=("community:42",), idem=None, *more):
        keys = ["seq", *("log:" + c for c in channels), *(["idem:" + idem] if idem else [])]
        return int(self.call("parley_publish", keys, event if isinstance(event, (str, bytes)) else json.dumps(event), *more))

    def read(self, channel="a", after=0, upto="+", count=1000, tag="", age=DAY):
        reply = self.call("parley_read", ["seq", "log:" + channel], after, upto, count, tag, age)
        entries = [Entry(reply[i:i + 5]) for i in range(3, len(reply), 5)]
        return int(reply[0]), int(reply[1]), reply[2].decode(), entries

    def now_ms(self):
        s, us = self.r.time()
        return s * 1000 + us // 1000

    def listen(self):
        pubsub = self.r.pubsub()
        pubsub.psubscribe("*")
        until(lambda: pubsub.get_message(timeout=1), "the subscription")
        self.addCleanup(pubsub.close)
        return pubsub

    def heard(self, pubsub, n):
        """The next n messages as (channel without prefix, message); and then there is none."""
        out = []
        while len(out) < n:
            message = until(lambda: pubsub.get_message(timeout=1), f"message {len(out) + 1} of {n}")
            out.append((message["channel"].decode()[4:], message["data"].decode()))
        self.assertIsNone(pubsub.get_message(timeout=0.02))
        return out


class Sequence(Case):
    def test_ids_grow_and_are_not_below_their_time(self):
        before = self.now_ms()
        ids = [self.one() for _ in range(20)]
        self.assertEqual(sorted(set(ids)), ids)
        self.assertGreaterEqual(ids[0], before * 1024)
        self.assertLessEqual(ids[-1], (self.now_ms() + 1) * 1024)
        self.assertEqual(int(self.r.get(self.key("seq"))), ids[-1])

    def test_a_clock_that_went_back_does_not_take_ids_back(self):
        ahead = (self.now_ms() + HOUR) * 1024
        self.r.set(self.key("seq"), ahead)
        self.assertEqual([self.one(), self.one()], [ahead + 1, ahead + 2])

    def test_a_log_ahead_of_seq_lifts_it(self):
        ahead = (self.now_ms() + HOUR) * 1024
        self.r.xadd(self.key("log:b"), {"p": 0, "g": "t", "f": "E", "d": "x"}, id=f"{ahead}-0")
        self.assertEqual(self.one("a", "b"), ahead + 1)
        self.assertEqual(self.one("a"), ahead + 2)

    def test_no_id_reaches_2_53(self):
        self.r.set(self.key("seq"), MAX_INT - 2)
        args = self.events_args([("E", "x", [1])] * 3)
        self.refused("INVALID", "parley_append", ["seq", "idem:i", "log:a"], *args)
        self.assertEqual(self.one(), MAX_INT - 1)
        self.assertEqual(self.one(), MAX_INT)
        self.refused("INVALID", "parley_append", ["seq", "idem:i", "log:a"], *self.events_args([("E", "x", [1])]))
        self.refused("INVALID", "parley_marker", ["seq", "control"])
        self.refused("INVALID", "parley_canary", ["seq", "nodes"], "{t}:node:n", "n", "x", "{}")
        self.refused("INVALID", "parley_epoch", ["seq", "epoch", "control"], 0, 0)
        self.refused("INVALID", "parley_change", ["seq", "control", "user:7", "idem:i"], "n", 0, "h", "x", 1000, 10, DAY)
        self.refused("INVALID", "parley_publish", ["seq", "log:community:42"], json.dumps(EVENT))

    def test_seq_that_is_no_number_is_refused(self):
        for seq in ("x", "-1", "1.5", str(MAX_INT + 1), "1" * 20, ""):
            self.r.set(self.key("seq"), seq)
            self.refused("INVALID", "parley_marker", ["seq", "control"])


class Append(Case):
    def test_each_channel_has_its_own_chain(self):
        first, second = self.one("a", "b"), self.one("b")
        third = self.one("a", "b")
        self.assertEqual([(e.id, e.prev) for e in self.read("a")[3]], [(first, 0), (third, first)])
        self.assertEqual([(e.id, e.prev) for e in self.read("b")[3]], [(first, 0), (second, first), (third, second)])

    def test_a_batch_is_numbered_in_its_order(self):
        reply = self.append(("a", "b"), [("E", "one", [2]), ("J", "two", [1, 2]), ("E", "three", [2])])
        ids = [int(i) for i in reply[1:4]]
        self.assertEqual(ids, [ids[0], ids[0] + 1, ids[0] + 2])
        a, b = self.read("a")[3], self.read("b")[3]
        self.assertEqual([(e.id, e.prev, e.form, e.payload) for e in a], [(ids[1], 0, "J", "two")])
        self.assertEqual([(e.id, e.prev, e.form, e.payload) for e in b],
                         [(ids[0], 0, "E", "one"), (ids[1], ids[0], "J", "two"), (ids[2], ids[1], "E", "three")])

    def test_a_large_batch(self):
        reply = self.append(("a",), [("E", str(i), [1]) for i in range(9000)])
        self.assertEqual(len(reply), 1 + 2 * 9000)
        entries = self.read(count=10000)[3]
        self.assertEqual([e.id for e in entries], [int(i) for i in reply[1:9001]])
        self.assertEqual([e.tag for e in entries], [t.decode() for t in reply[9001:]])

    def test_tags_are_those_of_the_nonce(self):
        reply = self.append(("a",), [("E", "x", [1]), ("E", "x", [1])], nonce="0123abc")
        tags = [hashlib.sha1(b"0123abc:%d" % n).hexdigest()[:8] for n in (1, 2)]
        self.assertEqual([t.decode() for t in reply[3:]], tags)
        self.assertEqual([e.tag for e in self.read()[3]], tags)

    def test_every_channel_hears_of_all(self):
        first = self.one("a")
        heard = self.listen()
        reply = self.append(("a", "room:7"), [("E", "pay load", [1, 2]), ("J", "x", [2])])
        one, two, tag1, tag2 = (b.decode() for b in reply[1:])
        both = f"E {one} {tag1} 2 {first} 1 a 0 6 room:7 pay load"
        self.assertEqual(self.heard(heard, 3), [("log:a", both), ("log:room:7", both),
                                                ("log:room:7", f"J {two} {tag2} 1 {one} 6 room:7 x")])

    def test_payloads_are_bytes(self):
        payload = bytes(range(256))
        self.append(("a",), [("E", payload, [1])])
        self.assertEqual(self.call("parley_read", ["seq", "log:a"], 0, "+", 1, "", DAY)[-1], payload)

    def test_the_chain_survives_trimming(self):
        ids = [self.one(log_events=100) for _ in range(500)]
        self.assertLessEqual(self.r.xlen(self.key("log:a")), 200)
        entries = self.read()[3]
        self.assertEqual([e.id for e in entries], ids[-len(entries):])
        self.assertEqual([e.prev for e in entries], ids[-len(entries) - 1:-1])
        self.r.xtrim(self.key("log:a"), maxlen=0, approximate=False)
        self.one()
        self.assertEqual(self.read()[3][0].prev, ids[-1])

    def test_old_events_are_dropped(self):
        for _ in range(250):
            self.one(age=HOUR)
        self.assertEqual(self.r.xlen(self.key("log:a")), 250)
        self.r.incrby(self.key("seq"), 2 * HOUR * 1024)
        self.one(age=HOUR)
        self.assertLess(self.r.xlen(self.key("log:a")), 101)

    def test_a_log_expires_after_twice_its_age(self):
        self.one(age=HOUR)
        self.assertAlmostEqual(self.r.pttl(self.key("log:a")), 2 * HOUR, delta=5000)
        self.one(age=2 * HOUR)
        self.assertAlmostEqual(self.r.pttl(self.key("log:a")), 4 * HOUR, delta=5000)
        self.one(age=HOUR)
        self.assertAlmostEqual(self.r.pttl(self.key("log:a")), 4 * HOUR, delta=5000)
        self.one("b", age=50)
        until(lambda: not self.r.exists(self.key("log:b")), "the log to expire")

    def test_a_log_of_a_clock_ahead_lives_until_that_time_has_passed(self):
        self.r.set(self.key("seq"), (self.now_ms() + HOUR) * 1024)
        self.one(age=HOUR)
        self.assertAlmostEqual(self.r.pttl(self.key("log:a")), 3 * HOUR, delta=5000)


class Idempotency(Case):
    def test_the_same_body_gives_the_same_ids(self):
        events = [("E", "x", [1]), ("E", "y", [1])]
        first = self.append(("a",), events, idem="k", ttl=60000)
        heard = self.listen()
        before = self.everything()
        again = self.append(("a",), events, idem="k", ttl=60000)
        self.assertEqual(again, [b"same", *first[1:3]])
        self.assertEqual(self.append(("other",), events[:1], idem="k", ttl=60000), again)
        self.assertEqual(before, self.everything())
        self.assertEqual(self.heard(heard, 0), [])

    def test_another_body_is_told_apart_and_writes_nothing(self):
        self.append(idem="k", ttl=60000)
        before = self.everything()
        self.assertEqual(self.append(idem="k", ttl=60000, hash="other"), [b"other"])
        self.assertEqual(before, self.everything())

    def test_a_key_is_forgotten_when_its_time_is_over(self):
        first = self.append(idem="k", ttl=40)
        until(lambda: not self.r.exists(self.key("idem:k")), "the key to expire")
        again = self.append(idem="k", ttl=40)
        self.assertEqual(again[0], b"ok")
        self.assertGreater(int(again[1]), int(first[1]))

    def test_without_a_time_nothing_is_kept(self):
        self.assertNotEqual(self.append(idem="k")[1], self.append(idem="k")[1])
        self.assertFalse(self.r.exists(self.key("idem:k")))


EVENT = {"type": "new_comment", "community_ids": [42], "data": {"text": "hello"}}


def event(**fields):
    return {k: v for k, v in {**EVENT, **fields}.items() if v is not ...}


class Publish(Case):
    def test_a_backend_publishes_what_it_would_post(self):
        raw = '  {"community_ids" : [42, 7],"type":"x","data":{"text":"h\u00e9llo \\"{[\\\\"},"channels":["user:7"]}\n'
        before = self.now_ms()
        id = self.publish(raw, ("user:7", "community:7", "community:42"))
        for channel in ("community:42", "community:7", "user:7"):
            (entry,) = self.read(channel)[3]
            self.assertEqual((entry.id, entry.prev, entry.form), (id, 0, "J"))
            stamp, _, stored = entry.payload.partition(" ")
            self.assertEqual(stored, raw)
            self.assertRegex(stamp, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            at = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() * 1000
            self.assertTrue(before <= round(at) <= self.now_ms(), stamp)

    def test_it_is_announced_as_others_are(self):
        heard = self.listen()
        id = self.publish(EVENT)
        (entry,) = self.read("community:42")[3]
        self.assertEqual(self.heard(heard, 1),
                         [("log:community:42", f"J {id} {entry.tag} 1 0 12 community:42 {entry.payload}")])
        self.assertRegex(entry.tag, "^[0-9a-f]{8}$")

    def test_nodes_and_backends_share_one_chain(self):
        first = self.one("community:42")
        second = self.publish(EVENT)
        third = self.one("community:42")
        self.assertEqual([(e.id, e.prev) for e in self.read("community:42")[3]], [(first, 0), (second, first), (third, second)])

    def test_a_key_makes_it_once(self):
        id = self.publish(EVENT, ("community:42",), "k")
        self.assertEqual(self.publish(EVENT, ("community:42",), "k"), id)
        self.assertEqual(self.r.xlen(self.key("log:community:42")), 1)
        self.assertAlmostEqual(self.r.pttl(self.key("idem:k")), DAY, delta=5000)
        self.refused("IDEMPOTENCY", "parley_publish", ["seq", "log:community:42", "idem:k"], json.dumps(event(type="other")))

    def test_limits_of_the_log_can_be_given(self):
        for _ in range(300):
            self.publish(EVENT, ("community:42",), None, 100, HOUR)
        self.assertLessEqual(self.r.xlen(self.key("log:community:42")), 200)
        self.assertAlmostEqual(self.r.pttl(self.key("log:community:42")), 2 * HOUR, delta=5000)

    def test_what_a_node_would_take_is_taken(self):
        for fields in ({"subscriber_ids": []}, {"subscriber_ids": [1, "ann", -5]}, {"data": {}}, {"exclude_user_id": 7},
                       {"data": {"article_id": "a", "subscriber_ids": [1]}}, {"exclude_user_id": None}, {"new": {"type": []}},
                       {"timestamp": "2026-11-20T10:30:00.5+01:00"}, {"exclude_queue_id": "q"}, {"channels": None},
                       {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
                       {"type": "data", "x": "data"}, {"data": {"data": [], "type": {}, "e": "\U0001f600\u20ac\u00e9"}}):
            with self.subTest(fields):
                self.publish(event(**fields))
                self.publish(json.dumps(event(**fields), ensure_ascii=False).encode())
        self.publish(event(community_ids=[1, 1, MAX_INT], channels=["A.z_0:-", "community:1"]),
                     ("community:1", f"community:{MAX_INT}", "A.z_0:-"))
        self.publish(event(community_ids=list(range(1, 1001))), [f"community:{i}" for i in range(1, 1001)])

    def test_what_no_node_would_take_is_refused(self):
        for fields in ({"type": ...}, {"type": ""}, {"type": "x" * 129}, {"type": 7}, {"type": None}, {"type": "a\nb"},
                       {"data": ...}, {"data": []}, {"data": None}, {"data": "x"}, {"data": [1]},
                       {"community_ids": ...}, {"community_ids": []}, {"community_ids": {}}, {"community_ids": 42},
                       {"community_ids": ["42"]}, {"community_ids": [0]}, {"community_ids": [-1]}, {"community_ids": [1.5]},
                       {"community_ids": [MAX_INT + 1]}, {"community_ids": [None]}, {"community_ids": [42, None]},
                       {"community_ids": {"a": 42}}, {"community_ids": [42] * 1001},
                       {"channels": ["control"]}, {"channels": ["user:"]}, {"channels": [""]}, {"channels": ["a b"]},
                       {"channels": ["x" * 129]}, {"channels": ["community:0"]}, {"channels": ["community:042"]},
                       {"channels": ["community:x"]}, {"channels": [f"community:{MAX_INT + 1}"]}, {"channels": "a"},
                       {"subscriber_ids": None}, {"subscriber_ids": {}}, {"subscriber_ids": "7"}, {"subscriber_ids": [[]]},
                       {"subscriber_ids": [1.5]}, {"subscriber_ids": [""]}, {"subscriber_ids": [1] * 20001},
                       {"data": {"subscriber_ids": None}}, {"data": {"subscriber_ids": {"a": 1}}}, {"data": {"article_id": []}},
                       {"exclude_user_id": []}, {"exclude_user_id": "x" * 129}, {"exclude_queue_id": 7},
                       {"timestamp": "yesterday"}, {"timestamp": 7}, {"traceparent": "00-x"}):
            with self.subTest(f"{fields!r:.60}"):
                self.refused("INVALID", "parley_publish", ["seq", "log:community:42"], json.dumps(event(**fields)))

    def test_names_that_are_none_are_refused_with_their_keys_too(self):
        for name in ("control", "user:", "a b", "a\u00e9", "x" * 129, "community:0", "community:042", "community:x", "community:",
                     f"community:{MAX_INT + 1}", "community:" + "1" * 17):
            with self.subTest(name):
                self.refused("INVALID", "parley_publish", ["seq", "log:" + name], json.dumps(event(community_ids=..., channels=[name])))

    def test_no_more_than_a_thousand_channels_together(self):
        ids, names = list(range(1, 602)), [f"room{i}" for i in range(400)]
        keys = [*(f"log:community:{i}" for i in ids), *("log:" + n for n in names)]
        self.refused("INVALID", "parley_publish", ["seq", *keys], json.dumps(event(community_ids=ids, channels=names)))

    def test_what_is_no_json_is_refused(self):
        good = json.dumps(EVENT)
        for raw in ("", "x", "[]", "null", '"x"', good[:-1], good + "x", good + good, good.replace("42", "NaN"),
                    good.replace("42", "0x2a"), good.replace('"type"', '"type":"y","type"'), good.replace('"type"', '"t\\u0079pe"'),
                    good.replace('"data"', '"data":{},"data"'), good.replace("hello", "\\ud800"),
                    good.replace('"hello"', "[" * 31 + "]" * 31), good.replace("hello", "x" * 1048576),
                    *(good.encode().replace(b"hello", bad) for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xc3", b"\xe2\x82",
                                                                       b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xc3\xc3\xa9"))):
            with self.subTest(f"{raw!r:.80}"):
                self.refused("INVALID", "parley_publish", ["seq", "log:community:42"], raw)
        self.publish(good.replace('"hello"', "[" * 30 + "]" * 30))

    def test_keys_must_be_those_of_the_event(self):
        two = json.dumps(event(community_ids=[1, 2]))
        for keys in (["log:community:1"], ["log:community:1", "log:community:3"], ["log:community:1", "log:community:1"],
                     ["log:community:1", "log:community:2", "log:community:3"], [], ["log:community:1", "idem:k"],
                     ["idem:k", "log:community:1", "log:community:2"], ["log:community:1", "log:community:2", "idem:k", "idem:l"]):
            with self.subTest(keys):
                self.refused("INVALID", "parley_publish", ["seq", *keys], two)
        self.publish(two, ("community:2", "community:1"), "k")

    def test_times_are_written_as_rfc_3339_says(self):
        source = re.search(r"local function civil.*?\n(?=-- seq, one log)", LIBRARY, re.S)[0]
        self.r.execute_command("FUNCTION", "LOAD", "REPLACE", "#!lua name=test_times\n" + source +
                               "redis.register_function('test_rfc3339', function(_, a) return rfc3339(tonumber(a[1])) end)")
        self.addCleanup(self.r.execute_command, "FUNCTION", "DELETE", "test_times")
        zone = datetime.timezone.utc
        days = [datetime.datetime(y, m, d, tzinfo=zone) for y in (1970, 1999, 2000, 2024, 2026, 2028, 2100, 2248)
                for m, d in ((1, 1), (2, 28), (3, 1), (12, 31))]
        days += [datetime.datetime(y, 2, 29, tzinfo=zone) for y in (1972, 2000, 2024)]
        for day, ms in itertools.product(days, (0, 1, 86399999, 45296789)):
            at = int(day.timestamp()) * 1000 + ms
            expected = (day + datetime.timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
            self.assertEqual(self.r.execute_command("FCALL", "test_rfc3339", 0, at).decode(), expected)


class Users(Case):
    KEYS = ["seq", "control", "user:7", "idem:k"]

    def change(self, payload="change", idem="none", ttl=0, hash="h", user_ttl=HOUR, nonce=None):
        nonce = nonce or f"n{next(self.nonces)}"
        return self.call("parley_change", ["seq", "control", "user:7", "idem:" + idem], nonce, ttl, hash, payload, user_ttl, 1000, DAY)

    def user(self):
        return self.call("parley_user", ["seq", "user:7"])

    def compact(self, as_of, snapshot="snap", ttl=HOUR):
        return self.call("parley_compact", ["user:7"], as_of, snapshot, ttl)

    def test_a_change_comes_with_the_whole_record(self):
        word, one, *user = self.change("first")
        self.assertEqual((word, user), (b"ok", [one, b"0", b"", one, b"first"]))
        word, two, *user = self.change("second")
        self.assertEqual((word, user), (b"ok", [two, b"0", b"", one, b"first", two, b"second"]))
        later = self.one()
        self.assertEqual(self.user(), [b"%d" % later, b"0", b"", one, b"first", two, b"second"])
        self.assertAlmostEqual(self.r.pttl(self.key("user:7")), HOUR, delta=5000)

    def test_a_user_nobody_knows_is_empty(self):
        self.assertEqual(self.user(), [b"0", b"0", b""])

    def test_it_is_logged_and_announced_in_the_control_channel(self):
        first = self.change("one")[1].decode()
        heard = self.listen()
        second = self.change("two words", nonce="x")[1].decode()
        tag = hashlib.sha1(b"x:1").hexdigest()[:8]
        self.assertEqual(self.heard(heard, 1), [("control", f"H {second} {tag} {first} two words")])
        reply = self.call("parley_read", ["seq", "control"], 0, "+", 10, "", DAY)
        self.assertEqual(reply[8:], [second.encode(), first.encode(), tag.encode(), b"H", b"two words"])
        self.assertAlmostEqual(self.r.pttl(self.key("control")), 2 * DAY, delta=5000)

    def test_a_change_is_made_once(self):
        word, id, *user = self.change(idem="k", ttl=60000)
        later = b"%d" % self.one()
        self.assertEqual(self.change(idem="k", ttl=60000), [b"same", id, later, *user[1:]])
        self.assertEqual(self.change(idem="k", ttl=60000, hash="other"), [b"other"])
        self.assertEqual(self.r.xlen(self.key("control")), 1)

    def test_a_snapshot_takes_the_place_of_what_it_covers(self):
        one, two = self.change("one")[1], self.change("two")[1]
        self.assertEqual(self.compact(int(one)), b"1")
        three = self.change("three")[1]
        self.assertEqual(self.user(), [three, one, b"snap", two, b"two", three, b"three"])
        self.assertEqual(self.compact(int(three), "newer", ttl=2 * HOUR), b"1")
        self.assertEqual(self.user(), [three, three, b"newer"])
        self.assertAlmostEqual(self.r.pttl(self.key("user:7")), 2 * HOUR, delta=5000)

    def test_an_older_snapshot_is_ignored(self):
        one, two = self.change("one")[1], self.change("two")[1]
        self.compact(int(two), "new")
        before = self.everything()
        self.assertEqual(self.compact(int(one), "old"), b"0")
        self.assertEqual(before, self.everything())

    def test_changes_come_in_the_order_of_their_ids(self):
        ids = [self.change(str(i))[1] for i in range(700)]  # beyond what a hash keeps in order by itself
        self.assertEqual(self.user()[3::2], ids)

    def test_a_record_does_not_grow_for_ever(self):
        self.r.hset(self.key("user:7"), mapping={str(i): "x" for i in range(4096)})
        self.refused("INVALID", "parley_change", self.KEYS, "n", 0, "h", "x", HOUR, 1000, DAY)
        self.compact(100)
        self.change()

    def test_records_expire(self):
        self.change(user_ttl=30)
        until(lambda: not self.r.exists(self.key("user:7")), "the record to expire")


class Read(Case):
    def setUp(self):
        super().setUp()
        self.ids = [self.one() for _ in range(10)]
        self.tags = [e.tag for e in self.read()[3]]

    def ids_of(self, *args, **options):
        seq, floor, word, entries = self.read(*args, **options)
        self.assertEqual(seq, self.ids[-1])
        return floor, word, [e.id for e in entries]

    def test_everything_after(self):
        bound = (self.now_ms() - 2 * DAY) * 1024
        floor, word, ids = self.ids_of()
        self.assertEqual((word, ids), ("ok", self.ids))
        self.assertAlmostEqual(floor, bound, delta=5000 * 1024)
        self.assertEqual(self.ids_of(after=self.ids[3]), (self.ids[3], "ok", self.ids[4:]))
        self.assertEqual(self.ids_of(after=self.ids[3] + 5000 * 1024), (self.ids[3] + 5000 * 1024, "ok", []))

    def test_the_newest_if_there_are_more(self):
        self.assertEqual(self.ids_of(after=self.ids[0], count=3), (self.ids[6], "ok", self.ids[7:]))
        self.assertEqual(self.ids_of(after=self.ids[6], count=3), (self.ids[6], "ok", self.ids[7:]))
        self.assertEqual(self.ids_of(after=self.ids[6] + 0, upto=self.ids[8], count=1), (self.ids[7], "ok", [self.ids[8]]))

    def test_up_to_an_id(self):
        self.assertEqual(self.ids_of(after=self.ids[2], upto=self.ids[5]), (self.ids[2], "ok", self.ids[3:6]))
        self.assertEqual(self.ids_of(after=self.ids[2], upto=self.ids[2]), (self.ids[2], "ok", []))

    def test_a_trimmed_log_says_where_it_begins(self):
        self.r.xtrim(self.key("log:a"), maxlen=4, approximate=False)
        self.assertEqual(self.ids_of(after=self.ids[1]), (self.ids[5], "ok", self.ids[6:]))
        self.assertEqual(self.ids_of(after=self.ids[5]), (self.ids[5], "ok", self.ids[6:]))
        # Nothing up to there is known, and that is not the same as that there was nothing.
        self.assertEqual(self.ids_of(after=self.ids[1], upto=self.ids[3]), (self.ids[5], "ok", []))

    def test_a_log_that_is_gone_knows_nothing_of_its_time(self):
        self.r.delete(self.key("log:a"))
        bound = (self.now_ms() - 2 * HOUR) * 1024
        floor, word, ids = self.ids_of(after=5, age=HOUR)
        self.assertAlmostEqual(floor, bound, delta=5000 * 1024)
        self.assertEqual((word, ids), ("ok", []))
        self.assertEqual(self.ids_of(after=self.ids[9]), (self.ids[9], "ok", []))
        self.assertEqual(self.ids_of(after=self.ids[9], tag=self.tags[9])[1], "forked")
        self.assertEqual(self.ids_of(after=self.ids[9] - 3 * DAY * 1024, tag="x")[1], "ok")

    def test_history_that_is_another_one_is_noticed(self):
        self.assertEqual(self.ids_of(after=self.ids[4], tag=self.tags[4]), (self.ids[4], "ok", self.ids[5:]))
        self.assertEqual(self.ids_of(after=self.ids[4], tag=self.tags[5])[1], "forked")
        self.assertEqual(self.ids_of(after=self.ids[4] + 1, tag=self.tags[4])[1], "forked")
        self.assertEqual(self.ids_of(after=self.ids[4] + 1)[1], "ok")
        self.assertEqual(self.ids_of(after=self.ids[9] + 1, tag="x")[1], "forked")

    def test_what_was_trimmed_is_not_called_another_history(self):
        self.r.xtrim(self.key("log:a"), maxlen=4, approximate=False)
        for i in range(6):
            self.assertEqual(self.ids_of(after=self.ids[i], tag=self.tags[i])[1], "ok")
        self.assertEqual(self.ids_of(after=self.ids[6], tag="x")[1], "forked")

    def test_a_log_made_anew_after_it_expired_is_not_called_another_history(self):
        old, tag = self.ids[9] - 3 * DAY * 1024, "x"  # an event of three days ago; logs last two
        self.assertEqual(self.ids_of(after=old, tag=tag)[1], "ok")
        self.assertEqual(self.ids_of(after=old, tag=tag, age=2 * DAY)[1], "forked")


class Since(Case):
    def since(self, logs, after=0, count=100):
        reply = self.call("parley_since", ["seq", *logs], after, count)
        rows = [(int(reply[i]), Entry(reply[i + 1:i + 6])) for i in range(2, len(reply), 6)]
        return int(reply[0]), int(reply[1]), [(n, e.id) for n, e in rows]

    def test_all_logs_at_once(self):
        a, both, b = self.one("a"), self.one("a", "b"), self.one("b")
        change = int(self.call("parley_change", ["seq", "control", "user:7", "idem:k"], "n", 0, "h", "x", HOUR, 1000, DAY)[1])
        logs = ["control", "log:a", "log:b", "log:none"]
        self.assertEqual(self.since(logs), (change, change, [(1, change), (2, a), (2, both), (3, both), (3, b)]))
        self.assertEqual(self.since(logs, a), (change, change, [(1, change), (2, both), (3, both), (3, b)]))
        self.assertEqual(self.since(logs, change), (change, change, []))

    def test_what_was_cut_off_limits_what_is_whole(self):
        ids = [self.one("a") for _ in range(5)]
        other = self.one("b")
        self.assertEqual(self.since(["log:a", "log:b"], 0, 3), (other, ids[2], [*((1, i) for i in ids[:3]), (2, other)]))
        self.assertEqual(self.since(["log:a", "log:b"], ids[2], 3), (other, other, [*((1, i) for i in ids[3:]), (2, other)]))

    def test_whatever_is_cut_nothing_is_missed(self):
        ids = [self.one(*channels) for channels in itertools.islice(itertools.cycle(("a", "ab", "b", "c", "abc")), 60)]
        for count in (1, 2, 7):
            at, seen = 0, []
            while at < ids[-1]:
                seq, whole, rows = self.since(["log:a", "log:b", "log:c"], at, count)
                self.assertGreater(whole, at)
                seen += sorted({id for _, id in rows if id <= whole})
                at = whole
            self.assertEqual(seen, ids)

    def test_a_quiet_bus_is_whole_up_to_its_sequence(self):
        marker = int(self.call("parley_marker", ["seq", "control"]))
        self.assertEqual(self.since(["log:a"]), (marker, marker, []))


class Epochs(Case):
    def epoch(self, expected, newest=0):
        return tuple(int(x) for x in self.call("parley_epoch", ["seq", "epoch", "control"], expected, newest))

    def verify(self, marks, age=DAY):
        keys = ["seq", "epoch", *(key for key, _, _ in marks)]
        return tuple(int(x) for x in self.call("parley_verify", keys, age, *(x for _, id, tag in marks for x in (id, tag))))

    def test_the_first_one(self):
        self.assertEqual(self.verify([]), (0, 0, 0, 0))
        heard = self.listen()
        n, start = self.epoch(0)
        self.assertEqual(n, 1)
        self.assertGreaterEqual(start, (self.now_ms() - 5000) * 1024)
        self.assertEqual(self.heard(heard, 1), [("control", f"P {start} 1")])
        self.assertEqual(self.verify([]), (start, 1, start, 0))
        self.assertGreater(self.one(), start)

    def test_of_two_callers_one_makes_it(self):
        first = self.epoch(0)
        heard = self.listen()
        before = self.everything()
        self.assertEqual(self.epoch(0), first)
        self.assertEqual(before, self.everything())
        self.assertEqual(self.heard(heard, 0), [])
        second = self.epoch(1)
        self.assertEqual(self.epoch(1), second)
        self.assertEqual(second[0], 2)
        self.assertGreater(second[1], first[1])

    def test_it_starts_above_everything_anybody_knows(self):
        ahead = (self.now_ms() + HOUR) * 1024
        self.assertEqual(self.epoch(0, ahead), (1, ahead + 1))
        self.assertEqual(self.one(), ahead + 2)
        self.assertEqual(self.epoch(1, 5), (2, ahead + 3))

    def test_marks_that_are_there_are_good(self):
        self.epoch(0)
        reply = self.append(("a", "b"))
        id, tag = int(reply[1]), reply[2]
        seq, n, start, missing = self.verify([("log:a", id, tag), ("log:b", id, tag), ("log:a", id, "")])
        self.assertEqual((seq, n, missing), (id, 1, 0))

    def test_marks_that_are_not_there_are_counted(self):
        reply = self.append(("a",))
        id, tag = int(reply[1]), reply[2]
        marks = [("log:a", id, "other"), ("log:a", id + 1, tag), ("log:a", id + 1, ""), ("log:gone", id, tag), ("control", id, tag)]
        for i in range(len(marks) + 1):
            self.assertEqual(self.verify(marks[:i])[3], i)

    def test_marks_out_of_reach_are_not(self):
        ids = [self.one() for _ in range(10)]
        self.r.xtrim(self.key("log:a"), maxlen=4, approximate=False)
        old = (self.now_ms() - 3 * HOUR) * 1024
        marks = [("log:a", ids[3], "x"), ("log:a", ids[5], "x"), ("log:gone", old, "x"), ("control", old, "x")]
        self.assertEqual(self.verify(marks, age=HOUR)[3], 0)
        self.assertEqual(self.verify(marks, age=2 * HOUR)[3], 2)


class CanariesAndMarkers(Case):
    def test_a_canary_comes_back_to_its_node(self):
        heard = self.listen()
        about = b'{"until":%d}' % (self.now_ms() + 1000)
        id = self.call("parley_canary", ["seq", "nodes"], "{t}:node:n1", "n1", "nonce", about).decode()
        self.assertEqual(self.heard(heard, 1), [("node:n1", f"C {id} nonce")])
        self.assertEqual(self.r.get(self.key("seq")).decode(), id)
        self.assertEqual(self.r.hgetall(self.key("nodes")), {b"n1": about})

    def test_nodes_that_lapsed_a_day_ago_are_forgotten(self):
        now = self.now_ms()
        entries = {"gone": now - 25 * HOUR, "lapsed": now - HOUR, "alive": now + 1000}
        self.r.hset(self.key("nodes"), mapping={k: json.dumps({"until": v}) for k, v in entries.items()})
        self.call("parley_canary", ["seq", "nodes"], "{t}:node:alive", "alive", "x", json.dumps({"until": now}))
        self.assertEqual(self.r.hlen(self.key("nodes")), 3)
        self.call("parley_canary", ["seq", "nodes"], "{t}:node:new", "new", "x", json.dumps({"until": now}))
        self.assertEqual(self.r.hkeys(self.key("nodes")), [b"lapsed", b"alive", b"new"])

    def test_a_marker_is_announced_to_all(self):
        heard = self.listen()
        id = self.call("parley_marker", ["seq", "control"]).decode()
        self.assertEqual(self.heard(heard, 1), [("control", f"M {id}")])
        self.assertEqual(self.r.get(self.key("seq")).decode(), id)


class Queues(Case):
    def save(self, node="n1", generation=1, state="state", position=5, queue="q", user="7", ttl=HOUR, until=None):
        entry = json.dumps({"node": node, "until": until or self.now_ms() + HOUR})
        return self.call("parley_save", [f"queue:{queue}", f"conn:user:{user}"], node, ttl,
                         queue, user, generation, state, position, entry)

    def claim(self, node="n2", queue="q", ttl=HOUR, came=0, back=""):
        return self.call("parley_claim", [f"queue:{queue}"], node, "{t}:node:" + node, ttl, came, back)

    def drop(self, generation=1, queue="q", user="7", ttl=HOUR):
        return self.call("parley_drop", [f"queue:{queue}", f"conn:user:{user}"], queue, generation, ttl)

    def test_a_queue_is_kept(self):
        self.assertEqual(self.save(ttl=2 * HOUR), [b"1"])
        self.assertEqual(self.r.hgetall(self.key("queue:q")), {b"g": b"1", b"n": b"n1", b"u": b"7", b"p": b"5", b"s": b"1", b"d": b"state"})
        self.assertAlmostEqual(self.r.pttl(self.key("queue:q")), 2 * HOUR, delta=5000)
        self.assertAlmostEqual(self.r.pttl(self.key("conn:user:7")), 2 * HOUR, delta=5000)
        self.assertEqual(json.loads(self.r.hget(self.key("conn:user:7"), "q"))["node"], "n1")

    def test_positions_only_rise_and_an_empty_state_is_as_it_was(self):
        self.save()
        self.assertEqual(self.save(state="", position=3), [b"1"])
        self.assertEqual(self.claim()[2:], [b"5", b"state", b"1"])
        self.assertEqual(self.save(node="n2", generation=2, state="new", position=9), [b"1"])
        self.assertEqual(self.claim("n3"), [b"3", b"7", b"9", b"new", b"2"])

    def test_a_claim_for_a_client_that_came_earlier_does_not_take_it_back(self):
        self.save()
        self.assertEqual(self.claim("n2", came=9000)[0], b"2")
        self.assertEqual(self.claim("n1", came=8899), [b"older 9000"])
        self.assertEqual(self.claim("n3", came=8900)[0], b"3")  # so well the clocks agree
        self.assertEqual(self.claim("n1", came=9100, back="back"), [b"older 9000"])
        self.assertEqual(self.claim("n2", came=9101, back="back")[0], b"4")
        self.assertEqual(self.claim("n1", came=0)[0], b"5")

    def test_a_claim_of_an_ended_queue_says_so(self):
        self.save()
        self.drop()
        self.assertEqual(self.claim(), [b"ended"])
        self.assertIsNone(self.claim(queue="other"))

    def test_a_claim_raises_the_generation_and_tells_the_node_before(self):
        self.save()
        heard = self.listen()
        self.assertEqual(self.claim("n2", ttl=2 * HOUR, came=77), [b"2", b"7", b"5", b"state", b"1"])
        self.assertEqual(self.heard(heard, 1), [("node:n1", "T q 2 77")])
        self.assertAlmostEqual(self.r.pttl(self.key("queue:q")), 2 * HOUR, delta=5000)
        self.assertEqual(self.claim("n2"), [b"3", b"7", b"5", b"state", b"1"])
        self.assertEqual(self.heard(heard, 0), [])
        self.assertEqual(self.claim("n1")[0], b"4")
        self.assertEqual(self.heard(heard, 1), [("node:n2", "T q 4 0")])

    def test_a_save_by_the_node_before_is_refused(self):
        self.save()
        self.claim("n2")
        before = self.everything()
        self.assertEqual(self.save("n1", 1, position=99), [b"0"])
        self.assertEqual(self.save("n1", 2, position=99), [b"0"])
        self.assertEqual(before, self.everything())
        self.assertEqual(self.save("n2", 2), [b"1"])

    def test_a_save_from_before_the_nodes_own_claim_is_refused(self):
        self.save("n1", 1)
        self.assertEqual(self.claim("n1")[0], b"2")
        self.assertEqual(self.save("n1", 1, position=99), [b"0"])

    def test_a_generation_beyond_the_kept_one_wins(self):
        # A failover may lose a claim: the node that made it still owns the queue.
        self.save("n1", 1)
        self.assertEqual(self.save("n2", 2), [b"1"])
        self.assertEqual(self.save("n1", 1), [b"0"])

    def test_a_missing_queue_is_made_again_if_its_state_is_given(self):
        self.assertEqual(self.save("n1", 7, state=""), [b"0"])
        self.assertEqual(self.r.dbsize(), 0)
        self.assertEqual(self.save("n1", 7), [b"1"])
        self.assertEqual(self.claim("n2")[0], b"8")

    def test_a_queue_nobody_has_cannot_be_claimed(self):
        self.assertIsNone(self.claim())
        self.assertEqual(self.r.dbsize(), 0)

    def test_a_dropped_queue_stays_dead(self):
        self.save()
        self.assertEqual(self.drop(ttl=2 * HOUR), b"1")
        self.assertEqual(self.r.hgetall(self.key("queue:q")), {b"g": b"1", b"dead": b"1"})
        self.assertAlmostEqual(self.r.pttl(self.key("queue:q")), 2 * HOUR, delta=5000)
        self.assertFalse(self.r.exists(self.key("conn:user:7")))
        before = self.everything()
        self.assertEqual(self.claim(), [b"ended"])
        self.assertEqual((self.save(), self.save(generation=9), self.drop(), self.end()), ([b"0"], [b"0"], b"0", b"0"))
        self.assertEqual(before, self.everything())

    def test_a_drop_by_the_node_before_is_ignored(self):
        self.save()
        self.claim("n2")
        before = self.everything()
        self.assertEqual(self.drop(1), b"0")
        self.assertEqual(before, self.everything())
        self.assertEqual(self.drop(2), b"1")

    def test_a_queue_that_was_lost_can_be_dropped(self):
        self.assertEqual(self.drop(3), b"1")
        self.assertEqual(self.save(generation=3), [b"0"])

    def end(self, status=-10):
        return self.call("parley_end", ["queue:q"], "q", status, HOUR)

    def test_an_end_is_told_to_the_owner(self):
        self.assertEqual(self.end(), b"0")
        self.save()
        heard = self.listen()
        self.assertEqual(self.end(), b"1")
        self.assertEqual(self.heard(heard, 1), [("node:n1", "X q -10")])

    def test_an_ended_queue_is_ended_whether_its_owner_lives_or_not(self):
        self.save()
        self.assertEqual(self.end(0), b"1")
        self.assertEqual(self.end(0), b"0")
        self.assertEqual(self.claim(), [b"ended"])
        self.assertEqual(self.save(state="late"), [b"0"])
        self.assertEqual(self.drop(), b"0")
        self.assertEqual(self.r.hlen(self.key("conn:user:7")), 0)

    def test_many_in_one_call(self):
        self.save("other", 5, queue="q1")
        keys, args = [], ["n1", HOUR]
        for i in range(128):
            keys += [f"queue:q{i}", f"conn:user:{i % 3}"]
            args += [f"q{i}", i % 3, 1, "state", i, "{}"]
        self.assertEqual(self.call("parley_save", keys, *args), [b"1", b"0", *[b"1"] * 126])
        self.assertEqual(self.r.hlen(self.key("conn:user:1")), 42)

    def test_lapsed_connections_of_a_user_are_forgotten(self):
        for i in range(40):
            self.save(queue=f"q{i}", until=1)
        self.assertLessEqual(self.r.hlen(self.key("conn:user:7")), 34)
        self.save(queue="last")
        self.assertEqual(self.r.hkeys(self.key("conn:user:7"))[-1], b"last")

    def test_queues_expire(self):
        self.save(ttl=30)
        until(lambda: self.r.dbsize() == 0, "the queue and its entry to expire")


class Refusals(Case):
    """Nothing is written by a call that is refused: a script that fails does not roll back."""

    GOOD = {
        "parley_version": ([], []),
        "parley_publish": (["seq", "log:community:42", "idem:k"], [json.dumps(EVENT)]),
        "parley_append": (["seq", "idem:k", "log:a", "log:b"],
                          ["nonce", 1000, "hash", 100, DAY, 2, "E", "x", 2, 1, 2, "J", "y", 1, 2]),
        "parley_change": (["seq", "control", "user:7", "idem:k"], ["nonce", 1000, "hash", "x", HOUR, 100, DAY]),
        "parley_user": (["seq", "user:7"], []),
        "parley_compact": (["user:7"], [5, "snapshot", HOUR]),
        "parley_read": (["seq", "log:a"], [0, "+", 10, "", DAY]),
        "parley_since": (["seq", "log:a", "control"], [0, 10]),
        "parley_verify": (["seq", "epoch", "log:a", "control"], [DAY, 5, "t", 6, "t"]),
        "parley_epoch": (["seq", "epoch", "control"], [0, 0]),
        "parley_canary": (["seq", "nodes"], ["{t}:node:n", "n", "nonce", "{}"]),
        "parley_marker": (["seq", "control"], []),
        "parley_save": (["queue:q", "conn:user:7", "queue:r", "conn:user:7"],
                        ["n", HOUR, "q", 7, 1, "s", 0, "{}", "r", 7, 1, "s", 0, "{}"]),
        "parley_claim": (["queue:q"], ["n", "{t}:node:n", HOUR, 0, ""]),
        "parley_drop": (["queue:q", "conn:user:7"], ["q", 1, HOUR]),
        "parley_end": (["queue:q"], ["q", -10, HOUR]),
    }

    def test_every_function_is_there(self):
        listed = self.r.execute_command("FUNCTION", "LIST", "LIBRARYNAME", "parley")
        names = {dict(zip(f[::2], f[1::2]))[b"name"].decode() for f in listed[0][listed[0].index(b"functions") + 1]}
        self.assertEqual(names, set(self.GOOD))
        version = int(re.search(r"^local VERSION = (\d+)$", LIBRARY, re.M)[1])
        self.assertEqual(self.call("parley_version", []), version)

    def test_good_calls_are_good(self):
        for function, (keys, args) in self.GOOD.items():
            with self.subTest(function):
                self.r.flushall()
                self.call(function, keys, *args)

    def test_a_key_of_another_type_is_refused(self):
        for function, (keys, args) in self.GOOD.items():
            for key in keys:
                if key == "control" and function in ("parley_epoch", "parley_marker"):
                    continue  # announced in, not read
                with self.subTest(function=function, key=key):
                    self.r.flushall()
                    self.r.lpush(self.key(key), "x")
                    self.refused("WRONGTYPE", function, keys, *args)

    def test_keys_of_another_kind_are_refused(self):
        for function, (keys, args) in self.GOOD.items():
            for i, other in itertools.product(range(len(keys)), ("other", "seqq", "log:", "idem:", "queue:x", "epoch:", "log")):
                if (function, other) == ("parley_claim", "queue:x"):
                    continue  # another queue, and nothing else says which
                with self.subTest(function=function, key=keys[i], other=other):
                    self.refused("INVALID", function, [*keys[:i], other, *keys[i + 1:]], *args)

    def test_keys_without_the_common_prefix_are_refused(self):
        for function, (keys, args) in self.GOOD.items():
            for i, other in itertools.product(range(len(keys)), ("{u}:%s", "t:%s", "{t}%s", "%s", "{}:%s", "x{t}:%s")):
                named = [self.key(k) for k in keys]
                named[i] = other % keys[i]
                if len(keys) == 1 and other.startswith("{u}"):
                    continue  # one key alone is its own prefix
                with self.subTest(function=function, keys=named), self.assertRaisesRegex(redis.ResponseError, "^INVALID "):
                    self.r.execute_command("FCALL", function, len(named), *named, *args)
        self.assertEqual(self.r.dbsize(), 0)

    def test_too_few_or_too_many_are_refused(self):
        for function, (keys, args) in self.GOOD.items():
            with self.subTest(function):
                self.refused("INVALID", function, keys, *args, "more")
                self.refused("INVALID", function, [*keys, "more"], *args)
                if args:
                    self.refused("INVALID", function, keys, *args[:-1])
                    self.refused("INVALID", function, keys)
                    self.refused("INVALID", function, [], *args)
                if len(keys) > 1:
                    self.refused("INVALID", function, keys[:1], *args)

    def test_numbers_must_be_numbers(self):
        optional = {("parley_publish", 0)}
        for function, (keys, args) in self.GOOD.items():
            for i, arg in enumerate(args):
                if not isinstance(arg, int) or (function, i) in optional:
                    continue
                if function == "parley_save" and i in (3, 9):
                    continue  # the user's id, which is text
                for bad in ("", "x", "1.5", "0x10", " 1", "1e3", "nan", str(MAX_INT + 1), "9" * 17):
                    with self.subTest(function=function, argument=i, bad=bad):
                        self.refused("INVALID", function, keys, *args[:i], bad, *args[i + 1:])

    def test_words_must_be_words(self):
        for function, i in (("parley_append", 0), ("parley_append", 2), ("parley_change", 0), ("parley_change", 2),
                            ("parley_canary", 1), ("parley_canary", 2), ("parley_save", 0), ("parley_claim", 0), ("parley_end", 0)):
            keys, args = self.GOOD[function]
            for bad in ("", "a b", "a\n", "a\0", "x" * 513):
                with self.subTest(function=function, argument=i, bad=bad):
                    self.refused("INVALID", function, keys, *args[:i], bad, *args[i + 1:])

    def test_shapes_of_append(self):
        keys = ["seq", "idem:k", "log:a", "log:b"]
        for events in ([("X", "x", [1])], [("H", "x", [1])], [("E", "x", [])], [("E", "x", [3])], [("E", "x", [0])],
                       [("E", "x", [1, 1])], [("E", "x", [1]), ("E", "x", [3])], []):
            with self.subTest(events):
                self.refused("INVALID", "parley_append", keys, *self.events_args(events))
        args = self.events_args([("E", "x", [1])])
        for bad_count in (0, 2, 10001):
            self.refused("INVALID", "parley_append", keys, *args[:5], bad_count, *args[6:])
        self.refused("INVALID", "parley_append", ["seq", "idem:k", "log:a", "log:a"], *args)
        self.refused("INVALID", "parley_append", ["seq", "idem:k", "log:a b"], *args)

    def test_a_queue_and_its_keys_belong_together(self):
        save_keys, save_args = self.GOOD["parley_save"]
        self.refused("INVALID", "parley_save", [*save_keys[:2], "queue:other", save_keys[3]], *save_args)
        self.refused("INVALID", "parley_save", [*save_keys[:3], "conn:user:8"], *save_args)
        self.refused("INVALID", "parley_claim", ["queue:q"], "n", "{t}:node:other", HOUR, 0, "")
        self.refused("INVALID", "parley_canary", ["seq", "nodes"], "{t}:node:other", "n", "nonce", "{}")
        self.refused("INVALID", "parley_drop", ["queue:other", "conn:user:7"], "q", 1, HOUR)
        self.refused("INVALID", "parley_end", ["queue:other"], "q", 0, HOUR)

    def test_of_many_saves_the_last_may_be_wrong(self):
        keys, args = self.GOOD["parley_save"]
        self.r.lpush(self.key("queue:r"), "x")
        self.refused("WRONGTYPE", "parley_save", keys, *args)
        self.refused("INVALID", "parley_save", keys, *args[:-4], "x", *args[-3:])

    def test_read_only_functions_are_called_so(self):
        for function, (keys, args) in self.GOOD.items():
            if function not in READ_ONLY:
                named = [self.key(k) for k in keys]
                with self.subTest(function), self.assertRaisesRegex(redis.ResponseError, "write flag"):
                    self.r.execute_command("FCALL_RO", function, len(named), *named, *args)


class Faults(Case):
    def test_when_memory_is_full_reading_still_works(self):
        id = self.one()
        self.addCleanup(self.r.config_set, "maxmemory", 0)
        self.r.config_set("maxmemory", 1)
        before = self.everything()
        for function, (keys, args) in Refusals.GOOD.items():
            if function not in READ_ONLY:
                with self.subTest(function), self.assertRaisesRegex(redis.ResponseError, "maxmemory"):
                    self.call(function, keys, *args)
        self.assertEqual(before, self.everything())
        self.assertEqual([e.id for e in self.read()[3]], [id])

    def test_everything_is_there_after_kill_9(self):
        first = self.append(("a", "b"), idem="k", ttl=60000)
        self.call("parley_epoch", ["seq", "epoch", "control"], 0, 0)
        self.call("parley_save", ["queue:q", "conn:user:7"], "n", HOUR, "q", 7, 3, "state", 5, "{}")
        ids = [self.one(log_events=100) for _ in range(250)]
        before = self.everything()
        self.server.kill()
        self.server.start()
        self.r = self.server.client
        self.assertEqual(before, self.everything())
        self.assertEqual(self.append(("a", "b"), idem="k", ttl=60000), [b"same", first[1]])
        self.assertGreater(self.one(), ids[-1])
        self.assertEqual(self.read()[3][-1].prev, ids[-1])
        self.assertEqual(self.call("parley_claim", ["queue:q"], "m", "{t}:node:m", HOUR, 0, ""), [b"4", b"7", b"5", b"state", b"3"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
