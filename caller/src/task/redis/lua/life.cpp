// What becomes of an invocation: it is added, taken, changed, cancelled.
#include "texts.hpp"

namespace caller::task::redis::lua {

// For the steps that add: of each call five (W) from ARGV[a + 1] on, as of NewInvocation: id, call, arguments, parent,
// and the rest, which calls have in common, in MessagePack: task, queue, priority, delay, registration key, running
// key, may it wait, is another call refused, workflow, data.
const char kAdding[] = R"lua(
local W = 5
local REGISTRATION, REFUSES = 5, 8  -- places in the rest
local THERE -- ids of a step that adds many, true: it is there already
local COMMON -- bytes -> what they say
local function rest_of(a)
  local bytes = ARGV[a + 5]
  local rest = COMMON[bytes]
  if not rest then
    rest = decode(bytes)
    COMMON[bytes] = rest
  end
  return rest
end
-- Asked for the second time, as the answer was lost or by somebody else: it is there already.
local function repeated(a)
  if THERE then return THERE[ARGV[a + 1]] end
  return call('HEXISTS', K.inv, ARGV[a + 1]) == 1
end
-- Of the ids at ARGV[first] and every `step` behind it.
local function look_for_all(first, step)
  THERE = {}
  for from = first, #ARGV, 1000 * step do
    local ids = {}
    for a = from, math.min(from + 999 * step, #ARGV), step do ids[#ids + 1] = ARGV[a] end
    for i, bytes in ipairs(call('HMGET', K.inv, unpack(ids))) do
      if bytes then THERE[ids[i]] = true end
    end
  end
end
local function known(a, rest)
  local key = rest[REGISTRATION]
  if key == '' or repeated(a) then return end
  local id = call('HGET', P .. 'waiting', key)
  if not id then return end
  local r = load(id)
  if r and waits(r.s) then return r end
  return next_that_waits(key)  -- nobody can read that one
end
local function refer(r, packed)
  local at = 1
  while at <= #packed do
    local colon = packed:find(':', at, true)
    local size = tonumber(packed:sub(at, colon - 1))
    local hash = packed:sub(colon + 1, colon + size)
    at = colon + size + 1
    if not has(r.D, hash) then
      r.D = r.D or {}
      r.D[#r.D + 1] = hash
      if call('HINCRBY', P .. 'refs', hash, 1) == 1 then call('ZREM', P .. 'unused', hash) end
    end
  end
end
-- `n`: its number; `rest`: that of it. The table is made with all the places it may need: one that grows is made anew.
local function insert(a, n, rest)
  local id, called, args, parent = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local task, queue, priority, wait, registered, running, may_wait, _, workflow, data = unpack(rest)
  local short, large, digest, whole = args, nil, nil, nil
  if called:sub(1, #task) == task then digest = called:sub(#task + 1) else whole = called end
  if #args > 256 then
    call('HSET', P .. 'args', id, args)
    short, large = nil, true
  elseif args == '' then
    short = nil
  end
  local r = {id = id, t = task, q = queue, s = REGISTERED, h = {REGISTERED, 0, 0}, b = now, n = n, a = short, A = large,
             d = digest, c = whole, z = nil}
  if parent ~= '' then
    r.p = parent
    call('ZADD', P .. 'kin', 0, kin_prefix('p', parent) .. pad(n))
    local above = workflow == '' and load(parent)
    if above then workflow = workflow_of(above) end
  end
  if workflow ~= '' and workflow ~= id then
    call('ZADD', P .. 'kin', 0, kin_prefix('w', workflow) .. pad(n))
    r.W = workflow == r.p or workflow
  end
  if priority ~= 0 then r.y = priority end
  if registered ~= '' then r.g = registered end
  if running ~= '' then r.k = running end
  if not may_wait then r.f = true end
  if data ~= '' then refer(r, data) end
  R[id] = r
  local at = #order
  order[at + 1], order[at + 2] = num(n), id
  if wait ~= 0 then
    r.s, r.h, r.u = nil, {}, now + wait
    enter(r, SCHEDULED)
  else  -- what enter() does with one that was nothing before
    keep_change(r, REGISTERED)
    if r.g then waits_for_its_turn(r) end
    enqueue(r)
    dirty[id] = true
  end
end
-- Those that come with a change.
local function add_with(from)
  THERE, COMMON = nil, {}
  for a = from, #ARGV - 1, W do
    local rest = rest_of(a)
    if not known(a, rest) and not repeated(a) and not R[ARGV[a + 1]] then insert(a, call('INCR', K.seq), rest) end
  end
end
)lua";

// ARGV: task, queue, score and fields of the record, in MessagePack, that all have in common; of each call its id and
// what is its own of the record, which comes first in there. There is nothing more to them: see is_plain().
const char kAddPlain[] = R"lua(
local task, queue, at_score, tail, added = ARGV[1], ARGV[2], ARGV[3], ARGV[4], 0
local born, many = '\161b' .. encode(now) .. '\161n', (#ARGV - 4) / 2
local idle = call('EXISTS', K.idle) == 1
if many == 1 and not idle and not call('HGET', K.val, WATCH .. task) then  -- the same, without what many need
  local id, n = ARGV[5], call('INCR', K.seq)
  local number = encode(n)
  if call('HSETNX', K.inv, id, ARGV[6] .. tail .. born .. number .. '\161z' .. number) == 1 then
    call('ZADD', K.order, num(n), id)
    call('SADD', K.queues, queue)
    call('ZADD', P .. 'q:' .. queue, at_score, pad(n) .. id)
    call('PUBLISH', K.news, 'w')
  end
  return 'ok'
end
local looked_at = idle or watched(task)
tail = tail .. born
local n = call('INCRBY', K.seq, many) - many  -- those of repeated ones stay unused
look_for_all(5, 2)
for a = 5, #ARGV, 2 do
  local id = ARGV[a]
  n = n + 1
  if not THERE[id] then
    THERE[id] = true
    added = added + 1
    local number, at = encode(n), #order
    local bytes = ARGV[a + 1] .. tail .. number .. '\161z' .. number
    order[at + 1], order[at + 2] = num(n), id
    queue_new(queue, at_score, n, id)
    if looked_at then
      local r = decode(bytes)
      r.id = id
      R[id] = r
      keep_change(r, REGISTERED)
      dirty[id] = true
    else
      at = #plain
      plain[at + 1], plain[at + 2] = id, bytes
    end
  end
end
if idle and added > 0 then give_to_idle(added) end
return commit({'ok'})
)lua";

// Answers of those that are not new their places, ids, how it is with them, calls and arguments.
const char kAdd[] = R"lua(
local out, many, last, added = {'ok'}, #ARGV / W, nil, 0
THERE, COMMON = nil, {}
local function give(a, id, how, called, args)
  local at = #out
  out[at + 1], out[at + 2], out[at + 3], out[at + 4], out[at + 5] = num(a / W), id, how, called, args
end
for a = 0, #ARGV - 1, W do
  local rest = rest_of(a)
  local r = rest[REFUSES] and known(a, rest)
  if r and call_of(r) ~= ARGV[a + 2] then
    out = {'refused'}
    give(a, r.id, 'refused', call_of(r), args_of(r))
    return out
  end
end
if many > 1 then look_for_all(1, W) end
for a = 0, #ARGV - 1, W do
  local rest = rest_of(a)
  local r = known(a, rest)
  if r then
    give(a, r.id, 'reused', call_of(r), args_of(r))
  elseif not repeated(a) and not R[ARGV[a + 1]] then
    last = last or call('INCRBY', K.seq, many) - many  -- those of the others stay unused
    last, added = last + 1, added + 1
    insert(a, last, rest)
  end
end
if work and call('EXISTS', P .. 'idle') == 1 then give_to_idle(added) end
return commit(out)
)lua";

// For take().
const char kTaking[] = R"lua(
-- What a runner was given by a step, and has still: they are put in `out`. How many there are.
local function show_those_of(step, runner, out)
  local shown = 0
  for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. runner)) do
    local r = load(id)
    if r and r.T == step and (r.s == PENDING or r.s == RUNNING) and r.o == runner then
      shown = shown + 1
      show(r, out)
    end
  end
  return shown
