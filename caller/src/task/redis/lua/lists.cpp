// What there is: one invocation, its history, lists, numbers.
#include "texts.hpp"

namespace caller::task::redis::lua {

const char kGet[] = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
return show(r, {'ok'})
)lua";

const char kHistory[] = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
local out = {'ok'}
for i = 1, #r.h - 2, 3 do
  local at = #out
  out[at + 1], out[at + 2], out[at + 3] = num(r.h[i]), (r.O or {})[r.h[i + 2]] or '', num(r.b + r.h[i + 1])
end
return out
)lua";

// ARGV: task, status, offset, most, kind of kin and whose, before whom, from, until; then, behind the first part, the
// least number and the one to stay below. A part of the list at a time, so that nobody else waits long.
const char kList[] = R"lua(
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

const char kCounts[] = R"lua(
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

}  // namespace caller::task::redis::lua
