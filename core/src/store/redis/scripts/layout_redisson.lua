-- A hash: `UUID:THREAD` -> how often it is held. It ends with its key.
local UUID = '^(%x%x%x%x%x%x%x%x)-(%x%x%x%x)-(%x%x%x%x)-(%x%x%x%x)-(%x%x%x%x%x%x%x%x%x%x%x%x):1$'

local function load()
  if redis.call('TYPE', L).ok == 'none' then return true end
  if redis.call('HLEN', L) > 20000 then return false end
  stood = true
  local fields = redis.call('HKEYS', L)
  local ends = ends_with_key()
  for _, field in ipairs(fields) do
    -- The mode of their lock for readers and writers stands among the holders.
    if field ~= 'mode' or #fields == 1 then
      local token = table.concat({string.match(field, UUID)})
      keep(token ~= '' and token or field, 'x', ends)
    end
  end
  return true
end

local function save()
  if not changed then return end
  changed = false
  if stood then redis.call('DEL', L) end
  if stood and count == 0 then let_go() end
  stood = count > 0
  for token, r in pairs(held) do
    local field = string.gsub(token, '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x%x%x%x%x%x%x%x%x)$', '%1-%2-%3-%4-%5:1')
    redis.call('HSET', L, field, '1')
    if tonumber(r[UNTIL]) < FOREVER then redis.call('PEXPIRE', L, whole(r[UNTIL] - now)) end
  end
  note()
end

