-- Forgets a visit, with its session if that is ours, and who is not here any longer
-- is not busy.
-- KEYS: 1 the learner's visits, 2 the session, 3 who is busy, 4 the session at an
--       application
-- ARGV: 1 hash of the session, 2 home and learner
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[4])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[3], ARGV[2])
end
return 1
