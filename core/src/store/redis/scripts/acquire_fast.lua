-- Nobody holds the lock and nobody waits: granted without the machinery of the queue.
if redis.call('EXISTS', L, Q) == 0 then
  local r = record(tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], fence(tonumber(ARGV[8])), ARGV[9], false)
  write(ARGV[3], r)
  redis.call('PEXPIRE', L, ARGV[4])
  return {1, r[5]}
end
