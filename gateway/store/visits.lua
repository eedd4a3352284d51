-- Answers whether one of a learner's live visits is held ('held' or ''), and then
-- field and record of the others.
-- KEYS: 1 the learner's visits, 2 whether the browser has logged out at home
-- ARGV: 1 now (µs), 2 browser, or '' for all, 3 prefix of what is held, 4 whether
--       they are to end, which their records say then, 5 how long it is remembered
--       that the browser has logged out (ms), 6 prefix of sessions at applications
if ARGV[4] == '1' then
  redis.call('SET', KEYS[2], 1, 'PX', ARGV[5])
end
local answer = { '' }
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local record = standing(fields[i + 1], ARGV[6] .. fields[i], tonumber(ARGV[1])) or ''
  local expires, browser = string.match(record, '^%d+ (%d+) (%S+) ')
  if expires and tonumber(expires) > tonumber(ARGV[1]) and (ARGV[2] == '' or browser == ARGV[2]) then
    if ARGV[4] == '1' and string.sub(fields[i + 1], -4) ~= ' off' then
      redis.call('HSET', KEYS[1], fields[i], fields[i + 1] .. ' off')
    end
    if ARGV[4] == '1' and redis.call('EXISTS', ARGV[3] .. fields[i]) == 1 then
      redis.call('HSET', ARGV[3] .. fields[i], 'off', 1)
      answer[1] = 'held'
    else
      answer[#answer + 1] = fields[i]
      answer[#answer + 1] = record
    end
  end
end
return answer
