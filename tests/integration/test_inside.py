"""Seeing inside: what is counted, what explain says, traces, logs."""

import time

from harness import ServerCase, main, new_community, new_user, until


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


if __name__ == "__main__":
    main()
