-- Ends a hold. Answers 1 if the session was to end meanwhile and nobody else holds
-- it, else 0.
-- KEYS: 1 whether the session is held, and to end
local off = redis.call('HEXISTS', KEYS[1], 'off')
if redis.call('HINCRBY', KEYS[1], 'holds', -1) > 0 then
  return 0
end
redis.call('DEL', KEYS[1])
return off
