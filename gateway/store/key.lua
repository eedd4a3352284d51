-- Notes that a gateway is alive, and answers the key that the gateways of the
-- site have agreed on, its generation, and the state directories of those alive.
-- KEYS: 1 agreed key, 2 gateways
-- ARGV: 1 now (µs), 2 when it counts as dead (µs), 3 name of the gateway or
--       nothing, 4 its state directory, 5 its key, 6 the generation of that,
--       7 life of the list (ms)
local generation, agreed = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (.*)$')
if not agreed or tonumber(generation) < tonumber(ARGV[6]) then
  generation, agreed = ARGV[6], ARGV[5] -- the first, or a change was lost here
  redis.call('SET', KEYS[1], generation .. ' ' .. agreed)
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[2] .. ' ' .. ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
local answer = { agreed, generation }
local gateways = redis.call('HGETALL', KEYS[2])
for i = 1, #gateways, 2 do
  local ends, state = string.match(gateways[i + 1], '^(%d+) (.*)$')
  if not ends or tonumber(ends) <= tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[2], gateways[i])
  else
    answer[#answer + 1] = state
  end
end
return answer
