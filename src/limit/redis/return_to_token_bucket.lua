-- Gives back requests that were admitted ahead of time and not made.
-- KEYS[1] "taken at", see the bucket; ARGV requests, unused, window in ms
-- Returns how many it took.
local unused, window = tonumber(ARGV[1]), ARGV[3] * 1000
local taken, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if not taken then
    return 0
end
local left = math.max(redis.call('PTTL', KEYS[1]), 1)
redis.call('SET', KEYS[1], string.format('%.0f %.0f', math.max(taken - unused * window, 0), at), 'PX', left)
return unused
