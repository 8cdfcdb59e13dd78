"""Two WebSocket clients: Ws, the `websockets` library behind plain blocking calls, for what a client
does; RawWs, frames written by hand, for what no client should do."""

import asyncio
import base64
import json
import os
import socket
import struct
import threading
import time
import zlib

import msgpack
import websockets

from harness import RawConn

JSON_PROTOCOL = "parley.v1.json"
MSGPACK_PROTOCOL = "parley.v1.msgpack"
PATH = "/realtime/ws"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


def _run(coroutine, timeout):
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, timeout), _loop)
    return future.result(timeout + 5)


class Closed(Exception):
    """The server closed: code (1006 without a close frame) and reason."""

    def __init__(self, code, reason):
        super().__init__(f"closed {code} {reason!r}")
        self.code, self.reason = code, reason


def closed_by(error):
    frame = error.rcvd
    return Closed(frame.code if frame else 1006, frame.reason if frame else "")


class Ws:
    """A connected WebSocket. Keywords of `connect`: token, hello, subprotocols, origin, headers, query."""

    def __init__(self, server, token=None, queue_id=None, last_event_id=None, subprotocols=(JSON_PROTOCOL,),
                 origin=None, headers=None, compression="deflate", query=None, max_size=8 << 20):
        query = dict(query or {})
        if queue_id is not None:
            query["queue_id"] = queue_id
        if last_event_id is not None:
            query["last_event_id"] = last_event_id
        self.server = server
        host, port = server.address
        tls = getattr(server, "tls", None)
        url = f"{'wss' if tls else 'ws'}://{host}:{port}{PATH}" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
        extra = dict(headers or {})
        if token:
            extra["Authorization"] = "Bearer " + token
        self.received = []  # every message, and of those the events no test has asked for yet:
        self.unread = []

        async def connect():
            return await websockets.connect(
                url, ssl=tls, subprotocols=list(subprotocols) or None, origin=origin, extra_headers=extra,
                compression=compression, ping_interval=None, max_size=max_size, close_timeout=3)

        self.conn = _run(connect(), 10)
        self.packed = self.conn.subprotocol == MSGPACK_PROTOCOL

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def recv(self, timeout=5):
        """The next message, of whatever op."""
        try:
            data = _run(self.conn.recv(), timeout)
        except websockets.ConnectionClosed as error:
            raise closed_by(error) from None
        except asyncio.TimeoutError:
            raise AssertionError(f"no message within {timeout:g} s; had {self.received[-5:]}") from None
        assert isinstance(data, bytes) == self.packed, f"wrong frame type: {data!r:.200}"
        message = msgpack.unpackb(data) if self.packed else json.loads(data)
        self.received.append(message)
        if message["op"] == "events":
            self.unread += message["events"]
        return message

    def expect(self, op, timeout=5):
        """The next message that is not a ping; it must have this op."""
        message = self.next(timeout)
        assert message["op"] == op, f"expected {op}, got {message}"
        return message

    def next(self, timeout=5):
        end = time.monotonic() + timeout
        while True:
            message = self.recv(max(end - time.monotonic(), 0.01))
            if message["op"] == "ping":
                self.send({"op": "pong"})
            else:
                return message

    def find(self, op, timeout=5):
        """The next message of this op; others are skipped (and kept in .received)."""
        end = time.monotonic() + timeout
        while True:
            message = self.next(max(end - time.monotonic(), 0.01))
            if message["op"] == op:
                return message

    def take_events(self):
        events, self.unread = self.unread, []
        return events

    def events(self, count, timeout=5):
        """Waits until that many events came and returns exactly those."""
        while len(self.unread) < count:
            self.find("events", timeout)
        assert len(self.unread) == count, self.unread
        return self.take_events()

    def quiet(self, seconds=0.3):
        """True if no message but pings arrives for that long; .received has the one that did."""
        end = time.monotonic() + seconds
        try:
            while True:
                message = self.recv(max(end - time.monotonic(), 0.01))
                if message["op"] != "ping":
                    return False
        except AssertionError:
            return True

    def send(self, message):
        self.send_raw(msgpack.packb(message) if self.packed else json.dumps(message))

    def send_raw(self, data):
        try:
            _run(self.conn.send(data), 5)
        except websockets.ConnectionClosed as error:
            raise closed_by(error) from None

    def call(self, op, id=1, timeout=5, **fields):
        """Sends a message with an id and returns its reply; events in between stay in .received."""
        self.send({"op": op, "id": id, **fields})
        reply = self.find("reply", timeout)
        assert reply.get("id") == id, reply
        return reply

    def synced(self):
        """Everything the server had to send before now has been read: the events among it, none twice."""
        self.server.settle()
        self.send({"op": "ping"})
        self.find("pong")
        return self.take_events()

    def closed(self, timeout=5):
        """(code, reason) of the close that must come; messages before it stay in .received."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.recv(max(end - time.monotonic(), 0.01))
            except Closed as closed:
                return closed.code, closed.reason

    def close(self, code=1000):
        _run(self.conn.close(code), 8)

    def vanish(self):
        """The TCP connection goes without a close frame."""
        _loop.call_soon_threadsafe(self.conn.transport.abort)


def handshake(server, headers=(), query="", version="13", key=None, host=None, path=PATH):
    """The bytes of an upgrade request. headers: further lines."""
    key = key or base64.b64encode(os.urandom(16)).decode()
    host = host or "%s:%d" % server.address
    lines = [f"GET {path}{query} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Version: {version}", *headers]
    return "\r\n".join(lines) + "\r\n\r\n"


def upgrade(server, headers=(), query="", **kw):
    """Sends an upgrade request and returns (answer, connection)."""
    conn = RawConn(server.address)
    conn.send(handshake(server, headers, query, **kw))
    return conn.response(), conn


class RawWs:
    """A WebSocket whose frames the test writes itself."""

    def __init__(self, server, headers=(), query="", token=None, deflate=False, protocol=JSON_PROTOCOL):
        headers = [*headers, f"Sec-WebSocket-Protocol: {protocol}"]
        if token:
            headers.append(f"Authorization: Bearer {token}")
        if deflate:
            headers.append("Sec-WebSocket-Extensions: permessage-deflate")
        self.answer, self.conn = upgrade(server, headers, query)
        assert self.answer.status == 101, self.answer
        self.deflate = "permessage-deflate" in self.answer.headers.get("Sec-WebSocket-Extensions", "")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()

    @staticmethod
    def frame(opcode, payload=b"", fin=True, rsv=0, masked=True):
        if isinstance(payload, str):
            payload = payload.encode()
        length = len(payload)
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        mask_bit = 0x80 if masked else 0
        if length < 126:
            head += bytes([mask_bit | length])
        elif length < 65536:
            head += bytes([mask_bit | 126]) + struct.pack(">H", length)
        else:
            head += bytes([mask_bit | 127]) + struct.pack(">Q", length)
        if not masked:
            return head + payload
        mask = os.urandom(4)
        repeated = (mask * (length // 4 + 1))[:length]
        body = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
        return head + mask + body

    def send(self, opcode, payload=b"", **kw):
        self.conn.send(self.frame(opcode, payload, **kw))

    def send_json(self, message):
        self.send(TEXT, json.dumps(message))

    def send_deflated(self, payload, opcode=TEXT):
        self.send(opcode, deflated(payload), rsv=4)

    def frames(self, timeout=5):
        """Yields (first byte, payload) of each frame; stops at end of stream."""
        self.conn.timeout = timeout
        while True:
            try:
                first, length = self.conn.take(2)
            except (EOFError, ConnectionResetError):
                return
            assert not length & 0x80, "a server must not mask"
            if length == 126:
                length = struct.unpack(">H", self.conn.take(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.conn.take(8))[0]
            yield first, self.conn.take(length)

    def message(self, timeout=5):
        """The next text or binary message: (first byte, decoded value)."""
        for first, payload in self.frames(timeout):
            if first & 0x0F in (TEXT, BINARY):
                assert first & 0x80, "Parley does not fragment"
                if first & 0x40:
                    payload = inflated(payload)
                return first, json.loads(payload) if first & 0x0F == TEXT else msgpack.unpackb(payload)
        raise Closed(1006, "")

    def expect(self, op, timeout=5):
        while True:
            _, message = self.message(timeout)
            if message["op"] == op:
                return message
            assert message["op"] == "ping", message

    def closed(self, timeout=5):
        """(code, reason) of the close frame; 1006 if the stream ends without one."""
        for first, payload in self.frames(timeout):
            if first & 0x0F == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005
                return code, payload[2:].decode()
        return 1006, ""

    def gone(self, timeout=5):
        """True once the TCP stream ends."""
        try:
            for _ in self.frames(timeout):
                pass
            return True
        except socket.timeout:
            return False


def deflated(payload):
    if isinstance(payload, str):
        payload = payload.encode()
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (z.compress(payload) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload):
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")

