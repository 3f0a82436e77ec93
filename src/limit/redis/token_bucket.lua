-- The token bucket seen from the other side: what has been taken and not yet refilled. One request weighs `window`,
-- and `requests` are refilled each microsecond, so that every number is an integer and nothing drifts.
-- KEYS[1] "taken at"; ARGV requests, window in ms, burst
-- Returns admitted (0 or 1), remaining requests, us until the bucket is full or, when denied, until the next request.
local requests, window, burst = tonumber(ARGV[1]), ARGV[2] * 1000, tonumber(ARGV[3])
local capacity = burst * window
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local taken = 0

local stored = redis.call('GET', KEYS[1])
if stored then
    local t, at = string.match(stored, '^(%d+) (%d+)$')
    -- Ahead of the clock after a failover to a server that is behind: nothing is refilled until it has caught up.
    at = tonumber(at)
    taken = math.max(t - math.max(now - at, 0) * requests, 0)
    now = math.max(now, at)
end

taken = taken + window
if taken > capacity then
    return {0, 0, math.ceil((taken - capacity) / requests)}
end
local full = math.ceil(taken / requests)
redis.call('SET', KEYS[1], string.format('%.0f %.0f', taken, now), 'PX', math.ceil(full / 1000) + 1)
return {1, math.floor((capacity - taken) / window), full}
