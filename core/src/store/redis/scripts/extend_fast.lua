-- The confirmation of an offer, the lock's only hold: from here on it ends with its key.
local text = redis.call('GET', L)
if text and string.sub(text, 1, 32) == ARGV[2] and not string.find(text, '\n', 33, true) then
  local head, first, who = string.match(text, '^(%x+|%d+|%a|%d+|%d+|)(%d+)|%d+|%d*|%d*|1(|.*)$')
  if head and redis.call('PTTL', L) <= tonumber(ARGV[3]) then
    redis.call('SET', L, head .. first .. '|' .. ARGV[3] .. '|||0' .. who, 'PX', ARGV[3])
    if redis.call('HDEL', W, ARGV[2]) == 1 then redis.call('ZREM', Q, ARGV[2]) end
    return tonumber(first)
  end
end