end
-- The place of the next one there is, and its queue.
local function first_of(queues)
  local at, from, score
  for _, q in ipairs(queues) do
    local first = call('ZRANGE', P .. 'q:' .. q, '0', '0', 'WITHSCORES')
    local s = tonumber(first[2])
    if s and (not at or s < score or (s == score and first[1] < at)) then at, from, score = first[1], q, s end
  end
  return at, from
end
)lua";

// ARGV: runner, most, which step, how, queues… How: 0; 1 they are to run at once; 2 and, if there is none, the next one
// that is added is to be told to the runner, which has it then (see kAdd); 3, and the step that said so before: what
// the runner was given by it is answered, too, as the message may never come.
const char kTake[] = R"lua(
local runner, most, token, how, out = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], {'ok', '0'}
local taken = 0
-- The first time it may have made an offer, too.
local withdrawn = (again or how >= '3') and call('HDEL', P .. 'idle', runner)
if withdrawn == 0 and how > '3' then taken = show_those_of(how:sub(2), runner, out) end
if again then  -- what it took the first time
  taken = taken + show_those_of(token, runner, out)
  if taken > 0 then return commit(out) end
end
release_due()
local queues = {}
for i = 5, #ARGV do queues[#queues + 1] = ARGV[i] end
if #queues == 0 then
  for _, q in ipairs(call('SMEMBERS', K.queues)) do
    if q:sub(1, 1) ~= '.' then queues[#queues + 1] = q end  -- see queues.hpp
  end
end
local steps = 0
while taken < most do
  steps = steps + 1
  if steps > most + 200 then
    out[2] = '1'  -- there is more to look at
    break
  end
  local at, from = first_of(queues)
  if not at then break end
  local r = load(at:sub(9))
  if not r or not RUNNABLE[r.s] or r.q ~= from then
    call('ZREM', P .. 'q:' .. from, at)  -- nobody can read it
  else
    local holder = r.k and call('HGET', P .. 'busy', r.k)
    if holder then
      -- For its own code, which goes on, it waits in any case.
      if r.f and holder ~= r.id then set(r, CC_FINAL) else set(r, CC) end
    else
      if how ~= '0' then start(r, runner) else set(r, PENDING, runner) end
      r.T = token
      taken = taken + 1
      show(r, out)
    end
  end
end
if taken == 0 and out[2] == '0' and how >= '2' then
  call('HSET', P .. 'idle', runner, encode({token, unpack(ARGV, 5)}))
end
return commit(out)
)lua";

