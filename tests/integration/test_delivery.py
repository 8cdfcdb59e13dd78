"""Who gets which event, and when: rule 3 of docs/delivery.md on both transports, and what a change of rights does."""

import gzip
import json
import time

from harness import JSON, MSGPACK, ServerCase, main, mint, new_community, new_user, until
from wsclient import MSGPACK_PROTOCOL, Ws

HIDDEN = ("subscriber_ids", "exclude_user_id", "exclude_queue_id")


class DeliveryCase(ServerCase):
    def setUp(self):
        super().setUp()
        self.user, self.community = new_user(), new_community()

    def both(self, user=None, communities=None, **fields):
        """Two queues of a user: one that polls, one on a WebSocket."""
        user = self.user if user is None else user
        communities = [self.community] if communities is None else communities
        poller = self.server.register(user, communities, **fields)
        queue = self.server.register(user, communities, **fields)
        ws = Ws(self.server, queue_id=queue.queue_id, last_event_id=queue.position)
        self.addCleanup(ws.close)
        ws.welcome = ws.expect("welcome")
        return poller, ws

    def publish(self, **kw):
        return self.server.publish(kw.pop("communities", [self.community]), **kw)

    def assert_got(self, clients, ids):
        """Push and pull agree, and both got exactly these."""
        poller, ws = clients
        self.assertEqual(poller.ids(), list(ids), "by poll")
        self.assertEqual([e["event_id"] for e in ws.synced()], list(ids), "by websocket")

    def update(self, communities, user=None, **fields):
        body = {"user_id": self.user if user is None else user, "community_ids": list(communities), **fields}
        return self.server.api("update-subscriptions", body)["queues"]


class Membership(DeliveryCase):
    def test_members_get_an_event_and_others_do_not(self):
        members, others = self.both(), self.both(new_user(), [new_community()])
        event_id = self.publish()
        self.assert_got(members, [event_id])
        self.assert_got(others, [])

    def test_an_event_in_two_communities_arrives_once(self):
        second = new_community()
        clients = self.both(communities=[self.community, second])
        event_id = self.publish(communities=[self.community, second])
        self.assert_got(clients, [event_id])

    def test_one_community_of_the_event_is_enough(self):
        clients = self.both()
        self.assert_got(clients, [self.publish(communities=[new_community(), self.community])])

    def test_a_repeated_community_counts_once(self):
        clients = self.both(communities=[self.community, self.community])
        self.assert_got(clients, [self.publish(communities=[self.community, self.community])])

    def test_ids_strictly_grow_over_many_channels(self):
        communities = [new_community() for _ in range(5)]
        clients = self.both(communities=communities)
        ids = [self.publish(communities=[communities[n % 5], communities[n * 3 % 5]]) for n in range(60)]
        self.assert_growing(ids)
        self.assert_got(clients, ids)

    def test_channels_stand_beside_or_instead_of_communities(self):
        room = f"room:{new_community()}"
        poller = self.server.register(self.user, [self.community], channels=[room])
        only = self.server.register(new_user(), None, channels=[room])
        first = self.publish(communities=None, channels=[room])
        second = self.publish(channels=[room])
        events = poller.drain()
        self.assertEqual([e["event_id"] for e in events], [first, second])
        self.assertEqual(only.ids(), [first, second])
        self.assertEqual([e.get("channels") for e in events], [[room], [room]])
        self.assertFalse(events[0].get("community_ids"))
        self.assertEqual(events[1]["community_ids"], [self.community])

    def test_a_token_may_grant_channels(self):
        room = f"room:{new_community()}"
        client = self.server.register_token(mint(self.user, None, channels=[room]))
        event_id = self.publish(communities=None, channels=[room])
        self.assertEqual(client.ids(), [event_id])

    def test_a_community_is_the_channel_of_its_name(self):
        clients = self.both()
        event_id = self.publish(communities=None, channels=[f"community:{self.community}"])
        self.assert_got(clients, [event_id])

    def test_hidden_fields_never_reach_a_client(self):
        poller, ws = self.both()
        fields = {"subscriber_ids": [self.user], "exclude_user_id": 1, "exclude_queue_id": "A" * 32}
        self.publish(**fields)
        self.publish(data={"article_id": 1, "subscriber_ids": [self.user, 99]})
        packed = Ws(self.server, token=mint(self.user, [self.community]), subprotocols=[MSGPACK_PROTOCOL],
                    query={"last_event_id": poller.position})
        self.addCleanup(packed.close)
        texts = [poller.ask().body, poller.ask(codec=MSGPACK).body, json.dumps(ws.events(2)).encode()]
        packed.expect("welcome")
        events = packed.synced()
        self.assertEqual(len(events), 2)
        texts.append(repr(events).encode())
        for text in texts:
            for name in HIDDEN:
                self.assertNotIn(name.encode(), text)

    def test_an_article_s_other_data_stays_when_subscriber_ids_go(self):
        poller, _ = self.both()
        self.publish(data={"article_id": 5, "subscriber_ids": [self.user], "text": "x"})
        self.assertEqual(poller.drain()[0]["data"], {"article_id": 5, "text": "x"})


