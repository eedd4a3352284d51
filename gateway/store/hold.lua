-- Holds a session. One that is to end is held no longer for it, and not anew.
-- Answers 1, or 0 if it is not held.
-- KEYS: 1 whether the session is held, and to end, 2 the session
-- ARGV: 1 how long it is held (ms), 2 hash of the session, 3 prefix of learners' visits
local who = redis.call('GET', KEYS[2])
local record = who and redis.call('HGET', ARGV[3] .. who, ARGV[2])
if record and string.sub(record, -4) == ' off' and redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'holds', 1)
if redis.call('HEXISTS', KEYS[1], 'off') == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
