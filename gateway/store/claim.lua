-- Takes a jump out of a browser's session and mints its token. Answers {1}; if
-- there is no such jump, {2}; if a limit refuses, {0, which, for how long (µs)},
-- and the jump stays where it is.
-- KEYS: 1 session, 2 token, then limits
-- ARGV: 1 now (µs), 2 field of the jump, 3 login, 4 token record, 5 its life (ms),
--       then what charge wants
if redis.call('EXISTS', KEYS[2]) == 1 then
  return { 1 } -- tokens are never made twice: the answer to our first try was lost
end
local jump = redis.call('HGET', KEYS[1], ARGV[2])
if not jump then
  return { 2 }
end
if tonumber(string.match(jump, '^%d+') or 0) <= tonumber(ARGV[1]) then
  redis.call('HDEL', KEYS[1], ARGV[2])
  return { 2 }
end
local which, wait = charge(tonumber(ARGV[1]), 3, 6)
if which > 0 then
  return { 0, which, wait }
end
-- In this order: a hash without fields would vanish, and its lifetime with it.
redis.call('HSET', KEYS[1], 'login', ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
return { 1 }