// For all that add, once there is take().
const char kGiving[] = R"lua(
-- A runner that found nothing gets what it would take now, and is spared the asking; all others are told if that was not
-- all that was added.
local function give_to_idle(added)
  local filled = fresh
  put_fresh()
  work = false
  local idle, given, old = call('HGETALL', P .. 'idle'), 0, false
  local function serves(asked)
    for q in pairs(filled) do
      if #asked == 1 and q:sub(1, 1) ~= '.' or has(asked, q) then return true end
    end
  end
  for i = 1, #idle, 2 do
    local runner, channel = idle[i], P .. 'r:' .. idle[i]
    if given == added then break end
    local readable, asked = pcall(decode, idle[i + 1])
    if not readable or not all_texts(asked) or #asked == 0 then
      call('HDEL', P .. 'idle', runner)
    elseif not serves(asked) then
      -- it wants none of these
    elseif call('PUBSUB', 'NUMSUB', channel)[2] == 0 then
      call('HDEL', P .. 'idle', runner)  -- it is gone
    else
      ARGV = {runner, '1', asked[1], '1', unpack(asked, 2)}
      again, together = false, true
      local taken = take()
      together = false
      local id = taken[3]
      if id then
        call('HDEL', P .. 'idle', runner)
        given, old = given + 1, old or STORED[id]
        told[#told + 1] = {channel, 'h' .. #id .. ':' .. id .. #taken[5] .. ':' .. taken[5], id}
      end
    end
  end
  work = work or given < added or old  -- the takes may have found that others are due
end
)lua";

// ARGV: id, to (with a + before it: its code goes on), runner, result or exception, delay, who asks, and, if there are
// any, data and calls
const char kChange[] = R"lua(
local id, to, runner, bytes, wait, token = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local goes_on = ARGV[2]:byte() == 43
if goes_on then to = tonumber(ARGV[2]:sub(2)) end
local r = load(id)
if not r then return absent(id) end
if r.T == token then return {'ok'} end
if OWNED[r.s] and r.o ~= runner then return {'owner', id, num(r.s), r.o or '', runner} end
if not NEXT[r.s][to] then return {'transition', id, num(r.s)} end
if OWNED[to] and runner == '' then return {'owner', id, num(r.s), r.o or '', 'nobody'} end
if (to == SUCCESS or to == FAILED) and bytes ~= '' then
  if #bytes > 256 then
    call('HSET', P .. 'out', id, bytes)
    r.B = true
  elseif to == SUCCESS then
    r.R = bytes
  else
    r.E = bytes
  end
end
if to == RETRY then r.r = (r.r or 0) + 1 end
-- What waited for a time is no longer in that list once it has another one.
local u = nil
if wait > 0 then u = now + wait end
leave(r, to, goes_on)
r.u = u
enter(r, to, runner)
r.T = token
dirty[id] = true
if #ARGV > 6 then
  refer(r, ARGV[7])
  add_with(7)
end
return commit({'ok'})
)lua";

// ARGV: runner, id
const char kCodeEnded[] = R"lua(
free_key(ARGV[1], ARGV[2])
return commit({'ok'})
)lua";

// A change, and what is taken next. ARGV: those of a change, six, and those of a take. Answers how many of its parts
// are the change's, and both.
const char kNext[] = R"lua(
local given = ARGV
together = true
ARGV = {unpack(given, 1, 6)}
local changed = change()
ARGV = {unpack(given, 7)}
local good, taken = pcall(take)
together = false
local out = {'ok', num(#changed)}
for _, x in ipairs(changed) do out[#out + 1] = x end
for _, x in ipairs(good and taken or {'broken', tostring(taken)}) do out[#out + 1] = x end
return commit(out)
)lua";

// ARGV: id, who asks
const char kCancel[] = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
if r.T == ARGV[2] then return {'ok', '1'} end
if FINAL[r.s] then return {'ok', '0'} end
if NEXT[r.s][CANCELLED] and not OWNED[r.s] then
  set(r, CANCELLED)
  r.T = ARGV[2]
else
  r.x = true
  if r.o then told[#told + 1] = {P .. 'r:' .. r.o, 'c' .. r.id} end
end
dirty[r.id] = true
return commit({'ok', '1'})
)lua";

}  // namespace caller::task::redis::lua
