// The steps, one by one. Each answers {what, …}: `ok`, or what is wrong.
#include "scripts.hpp"

#include <caller/task/status.hpp>
#include <caller/task/store.hpp>

#include "../app.hpp"

namespace caller::task::redis {

namespace {

// For the steps that add: fourteen (W) of each call, as of NewInvocation, from ARGV[a + 1] on.
constexpr const char* kAdding = R"lua(
local W = 14
-- Asked for the second time, as the answer was lost or by somebody else: it is there already.
local function repeated(a) return call('HEXISTS', K.inv, ARGV[a + 1]) == 1 end
local function known(a)
  local key = ARGV[a + 9]
  if key == '' or repeated(a) then return end
  local id = call('HGET', P .. 'waiting', key)
  local r = id and load(id)
  if r and waits(r.s) then return r end
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
local function insert(a)
  local id, task, called, args, key = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 10]
  local r = {id = id, t = task, q = ARGV[a + 6], h = {}, b = now, n = call('INCR', K.seq)}
  if called:sub(1, #task) == task then r.d = called:sub(#task + 1) else r.c = called end
  if #args > 256 then
    call('HSET', P .. 'args', id, args)
    r.A = true
  elseif args ~= '' then
    r.a = args
  end
  local workflow = ARGV[a + 13]
  if ARGV[a + 5] ~= '' then
    r.p = ARGV[a + 5]
    call('ZADD', P .. 'kin', 0, kin_prefix('p', r.p) .. pad(r.n))
    local parent = workflow == '' and load(r.p)
    if parent then workflow = workflow_of(parent) end
  end
  if workflow ~= '' and workflow ~= id then
    call('ZADD', P .. 'kin', 0, kin_prefix('w', workflow) .. pad(r.n))
    r.W = workflow == r.p or workflow
  end
  if ARGV[a + 7] ~= '0' then r.y = tonumber(ARGV[a + 7]) end
  if ARGV[a + 9] ~= '' then r.g = ARGV[a + 9] end
  if key ~= '' then r.k = key end
  if ARGV[a + 11] ~= '1' then r.f = true end
  if ARGV[a + 14] ~= '' then refer(r, ARGV[a + 14]) end
  R[id] = r
  order[#order + 1], order[#order + 2] = r.n, id
  local wait = tonumber(ARGV[a + 8])
  if wait > 0 then
    r.u = now + wait
    enter(r, SCHEDULED)
  else
    enter(r, REGISTERED)
  end
  dirty[id] = true
end
-- Those that come with a change.
local function add_with(from)
  for a = from, #ARGV - 1, W do
    if not known(a) and not repeated(a) and not R[ARGV[a + 1]] then insert(a) end
  end
end
)lua";

constexpr const char* kAdd = R"lua(
local out = {'ok'}
local function give(id, how, called, args)
  local at = #out
  out[at + 1], out[at + 2], out[at + 3], out[at + 4] = id, how, called, args
end
for a = 0, #ARGV - 1, W do
  local r = ARGV[a + 12] == '1' and known(a)
  if r and call_of(r) ~= ARGV[a + 3] then
    out = {'refused', tostring(a / W)}
    give(r.id, 'refused', call_of(r), args_of(r))
    return out
  end
end
for a = 0, #ARGV - 1, W do
  local r = known(a)
  if r then
    give(r.id, 'reused', call_of(r), args_of(r))
  else
    if not repeated(a) and not R[ARGV[a + 1]] then insert(a) end
    give(ARGV[a + 1], 'new', '', '')
  end
end
return commit(out)
)lua";

// ARGV: runner, most, which step, are they to run at once, queues…
constexpr const char* kTake = R"lua(
local runner, most, token, out = ARGV[1], tonumber(ARGV[2]), ARGV[3], {'ok', '0'}
if again then  -- what it took the first time
  for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. runner)) do
    local r = load(id)
    if r and r.T == token and (r.s == PENDING or r.s == RUNNING) and r.o == runner then show(r, out) end
  end
  if #out > 2 then return commit(out) end
