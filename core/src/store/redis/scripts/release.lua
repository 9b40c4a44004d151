-- ARGV: layout, name, token. Answers 1 if it was held. Also leaves the queue.
local token = ARGV[3]
leave(token)
local ours = held[token]
if ours then drop(token) end
-- Out of memory must not make a release fail: the lock is free then, and the waiters' poll finds it.
pcall(function()
  advance(nil)
  settle()
end)
return ours and 1 or 0
