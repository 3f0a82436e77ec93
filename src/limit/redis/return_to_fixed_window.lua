-- Gives back requests that were admitted ahead of time and not made, if their window has not ended.
-- KEYS[1] the counter; ARGV requests, ms in which their window ends at the latest, window in ms
-- Returns how many it took.
local unused, ends, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local count = tonumber(redis.call('GET', KEYS[1]) or 0)
-- A window that has just begun has far more left.
if count < unused or redis.call('PTTL', KEYS[1]) > ends + window / 2 then
    return 0
end
redis.call('DECRBY', KEYS[1], unused)
return unused
