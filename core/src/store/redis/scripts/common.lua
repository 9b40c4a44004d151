-- Shared by every script, after what a verb does at once (`*_fast.lua`).
local function split(text)
  local parts, rest = {}, text
  for i = 1, 8 do
    local at = string.find(rest, '|', 1, true)
    parts[i] = string.sub(rest, 1, at - 1)
    rest = string.sub(rest, at + 1)
  end
  parts[9] = rest
  return parts
end

local held, count = {}, 0
local function load()
  local raw = redis.call('HGETALL', L)
  for i = 1, #raw, 2 do
    if raw[i] ~= 'name' then
      local r = split(raw[i + 1])
      if tonumber(r[7]) > now then
        held[raw[i]] = r
        count = count + 1
      else
        redis.call('HDEL', L, raw[i])
      end
    end
  end
  if count == 0 and #raw > 0 then redis.call('DEL', L) end
end

-- The lock lives until its last holder's lease ends.
local function settle()
  local last = 0
  for _, r in pairs(held) do
    local ends = tonumber(r[7])
    if ends > last then last = ends end
  end
  if last > now then redis.call('PEXPIRE', L, last - now) end
end

local function put(token, r)
  if not held[token] then count = count + 1 end
  held[token] = r
  write(token, r)
end

local function drop(token)
  held[token] = nil
  count = count - 1
  if count == 0 then redis.call('DEL', L) else redis.call('HDEL', L, token) end
end

local function leave(token)
  if redis.call('ZREM', Q, token) == 1 then redis.call('HDEL', W, token) end
end

local function fits(mode, take, of)
  if count == 0 then return true end
  if mode == 'x' then return false end
  local taken = 0
  for _, r in pairs(held) do
    if r[2] ~= mode or mode == 'p' and tonumber(r[4]) ~= of then return false end
    taken = taken + tonumber(r[3])
  end
  return mode == 's' or taken + take <= of
end

local function grant(token, ttl, mode, take, of, block, who, offered)
  put(token, record(offered and math.min(ttl, CLAIM) or ttl, mode, take, of, fence(block), who, offered))
  return held[token]
end

local function renew(r, token, ttl)
  local ends = math.max(tonumber(r[7]), now + ttl)
  r[7], r[8] = string.format('%.0f', ends), '0'
  put(token, r)
end

-- Hands the lock to those at the head of the queue, as far as it goes round, and stops at `stop`.
-- Whoever does not hear the publish is gone.
local function advance(stop)
  while true do
    local head = redis.call('ZRANGE', Q, 0, 0)[1]
    if not head then return end
    local raw = redis.call('HGET', W, head)
    -- deadline|ttl|mode|take|of|block|-|channel|who
    local w = raw and split(raw)
    if not w or tonumber(w[1]) < now then
      leave(head)
    else
      local take, of = tonumber(w[4]), tonumber(w[5])
      if head == stop or not fits(w[3], take, of) then return head end
      leave(head)
      if redis.call('PUBLISH', w[8], head .. NAME) > 0 then
        grant(head, tonumber(w[2]), w[3], take, of, tonumber(w[6]), w[9], true)
      end
    end
  end
end

local function until_free()
  local first
  for _, r in pairs(held) do
    local ends = tonumber(r[7])
    if not first or ends < first then first = ends end
  end
  return first and (first - now) or -1
end

load()
