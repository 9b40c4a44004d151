-- python-redis-lock's waiters block on a list.
local function let_go()
  local signal = KEYS[#KEYS]
  redis.call('DEL', signal)
  redis.call('LPUSH', signal, '1')
  redis.call('PEXPIRE', signal, 1000)
end

