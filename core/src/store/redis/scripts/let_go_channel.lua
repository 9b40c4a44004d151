-- Redisson's waiters listen to a channel; those of a Cluster to a sharded one.
local function let_go()
  local channel = 'redisson_lock__channel:' .. (string.find(L, '{', 1, true) and L or '{' .. L .. '}')
  pcall(redis.call, BROADCAST and 'SPUBLISH' or 'PUBLISH', channel, '0')
end