end
release_due()
local queues = {}
for i = 5, #ARGV do queues[#queues + 1] = ARGV[i] end
if #queues == 0 then
  for _, q in ipairs(call('SMEMBERS', K.queues)) do
    if q:sub(1, 1) ~= '.' then queues[#queues + 1] = q end  -- see queues.hpp
  end
end
local function best()
  local at, from, score
  for _, q in ipairs(queues) do
    local first = call('ZRANGE', P .. 'q:' .. q, '0', '0', 'WITHSCORES')
    local s = tonumber(first[2])
    if s and (not at or s < score or (s == score and first[1] < at)) then at, from, score = first[1], q, s end
  end
  return at, from
end
local taken, steps = 0, 0
while taken < most do
  steps = steps + 1
  if steps > most + 200 then
    out[2] = '1'  -- there is more to look at
    break
  end
  local at, from = best()
  if not at then break end
  local r = load(at:sub(9))
  if not r or not RUNNABLE[r.s] or r.q ~= from then
    call('ZREM', P .. 'q:' .. from, at)  -- nobody can read it
  elseif r.k and call('HEXISTS', P .. 'busy', r.k) == 1 then
    if r.f then set(r, CC_FINAL) else set(r, CC) end
  else
    begins = ARGV[4] == '1'
    set(r, PENDING, runner)
    if begins then set(r, RUNNING, runner) end
    begins = false
    r.T = token
    taken = taken + 1
    show(r, out)
  end
end
return commit(out)
)lua";

// ARGV: id, to, runner, result or exception, delay, who asks, and, if there are any, data and calls
constexpr const char* kChange = R"lua(
local id, to, runner, bytes, wait, token = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
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
leave(r, to)
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

// A change, and what is taken next. ARGV: those of a change, six, and those of a take. Answers how many of its parts
// are the change's, and both.
constexpr const char* kNext = R"lua(
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

constexpr const char* kGet = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
return show(r, {'ok'})
)lua";

constexpr const char* kHistory = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
local out = {'ok'}
for i = 1, #r.h - 2, 3 do
  local at = #out
  out[at + 1], out[at + 2], out[at + 3] = num(r.h[i]), (r.O or {})[r.h[i + 2]] or '', num(r.b + r.h[i + 1])
end
return out
)lua";

// Of one: true with its record if it has ended, false if `client` is going to be told of it (`plus`: of the record).
constexpr const char* kAwaiting = R"lua(
local function await(r, client, plus)
  if FINAL[r.s] then return true end
  local plain, all = has(r.l, client), has(r.l, client .. '+')
  if not all and (plus ~= '' or not plain) then
    r.l = r.l or {}
    r.l[plain or #r.l + 1] = client .. plus
    dirty[r.id] = true
  end
  return false
end
)lua";

// ARGV: id, client to be told, and, if it is to be told of the record, a +
constexpr const char* kAwait = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
if await(r, ARGV[2], ARGV[3]) then return ARGV[3] == '+' and show(r, {'ok', '1'}) or {'ok', '1'} end
return commit({'ok', '0'})
)lua";

