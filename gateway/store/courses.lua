-- Replaces what a peer reported about a learner. Answers 1.
-- KEYS: 1 learner
-- ARGV: 1 peer, 2 report or '' for none, 3 life (ms)
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
