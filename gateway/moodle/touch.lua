-- Notes a use of a session and prolongs its life, if it is still as it was read.
-- Answers 1 if so, else 0.
-- KEYS: 1 session
-- ARGV: 1 userid and 2 timemodified as they were read, 3 timemodified from now
--       on, 4 life (seconds)
local was = redis.call('HMGET', KEYS[1], 'userid', 'timemodified')
if was[1] ~= ARGV[1] or was[2] ~= ARGV[2] then
  return 0
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[1], 'timemodified', ARGV[3])
return 1
