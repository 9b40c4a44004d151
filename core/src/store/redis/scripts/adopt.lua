-- ARGV: name, token, heir, ttl, who, `again`. Answers the fencing token, or false.
-- What may be sent again may find the heir in place.
local heir = held[ARGV[3]]
if heir and ARGV[6] == 'again' then return tonumber(heir[FENCE]) or 0 end
local mine = held[ARGV[2]]
if not mine then return false end
drop(ARGV[2])
mine[TOKEN], mine[WHO] = ARGV[3], ARGV[5]
renew(mine, tonumber(ARGV[4]))
save()
return tonumber(mine[FENCE])
