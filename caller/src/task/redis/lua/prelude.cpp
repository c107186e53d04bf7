// What the steps share: the beginning of the library of functions.
#include "texts.hpp"

namespace caller::task::redis::lua {

const char kPrelude[] = R"lua(
-- What every step of the store shares. A step loads what it needs once, changes it, and `commit` writes it. It begins
-- with `begin`, as what stands here is from the step before. Keys: KEYS[1] is the prefix of the application, which no other application's begins with.
--   inv       id -> record (below)                 args, out  id -> arguments, outcome too long for the record
--   order     ids by number                        seq        numbers and tickets
--   queues    names;  q:<name> waiting, by priority and ticket, before all those that others wait for
--   due       ids by time                          busy       running key -> id
--   kept:<runner>  of code that goes on, though the runner has its invocation no more: id -> running key, which is busy
--   keepers   runners that have such
--   waiting   registration key -> id;  also  others that wait with it, by that key and number
--   cc        held back, by running key            own:<runner>, pending (by time), killed, ended (by time)
--   leases    runners by end of lease;  runners  runner -> what it told;  idle  runner -> its take that found nothing
--   counts    status -> how many, but for REGISTERED, which is what is left;  few:<status> ids by number, of the states in which there are few
--   kin       of each child p<parent> and number, of each member of another's workflow w<workflow> and number
--   val       key -> value, behind 0 or 1 and when it is over;  vals  the keys in order;  vexp  keys by that time
--   data      hash -> bytes;  refs  hash -> by how many it is named;  unused  hashes by when it was none
--   did:<step>  a change of a value that was made, for as long as it may be asked for again
-- A record: t task, c call (d: less the task's id before it), a args, p parent, q queue, y priority, s status, o owner,
-- r retries, n number, z ticket, b created, m changed (if later), g registration key, k running key, f must not wait, x cancel
-- asked for, u due, h history (status, time since b, owner's place in O), w waits for, v waited for by, l who is to be
-- told of its end (with a + behind: of the record, too), R result, E exception, A/B in args/out, T which step made the last change, W workflow if it is another's (true:
-- its parent's id), D hashes of data.
-- Faster to find than what is global, which is not there yet when a library of functions is loaded.
local ipairs, next, pairs, tonumber, type, unpack, encode, decode, format, pack_struct, call
local P, ARGV, now, work, sooner
local R, dirty, count, told, WATCHED, fresh, order = {}, {}, {}, {}, {}, {}, {}
local plain = {} -- ids and packed records that are new, and that nothing else in the step looks at
local again  -- this step is asked for again, as its answer may have been lost
local STORED, PACKED = {}, {} -- records as they were stored when the step began, and as those will be that it has shown
-- Records of those that are at work, as the last steps have left them, and their bytes: if these are stored still, the
-- next step need not read them. Few, as whatever is kept is looked at by the collector again and again.
local KEPT, BYTES, kept = {}, {}, 0
local NOW    -- as a text: numbers that are given to `call` are written with all their digits each time
local K = {} -- keys by their names
local together -- this is a part of a step, which will be written with the rest
local function begin(keys, arguments)
  if not ipairs then
    ipairs, next, pairs, tonumber, type, unpack = _G.ipairs, _G.next, _G.pairs, _G.tonumber, _G.type, _G.unpack
    encode, decode, format = cmsgpack.pack, cmsgpack.unpack, string.format
    pack_struct, call = struct.pack, redis.call
  end
  if P ~= keys[1] then
    K = setmetatable({}, {__index = function(_, name) return keys[1] .. name end})
    for _, name in ipairs({'inv', 'counts', 'val', 'ended', 'queues', 'due', 'leases', 'order', 'seq', 'idle', 'news'}) do
      K[name] = keys[1] .. name
    end
  end
  P, ARGV, again = keys[1], arguments, #keys > 1
  local time = call('TIME')
  local part = time[2]
  NOW = time[1] .. (#part == 6 and part or string.rep('0', 6 - #part) .. part)
  now = tonumber(NOW)
  work, sooner, together = false, false, false
  -- A table costs more than a look whether the last step used it.
  if next(R) then R = {} end
  if next(dirty) then dirty = {} end
  if next(count) then count = {} end
  if next(told) then told = {} end
  if next(WATCHED) then WATCHED = {} end
  if next(fresh) then fresh = {} end
  if next(order) then order = {} end
  if next(plain) then plain = {} end
  if next(STORED) then STORED = {} end
  if next(PACKED) then PACKED = {} end
end

-- What the fields of a record are. A step that met another kind would fail for all that it is about.
local KINDS = {t = 'text', c = 'text', d = 'text', a = 'text', p = 'text', q = 'text', o = 'text', g = 'text',
               k = 'text', R = 'text', E = 'text', T = 'text', W = 'text or true', A = 'boolean', B = 'boolean',
               f = 'boolean', x = 'boolean', s = 'whole', n = 'whole', z = 'whole', b = 'whole', m = 'whole',
               r = 'whole', u = 'whole', j = 'whole', y = 'number', h = 'table', O = 'texts', D = 'texts',
               w = 'texts', v = 'texts', l = 'texts'}
local function all_texts(list)
  if type(list) ~= 'table' then return false end
  for i = 1, #list do
    if type(list[i]) ~= 'string' then return false end
  end
  return true
end
-- Nothing, or an error, when the bytes are no record. To compare values of different kinds is an error, and costs a
-- tenth of asking for the type of one.
local function checked(bytes)
  local v = decode(bytes)
  if not (v.t and v.q and v.h and v.n and v.b and NAMES[v.s]) then return end
  for field, x in pairs(v) do
    local kind = KINDS[field]
    if kind == 'text' then
      if x < '' then return end
    elseif kind == 'whole' then
      if x < 0 or x > 9007199254740991 or x % 1 ~= 0 then return end
    elseif kind == 'number' then
      if x < 0 == nil then return end
    elseif kind == 'table' then
      if type(x) ~= 'table' then return end
    elseif kind == 'texts' then
      if not all_texts(x) then return end
    elseif kind == 'boolean' then
      if x ~= true and x ~= false then return end
    elseif kind then
      if x ~= true and x < '' then return end
    end
  end
  return v
end
local function decoded(id, bytes)
  local r, known, before = false, KEPT[id], BYTES[id]
  if known then  -- from now on it may be changed
    KEPT[id], BYTES[id], kept = nil, nil, kept - 1
  end
  if bytes then
    if known and before == bytes then
      r = known
    else
      local ok, v = pcall(checked, bytes)
      if ok and v then
        r = v
        r.id = id
      end
    end
    if r then STORED[id] = bytes end
  end
  R[id] = r
  return r
end
local function load(id)
  local r = R[id]
  if r ~= nil then return r end
  return decoded(id, call('HGET', K.inv, id))
end
-- Many that load() gives then.
local function preload(ids)
  local all = call('HMGET', K.inv, unpack(ids))
  for i, id in ipairs(ids) do
    if R[id] == nil then decoded(id, all[i]) end
  end
end
-- Eight bytes that sort as the number does.
local function pad(n) return pack_struct('>I8', n) end
local function num(n) return format('%d', n or 0) end
local function add_count(s, by) count[s] = (count[s] or 0) + by end
local function has(list, x)
  for i = 1, #(list or {}) do if list[i] == x then return i end end
end
local function without(list, x)
  local i = has(list, x)
  if i then table.remove(list, i) end
  if list and #list == 0 then return nil end
  return list
end
local function waits(s) return RUNNABLE[s] or s == SCHEDULED or s == CC end
-- Its place in the queue: first those that others wait for, and that do not wait themselves.
local function score(r)
  if r.v and not r.w then return num(-1000000000000 - #r.v) end
  return r.y and num(-r.y) or '0'
end
-- After what decides it was changed.
local function rank(r) if r.z then call('ZADD', P .. 'q:' .. r.q, score(r), pad(r.z) .. r.id) end end
local function few(s) return not OWNED[s] and s ~= REGISTERED and s ~= SUCCESS end
local function kin_prefix(kind, id) return kind .. #id .. ':' .. id .. ':' end
local function workflow_of(r)
  if r.W == true then return r.p or r.id end
  return r.W or r.id
end
local function key_prefix(key) return #key .. ':' .. key .. ':' end

local set

-- For those who watch the task: see kWatchKey.
local function watched(task)
  local mask = WATCHED[task]
  if mask == nil then
    local v = call('HGET', K.val, WATCH .. task)
    if v and v:sub(1, 1) == '1' then
      v = #v >= 9 and struct.unpack('>I8', v:sub(2, 9)) > now and v:sub(9)
    end
    mask = v and v:match('^.%d%d?%d?%d?%d?%d?%d?%d?%d?$') and tonumber(v:sub(2)) or false
    WATCHED[task] = mask
  end
  return mask
end
local function keep_change(r, to)
  local mask = watched(r.t)
  if not mask or math.floor(mask / 2 ^ to) % 2 == 0 then return end
  local key = CHANGE .. format('%020d/c%02d/', now, to) .. r.id
  local till = now + CHANGE_LIFETIME
  call('ZADD', P .. 'vals', 0, key)
  call('HSET', P .. 'val', key, '1' .. pad(till) .. #r.t .. ':' .. r.t)
  call('ZADD', P .. 'vexp', till, key)
  told[#told + 1] = {P .. 'v', key}
end

local function dequeue(r)
  if not r.z then return end
  call('ZREM', P .. 'q:' .. r.q, pad(r.z) .. r.id)
  r.z = nil
end
local function queue_new(queue, at_score, n, id)
  work = true
  local list = fresh[queue]
  if not list then
    list = {}
    fresh[queue] = list
  end
  local at = #list
  list[at + 1], list[at + 2] = at_score, pad(n) .. id
end
local function enqueue(r)
  work = true
  if #r.h == 3 then  -- it is new: its number is its ticket, and `commit` writes all of those at once
    r.z = r.n
    return queue_new(r.q, score(r), r.z, r.id)
  end
  r.z = call('INCR', K.seq)
  call('SADD', K.queues, r.q)
  rank(r)
end
local function delay(r)
  local first = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  call('ZADD', P .. 'due', r.u, r.id)
  if not first[2] or tonumber(first[2]) > r.u then sooner = true end
end
-- The one held back longest may run.
local function admit(key)
  local prefix = key_prefix(key)
  while true do
    local first = call('ZRANGEBYLEX', P .. 'cc', '[' .. prefix, '+', 'LIMIT', 0, 1)[1]
    if not first or first:sub(1, #prefix) ~= prefix then return end
    local r = load(first:sub(#prefix + 9))
    if r and r.s == CC then return set(r, REROUTED) end
    call('ZREM', P .. 'cc', first)
  end
end
-- Whom a further call with its registration key gets: the one that waits, or another one that does.
local function waits_for_its_turn(r)
  if call('HSETNX', P .. 'waiting', r.g, r.id) == 0 and call('HGET', P .. 'waiting', r.g) ~= r.id then
    call('ZADD', P .. 'also', 0, key_prefix(r.g) .. pad(r.n) .. r.id)
  end
end
-- The one there was waits no more.
local function next_that_waits(key)
  local prefix, before = key_prefix(key), call('HGET', P .. 'waiting', key)
  call('HDEL', P .. 'waiting', key)
  while true do
    local first = call('ZRANGEBYLEX', P .. 'also', '[' .. prefix, '+', 'LIMIT', 0, 1)[1]
    if not first or first:sub(1, #prefix) ~= prefix then return end
    call('ZREM', P .. 'also', first)
    local other = load(first:sub(#prefix + 9))
    if other and other.g == key and other.id ~= before and waits(other.s) then
      call('HSET', P .. 'waiting', key, other.id)
      return other
    end
  end
end
local function waits_no_more(r)
  if call('HGET', P .. 'waiting', r.g) == r.id then return next_that_waits(r.g) end
  call('ZREM', P .. 'also', key_prefix(r.g) .. pad(r.n) .. r.id)
end
local function args_of(r) return r.A and call('HGET', P .. 'args', r.id) or r.a or '' end
local function call_of(r) return r.d and r.t .. r.d or r.c or '' end
local function bytes_of(r)
  local id = r.id
  r.id = nil
  local bytes = encode(r)
  r.id = id
  return bytes
end
-- As a client gets it: id, the record as it is stored, and what is not in it of arguments and outcome. The last that is
-- done with it in a step.
local function show(r, out)
  local n, id = #out, r.id
  if dirty[id] then PACKED[id] = bytes_of(r) end
  out[n + 1], out[n + 2] = id, PACKED[id] or STORED[id]
  out[n + 3] = r.A and call('HGET', P .. 'args', id) or ''
  out[n + 4] = r.B and call('HGET', P .. 'out', id) or ''
  return out
end
local function finish(r)
  for _, id in ipairs(r.v or {}) do
    local other = load(id)
    if other then
      other.w = without(other.w, r.id)
      rank(other)
      dirty[id], PACKED[id] = true, nil
    end
  end
  for _, id in ipairs(r.w or {}) do
    local other = load(id)
    if other then
      other.v = without(other.v, r.id)
      rank(other)
      dirty[id], PACKED[id] = true, nil
    end
  end
  r.v, r.w, r.u = nil, nil, nil
  for _, client in ipairs(r.l or {}) do
    local plus = client:sub(-1) == '+'
    if plus then client = client:sub(1, -2) end
    -- With a + the record goes with it, unless there is something large.
    if plus and not r.A and not r.B then
      told[#told + 1] = {P .. 'c:' .. client, 'M' .. #r.id .. ':' .. r.id, r.id}
    else
      told[#told + 1] = {P .. 'c:' .. client, 'e' .. r.id}
    end
  end
  r.l = nil
  call('ZADD', K.ended, NOW, r.id)
end
-- `goes_on`: its code may.
local function leave(r, to, goes_on)
  local s = r.s
  add_count(s, -1)
  if few(s) then call('ZREM', P .. 'few:' .. s, r.id) end
  if OWNED[s] and not OWNED[to] then
    call('SREM', P .. 'own:' .. (r.o or ''), r.id)
    if r.k and call('HGET', P .. 'busy', r.k) == r.id then
      if goes_on then
        call('HSET', P .. 'kept:' .. r.o, r.id, r.k)
        call('SADD', P .. 'keepers', r.o)
      else
        call('HDEL', P .. 'busy', r.k)
        admit(r.k)
      end
    end
  elseif r.k and RUNNABLE[s] and FINAL[to] and call('HEXISTS', P .. 'busy', r.k) == 0 then
    admit(r.k)  -- it may have been its turn
  end
  if s == PENDING then call('ZREM', P .. 'pending', r.id) end
  if s == KILLED then call('SREM', P .. 'killed', r.id) end
  if s == CC then call('ZREM', P .. 'cc', key_prefix(r.k or '') .. pad(r.j or 0) .. r.id); r.j = nil end
  if RUNNABLE[s] or s == SCHEDULED then
    dequeue(r)
    if r.u then call('ZREM', P .. 'due', r.id) end
  end
  if r.g and waits(s) and not waits(to) then waits_no_more(r) end
end
local function enter(r, to, owner)
  local was = OWNED[r.s] and r.o
  r.s, r.o, r.m = to, nil, nil
  if now ~= r.b then r.m = now end
  if OWNED[to] then r.o = owner end
  add_count(to, 1)
  keep_change(r, to)
  if few(to) then call('ZADD', P .. 'few:' .. to, r.n, r.id) end
  local place = 0
  if r.o then
    r.O = r.O or {}
    place = has(r.O, owner)
    if not place then
      r.O[#r.O + 1] = owner
      place = #r.O
    end
  end
  local h = r.h
  h[#h + 1], h[#h + 2], h[#h + 3] = to, now - r.b, place
  dirty[r.id] = true
  if r.o and not was then
    if not call('ZSCORE', K.leases, owner) then call('ZADD', K.leases, num(now + 10000000), owner) end
    call('SADD', P .. 'own:' .. owner, r.id)
    if r.k then call('HSET', P .. 'busy', r.k, r.id) end
  end
  if to == PENDING then call('ZADD', P .. 'pending', NOW, r.id) end
  if to == KILLED then call('SADD', P .. 'killed', r.id) end
  if to == CC then
    r.j = call('INCR', P .. 'seq')
    call('ZADD', P .. 'cc', 0, key_prefix(r.k or '') .. pad(r.j) .. r.id)
  end
  if r.g and waits(to) then waits_for_its_turn(r) end
  if RUNNABLE[to] or to == SCHEDULED then
    if r.x then return set(r, CANCELLED) end
    if r.u and r.u > now then
      delay(r)
    else
      r.u = nil
      enqueue(r)
    end
  end
  if FINAL[to] then finish(r) end
end
-- A change that is allowed.
set = function(r, to, owner)
  leave(r, to)
  enter(r, to, owner)
end

-- The code of an invocation that `runner` has no more has ended, or is nobody's.
local function free_key(runner, id)
  local key = call('HGET', P .. 'kept:' .. runner, id)
  if not key then return end
  call('HDEL', P .. 'kept:' .. runner, id)
  if call('EXISTS', P .. 'kept:' .. runner) == 0 then call('SREM', P .. 'keepers', runner) end
  if call('HGET', P .. 'busy', key) == id then
    call('HDEL', P .. 'busy', key)
    admit(key)
  end
end

-- Of an invocation nobody can read: what is busy with it is told by the id alone.
local function disown(id)
  local busy = call('HGETALL', P .. 'busy')
  for i = 1, #busy, 2 do
    if busy[i + 1] == id then
      call('HDEL', P .. 'busy', busy[i])
      admit(busy[i])
    end
  end
end

-- PENDING and RUNNING at once.
local function start(r, owner)
  leave(r, PENDING)
  keep_change(r, PENDING)
  enter(r, RUNNING, owner)
  local h = r.h
  local last = #h
  h[last + 1], h[last + 2], h[last + 3] = h[last - 2], h[last - 1], h[last]
  h[last - 2] = PENDING
end

local function release_due()
  for _, id in ipairs(call('ZRANGEBYSCORE', K.due, '-inf', NOW, 'LIMIT', '0', '500')) do
    call('ZREM', P .. 'due', id)
    local r = load(id)
    if r and r.s == SCHEDULED then
      r.u = nil
      set(r, REGISTERED)
    elseif r and RUNNABLE[r.s] and not r.z then
      r.u = nil
      enqueue(r)
      dirty[id] = true
    end
  end
end

local function absent(id)
  if call('HEXISTS', P .. 'inv', id) == 1 then return {'unreadable', id} end
  return {'absent', id}
end

-- One command with all of what is listed, in parts that Lua can pass on.
local function all_at_once(command, key, list)
  for from = 1, #list, 1000 do call(command, key, unpack(list, from, math.min(from + 999, #list))) end
end
-- The places in the queues of those that are new.
local function put_fresh()
  for q, list in pairs(fresh) do
    call('SADD', K.queues, q)
    all_at_once('ZADD', P .. 'q:' .. q, list)
  end
  fresh = {}
end
local function commit(value)
  if together then return value end
  local records = plain
  for id in pairs(dirty) do
    local bytes, at = PACKED[id], #records
    if not bytes then
      bytes = bytes_of(R[id])
      PACKED[id] = bytes
    end
    records[at + 1], records[at + 2] = id, bytes
    if OWNED[R[id].s] and #bytes < 4096 then
      if kept >= 200 then KEPT, BYTES, kept = {}, {}, 0 end
      KEPT[id], BYTES[id], kept = R[id], bytes, kept + 1
    end
  end
  all_at_once('HSET', K.inv, records)
  all_at_once('ZADD', K.order, order)
  put_fresh()
  count[REGISTERED] = 0
  for s, by in pairs(count) do if by ~= 0 then call('HINCRBY', K.counts, num(s), num(by)) end end
  if work then call('PUBLISH', P .. 'news', 'w') end
  if sooner then call('PUBLISH', P .. 'news', 'd') end
  for _, m in ipairs(told) do call('PUBLISH', m[1], m[3] and m[2] .. PACKED[m[3]] or m[2]) end
  return value
end
)lua";

}  // namespace caller::task::redis::lua
