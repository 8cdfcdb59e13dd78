#!lua name=parley
-- What Parley does inside Redis (7.0 or newer): sequencing, log and announcement in one atomic step, and the
-- bookkeeping of queues. Loaded by the nodes (FUNCTION LOAD); a newer version takes the place of an older one.
--
-- Every function checks types, ids and limits before its first write: a failing script does not roll back. All
-- keys are passed as KEYS and share one hash tag, so any placement works. P stands for "{<prefix>}" below; it is
-- taken from KEYS[1]. Ids are decimal text made with %.0f (a Lua number is a double: exact to 2^53).
--
-- Keys
--   P:seq              the newest id given; max(previous + 1, unix_ms * 1024)
--   P:epoch            hash {n, start}
--   P:log:<channel>    stream; entry <id>-0; fields p (previous id in this channel), g (tag), f (form), d (payload)
--   P:control          stream of the same shape, form H: changes of user records
--   P:user:<id>        hash {s: snapshot, sa: its as_of, <change id>: change …}
--   P:queue:<id>       hash {g: generation, n: node, u: user id, p: position, d: state, c: when the last claim's client came,
--                      s: generation of the last save}; or {g, dead: 1}
--   P:conn:user:<id>   hash queue id -> JSON {node, transport, since, until}
--   P:idem:<key>       string "<body hash> <id> <id> …"
--   P:nodes            hash node -> JSON {…, until}
--   A log expires after twice its age limit without an event, counted from the time its newest id says (a clock that
--   was ahead once must not make it expire early). So what a missing or re-made log may have held before
--   (now - 2 * age) * 1024 is not known, and no floor is ever told below that.
-- The tag of an entry is the first 8 hexadecimal digits of SHA-1 over "<the caller's nonce>:<the event's number in the
-- call, from 1>": two histories that gave one id to two events differ in it.
-- Pub/Sub messages: see redis_wire.h.
--
-- Functions (KEYS / ARGV / reply). seq = P:seq. times in ms. Ids and numbers in replies are bulk strings, 1 and 0
-- too. What is refused answers an error that begins with the word INVALID, and nothing has been written.
--
-- parley_version      - / - / the library's version, an integer
--
-- parley_publish      seq, P:log:<channel> for every channel of the event in any order, [P:idem:<key>]
--                     / the event as JSON, as POST /realtime/publish takes it; then, if the nodes have others than
--                       10000 and 24 h, both: log_events, log_age
--                     / its id. For backends. The limits are those below; a log key that is not the event's, or
--                     one missing, is an error. With an idem key: the same body within a day gives the same id,
--                     another body an error "IDEMPOTENCY …".
--
-- parley_append       seq, idem, logs…
--                     / nonce, idem_ttl ("0": none), body_hash, log_events, log_age, count,
--                       then per event: form, payload, n, then n numbers: which of the logs (1 = the first)
--                     / {"ok", id…, tag…}, {"same", id…} (this key came with this body before), {"other"}
--
-- parley_change       seq, P:control, P:user:<id>, idem
--                     / nonce, idem_ttl, body_hash, payload, user_ttl, control_events, control_age
--                     / {"ok" or "same", id, user…} with user… as of parley_user; {"other"}
--                     Refused when the record has 4096 changes since its snapshot: nodes compact long before.
-- parley_user         seq, P:user:<id> / - / {as_of, snapshot_as_of ("0"), snapshot (""), change id, change, …} ascending
-- parley_compact      P:user:<id> / as_of, snapshot, ttl / 1, or 0 if there is a newer one
--
-- parley_read         seq, log / after, upto ("+": everything), count, tag of the entry `after` ("": not checked), log_age
--                     / {seq, floor, "ok" or "forked", id, prev, tag, form, payload, …}
--                     The newest `count` with after < id <= upto, oldest first. floor = after, or the prev of the oldest
--                     returned if the log or count did not reach back to after, or seq's bound above. forked: `after` is
--                     above the floor of what the log holds, and there is no entry with that id and tag.
-- parley_since        seq, logs… / after, count
--                     / {seq, whole, key number, id, prev, tag, form, payload, …}
--                     Of every log the oldest `count` after `after`. whole: everything up to it has been returned (seq, or
--                     less where count cut something off). In no promised order between logs.
-- parley_verify       seq, P:epoch, logs… / log_age, then per log: id, tag ("": not checked)
--                     / {seq, n, start, how many of those are missing though the log reaches back that far}
-- parley_epoch        seq, P:epoch, P:control / expected n, newest id the caller knows
--                     / {n, start}: the epoch now. If n was as expected it is a new one: n + 1, its start above both seq
--                     and the caller's id, seq = start, announced as P in P:control. n "0": none was there yet.
-- parley_canary       seq, P:nodes / own Pub/Sub channel, node, nonce, JSON about the node
--                     / id; announced as C. Nodes whose "until" passed a day ago are no longer kept.
-- parley_marker       seq, P:control / - / id; announced as M
--
-- parley_save         (P:queue:<id>, P:conn:user:<id>) per queue
--                     / node, ttl, then per queue: queue id, user id, generation, state ("": as it was), position, JSON for the registry
--                     / per queue 1 (saved) or 0 (another node has it, or it has ended)
--                     A missing queue is made with that generation, if state is given; else 0. A generation above the
--                     kept one wins (a failover may lose a claim). Of a user with many entries, lapsed ones are removed.
-- parley_claim        P:queue:<id> / node, own Pub/Sub channel, ttl, when the client came (ms by the clock of this
--                     server, as far as the node knows it; "0": not known), "" or "back": only if that is clearly
--                     later than the client's that it was claimed for last
--                     / {generation, user id, position, state, generation of the last save}; nil: there is none; {"ended"}: there was one;
--                     {"older <ms>"}: a client that came clearly later (0.1 s) has it already, this claim was under way for
--                     too long; ms: when that one came.
--                     The node before is told by T with when the client came, unless it is the caller.
-- parley_drop         P:queue:<id>, P:conn:user:<id> / queue id, generation, ttl / 1 or 0. Leaves {g, dead} behind for ttl.
-- parley_end          P:queue:<id> / queue id, status, ttl / 1 or 0. Leaves {g, dead} behind for ttl, whether the owner, who
--                     is told by X, lives or not.

