-- Claims a mail address. Answers 1, or 0 if somebody else has it.
-- KEYS: 1 claim of the address
-- ARGV: 1 for whom, 2 life (ms)
local of = redis.call('get', KEYS[1])
if of and of ~= ARGV[1] then
  return 0
end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1
