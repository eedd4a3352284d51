-- Changes the key that the gateways of a site have agreed on. Answers its
-- generation if it is the new one now, else 0.
-- KEYS: 1 agreed key, 2 sealed keys
-- ARGV: 1 from, 2 to, 3 the new key, sealed, or nothing
local generation, agreed = string.match(redis.call('GET', KEYS[1]) or '0 ', '^(%d+) (.*)$')
if agreed ~= '' and agreed ~= ARGV[1] and agreed ~= ARGV[2] then
  return 0
end
generation = tonumber(generation)
if agreed ~= ARGV[2] then
  generation = generation + 1
  redis.call('SET', KEYS[1], string.format('%.0f %s', generation, ARGV[2]))
  redis.call('DEL', KEYS[2]) -- whoever comes late needs the agreed one alone
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
end
return math.max(generation, 1)
