-- ARGV: name. Answers {now, number of waiters, record, record, …}.
local answer = {whole(now), redis.call('ZCARD', Q)}
for _, r in pairs(held) do answer[#answer + 1] = table.concat(r, '|') end
return answer
