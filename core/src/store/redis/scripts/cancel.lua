-- ARGV: layout, name, token, ttl. Leaves the queue; answers the fencing token if it had been granted.
local token = ARGV[3]
leave(token)
local mine = held[token]
if mine then renew(mine, token, tonumber(ARGV[4])) end
pcall(function()
  advance(nil)
  settle()
end)
return mine and mine[5] or false
