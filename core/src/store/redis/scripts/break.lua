-- ARGV: name. Answers how many holds were broken.
local broken = count
held, count, changed = {}, 0, stood
hand_on()
return broken
