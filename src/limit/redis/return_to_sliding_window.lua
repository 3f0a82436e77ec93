-- Gives back requests that were admitted ahead of time and not made, if their window is still in view.
-- KEYS[1] "index previous current"; ARGV requests, the index of their window
-- Returns how many it took.
local unused, admitted_in = tonumber(ARGV[1]), tonumber(ARGV[2])
local index, previous, current = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) (%d+)$')
index, previous, current = tonumber(index), tonumber(previous), tonumber(current)
if index == admitted_in and current >= unused then
    current = current - unused
elseif index == admitted_in + 1 and previous >= unused then
    previous = previous - unused
else
    return 0
end
local left = math.max(redis.call('PTTL', KEYS[1]), 1)
redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', index, previous, current), 'PX', left)
return unused
