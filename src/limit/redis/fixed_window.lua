-- A counter that expires with its window.
-- KEYS[1] the counter; ARGV requests, window in ms
-- Returns admitted (0 or 1), remaining requests, ms until the window ends or, when denied, until the next request.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local count = tonumber(redis.call('GET', KEYS[1]) or 0)
local left = redis.call('PTTL', KEYS[1])

local admitted = count < limit
if admitted then
    count = redis.call('INCR', KEYS[1])
end
-- Negative: the window begins now, or its key lost the expiry and would lock the client out for good.
if left < 0 then
    redis.call('PEXPIRE', KEYS[1], window)
    left = window
end
if admitted then
    return {1, limit - count, left}
end
-- Redis drops a key in the millisecond after the one in which it expires.
return {0, 0, left + 1}