// ARGV: client to be told of their records, ids. Answers of those that have ended their places and records, and places
// with nothing but 0 of those it knows nothing of.
constexpr const char* kAwaitAll = R"lua(
local client, ids, out = ARGV[1], {}, {'ok'}
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
preload(ids)
for i, id in ipairs(ids) do
  local r = load(id)
  if not r then
    out[#out + 1], out[#out + 2] = num(i - 1), '0'
  elseif await(r, client, '+') then
    out[#out + 1], out[#out + 2] = num(i - 1), '1'
    show(r, out)
  end
end
return commit(out)
)lua";

// ARGV: task, status, offset, most, kind of kin and whose, before whom, from, until; then, behind the first part, the
// least number and the one to stay below. A part of the list at a time, so that nobody else waits long.
constexpr const char* kList = R"lua(
local task, status, offset, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local kind, whose, from, till = ARGV[5], ARGV[6], tonumber(ARGV[8]), tonumber(ARGV[9])
local first, below = tonumber(ARGV[10]), tonumber(ARGV[11])
local MOST, PART = 9007199254740991, 500
if task == '' and not status and kind == '' then PART = math.min(PART, math.max(offset + most, 20)) end
if not first then
  -- The number of the first one made then or later; they are in the order of their times.
  local function number_at(t)
    local low, high = 0, call('ZCARD', P .. 'order')
    while low < high do
      local middle = math.floor((low + high) / 2)
      local probe, r = middle, nil
      repeat
        r = load(call('ZRANGE', P .. 'order', probe, probe)[1])
        probe = probe + 1
      until r or probe >= high
      if r and r.b < t then low = probe else high = middle end
    end
    return tonumber(call('ZRANGE', P .. 'order', low, low, 'WITHSCORES')[2]) or MOST
  end
  first, below = 0, MOST
  if ARGV[7] ~= '' then
    local r = load(ARGV[7])
    if not r then return absent(ARGV[7]) end
    below = r.n
  end
  if from then first = number_at(from) end
  if till then below = math.min(below, number_at(till)) end
  -- The beginning of a workflow is not with the others as long as nobody asks.
  local root = kind == 'w' and load(whose)
  if root and workflow_of(root) == whose then call('ZADD', P .. 'kin', 0, kin_prefix('w', whose) .. pad(root.n)) end
end
local ids, numbers, last = {}, {}, nil
local function by_number(key)
  local list = call('ZREVRANGEBYSCORE', P .. key, '(' .. num(below), num(first), 'WITHSCORES', 'LIMIT', 0, PART)
  for i = 1, #list, 2 do ids[#ids + 1], numbers[#numbers + 1] = list[i], tonumber(list[i + 1]) end
end
if below <= first or
   (status and status ~= REGISTERED and (tonumber(call('HGET', P .. 'counts', status)) or 0) <= 0) then
  -- nothing is
elseif kind ~= '' then
  local prefix = kin_prefix(kind, whose)
  local list = call('ZREVRANGEBYLEX', P .. 'kin', '(' .. prefix .. pad(below), '[' .. prefix .. pad(first), 'LIMIT', 0, PART)
  for i, member in ipairs(list) do
    local n = struct.unpack('>I8', member:sub(-8))
    ids[i], numbers[i] = call('ZRANGEBYSCORE', P .. 'order', num(n), num(n))[1] or '', n
  end
elseif status and OWNED[status] then
  local all = {}
  for _, runner in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
    for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. runner)) do
      local r = load(id)
      if r and r.s == status and r.n < below and r.n >= first then all[#all + 1] = r end
    end
  end
  table.sort(all, function(x, y) return x.n > y.n end)
  PART = #all + 1
  for i, r in ipairs(all) do ids[i], numbers[i] = r.id, r.n end
elseif status and few(status) then
  by_number('few:' .. status)
else
  by_number('order')
end
local out, found = {'ok', '', '', ''}, 0
for i, id in ipairs(ids) do
  if found == most then break end
  last = numbers[i]
  local r = load(id)
  if r and (task == '' or r.t == task) and (not status or r.s == status) and (kind ~= 'p' or r.p == whose) and
     (kind ~= 'w' or workflow_of(r) == whose) and (ARGV[12] == '' or r.p == ARGV[12]) and
     (not from or r.b >= from) and (not till or r.b < till) then
    if offset > 0 then
      offset = offset - 1
    else
      found = found + 1
      show(r, out)
    end
  end
end
out[2], out[3] = num(offset), num(first)
if last and #ids == PART and found < most then out[4] = num(last) end
return out
)lua";

