-- ARGV: name, token. Answers 1 if it was held. Also leaves the queue, or stops watching.
local token = ARGV[2]
leave(token)
local ours = held[token]
if ours then drop(token) end
hand_on()
return ours and 1 or 0
