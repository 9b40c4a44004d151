-- The beginning of every script. KEYS: the lock (text, a record a line), the queue (zset: token by ticket),
-- the waiters (hash: token -> order; there while anybody waits or watches), the bucket's fencing counter.
-- ARGV[1] is the name.
local L, Q, W, F = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- The first of so many tokens, and its digits; `block` is a text, since a server takes its time over
-- numbers, and `block@least` where the last of them must be so high. Monotone across a flush as well: a
-- counter that starts anew starts at the clock's microseconds. Not %d, which has 32 bits on some servers.
local function fence(block)
  local least
  if #block > 10 then block, least = string.match(block, '^(%d+)@(%d+)$') end
  local value = redis.call('INCRBY', F, block)
  if value == tonumber(block) then
    local clock = redis.call('TIME')
    value = clock[1] * 1000000 + clock[2] + block
    redis.call('SET', F, string.format('%.0f', value))
  end
  if least and value < tonumber(least) then
    value = tonumber(least)
    redis.call('SET', F, least)
  end
  local first = value - block + 1
  return first, string.format('%.0f', first)
end

