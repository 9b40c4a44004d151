-- The queue of those who wait.
local function leave(token)
  if redis.call('HDEL', W, token) == 1 then redis.call('ZREM', Q, token) end
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
      -- In a Cluster nobody counts those who hear; an offer to the dead lapses.
      if redis.call('PUBLISH', w[2], head .. NAME) > 0 or BROADCAST then
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
    local head = advance(nil)
    save()
    -- It is the head that watches a lock of others; whoever has just become that must know.
    local w = head and foreign and order(redis.call('HGET', W, head))
    if w then redis.call('PUBLISH', w[2], head .. NAME) end
    if count == 0 then tell() end
  end)
end

-- Puts the token in the queue; a refresh keeps its place. Answers how many stand before it.
local function queue_up(token, life, ...)
  -- The queue is read before and written after: a key of a foreign type leaves nothing half done.
  local queued = redis.call('ZSCORE', Q, token)
  redis.call('HSET', W, token, table.concat({whole(now + life), ...}, '|'))
  if not queued then
    local last = redis.call('ZRANGE', Q, -1, -1, 'WITHSCORES')
    redis.call('ZADD', Q, (tonumber(last[2]) or 0) + 1, token)
  end
  redis.call('PEXPIRE', Q, life * 2)
  redis.call('PEXPIRE', W, life * 2)
  return redis.call('ZRANK', Q, token)
end

local function watch(token, channel, life)
  -- Those who come anew clear those away who have not come back.
  if redis.call('HEXISTS', W, token) == 0 then
    local all = redis.call('HGETALL', W)
    for i = 1, #all, 2 do
      local w = order(all[i + 1])
      if w and w[4] == 'w' and tonumber(w[1]) < now then redis.call('HDEL', W, all[i]) end
    end
  end
  redis.call('HSET', W, token, whole(now + life) .. '|' .. channel .. '|0|w|0|0|0|0|')
  redis.call('PEXPIRE', W, math.max(redis.call('PTTL', W), life))
end

local function unwatch(token) redis.call('HDEL', W, token) end

local function waiting() return redis.call('ZCARD', Q) end

