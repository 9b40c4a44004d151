-- One holder's token, as SET with NX and PX writes it.
local function load()
  if redis.call('TYPE', L).ok == 'none' then return true end
  if redis.call('STRLEN', L) > 4096 then return false end
  stood = true
  keep(redis.call('GET', L), 'x', ends_with_key())
  return true
end

local function save()
  if not changed then return end
  changed = false
  if count == 0 then
    if stood then
      redis.call('DEL', L)
      let_go()
    end
    stood = false
  end
  for token, r in pairs(held) do
    stood = true
    if tonumber(r[UNTIL]) < FOREVER then
      redis.call('SET', L, token, 'PX', whole(r[UNTIL] - now))
    else
      redis.call('SET', L, token)
    end
  end
  note()
end

