-- Remembers a request. Answers 1 if it is new, 2 if it was there already, 0 if
-- its address has asked for too many.
-- KEYS: 1 requests of the site
-- ARGV: 1 now (µs), 2 life (ms), 3 cap per site, 4 cap per address, 5 field,
--       6 network of the address, 7 the request
local now, life = tonumber(ARGV[1]), tonumber(ARGV[2])
local fields = redis.call('HGETALL', KEYS[1])
local count, oldest, total, owner, same = {}, {}, 0, nil, false
for i = 1, #fields, 2 do
  local field = fields[i]
  local asked, from = string.match(fields[i + 1], '^(%d+) (%S+) ')
  asked = tonumber(asked) or 0
  if asked + life * 1000 <= now then
    redis.call('HDEL', KEYS[1], field)
  else
    total = total + 1
    count[from] = (count[from] or 0) + 1
    if not oldest[from] or asked < oldest[from].asked then
      oldest[from] = { asked = asked, field = field }
    end
    if field == ARGV[5] then
      owner = from -- it counts where it was asked first, whoever repeats it
      same = fields[i + 1] == ARGV[1] .. ' ' .. from .. ' ' .. ARGV[7] -- this very call
    end
  end
end
if not owner then
  if (count[ARGV[6]] or 0) >= tonumber(ARGV[4]) then
    return 0
  end
  if total >= tonumber(ARGV[3]) then
    local most -- of those that asked most, the one whose oldest is the oldest
    for from, n in pairs(count) do
      if not most or n > count[most] or n == count[most] and oldest[from].asked < oldest[most].asked then
        most = from
      end
    end
    redis.call('HDEL', KEYS[1], oldest[most].field)
  end
end
redis.call('HSET', KEYS[1], ARGV[5], ARGV[1] .. ' ' .. (owner or ARGV[6]) .. ' ' .. ARGV[7])
redis.call('PEXPIRE', KEYS[1], life)
if owner and not same then
  return 2
end
return 1
