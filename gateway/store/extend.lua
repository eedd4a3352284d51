-- Extends the live MNet sessions of learners at a peer. Answers for each
-- learner field and value of those that live (2 if nobody asks), 1 if the
-- learner had one lately, else 0.
-- KEYS: the learners
-- ARGV: 1 now (µs), 2 when the sessions end from now on (µs), 3 how long their
--       keys are kept (ms), 4 since when one ended lately (µs), 5 beginning of
--       the peer's fields, 6 prefix of Moodle sessions, 7 how long after its
--       start a session ends at last (µs), 8 whether to answer fields and values
local now, ends, most, lately = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[7]), tonumber(ARGV[4])
local answers = {}
for i, learner in ipairs(KEYS) do
  local live, known = {}, 0
  local fields = redis.call('HGETALL', learner)
  for j = 1, #fields, 2 do
    if string.sub(fields[j], 1, #ARGV[5]) == ARGV[5] then
      local started, expires, ended, rest, from =
        string.match(fields[j + 1], '^(%d+) (%d+) (%d+) (%S+ %d+ (%S*) .*)$')
      if ended == '0' and tonumber(expires) > now then
        local till = math.max(tonumber(expires), math.min(ends, tonumber(started) + most))
        local value = table.concat({ started, string.format('%.0f', till), ended, rest }, ' ')
        redis.call('HSET', learner, fields[j], value)
        redis.call('PEXPIRE', ARGV[6] .. from, ARGV[3])
        live[#live + 1] = fields[j]
        live[#live + 1] = value
      elseif ended ~= '0' and tonumber(ended) > lately or ended == '0' and tonumber(expires) > lately then
        known = 1
      end
    end
  end
  if #live > 0 then
    redis.call('PEXPIRE', learner, ARGV[3])
    answers[i] = ARGV[8] == '1' and live or 2
  else
    answers[i] = known
  end
end
return answers
