-- Renews visits whose sessions are in use. What is none is left alone, and so is the
-- time of sessions that are ours.
-- KEYS: 1 who is busy, then the sessions
-- ARGV: 1 now (µs), 2 when the visits end from now on (µs), 3 their life (ms),
--       4 how long it is kept who is busy (ms), 5 prefix of learners' visits,
--       then the hashes of the sessions
local now = tonumber(ARGV[1])
for i = 2, #KEYS do
  local who, hash = redis.call('GET', KEYS[i]), ARGV[i + 4]
  local visits = who and ARGV[5] .. who
  local record = who and redis.call('HGET', visits, hash)
  local started, expires, rest = string.match(record or '', '^(%d+) (%d+) (.*)$')
  if started and tonumber(expires) > now then
    if not ours(record) then
      redis.call('HSET', visits, hash, table.concat({ started, ARGV[2], rest }, ' '))
      redis.call('PEXPIRE', visits, ARGV[3])
      redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
    redis.call('ZADD', KEYS[1], ARGV[1], who)
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - tonumber(ARGV[4]) * 1000))
return 1
