-- For a server that has begun anew. KEYS: whose counters these are. ARGV: the server's life, the prefix. A counter
-- that is behind the clock may be behind tokens that were given before, and goes on from there.
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
local clock = redis.call('TIME')
local least = clock[1] * 1000000 + clock[2]
for bucket = 0, 1023 do
  local counter = ARGV[2] .. string.format('{b%04d}f', bucket)
  local last = tonumber(redis.pcall('GET', counter) or '')
  if last and last < least then redis.call('SET', counter, string.format('%.0f', least)) end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
