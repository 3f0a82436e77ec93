-- The token bucket seen from the other side: what has been taken and not yet refilled. One request weighs `window`,
-- and `requests` are refilled each microsecond, so that every number is an integer and nothing drifts.
-- KEYS[1] "taken at"; ARGV requests, window in ms, burst, needed, wanted
-- Admits as many as are needed, and up to wanted ones ahead of time, at most half of what is left then.
-- Returns admitted, remaining requests, us until the bucket is full or, when none or too few were, until the next request.
local requests, window, burst = tonumber(ARGV[1]), ARGV[2] * 1000, tonumber(ARGV[3])
local needed, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local capacity = burst * window
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local taken = 0
local is_ahead = false

local stored = redis.call('GET', KEYS[1])
if stored then
    local t, at = string.match(stored, '^(%d+) (%d+)$')
    -- Ahead: the clock was set back, or a failover led to a server that is behind. It goes on from here, noted below.
    is_ahead = tonumber(at) > now
    taken = math.max(t - math.max(now - at, 0) * requests, 0)
end

local free = math.max(math.floor((capacity - taken) / window), 0)
local admitted = math.min(needed, free)
admitted = admitted + math.min(wanted - needed, math.ceil((free - admitted) / 2))
taken = taken + admitted * window
local full = math.ceil(taken / requests)
if admitted > 0 or is_ahead then
    redis.call('SET', KEYS[1], string.format('%.0f %.0f', taken, now), 'PX', math.ceil(full / 1000) + 1)
end
if admitted > 0 and admitted >= needed then
    return {admitted, free - admitted, full}
end
return {admitted, 0, math.max(math.ceil((taken + window - capacity) / requests), 0)}
