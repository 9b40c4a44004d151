-- ARGV: name, token, channel, life. Answers false if nobody holds, else the ms until the last lease ends,
-- and tells the channel once when the lock is free.
advance(nil)
save()
local last
for _, r in pairs(held) do last = math.max(last or 0, r[UNTIL] - now) end
if not last then
  redis.call('HDEL', W, ARGV[2])
  return false
end
redis.call('HSET', W, ARGV[2], whole(now) .. '|' .. ARGV[3] .. '|0|w|0|0|0|0|')
redis.call('PEXPIRE', W, math.max(redis.call('PTTL', W), tonumber(ARGV[4])))
return last
