-- Shared by every script, after what a verb does at once (`*_fast.lua`). A record is
-- token|layout|mode|take|of|fence|ttl|since|until|offered|who; times are ms of this server's clock.
-- Without `since` and `until` it ends with its key, and began `ttl` before.
local TOKEN, LAYOUT, MODE, TAKE, OF, FENCE, TTL, SINCE, UNTIL, OFFERED, WHO = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local CLAIM, NAME = 1000, ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function whole(number) return string.format('%.0f', number) end

-- The end of a hold without a lease; a holder that is none of ours.
local FOREVER = 9007199254740991
local held, count, stood, changed, foreign = {}, 0, false, false, false
