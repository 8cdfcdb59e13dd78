"""Seeing inside: what is counted, what explain says, traces, logs."""

import http.server
import json
import threading
import time
import unittest

from harness import TEST_BUS, Server, ServerCase, TestCase, main, mint, new_community, new_user, until
from pages import Redis
from wsclient import Ws


class Counted(ServerCase):
    def counts(self, *series):
        return [self.server.metric(name) for name in series]

    def test_a_held_poll_and_what_answered_it(self):
        series = ('realtime_poll_duration_seconds_count{answer="events"}',
                  'realtime_delivery_latency_seconds_count{transport="longpoll"}',
                  "realtime_event_publish_seconds_count", "realtime_queue_registration_seconds_count",
                  'realtime_events_by_type_total{event_type="new_comment"}')
        before = self.counts(*series)
        community = new_community()
        client = self.server.register(new_user(), [community])
        with client.hold() as held:
            time.sleep(0.12)
            self.server.publish([community])
            self.assertEqual(len(held.response().value["events"]), 1)
        until(lambda: self.counts(*series) == [n + 1 for n in before], "each to be one more")
        slow = self.server.metric('realtime_poll_duration_seconds_bucket{answer="events",le="0.1"}')
        self.assertLess(slow, before[0] + 1)

    def test_a_batch_its_size_and_its_age(self):
        series = ('realtime_batch_events_count{transport="longpoll"}', 'realtime_batch_events_sum{transport="longpoll"}',
                  'realtime_batch_age_seconds_count{transport="longpoll"}',
                  'realtime_batch_age_seconds_bucket{transport="longpoll",le="0.25"}')
        community = new_community()
        client = self.server.register(new_user(), [community])
        before = self.counts(*series)
        for _ in range(3):
            self.server.publish([community])
        time.sleep(0.4)
        self.assertEqual(len(client.poll()["events"]), 3)
        self.assertEqual(self.counts(*series), [before[0] + 1, before[1] + 3, before[2] + 1, before[3]])

    def test_types_of_the_publishers_own_are_taken_together(self):
        series = 'realtime_events_by_type_total{event_type="other"}'
        before = self.server.metric(series)
        community = new_community()
        client = self.server.register(new_user(), [community])
        self.server.publish([community], type="new_comments")
        client.drain(5)
        self.assertEqual(self.server.metric(series), before + 1)

    def test_the_process_itself(self):
        self.assertGreater(self.server.metric("process_cpu_seconds_total"), 0)
        self.assertGreaterEqual(self.server.metric("process_max_fds"), 1024)


