#!/bin/bash
# curl, a client that Parley did not write, through a whole conversation. Ends with a summary; exits 1 if
# anything failed.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
parleyd=${PARLEYD:-$root/build/dev/parleyd}
key=integration-tests-api-key
work=$(mktemp -d)
passed=0 failed=0

"$parleyd" --set server.listen=127.0.0.1:0 --set auth.api_key=$key \
  --set auth.jwt_key=integration-tests-secret-of-more-than-32-bytes >"$work/out" 2>"$work/err" &
server=$!
trap 'kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 150); do
  url=$(sed -n 's/.*parleyd ready on \(http:[^ ]*\).*/\1/p' "$work/out")
  [ -n "$url" ] && break
  kill -0 "$server" 2>/dev/null || { cat "$work/err"; echo "curl: parleyd did not start"; exit 1; }
  sleep 0.1
done

# check NAME WANTED GOT: WANTED is a pattern of the shell.
check() {
  # shellcheck disable=SC2053
  if [[ $3 == $2 ]]; then
    passed=$((passed + 1)) && echo "ok   $1"
  else
    failed=$((failed + 1)) && echo "FAIL $1: wanted $2, got $3"
  fi
}
# field NAME: a field of the JSON on stdin, as Python prints it.
field() { /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
ask() { curl -sS --max-time 10 "$@"; }
status() { ask -o /dev/null -w '%{http_code}' "$@"; }
backend() { ask -H "X-API-Key: $key" -H 'Content-Type: application/json' "$@"; }

check 'health' '*"status":*"healthy"*' "$(ask "$url/health")"
check 'ready' 200 "$(status "$url/readyz")"
check 'metrics' '*realtime_build_info*' "$(ask "$url/metrics")"

registered=$(backend -d '{"user_id":7,"community_ids":[42]}' "$url/realtime/register")
queue=$(field queue_id <<<"$registered")
cursor=$(field last_event_id <<<"$registered")
check 'register' '??????????????????????*' "$queue"

poll="$url/realtime/poll?queue_id=$queue&last_event_id=$cursor"
ask "$poll&timeout=10" >"$work/poll" &
held=$!
sleep 0.3
id=$(backend -d '{"type":"new_comment","community_ids":[42],"data":{"article_id":789}}' "$url/realtime/publish" | field event_id)
wait "$held"
check 'a held poll gets the event' "*\"event_id\":$id*" "$(tr -d ' ' <"$work/poll")"
check 'it is sent again until acknowledged' "*\"event_id\":$id*" "$(ask "$poll&timeout=0" | tr -d ' ')"
check 'and not after' '*"events":\[\]*' "$(ask "$url/realtime/poll?queue_id=$queue&last_event_id=$id&timeout=0" | tr -d ' ')"
check 'the queue in a header' 200 "$(status -H "X-Realtime-Queue: $queue" "$url/realtime/poll?last_event_id=$id&timeout=0")"
check 'several requests on one connection' '200 200 200 ' \
  "$(ask -o /dev/null -o /dev/null -o /dev/null -w '%{http_code} ' "$url/livez" "$url/health" "$url/livez")"
check 'one connection was enough' '1 0 ' \
  "$(ask -o /dev/null -o /dev/null -w '%{num_connects} ' "$url/livez" "$url/livez")"

check 'heartbeat' '*Heartbeat successful*' "$(ask -X POST "$url/realtime/heartbeat?queue_id=$queue")"
check 'HEAD' 200 "$(status -I "$url/health")"
check 'OPTIONS' '20[04]' "$(status -X OPTIONS "$url/realtime/poll")"
check 'no credentials' 401 "$(status -X POST "$url/realtime/register")"
check 'wrong API key' 401 "$(status -H 'X-API-Key: wrong' -d '{}' "$url/realtime/publish")"
check 'unknown path' 404 "$(status "$url/nowhere")"
check 'wrong method' 405 "$(status -X DELETE "$url/realtime/poll")"
check 'bad cursor' 400 "$(status "$url/realtime/poll?queue_id=$queue&last_event_id=x")"
check 'unknown queue' 404 "$(status "$url/realtime/poll?queue_id=unknown&last_event_id=0")"
check 'an error says what' '*"code":*"message":*' "$(ask "$url/nowhere")"

# A megabyte makes curl ask with Expect: 100-continue; from a pipe it sends chunks.
/usr/bin/python3 -c 'print("{\"type\":\"x\",\"community_ids\":[1],\"data\":{\"t\":\"" + "a" * 1000000 + "\"}}", end="")' >"$work/big"
check 'a big body after 100 Continue' '*"event_id"*' \
  "$(backend -H 'Expect: 100-continue' --data-binary "@$work/big" "$url/realtime/publish")"
check 'a chunked body' '*"event_id"*' "$(backend -H 'Transfer-Encoding: chunked' -T - -X POST "$url/realtime/publish" <"$work/big")"
cat "$work/big" "$work/big" >"$work/bigger"
check 'a body that is too big' 413 "$(status -H "X-API-Key: $key" --data-binary "@$work/bigger" "$url/realtime/publish" 2>/dev/null)"
check 'HTTP/1.0' 200 "$(status --http1.0 "$url/health")"
check 'MessagePack' 'application/msgpack' "$(ask -o /dev/null -w '%{content_type}' -H 'Accept: application/msgpack' "$url/nowhere")"
check 'an upgrade' 101 "$(curl -sS --max-time 1 -o /dev/null -w '%{http_code}' -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
  -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Sec-WebSocket-Version: 13' "$url/realtime/ws" 2>/dev/null)"
check 'unregister' 200 "$(status -X POST "$url/realtime/unregister?queue_id=$queue")"
check 'the queue is gone' 404 "$(status "$poll")"

kill "$server"
wait "$server"
check 'parleyd leaves with 0' 0 $?
check 'no sanitizer report' 0 "$(grep -cE 'Sanitizer|runtime error:' "$work/err")"
echo "curl: $((passed + failed)) checks, $passed passed, $failed failed"
[ "$failed" -eq 0 ]
