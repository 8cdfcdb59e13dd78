"""What clients do that should not: each a function that goes on until its process is ended.

    attack(to, count, ready)    to: Target; count: how much of it; ready(): called once it is under way

They come from addresses of their own within 127/8, so that what is counted per address is counted apart from those who
behave. Nothing here waits for what the server answers.
"""

import errno
import json
import random
import socket
import time

import harness
from wsclient import TEXT, RawWs, handshake

CLOSED = (OSError, EOFError)


class Target:
    """The server, and where each kind of attacker comes from: 127.0.<kind>.1 and up."""

    def __init__(self, server, kind):
        self.server, self.address, self.kind = server, server.address, kind

    def connect(self, source=0, receive_bytes=0):
        sock = socket.socket()
        sock.bind((f"127.0.{self.kind}.{source + 1}", 0))
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(5)
        sock.connect(self.address)
        return sock

    def websocket(self, user, community, receive_bytes=0, **claims):
        """A socket on which everything after the head of the 101 is still to be read; None if there was none."""
        sock = self.connect(receive_bytes=receive_bytes)
        token = harness.mint(user, [community], **claims)
        sock.sendall(handshake(self.server, [f"Authorization: Bearer {token}"]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(1)
            if not data:
                break
            head += data
        if head.startswith(b"HTTP/1.1 101"):
            return sock
        sock.close()
        return None


def forever(count, ready, begin, step, pause):
    """Keeps so many sockets busy: step(sock) on each in turn, begin() in place of those that have been closed or were
    answered."""
    sockets = [begin() for _ in range(count)]
    ready()
    while True:
        for i, sock in enumerate(sockets):
            try:
                if sock is None:
                    sockets[i] = begin()
                elif was_answered(sock):
                    raise EOFError
                else:
                    step(sock)
            except CLOSED:
                if sock is not None:
                    sock.close()
                sockets[i] = None
        time.sleep(pause)


def was_answered(sock):
    """Reads what has come; EOFError if that is an end."""
    sock.setblocking(False)
    try:
        if not sock.recv(65536):
            raise EOFError
        return True
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(5)


def push(sock, data):
    """As much of it as the socket takes."""
    sock.setblocking(False)
    try:
        sock.send(data)
    except BlockingIOError:
        pass
    finally:
        sock.settimeout(5)


def slow_loris(to, count, ready):
    """A byte now and then: of a head, of a body."""
    beginnings = [b"GET /livez HTTP/1.1\r\nHost: x\r\nA: ",
                  b"POST /realtime/send HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n["]

    def begin():
        sock = to.connect()
        sock.sendall(random.choice(beginnings))
        return sock

    forever(count, ready, begin, lambda sock: push(sock, b"a"), 0.2)


def idle_connections(to, count, ready, per_address):
    """One request and nothing more, as many as an address may have, then more from the next; and some beyond."""
    kept = []
    for i in range(count):
        sock = to.connect(i // per_address)
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        kept.append(sock)
    ready()
    while True:
        for _ in range(5):
            with to.connect() as sock:
                sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)


def readers_that_stop(to, count, ready):
    """WebSockets that read nothing at all, while large events are published to them."""
    community, user = 700001, 700001
    kept = [to.websocket(user + i, community, receive_bytes=4096) for i in range(count)]
    event = json.dumps(harness.event([community], data={"x": "a" * 16000})).encode()
    ready()
    with to.connect() as sock:
        while True:
            sock.sendall(b"POST /realtime/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         b"X-API-Key: %s\r\nContent-Length: %d\r\n\r\n%s" % (harness.API_KEY.encode(), len(event), event))
            was_answered(sock)
            for i, reader in enumerate(kept):
                kept[i] = reader or to.websocket(user + i, community, receive_bytes=4096)
            time.sleep(0.05)


def publishers_in_a_loop(to, count, ready):
    """publish as fast as it goes, over WebSockets that come back at once, and through POST /realtime/send."""
    community, user = 700002, 710001
    message = {"op": "publish", "id": 1, "type": "x", "data": {"community_id": community}}
    frame = RawWs.frame(TEXT, json.dumps(message))
    token = harness.mint(user, [community], scope="publish")
    queue = to.server.register_token(token).queue_id
    body = json.dumps([message] * 20).encode()
    request = (b"POST /realtime/send?queue_id=%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
               b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (queue.encode(), token.encode(), len(body), body))
    def begin(i):
        return to.connect() if i % 2 else to.websocket(user + i, community, scope="publish")

    sockets = [None] * count
    ready()
    while True:
        for i in range(count):
            try:
                if sockets[i] is None:
                    sockets[i] = begin(i)
                if sockets[i] is not None:
                    was_answered(sockets[i])
                    sockets[i].sendall(request if i % 2 else frame * 5)
            except CLOSED:
                if sockets[i] is not None:
                    sockets[i].close()
                sockets[i] = None
        time.sleep(0.001)


def header_flood(to, count, ready):
    """Headers without end, as many bytes as the socket takes."""
    lines = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 100) for i in range(300))

    def begin():
        sock = to.connect()
        sock.sendall(b"GET /realtime/poll HTTP/1.1\r\nHost: x\r\n")
        return sock

    forever(count, ready, begin, lambda sock: push(sock, lines), 0.005)


def garbage(to, count, ready):
    """What is no HTTP at all: noise, a TLS hello, zeros, line ends, a request that contradicts itself."""
    rng = random.Random(7)
    pieces = [rng.randbytes(1000), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500), b"\0" * 2000,
              b"\r\n" * 500, b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
              b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]

    def begin():
        sock = to.connect()
        sock.sendall(rng.choice(pieces))
        return sock

    forever(count, ready, begin, lambda sock: push(sock, rng.choice(pieces)), 0.005)


def vanish(sock):
    """Forgets the connection without a word to the peer, as a machine does that loses its power (TCP_REPAIR; where that
    is not allowed, it only falls silent)."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, 19, 1)
        sock.close()
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        return sock


def half_open(to, count, ready):
    """WebSockets and held polls whose client is not there any more."""
    kept = []
    for i in range(count):
        if i % 2:
            sock = to.websocket(720001 + i, 700003)
        else:
            queue = to.server.register_token(harness.mint(720001 + i, [700003])).queue_id
            sock = to.connect()
            sock.sendall(f"GET /realtime/poll?queue_id={queue}&last_event_id=0&timeout=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        kept.append(vanish(sock) if i % 4 < 2 else sock)
    ready()
    while True:
        time.sleep(1)


def queues_left_behind(to, count, ready, per_user):
    """Registrations by tokens, five more for each user than it may have, none ever heard of again."""
    with to.connect() as sock:
        for user in range(730001, 730001 + count // per_user):
            head = f"POST /realtime/register HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {harness.mint(user, [700004, user])}\r\n"
            due = per_user + 5
            while due > 0:
                at_once = min(due, 32)
                sock.sendall((head + "Content-Length: 0\r\n\r\n").encode() * at_once)
                await_answers(sock, at_once)
                due -= at_once
    ready()
    while True:
        time.sleep(1)


def await_answers(sock, count):
    start, tail = b"HTTP/1.1 ", b""
    while count > 0:
        data = sock.recv(65536)
        if not data:
            raise EOFError
        count -= (tail + data).count(start)
        tail = (tail + data)[1 - len(start):]
