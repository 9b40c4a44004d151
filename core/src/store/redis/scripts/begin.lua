-- The beginning of every script. KEYS: the lock (hash: token -> record), the queue (zset: token by ticket),
-- the waiters (hash: token -> what to do for it), the bucket's fencing counter.
-- A record is layout|mode|take|of|fence|since|until|offered|who; times are ms of this server's clock.
local L, Q, W, F = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local CLAIM, LAYOUT, NAME = 1000, ARGV[1], ARGV[2]

-- Monotone across a flush as well: a counter that starts anew starts at the clock's microseconds.
local function fence(block)
  local value = redis.call('INCRBY', F, block)
  if value == block then
    value = clock[1] * 1000000 + clock[2] + block
    redis.call('SET', F, string.format('%.0f', value))
  end
  return string.format('%.0f', value - block + 1)
end

local function record(ttl, mode, take, of, fence, who, offered)
  return {LAYOUT, mode, take, of, fence, string.format('%.0f', now), string.format('%.0f', now + ttl), offered and '1' or '0', who}
end

local function write(token, r)
  redis.call('HSET', L, token, table.concat(r, '|'))
  -- A key that only stands for the name keeps the name.
  if string.sub(L, -#NAME) ~= NAME then redis.call('HSET', L, 'name', NAME) end
end

