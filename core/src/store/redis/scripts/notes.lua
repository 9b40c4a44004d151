-- What a peer's format and ours have in common.
local function keep(token, mode, ends)
  if ends <= now then
    changed = true
    return
  end
  local n = note_of(token)
  if not n[1] then foreign = true end
  held[token] = {token, '1', mode, '1', '1', n[1] or '', n[2] or '', n[3] or '', whole(ends), n[4] or '0', n[5] or ''}
  count = count + 1
end

-- Notes what the peer's format has no room for, for as long as the lock is held.
local function note()
  if not I then return end
  redis.call('DEL', I)
  local last = 0
  for token, r in pairs(held) do
    if r[FENCE] ~= '' then
      redis.call('HSET', I, token, table.concat({r[FENCE], r[TTL], r[SINCE], r[OFFERED], r[WHO]}, '|'))
      last = math.max(last, tonumber(r[UNTIL]))
    end
  end
  if last > 0 then redis.call('PEXPIRE', I, whole(math.min(last - now, 1e12))) end
end

local function ends_with_key()
  local left = redis.call('PTTL', L)
  if left == -1 then return FOREVER end
  return now + math.max(left, 1)
end

