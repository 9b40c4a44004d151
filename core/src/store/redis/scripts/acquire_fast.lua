-- Nobody holds the lock and nobody waits: granted without the machinery of the queue. The record says
-- nothing of its time: it ends with its key. (A long name would have to stand beside it.)
if #ARGV[1] <= 512 and redis.call('EXISTS', L, W) == 0 then
  local first, digits = fence(ARGV[4])
  redis.call('SET', L, ARGV[2] .. digits .. '|' .. ARGV[3] .. '|||0|' .. ARGV[5], 'PX', ARGV[3])
  return first
end
