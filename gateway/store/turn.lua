-- Takes or keeps the turn. Answers -1 if nothing is to be done, else when it was
-- done last (µs), or 0 if nobody knows.
-- KEYS: 1 whose turn it is, 2 when it was done last
-- ARGV: 1 name, 2 for how long the turn is kept (ms), 3 now (µs), 4 how often it
--       is done (µs), 5 how long it is remembered when (ms)
local whose = redis.call('GET', KEYS[1])
if whose and whose ~= ARGV[1] then
  return -1
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local last, now = tonumber(redis.call('GET', KEYS[2]) or 0), tonumber(ARGV[3])
if last <= now and now - last < tonumber(ARGV[4]) then
  return -1
end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[5])
return math.max(0, math.min(last, now))
