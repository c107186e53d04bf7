// Runners and their leases, what is lost, due or forgotten.
#include "texts.hpp"

namespace caller::task::redis::lua {

// ARGV: runner, description, lease
const char kHeartbeat[] = R"lua(
local before, started = call('HGET', P .. 'runners', ARGV[1]), now
if before then
  local ok, v = pcall(decode, before)
  if ok and type(v) == 'table' and type(v[2]) == 'number' then started = v[2] end
end
call('HSET', P .. 'runners', ARGV[1], encode({ARGV[2], started, now}))
call('ZADD', P .. 'leases', now + tonumber(ARGV[3]), ARGV[1])
return {'ok'}
)lua";

const char kForgetRunner[] = R"lua(
call('ZADD', P .. 'leases', 'XX', 0, ARGV[1])
call('HDEL', P .. 'idle', ARGV[1])
return {'ok'}
)lua";

const char kRunners[] = R"lua(
local out, list = {'ok'}, call('ZRANGEBYSCORE', P .. 'leases', 1, '+inf', 'WITHSCORES')
for i = 1, #list, 2 do
  local bytes, v = call('HGET', P .. 'runners', list[i]), {'', 0, 0}
  if bytes then
    local ok, told = pcall(decode, bytes)
    if ok and type(told) == 'table' and type(told[2]) == 'number' and type(told[3]) == 'number' then v = told end
  end
  local at = #out
  out[at + 1], out[at + 2], out[at + 3], out[at + 4], out[at + 5] =
    list[i], tostring(v[1]), num(v[2]), num(v[3]), num(tonumber(list[i + 1]))
end
return out
)lua";

// ARGV: how long an invocation may be PENDING
const char kRecover[] = R"lua(
local out = {'ok'}
local function back(r)
  if r.s == PENDING then set(r, PENDING_RECOVERY) else set(r, RUNNING_RECOVERY) end
  set(r, REROUTED)
  out[#out + 1] = r.id
end
for _, runner in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', '(' .. num(now))) do
  for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. runner)) do
    local r = load(id)
    if not r then
      disown(id)
    elseif OWNED[r.s] and r.o == runner then
      back(r)
    end
  end
  call('UNLINK', P .. 'own:' .. runner)
  call('ZREM', P .. 'leases', runner)
  call('HDEL', P .. 'runners', runner)
end
-- Of all that have no lease, and not of those above alone: a program of an earlier version, which knows nothing of kept
-- keys, may have taken the lease away.
for _, runner in ipairs(call('SMEMBERS', P .. 'keepers')) do
  if not call('ZSCORE', P .. 'leases', runner) then
    for _, id in ipairs(call('HKEYS', P .. 'kept:' .. runner)) do free_key(runner, id) end
    call('SREM', P .. 'keepers', runner)
  end
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
const char kPurge[] = R"lua(
if ARGV[1] == '' then
  local n = call('HLEN', P .. 'inv')
  for _, q in ipairs(call('SMEMBERS', P .. 'queues')) do call('UNLINK', P .. 'q:' .. q) end
  for _, runner in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do call('UNLINK', P .. 'own:' .. runner) end
  for _, runner in ipairs(call('SMEMBERS', P .. 'keepers')) do call('UNLINK', P .. 'kept:' .. runner) end
  for _, key in ipairs({'inv', 'args', 'out', 'order', 'queues', 'due', 'waiting', 'also', 'busy', 'keepers', 'cc', 'pending', 'killed',
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
const char kRelease[] = R"lua(
release_due()
local first, wait = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES'), -1
sooner = false
if first[2] then wait = math.max(0, tonumber(first[2]) - now) end
return commit({'ok', num(wait)})
)lua";

// ARGV: runner, the step by which it may be given one, then, if all it has is to be compared, `all` and their ids. Whom
// of its invocations somebody wants to end. One the runner does not know of goes back, unless it is on its way: the
// server forgot that it gave it up, or was never told. So it is with keys that are kept for code.
const char kRequests[] = R"lua(
local out, known = {'ok'}, {}
for i = 4, #ARGV do known[ARGV[i]] = true end
for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. ARGV[1])) do
  local r = load(id)
  if not r then
    if ARGV[3] == 'all' and not known[id] then
      call('SREM', P .. 'own:' .. ARGV[1], id)
      disown(id)
    end
  elseif OWNED[r.s] and r.o == ARGV[1] then
    if ARGV[3] == 'all' and not known[id] and r.T ~= ARGV[2] then
      if r.s == PENDING then set(r, PENDING_RECOVERY) else set(r, RUNNING_RECOVERY) end
      set(r, REROUTED)
    elseif r.x then
      out[#out + 1] = id
    end
  end
end
if ARGV[3] == 'all' then
  for _, id in ipairs(call('HKEYS', P .. 'kept:' .. ARGV[1])) do
    if not known[id] then free_key(ARGV[1], id) end
  end
end
return commit(out)
)lua";

}  // namespace caller::task::redis::lua
