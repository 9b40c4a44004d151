-- ARGV: name, token|layout|mode|take|of|, ttl, block, who, fair, and of one who waits: channel, queue life.
-- Answers the fencing token, or {0, ms until a lease ends or -1, how many wait before, whether a holder is
-- none of ours}, or {-1, the others' number of permits}.
local token, layout, mode, take, of = string.match(ARGV[2], '^(%x+)|(%d+)|(%a)|(%d+)|(%d+)|$')
local ttl, block, who, channel = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[7]
local mine = held[token]
if mine then
  renew(mine, ttl)
  leave(token)
  save()
  return tonumber(mine[FENCE])
end
local permits = tonumber(of)
if mode == 'p' then
  for _, r in pairs(held) do
    if r[MODE] == 'p' and tonumber(r[OF]) ~= permits then return {-1, r[OF]} end
  end
end
local head = ARGV[6] == '1' and advance(token)
if fits(mode, tonumber(take), permits) and (not head or head == token) then
  -- The grant is the first write, so that a server without memory refuses all of it.
  local first = grant(token, layout, mode, take, of, block, ttl, '0', who)
  leave(token)
  save()
  return first
end
save()
local before
if channel then before = queue_up(token, tonumber(ARGV[8]), channel, ARGV[3], mode, take, of, block, layout, who) end
return {0, until_free(), before or -1, foreign and 1 or 0}
