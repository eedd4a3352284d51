-- Charges limits (GCRA): each has a key, which holds the time (µs) by which all
-- that was charged would have come at the limit's pace. Looks at every limit
-- before it charges any. Answers 0, or the number of the limit that refuses for
-- longest and for how long (µs).
-- The limits are KEYS[first] and all after it; for each ARGV, from arg on, has
-- the interval between two charges and how far ahead of its time one may be (µs).
local function charge(now, first, arg)
  if not KEYS[first] then
    return 0
  end
  local due, which, wait = redis.call('MGET', unpack(KEYS, first)), 0, 0
  for i = 1, #due do
    local interval, ahead = tonumber(ARGV[arg + 2 * i - 2]), tonumber(ARGV[arg + 2 * i - 1])
    due[i] = math.max(tonumber(due[i] or 0) or 0, now)
    local early = due[i] - now - ahead
    -- Further ahead than the limit lets anybody get, with a second for clocks that
    -- differ: it was a larger one, or a clock is wrong.
    if early > interval + 1000000 then
      due[i] = now + ahead
    elseif early > wait then
      which, wait = i, early
    end
  end
  if which > 0 then
    return which, wait
  end
  for i = 1, #due do
    local next = due[i] + tonumber(ARGV[arg + 2 * i - 2])
    redis.call('SET', KEYS[first + i - 1], next, 'PX', math.ceil((next - now) / 1000))
  end
  return 0
end
