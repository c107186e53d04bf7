// Values by key, data by hash.
#include "texts.hpp"

namespace caller::task::redis::lua {

const char kValues[] = R"lua(
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

const char kValue[] = R"lua(
local v = value_of(ARGV[1])
if v then return {'ok', v} end
return {'ok'}
)lua";

// ARGV: key, what is expected (0 anything, 1 none, 2 these bytes), bytes, is there a value, value, lifetime, who asks,
// how long that may be asked again (ms), calls
const char kSetValue[] = R"lua(
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
const char kListValues[] = R"lua(
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
const char kPutData[] = R"lua(
call('HSET', P .. 'data', ARGV[1], ARGV[2])
if call('HEXISTS', P .. 'refs', ARGV[1]) == 0 then call('ZADD', P .. 'unused', now, ARGV[1]) end
return {'ok'}
)lua";

const char kData[] = R"lua(
local bytes = call('HGET', P .. 'data', ARGV[1])
if bytes then return {'ok', bytes} end
return {'ok'}
)lua";

}  // namespace caller::task::redis::lua
