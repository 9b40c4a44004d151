-- ARGV: name, token, mode, block. Answers {1, fence, ms left}, {0, ms until a lease ends}, or {-1}.
local mode = ARGV[3]
local mine = held[ARGV[2]]
if not mine then return {-1} end
if mode == 'x' and count > 1 then return {0, until_free()} end
if mode == 'x' then mine[FENCE] = select(2, fence(ARGV[4])) end
mine[MODE] = mode
put(mine)
save()
if mode == 's' then hand_on() end
return {1, tonumber(mine[FENCE]), tonumber(mine[UNTIL]) - now}
