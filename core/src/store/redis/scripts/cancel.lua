-- ARGV: name, token, ttl. Leaves the queue; answers the fencing token if it had been granted.
leave(ARGV[2])
local mine = held[ARGV[2]]
if mine then renew(mine, tonumber(ARGV[3])) end
hand_on()
return mine and tonumber(mine[FENCE])
