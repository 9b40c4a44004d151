-- Runs a command unless a higher fencing token has been seen.
-- KEYS: the key that keeps the highest token, then every key of the command.
-- ARGV: the token, then the command and its arguments.
local token = ARGV[1]
if not string.match(token, '^[1-9]%d*$') then
  return redis.error_reply('ERR the fencing token is not a positive number')
end
local seen = redis.call('GET', KEYS[1])
-- As text: Lua's numbers end at 2^53.
if seen and (#seen > #token or (#seen == #token and seen > token)) then
  return redis.error_reply('STALE stale fencing token ' .. token .. ': ' .. seen .. ' has been seen')
end
if seen ~= token then
  redis.call('SET', KEYS[1], token)
end
return redis.call(unpack(ARGV, 2))
