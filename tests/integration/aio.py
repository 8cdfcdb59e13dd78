"""The wire for tests with hundreds of clients in one process: HTTP, WebSocket and RESP by hand on asyncio streams.

wsclient.py and harness.py are comfortable; this is quick. Nothing here knows Parley but for the path of its
WebSocket and the names of its codecs.
"""

import asyncio
import contextlib
import json
import struct

import msgpack

from harness import JSON, MSGPACK

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FAILED = (OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError)


class Lost(Exception):
    """No connection, or it ended (or said nothing for too long: silent) in the middle of something."""

    silent = False


def _lost(what, error):
    lost = Lost(f"{what}: {error!r}")
    lost.silent = isinstance(error, asyncio.TimeoutError)
    return lost


class Refused(Exception):
    """An upgrade was answered with an HTTP status other than 101."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body[:200]!r}")
        self.status = status


class Closed(Exception):
    """The server closed the WebSocket with a code and a reason."""

    def __init__(self, code, reason):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


def pack(value, packed):
    return msgpack.packb(value) if packed else json.dumps(value).encode()


def unpack(data, packed):
    return msgpack.unpackb(data) if packed else json.loads(data)


async def _head(reader):
    """Status and headers (names in lower case) of an answer."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(first.split(" ", 2)[1]), headers


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def value(self):
        return unpack(self.body, self.headers.get("content-type", "").startswith(MSGPACK))

    @property
    def code(self):
        """The `code` of an error body; "" if there is none."""
        with contextlib.suppress(ValueError, AttributeError):
            return self.value.get("code", "")
        return ""

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Http:
    """Requests over kept connections, as many as are wanted at once to each address."""

    def __init__(self):
        self.idle = {}

    async def request(self, address, method, target, body=None, *, headers=None, packed=False, timeout=10):
        """Raises Lost when there was no whole answer: what the request did is then not known."""
        head = [f"{method} {target} HTTP/1.1", "Host: x", f"Accept: {MSGPACK if packed else JSON}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            head += [f"Content-Type: {JSON}", f"Content-Length: {len(body)}"]
        writer = None
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await self._connection(address)
                writer.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + (body or b""))
                status, fields = await _head(reader)
                data = await reader.readexactly(int(fields.get("content-length", 0)))
        except FAILED as error:
            raise _lost(f"{method} {target.split('?')[0]}", error) from None
        else:
            if fields.get("connection", "").lower() != "close":
                self.idle.setdefault(address, []).append((reader, writer))
                writer = None
        finally:
            if writer:
                writer.transport.abort()
        return Answer(status, fields, data)

    async def _connection(self, address):
        kept = self.idle.get(address, [])
        while kept:
            reader, writer = kept.pop()
            if not reader.at_eof() and not writer.is_closing() and not reader.exception():
                return reader, writer
            writer.transport.abort()
        return await asyncio.open_connection(*address)

    def close(self):
        for kept in self.idle.values():
            for _, writer in kept:
                writer.transport.abort()
        self.idle.clear()


class WebSocket:
    """A connected WebSocket; no compression is offered, and frames are masked with zeros, which is allowed."""

    def __init__(self, reader, writer, packed):
        self.reader, self.writer, self.packed, self.buffer = reader, writer, packed, bytearray()

    @classmethod
    async def open(cls, address, packed=False, query="", headers=None, timeout=5):
        lines = [f"GET /realtime/ws{query} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
                 f"Sec-WebSocket-Protocol: parley.v1.{'msgpack' if packed else 'json'}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer = None
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
                writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
                status, fields = await _head(reader)
                if status != 101:
                    raise Refused(status, await reader.readexactly(int(fields.get("content-length", 0))))
        except BaseException as error:
            if writer:
                writer.transport.abort()
            if isinstance(error, FAILED):
                raise _lost("upgrade", error) from None
            raise
        return cls(reader, writer, packed)

    async def _take(self, size):
        """The next bytes, kept until they are all there: a recv that was cut short loses nothing."""
        while len(self.buffer) < size:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self.buffer += data
        return self.buffer

    async def _frame(self):
        head = await self._take(2)
        first, length, start = head[0], head[1], 2
        if length == 126:
            length, start = struct.unpack_from(">H", await self._take(4), 2)[0], 4
        elif length == 127:
            length, start = struct.unpack_from(">Q", await self._take(10), 2)[0], 10
        payload = bytes((await self._take(start + length))[start:start + length])
        del self.buffer[:start + length]
        return first & 15, payload

    async def recv(self, timeout):
        """The next message. Lost: nothing for that long, or the connection ended without a close frame."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    opcode, payload = await self._frame()
                    if opcode in (TEXT, BINARY):
                        return unpack(payload, self.packed)
                    if opcode == PING:
                        self._write(PONG, payload)
                    elif opcode == CLOSE:
                        code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                        raise Closed(code, payload[2:].decode())
        except FAILED as error:
            raise _lost("websocket", error) from None

    def _write(self, opcode, payload):
        size = len(payload)
        head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
        self.writer.write(head + b"\0\0\0\0" + payload)

    def send(self, message):
        self._write(BINARY if self.packed else TEXT, pack(message, self.packed))

    def close(self, code):
        """Says so and goes, without waiting for the answer."""
        self._write(CLOSE, struct.pack(">H", code))
        self.writer.close()

    def abort(self):
        self.writer.transport.abort()


async def _reply(reader):
    line = (await reader.readline()).rstrip(b"\r\n").decode()
    if not line:
        raise EOFError
    kind, rest = line[0], line[1:]
    if kind == "-":
        raise RuntimeError(rest)
    if kind == "$":
        return None if rest == "-1" else (await reader.readexactly(int(rest) + 2))[:-2].decode()
    if kind == "*":
        return None if rest == "-1" else [await _reply(reader) for _ in range(int(rest))]
    return int(rest) if kind == ":" else rest


async def redis_command(port, *args, timeout=3):
    """One command to a Redis on this machine. RuntimeError: it answered with an error; Lost: with nothing."""
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            parts = [str(arg).encode() for arg in args]
            writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            return await _reply(reader)
    except FAILED as error:
        raise _lost(f"redis {args[0]}", error) from None
    finally:
        if writer:
            writer.transport.abort()
