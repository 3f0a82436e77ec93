-- The counts of two adjacent windows, aligned to the Unix epoch of the server's clock.
-- KEYS[1] "index previous current"; ARGV requests, window in ms
-- Returns admitted (0 or 1), the previous and the current count, ms since the current window began.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index = math.floor(now / window)
local previous, current = 0, 0

local stored = redis.call('GET', KEYS[1])
if stored then
    local i, p, c = string.match(stored, '^(%d+) (%d+) (%d+)$')
    i, p, c = tonumber(i), tonumber(p), tonumber(c)
    if i >= index then
        -- Ahead of the clock after a failover to a server that is behind: keep its place.
        index, previous, current = i, p, c
    elseif i == index - 1 then
        previous = c
    end
end

local offset = math.max(now - index * window, 0)
if previous * (window - offset) + (current + 1) * window > limit * window then
    return {0, previous, current, offset}
end
current = current + 1
-- Both counts are out of view two windows after the current one began.
local expiry = (index + 2) * window - now
redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', index, previous, current), 'PX', expiry)
return {1, previous, current, offset}
