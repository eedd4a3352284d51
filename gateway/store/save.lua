-- Merges fields into a browser's session. Answers 1 if the session named by
-- the cookie was used, 2 if a new one was begun, 3 if there are too many, and
-- 0, which limit and for how long (µs) if one refuses.
-- KEYS: 1 session named by the cookie (without one: the same as 2),
--       2 session to begin, 3 sessions of the site, 4 those of the client's address,
--       then limits, which a new jump is charged to
-- ARGV: 1 now (µs), 2 when the session ends (µs), 3 its life (ms), 4 jumps kept,
--       5 cap per site, 6 cap per address, 7 number of fields to set, then what
--       charge wants, then name and value of each field, then the names of fields
--       to remove
local now = tonumber(ARGV[1])
local session, used = KEYS[1], 1
if redis.call('EXISTS', session) == 0 then
  session, used = KEYS[2], 2
end
if redis.call('EXISTS', session) == 0 then
  for i = 4, 3, -1 do
    local cap = tonumber(ARGV[i + 2])
    if redis.call('ZCARD', KEYS[i]) >= cap then
      redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[1]) -- those that ended
      if redis.call('ZCARD', KEYS[i]) >= cap then
        return { 3 }
      end
    end
  end
end

local which, wait = charge(now, 5, 8)
if which > 0 then
  return { 0, which, wait }
end

local first = 8 + 2 * (#KEYS - 4)
local last = first - 1 + 2 * tonumber(ARGV[7])
for i = first, last, 2 do
  redis.call('HSET', session, ARGV[i], ARGV[i + 1])
end
for i = last + 1, #ARGV do
  redis.call('HDEL', session, ARGV[i])
end

local fields, jumps = redis.call('HGETALL', session), {}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 5) == 'jump:' then
    local ends = tonumber(string.match(fields[i + 1], '^%d+') or 0)
    if ends <= now then
      redis.call('HDEL', session, fields[i])
    else
      jumps[#jumps + 1] = { ends = ends, field = fields[i] }
    end
  end
end
table.sort(jumps, function(a, b) return a.ends < b.ends end)
for i = 1, #jumps - tonumber(ARGV[4]) do
  redis.call('HDEL', session, jumps[i].field)
end

local member = string.sub(session, -43)
if redis.call('PEXPIRE', session, ARGV[3]) == 0 then
  redis.call('ZREM', KEYS[3], member) -- no field is left
  redis.call('ZREM', KEYS[4], member)
  return { used }
end
for i = 3, 4 do
  if used == 1 then
    redis.call('ZADD', KEYS[i], 'XX', ARGV[2], member) -- it counts where it began
  else
    redis.call('ZADD', KEYS[i], ARGV[2], member)
  end
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
  end
end
return { used }
