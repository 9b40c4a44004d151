-- Redisson's waiters listen to a channel; those of a Cluster to a sharded one.
local function let_go()
  local channel = 'redisson_lock__channel:' .. (string.find(L, '{', 1, true) and L or '{' .. L .. '}')
  -- A Cluster of before Redis 7 has none.
  if BROADCAST and pcall(redis.call, 'SPUBLISH', channel, '0') then return end
  pcall(redis.call, 'PUBLISH', channel, '0')
end