class OwnChannel(DeliveryCase):
    def test_a_user_has_the_channel_of_that_name_and_nobody_else_does(self):
        mine, others = self.both(), self.both(new_user())
        event_id = self.publish(communities=None, channels=[f"user:{self.user}"])
        self.assert_got(mine, [event_id])
        self.assert_got(others, [])

    def test_an_event_from_before_the_registration_is_served_from_a_snapshot_s_position(self):
        position = self.server.cursor()
        event_id = self.publish(communities=None, channels=[f"user:{self.user}"])
        poller = self.server.register(self.user, [self.community], last_event_id=position)
        self.assertEqual(poller.ids(), [event_id])
        self.assertNotIn("channels", poller.registered)

    def test_it_cannot_be_asked_for(self):
        self.server.api("register", {"user_id": self.user, "channels": [f"user:{new_user()}"]}, expect=400)


class Recipients(DeliveryCase):
    def test_subscriber_ids_restrict_to_those_listed(self):
        listed, other = self.both(), self.both(new_user())
        ids = [self.publish(subscriber_ids=[self.user, 1, 2]), self.publish(data={"subscriber_ids": [self.user]})]
        self.assert_got(listed, ids)
        self.assert_got(other, [])

    def test_an_empty_list_means_nobody_and_an_absent_one_everybody(self):
        clients = self.both()
        self.publish(subscriber_ids=[])
        self.publish(data={"subscriber_ids": []})
        self.assert_got(clients, [self.publish()])

    def test_a_listed_user_who_is_no_member_gets_nothing(self):
        user = new_user()
        stranger = self.both(user, [new_community()])
        self.publish(subscriber_ids=[user])
        self.assert_got(stranger, [])

    def test_decimal_strings_and_names_are_listed_too(self):
        number, name = self.both(), self.both("ada-" + str(self.user))
        event_id = self.publish(subscriber_ids=[str(self.user), "ada-" + str(self.user)])
        self.assert_got(number, [event_id])
        self.assert_got(name, [event_id])

    def test_a_long_list_reaches_those_on_it(self):
        clients, other = self.both(), self.both(new_user())
        event_id = self.publish(subscriber_ids=[*range(1, 5000), self.user])
        self.assert_got(clients, [event_id])
        self.assert_got(other, [])

    def test_exclude_user_id_leaves_out_all_his_queues(self):
        author, reader = self.both(), self.both(new_user())
        for form in (self.user, str(self.user)):
            event_id = self.publish(exclude_user_id=form)
            self.assert_got(author, [])
            self.assert_got(reader, [event_id])

    def test_exclude_user_id_outranks_subscriber_ids(self):
        clients = self.both()
        self.publish(subscriber_ids=[self.user], exclude_user_id=self.user)
        self.assert_got(clients, [])

    def test_exclude_queue_id_leaves_out_one_queue(self):
        one, other = (self.server.register(self.user, [self.community]) for _ in range(2))
        event_id = self.publish(exclude_queue_id=one.queue_id)
        self.assertEqual((one.ids(), other.ids()), ([], [event_id]))


