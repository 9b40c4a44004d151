-- ARGV: layout, name. Answers how many holds were broken.
local broken = {}
for token in pairs(held) do broken[#broken + 1] = token end
for _, token in ipairs(broken) do drop(token) end
pcall(function()
  advance(nil)
  settle()
end)
return #broken
