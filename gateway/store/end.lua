-- Ends a browser's session if no jump is left in it. Answers 1 if it is gone,
-- 0 if a jump keeps it.
-- KEYS: 1 session, 2 sessions of the site, 3 those of the client's address
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'jump:' then
    return 0
  end
end
local member = string.sub(KEYS[1], -43)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], member)
redis.call('ZREM', KEYS[3], member)
return 1
