-- ARGV: layout, name. Answers {now, number of waiters, token, record, token, record, …}.
local answer = {string.format('%.0f', now), redis.call('ZCARD', Q)}
for token, r in pairs(held) do
  answer[#answer + 1] = token
  answer[#answer + 1] = table.concat(r, '|')
end
return answer
