"""HTTP/1.1 on the wire: what the parser takes, what it refuses, and what it does with slow clients."""

import json
import socket
import time

from harness import API_KEY, Server, ServerCase, TestCase, main, new_community, new_user, until

HEALTH = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def post(path, body, headers=""):
    body = body if isinstance(body, str) else json.dumps(body)
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n{body}")


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines]) + "\r\n\r\n"


def chunked(path, *chunks, trailer=""):
    return (head("POST", path, f"X-API-Key: {API_KEY}", "Content-Type: application/json",
                 "Transfer-Encoding: chunked") + "".join(chunks) + f"0\r\n{trailer}\r\n")


def chunk(data, extension=""):
    return f"{len(data):x}{extension}\r\n{data}\r\n"


class HttpCase(ServerCase):
    def publish_body(self):
        return json.dumps({"type": "new_comment", "community_ids": [new_community()], "data": {"n": 1}})

    def assert_refused(self, data, status=400):
        """An error answer with a body, nothing after it, and the connection closed."""
        with self.server.raw(data) as conn:
            answer = conn.response()
            self.assert_error(answer, status)
            self.assertEqual(answer.headers.get("Connection", "").lower(), "close", answer)
            self.assertTrue(conn.closed(), f"more than one answer, or still open: {conn.buffer[:200]!r}")


class KeepAlive(HttpCase):
    def test_a_connection_serves_many_requests(self):
        with self.server.raw() as conn:
            for _ in range(20):
                self.assertEqual(conn.send(HEALTH).response().status, 200)

    def test_connection_close_is_obeyed_and_said(self):
        with self.server.raw(head("GET", "/health", "Connection: close")) as conn:
            answer = conn.response()
            self.assertEqual((answer.status, answer.headers["Connection"].lower()), (200, "close"))
            self.assertTrue(conn.closed())

    def test_an_error_after_a_head_has_its_body(self):
        for wrong in ("GARBAGE\r\n\r\n", head("GET", "/health", "Content-Length: x")):
            with self.server.raw(head("HEAD", "/health")) as conn:
                self.assertEqual(conn.response(to_head=True).status, 200)
                self.assert_error(conn.send(wrong).response(), 400, "protocol_error")

    def test_connection_close_is_found_among_other_options(self):
        with self.server.raw(head("GET", "/health", "Connection: foo, Close")) as conn:
            self.assertEqual(conn.response().status, 200)
            self.assertTrue(conn.closed())

    def test_http_1_0_is_answered_and_closed(self):
        with self.server.raw("GET /health HTTP/1.0\r\n\r\n") as conn:
            self.assertEqual(conn.response().status, 200)
            self.assertTrue(conn.closed())

    def test_pipelined_gets_are_answered_in_order(self):
        with self.server.raw(HEALTH + head("GET", "/nowhere") + HEALTH) as conn:
            self.assertEqual([conn.response().status for _ in range(3)], [200, 404, 200])

    def test_two_pipelined_posts_in_one_segment_are_both_answered(self):
        with self.server.raw(post("/realtime/publish", self.publish_body()) * 2) as conn:
            ids = [conn.response().value["event_id"] for _ in range(2)]
        self.assertLess(ids[0], ids[1])

    def test_a_hundred_pipelined_posts_are_all_answered(self):
        with self.server.raw(post("/realtime/publish", self.publish_body()) * 100) as conn:
            ids = [conn.response().value["event_id"] for _ in range(100)]
        self.assert_growing(ids)

    def test_a_request_pipelined_behind_a_held_poll_is_answered_after_it(self):
        community = new_community()
        client = self.server.register(new_user(), [community])
        with client.hold() as conn:
            conn.send(HEALTH)
            self.assertTrue(conn.silent(0.3), "the second answer must wait for the first")
            event_id = self.server.publish([community])
            self.assertEqual([e["event_id"] for e in conn.response().value["events"]], [event_id])
            self.assertIn("status", conn.response().value)

    def test_requests_arrive_bytewise(self):
        body = self.publish_body()
        with self.server.raw() as conn:
            conn.send_bytewise(HEALTH.encode())
            self.assertEqual(conn.response().status, 200)
            conn.send_bytewise(post("/realtime/publish", body).encode())
            self.assertEqual(conn.response().status, 200)
            conn.send_bytewise(chunked("/realtime/publish", chunk(body)).encode())
            self.assertEqual(conn.response().status, 200)

    def test_empty_lines_before_a_request_do_no_harm(self):
        with self.server.raw("\r\n" + HEALTH) as conn:
            self.assertEqual(conn.response().status, 200)


