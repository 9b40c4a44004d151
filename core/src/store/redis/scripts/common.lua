-- Shared by every script, after what a verb does at once (`*_fast.lua`). A record is
-- token|layout|mode|take|of|fence|ttl|since|until|offered|who; times are ms of this server's clock.
-- Without `since` and `until` it ends with its key, and began `ttl` before.
local TOKEN, LAYOUT, MODE, TAKE, OF, FENCE, TTL, SINCE, UNTIL, OFFERED, WHO = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local CLAIM, NAME = 1000, ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function whole(number) return string.format('%.0f', number) end

local held, count, stood, changed = {}, 0, false, false
local function load()
  local text = redis.call('GET', L)
  if not text then return true end
  stood = true
  -- After an empty line stands a name that the key does not show.
  local names = string.find(text, '\n\n', 1, true)
  for line in string.gmatch(names and string.sub(text, 1, names - 1) or text, '[^\n]+') do
    local r = {string.match(line, '^(%x+)|(%d+)|([xsp])|(%d+)|(%d+)|(%d+)|(%d+)|(%d*)|(%d*)|([01])|(.*)$')}
    if not r[TOKEN] then return false end
    if r[UNTIL] == '' then
      local ends = now + redis.call('PTTL', L)
      r[SINCE], r[UNTIL] = whole(ends - r[TTL]), whole(ends)
    end
    if tonumber(r[UNTIL]) > now then
      held[r[TOKEN]] = r
      count = count + 1
    else
      changed = true
    end
  end
  return true
end

-- The lock lives until its last holder's lease ends.
local function save()
  if not changed then return end
  changed = false
  if count == 0 then
    if stood then redis.call('DEL', L) end
    stood = false
    return
  end
  local lines, last = {}, 0
  for _, r in pairs(held) do
    lines[#lines + 1] = table.concat(r, '|')
    last = math.max(last, tonumber(r[UNTIL]))
  end
  if string.sub(L, -#NAME) ~= NAME then lines[#lines + 1] = '\n' .. NAME end
  stood = true
  redis.call('SET', L, table.concat(lines, '\n'), 'PX', whole(last - now))
end

local function put(r)
  if not held[r[TOKEN]] then count = count + 1 end
  held[r[TOKEN]] = r
  changed = true
end

local function drop(token)
  held[token] = nil
  count = count - 1
  changed = true
end

local function leave(token)
  if redis.call('HDEL', W, token) == 1 then redis.call('ZREM', Q, token) end
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

-- deadline, channel, ttl, mode, take, of, block, layout, who
local function order(raw)
  local w = {string.match(raw or '', '^(%d+)|([^|]*)|(%d+)|(%a)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$')}
  return w[1] and w
end

-- Hands the lock to those at the head of the queue, as far as it goes round, and stops at `stop`.
-- Whoever does not hear the publish is gone.
local function advance(stop)
  while true do
    local head = redis.call('ZRANGE', Q, 0, 0)[1]
    if not head then return end
    local w = order(redis.call('HGET', W, head))
    if not w or tonumber(w[1]) < now then
      redis.call('ZREM', Q, head)
      redis.call('HDEL', W, head)
    else
      local take, of = tonumber(w[5]), tonumber(w[6])
      if head == stop or not fits(w[4], take, of) then return head end
      leave(head)
      if redis.call('PUBLISH', w[2], head .. NAME) > 0 then
        grant(head, w[8], w[4], w[5], w[6], w[7], math.min(tonumber(w[3]), CLAIM), '1', w[9])
      end
    end
  end
end

-- Tells those who only watch (mode `w`) that the lock is free, once.
local function tell()
  local all = redis.call('HGETALL', W)
  for i = 1, #all, 2 do
    local w = order(all[i + 1])
    if w and w[4] == 'w' then
      redis.call('HDEL', W, all[i])
      redis.call('PUBLISH', w[2], all[i] .. NAME)
    end
  end
end

-- After a hold or a place in the queue has gone. No error, a channel that rights do not allow for instance,
-- must make that fail: the lock is free then, and the waiters' poll finds it.
local function hand_on()
  save()
  pcall(function()
    advance(nil)
    save()
    if count == 0 then tell() end
  end)
end

-- How long until the first lease ends, -1 if nobody holds.
local function until_free()
  local first
  for _, r in pairs(held) do
    local ends = tonumber(r[UNTIL])
    if not first or ends < first then first = ends end
  end
  return first and (first - now) or -1
end

if not load() then return redis.error_reply('WRONGTYPE a text that is no lock') end
