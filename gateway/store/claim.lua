-- Takes a jump out of a browser's session and mints its token. Answers 1 or,
-- if there is no such jump, 0.
-- KEYS: 1 session, 2 token
-- ARGV: 1 now (µs), 2 field of the jump, 3 login, 4 token record, 5 its life (ms)
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 1 -- tokens are never made twice: the answer to our first try was lost
end
local jump = redis.call('HGET', KEYS[1], ARGV[2])
if not jump then
  return 0
end
if tonumber(string.match(jump, '^%d+') or 0) <= tonumber(ARGV[1]) then
  redis.call('HDEL', KEYS[1], ARGV[2])
  return 0
end
-- In this order: a hash without fields would vanish, and its lifetime with it.
redis.call('HSET', KEYS[1], 'login', ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
return 1