class Methods(HttpCase):
    def test_head_answers_like_get_without_a_body(self):
        with self.server.raw(head("HEAD", "/livez") + HEALTH) as conn:
            answer = conn.response(to_head=True)
            self.assertEqual(answer.status, 200)
            self.assertEqual(conn.response().status, 200, "the HEAD answer must have had no body")

    def test_head_of_an_unknown_path_has_no_body(self):
        with self.server.raw(head("HEAD", "/nowhere") + HEALTH) as conn:
            self.assertEqual(conn.response(to_head=True).status, 404)
            self.assertEqual(conn.response().status, 200)

    def test_head_of_a_poll_is_not_held(self):
        client = self.server.register(new_user(), [new_community()])
        with self.server.raw(head("HEAD", client.path(timeout=20))) as conn:
            conn.timeout = 3
            self.assertIn(conn.response(to_head=True).status, (200, 405))

    def test_options_names_the_methods(self):
        for path, method in (("/realtime/poll", "GET"), ("/realtime/send", "POST"), ("/health", "GET")):
            with self.server.raw(head("OPTIONS", path) + HEALTH) as conn:
                answer = conn.response()
                self.assertIn(answer.status, (200, 204), path)
                self.assertIn(method, answer.headers.get("Allow", ""), path)
                self.assertEqual(conn.response().status, 200)

    def test_an_unknown_path_is_404(self):
        for path in ("/", "/realtime", "/realtime/", "/realtime/polls", "/realtime/poll/", "/healthz"):
            self.assert_error(self.server.get(path), 404, "not_found")

    def test_a_wrong_method_is_405_with_allow(self):
        for method, path, allow in (("POST", "/realtime/poll", "GET"), ("GET", "/realtime/publish", "POST"),
                                    ("DELETE", "/realtime/register", "POST"), ("PUT", "/health", "GET"),
                                    ("GET", "/realtime/send", "POST")):
            answer = self.server.request(method, path)
            self.assert_error(answer, 405, "method_not_allowed")
            self.assertIn(allow, [m.strip() for m in answer.headers["Allow"].split(",")])

    def test_an_unknown_method_is_refused(self):
        self.assertIn(self.server.request("BREW", "/health").status, (405, 501))

    def test_http_2_preface_and_other_versions_are_505(self):
        for version in ("HTTP/2.0", "HTTP/3.0", "HTTP/0.9"):
            self.assert_refused(f"GET /health {version}\r\nHost: x\r\n\r\n", 505)
        self.assert_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)

    def test_a_malformed_request_line_is_400(self):
        for line in ("GET", "GET /health", "GET  /health HTTP/1.1", "GET /health  HTTP/1.1", "GET /health HTTP/1.1 ",
                     " GET /health HTTP/1.1", "GET /he alth HTTP/1.1", "GET /health http/1.1", "GET health HTTP/1.1",
                     "GET /health HTTP/1.1\r", "G\x00T /health HTTP/1.1", "GET /he\x01alth HTTP/1.1",
                     "GET\t/health HTTP/1.1", "GET /health HTTP/1", "GET /health HTTP/11"):
            with self.subTest(line=line):
                self.assert_refused(f"{line}\r\nHost: x\r\n\r\n", (400, 505))

    def test_a_malformed_query_is_refused_or_not_found(self):
        for query in ("queue_id=%zz", "queue_id=%", "queue_id=%0", "queue_id=%00", "queue_id=a&queue_id=b"):
            with self.subTest(query=query):
                self.assert_error(self.server.get("/realtime/poll?last_event_id=0&timeout=0&" + query), (400, 404))


