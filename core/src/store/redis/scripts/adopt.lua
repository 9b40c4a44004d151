-- ARGV: layout, name, token, heir, ttl, who. Answers the fencing token, or false.
-- A replay finds the heir in place.
local heir = held[ARGV[4]]
if heir then return heir[5] end
local mine = held[ARGV[3]]
if not mine then return false end
drop(ARGV[3])
mine[9] = ARGV[6]
renew(mine, ARGV[4], tonumber(ARGV[5]))
settle()
return mine[5]
