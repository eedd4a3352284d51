-- Begins a visit, or goes on with it, in place of the record that it has. Answers
-- 1, or 0 if the learner has logged out at home while they were asked.
-- KEYS: 1 the learner's visits, 2 the session, 3 who is busy, 4 whether the
--       session is held, and to end, 5 whether the browser has logged out at home,
--       6 the session, if it is one at an application
-- ARGV: 1 now (µs), 2 when it ends (µs), 3 its life (ms), 4 hash of the session,
--       5 rest of the record, 6 home and learner, 7 visits kept of a learner,
--       8 prefix of sessions, 9 how long it is kept who is busy (ms), 10 whether
--       the learner was asked, 11 prefix of sessions at applications; of such a
--       session 12 what is kept, 13 how long if it is not used (ms), 14 hash of the
--       one whose place it takes, 15 prefix of learners' visits
if ARGV[10] == '1' and redis.call('EXISTS', KEYS[5]) == 1 then
  return 0
end
if KEYS[6] then
  local former = redis.call('GET', ARGV[8] .. ARGV[14])
  if former then
    redis.call('HDEL', ARGV[15] .. former, ARGV[14])
  end
  redis.call('DEL', ARGV[8] .. ARGV[14], ARGV[11] .. ARGV[14])
  redis.call('SET', KEYS[6], ARGV[12], 'PX', ARGV[13])
end
redis.call('HSET', KEYS[1], ARGV[4], table.concat({ ARGV[1], ARGV[2], ARGV[5] }, ' '))
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[7]) then
  local fields, first, least = redis.call('HGETALL', KEYS[1]), nil, nil
  for i = 1, #fields, 2 do
    local expires = tonumber(string.match(fields[i + 1], '^%d+ (%d+)'))
    if fields[i] ~= ARGV[4] and (not least or expires < least) then
      first, least = fields[i], expires
    end
  end
  redis.call('HDEL', KEYS[1], first)
  redis.call('DEL', ARGV[8] .. first, ARGV[11] .. first)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call('SET', KEYS[2], ARGV[6], 'PX', ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[1], ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[9])
if redis.call('HINCRBY', KEYS[4], 'holds', -1) <= 0 then
  redis.call('DEL', KEYS[4])
else -- by another tab
  redis.call('HDEL', KEYS[4], 'off')
end
return 1