class Smuggling(HttpCase):
    """Whatever two parsers could read differently is refused and ends the connection."""

    def test_lengths_that_repeat_or_conflict(self):
        body = self.publish_body()
        for lines in ([f"Content-Length: {len(body)}", f"Content-Length: {len(body)}"],
                      [f"Content-Length: {len(body)}", "Content-Length: 0"],
                      [f"Content-Length: {len(body)}", "content-length: 3"],
                      [f"Content-Length: {len(body)}, {len(body)}"],
                      [f"Content-Length: {len(body)}, 0"]):
            with self.subTest(lines=lines):
                self.assert_refused(head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}", *lines) + body + HEALTH)

    def test_lengths_that_are_no_number(self):
        for value in ("+5", "-1", "0x5", "5 5", "", "5a", "1e3", "5;", "\"5\"", "5.0"):
            with self.subTest(value=value):
                self.assert_refused(head("POST", "/realtime/publish", f"Content-Length: {value}") + "hello" + HEALTH)

    def test_a_length_beyond_any_integer(self):
        for value in ("99999999999999999999999999", "18446744073709551616", "18446744073709551621"):
            with self.subTest(value=value):
                self.assert_refused(head("POST", "/realtime/publish", f"Content-Length: {value}") + "hello", (400, 413))

    def test_length_with_transfer_encoding(self):
        for lines in (["Content-Length: 4", "Transfer-Encoding: chunked"],
                      ["Transfer-Encoding: chunked", "Content-Length: 4"],
                      ["Transfer-Encoding: chunked", "Content-Length: 0"]):
            with self.subTest(lines=lines):
                self.assert_refused(head("POST", "/realtime/publish", *lines) + "0\r\n\r\n" + HEALTH)

    def test_transfer_encoding_games(self):
        for lines in (["Transfer-Encoding: chunked, chunked"], ["Transfer-Encoding: chunked, identity"],
                      ["Transfer-Encoding: identity"], ["Transfer-Encoding: xchunked"], ["Transfer-Encoding: gzip"],
                      ["Transfer-Encoding: gzip, chunked"], ["Transfer-Encoding: "],
                      ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
                      ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
                      ["Transfer-Encoding: chunked;q=1"], ["Transfer-Encoding: \"chunked\""],
                      ["Transfer-Encoding: \x0bchunked"], ["Transfer-Encoding: chunked\x00"],
                      ["Transfer-Encoding : chunked"], ["Transfer-Encoding:\r\n chunked"],
                      ["X: y", " Transfer-Encoding: chunked"], ["Transfer\x00-Encoding: chunked"]):
            with self.subTest(lines=lines):
                self.assert_refused(head("POST", "/realtime/publish", *lines) + "0\r\n\r\n" + HEALTH, (400, 501))

    def test_transfer_encoding_in_http_1_0(self):
        self.assert_refused("POST /realtime/publish HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    def test_bare_line_feeds_and_carriage_returns(self):
        for data in ("GET /health HTTP/1.1\nHost: x\n\n", "GET /health HTTP/1.1\r\nHost: x\n\r\n",
                     "GET /health HTTP/1.1\r\nHost: x\r\n\n", "GET /health HTTP/1.1\nHost: x\r\n\r\n",
                     "GET /health HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", "GET /health HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
                     "GET /health HTTP/1.1\r\nHost: x\r\n\rX\r\n\r\n"):
            with self.subTest(data=data):
                self.assert_refused(data)

    def test_folded_headers(self):
        for fold in (" folded", "\tfolded"):
            with self.subTest(fold=fold):
                self.assert_refused(f"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n{fold}\r\n\r\n")

    def test_a_folded_first_header(self):
        self.assert_refused("GET /health HTTP/1.1\r\n Host: x\r\n\r\n")

    def test_spaces_before_a_colon_and_bad_names(self):
        for line in ("A : b", "A\t: b", ": b", "A b: c", "A", "A(: b", "A\x7f: b", "Ä: b", "\"A\": b"):
            with self.subTest(line=line):
                self.assert_refused(f"GET /health HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n")

    def test_control_characters_in_values(self):
        for value in ("a\x00b", "a\x01b", "a\x7fb", "a\x0bb"):
            with self.subTest(value=value):
                self.assert_refused(f"GET /health HTTP/1.1\r\nHost: x\r\nA: {value}\r\n\r\n")

    def test_host_is_required_once(self):
        self.assert_refused("GET /health HTTP/1.1\r\n\r\n")
        self.assert_refused("GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        self.assert_refused("GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")

    def test_malformed_chunks(self):
        for chunks in ("g\r\n", "-1\r\nx\r\n", "+3\r\nabc\r\n", "0x3\r\nabc\r\n", " 3\r\nabc\r\n", "3 \r\nabc\r\n",
                       "\r\nabc\r\n", "3\nabc\r\n", "3\r\nabcd\r\n", "3\r\nabc\n", "3\r\nabcX\r\n", "3\rabc\r\n",
                       "3;\nabc\r\n", "3;a\rb\r\nabc\r\n"):
            with self.subTest(chunks=chunks):
                data = head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}", "Content-Type: application/json",
                            "Transfer-Encoding: chunked")
                self.assert_refused(data + chunks + "0\r\n\r\n" + HEALTH)

    def test_chunk_sizes_beyond_any_integer(self):
        for size in ("ffffffffffffffff", "10000000000000000", "fffffffffffffffffffffffff", "8000000000000000"):
            with self.subTest(size=size):
                data = head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}", "Transfer-Encoding: chunked")
                self.assert_refused(data + size + "\r\nabc", (400, 413))

    def test_a_refusal_in_the_middle_of_a_pipeline_comes_after_the_answers_before_it(self):
        with self.server.raw(HEALTH + "GET /health HTTP/1.1\r\nA : b\r\n\r\n" + HEALTH) as conn:
            self.assertEqual(conn.response().status, 200)
            self.assertEqual(conn.response().status, 400)
            self.assertTrue(conn.closed())