// ARGV: who waits, for whom…
constexpr const char* kWaitFor = R"lua(
local w = load(ARGV[1])
if not w then return absent(ARGV[1]) end
for i = 2, #ARGV do
  local r = load(ARGV[i])
  if not r then return absent(ARGV[i]) end
  if not FINAL[r.s] and not has(w.w, r.id) then
    -- Does it wait for the one that wants to wait?
    local seen, steps = {[r.id] = true}, {{r, 0}}
    while #steps > 0 do
      local step = steps[#steps]
      if step[1].id == w.id then
        local path = w.t
        for _, s in ipairs(steps) do path = path .. ' -> ' .. s[1].t end
        return {'cycle', path}
      end
      step[2] = step[2] + 1
      local id = (step[1].w or {})[step[2]]
      if not id then
        steps[#steps] = nil
      elseif not seen[id] then
        seen[id] = true
        local other = load(id)
        if other then steps[#steps + 1] = {other, 0} end
      end
    end
    w.w = w.w or {}
    w.w[#w.w + 1] = r.id
    rank(w)
    r.v = r.v or {}
    r.v[#r.v + 1] = w.id
    rank(r)
    dirty[w.id], dirty[r.id] = true, true
  end
end
return commit({'ok'})
)lua";

// ARGV: parent, task, call
constexpr const char* kCheckCycle = R"lua(
local parent, text, seen = ARGV[1], ARGV[2], {}
while parent ~= '' and not seen[parent] do
  seen[parent] = true
  local r = load(parent)
  if not r then break end
  text = r.t .. ' -> ' .. text
  if call_of(r) == ARGV[3] then return {'cycle', text} end
  parent = r.p or ''
end
return {'ok'}
)lua";

// ARGV: id, who asks
constexpr const char* kCancel = R"lua(
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

// ARGV: runner, description, lease
constexpr const char* kHeartbeat = R"lua(
local before, started = call('HGET', P .. 'runners', ARGV[1]), now
if before then
  local ok, v = pcall(cmsgpack.unpack, before)
  if ok and type(v) == 'table' and type(v[2]) == 'number' then started = v[2] end
end
call('HSET', P .. 'runners', ARGV[1], cmsgpack.pack({ARGV[2], started, now}))
call('ZADD', P .. 'leases', now + tonumber(ARGV[3]), ARGV[1])
return {'ok'}
)lua";

constexpr const char* kForgetRunner = R"lua(
call('ZADD', P .. 'leases', 'XX', 0, ARGV[1])
return {'ok'}
)lua";

constexpr const char* kRunners = R"lua(
local out, list = {'ok'}, call('ZRANGEBYSCORE', P .. 'leases', 1, '+inf', 'WITHSCORES')
for i = 1, #list, 2 do
  local bytes, v = call('HGET', P .. 'runners', list[i]), {'', 0, 0}
  if bytes then
    local ok, told = pcall(cmsgpack.unpack, bytes)
    if ok and type(told) == 'table' and type(told[3]) == 'number' then v = told end
  end
  local at = #out
  out[at + 1], out[at + 2], out[at + 3], out[at + 4], out[at + 5] =
    list[i], tostring(v[1]), num(v[2]), num(v[3]), num(tonumber(list[i + 1]))
end
return out
)lua";

// ARGV: how long an invocation may be PENDING
constexpr const char* kRecover = R"lua(
local out = {'ok'}
local function back(r)
  if r.s == PENDING then set(r, PENDING_RECOVERY) else set(r, RUNNING_RECOVERY) end
  set(r, REROUTED)
  out[#out + 1] = r.id
end
for _, runner in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', '(' .. num(now))) do
  for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. runner)) do
    local r = load(id)
    if r and OWNED[r.s] and r.o == runner then back(r) end
  end
  call('UNLINK', P .. 'own:' .. runner)
  call('ZREM', P .. 'leases', runner)
  call('HDEL', P .. 'runners', runner)
end
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'pending', '-inf', '(' .. num(now - tonumber(ARGV[1])))) do
  local r = load(id)
  if r and r.s == PENDING then back(r) else call('ZREM', P .. 'pending', id) end
end
for _, id in ipairs(call('SMEMBERS', P .. 'killed')) do
  local r = load(id)
  if r and r.s == KILLED then
    set(r, REROUTED)
    out[#out + 1] = id
  else
    call('SREM', P .. 'killed', id)
  end
end
return commit(out)
)lua";

