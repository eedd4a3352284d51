-- Ends MNet sessions of a learner. Answers the learner's name and then field
-- and value of each that was live.
-- KEYS: 1 the learner
-- or:   1 learner and browser of a Moodle session, 2 Moodle sessions that ended lately
-- ARGV: 1 now (µs), 2 who ends them: the same if the answer to a first try was lost
-- then: 3 the learner's name, 4 browser, or '' for all, 5 field of a session
--       that has to be live, or ''
-- or:   3 hash of the Moodle session, 4 prefix of learners, 5 how many sessions
--       ended lately, 6 and since when (µs), 7 how long those are kept (ms)
local learner, name, browser, needs, home = KEYS[1], ARGV[3], ARGV[4], ARGV[5], nil
if KEYS[2] then
  home = ARGV[3]
  redis.call('ZADD', KEYS[2], ARGV[1], home)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[6])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[5]))
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  local whose = redis.call('GET', KEYS[1])
  if not whose then
    return {}
  end
  browser, name = string.match(whose, '^(%S+) (.*)$')
  learner, needs = ARGV[4] .. name, ''
end

local now = tonumber(ARGV[1])
local answer, found = { name }, needs == ''
local fields = redis.call('HGETALL', learner)
for i = 1, #fields, 2 do
  local started, expires, ended, by, user, from, rest =
    string.match(fields[i + 1], '^(%d+) (%d+) (%d+) (%S+) (%d+) (%S*) (.*)$')
  local live = ended == '0' and tonumber(expires) > now or by == ARGV[2]
  if live and fields[i] == needs then
    found = true
  end
  local at = string.match(fields[i], '%S+$')
  if live and (browser == '' or at == browser or from == home) then
    answer[#answer + 1] = fields[i]
    answer[#answer + 1] = table.concat({ started, expires, ARGV[1], ARGV[2], user, from, rest }, ' ')
  end
end
if not found then
  return {}
end
for i = 2, #answer, 2 do
  redis.call('HSET', learner, answer[i], answer[i + 1])
end
return answer
