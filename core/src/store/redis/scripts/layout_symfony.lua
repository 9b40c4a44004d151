-- A sorted set: each holder's token by the end of its lease, and `__write__` while the lock is exclusive.
-- Before symfony/lock 5.2 it was a text: somebody else's hold.
local function load()
  local kind = redis.call('TYPE', L).ok
  if kind == 'none' then return true end
  if kind == 'string' then
    stood = true
    keep(redis.call('GETRANGE', L, 0, 63), 'x', ends_with_key())
    return true
  end
  local all = redis.call('ZCARD', L)
  if all > 20000 then return false end
  stood = true
  local live = redis.call('ZRANGEBYSCORE', L, '(' .. whole(now), '+inf', 'WITHSCORES')
  changed = #live < all * 2
  local writes
  for i = 1, #live, 2 do writes = writes or live[i] == '__write__' and live[i + 1] end
  for i = 1, #live, 2 do
    if live[i] ~= '__write__' then keep(live[i], writes and 'x' or 's', tonumber(live[i + 1])) end
  end
  if writes and count == 0 then keep('__write__', 'x', tonumber(writes)) end
  return true
end

local function save()
  if not changed then return end
  changed = false
  if stood then redis.call('DEL', L) end
  stood = count > 0
  local last, writes = 0, false
  for token, r in pairs(held) do
    redis.call('ZADD', L, r[UNTIL], token)
    last, writes = math.max(last, tonumber(r[UNTIL])), writes or r[MODE] == 'x'
  end
  if writes then redis.call('ZADD', L, whole(last), '__write__') end
  if last > 0 then redis.call('PEXPIREAT', L, whole(last)) end
  note()
end