// ARGV: how long ago it ended, or nothing: all; how long nobody has named data. A part at a time: {'ok', how many, is
// there more}.
constexpr const char* kPurge = R"lua(
if ARGV[1] == '' then
  local n = call('HLEN', P .. 'inv')
  for _, q in ipairs(call('SMEMBERS', P .. 'queues')) do call('UNLINK', P .. 'q:' .. q) end
  for _, runner in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do call('UNLINK', P .. 'own:' .. runner) end
  for _, key in ipairs({'inv', 'args', 'out', 'order', 'queues', 'due', 'waiting', 'busy', 'cc', 'pending', 'killed',
                        'ended', 'counts', 'kin', 'val', 'vals', 'vexp', 'data', 'refs', 'unused'}) do
    call('UNLINK', P .. key)
  end
  for s in pairs(NAMES) do call('UNLINK', P .. 'few:' .. s) end
  call('PUBLISH', P .. 'all', 'p')
  return {'ok', num(n), '0'}
end
local list = call('ZRANGEBYSCORE', P .. 'ended', '-inf', num(now - tonumber(ARGV[1])), 'LIMIT', 0, 500)
for _, id in ipairs(list) do
  local r = load(id)
  if r then
    add_count(r.s, -1)
    if r.p then call('ZREM', P .. 'kin', kin_prefix('p', r.p) .. pad(r.n)) end
    call('ZREM', P .. 'kin', kin_prefix('w', workflow_of(r)) .. pad(r.n))
    for _, hash in ipairs(r.D or {}) do
      if call('HINCRBY', P .. 'refs', hash, -1) <= 0 then
        call('HDEL', P .. 'refs', hash)
        if call('HEXISTS', P .. 'data', hash) == 1 then call('ZADD', P .. 'unused', now, hash) end
      end
    end
  end
  for s in pairs(FINAL) do if few(s) then call('ZREM', P .. 'few:' .. s, id) end end
  call('HDEL', P .. 'inv', id)
  call('HDEL', P .. 'args', id)
  call('HDEL', P .. 'out', id)
  call('ZREM', P .. 'order', id)
  call('ZREM', P .. 'ended', id)
end
dirty = {}
forget_values(500)
local unused = call('ZRANGEBYSCORE', P .. 'unused', '-inf', num(now - tonumber(ARGV[2])), 'LIMIT', 0, 500)
for _, hash in ipairs(unused) do
  call('HDEL', P .. 'data', hash)
  call('ZREM', P .. 'unused', hash)
end
return commit({'ok', num(#list), (#list == 500 or #unused == 500) and '1' or '0'})
)lua";

// What is due is put in its queue. Answers how long it is until the next one; -1: there is none.
constexpr const char* kRelease = R"lua(
release_due()
local first, wait = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES'), -1
sooner = false
if first[2] then wait = math.max(0, tonumber(first[2]) - now) end
return commit({'ok', num(wait)})
)lua";

// ARGV: runner, then, if all it has is to be compared, `all` and their ids. Whom of its invocations somebody wants to
// end. One the runner does not know of goes back: the server forgot that it gave it up, or was never told.
constexpr const char* kRequests = R"lua(
local out, known = {'ok'}, {}
for i = 3, #ARGV do known[ARGV[i]] = true end
for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. ARGV[1])) do
  local r = load(id)
  if r and OWNED[r.s] and r.o == ARGV[1] then
    if ARGV[2] == 'all' and not known[id] then
      if r.s == PENDING then set(r, PENDING_RECOVERY) else set(r, RUNNING_RECOVERY) end
      set(r, REROUTED)
    elseif r.x then
      out[#out + 1] = id
    end
  end
end
return commit(out)
)lua";

constexpr const char* kCounts = R"lua(
local out, list, left = {'ok'}, call('HGETALL', P .. 'counts'), call('HLEN', P .. 'inv')
for i = 1, #list, 2 do
  local n = tonumber(list[i + 1]) or 0
  if tonumber(list[i]) ~= REGISTERED and n > 0 then
    out[#out + 1], out[#out + 2] = list[i], num(n)
    left = left - n
  end
end
out[#out + 1], out[#out + 2] = num(REGISTERED), num(left)
return out
)lua";

constexpr const char* kValues = R"lua(
local function value_of(key)
  local v = call('HGET', P .. 'val', key)
  if not v then return end
  if v:sub(1, 1) ~= '1' then return v:sub(2) end
  if #v >= 9 and struct.unpack('>I8', v:sub(2, 9)) > now then return v:sub(10) end
end
local function erase_value(key)
  call('HDEL', P .. 'val', key)
  call('ZREM', P .. 'vals', key)
  call('ZREM', P .. 'vexp', key)
end
local function forget_values(most)
  for _, key in ipairs(call('ZRANGEBYSCORE', P .. 'vexp', '-inf', num(now), 'LIMIT', 0, most)) do erase_value(key) end
end
)lua";

