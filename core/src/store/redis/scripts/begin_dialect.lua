-- The beginning of a script for a peer's format. KEYS: the peer's lock, the queue and the waiters as in
-- `begin.lua`, the lock's fencing counter, our notes on our holds (hash: token -> fence|ttl|since|offered|who),
-- and what the peer has beside its lock. ARGV[1] is the name.
local L, Q, W, F, I = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- As in `begin.lua`; but a counter of each lock must not stay for ever, and a day after its last use the clock
-- alone is ahead of it.
local function fence(block)
  local least = 0
  if #block > 10 then block, least = string.match(block, '^(%d+)@(%d+)$') end
  local clock = redis.call('TIME')
  local last = math.max(tonumber(redis.call('GET', F) or 0), clock[1] * 1000000 + clock[2]) + block
  last = math.max(last, tonumber(least))
  redis.call('SET', F, string.format('%.0f', last), 'PX', 86400000)
  local first = last - block + 1
  return first, string.format('%.0f', first)
end

local function note_of(token)
  return {string.match(redis.call('HGET', I, token) or '', '^(%d+)|(%d*)|(%d*)|([01])|(.*)$')}
end

