-- Notes that a peer has ended a session, unless another one has begun there since.
-- KEYS: 1 the learner
-- ARGV: 1 field, 2 when the session began (µs)
local record = redis.call('HGET', KEYS[1], ARGV[1])
local started, expires, ended, rest = string.match(record or '', '^(%d+) (%d+) (%d+) %S+ (.*)$')
if started ~= ARGV[2] or ended == '0' then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], table.concat({ started, expires, ended, 'done', rest }, ' '))
return 1
