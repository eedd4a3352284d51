-- Renews visits whose sessions are in use. What is none is left alone, and what is
-- held, and the time of sessions that are ours. Answers home and learner, hash and
-- record of those that were to end, which live on no longer than they would.
-- KEYS: 1 who is busy, then the sessions
-- ARGV: 1 now (µs), 2 when the visits end from now on (µs), 3 their life (ms),
--       4 how long it is kept who is busy (ms), 5 prefix of learners' visits,
--       6 prefix of what is held, then the hashes of the sessions
local now, off = tonumber(ARGV[1]), {}
for i = 2, #KEYS do
  local who, hash = redis.call('GET', KEYS[i]), ARGV[i + 5]
  local visits = who and ARGV[5] .. who
  local record = who and redis.call('HGET', visits, hash)
  local started, expires, rest = string.match(record or '', '^(%d+) (%d+) (.*)$')
  local live = started and tonumber(expires) > now
  if live and string.sub(record, -4) == ' off' then
    if redis.call('EXISTS', ARGV[6] .. hash) == 0 then
      off[#off + 1] = who
      off[#off + 1] = hash
      off[#off + 1] = record
    end
  elseif live then
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
return off
