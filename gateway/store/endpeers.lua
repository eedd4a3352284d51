-- Ends MNet sessions of a learner. Answers the learner's name and then field
-- and value of each that was live; with 7, of each that the peer has not been
-- told of as well.
-- KEYS: 1 the learner, or learner and browser of a Moodle session, 2 what says
--       for a while that tokens from before are no longer good, if anything does
-- ARGV: 1 when they end (µs), 2 who ends them: the same if the answer to a
--       first try was lost, 3 life of KEYS[2] (ms)
-- then: 4 the learner's name, 5 browser, or '' for all, 6 field of a session
--       that has to be live, or '', 7 since when (µs) those count that ended
--       before and of which the peer was not told, or 0 for none
-- or:   4 hash of the Moodle session, 5 prefix of learners
if KEYS[2] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
end
local learner, name, browser, needs, home = KEYS[1], ARGV[4], ARGV[5], ARGV[6], nil
if not needs then
  home = ARGV[4]
  local whose = redis.call('GET', KEYS[1])
  if not whose then
    return {}
  end
  browser, name = string.match(whose, '^(%S+) (.*)$')
  learner, needs = ARGV[5] .. name, ''
end

local now = tonumber(ARGV[1])
local answer, found = { name }, needs == ''
local fields = redis.call('HGETALL', learner)
for i = 1, #fields, 2 do
  local started, expires, ended, by, user, from, rest =
    string.match(fields[i + 1], '^(%d+) (%d+) (%d+) (%S+) (%d+) (%S*) (.*)$')
  local live = ended == '0' and tonumber(expires) > now or by == ARGV[2]
  if not live and ARGV[7] and ARGV[7] ~= '0' and ended ~= '0' and by ~= 'done' then
    live = tonumber(ended) > tonumber(ARGV[7])
  end
  if live and fields[i] == needs then
    found = true
  end
  -- What Redis hears of late does not end what began meanwhile.
  local there = string.match(fields[i], '%S+$') == browser and tonumber(started) <= now
  if live and (browser == '' or there or from == home) then
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
