-- A counter that expires with its window.
-- KEYS[1] the counter; ARGV requests, window in ms, unused, needed, wanted
-- Admits as many as are needed, and up to wanted ones ahead of time, at most half of what is left then.
-- Returns admitted, remaining requests, ms until the window ends or, when none or too few were, until the next request.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local needed, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local count = tonumber(redis.call('GET', KEYS[1]) or 0)
local left = redis.call('PTTL', KEYS[1])

local free = math.max(limit - count, 0)
local admitted = math.min(needed, free)
admitted = admitted + math.min(wanted - needed, math.ceil((free - admitted) / 2))
if admitted > 0 then
    redis.call('INCRBY', KEYS[1], admitted)
end
-- Negative: the window begins now, or its key lost the expiry and would lock the client out for good. More than a window:
-- the clock was set back, or a failover led to a server that is behind.
if left < 0 or left > window then
    redis.call('PEXPIRE', KEYS[1], window)
    left = window
end
if admitted > 0 and admitted >= needed then
    return {admitted, free - admitted, left}
end
-- Redis drops a key in the millisecond after the one in which it expires.
return {admitted, 0, left + 1}
