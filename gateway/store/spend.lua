-- Charges limits alone. Answers {1}, or {0, the limit that refuses, for how long (µs)}.
-- KEYS: limits
-- ARGV: 1 now (µs), then what charge wants
local which, wait = charge(tonumber(ARGV[1]), 1, 2)
if which > 0 then
  return { 0, which, wait }
end
return { 1 }
