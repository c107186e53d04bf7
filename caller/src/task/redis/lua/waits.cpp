// Who waits for whom, and who is to be told of an end.
#include "texts.hpp"

namespace caller::task::redis::lua {

// Of one: true with its record if it has ended, false if `client` is going to be told of it (`plus`: of the record).
const char kAwaiting[] = R"lua(
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
const char kAwait[] = R"lua(
local r = load(ARGV[1])
if not r then return absent(ARGV[1]) end
if await(r, ARGV[2], ARGV[3]) then return ARGV[3] == '+' and show(r, {'ok', '1'}) or {'ok', '1'} end
return commit({'ok', '0'})
)lua";

// ARGV: client to be told of their records, ids. Answers of those that have ended their places and records, and places
// with nothing but 0 of those it knows nothing of.
const char kAwaitAll[] = R"lua(
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

// ARGV: who waits, for whom…
const char kWaitFor[] = R"lua(
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
const char kCheckCycle[] = R"lua(
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

}  // namespace caller::task::redis::lua
