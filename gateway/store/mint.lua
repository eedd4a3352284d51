-- Keeps a token. Answers {1}, or {0, the limit that refuses, for how long (µs)}.
-- KEYS: 1 token, then limits
-- ARGV: 1 now (µs), 2 token record, 3 its life (ms), then what charge wants
local which, wait = charge(tonumber(ARGV[1]), 2, 4)
if which > 0 then
  return { 0, which, wait }
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return { 1 }
