-- ARGV: name, token, ttl. Answers the fencing token, or false. Also confirms an offer.
local mine = held[ARGV[2]]
if not mine then return false end
renew(mine, tonumber(ARGV[3]))
leave(ARGV[2])
save()
return tonumber(mine[FENCE])
