-- ARGV: name. Answers {now, number of waiters or -1, record, record, …}.
local answer = {whole(now), waiting()}
for _, r in pairs(held) do
  -- A token of others may be anything.
  r[TOKEN] = string.gsub(string.sub(r[TOKEN], 1, 64), '[^%w+/=:_.-]', '.')
  answer[#answer + 1] = table.concat(r, '|')
end
return answer