constexpr const char* kValue = R"lua(
local v = value_of(ARGV[1])
if v then return {'ok', v} end
return {'ok'}
)lua";

// ARGV: key, what is expected (0 anything, 1 none, 2 these bytes), bytes, is there a value, value, lifetime, who asks,
// how long that may be asked again (ms), calls
constexpr const char* kSetValue = R"lua(
local key, expect, did, wait = ARGV[1], ARGV[2], P .. 'did:' .. ARGV[7], tonumber(ARGV[6])
if call('EXISTS', did) == 1 then return {'ok', '1'} end
forget_values(2)
local v = expect ~= '0' and value_of(key)
if (expect == '1' and v) or (expect == '2' and v ~= ARGV[3]) then return {'ok', '0'} end
if ARGV[4] == '1' then
  call('ZADD', P .. 'vals', 0, key)
  if wait > 0 then
    call('HSET', P .. 'val', key, '1' .. pad(now + wait) .. ARGV[5])
    call('ZADD', P .. 'vexp', now + wait, key)
  else
    call('HSET', P .. 'val', key, '0' .. ARGV[5])
    call('ZREM', P .. 'vexp', key)
  end
else
  erase_value(key)
end
call('SET', did, '', 'PX', ARGV[8])
add_with(8)
told[#told + 1] = {P .. 'v', key}
return commit({'ok', '1'})
)lua";

// ARGV: from which key on, until which, how many
constexpr const char* kListValues = R"lua(
local out, from, most = {'ok'}, ARGV[1], tonumber(ARGV[3])
while #out <= 2 * most do
  local some = math.min(most - (#out - 1) / 2, 500)
  local keys = call('ZRANGEBYLEX', P .. 'vals', from, ARGV[2], 'LIMIT', 0, some)
  for _, key in ipairs(keys) do
    local v = value_of(key)
    if v then out[#out + 1], out[#out + 2] = key, v end
    from = '(' .. key
  end
  if #keys < some then break end
end
return out
)lua";

// ARGV: hash, bytes
constexpr const char* kPutData = R"lua(
call('HSET', P .. 'data', ARGV[1], ARGV[2])
if call('HEXISTS', P .. 'refs', ARGV[1]) == 0 then call('ZADD', P .. 'unused', now, ARGV[1]) end
return {'ok'}
)lua";

constexpr const char* kData = R"lua(
local bytes = call('HGET', P .. 'data', ARGV[1])
if bytes then return {'ok', bytes} end
return {'ok'}
)lua";

/// The table of states, as Lua.
std::string table_of_states() {
  std::string names = "local NAMES = {", runnable = "local RUNNABLE = {", owned = "local OWNED = {",
              final = "local FINAL = {", next = "local NEXT = {";
  for (std::size_t i = 0; i < kStatusCount; ++i) {
    const StatusRule& r = kStatusRules[i];
    const std::string at = "[" + std::to_string(i) + "] = ";
    names += at + "'" + std::string(r.name) + "', ";
    if (r.runnable) runnable += at + "true, ";
    if (r.owned) owned += at + "true, ";
    if (r.final) final += at + "true, ";
    next += at + "{";
    for (std::size_t n = 0; n < kStatusCount; ++n)
      if (may_follow(r.status, static_cast<Status>(n))) next += "[" + std::to_string(n) + "] = true, ";
    next += "}, ";
  }
  std::string out;
  for (const std::string* table : {&names, &runnable, &owned, &final, &next}) out += *table + "}\n";
  const std::pair<const char*, Status> used[] = {{"REGISTERED", Status::registered},
                                                 {"SCHEDULED", Status::scheduled},
                                                 {"CC", Status::concurrency_controlled},
                                                 {"REROUTED", Status::rerouted},
                                                 {"RETRY", Status::retry},
                                                 {"PENDING", Status::pending},
                                                 {"RUNNING", Status::running},
                                                 {"KILLED", Status::killed},
                                                 {"PENDING_RECOVERY", Status::pending_recovery},
                                                 {"RUNNING_RECOVERY", Status::running_recovery},
                                                 {"SUCCESS", Status::success},
                                                 {"FAILED", Status::failed},
                                                 {"CC_FINAL", Status::concurrency_controlled_final},
                                                 {"CANCELLED", Status::cancelled}};
  for (const auto& [name, status] : used)
    out += std::string("local ") + name + " = " + std::to_string(static_cast<int>(status)) + "\n";
  out += "local WATCH, CHANGE = '" + std::string(kWatchKey) + "', '" + std::string(kChangeKey) + "'\n";
  const auto lifetime = std::chrono::microseconds(kChangeLifetime).count();
  out += "local CHANGE_LIFETIME = " + std::to_string(lifetime) + "\n";
  return out;
}

}  // namespace

