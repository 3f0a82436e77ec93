-- The counts of two adjacent windows, aligned to the Unix epoch of the server's clock.
-- KEYS[1] "index previous current"; ARGV requests, window in ms, unused, needed, wanted
-- Admits as many as are needed, and up to wanted ones ahead of time, at most half of what is left then.
-- Returns admitted, the previous and the current count, ms since the current window began (negative: until it does), its
-- index.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local needed, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index = math.floor(now / window)
local previous, current = 0, 0
local is_far_ahead = false

local stored = redis.call('GET', KEYS[1])
if stored then
    local i, p, c = string.match(stored, '^(%d+) (%d+) (%d+)$')
    i, p, c = tonumber(i), tonumber(p), tonumber(c)
    if i > index + 1 then
        -- The clock was set back: as if it had all been now, and noted below, so that it goes on from here.
        previous, current, is_far_ahead = p, c, true
    elseif i >= index then
        -- A little ahead after a failover to a server that is behind: keep its place.
        index, previous, current = i, p, c
    elseif i == index - 1 then
        previous = c
    end
end

local offset = now - index * window
local in_view = window - math.max(offset, 0)
local free = math.max(math.floor((limit * window - previous * in_view - current * window) / window), 0)
local admitted = math.min(needed, free)
admitted = admitted + math.min(wanted - needed, math.ceil((free - admitted) / 2))
if admitted > 0 or is_far_ahead then
    current = current + admitted
    -- Both counts are out of view two windows after the current one began.
    local expiry = (index + 2) * window - now
    redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', index, previous, current), 'PX', expiry)
end
return {admitted, previous, current, offset, index}