class Bodies(HttpCase):
    def test_a_chunked_body_is_read(self):
        body = self.publish_body()
        for chunks in ([chunk(body)], [chunk(c) for c in body], [chunk(body[:7]), chunk(body[7:])],
                       [chunk(body, ";name=value;other=\"quoted\"")]):
            with self.server.raw(chunked("/realtime/publish", *chunks) + HEALTH) as conn:
                self.assertEqual(conn.response().status, 200, chunks)
                self.assertEqual(conn.response().status, 200)

    def test_upper_case_and_zero_padded_chunk_sizes_are_read(self):
        body = self.publish_body()
        with self.server.raw(chunked("/realtime/publish", f"{len(body):04X}\r\n{body}\r\n")) as conn:
            self.assertEqual(conn.response().status, 200)

    def test_trailers_are_read_and_ignored(self):
        body = self.publish_body()
        trailer = "X-API-Key: wrong\r\nContent-Length: 5\r\n"
        with self.server.raw(chunked("/realtime/publish", chunk(body), trailer=trailer) + HEALTH) as conn:
            first = conn.response()
            self.assertIn(first.status, (200, 400))
            if first.status == 200:
                self.assertEqual(conn.response().status, 200)

    def test_the_coding_name_is_compared_without_case(self):
        body = self.publish_body()
        data = chunked("/realtime/publish", chunk(body)).replace("coding: chunked", "coding: Chunked")
        with self.server.raw(data) as conn:
            self.assertEqual(conn.response().status, 200)

    def test_expect_100_continue_is_answered_before_the_body(self):
        body = self.publish_body()
        with self.server.raw(post("/realtime/publish", body, "Expect: 100-continue\r\n")[:-len(body)]) as conn:
            until(lambda: conn.fill(3) and b"\r\n\r\n" in conn.buffer, "100 Continue")
            self.assertTrue(conn.buffer.startswith(b"HTTP/1.1 100 "), conn.buffer)
            answer = conn.send(body).response()
            self.assertEqual((answer.status, answer.interim), (200, [100]))

    def test_expect_100_continue_for_a_body_that_is_too_big_is_refused_at_once(self):
        with self.server.raw(head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}", "Expect: 100-continue",
                                  "Content-Length: 1048577")) as conn:
            answer = conn.response()
            self.assertEqual((answer.status, answer.interim), (413, []))

    def test_a_body_that_is_too_big_is_413_before_it_is_sent(self):
        self.assert_refused(head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}", "Content-Length: 1048577"), 413)

    def test_a_chunked_body_that_grows_too_big_is_413(self):
        big = "a" * 65000
        with self.server.raw(head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}",
                                  "Transfer-Encoding: chunked")) as conn:
            try:
                for _ in range(17):
                    conn.send(chunk(big))
            except (BrokenPipeError, ConnectionResetError):
                pass
            self.assertEqual(conn.response().status, 413)

    def test_a_get_with_a_body_keeps_the_connection_in_step(self):
        with self.server.raw(head("GET", "/health", "Content-Length: 5") + "hello" + HEALTH) as conn:
            first = conn.response()
            if first.status == 200:
                self.assertEqual(conn.response().status, 200)
            else:
                self.assertEqual(first.status, 400)


class Heads(HttpCase):
    def test_a_target_that_is_too_long_is_414(self):
        self.assert_refused(head("GET", "/health?" + "a" * 20_000), 414)

    def test_headers_that_are_too_big_are_431(self):
        self.assert_refused(head("GET", "/health", "A: " + "a" * 20_000), 431)

    def test_a_header_flood_is_431(self):
        self.assert_refused(head("GET", "/health", *["A: b"] * 5000), 431)

    def test_endless_headers_are_cut_off_without_a_line_end(self):
        with self.server.raw("GET /health HTTP/1.1\r\nHost: x\r\n") as conn:
            try:
                for _ in range(64):
                    conn.send("a" * 1024)
                    time.sleep(0.001)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                self.assertIn(conn.response().status, (400, 431))
            except EOFError:
                pass  # a reset may overtake the answer

    def test_many_empty_lines_do_not_keep_a_connection_for_ever(self):
        with self.server.raw("\r\n" * 20_000) as conn:
            try:
                self.assertEqual(conn.response().status, 400)
            except (EOFError, ConnectionResetError):
                pass

    def test_every_answer_has_a_length_and_type(self):
        for path in ("/health", "/nowhere", "/realtime/poll", "/livez", "/readyz"):
            answer = self.server.get(path)
            self.assertIn("Content-Length", answer.headers, path)
            self.assertIn("Content-Type", answer.headers, path)