class Narrowing(DeliveryCase):
    def article(self, article, **kw):
        return self.publish(data={"article_id": article, **kw})

    def subscribe(self, clients, op="subscribe", **fields):
        """On both queues: over HTTP and over the WebSocket."""
        message = {"op": op, "id": 1, "community_id": self.community, **fields}
        poller, ws = clients
        self.assertIn("result", poller.send(message)[0])
        ws.send(message)
        self.assertIn("result", ws.find("reply"))

    def test_articles_given_at_registration_narrow_it(self):
        clients = self.both(subscriptions=[{"community_id": self.community, "article_ids": [1, 2]}])
        ids = [self.article(1), self.article(2)]
        self.article(3)
        self.publish(data={"no": "article"})
        self.assert_got(clients, ids)

    def test_an_empty_list_of_articles_leaves_only_what_is_addressed(self):
        clients = self.both(subscriptions=[{"community_id": self.community, "article_ids": []}])
        self.article(1)
        self.assert_got(clients, [self.publish(subscriber_ids=[self.user])])

    def test_a_community_without_an_entry_is_whole(self):
        second = new_community()
        clients = self.both(communities=[self.community, second],
                            subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        self.article(9)
        self.assert_got(clients, [self.publish(communities=[second], data={"article_id": 9})])

    def test_subscribe_with_an_article_turns_all_into_that_set(self):
        clients = self.both()
        self.subscribe(clients, article_id=1)
        self.article(2)
        self.assert_got(clients, [self.article(1)])
        self.subscribe(clients, article_id=2)
        self.assert_got(clients, [self.article(1), self.article(2)])

    def test_subscribe_without_an_article_turns_the_set_into_all(self):
        clients = self.both(subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        self.subscribe(clients)
        self.assert_got(clients, [self.article(5), self.article(1)])

    def test_unsubscribe_of_the_last_article_leaves_the_empty_set(self):
        clients = self.both()
        self.subscribe(clients, article_id=1)
        self.subscribe(clients, "unsubscribe", article_id=1)
        self.article(1)
        self.assert_got(clients, [self.publish(subscriber_ids=[self.user], data={"article_id": 1})])

    def test_a_narrowed_queue_gets_what_is_addressed_to_its_user(self):
        clients = self.both(subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        self.assert_got(clients, [self.publish(data={"article_id": 9}, subscriber_ids=[self.user])])

    def test_narrowing_through_one_community_does_not_narrow_another_of_the_same_event(self):
        second = new_community()
        clients = self.both(communities=[self.community, second],
                            subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        self.assert_got(clients, [self.publish(communities=[self.community, second], data={"article_id": 9})])

    def test_an_update_with_subscriptions_narrows_at_once_and_without_leaves_them(self):
        clients = self.both()
        self.update([self.community], subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        self.article(2)
        first = self.article(1)
        self.update([self.community])
        self.article(2)
        self.assert_got(clients, [first, self.article(1)])

    def test_claims_narrow_a_client_s_queue(self):
        token = mint(self.user, [self.community], subscriptions=[{"community_id": self.community, "article_ids": [1]}])
        client = self.server.register_token(token)
        self.article(2)
        event_id = self.article(1)
        self.assertEqual(client.ids(), [event_id])

    def test_narrowing_replays_no_history(self):
        clients = self.both(subscriptions=[{"community_id": self.community, "article_ids": []}])
        self.article(1)
        self.assert_got(clients, [])
        self.subscribe(clients, article_id=1)
        self.assert_got(clients, [self.article(1)])

    def test_article_ids_may_be_names(self):
        clients = self.both(subscriptions=[{"community_id": self.community, "article_ids": ["intro", "7"]}])
        self.article("other")
        self.assert_got(clients, [self.article("intro"), self.article(7)])


class Changes(DeliveryCase):
    def assert_membership(self, signal, communities):
        self.assertEqual(signal["type"], "membership")
        self.assertEqual(sorted(signal["communities"]), sorted(communities))
        self.assertIsInstance(signal["last_event_id"], int)

    def test_an_update_takes_effect_at_once(self):
        clients, more = self.both(), new_community()
        self.assertEqual(self.update([self.community, more]), 2)
        ids = [self.publish(communities=[more]), self.publish()]
        self.assert_got(clients, ids)
        self.update([more])
        self.publish()
        self.assert_got(clients, [self.publish(communities=[more])])

    def test_a_websocket_is_told_its_membership(self):
        _, ws = self.both()
        more = new_community()
        self.update([self.community, more])
        signal = ws.expect("signal")
        self.assert_membership(signal, [self.community, more])

    def test_a_poll_is_told_its_membership(self):
        poller, _ = self.both()
        with poller.hold() as conn:
            more = new_community()
            self.update([self.community, more])
            self.publish(communities=[more])
            value = conn.response().value
            if not value["events"]:
                poller.position = value["last_event_id"]
                self.assertEqual(len(poller.ids(wait=2)), 1)
        (signal,) = value.get("signals") or poller.poll()["signals"]
        self.assert_membership(signal, [self.community, more])

    def test_a_poll_that_takes_gzip_gets_it_where_it_pays(self):
        poller = self.server.register(self.user, [self.community])
        small = self.publish()
        answer = self.server.get(poller.path(0), headers={"Accept-Encoding": "gzip"})
        self.assertNotIn("Content-Encoding", answer.headers)
        self.publish(data={"text": "again and " * 200})
        until(lambda: len(self.server.get(poller.path(0)).value["events"]) == 2, "both events")
        for codec in (JSON, MSGPACK):
            plain = self.server.get(poller.path(0), codec=codec)
            packed = self.server.get(poller.path(0), codec=codec, headers={"Accept-Encoding": "br, gzip"})
            self.assertEqual(packed.headers["Content-Encoding"], "gzip")
            self.assertIn("Accept-Encoding", packed.headers.get_all("Vary"))
            self.assertEqual(gzip.decompress(packed.body), plain.body)
            self.assertLess(len(packed.body), len(plain.body) / 2)
        self.assertEqual(small, poller.ids()[0])

    def test_a_held_poll_gets_events_of_a_community_granted_meanwhile(self):
        poller, _ = self.both(communities=[new_community()])
        with poller.hold():
            self.update([self.community])
        event_id = self.publish()
        self.assertEqual(poller.ids(wait=2), [event_id])

    def test_a_revocation_between_publish_and_poll_wins(self):
        poller = self.server.register(self.user, [self.community])
        self.publish()
        self.update([new_community()])
        self.assertEqual(poller.ids(), [])

    def test_a_revocation_wins_over_a_lost_answer_too(self):
        poller = self.server.register(self.user, [self.community])
        self.publish()
        self.assertEqual(len(poller.ask().value["events"]), 1)
        self.update([])
        self.assertEqual(poller.ids(), [])

    def test_what_was_published_before_a_later_grant_is_not_shown(self):
        clients = self.both(communities=[new_community()])
        self.publish()
        self.update([self.community])
        self.assert_got(clients, [self.publish()])

    def test_taken_and_given_again_counts_from_the_second_grant(self):
        clients = self.both()
        first = self.publish()
        self.assert_got(clients, [first])
        self.publish(exclude_user_id=self.user)
        self.update([])
        self.publish()
        self.update([self.community])
        self.assert_got(clients, [self.publish()])

    def test_a_grant_that_stays_keeps_its_since(self):
        poller = self.server.register(self.user, [self.community])
        first = self.publish()
        self.update([self.community, new_community()])  # which is read from its log, and until then nothing is served
        self.assertEqual(until(poller.ids, "the event"), [first])

    def test_a_user_left_without_community_gets_nothing_and_keeps_his_queue(self):
        clients = self.both()
        self.update([])
        self.publish()
        self.assert_got(clients, [])
        self.update([self.community])
        self.assert_got(clients, [self.publish()])

    def test_an_old_token_gives_identity_only(self):
        allowed = new_community()
        old = mint(self.user, [self.community], iat=int(time.time()) - 60)
        self.update([allowed])
        client = self.server.register_token(old)
        self.assertEqual(client.registered["communities"], [allowed])
        with Ws(self.server, token=old) as ws:
            self.assertEqual(ws.expect("welcome")["communities"], [allowed])
        self.publish()
        event_id = self.publish(communities=[allowed])
        self.assertEqual(client.ids(), [event_id])

    def test_an_old_token_does_not_undo_a_revocation_by_resuming(self):
        poller = self.server.register_token(mint(self.user, [self.community], iat=int(time.time()) - 60))
        self.update([])
        self.publish()
        answer = poller.ask(token=mint(self.user, [self.community], iat=int(time.time()) - 30))
        self.assertEqual(answer.value["events"], [])

    def test_a_newer_token_counts(self):
        self.update([])
        time.sleep(1.1)
        client = self.server.register_token(mint(self.user, [self.community]))
        self.assertEqual(client.registered["communities"], [self.community])
        event_id = self.publish()
        self.assertEqual(client.ids(), [event_id])


if __name__ == "__main__":
    main()
