-- Who holds, and who may.
-- A hold whose note is lost gets a new token.
local function put(r)
  if r[FENCE] == '' then r[FENCE] = select(2, fence('1')) end
  if not held[r[TOKEN]] then count = count + 1 end
  held[r[TOKEN]] = r
  changed = true
end

local function drop(token)
  held[token] = nil
  count = count - 1
  changed = true
end

local function fits(mode, take, of)
  if count == 0 then return true end
  if mode == 'x' then return false end
  local taken = 0
  for _, r in pairs(held) do
    if r[MODE] ~= mode or mode == 'p' and tonumber(r[OF]) ~= of then return false end
    taken = taken + tonumber(r[TAKE])
  end
  return mode == 's' or taken + take <= of
end

local function grant(token, layout, mode, take, of, block, ttl, offered, who)
  local first, digits = fence(block)
  put({token, layout, mode, take, of, digits, whole(ttl), whole(now), whole(now + ttl), offered, who})
  return first
end

local function renew(r, ttl)
  r[UNTIL], r[OFFERED] = whole(math.max(tonumber(r[UNTIL]), now + ttl)), '0'
  put(r)
end

-- How long until the first lease ends, -1 if nobody holds or no lease ends.
local function until_free()
  local first
  for _, r in pairs(held) do
    local ends = tonumber(r[UNTIL])
    if not first or ends < first then first = ends end
  end
  return first and first < FOREVER and (first - now) or -1
end

if not load() then return redis.error_reply('WRONGTYPE a text that is no lock') end
