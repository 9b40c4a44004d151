-- ARGV: layout, name, token, ttl, mode, take, of, block, who, fair, channel ('' only tries), queue life
-- Answers {1, fence} or {0, ms until a lease ends or -1} or {-1, the others' number of permits}.
local token, ttl, mode, take, of = ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local mine = held[token]
if mine then
  renew(mine, token, ttl)
  leave(token)
  settle()
  return {1, mine[5]}
end
if mode == 'p' then
  for _, r in pairs(held) do
    if r[2] == 'p' and tonumber(r[4]) ~= of then return {-1, r[4]} end
  end
end
local free
if ARGV[10] == '1' then
  local head = advance(token)
  free = fits(mode, take, of) and (not head or head == token)
else
  free = fits(mode, take, of)
end
if free then
  -- The grant is the first write, so that a server without memory refuses all of it.
  local r = grant(token, ttl, mode, take, of, tonumber(ARGV[8]), ARGV[9], false)
  leave(token)
  settle()
  return {1, r[5]}
end
settle()
if ARGV[11] ~= '' then
  local life = tonumber(ARGV[12])
  if not redis.call('ZSCORE', Q, token) then
    local last = redis.call('ZRANGE', Q, -1, -1, 'WITHSCORES')
    redis.call('ZADD', Q, (tonumber(last[2]) or 0) + 1, token)
  end
  redis.call('HSET', W, token, table.concat({string.format('%.0f', now + life), ttl, mode, take, of, ARGV[8], '-', ARGV[11], ARGV[9]}, '|'))
  redis.call('PEXPIRE', Q, life * 2)
  redis.call('PEXPIRE', W, life * 2)
end
return {0, until_free()}