class Held(HttpCase):
    def idle_cpu(self, seconds=0.6):
        before = self.server.cpu_seconds()
        time.sleep(seconds)
        return self.server.cpu_seconds() - before

    def hold(self):
        return self.server.register(new_user(), [new_community()]).hold()

    def test_a_fin_during_a_held_poll_frees_it_and_does_not_spin(self):
        before = self.server.health()["pending_polls"]
        self.hold().close()
        self.server.wait_pending(before)
        self.assertLess(self.idle_cpu(), 0.3)

    def test_a_half_close_during_a_held_poll_does_not_spin(self):
        with self.hold() as conn:
            conn.sock.shutdown(socket.SHUT_WR)
            self.assertLess(self.idle_cpu(), 0.3)

    def test_a_reset_during_a_held_poll_frees_it(self):
        before = self.server.health()["pending_polls"]
        self.hold().reset()
        self.server.wait_pending(before)

    def test_bytes_behind_a_held_poll_do_not_spin(self):
        with self.hold() as conn:
            conn.send(HEALTH * 3)
            self.assertLess(self.idle_cpu(), 0.3)

    def test_a_flood_behind_a_held_poll_is_not_stored_without_end(self):
        with self.hold() as conn:
            before = self.server.rss_kib()
            conn.sock.settimeout(1)
            try:
                for _ in range(512):
                    conn.sock.sendall(HEALTH.encode() * 1000)
            except OSError:
                pass
            self.assertLess(self.server.rss_kib() - before, 6 * 1024)
            self.assertEqual(self.server.get("/livez").status, 200)


class Slow(TestCase):
    """Timeouts of a request, with short ones. Each test has its connections on one server."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(limits__header_timeout="1500ms", limits__body_timeout="1500ms",
                            limits__keepalive_timeout="1500ms").start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def trickle(self, conn, data, seconds=5):
        """One byte at a time until an answer comes; returns it and how long that took."""
        start = time.monotonic()
        for byte in data:
            try:
                conn.send(byte)
            except (BrokenPipeError, ConnectionResetError):
                break
            try:
                conn.fill(0.4)
                break
            except socket.timeout:
                self.assertLess(time.monotonic() - start, seconds)
        return conn.response(), time.monotonic() - start

    def test_a_head_that_trickles_is_408(self):
        with self.server.raw() as conn:
            answer, seconds = self.trickle(conn, HEALTH * 2)
            self.assert_error(answer, 408, "request_timeout")
            self.assertGreater(seconds, 1.2)
            self.assertTrue(conn.closed())

    def test_a_body_that_trickles_is_408(self):
        with self.server.raw(head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}", "Content-Length: 99")) as conn:
            answer, _ = self.trickle(conn, "a" * 99)
            self.assert_error(answer, 408, "request_timeout")
            self.assertTrue(conn.closed())

    def test_a_chunked_body_that_trickles_is_408(self):
        with self.server.raw(head("POST", "/realtime/publish", f"X-API-Key: {API_KEY}",
                                  "Transfer-Encoding: chunked")) as conn:
            answer, _ = self.trickle(conn, "000000000000000000000000001\r\na")
            self.assertIn(answer.status, (400, 408))
            self.assertTrue(conn.closed())

    def test_an_idle_connection_is_closed_in_silence(self):
        with self.server.raw(HEALTH) as conn:
            conn.response()
            self.assertTrue(conn.closed(timeout=5), conn.buffer)

    def test_a_connection_that_never_says_anything_is_closed(self):
        with self.server.raw() as conn:
            try:
                conn.fill(5)
                self.assertEqual(conn.response().status, 408)
            except EOFError:
                pass

    def test_a_held_poll_outlives_the_timeouts(self):
        community = new_community()
        with self.server.register(new_user(), [community]).hold() as conn:
            self.assertTrue(conn.silent(2.5))
            event_id = self.server.publish([community])
            self.assertEqual(conn.response().value["events"][0]["event_id"], event_id)


if __name__ == "__main__":
    main()