local VERSION = 2

local MAX_ID = 9007199254740991 -- 2^53 - 1: beyond it a Lua number is not exact
local MAX_CHANNELS = 1000       -- of one event: what an announcement can name
local MAX_CHANGES = 4096        -- of one user since the snapshot; nodes compact long before
local MAX_RECIPIENTS = 20000
local MAX_JSON = 1048576
local PUBLISH_EVENTS, PUBLISH_AGE_MS = 10000, 86400000
local PUBLISH_IDEM_MS = 86400000
local CLOCKS_DIFFER_MS = 100        -- nodes know the time here no better than that
local REGISTRY_PRUNE = 32           -- beyond so many entries of one user, lapsed ones are looked for
local NODE_FORGET_MS = 24 * 3600000 -- a node that lapsed so long ago is not listed any more

-- Neither redis.call nor Lua's own functions are there yet while the library is being loaded.
local function call(...)
  return redis.call(...)
end

-- Caught in register(), which makes it the reply. Only raised before the first write.
local function refuse(what)
  error({err = 'INVALID ' .. what})
end

-- ---- arguments ----

local function text(n)
  return string.format('%.0f', n)
end

local function integer(s, what, min, max)
  local n = s and #s <= 16 and s:find('^%d+$') and tonumber(s)
  if not n or n < min or n > max then
    refuse(what .. ': an integer from ' .. text(min) .. ' to ' .. text(max))
  end
  return n
end

local function position(s, what)
  return integer(s, what, 0, MAX_ID)
end

local function duration(s, what)
  return integer(s, what, 1, 1e12)
end

-- What stands between blanks in an announcement.
local function word(s, what)
  if not s or #s > 512 or not s:find('^[^%z\1-\32\127]+$') then
    refuse(what .. ': 1 to 512 bytes without blanks and control characters')
  end
  return s
end

