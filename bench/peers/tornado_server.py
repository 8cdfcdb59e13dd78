#!/usr/bin/python3
"""The long-polling server that Parley replaces: Tornado, a queue of events per user, one future per waiting poll.

An event is offered to every queue there is; those of the community get a copy and their poll is woken. Paths and bodies
are Parley's. Events come by HTTP here, so that Redis is not part of what is measured. tornado_server.py PORT
"""

import asyncio
import collections
import json
import sys
import time
import uuid

import tornado.httpserver
import tornado.netutil
import tornado.web

EVENTS = 1000  # kept per queue


class Queue:
    def __init__(self, user_id, community_ids):
        self.queue_id = str(uuid.uuid4())
        self.user_id = user_id
        self.community_ids = set(community_ids)
        self.events = collections.deque(maxlen=EVENTS)
        self.last_event_id = 0
        self.last_heartbeat = time.time()
        self.waiting = None

    def add(self, event):
        self.last_event_id = event["event_id"]
        self.events.append(event)
        if self.waiting and not self.waiting.done():
            self.waiting.set_result(None)

    async def after(self, event_id, timeout):
        """The events after that one; waits for one if there is none yet."""
        if self.last_event_id <= event_id:
            self.waiting = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self.waiting, timeout)
            except asyncio.TimeoutError:
                pass
            finally:
                self.waiting = None
        return [event for event in self.events if event["event_id"] > event_id]


class Manager:
    def __init__(self):
        self.queues, self.last_event_id = {}, 0

    def register(self, user_id, community_ids):
        queue = Queue(user_id, community_ids)
        queue.last_event_id = self.last_event_id
        self.queues[queue.queue_id] = queue
        return queue

    def publish(self, event):
        self.last_event_id += 1
        event["event_id"] = self.last_event_id
        communities = set(event["community_ids"])
        for queue in self.queues.values():
            if queue.community_ids & communities and queue.user_id != event.get("exclude_user_id"):
                queue.add(event)


class Handler(tornado.web.RequestHandler):
    def initialize(self, manager):
        self.manager = manager

    def body(self):
        return json.loads(self.request.body or b"{}")

    def answer(self, value):
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))


class Register(Handler):
    def post(self):
        body = self.body()
        queue = self.manager.register(body["user_id"], body["community_ids"])
        self.answer({"queue_id": queue.queue_id, "last_event_id": queue.last_event_id,
                     "communities": body["community_ids"]})


class Poll(Handler):
    async def get(self):
        queue = self.manager.queues.get(self.get_argument("queue_id"))
        if not queue:
            raise tornado.web.HTTPError(404)
        queue.last_heartbeat = time.time()
        position = int(self.get_argument("last_event_id", "0"))
        events = await queue.after(position, 60)
        self.answer({"events": events, "last_event_id": events[-1]["event_id"] if events else position})


class Publish(Handler):
    def post(self):
        self.manager.publish(self.body())
        self.answer({"event_id": self.manager.last_event_id})


def main():
    shared = {"manager": Manager()}
    application = tornado.web.Application([
        (r"/realtime/register", Register, shared),
        (r"/realtime/poll", Poll, shared),
        (r"/realtime/publish", Publish, shared),
    ], log_function=lambda handler: None)

    async def serve():
        server = tornado.httpserver.HTTPServer(application)
        server.add_sockets(tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1", backlog=4096))
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
