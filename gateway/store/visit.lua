-- Answers home and learner of a visit, and its record.
-- KEYS: 1 the session, 2 the same at an application
-- ARGV: 1 hash of the session, 2 prefix of learners' visits, 3 now (µs)
local who = redis.call('GET', KEYS[1])
local record = who and redis.call('HGET', ARGV[2] .. who, ARGV[1])
record = record and standing(record, KEYS[2], tonumber(ARGV[3]))
if not record then
  return {}
end
return { who, record }