// The numbers of the states are stored: new ones may only be added behind the others.
static_assert(static_cast<int>(Status::registered) == 0 && static_cast<int>(Status::pending) == 5 &&
              static_cast<int>(Status::running) == 6 && static_cast<int>(Status::success) == 12 &&
              static_cast<int>(Status::cancelled) == 15);

namespace {

/// One step of the library, by its place in `Scripts`.
struct Step {
  Script Scripts::* at;
  const char* name;
  const char* body;
};
constexpr Step kSteps[] = {{&Scripts::add, "add", kAdd},
                           {&Scripts::take, "take", "return take()\n"},
                           {&Scripts::change, "change", "return change()\n"},
                           {&Scripts::next, "next", kNext},
                           {&Scripts::get, "get", kGet},
                           {&Scripts::history, "history", kHistory},
                           {&Scripts::await, "await", kAwait},
                           {&Scripts::await_all, "await_all", kAwaitAll},
                           {&Scripts::list, "list", kList},
                           {&Scripts::wait_for, "wait_for", kWaitFor},
                           {&Scripts::check_cycle, "check_cycle", kCheckCycle},
                           {&Scripts::cancel, "cancel", kCancel},
                           {&Scripts::heartbeat, "heartbeat", kHeartbeat},
                           {&Scripts::forget_runner, "forget_runner", kForgetRunner},
                           {&Scripts::runners, "runners", kRunners},
                           {&Scripts::recover, "recover", kRecover},
                           {&Scripts::purge, "purge", kPurge},
                           {&Scripts::release, "release", kRelease},
                           {&Scripts::counts, "counts", kCounts},
                           {&Scripts::value, "value", kValue},
                           {&Scripts::set_value, "set_value", kSetValue},
                           {&Scripts::values, "values", kListValues},
                           {&Scripts::put_data, "put_data", kPutData},
                           {&Scripts::data, "data", kData}};

Scripts make_scripts() {
  const std::string base = table_of_states() + kPrelude;
  const std::string common = base + kAdding + kValues + kAwaiting + "local function change()" + kChange +
                             "end\nlocal function take()" + kTake + "end\n";
  std::string steps;
  for (const Step& s : kSteps) steps += std::string(s.name) + "\n" + s.body;
  // Libraries of several versions of this one live beside each other, each under a name of its own.
  const std::string prefix = "caller_" + detail::sha1_of(common + steps).substr(0, 12);
  Scripts out;
  out.library = "#!lua name=" + prefix + "\n" + common;
  for (const Step& s : kSteps) {
    Script& script = out.*s.at;
    script.function = prefix + "_" + s.name;
    out.library += "redis.register_function('" + script.function +
                   "', function(keys, arguments)\nbegin(keys, arguments)\n" + s.body + "end)\n";
  }
  out.requests.text = "local given = ARGV\n" + base + "begin(KEYS, given)\n" + kRequests;
  return out;
}

}  // namespace

const Scripts& scripts() {
  static const Scripts all = make_scripts();
  return all;
}

}  // namespace caller::task::redis
