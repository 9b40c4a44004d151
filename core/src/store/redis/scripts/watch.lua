-- ARGV: name, token, channel, life. Answers false if nobody holds, else the ms until the last lease ends,
-- and tells the channel once when the lock is free.
advance(nil)
save()
local last
for _, r in pairs(held) do last = math.max(last or 0, r[UNTIL] - now) end
if not last then
  unwatch(ARGV[2])
  return false
end
watch(ARGV[2], ARGV[3], tonumber(ARGV[4]))
return last
