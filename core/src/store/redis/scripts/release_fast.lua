-- Ours is the only hold, it stands, and nobody waits: let go without the machinery of the queue.
if redis.call('EXISTS', Q) == 0 then
  local raw = redis.call('HGETALL', L)
  if raw[1] == ARGV[3] and (#raw == 2 or #raw == 4 and raw[3] == 'name') then
    local ends = string.match(raw[2], '^[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(%d+)|')
    if ends and tonumber(ends) > now then
      redis.call('DEL', L)
      return 1
    end
  end
end