class Explained(ServerCase):
    """A verdict in words, with the rule of docs/delivery.md it stands on."""

    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()

    def explain(self, event_id, user=None, expect=200, **query):
        answer = self.server.get("/realtime/explain", api=True, user_id=user or self.user, event_id=event_id, **query)
        self.assertEqual(answer.status, expect, answer)
        return answer.value

    def of_queue(self, event_id, client=None):
        said = self.explain(event_id)
        self.assertEqual(said["verdict"], "see_queues", said)
        queue, = [q for q in said["queues"] if client is None or q["queue_id"] == client.queue_id]
        return queue["verdict"], queue["rule"]

    def publish(self, **fields):
        return self.server.publish([self.community], **fields)

    def test_from_waiting_to_sent_to_acknowledged(self):
        client = self.server.register(self.user, [self.community])
        event_id = self.publish()
        until(lambda: self.of_queue(event_id) == ("waiting", 4), "the event to wait for a poll")
        client.poll()
        self.assertEqual(self.of_queue(event_id), ("sent", 7))
        client.poll()
        self.assertEqual(self.of_queue(event_id), ("acknowledged", 7))

    def test_what_rule_3_says(self):
        client = self.server.register(self.user, [self.community],
                                      subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        other = new_user()
        for fields, why in ((dict(data={"article_id": 2}), "narrowed"), (dict(subscriber_ids=[other]), "subscriber_ids"),
                            (dict(data={"article_id": 1}, exclude_user_id=self.user), "exclude_user_id"),
                            (dict(data={"article_id": 1}, exclude_queue_id=client.queue_id), "exclude_queue_id")):
            event_id = self.publish(**fields)
            until(lambda: self.explain(event_id)["event"], "the event to be here")
            queue, = self.explain(event_id)["queues"]
            self.assertEqual((queue["verdict"], queue["rule"]), ("denied", 3), queue)
            self.assertIn(why, queue["why"])
            self.assertEqual(queue["channels"][0]["articles"], ["1"])
        self.assertEqual(client.drain(), [], "and so it was")

    def test_who_is_not_in_the_community(self):
        witness = self.server.register(new_user(), [self.community])
        self.server.register(self.user, [new_community()])
        event_id = self.publish()
        witness.drain(5)
        said = self.explain(event_id, community_id=self.community)
        self.assertEqual((said["verdict"], said["rule"]), ("denied", 3))
        self.assertEqual([(c["channel"], c["granted"]) for c in said["channels"]],
                         [(f"community:{self.community}", False)])
        self.assertEqual(said["queues"][0]["verdict"], "denied")

    def test_a_grant_that_came_after_the_event(self):
        client = self.server.register(self.user, [new_community()])
        witness = self.server.register(new_user(), [self.community])
        event_id = self.publish()
        witness.drain(5)
        self.server.api("update-subscriptions", {"user_id": self.user, "community_ids": [self.community]})
        self.assertEqual(self.of_queue(event_id), ("denied", 8))
        self.assertEqual(client.drain(), [])

    def test_a_queue_that_began_after_it(self):
        witness = self.server.register(new_user(), [self.community])
        event_id = self.publish()
        witness.drain(5)
        self.server.register(self.user, [self.community])
        self.assertEqual(self.of_queue(event_id)[0], "before")

    def test_each_queue_has_its_own(self):
        one = self.server.register(self.user, [self.community])
        two = self.server.register(self.user, [self.community])
        event_id = self.publish()
        one.drain(5)
        self.assertEqual(self.of_queue(event_id, one), ("acknowledged", 7))
        self.assertEqual(self.of_queue(event_id, two), ("waiting", 4))

    def test_events_that_are_not_there(self):
        self.server.register(self.user, [self.community])
        newest = self.publish()
        until(lambda: self.explain(newest)["event"], "the event to be here")
        for event_id, rule in ((newest + 2**30, 1), (1, 6), (newest - 1, 6)):
            said = self.explain(event_id)
            self.assertEqual((said["verdict"], said["rule"], said["event"], said["queues"]), ("unknown", rule, None, []))

    def test_users_that_are_not_there(self):
        witness = self.server.register(new_user(), [self.community])
        event_id = self.publish()
        witness.drain(5)
        self.assertEqual(self.explain(event_id, user="nobody", community_id=self.community)["verdict"], "denied")

    def test_asking_changes_nothing(self):
        client = self.server.register(self.user, [self.community])
        event_id = self.publish()
        until(lambda: self.explain(event_id)["event"], "the event to be here")
        for _ in range(3):
            self.explain(event_id)
        self.assertEqual([e["event_id"] for e in client.drain(5)], [event_id])

    def test_what_it_takes_to_ask(self):
        self.assertEqual(self.server.get("/realtime/explain", user_id=7, event_id=1).status, 401)
        for query in ({"event_id": 7}, {"user_id": 7}, {"user_id": 7, "event_id": "x"}, {"user_id": 7, "event_id": 0},
                      {"user_id": 7, "event_id": 1, "community_id": "x"}, {"user_id": 7, "event_id": 1, "channel": "x" * 129}):
            self.assertEqual(self.server.get("/realtime/explain", api=True, **query).status, 400, query)


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Collector:
    """Takes OTLP/HTTP as an OpenTelemetry collector does, and keeps the spans."""

    def __init__(self, status=200):
        self.requests, self.status = [], status
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/v1/traces" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def spans(self):
        return [span for _, _, body in list(self.requests) for resource in body["resourceSpans"]
                for scope in resource["scopeSpans"] for span in scope["spans"]]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def attributes(span):
    return {a["key"]: int(a["value"]["intValue"]) for a in span["attributes"]}


class Traced(ServerCase):
    @classmethod
    def setUpClass(cls):
        cls.collector = Collector()
        cls.options = {"trace__otlp_url": cls.collector.url}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.collector.close()

    def setUp(self):
        super().setUp()
        self.collector.requests.clear()
        self.community = new_community()
        self.client = self.server.register(new_user(), [self.community])

    def test_a_sampled_publish_is_two_spans(self):
        with self.client.hold() as held:
            event_id = self.server.publish([self.community], traceparent=SAMPLED)
            event, = held.response().value["events"]
        self.assertEqual(event["traceparent"], SAMPLED)
        until(lambda: len(self.collector.spans) == 2, "two spans")
        path, kind, body = self.collector.requests[0]
        self.assertEqual((path, kind), ("/v1/traces", "application/json"))
        self.assertEqual(body["resourceSpans"][0]["resource"]["attributes"][0],
                         {"key": "service.name", "value": {"stringValue": "parleyd"}})
        spans = {span["name"]: span for span in self.collector.spans}
        self.assertEqual(set(spans), {"publish", "fan-out"})
        for span in spans.values():
            self.assertEqual((span["traceId"], span["parentSpanId"]), (TRACE, PARENT))
            self.assertRegex(span["spanId"], "^[0-9a-f]{16}$")
            self.assertEqual(attributes(span)["parley.event_id"], event_id)
            begun, ended = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            self.assertLessEqual(begun, ended)
            self.assertLess(abs(time.time_ns() - begun), 30e9)
        self.assertEqual(attributes(spans["fan-out"])["parley.delivered"], 1)
        self.assertNotEqual(spans["publish"]["spanId"], spans["fan-out"]["spanId"])

    def test_the_header_stands_for_events_without_their_own(self):
        other = SAMPLED.replace(TRACE, TRACE[::-1])
        self.server.api("publish", [{"type": "x", "data": {}, "community_ids": [self.community]},
                                    {"type": "x", "data": {}, "community_ids": [self.community], "traceparent": other}],
                        headers={"traceparent": SAMPLED})
        self.assertEqual([e["traceparent"] for e in self.client.drain(5)], [SAMPLED, other])
        until(lambda: len(self.collector.spans) == 4, "four spans")
        self.assertEqual({s["traceId"] for s in self.collector.spans}, {TRACE, TRACE[::-1]})

    def test_a_header_that_is_none_is_ignored(self):
        self.server.api("publish", {"type": "x", "data": {}, "community_ids": [self.community]},
                        headers={"traceparent": "00-x"})
        event, = self.client.drain(5)
        self.assertNotIn("traceparent", event)

    def test_what_is_not_sampled_travels_and_is_not_exported(self):
        self.server.publish([self.community], traceparent=UNSAMPLED)
        self.server.publish([self.community])
        self.assertEqual([e.get("traceparent") for e in self.client.drain(5)], [UNSAMPLED, None])
        self.server.publish([self.community], traceparent=SAMPLED)
        until(lambda: len(self.collector.spans) >= 2, "the spans of the third")
        self.assertEqual(len(self.collector.spans), 2)

    def test_many_go_in_batches(self):
        before = self.server.metric('realtime_trace_spans_total{result="exported"}')
        for _ in range(2):
            self.server.api("publish", [{"type": "x", "data": {}, "community_ids": [self.community]}] * 1000,
                            headers={"traceparent": SAMPLED})
        until(lambda: len(self.collector.spans) == 4000, "4000 spans", 10)
        self.assertGreaterEqual(len(self.collector.requests), 8)
        until(lambda: self.server.metric('realtime_trace_spans_total{result="exported"}') == before + 4000, "the count")


class NotCollected(TestCase):
    def test_a_collector_that_refuses_or_is_away_costs_spans_only(self):
        collector = Collector(status=500)
        with Server(trace__otlp_url=collector.url) as server:
            failed = 'realtime_trace_spans_total{result="failed"}'
            client = server.register(7, [42])
            server.publish([42], traceparent=SAMPLED)
            until(lambda: server.metric(failed) == 2, "two failed")
            collector.close()
            server.publish([42], traceparent=SAMPLED)
            until(lambda: server.metric(failed) == 4, "four failed")
            self.assertEqual(len(client.drain(5)), 2)
            self.assertEqual(server.stderr.count(b"trace_export_failed"), 1)

    def test_what_waits_is_bounded(self):
        with Server(trace__otlp_url="http://127.0.0.1:1/") as server:
            server.register(7, [42])
            for _ in range(4):
                server.api("publish", [{"type": "x", "data": {}, "community_ids": [42]}] * 1000,
                           headers={"traceparent": SAMPLED})
            total = lambda: sum(server.metric('realtime_trace_spans_total{result="%s"}' % r) for r in ("failed", "dropped"))
            until(lambda: total() == 8000, "all of them to be failed or dropped", 10)
            self.assertGreater(server.metric('realtime_trace_spans_total{result="dropped"}'), 0)

    def test_what_waits_is_sent_before_the_end(self):
        collector = Collector()
        with Server(trace__otlp_url=collector.url) as server:
            client = server.register(7, [42])
            server.publish([42], traceparent=SAMPLED)
            self.assertEqual(len(client.drain(5)), 1)
        self.assertEqual(len(collector.spans), 2)
        collector.close()


class Logged(ServerCase):
    options = {"log__format": "json", "log__level": "debug"}

    def records(self, event, **fields):
        """Those with this event name and these fields, decoded."""
        lines = [json.loads(line) for line in self.server.stderr.decode().splitlines()]
        return [r for r in lines if r["event"] == event and fields.items() <= r.items()]

    def test_a_connection_is_followed_by_the_id_that_welcome_names(self):
        with Ws(self.server, token=mint(new_user(), [42])) as client:
            welcome = client.expect("welcome")
        name = welcome["connection_id"]
        self.assertRegex(name, "^[0-9a-f]{16}$")
        opened, = until(lambda: self.records("websocket_welcome", connection_id=name), "the record of its welcome")
        self.assertEqual(opened["queue"], welcome["queue_id"][:6])
        closed, = until(lambda: self.records("websocket_closed", connection_id=name), "the record of its end")
        self.assertEqual((closed["level"], closed["code"]), ("debug", 1000))
        self.assertNotIn(welcome["queue_id"], self.server.stderr.decode())

    def test_what_the_server_closed_is_said_with_its_reason(self):
        user = new_user()
        with Ws(self.server, token=mint(user, [42])) as client:
            name = client.expect("welcome")["connection_id"]
            self.server.api("disconnect", {"user_id": user})
            closed, = until(lambda: self.records("websocket_closed", connection_id=name), "the record of its end", 8)
        self.assertEqual((closed["level"], closed["code"], closed["reason"]), ("info", 4403, "disconnected"))


@unittest.skipIf(TEST_BUS, "brings its own")
class ExplainedByLogs(TestCase):
    def setUp(self):
        self.redis = Redis().begin()
        self.addCleanup(self.redis.stop)

    def node(self, name, **options):
        server = Server(bus__url=self.redis.url, server__node=name, **options).start()
        self.addCleanup(server.stop)
        until(lambda: server.get("/readyz").status == 200, f"{name} to be ready")
        return server

    def explain(self, node, user, event_id, **query):
        answer = node.get("/realtime/explain", api=True, user_id=user, event_id=event_id, **query)
        self.assertEqual(answer.status, 200, answer)
        return answer.value

    def test_another_node_is_named(self):
        one, two = self.node("one"), self.node("two")
        client = one.register(7, [42])
        event_id = two.publish([42])
        client.drain(5)
        said = self.explain(two, 7, event_id)
        self.assertEqual((said["node"], said["verdict"], said["event"]["found"]), ("two", "no_queue", "log"))
        self.assertEqual([(q["queue_id"], q["node"]) for q in said["elsewhere"]], [(client.queue_id, "one")])
        said = self.explain(one, 7, event_id)
        self.assertEqual((said["queues"][0]["verdict"], said["elsewhere"]), ("acknowledged", []))

    def test_what_the_ring_has_lost(self):
        one = self.node("one", channel__ring_events=1)
        client = one.register(7, [42])
        first = one.publish([42])
        for _ in range(5):
            one.publish([42])
        until(lambda: not self.explain(one, 7, first)["channels"][0]["in_ring"], "the ring to move on")
        said = self.explain(one, 7, first)
        self.assertEqual((said["event"]["found"], said["queues"][0]["verdict"]), ("log", "waiting"))
        self.assertEqual(len(client.drain(5)), 6)
        self.assertEqual(self.explain(one, 7, first)["queues"][0]["verdict"], "acknowledged")

    def test_without_redis_the_node_says_what_it_knows(self):
        one = self.node("one", bus__timeout="200ms")
        client = one.register(7, [42])
        event_id = one.publish([42])
        client.drain(5)
        self.redis.stop()
        until(lambda: not self.explain(one, 7, event_id)["logs_were_read"], "the bus to be away")
        said = self.explain(one, 7, event_id)
        self.assertEqual((said["event"]["found"], said["queues"][0]["verdict"]), ("ring", "acknowledged"))


if __name__ == "__main__":
    main()
