-- ARGV: layout, name, token, ttl. Answers the fencing token, or false. Also confirms an offer.
local token = ARGV[3]
local mine = held[token]
if not mine then return false end
renew(mine, token, tonumber(ARGV[4]))
leave(token)
settle()
return mine[5]