local function count(list, expected, what)
  if #list ~= expected then
    refuse(what .. ': ' .. expected .. ' expected, ' .. #list .. ' given')
  end
end

local function at_least(list, min, what)
  if #list < min then
    refuse(what .. ': at least ' .. min)
  end
end

-- ---- keys ----

local function prefix(keys)
  return keys[1] and keys[1]:match('^({[^{}]+}):') or refuse('the first key: {prefix}:…')
end

local function single(key, p, kind)
  if key ~= p .. ':' .. kind then
    refuse('key ' .. tostring(key) .. ': ' .. p .. ':' .. kind .. ' expected')
  end
  return key
end

-- The name that follows the kind.
local function named(key, p, kind)
  local head = p .. ':' .. kind .. ':'
  if not key or key:sub(1, #head) ~= head or #key == #head then
    refuse('key ' .. tostring(key) .. ': ' .. head .. '… expected')
  end
  return key:sub(#head + 1)
end

local function log_or_control(key, p)
  if key ~= p .. ':control' then
    named(key, p, 'log')
  end
  return key
end

-- ---- sequence and logs ----

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function sequence(key)
  return position(call('GET', key) or '0', key)
end

-- The next id above `newest`, with room for n of them.
local function next_id(newest, n)
  local id = math.max(newest + 1, now_ms() * 1024)
  if id > MAX_ID - (n - 1) then -- id + n itself may be rounded
    refuse('ids: none is left below 2^53')
  end
  return id
end

local function stream_id(s)
  return tonumber(s:match('^%d+'))
end

-- What the next entry of a log is appended to. The last-generated-id outlives trimming, and XDEL
-- too. FULL COUNT 1 copies one entry, the oldest; XINFO without FULL copies the newest besides.
local function log_state(key, channel)
  local log = {key = key, channel = channel, last = 0, new = true}
  if call('EXISTS', key) == 0 then
    return log
  end
  local info = call('XINFO', 'STREAM', key, 'FULL', 'COUNT', '1')
  log.new = false
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      log.last = stream_id(info[i + 1])
    elseif info[i] == 'entries' and info[i + 1][1] then
      log.first = stream_id(info[i + 1][1][1])
    end
  end
  return log
end

local function append(log, id, tag, form, payload, events)
  call('XADD', log.key, 'MAXLEN', '~', events, text(id) .. '-0',
    'p', text(log.last), 'g', tag, 'f', form, 'd', payload)
  log.last = id
end

-- Once per log and call, after the last append. GT: whoever gives a shorter age takes nothing
-- from what the others rely on.
local function age_log(log, age)
  local oldest = log.last - age * 1024
  if log.first and log.first < oldest then
    call('XTRIM', log.key, 'MINID', '~', text(oldest) .. '-0')
  end
  local expires = text(math.ceil(log.last / 1024) + 2 * age)
  if log.new then
    call('PEXPIREAT', log.key, expires)
  else
    call('PEXPIREAT', log.key, expires, 'GT')
  end
end

local function tag_of(nonce, number)
  return redis.sha1hex(nonce .. ':' .. number):sub(1, 8)
end

-- Appends an event to its logs and announces it in the channel of each.
local function publish(logs, id, tag, form, payload, events)
  local parts = {form, text(id), tag, #logs}
  for _, log in ipairs(logs) do
    parts[#parts + 1] = text(log.last)
    parts[#parts + 1] = #log.channel
    parts[#parts + 1] = log.channel
    append(log, id, tag, form, payload, events)
  end
  parts[#parts + 1] = payload
  local message = table.concat(parts, ' ')
  for _, log in ipairs(logs) do
    call('PUBLISH', log.key, message)
  end
end

-- ---- idempotency ----

-- nil: the key is new. Else what came of it.
local function outcome(key, hash)
  local kept = call('GET', key)
  if not kept then
    return nil
  end
  local found, ids = kept:match('^(%S+)(.*)$')
  if found ~= hash then
    return {'other'}
  end
  local reply = {'same'}
  for id in ids:gmatch('%d+') do
    reply[#reply + 1] = id
  end
  return reply
end

local function remember(key, hash, ids, ttl)
  if ttl > 0 then
    call('SET', key, hash .. ' ' .. table.concat(ids, ' '), 'PX', text(ttl))
  end
end

-- ---- parley_append ----

-- Per event {form, payload, which of the logs}.
local function parse_events(args, at, n, log_count)
  local events = {}
  for e = 1, n do
    local event, seen = {form = args[at], payload = args[at + 1], which = {}}, {}
    if event.form ~= 'E' and event.form ~= 'J' then
      refuse('form: E or J')
    end
    local logs = integer(args[at + 2], 'logs of an event', 1, MAX_CHANNELS)
    for i = 1, logs do
      local number = integer(args[at + 2 + i], 'log of an event', 1, log_count)
      if seen[number] then
        refuse('log of an event: each at most once')
      end
      seen[number] = true
      event.which[i] = number
    end
    events[e] = event
    at = at + 3 + logs
  end
  count(args, at - 1, 'arguments')
  return events
end

-- The logs keys[from..to], and the newest id of any of them and of seq.
local function log_states(keys, from, to, p, newest)
  local logs, seen = {}, {}
  for i = from, to do
    local channel = word(named(keys[i], p, 'log'), 'channel')
    if seen[channel] then
      refuse('key ' .. keys[i] .. ': each log once')
    end
    seen[channel] = true
    logs[#logs + 1] = log_state(keys[i], channel)
    newest = math.max(newest, logs[#logs].last)
  end
  return logs, newest
end

local function logs_of(event, logs)
  local list = {}
  for i, number in ipairs(event.which) do
    list[i] = logs[number]
  end
  return list
end

local function parley_append(keys, args)
  local p = prefix(keys)
  local seq = single(keys[1], p, 'seq')
  named(keys[2], p, 'idem')
  at_least(keys, 3, 'keys')
  local nonce, ttl = word(args[1], 'nonce'), position(args[2], 'idem_ttl')
  local hash = word(args[3], 'body_hash')
  local log_events = text(integer(args[4], 'log_events', 1, 1e9))
  local age = duration(args[5], 'log_age')
  local events = parse_events(args, 7, integer(args[6], 'count', 1, 10000), #keys - 2)
  local before = outcome(keys[2], hash)
  if before then
    return before
  end
  local logs, newest = log_states(keys, 3, #keys, p, sequence(seq))
  local first = next_id(newest, #events)

  local ids, reply = {}, {'ok'}
  call('SET', seq, text(first + #events - 1))
  for e, event in ipairs(events) do
    local id, tag = first + e - 1, tag_of(nonce, e)
    publish(logs_of(event, logs), id, tag, event.form, event.payload, log_events)
    ids[e] = text(id)
    reply[1 + e], reply[1 + #events + e] = ids[e], tag
  end
  for _, log in ipairs(logs) do
    age_log(log, age)
  end
  remember(keys[2], hash, ids, ttl)
  return reply
end

-- ---- parley_publish ----

-- A decoder of our own, so that its settings are not everybody's.
local decoder
local function decode(json)
  if not decoder then
    decoder = cjson.new()
    decoder.decode_max_depth(32) -- as deep as a node reads
    decoder.decode_invalid_numbers(false)
  end
  return decoder.decode(json)
end

local UTF8 = {
  '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]',
  '[\225-\236\238\239][\128-\191][\128-\191]', '\237[\128-\159][\128-\191]',
  '\240[\144-\191][\128-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191][\128-\191]',
  '\244[\128-\143][\128-\191][\128-\191]',
}

local function is_utf8(s)
  if s:find('[\128-\255]') then
    for _, form in ipairs(UTF8) do
      s = s:gsub(form, ' ')
    end
  end
  return not s:find('[\128-\255]')
end

-- cjson takes the last of two members of one name, and makes the same empty table of {} and [];
-- a node refuses the one and tells the other apart. So the text is looked at too: without escapes,
-- other strings and what is nested, only the names of the members that mean something are left,
-- and the first byte of each value.
local OUTLINE = {
  type = '"type"', data = '"data"', community_ids = '"community_ids"', channels = '"channels"',
  subscriber_ids = '"subscriber_ids"', exclude_user_id = '"exclude_user_id"',
  exclude_queue_id = '"exclude_queue_id"', timestamp = '"timestamp"',
  traceparent = '"traceparent"',
}

local function name_or_nothing(s)
  return OUTLINE[s] or '""'
end

local function outline(json)
  local flat = json:gsub('\\.', '..'):gsub('"([^"]*)"', name_or_nothing)
  local first = {}
  flat = flat:match('^%s*{(.*)}%s*$'):gsub('%b{}', '{'):gsub('%b[]', '[')
  for name, byte in flat:gmatch('"([%w_]+)"%s*:%s*(.)') do
    if first[name] then
      refuse(name .. ': given twice')
    end
    first[name] = byte
  end
  return first
end

-- JSON's null is absent.
local function member(object, name)
  local v = object[name]
  if v ~= cjson.null then
    return v
  end
end

local function is_integer(v, min)
  return type(v) == 'number' and v == math.floor(v) and v >= min and v <= MAX_ID
end

local function is_community(v)
  return is_integer(v, 1)
end

local function is_name(v)
  return type(v) == 'string' and #v >= 1 and #v <= 128 and not v:find('[%z\1-\31\127]')
end

local function is_user(v)
  return is_integer(v, -MAX_ID) or is_name(v)
end

-- user:<id> too: where one publishes to, it is allowed.
local function is_channel(v)
  if type(v) ~= 'string' or #v > 128 or not v:find('^[%w._:-]+$')
    or v == 'control' or v == 'user:' then
    return false
  end
  local id = v:match('^community:(.*)$')
  return not id or (#id <= 16 and id:find('^[1-9]%d*$') ~= nil and tonumber(id) <= MAX_ID)
end

local function is_time(v)
  return type(v) == 'string' and #v <= 35
    and v:find('^%d%d%d%d%-%d%d%-%d%d[Tt]%d%d:%d%d:%d%d[%d.:Zz+-]+$') ~= nil
end

local function is_trace(v)
  return type(v) == 'string' and #v == 55 and v:find('^%x%x%-%x+%-%x+%-%x%x$') ~= nil
end

local function check_list(v, what, limit, is)
  if type(v) ~= 'table' or #v > limit then
    refuse(what .. ': an array of at most ' .. limit)
  end
  for i, item in pairs(v) do
    if type(i) ~= 'number' or not is(item) then
      refuse(what .. ': an array without anything else in it')
    end
  end
end

local function check_member(object, name, is)
  local v = member(object, name)
  if v ~= nil and not is(v) then
    refuse(name .. ': a wrong value')
  end
end

-- null is refused here, not taken for absent: absent means everybody.
local function check_subscribers(event)
  local v = event.subscriber_ids
  if v == nil then
    v = event.data.subscriber_ids
  end
  if v ~= nil then
    check_list(v, 'subscriber_ids', MAX_RECIPIENTS, is_user)
  end
end

-- How many channels the event has, and the set of them.
local function channels_of(event)
  local ids, names = member(event, 'community_ids') or {}, member(event, 'channels') or {}
  local set, n = {}, 0
  check_list(ids, 'community_ids', MAX_CHANNELS, is_community)
  check_list(names, 'channels', MAX_CHANNELS, is_channel)
  for _, id in ipairs(ids) do
    set['community:' .. text(id)] = true
  end
  for _, name in ipairs(names) do
    set[name] = true
  end
  for _ in pairs(set) do
    n = n + 1
  end
  if n == 0 or #ids + #names > MAX_CHANNELS then
    refuse('community_ids and channels: 1 to ' .. MAX_CHANNELS .. ' together')
  end
  return n, set
end

local function check_shapes(event, first)
  if not is_name(event.type) or not first.type then
    refuse('type: a string of 1 to 128 bytes without control characters')
  end
  if type(event.data) ~= 'table' or first.data ~= '{' then
    refuse('data: an object')
  end
  for _, name in ipairs({'community_ids', 'channels', 'subscriber_ids'}) do
    if member(event, name) ~= nil and first[name] ~= '[' then
      refuse(name .. ': an array')
    end
  end
end

-- Checks an event as far as that is cheap here. A node reads all of it again and may still refuse
-- what this lets through (a day that does not exist, 42.0 for an id, two members of one name or a
-- raw control character further inside, {} for an empty data.subscriber_ids): it counts such an
-- entry as malformed, and nobody receives it.
local function parse_json(json)
  if not json or #json > MAX_JSON then
    refuse('the event: JSON of at most ' .. MAX_JSON .. ' bytes')
  end
  local ok, event = pcall(decode, json)
  if not ok or not json:find('^%s*{') or not is_utf8(json) then
    refuse('the event: a JSON object in UTF-8')
  end
  check_shapes(event, outline(json))
  check_subscribers(event)
  check_member(event.data, 'article_id', is_user)
  check_member(event, 'exclude_user_id', is_user)
  check_member(event, 'exclude_queue_id', is_name)
  check_member(event, 'timestamp', is_time)
  check_member(event, 'traceparent', is_trace)
  return channels_of(event)
end

-- The civil date of a day since 1970, by eras of 400 years that begin on 1 March.
local function civil(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local m = math.floor((5 * doy + 2) / 153)
  local month = m < 10 and m + 3 or m - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year, month, doy - math.floor((153 * m + 2) / 5) + 1
end

local function rfc3339(ms)
  local day = math.floor(ms / 86400000)
  local year, month, mday = civil(day)
  local t = ms - day * 86400000
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, mday,
    math.floor(t / 3600000), math.floor(t / 60000) % 60, math.floor(t / 1000) % 60, t % 1000)
end

-- seq, one log for each channel of the event (log_states sees that they differ), and an idem key
-- or none, which is returned.
local function check_publish_keys(keys, p, channels, wanted)
  local idem = keys[channels + 2]
  for i = 2, channels + 1 do
    if not wanted[named(keys[i], p, 'log')] then
      refuse('key ' .. keys[i] .. ': not a log of this event')
    end
  end
  if idem then
    named(idem, p, 'idem')
  end
  count(keys, channels + (idem and 2 or 1), 'keys')
  return idem
end

local function parley_publish(keys, args)
  local p = prefix(keys)
  local seq = single(keys[1], p, 'seq')
  if #args ~= 1 then
    count(args, 3, 'arguments')
  end
  local json = args[1]
  local log_events = text(integer(args[2] or text(PUBLISH_EVENTS), 'log_events', 1, 1e9))
  local age = duration(args[3] or text(PUBLISH_AGE_MS), 'log_age')
  local channels, wanted = parse_json(json)
  local idem = check_publish_keys(keys, p, channels, wanted)
  local hash = redis.sha1hex(json)
  local before = idem and outcome(idem, hash)
  if before then
    return before[2] or {err = 'IDEMPOTENCY this key came with another body before'}
  end
  local logs, newest = log_states(keys, 2, channels + 1, p, sequence(seq))
  local id = next_id(newest, 1)

  local t = call('TIME')
  local time = rfc3339(t[1] * 1000 + math.floor(t[2] / 1000))
  call('SET', seq, text(id))
  publish(logs, id, tag_of(hash .. t[1] .. t[2], 1), 'J', time .. ' ' .. json, log_events)
  for _, log in ipairs(logs) do
    age_log(log, age)
  end
  if idem then
    remember(idem, hash, {text(id)}, PUBLISH_IDEM_MS)
  end
  return text(id)
end

-- ---- changes of user records ----

-- {as_of, snapshot_as_of, snapshot, change id, change, …}; also of a key that is not there.
local function user_content(key, as_of)
  local fields = call('HGETALL', key)
  local snapshot, snapshot_as_of, changes = '', '0', {}
  for i = 1, #fields, 2 do
    if fields[i] == 's' then
      snapshot = fields[i + 1]
    elseif fields[i] == 'sa' then
      snapshot_as_of = fields[i + 1]
    else
      changes[#changes + 1] = {tonumber(fields[i]) or 0, fields[i], fields[i + 1]}
    end
  end
  table.sort(changes, function(a, b) return a[1] < b[1] end)
  local reply = {text(as_of), snapshot_as_of, snapshot}
  for _, change in ipairs(changes) do
    reply[#reply + 1] = change[2]
    reply[#reply + 1] = change[3]
  end
  return reply
end

local function with_user(reply, key, as_of)
  for _, v in ipairs(user_content(key, as_of)) do
    reply[#reply + 1] = v
  end
  return reply
end

-- Never shortens: a block may be longer than the record's usual life.
local function prolong(key, ttl)
  if call('PTTL', key) < tonumber(ttl) then
    call('PEXPIRE', key, ttl)
  end
end

local function parley_change(keys, args)
  local p = prefix(keys)
  count(keys, 4, 'keys')
  count(args, 7, 'arguments')
  local seq, control = single(keys[1], p, 'seq'), single(keys[2], p, 'control')
  local user, idem = keys[3], keys[4]
  named(user, p, 'user')
  named(idem, p, 'idem')
  local nonce, ttl = word(args[1], 'nonce'), position(args[2], 'idem_ttl')
  local hash, payload = word(args[3], 'body_hash'), args[4]
  local user_ttl = text(duration(args[5], 'user_ttl'))
  local control_events = text(integer(args[6], 'control_events', 1, 1e9))
  local age = duration(args[7], 'control_age')
  local newest = sequence(seq)
  local before = outcome(idem, hash)
  if before then
    return before[2] and with_user(before, user, newest) or before
  end
  if call('HLEN', user) >= MAX_CHANGES then
    refuse('user: too many changes since the snapshot')
  end
  local log = log_state(control)
  local id = next_id(math.max(newest, log.last), 1)

  local name, tag, prev = text(id), tag_of(nonce, 1), text(log.last)
  call('SET', seq, name)
  append(log, id, tag, 'H', payload, control_events)
  age_log(log, age)
  call('HSET', user, name, payload)
  prolong(user, user_ttl)
  remember(idem, hash, {name}, ttl)
  call('PUBLISH', control, table.concat({'H', name, tag, prev, payload}, ' '))
  return with_user({'ok', name}, user, id)
end

local function parley_user(keys, args)
  local p = prefix(keys)
  count(keys, 2, 'keys')
  count(args, 0, 'arguments')
  named(keys[2], p, 'user')
  return user_content(keys[2], sequence(single(keys[1], p, 'seq')))
end

local function parley_compact(keys, args)
  local p = prefix(keys)
  count(keys, 1, 'keys')
  count(args, 3, 'arguments')
  local user = keys[1]
  named(user, p, 'user')
  local as_of, ttl = position(args[1], 'as_of'), text(duration(args[3], 'ttl'))
  if position(call('HGET', user, 'sa') or '0', user) > as_of then
    return '0'
  end
  local fields = call('HKEYS', user)

  call('HSET', user, 's', args[2], 'sa', text(as_of))
  for _, field in ipairs(fields) do
    if tonumber(field) and tonumber(field) <= as_of then
      call('HDEL', user, field)
    end
  end
  prolong(user, ttl)
  return '1'
end

-- ---- reading ----

-- Of an entry as XRANGE gives it.
local function entry(e)
  local f = {p = '0', g = '', f = '', d = ''}
  for i = 1, #e[2], 2 do
    f[e[2][i]] = e[2][i + 1]
  end
  return {id = e[1]:match('^%d+'), prev = f.p, tag = f.g, form = f.f, payload = f.d}
end

local function add_entry(reply, e)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = e.id, e.prev, e.tag
  reply[n + 4], reply[n + 5] = e.form, e.payload
end

-- Down to it, nothing is known of a log that is missing or was made anew.
local function bound_of(age)
  return math.max(0, (now_ms() - 2 * age) * 1024)
end

-- The id down to which the log holds everything.
local function floor_of(key, bound)
  local first = call('XRANGE', key, '-', '+', 'COUNT', '1')[1]
  return math.max(first and tonumber(entry(first).prev) or 0, bound)
end

-- Is this entry there, or out of the log's reach?
local function holds(key, id, tag, bound)
  local found = call('XRANGE', key, text(id) .. '-0', text(id) .. '-0')[1]
  if found then
    return tag == '' or entry(found).tag == tag
  end
  return id <= floor_of(key, bound)
end

local function parley_read(keys, args)
  local p = prefix(keys)
  count(keys, 2, 'keys')
  count(args, 5, 'arguments')
  local seq, log = single(keys[1], p, 'seq'), log_or_control(keys[2], p)
  local after, tag = position(args[1], 'after'), args[4]
  local upto = args[2] ~= '+' and text(position(args[2], 'upto')) .. '-0' or '+'
  local limit = text(integer(args[3], 'count', 1, 1e9))
  local bound = bound_of(duration(args[5], 'log_age'))
  local newest_first = call('XREVRANGE', log, upto, '(' .. text(after) .. '-0', 'COUNT', limit)
  local floor = math.max(after, bound)
  if #newest_first > 0 then
    floor = math.max(floor, tonumber(entry(newest_first[#newest_first]).prev))
  elseif upto ~= '+' then
    floor = math.max(floor, floor_of(log, bound))
  end
  local forked = tag ~= '' and not holds(log, after, tag, bound)
  local reply = {text(sequence(seq)), text(floor), forked and 'forked' or 'ok'}
  for i = #newest_first, 1, -1 do
    add_entry(reply, entry(newest_first[i]))
  end
  return reply
end

local function parley_since(keys, args)
  local p = prefix(keys)
  at_least(keys, 2, 'keys')
  count(args, 2, 'arguments')
  local seq = sequence(single(keys[1], p, 'seq'))
  local from = '(' .. text(position(args[1], 'after')) .. '-0'
  local limit = integer(args[2], 'count', 1, 10000)
  local whole, reply = seq, {text(seq), ''}
  for i = 2, #keys do
    local log = log_or_control(keys[i], p)
    local found = call('XRANGE', log, from, '+', 'COUNT', text(limit))
    for _, e in ipairs(found) do
      reply[#reply + 1] = text(i - 1)
      add_entry(reply, entry(e))
    end
    if #found == limit then
      whole = math.min(whole, stream_id(found[limit][1]))
    end
  end
  reply[2] = text(whole)
  return reply
end

-- ---- epochs ----

local function epoch(key)
  local e = call('HMGET', key, 'n', 'start')
  return position(e[1] or '0', key), position(e[2] or '0', key)
end

local function parley_verify(keys, args)
  local p = prefix(keys)
  at_least(keys, 2, 'keys')
  count(args, 1 + 2 * (#keys - 2), 'arguments')
  local seq = sequence(single(keys[1], p, 'seq'))
  local n, start = epoch(single(keys[2], p, 'epoch'))
  local bound, missing = bound_of(duration(args[1], 'log_age')), 0
  for i = 3, #keys do
    local id, tag = position(args[2 * i - 4], 'id'), args[2 * i - 3]
    if not holds(log_or_control(keys[i], p), id, tag, bound) then
      missing = missing + 1
    end
  end
  return {text(seq), text(n), text(start), text(missing)}
end

local function parley_epoch(keys, args)
  local p = prefix(keys)
  count(keys, 3, 'keys')
  count(args, 2, 'arguments')
  local seq, key, control = single(keys[1], p, 'seq'), keys[2], single(keys[3], p, 'control')
  local n, start = epoch(single(key, p, 'epoch'))
  local expected, known = position(args[1], 'expected'), position(args[2], 'newest id')
  if n ~= expected then
    return {text(n), text(start)}
  end
  local id = text(next_id(math.max(sequence(seq), known, start), 1))

  call('HSET', key, 'n', text(n + 1), 'start', id)
  call('SET', seq, id)
  call('PUBLISH', control, 'P ' .. id .. ' ' .. text(n + 1))
  return {text(n + 1), id}
end

-- ---- canary, marker ----

-- Removes what was good until before that time from a hash of JSON texts.
local function prune(key, before)
  local fields = call('HGETALL', key)
  for i = 1, #fields, 2 do
    local last = tonumber(fields[i + 1]:match('"until"%s*:%s*(%d+)'))
    if last and last < before then
      call('HDEL', key, fields[i])
    end
  end
end

local function parley_canary(keys, args)
  local p = prefix(keys)
  count(keys, 2, 'keys')
  count(args, 4, 'arguments')
  local seq, nodes = single(keys[1], p, 'seq'), single(keys[2], p, 'nodes')
  local channel, node, nonce = args[1], word(args[2], 'node'), word(args[3], 'nonce')
  single(channel, p, 'node:' .. node)
  call('HLEN', nodes) -- refuses another type
  local id = text(next_id(sequence(seq), 1))

  call('SET', seq, id)
  if call('HSET', nodes, node, args[4]) == 1 then
    prune(nodes, now_ms() - NODE_FORGET_MS)
  end
  call('PUBLISH', channel, 'C ' .. id .. ' ' .. nonce)
  return id
end

local function parley_marker(keys, args)
  local p = prefix(keys)
  count(keys, 2, 'keys')
  count(args, 0, 'arguments')
  local seq, control = single(keys[1], p, 'seq'), single(keys[2], p, 'control')
  local id = text(next_id(sequence(seq), 1))

  call('SET', seq, id)
  call('PUBLISH', control, 'M ' .. id)
  return id
end

-- ---- queues ----

local function queue(key)
  local q = call('HMGET', key, 'g', 'n', 'u', 'p', 'd', 'dead', 'c', 's')
  if not q[1] then
    return nil
  end
  return {
    generation = position(q[1], key), node = q[2] or '', user = q[3] or '',
    position = position(q[4] or '0', key), state = q[5] or '', dead = q[6] ~= false,
    came = position(q[7] or '0', key), saved = position(q[8] or '0', key),
  }
end

local function may_save(q, save)
  if not q then
    return save.state ~= ''
  end
  if q.dead or save.generation < q.generation then
    return false
  end
  return save.generation > q.generation or q.node == save.node
end

local function parse_save(keys, args, p, i)
  local at = 3 + 6 * (i - 1)
  local save = {
    key = keys[2 * i - 1], registry = keys[2 * i], node = word(args[1], 'node'),
    id = args[at], user = args[at + 1],
    generation = integer(args[at + 2], 'generation', 1, MAX_ID), state = args[at + 3],
    position = position(args[at + 4], 'position'), entry = args[at + 5],
  }
  single(save.key, p, 'queue:' .. save.id)
  single(save.registry, p, 'conn:user:' .. save.user)
  local q = queue(save.key)
  call('HLEN', save.registry) -- refuses another type
  save.allowed = may_save(q, save)
  save.position = math.max(save.position, q and q.position or 0)
  return save
end

local function store(save, ttl, now)
  call('HSET', save.key, 'g', text(save.generation), 'n', save.node, 'u', save.user,
    'p', text(save.position), 's', text(save.generation))
  if save.state ~= '' then
    call('HSET', save.key, 'd', save.state)
  end
  call('PEXPIRE', save.key, ttl)
  local new = call('HSET', save.registry, save.id, save.entry) == 1
  if new and call('HLEN', save.registry) > REGISTRY_PRUNE then
    prune(save.registry, now)
  end
  call('PEXPIRE', save.registry, ttl)
end

local function parley_save(keys, args)
  local p = prefix(keys)
  at_least(keys, 2, 'keys')
  count(args, 2 + 3 * #keys, 'arguments')
  local ttl, now, saves, reply = text(duration(args[2], 'ttl')), now_ms(), {}, {}
  for i = 1, #keys / 2 do
    saves[i] = parse_save(keys, args, p, i)
  end
  for i, save in ipairs(saves) do
    if save.allowed then
      store(save, ttl, now)
    end
    reply[i] = save.allowed and '1' or '0'
  end
  return reply
end

local function tell(p, node, message)
  if node ~= '' then
    call('PUBLISH', p .. ':node:' .. node, message)
  end
end

local function parley_claim(keys, args)
  local p = prefix(keys)
  count(keys, 1, 'keys')
  count(args, 5, 'arguments')
  local id = word(named(keys[1], p, 'queue'), 'queue id')
  local node, ttl = word(args[1], 'node'), text(duration(args[3], 'ttl'))
  local came = position(args[4], 'when the client came')
  single(args[2], p, 'node:' .. node)
  local q = queue(keys[1])
  if not q then
    return false
  end
  if q.dead then
    return {'ended'}
  end
  local back = args[5] == 'back'
  if back and came <= q.came + CLOCKS_DIFFER_MS or not back and came > 0 and came + CLOCKS_DIFFER_MS < q.came then
    return {'older ' .. text(q.came)}
  end
  local generation = text(integer(text(q.generation + 1), keys[1], 1, MAX_ID))

  call('HSET', keys[1], 'g', generation, 'n', node, 'c', text(math.max(came, q.came)))
  call('PEXPIRE', keys[1], ttl)
  if q.node ~= node then
    tell(p, q.node, 'T ' .. id .. ' ' .. generation .. ' ' .. text(came))
  end
  return {generation, q.user, text(q.position), q.state, text(q.saved)}
end

local function parley_drop(keys, args)
  local p = prefix(keys)
  count(keys, 2, 'keys')
  count(args, 3, 'arguments')
  single(keys[1], p, 'queue:' .. args[1])
  named(keys[2], p, 'conn:user')
  local generation = integer(args[2], 'generation', 1, MAX_ID)
  local ttl = text(duration(args[3], 'ttl'))
  local q = queue(keys[1])
  call('HLEN', keys[2]) -- refuses another type
  if q and q.dead then
    call('HDEL', keys[2], args[1]) -- it was ended by parley_end
    return '0'
  end
  if q and q.generation > generation then
    return '0'
  end

  call('DEL', keys[1])
  call('HSET', keys[1], 'g', text(generation), 'dead', '1')
  call('PEXPIRE', keys[1], ttl)
  call('HDEL', keys[2], args[1])
  return '1'
end

local function parley_end(keys, args)
  local p = prefix(keys)
  count(keys, 1, 'keys')
  count(args, 3, 'arguments')
  single(keys[1], p, 'queue:' .. word(args[1], 'queue id'))
  local ttl = text(duration(args[3], 'ttl'))
  if #args[2] > 10 or not args[2]:find('^%-?%d+$') then
    refuse('status: an integer')
  end
  local q = queue(keys[1])
  if not q or q.dead then
    return '0'
  end
  local generation = text(integer(text(q.generation + 1), keys[1], 1, MAX_ID))

  call('DEL', keys[1])
  call('HSET', keys[1], 'g', generation, 'dead', '1')
  call('PEXPIRE', keys[1], ttl)
  tell(p, q.node, 'X ' .. args[1] .. ' ' .. args[2])
  return '1'
end

-- ---- the library ----

local function parley_version(keys, args)
  count(keys, 0, 'keys')
  count(args, 0, 'arguments')
  return VERSION
end

-- An error of ours ("INVALID …") or of a command ("WRONGTYPE …") becomes the reply as it is; pcall
-- has made a string of it (7.0) or left it a table.
local function error_reply(e)
  local message = type(e) == 'table' and e.err or tostring(e)
  return {err = message:find('^%u+ ') and message or 'ERR ' .. message}
end

local function register(name, callback, ...)
  redis.register_function({
    function_name = name,
    flags = {...},
    callback = function(keys, args)
      local ok, reply = pcall(callback, keys, args)
      if ok then
        return reply
      end
      return error_reply(reply)
    end,
  })
end

register('parley_version', parley_version, 'no-writes')
register('parley_publish', parley_publish)
register('parley_append', parley_append)
register('parley_change', parley_change)
register('parley_user', parley_user, 'no-writes')
register('parley_compact', parley_compact)
register('parley_read', parley_read, 'no-writes')
register('parley_since', parley_since, 'no-writes')
register('parley_verify', parley_verify, 'no-writes')
register('parley_epoch', parley_epoch)
register('parley_canary', parley_canary)
register('parley_marker', parley_marker)
register('parley_save', parley_save)
register('parley_claim', parley_claim)
register('parley_drop', parley_drop)
register('parley_end', parley_end)
