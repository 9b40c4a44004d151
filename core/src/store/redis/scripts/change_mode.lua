-- ARGV: layout, name, token, mode, block. Answers {1, fence, ms left}, {0, ms until a lease ends}, or {-1}.
local token, mode = ARGV[3], ARGV[4]
local mine = held[token]
if not mine then return {-1} end
if mode == 'x' and count > 1 then return {0, until_free()} end
if mode == 'x' then mine[5] = fence(tonumber(ARGV[5])) end
mine[2] = mode
put(token, mine)
if mode == 's' then pcall(advance, nil) end
settle()
return {1, mine[5], tonumber(mine[7]) - now}
