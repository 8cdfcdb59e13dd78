"""Queues: any link, replacement, lost answers, batches, expiry, and catch-up that is never false."""

import time

from harness import embedded_only, Server, ServerCase, TestCase, event, main, mint, new_community, new_user, until
from wsclient import Closed, Ws


class QueueCase(ServerCase):
    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()

    def register(self, **fields):
        return self.server.register(self.user, [self.community], **fields)

    def publish(self, count=1, community=None, **kw):
        batch = [event([community or self.community], **kw) for _ in range(count)]
        return self.server.api("publish", batch)["event_ids"]

    def resume(self, client, last_event_id=None, **kw):
        ws = Ws(self.server, queue_id=client.queue_id, last_event_id=last_event_id, **kw)
        self.addCleanup(ws.close)
        ws.welcome = ws.expect("welcome")
        self.assertIs(ws.welcome["resumed"], True)
        return ws


class Links(QueueCase):
    """One queue, one live link: the newer one wins and the older is told."""

    def test_a_websocket_replaces_a_held_poll_and_goes_on_from_its_cursor(self):
        client = self.register()
        (seen,) = self.publish()
        with client.hold(last_event_id=seen) as conn:
            ws = self.resume(client, seen)
            answer = conn.response()
        self.assert_error(answer, 409, "replaced")
        (event_id,) = self.publish()
        self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])

    def test_a_websocket_gets_what_the_poll_before_it_had_not_acknowledged(self):
        client = self.register()
        ids = self.publish(3)
        self.assertEqual(len(client.ask().value["events"]), 3)
        ws = self.resume(client, client.position)
        self.assertEqual([e["event_id"] for e in ws.events(3)], ids)

    def test_a_poll_replaces_a_websocket_4409(self):
        client = self.register()
        ws = self.resume(client, client.position)
        (event_id,) = self.publish()
        ws.events(1)
        self.assertEqual([e["event_id"] for e in client.ask().value["events"]], [event_id])
        code, reason = ws.closed()
        self.assertEqual((code, reason.split(";")[0]), (4409, "replaced"))
        self.assertEqual([e["event_id"] for e in client.ask(last_event_id=client.position).value["events"]], [event_id])

    def test_a_newer_poll_replaces_the_older(self):
        client = self.register()
        with client.hold() as old, self.server.raw() as new:
            new.send(f"GET {client.path(timeout=20)} HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assert_error(old.response(), 409, "replaced")
            ids = self.publish()
            self.assertEqual([e["event_id"] for e in new.response().value["events"]], ids)

    def test_back_and_forth_nothing_is_lost_or_out_of_order(self):
        client = self.register()
        got, published = [], []
        for turn in range(6):
            published += self.publish(2)
            if turn % 2:
                got += client.ids()
            else:
                ws = self.resume(client, client.position)
                got += [e["event_id"] for e in ws.events(2)]
                client.position = got[-1]
                if turn % 4:
                    ws.close(1001)
                else:
                    ws.vanish()
        self.assertEqual(got, published)

    def test_heartbeats_and_sends_replace_no_link(self):
        client = self.register()
        ws = self.resume(client, client.position)
        self.server.post("/realtime/heartbeat", queue_id=client.queue_id)
        client.send({"op": "ack", "event_id": client.position})
        ids = self.publish()
        self.assertEqual([e["event_id"] for e in ws.events(1)], ids)

    def test_metrics_tell_resumes_by_transport(self):
        client = self.register()
        self.resume(client, client.position)
        client.ask()
        self.assertGreater(self.server.metric('realtime_resumes_total{from="websocket",to="longpoll"}'), 0)


class Cursors(QueueCase):
    def test_a_lost_answer_is_sent_again(self):
        client = self.register()
        ids = self.publish(3)
        for _ in range(3):
            self.assertEqual([e["event_id"] for e in client.ask().value["events"]], ids)
        self.assertEqual(client.ids(), ids)
        self.assertEqual(client.ids(), [])

    def test_an_answer_lost_with_its_connection_is_sent_again(self):
        client = self.register()
        conn = client.hold()
        conn.reset()
        ids = self.publish()
        self.assertEqual(client.ids(), ids)

    @embedded_only("a node hears of other channels with the next canary")
    def test_empty_polls_and_pings_move_the_cursor(self):
        client = self.register()
        ws = self.resume(self.register())
        elsewhere = self.publish(5, new_community())
        self.assertGreaterEqual(client.poll()["last_event_id"], elsewhere[-1])
        ws.send({"op": "ping"})
        self.assertGreaterEqual(ws.expect("pong")["last_event_id"], elsewhere[-1])

    def test_no_cursor_passes_an_event_that_follows(self):
        client = self.register()
        for _ in range(20):
            position = client.poll()["last_event_id"]
            (event_id,) = self.publish()
            self.assertLess(position, event_id)
            self.assertEqual(client.ids(), [event_id])

    def test_a_cursor_of_zero_replays_the_log_or_says_why_not(self):
        ids = self.publish(3)
        client = self.register()
        value = client.ask(last_event_id=0).value
        if value.get("catchup_required"):
            self.assert_catchup(value, ("epoch", "trimmed"))
        else:
            self.assertEqual([e["event_id"] for e in value["events"]], ids)

    def test_a_cursor_ahead_of_the_sequence_is_told(self):
        client = self.register()
        (event_id,) = self.publish()
        value = client.ask(last_event_id=event_id + 10**12).value
        self.assert_catchup(value, "ahead")
        self.assertLess(value["last_event_id"], event_id + 10**12)
        client.position = value["last_event_id"]
        ids = self.publish()
        self.assertEqual(client.ids(), ids)

    def test_a_cursor_ahead_is_told_on_a_websocket_after_the_welcome(self):
        client = self.register()
        ws = self.resume(client, client.position + 10**12)
        self.assert_catchup(ws.expect("catchup_required"), "ahead")
        ids = self.publish()
        self.assertEqual([e["event_id"] for e in ws.events(1)], ids)

    def test_an_ack_never_goes_back(self):
        client = self.register()
        ids = self.publish(3)
        self.assertEqual(len(client.ask().value["events"]), 3)  # what has not come yet cannot be acknowledged
        for ack in (ids[2], ids[0]):
            client.send({"op": "ack", "event_id": ack})
        ws = self.resume(client)
        self.assertEqual(ws.synced(), [])


class Snapshot(QueueCase):
    """A cursor taken before the rows were read: nothing falls between, whatever happens before the poll."""

    def test_events_between_the_cursor_and_the_registration_are_served(self):
        cursor = self.server.cursor()
        first = self.publish(2)
        client = self.register()
        ids = first + self.publish()
        self.assertEqual([e["event_id"] for e in client.ask(last_event_id=cursor).value["events"]], ids)
        ws = self.resume(client, cursor)
        self.assertEqual([e["event_id"] for e in ws.events(3)], ids)

    def test_registering_with_the_cursor_says_the_same(self):
        cursor = self.server.cursor()
        ids = self.publish(2)
        client = self.register(last_event_id=cursor)
        self.assertEqual(client.registered["last_event_id"], cursor)
        self.assertEqual(client.ids(), ids)

    def test_a_welcome_of_a_new_queue_goes_on_from_the_cursor(self):
        cursor = self.server.cursor()
        ids = self.publish(2)
        ws = Ws(self.server, token=mint(self.user, [self.community]), last_event_id=cursor)
        self.addCleanup(ws.close)
        self.assertEqual(ws.expect("welcome")["last_event_id"], cursor)
        self.assertEqual([e["event_id"] for e in ws.events(2)], ids)

    def test_without_a_cursor_a_new_queue_starts_now(self):
        self.publish(2)
        client = self.register()
        self.assertEqual(client.ids(), [])

    def test_a_cursor_from_before_the_community_s_first_event_is_served(self):
        cursor = self.server.cursor()
        self.publish(50, new_community())
        client = self.register()
        ids = self.publish()
        self.assertEqual([e["event_id"] for e in client.ask(last_event_id=cursor).value["events"]], ids)


class Batches(QueueCase):
    options = {"queue__batch_events": "10", "queue__batch_bytes": "8KiB"}

    def test_a_batch_has_at_most_batch_events(self):
        client = self.register()
        ids = self.publish(35)
        sizes, got = [], []
        while len(got) < 35:
            events = client.poll()["events"]
            sizes.append(len(events))
            got += [e["event_id"] for e in events]
        self.assertEqual((got, sizes), (ids, [10, 10, 10, 5]))

    def test_a_batch_has_at_most_batch_bytes(self):
        client = self.register()
        ids = self.publish(9, data={"t": "a" * 2500})
        self.assertLessEqual(len(client.ask().body), 9 * 1024)
        self.assertEqual(client.ids(), ids)

    def test_an_event_larger_than_a_batch_is_delivered_alone(self):
        client = self.register()
        ids = self.publish(3, data={"t": "a" * 20_000})
        self.assertEqual(len(client.ask().value["events"]), 1)
        self.assertEqual(client.ids(), ids)

    def test_a_websocket_gets_the_rest_by_itself(self):
        client = self.register()
        ids = self.publish(35)
        ws = self.resume(client, client.position)
        self.assertEqual([e["event_id"] for e in ws.events(35)], ids)
        self.assertTrue(all(len(m["events"]) <= 10 for m in ws.received if m["op"] == "events"))

    def test_batches_merge_channels_in_order_of_id(self):
        second = new_community()
        client = self.server.register(self.user, [self.community, second])
        ids = [self.publish(1, community)[0] for _ in range(15) for community in (self.community, second)]
        self.assertEqual(client.ids(), ids)


class Expiry(QueueCase):
    options = {"queue__ttl": "1500ms", "auth__leeway": "0"}

    def gone(self, client):
        return self.server.post("/realtime/heartbeat", queue_id=client.queue_id).status == 404

    def test_a_queue_ends_after_its_ttl_and_not_before(self):
        client = self.register()
        time.sleep(0.8)
        client.poll()
        time.sleep(0.8)
        self.assertEqual(client.ask().status, 200, "the poll counted")
        time.sleep(2.8)
        self.assert_error(client.ask(), 404, "queue_not_found")

    def test_what_counts_keeps_a_queue(self):
        beating, sending, held, connected, left = (self.register() for _ in range(5))
        with held.hold() as conn:
            ws = self.resume(connected)
            for _ in range(6):
                time.sleep(0.5)
                self.assertFalse(self.gone(beating))
                sending.send({"op": "ack", "event_id": 1})
            self.assertEqual(left.ask().status, 404)
            self.assertTrue(conn.silent(0.1), "a held poll counts")
            self.assertTrue(ws.quiet(0.1), "an open WebSocket counts")
            self.assertEqual(sending.ask().status, 200)

    def test_a_queue_lives_for_its_ttl_after_its_socket_went(self):
        client = self.register()
        ws = self.resume(client)
        ws.vanish()
        time.sleep(0.7)
        self.resume(client).vanish()
        time.sleep(2.8)
        with self.assertRaises(Closed) as closed:
            self.resume(client)
        self.assertEqual(closed.exception.code, 4404)

    def test_the_number_of_queues_goes_back(self):
        before = self.server.health()["active_queues"]
        for _ in range(20):
            self.register()
        self.assertGreaterEqual(self.server.health()["active_queues"], 20)
        until(lambda: self.server.health()["active_queues"] <= before, "expired queues to go", 6)

    def test_an_expired_queue_with_a_token_and_cursor_goes_on(self):
        client = self.server.register_token(mint(self.user, [self.community]))
        ids = self.publish(2)
        time.sleep(3)
        ws = Ws(self.server, token=mint(self.user, [self.community]), queue_id=client.queue_id, last_event_id=ids[0])
        self.addCleanup(ws.close)
        self.assertIs(ws.expect("welcome")["resumed"], False)
        self.assertEqual([e["event_id"] for e in ws.events(1)], ids[1:])

    def test_an_expired_queue_without_a_cursor_says_expired(self):
        client = self.server.register_token(mint(self.user, [self.community]))
        time.sleep(3)
        ws = Ws(self.server, token=mint(self.user, [self.community]), queue_id=client.queue_id)
        self.addCleanup(ws.close)
        self.assertIs(ws.expect("welcome")["resumed"], False)
        self.assert_catchup(ws.expect("catchup_required"), "expired")


@embedded_only("elsewhere the log is behind the ring")
class Trimmed(QueueCase):
    options = {"channel__ring_events": "10"}

    def test_a_cursor_below_the_ring_is_told_and_goes_on_from_now(self):
        client = self.register()
        ids = self.publish(30)
        value = client.ask().value
        self.assert_catchup(value, "trimmed", [self.community])
        self.assertEqual(value.get("communities", [self.community]), [self.community])
        self.assertGreaterEqual(value["last_event_id"], ids[-1])
        client.position = value["last_event_id"]
        self.assertEqual(client.ids(), [])
        ids = self.publish()
        self.assertEqual(client.ids(), ids)

    def test_on_a_websocket_it_comes_after_the_welcome(self):
        client = self.register()
        self.publish(30)
        ws = self.resume(client, client.position)
        message = ws.expect("catchup_required")
        self.assert_catchup(message, "trimmed", [self.community])
        ids = self.publish()
        self.assertEqual([e["event_id"] for e in ws.events(1)], ids)

    def test_only_the_communities_that_lost_events_are_named(self):
        quiet = new_community()
        client = self.server.register(self.user, [self.community, quiet])
        self.publish(30)
        value = client.ask().value
        self.assert_catchup(value, "trimmed")
        self.assertEqual(value["communities"], [self.community])

    def test_one_whose_events_are_held_but_passed_over_is_named_too(self):
        other = new_community()
        client = self.server.register(self.user, [self.community, other])
        self.publish(1, other)
        self.publish(30)
        value = client.ask().value
        self.assert_catchup(value, "trimmed")
        self.assertEqual(sorted(value["communities"]), sorted([self.community, other]))

    def test_a_cursor_exactly_at_the_floor_is_served(self):
        client = self.register()
        ids = self.publish(25)
        self.assertEqual([e["event_id"] for e in client.ask(last_event_id=ids[14]).value["events"]], ids[15:])
        self.assert_catchup(client.ask(last_event_id=ids[13]).value, "trimmed")

    def test_metrics_count_it_by_reason(self):
        client = self.register()
        self.publish(30)
        client.ask()
        self.assertGreater(self.server.metric('realtime_catchup_required_total{reason="trimmed"}'), 0)


class NeverFalse(QueueCase):
    """A small ring beside much traffic: nobody who missed nothing is told to catch up."""

    options = {"channel__ring_events": "10"}

    def test_a_quiet_channel_beside_a_busy_one_of_others(self):
        client = self.register()
        first = self.publish()
        self.publish(200, new_community())
        ids = first + self.publish()
        self.assertEqual(client.ids(), ids)

    def test_a_quiet_channel_beside_a_busy_one_of_the_same_queue(self):
        busy = new_community()
        client = self.server.register(self.user, [self.community, busy])
        published, got = self.publish(), []
        for _ in range(20):
            published += self.publish(8, busy)
            got += client.ids()
        published += self.publish()
        got += client.ids()
        self.assertEqual(got, published)

    def test_a_narrowed_queue_in_a_busy_community_that_polls(self):
        client = self.register(subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        for _ in range(20):
            self.publish(8, data={"article_id": 2})
            self.assertEqual(client.ids(), [])
        ids = self.publish(1, data={"article_id": 1})
        self.assertEqual(client.ids(), ids)

    def test_a_narrowed_queue_in_a_busy_community_on_a_websocket(self):
        client = self.register(subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        ws = self.resume(client)
        for _ in range(20):
            self.publish(8, data={"article_id": 2})
        self.assertEqual(ws.synced(), [])
        position = [m for m in ws.received if m["op"] == "pong"][-1]["last_event_id"]
        ws.vanish()
        again = self.resume(client, position)
        ids = self.publish(1, data={"article_id": 1})
        self.assertEqual([e["event_id"] for e in again.events(1)], ids)

    def test_a_snapshot_s_cursor_older_than_the_registration(self):
        cursor = self.server.cursor()
        self.publish(200, new_community())
        ids = self.publish(5)
        client = self.register()
        self.assertEqual([e["event_id"] for e in client.ask(last_event_id=cursor).value["events"]], ids)

    def test_a_channel_that_was_never_used(self):
        cursor = self.server.cursor()
        self.publish(200, new_community())
        client = self.register()
        value = client.ask(last_event_id=cursor).value
        self.assertEqual(value.get("events"), [], value)

    def test_what_was_trimmed_before_the_grant_is_nobody_s_loss(self):
        more = new_community()
        client = self.register()
        self.publish(30, more)
        self.server.api("update-subscriptions", {"user_id": self.user, "community_ids": [self.community, more]})
        ids = self.publish(1, more)
        self.assertEqual(client.ids(), ids)

    def test_a_revoked_channel_is_nobody_s_loss_either(self):
        more = new_community()
        client = self.server.register(self.user, [self.community, more])
        self.publish(30, more)
        self.server.api("update-subscriptions", {"user_id": self.user, "community_ids": [self.community]})
        ids = self.publish()
        self.assertEqual(client.ids(), ids)

    def test_events_of_many_channels_beyond_any_ring(self):
        communities = [new_community() for _ in range(8)]
        client = self.server.register(self.user, communities)
        ids = [self.publish(1, community)[0] for _ in range(10) for community in communities]
        self.assertEqual(client.ids(), ids)


@embedded_only("elsewhere queues outlive the process")
class Restart(TestCase):
    def test_a_restart_of_a_memory_server_is_a_new_epoch_and_ids_still_grow(self):
        user, community = new_user(), new_community()
        with Server() as server:
            old = server.register(user, [community])
            last = server.publish([community])
        with Server() as server:
            self.assert_error(server.get(old.path(timeout=0)), 404, "queue_not_found")
            client = server.register(user, [community])
            value = client.ask(last_event_id=last).value
            self.assert_catchup(value, "epoch")
            self.assertGreater(value["last_event_id"], last)
            ws = Ws(server, token=mint(user, [community]), queue_id=old.queue_id, last_event_id=last)
            self.assertIs(ws.expect("welcome")["resumed"], False)
            self.assert_catchup(ws.expect("catchup_required"), ("epoch", "expired"))
            event_id = server.publish([community])
            self.assertGreater(event_id, value["last_event_id"])
            self.assertEqual([e["event_id"] for e in ws.events(1)], [event_id])
            ws.close()


@embedded_only("elsewhere the log is behind the ring")
class TotalBytes(QueueCase):
    options = {"channel__total_bytes": "64KiB"}

    def test_the_least_recently_used_ring_shrinks_and_its_readers_are_told(self):
        client = self.register()
        self.publish(1, data={"t": "a" * 8000})
        for _ in range(20):
            self.publish(1, new_community(), data={"t": "a" * 8000})
        self.assert_catchup(client.ask().value, "trimmed")


if __name__ == "__main__":
    main()
